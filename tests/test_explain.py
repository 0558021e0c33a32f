"""Explanations: against loops, a network cut by hand, finite differences; scores against chance."""

import pytest
import torch
import torchvision
from torch.nn import functional as F

from densenet_lib import checks, explain
from densenet_lib.data import shapes
from densenet_lib.densenet import DenseNet
from densenet_lib.residual import ResidualNet


def random_network(kind=DenseNet):
    sizes = (4, (2, 3), 8) if kind is DenseNet else ((1, 2), (4, 6))
    model = kind(*sizes, num_classes=3).double().eval()
    checks.randomise(model, torch.Generator().manual_seed(1))
    return model


def random_images(count=3, size=12):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


MODEL, IMAGES, CLASSES = random_network(), random_images(), torch.tensor([2, 0, 1])


@pytest.mark.parametrize("kind", [DenseNet, ResidualNet])
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_cam_adds_up_to_the_logit(kind, classes):
    model = random_network(kind)
    logits = model(IMAGES).detach()
    asked = logits.argmax(1) if classes is None else classes
    found = explain.cam(model, IMAGES, classes)
    for n, c in enumerate(asked.tolist()):
        expected = logits[n, c] - model.classifier.bias[c]
        assert found[n].mean().item() == pytest.approx(expected.item(), abs=1e-12)


def test_cam_says_what_each_place_adds():
    """Take one place away from the last maps: the logit loses the number there, over h * w."""
    found = explain.cam(MODEL, IMAGES, CLASSES)
    maps = MODEL.features(IMAGES)
    assert found.shape == (3, 6, 6) == (3, *maps.shape[2:])
    for y, x in ((0, 0), (2, 5), (4, 1)):
        without = maps.clone()
        without[:, :, y, x] = 0
        lost = MODEL(IMAGES) - MODEL.classifier(without.mean(dim=(2, 3)))
        assert torch.allclose(lost[range(3), CLASSES], found[:, y, x] / 36)


def test_grad_cam_behind_the_last_relu_is_cam_and_before_it_is_not():
    exact = explain.cam(MODEL, IMAGES, CLASSES) / 36
    behind = explain.grad_cam(MODEL, IMAGES, MODEL.features.relu5, CLASSES)
    before = explain.grad_cam(MODEL, IMAGES, MODEL.features.norm5, CLASSES)
    assert torch.allclose(behind, exact, rtol=1e-10, atol=1e-12)
    assert (before - exact).abs().max() > 0.01 * exact.abs().max()


@pytest.mark.parametrize("name", ["denseblock1", "transition1", "denseblock2", "norm5"])
def test_grad_cam_of_torchvisions_network_which_works_in_place(name):
    """Cut the network at the layer by hand; torchvision's ReLUs overwrite norm5's output."""
    torch.manual_seed(0)
    arguments = {"growth_rate": 4, "block_config": (2, 2), "num_init_features": 6}
    model = torchvision.models.DenseNet(**arguments, num_classes=3).double().eval()
    checks.randomise(model, torch.Generator().manual_seed(3))
    images = random_images(size=40)
    names = [n for n, _ in model.features.named_children()]
    cut = names.index(name) + 1
    maps = model.features[:cut](images).detach().clone().requires_grad_()
    last = F.relu(model.features[cut:](maps * 1))
    logits = model.classifier(last.mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(logits[range(3), CLASSES].sum(), maps)
    expected = sum(
        gradient[:, c].mean(dim=(1, 2), keepdim=True) * maps[:, c].detach()
        for c in range(maps.shape[1])
    )
    found = explain.grad_cam(model, images, getattr(model.features, name), CLASSES)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_saliency_is_the_slope_of_the_logit():
    found = explain.saliency(MODEL, IMAGES, CLASSES)
    assert found.shape == (3, 12, 12)
    step = 1e-6
    for y, x in ((0, 0), (5, 7), (11, 3)):
        slopes = []
        for channel in range(3):
            nudge = torch.zeros_like(IMAGES)
            nudge[:, channel, y, x] = step
            with torch.no_grad():
                change = (MODEL(IMAGES + nudge) - MODEL(IMAGES - nudge)) / (2 * step)
            slopes.append(change[range(3), CLASSES].abs())
        assert torch.allclose(found[:, y, x], torch.stack(slopes).amax(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (5, 3), (3, 3), (20, 20)])
@torch.no_grad()
def test_occlusion_pixel_by_pixel(size, stride):
    falls = [[[[] for _ in range(12)] for _ in range(12)] for _ in range(3)]
    starts = range(stride - size, 12, stride)
    logits = MODEL(IMAGES)
    for n in range(3):
        for top in starts:
            for left in starts:
                covered = IMAGES[n : n + 1].clone()
                square = [
                    (y, x)
                    for y in range(12)
                    for x in range(12)
                    if top <= y < top + size and left <= x < left + size
                ]
                for y, x in square:
                    covered[0, :, y, x] = IMAGES[n].mean(dim=(1, 2))
                fall = (logits[n] - MODEL(covered)[0])[CLASSES[n]].item()
                for y, x in square:
                    falls[n][y][x].append(fall)
    expected = [[[sum(f) / len(f) for f in row] for row in picture] for picture in falls]
    found = explain.occlusion(MODEL, IMAGES, CLASSES, size=size, stride=stride)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))


