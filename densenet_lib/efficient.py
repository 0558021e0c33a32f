"""Dense blocks and transitions that keep what the idea needs, and no copies of it.

`make_efficient(network)` changes what a network stores while it trains, not what it computes. The
plain block keeps, for the backward pass, a concatenation for every layer and its normalised copy:
memory that grows with the square of the depth. Here a block keeps each map once. Three ideas do it:

1.  One buffer. Layer i reads the first C_i = C + i * k maps of it and writes its k maps behind
    them, so nothing is ever concatenated.
2.  Shared statistics. A map's mean m and variance v are the same for all its readers (notebook
    03), so they are computed once, when the map is made. What is left of a reader's norm and ReLU
    is relu(x * scale + shift) with, per channel,

        scale = weight / sqrt(v + eps)        shift = bias - m * scale

    which is so cheap that it is computed again in the backward pass instead of kept. No
    convolution is computed again.
3.  Their gradient, once. Of each reader we only need the sums of its gradient g over the pixels,

        d_shift = sum(g)        d_scale = sum(g * x)        d = d_scale - m * d_shift

    Then d_bias = d_shift and d_weight = d / sqrt(v + eps). Through m and v every pixel of the map
    gets a share too, and since that is linear in those sums, they are added up over all readers,

        d_m -= scale * d_shift        d_v -= scale * d / (2 (v + eps))

    and applied when all readers are done: each of the map's M values gets d_m / M from its mean
    and 2 (x - m) d_v / M from its variance.

On a CPU a step works on sixteen pictures or a few more at a time, so that what is not kept takes
little memory. So maps are lists of tensors here, of a few pictures each.

Prior art: Pleiss et al. 2017 (arXiv 1707.06990), one buffer and recomputation for each reader; Jung
et al. 2019 (arXiv 1807.01702), statistics apart from normalisation. Built live in notebooks/13.
"""

import sys
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import repeat

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from densenet_lib import densenet as ours

PIXELS = (0, 2, 3)  # of (N, C, H, W): all dimensions but the channels
FEW = 16  # pictures worked on at a time; one thread convolves fewer by another, slower way


def make_efficient(network):
    """Let every dense block and transition of a network train without copies; return the network.

    It works in place, on our networks and on torchvision's. Parameters, their names and the
    function stay as they are, and so does everything in evaluation mode and under `no_grad`. While
    it trains, the modules inside a block are not called, so hooks on them do not fire, those of
    `torch.nn.utils.prune` included; a gradient cannot be differentiated once more, nor taken by
    `torch.func.grad`. A part that is exchanged afterwards may go unseen: call this again.

    Raises: TypeError for a network without dense blocks, or with parts of another kind in them.
    """
    kinds = _kinds()
    found = [module for module in network.modules() if isinstance(module, tuple(kinds))]
    if not found:
        raise TypeError(f"{type(network).__name__} has no dense block of ours or of torchvision's.")
    for module in found:
        _require_plain(module, kinds.get(type(module), type(module)))  # before anything is changed
    for module in found:
        module.__class__ = kinds.get(type(module), type(module))
    return network


def make_plain(network):
    """Undo `make_efficient`, in place; return the network."""
    plain = {efficient: plain for plain, efficient in _kinds().items()}
    for module in network.modules():
        module.__class__ = plain.get(type(module), type(module))
    return network


