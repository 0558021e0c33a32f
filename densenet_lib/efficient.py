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

    which is so cheap that it is computed again in the backward pass instead of kept. Convolutions
    are not computed again.
3.  Their gradient, once. Of each reader we only need the sums of its gradient g over the pixels,

        d_shift = sum(g)        d_scale = sum(g * x)        d = d_scale - m * d_shift

    Then d_bias = d_shift and d_weight = d / sqrt(v + eps). Through m and v every pixel of the map
    gets a share too, and since that is linear in those sums, they are added up over all readers,

        d_m -= scale * d_shift        d_v -= scale * d / (2 (v + eps))

    and applied when all readers are done: each of the map's M values gets d_m / M from its mean
    and 2 (x - m) d_v / M from its variance.

Prior art: Pleiss et al. 2017 (arXiv 1707.06990), one buffer and recomputation for each reader; Jung
et al. 2019 (arXiv 1807.01702), statistics apart from normalisation. Built live in notebooks/13.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.models import densenet as theirs

from densenet_lib import densenet as ours

PIXELS = (0, 2, 3)  # of (N, C, H, W): all dimensions but the channels


def make_efficient(network):
    """Let every dense block and transition of a network train without copies; return the network.

    It works in place, on our networks and on torchvision's. Parameters, their names and the
    function stay as they are, and so does everything in evaluation mode and under `no_grad`. While
    it trains, the modules inside a block are not called, so hooks on them do not fire, and a
    gradient cannot be differentiated once more.

    Raises: TypeError for a network without dense blocks, or with norms of another kind in them.
    """
    found = [module for module in network.modules() if isinstance(module, tuple(EFFICIENT))]
    if not found:
        raise TypeError(f"{type(network).__name__} has no dense block of ours or of torchvision's.")
    for part in (part for module in found for part in module.modules()):
        is_norm = isinstance(part, nn.modules.batchnorm._NormBase)
        if is_norm and not (type(part) is nn.BatchNorm2d and part.affine):
            raise TypeError(f"A dense block holds {part}: only an affine BatchNorm2d will do.")
    for module in found:
        module.__class__ = EFFICIENT.get(type(module), type(module))
    return network


def make_plain(network):
    """Undo `make_efficient`, in place; return the network."""
    plain = {efficient: plain for plain, efficient in EFFICIENT.items()}
    for module in network.modules():
        module.__class__ = plain.get(type(module), type(module))
    return network


@dataclass(frozen=True)
class Step:
    """A norm, a ReLU and a convolution; a dense layer is one or two of them."""

    norm: nn.BatchNorm2d
    conv: nn.Conv2d
    drop_rate: float = 0.0  # of the dropout behind the convolution
    pool: bool = False  # average over 2x2 pixels, in a transition

    @property
    def weights(self):
        return self.norm.weight, self.norm.bias, self.conv.weight

    @property
    def follows_batch(self):
        """Whether the norm reads with the batch's statistics; a frozen one has its own."""
        return self.norm.training or self.norm.running_mean is None

    def statistics(self, mean, var, count):
        """Return what to read with, (C,) and (C,), and let the running statistics follow."""
        norm = self.norm
        if not self.follows_batch:
            return norm.running_mean, norm.running_var
        if norm.running_mean is not None:
            norm.num_batches_tracked.add_(1)
            share = norm.momentum
            if share is None:  # the mean over all batches so far
                share = 1 / norm.num_batches_tracked.item()
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            unbiased = var * (count / (count - 1))
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
        return mean, var

    def read(self, maps, mean, var, weight, bias, out):
        """Return relu(norm(maps)), written over `out`."""
        scale = weight * (var + self.norm.eps).rsqrt()
        return torch.mul(maps, _wide(scale), out=out).add_(_wide(bias - mean * scale)).relu_()

    def read_back(self, grad, read, maps, mean, var, weight):
        """Go back through ReLU and norm, but for the sums over pixels that all readers share.

        Args:   grad: of `read`; it loses here what the ReLU had cut.  read: is written over.
        Returns: scale, and the gradients of weight, bias, mean and variance, (C,) each.
        """
        torch.ops.aten.threshold_backward.grad_input(grad, read, 0, grad_input=grad)
        inverse = (var + self.norm.eps).rsqrt()
        scale = weight * inverse
        d_shift = grad.sum(PIXELS)
        d_scale = torch.mul(grad, maps, out=read).sum(PIXELS)
        d = d_scale - mean * d_shift
        return scale, d * inverse, d_shift, -scale * d_shift, -scale * inverse**2 * d / 2

    def read_back_alone(self, grad, read, maps, mean, var, weight):
        """Go back through ReLU and norm; return the gradients of maps, weight and bias."""
        torch.ops.aten.threshold_backward.grad_input(grad, read, 0, grad_input=grad)
        batch, inverse = self.follows_batch, (var + self.norm.eps).rsqrt()
        maps, weight = maps.to(grad.dtype), weight.to(grad.dtype)
        return torch.ops.aten.native_batch_norm_backward(
            grad, maps, weight, mean, var, mean, inverse, batch, self.norm.eps, (True, True, True)
        )

    def convolve(self, maps, weight):
        """Return what the convolution makes of what was read, and dropout's factors or None."""
        maps = F.avg_pool2d(maps, 2) if self.pool else maps  # before a 1x1: a quarter of its work
        made = F.conv2d(maps, weight, None, 1, self.conv.padding)
        if not self.drop_rate:
            return made, None
        factors = F.dropout(torch.ones_like(made), self.drop_rate)  # drawn as the plain layer does
        return made.mul_(factors), factors

    def convolve_back(self, grad, read, weight, wanted):
        """Return the gradients of what was read and, if wanted, of the convolution's weight."""
        maps = F.avg_pool2d(read, 2) if self.pool else read
        strides, mask = ((1, 1), self.conv.padding, (1, 1)), (True, wanted, False)
        back, d_weight, _ = torch.ops.aten.convolution_backward(
            grad.to(maps.dtype), maps, weight, None, *strides, False, (0, 0), 1, mask
        )
        if self.pool:
            sizes = (2, 2), (2, 2), (0, 0)
            back = torch.ops.aten.avg_pool2d_backward(back, read, *sizes, False, True, None)
        return back, d_weight