EXPLANATIONS = {
    "cam": lambda m, x, c=None: explain.cam(m, x, c),
    "grad_cam": lambda m, x, c=None: explain.grad_cam(m, x, m.features.denseblock1, c),
    "saliency": lambda m, x, c=None: explain.saliency(m, x, c),
    "occlusion": lambda m, x, c=None: explain.occlusion(m, x, c, size=6, stride=6),
}


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_it_leaves_no_trace_and_works_where_gradients_are_off(name):
    model, images = random_network(), random_images()
    expected = EXPLANATIONS[name](model, images)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    model.requires_grad_(False)
    with torch.no_grad():
        found = EXPLANATIONS[name](model, images)
    assert torch.equal(found, expected) and not found.requires_grad
    assert not images.requires_grad and torch.equal(images, random_images())
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_none_explains_the_networks_own_answers_and_pictures_do_not_mix(name):
    own = EXPLANATIONS[name](MODEL, IMAGES)
    assert torch.equal(own, EXPLANATIONS[name](MODEL, IMAGES, MODEL(IMAGES).argmax(1)))
    other = (MODEL(IMAGES).argmax(1) + 1) % 3
    assert not torch.allclose(own, EXPLANATIONS[name](MODEL, IMAGES, other))
    assert torch.allclose(own[1:2], EXPLANATIONS[name](MODEL, IMAGES[1:2]), atol=1e-10)


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_training_mode_is_refused(name):
    model = random_network().train()
    with pytest.raises(ValueError, match="training mode"):
        EXPLANATIONS[name](model, random_images())
    assert not any(module._forward_hooks for module in model.modules())


# The scores


def test_scores_of_a_map_that_is_right_and_of_one_that_is_wrong():
    _, _, masks = shapes.draw("test", masks=True)
    masks = torch.from_numpy(masks[:50])
    for score in (explain.pointing, explain.overlap):
        assert score(masks.float(), masks).tolist() == pytest.approx([1] * 50)
        assert score(-masks.float(), masks).tolist() == [0] * 50
        nothing = score(torch.zeros(50, 16, 16), masks)
        assert torch.allclose(nothing, masks.float().mean(dim=(1, 2)))


def test_scores_are_what_breaking_ties_by_chance_gives_on_average():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(4, (1, 5, 6), generator=generator).double()
    masks = torch.rand(1, 5, 6, generator=generator) < 0.4
    count, peaks, shares = int(masks.sum()), [], []
    for _ in range(4000):
        order = (maps + 0.5 * torch.rand(1, 5, 6, generator=generator)).flatten().argsort().flip(0)
        on_shape = masks.flatten()[order].double()
        peaks.append(on_shape[0].item())
        shares.append(on_shape[:count].mean().item())
    assert explain.pointing(maps, masks).item() == pytest.approx(sum(peaks) / 4000, abs=0.03)
    assert explain.overlap(maps, masks).item() == pytest.approx(sum(shares) / 4000, abs=0.01)


def test_a_small_map_is_laid_over_the_picture_in_its_place():
    """The bright quarter of a 2x2 map lies over the same quarter of the picture."""
    maps, masks = torch.zeros(4, 2, 2), torch.zeros(4, 32, 32, dtype=torch.bool)
    for n in range(4):
        y, x = divmod(n, 2)
        maps[n, y, x] = 1
        masks[n, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = True
    assert explain.pointing(maps, masks).tolist() == [1] * 4
    assert (explain.overlap(maps, masks) > 0.9).all()
    assert explain.pointing(maps.flip(0), masks).tolist() == [0] * 4
    twice = F.interpolate(maps[:, None], (4, 4), mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(explain.enlarge(maps, (4, 4)), twice)
    assert explain.enlarge(maps, (4, 4))[0, 0].tolist() == [1, 0.75, 0.25, 0]


# What goes wrong


def test_watch_removes_its_hook_after_an_error():
    with pytest.raises(RuntimeError, match="stop"), explain.watch(MODEL.features.norm5):
        raise RuntimeError("stop")
    assert not MODEL.features.norm5._forward_hooks


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: explain.grad_cam(MODEL, IMAGES, torch.nn.ReLU()), "takes no part"),
        (lambda: explain.grad_cam(MODEL, IMAGES, MODEL.classifier), r"gives \(3, 3\)"),
        (lambda: explain.occlusion(MODEL, IMAGES, size=4, stride=5), "stride from 1"),
        (lambda: explain.occlusion(MODEL, IMAGES, size=4, stride=0), "stride from 1"),
        (lambda: explain.pointing(torch.zeros(2, 4), torch.ones(2, 4, 4).bool()), r"\(2, 4\)"),
        (lambda: explain.overlap(torch.zeros(3, 4, 4), torch.ones(2, 4, 4).bool()), "give"),
        (lambda: explain.overlap(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4).bool()), "empty"),
        (lambda: explain.pointing(torch.zeros(1, 4, 4) / 0, torch.ones(1, 4, 4).bool()), "number"),
    ],
)
def test_what_cannot_be_gets_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