@dataclass(frozen=True)
class Maps:
    """Feature maps and their statistics, or the gradients of all three."""

    values: list  # of (n, C, H, W): a few pictures each
    mean: torch.Tensor  # (C,)
    var: torch.Tensor  # (C,), of the batch: divided by the count

    def __getitem__(self, channels):
        values = [few[:, channels] for few in self.values]
        return Maps(values, self.mean[channels], self.var[channels])

    @property
    def count(self):
        """Return how many values a map has in the whole batch."""
        return sum(few.numel() // few.shape[1] for few in self.values)

    def measure(self, values):
        """Write mean and variance: two passes, as exact as PyTorch's and on a CPU faster.

        Args:   values: those of the maps, or a copy of them that is faster to read.
        """
        total = sum(few.sum(PIXELS, dtype=self.mean.dtype) for few in values)
        self.mean.copy_(total / self.count)
        total = sum((few - _wide(self.mean)).square_().sum(PIXELS) for few in values)
        self.var.copy_(total / self.count)

    def finish(self, grad):
        """Add to the gradient of the values what comes through mean and variance; return it."""
        slope = 2 * grad.var / self.count
        shift = grad.mean / self.count - slope * self.mean
        for few, g in zip(self.values, grad.values, strict=True):
            g.add_(_wide(shift)).addcmul_(few, _wide(slope))
        return grad.values


@dataclass(frozen=True)
class Step:
    """A norm, a ReLU and a convolution; a dense layer is one or two of them."""

    norm: nn.BatchNorm2d
    conv: nn.Conv2d
    drop_rate: float = 0.0  # of the dropout behind the convolution
    pool: bool = False  # average over 2x2 pixels, in a transition

    def __post_init__(self):
        if type(self.norm) is not nn.BatchNorm2d or self.norm.bias is None:
            raise TypeError(f"A dense block holds {self.norm}: only an affine BatchNorm2d will do.")

    @property
    def weights(self):
        return self.norm.weight, self.norm.bias, self.conv.weight

    @cached_property  # as it was in the forward pass
    def follows_batch(self):
        """Whether the norm reads with the batch's statistics; a frozen one has its own."""
        return self.norm.training or self.norm.running_mean is None

    def observe(self, maps):
        """Let the running statistics follow; return the maps with the statistics to read with."""
        norm = self.norm
        if not self.follows_batch:
            return Maps(maps.values, norm.running_mean, norm.running_var)
        if maps.count == 1:
            raise ValueError("one value per channel has no batch statistics: give more pictures")
        if norm.running_mean is not None:
            norm.num_batches_tracked.add_(1)
            share = norm.momentum
            if share is None:  # the mean over all batches so far
                share = 1 / norm.num_batches_tracked.item()
            unbiased = maps.var * (maps.count / (maps.count - 1))
            norm.running_mean.lerp_(maps.mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
        return maps

    def forward(self, maps, fast, weight, bias, kernel):
        """Return the values that the step makes of the maps, and dropout's mask or None.

        Args:   fast: the precision to convolve in.
        """
        scale = weight * (maps.var + self.norm.eps).rsqrt()
        shift, kernel, made = bias - maps.mean * scale, kernel.to(fast), []
        for few in maps.values:
            read = self.pooled(_read(few, scale, shift).to(fast))
            made.append(F.conv2d(read, kernel, None, 1, self.conv.padding))
        if not self.drop_rate:
            return made, None
        ones = torch.ones_like(_whole(made))
        mask = F.dropout(ones, self.drop_rate) > 0  # drawn as the plain layer does
        for few, stays in zip(made, _few(mask), strict=True):
            few.mul_(stays).div_(1 - self.drop_rate)
        return made, mask

    def backward(self, arriving, mask, maps, grad, fast, weight, bias, kernel):
        """Add to `grad` what arrives from this reader; return the gradients of its weights.

        Args:   arriving, mask: the gradient of what `forward` made, and the mask that it returned.
                grad: its values are still an empty list if the maps have no other reader.
        """
        inverse = (maps.var + self.norm.eps).rsqrt()
        scale = weight * inverse
        shift = bias - maps.mean * scale
        d_scale, d_shift, d_kernel = map(torch.zeros_like, (scale, scale, kernel))
        masks = repeat(None) if mask is None else _few(mask)
        alone = not grad.values
        for i, (few, g, stays) in enumerate(zip(maps.values, arriving, masks, strict=False)):
            read = _read(few, scale, shift)
            if stays is not None:
                g = g * stays / (1 - self.drop_rate)
            g, d = self.convolve_back(g.to(fast), read.to(fast), kernel.to(fast))
            g, d_kernel = g.to(read.dtype), d_kernel.add_(d)
            torch.ops.aten.threshold_backward.grad_input(g, read, 0, grad_input=g)  # the ReLU
            d_shift += g.sum(PIXELS)
            d_scale += torch.mul(g, few, out=read).sum(PIXELS)
            if alone:
                grad.values.append(g.mul_(_wide(scale)))
            else:
                grad.values[i].addcmul_(g, _wide(scale))
        d = d_scale - maps.mean * d_shift
        if self.follows_batch:
            grad.mean.sub_(scale * d_shift)
            grad.var.sub_(scale * inverse**2 * d / 2)
        return d * inverse, d_shift, d_kernel

    def pooled(self, maps):
        """Pool in front of a 1x1 convolution, not behind it: the same, at a quarter of the work."""
        return F.avg_pool2d(maps, 2) if self.pool else maps

    def convolve_back(self, grad, read, kernel):
        """Return the gradients of what was read and of the convolution's kernel."""
        settings = (1, 1), self.conv.padding, (1, 1), False, (0, 0), 1, (True, True, False)
        grad, d_kernel, _ = torch.ops.aten.convolution_backward(
            grad, self.pooled(read), kernel, None, *settings
        )
        if self.pool:
            settings = (2, 2), (2, 2), (0, 0), False, True, None
            grad = torch.ops.aten.avg_pool2d_backward(grad, read, *settings)
        return grad, d_kernel


class _Block(torch.autograd.Function):
    """The layers of a dense block, lists of Steps, over one buffer: (N, C + L * k, H, W)."""

    @staticmethod
    def forward(ctx, layers, x, *weights):
        ctx.fast, ctx.exact = _precisions(x)
        N, C, H, W = x.shape
        k, kept, queue = layers[0][-1].conv.out_channels, [], list(weights)
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        buffer = torch.empty(
            (N, C + k * len(layers), H, W),
            dtype=torch.promote_types(x.dtype, ctx.fast),
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        block = _unmeasured(_few(buffer), ctx.exact)
        buffer[:, :C] = x
        block[:C].measure(_few(x))
        for layer in layers:
            maps, between = block[:C], []  # of the layer's steps; the first reads from the buffer
            for step in layer:
                maps = step.observe(maps)
                made, mask = step.forward(maps, ctx.fast, *queue[:3])
                kept += [*between, maps.mean, maps.var, mask]
                queue = queue[3:]
                if step is layer[-1]:
                    maps = block[C : C + k]
                    for few, to in zip(made, maps.values, strict=True):
                        to.copy_(few)
                else:
                    maps = _unmeasured(made, ctx.exact)
                maps.measure(made)
                between = made
            C += k
        ctx.layers = layers
        ctx.save_for_backward(buffer, block.mean, *weights, *kept)
        return buffer

    @staticmethod
    @once_differentiable
    def backward(ctx, arriving):
        values, mean, *saved = ctx.saved_tensors
        count = 3 * sum(map(len, ctx.layers))
        weights, kept, grads = saved[:count], saved[count:], []
        block = Maps(_few(values), mean, mean)  # its variance is needed no more
        whole = torch.empty_like(values, dtype=ctx.exact).copy_(arriving)
        grad = Maps(_few(whole), *mean.new_zeros(2, len(mean)))
        end = values.shape[1]
        for layer in reversed(ctx.layers):
            begin = end - layer[-1].conv.out_channels
            g = block[begin:end].finish(grad[begin:end])  # all its readers are done
            for step in reversed(layer):
                *kept, m, v, mask = kept
                *weights, weight, bias, kernel = weights
                if step is layer[0]:
                    maps, to = Maps(block[:begin].values, m, v), grad[:begin]
                else:
                    kept, between = kept[: -len(g)], kept[-len(g) :]
                    maps, to = Maps(between, m, v), _none_yet(m)
                grads[:0] = step.backward(g, mask, maps, to, ctx.fast, weight, bias, kernel)
                if step is not layer[0]:  # its maps had this one reader
                    g = maps.finish(to)
            end = begin
        block[:end].finish(grad[:end])
        return None, whole[:, :end].clone(), *grads


class _Transition(torch.autograd.Function):
    """The one Step of a transition: (N, C, H, W) -> (N, out_channels, H // 2, W // 2)."""

    @staticmethod
    def forward(ctx, layers, x, *weights):
        ctx.fast, exact = _precisions(x)
        ((step,),) = layers
        maps = _unmeasured(_few(x), exact)
        maps.measure(maps.values)
        maps = step.observe(maps)
        made, _ = step.forward(maps, ctx.fast, *weights)
        ctx.step = step
        ctx.save_for_backward(x, maps.mean, maps.var, *weights)
        return _whole(made)

    @staticmethod
    @once_differentiable
    def backward(ctx, arriving):
        x, m, v, *weights = ctx.saved_tensors
        maps, grad = Maps(_few(x), m, v), _none_yet(m)
        grads = ctx.step.backward(_few(arriving), None, maps, grad, ctx.fast, *weights)
        return None, _whole(maps.finish(grad)), *grads


class _Efficient:
    """Train by `function`; else be the plain class, which stands next among the bases."""

    def forward(self, x):
        layers = self.layers()
        if not (self.training and torch.is_grad_enabled()) or layers is None:
            return super().forward(x)
        weights = [weight for layer in layers for step in layer for weight in step.weights]
        return self.function.apply(layers, x, *weights)


class EfficientBlock(_Efficient, ours.DenseBlock):
    """Our dense block, trained without copies."""

    function, layer = _Block, ours.DenseLayer

    def layers(self):
        def steps(layer):
            yield Step(layer.norm1, layer.conv1, _rate(layer.drop1))
            if hasattr(layer, "norm2"):
                yield Step(layer.norm2, layer.conv2, _rate(layer.drop2))

        return [list(steps(layer)) for layer in self.values()]


class EfficientTransition(_Efficient, ours.Transition):
    """Our transition, trained without copies, but where dropout stands before its pooling."""

    function = _Transition

    def layers(self):
        return None if _rate(self.drop) else [[Step(self.norm, self.conv, pool=True)]]


@cache
def _kinds_of_theirs():
    """Return torchvision's block and transition, each with its efficient kind."""
    from torchvision.models import densenet as theirs

    class TheirEfficientBlock(_Efficient, theirs._DenseBlock):
        function, layer = _Block, theirs._DenseLayer

        def layers(self):
            def steps(layer):
                yield Step(layer.norm1, layer.conv1)
                yield Step(layer.norm2, layer.conv2, layer.drop_rate * layer.training)

            return [list(steps(layer)) for layer in self.values()]

    class TheirEfficientTransition(_Efficient, theirs._Transition):
        function = _Transition

        def layers(self):
            return [[Step(self.norm, self.conv, pool=True)]]

    return {theirs._DenseBlock: TheirEfficientBlock, theirs._Transition: TheirEfficientTransition}


def _kinds():
    """Return {plain kind: efficient kind} of all blocks and transitions that can be about."""
    kinds = {ours.DenseBlock: EfficientBlock, ours.Transition: EfficientTransition}
    if "torchvision.models.densenet" in sys.modules:  # else nobody has a network of theirs, and
        kinds |= _kinds_of_theirs()  # importing torchvision takes as long as importing PyTorch
    return kinds


def _require_plain(module, kind):
    """Raise TypeError for a block or transition with a part that no Step computes.

    Args:   kind: the efficient class that it has or is to have.
    """
    is_block = isinstance(module, nn.ModuleDict)
    layers = list(module.values()) if is_block else [module]
    others = [kind] if not issubclass(kind, _Efficient) else []
    if is_block and not others:
        others = [type(layer) for layer in layers if type(layer) is not kind.layer]
    if others:
        name = others[0].__name__
        raise TypeError(f"{name} may have a forward of its own: leave its network plain.")
    kind.layers(module)  # refuses norms and dropouts
    for layer in layers:
        for name, part in layer.named_children():
            if not _is_plain(name.rstrip("12"), part, is_block):
                raise TypeError(f"A dense block or transition holds {part}: leave it plain.")


def _is_plain(name, part, is_block):
    """Say whether a part does what a Step does in the place of that name."""
    if name == "conv" and type(part).forward is nn.Conv2d.forward:  # a parametrized one, too
        settings = part.stride, part.dilation, part.groups, part.padding_mode, part.bias
        keeps_size = part.padding == tuple((size - 1) / 2 for size in part.kernel_size)
        keeps_size &= is_block or part.kernel_size == (1, 1)  # pooling comes before it
        usual = type(part)._conv_forward is nn.Conv2d._conv_forward
        return usual and keeps_size and settings == ((1, 1), (1, 1), 1, "zeros", None)
    if name == "pool" and type(part) is nn.AvgPool2d:
        settings = part.kernel_size, part.stride, part.padding
        return settings == (2, 2, 0) and not part.ceil_mode and part.divisor_override is None
    return type(part) is {"norm": nn.BatchNorm2d, "relu": nn.ReLU, "drop": nn.Dropout}.get(name)


def _rate(drop):
    """Return a dropout's rate: 0 in evaluation mode."""
    if type(drop) is not nn.Dropout:
        raise TypeError(f"A dense block or transition holds {drop}: only an nn.Dropout will do.")
    return drop.p * drop.training


def _wide(values):
    """Give (C,) the shape that multiplies maps: (C, 1, 1)."""
    return values.view(-1, 1, 1)


def _read(maps, scale, shift):
    """Return relu(norm(maps)), as new memory."""
    return torch.mul(maps, _wide(scale)).add_(_wide(shift)).relu_()


def _precisions(x):
    """Return the precision of convolutions, as autocast says, and that of all else."""
    kind = x.device.type
    fast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return fast, torch.promote_types(x.dtype, torch.float32)


def _unmeasured(values, exact):
    """Return maps with room for their mean and variance, in the `exact` precision."""
    few = values[0]
    return Maps(values, *torch.empty((2, few.shape[1]), dtype=exact, device=few.device))


def _none_yet(mean):
    """Return the gradient of maps which no reader has given its share to."""
    return Maps([], *mean.new_zeros(2, len(mean)))


def _few(maps):
    """Cut the batch into views of FEW pictures or a little more; on a GPU, into one."""
    return list(maps.tensor_split(max(1, len(maps) // FEW) if maps.device.type == "cpu" else 1))


def _whole(values):
    """Undo `_few`, without a copy where that can be."""
    return values[0] if len(values) == 1 else torch.cat(values)