class Layout:
    """How maps lie in memory, and in which precision to compute, as `x` and autocast say."""

    def __init__(self, x):
        self.N, _, self.H, self.W = x.shape
        self.device, self.given = x.device, x.dtype
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        self.order = torch.channels_last if last else torch.contiguous_format
        autocast = torch.is_autocast_enabled(x.device.type)
        self.fast = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype  # convolutions
        self.exact = torch.promote_types(x.dtype, torch.float32)  # norms and sums

    def maps(self, channels, dtype, memory=None):
        """Return room for maps (N, channels, H, W), at the beginning of `memory` if it is given."""
        N, H, W = self.N, self.H, self.W
        size = N * channels * H * W
        memory = torch.empty(size, dtype=dtype, device=self.device) if memory is None else memory
        if self.order is torch.channels_last:
            return memory[:size].view(N, H, W, channels).permute(0, 3, 1, 2)
        return memory[:size].view(N, channels, H, W)

    def scratch(self, channels):
        """Return memory that all layers write their readings to, in turn.

        To ask the system for that much memory each time takes longer than to fill it.
        """
        size = self.N * channels * self.H * self.W
        return torch.empty(size, dtype=self.exact, device=self.device)


class _Block(torch.autograd.Function):
    """The layers of a dense block, lists of Steps, over one buffer: (N, C + L * k, H, W)."""

    @staticmethod
    def forward(ctx, layers, x, *weights):
        layout, C, k = Layout(x), x.shape[1], layers[0][-1].conv.out_channels
        channels, count = C + k * len(layers), x.numel() // C
        scratch = layout.scratch(_widest(layers))
        buffer = layout.maps(channels, torch.promote_types(x.dtype, layout.fast))
        mean, var = torch.empty(2, channels, dtype=layout.exact, device=x.device)
        buffer[:, :C], (mean[:C], var[:C]) = x, _statistics(x, layout)
        queue, kept = list(weights), []
        for layer in layers:
            maps, m, v = buffer[:, :C], mean[:C], var[:C]
            for step in layer:
                weight, bias, kernel = queue[:3]
                del queue[:3]
                m, v = step.statistics(m, v, count)
                out = layout.maps(maps.shape[1], layout.exact, scratch)
                read = step.read(maps, m, v, weight, bias, out)
                made, factors = step.convolve(read.to(layout.fast), kernel.to(layout.fast))
                kept += [maps, m, v, factors]
                maps, (m, v) = made, _statistics(made, layout)
            buffer[:, C : C + k], mean[C : C + k], var[C : C + k] = maps, m, v
            C += k
        ctx.layers, ctx.layout = layers, layout
        ctx.save_for_backward(buffer, mean, *weights, *kept)
        return buffer

    @staticmethod
    @once_differentiable
    def backward(ctx, arriving):
        layers, layout = ctx.layers, ctx.layout
        buffer, mean, *saved = ctx.saved_tensors
        wanted, grads = list(ctx.needs_input_grad[2:]), []
        weights, kept = saved[: len(wanted)], saved[len(wanted) :]
        grad = layout.maps(buffer.shape[1], layout.exact).copy_(arriving)
        d_mean, d_var = torch.zeros_like(mean), torch.zeros_like(mean)
        scratch = layout.scratch(_widest(layers))

        def finish(maps):  # all readers of these maps are done: what comes through their statistics
            sums = mean[maps], d_mean[maps], d_var[maps]
            return _through_statistics(grad[:, maps], buffer[:, maps], *sums)

        end = buffer.shape[1]
        for layer in reversed(layers):
            C = end - layer[-1].conv.out_channels
            g = finish(slice(C, end)).to(layout.fast, memory_format=layout.order, copy=True)
            for step in reversed(layer):
                weight, bias, kernel = weights[-3:]
                maps, m, v, factors = kept[-4:]
                del weights[-3:], kept[-4:]
                out = layout.maps(maps.shape[1], layout.exact, scratch)
                read = step.read(maps, m, v, weight, bias, out)
                g = g if factors is None else g * factors
                g, d_kernel = step.convolve_back(
                    g, read.to(layout.fast), kernel.to(layout.fast), wanted[len(weights) + 2]
                )
                g = g.to(layout.exact)
                if step is layer[0]:  # it read the buffer, as others did: add up, finish later
                    scale, d_weight, d_bias, d_m, d_v = step.read_back(g, read, maps, m, v, weight)
                    grad[:, :C].addcmul_(g, _wide(scale))
                    if step.follows_batch:
                        d_mean[:C] += d_m
                        d_var[:C] += d_v
                else:  # it was the only reader of its maps: as PyTorch does it
                    g, d_weight, d_bias = step.read_back_alone(g, read, maps, m, v, weight)
                grads[:0] = d_weight, d_bias, d_kernel
            end = C
        finish(slice(0, end))
        grads = [d if want else None for d, want in zip(grads, wanted, strict=True)]
        return None, grad[:, :end], *grads


