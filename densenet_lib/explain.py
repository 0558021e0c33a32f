"""Explain an answer: maps of what a network looked at, and scores for maps whose truth is known.

Each map says, for one class, which places of a picture speak for it. None changes the network, its
gradients or its hooks; all leave out the ReLU that some authors add, so that what speaks against a
class can be seen. Throughout: N images, (N, 3, H, W), normalised; `classes` (N,) are the classes to
explain, None the network's own answers. Built in notebooks/12.
"""

from contextlib import contextmanager

import torch
from torch.nn import functional as F


@torch.no_grad()
def cam(model, images, classes=None):
    """Class activation map: what each place of the last maps adds to the logit, times h * w.

    Exact: the logit is the mean of the map plus the class's bias, because pooling and classifier
    are both linear: weigh the maps first, and take the mean afterwards.

    Args:    model: a DenseNet or ResidualNet: `features`, mean over the places, `classifier`.
    Returns: (N, h, w), the size of the last feature maps.
    Source:  Zhou et al., CVPR 2016, section 2.
    """
    with watch(model.features) as seen:
        _, classes = _logit(model, images, classes)
    return torch.einsum("nc,nchw->nhw", model.classifier.weight[classes], seen[0])


def grad_cam(model, images, layer, classes=None):
    """Weigh the maps of any `layer` with the mean gradient of the logit, and add them up.

    Args:    layer: a module inside `model` that gives (N, C, h, w). After the last ReLU this is
             `cam` divided by h * w.
    Returns: (N, h, w).
    Raises:  ValueError if the layer takes no part, or gives no maps.
    Source:  Selvaraju et al., ICCV 2017, equations 1 and 2, without the ReLU of the second.
    """
    with torch.enable_grad(), watch(layer) as seen:
        logit, _ = _logit(model, images.detach().requires_grad_(), classes)
        if len(seen) != 1 or seen[0].dim() != 4:
            found = f"gives {tuple(seen[0].shape)}" if seen else "takes no part in this network"
            raise ValueError(f"the layer {found}: choose one that gives maps (N, C, h, w), once")
        (gradient,) = torch.autograd.grad(logit.sum(), seen)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    return (weights * seen[0].detach()).sum(dim=1)


def saliency(model, images, classes=None):
    """Return how much the logit feels each pixel: |gradient|, the largest of the three channels.

    Returns: (N, H, W).
    Source:  Simonyan et al., ICLR workshop 2014, section 3.1.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logit, _ = _logit(model, images, classes)
        (gradient,) = torch.autograd.grad(logit.sum(), images)
    return gradient.abs().amax(dim=1)


@torch.no_grad()
def occlusion(model, images, classes=None, *, size=8, stride=4):
    """Cover a square, see how far the logit falls, and do so all over the picture.

    Args:    size: of the square, pixels; it gets the picture's own mean colour.  stride: from one
             square to the next, pixels, at most `size`.
    Returns: (N, H, W): the mean fall of the logit over all squares that cover the pixel.
    Raises:  ValueError for a size or stride that is none.
    Source:  Zeiler and Fergus, ECCV 2014, section 4.2.
    """
    if not 1 <= stride <= size:
        raise ValueError(f"size={size}, stride={stride}: a stride from 1 to the size misses none")
    logit, classes = _logit(model, images, classes)
    (H, W), mean = images.shape[2:], images.mean(dim=(2, 3), keepdim=True)
    fall, times = torch.zeros_like(images[:, 0]), torch.zeros_like(images[0, 0])
    for top in range(stride - size, H, stride):
        for left in range(stride - size, W, stride):
            rows, columns = slice(max(top, 0), top + size), slice(max(left, 0), left + size)
            covered = images.clone()
            covered[:, :, rows, columns] = mean
            left_over, _ = _logit(model, covered, classes)
            fall[:, rows, columns] += (logit - left_over)[:, None, None]
            times[rows, columns] += 1
    return fall / times


def pointing(maps, masks):
    """Does the brightest place of each map lie on the shape? 1 or 0; a share, if several tie.

    Args:    maps: (N, h, w), enlarged to the masks.  masks: bool (N, H, W), True on the shape.
    Returns: (N,). A map that is 0 everywhere scores the shape's share of the picture: chance.
    Raises:  ValueError if maps and masks do not fit, or a mask is empty.
    Source:  Zhang et al., ECCV 2016, section 4.1, without their tolerance of some pixels.
    """
    return _share_on_shape(maps, masks, torch.ones(len(masks), dtype=torch.long))


def overlap(maps, masks):
    """Take as many of the brightest pixels as the shape has: how many of them lie on it, 0 to 1?

    It is the Dice coefficient of two sets of one size. Arguments and errors as for `pointing`.
    """
    return _share_on_shape(maps, masks, masks.flatten(1).sum(dim=1))


@contextmanager
def watch(module):
    """Collect what `module` gives while the `with` block runs; no hook stays, whatever happens.

    Yields: a list of tensors, part of the graph. What flows on is a copy: a layer that works in
            place cannot change what is seen.
    """
    seen = []

    def keep(_module, _inputs, output):
        seen.append(output)
        return output.clone()

    hook = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def enlarge(maps, size):
    """Enlarge maps (N, h, w) to (N, *size), bilinearly: each number stays amid its own pixels."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _share_on_shape(maps, masks, count):
    """Return how many of each map's `count` brightest pixels lie on the shape, as a share."""
    if maps.dim() != 3 or masks.dim() != 3 or len(maps) != len(masks):
        found = f"maps are {tuple(maps.shape)} and masks {tuple(masks.shape)}"
        raise ValueError(f"{found}: give (N, h, w) and (N, H, W)")
    if not masks.any(dim=(1, 2)).all() or not maps.isfinite().all():
        raise ValueError("a mask is empty or a map holds what is no number: leave that picture out")
    values, inside = enlarge(maps, masks.shape[1:]).flatten(1), masks.flatten(1)
    count = count.to(values.device)[:, None]
    least = values.sort(dim=1, descending=True).values.gather(1, count - 1)
    above, equal = values > least, values == least
    part = (count - above.sum(1, keepdim=True)) / equal.sum(1, keepdim=True)  # of those that tie
    return ((above + part * equal) * inside).sum(dim=1) / count[:, 0]


def _logit(model, images, classes):
    """Return the logit to be explained of each picture, (N,), and the classes, (N,)."""
    if model.training:
        raise ValueError(
            "the network is in training mode, where each answer depends on the whole batch: call "
            "model.eval() first"
        )
    logits = model(images)
    classes = logits.argmax(dim=1) if classes is None else classes
    return logits.gather(1, classes[:, None])[:, 0], classes