class _Transition(torch.autograd.Function):
    """The one Step of a transition: (N, C, H, W) -> (N, out_channels, H // 2, W // 2)."""

    @staticmethod
    def forward(ctx, layers, x, weight, bias, kernel):
        ((step,),), layout = layers, Layout(x)
        mean, var = step.statistics(*_statistics(x, layout), x.numel() // x.shape[1])
        out = layout.maps(x.shape[1], layout.exact)
        read = step.read(x, mean, var, weight, bias, out)
        made, _ = step.convolve(read.to(layout.fast), kernel.to(layout.fast))
        ctx.step, ctx.layout = step, layout
        ctx.save_for_backward(x, mean, var, weight, bias, kernel)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        step, layout = ctx.step, ctx.layout
        x, mean, var, weight, bias, kernel = ctx.saved_tensors
        out = layout.maps(x.shape[1], layout.exact)
        read = step.read(x, mean, var, weight, bias, out)
        wanted = ctx.needs_input_grad[2:]
        g, d_kernel = step.convolve_back(
            grad, read.to(layout.fast), kernel.to(layout.fast), wanted[2]
        )
        g = g.to(layout.exact)
        scale, d_weight, d_bias, d_m, d_v = step.read_back(g, read, x, mean, var, weight)
        g.mul_(_wide(scale))
        if step.follows_batch:
            _through_statistics(g, x, mean, d_m, d_v)
        grads = zip((d_weight, d_bias, d_kernel), wanted, strict=True)
        return None, g, *(d if want else None for d, want in grads)


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

    function = _Block

    def layers(self):
        return [
            [Step(layer.norm1, layer.conv1, layer.drop1.p)]
            + ([Step(layer.norm2, layer.conv2, layer.drop2.p)] if hasattr(layer, "norm2") else [])
            for layer in self.values()
        ]


class EfficientTransition(_Efficient, ours.Transition):
    """Our transition, trained without copies, but where dropout stands before its pooling."""

    function = _Transition

    def layers(self):
        return None if self.drop.p else [[Step(self.norm, self.conv, pool=True)]]


class TheirEfficientBlock(_Efficient, theirs._DenseBlock):
    """torchvision's dense block, trained without copies."""

    function = _Block

    def layers(self):
        return [
            [Step(layer.norm1, layer.conv1), Step(layer.norm2, layer.conv2, layer.drop_rate)]
            for layer in self.values()
        ]


class TheirEfficientTransition(_Efficient, theirs._Transition):
    """torchvision's transition, trained without copies."""

    function = _Transition

    def layers(self):
        return [[Step(self.norm, self.conv, pool=True)]]


EFFICIENT = {
    ours.DenseBlock: EfficientBlock,
    ours.Transition: EfficientTransition,
    theirs._DenseBlock: TheirEfficientBlock,
    theirs._Transition: TheirEfficientTransition,
}


def _wide(values):
    """Give (C,) the shape that multiplies maps: (C, 1, 1)."""
    return values.view(-1, 1, 1)


def _widest(layers):
    return max(step.norm.num_features for layer in layers for step in layer)


def _statistics(maps, layout):
    """Return mean and variance of each channel, (C,) and (C,).

    Two passes, as exact as PyTorch's own and faster on a CPU than its `var_mean`.
    """
    mean = maps.mean(PIXELS, dtype=layout.exact)
    return mean, (maps - _wide(mean)).square_().mean(PIXELS)


def _through_statistics(grad, maps, mean, d_mean, d_var):
    """Add to `grad`, in place, what reaches the maps through their mean and variance; return it."""
    count = maps.numel() // maps.shape[1]
    slope = 2 * d_var / count
    return grad.add_(_wide(d_mean / count - slope * mean)).addcmul_(maps, _wide(slope))
