"""Count what a network is made of: parameters, multiply-accumulates, connections, bytes.

Everything but `saved_for_backward` is measured on PyTorch's "meta" device: shapes are worked out,
nothing is computed, so even the largest network takes a moment. Used from notebook 00 on.
"""

import copy
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densenet_lib.efficient import make_plain

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)  # what papers count: depth and work


def count_parameters(module):
    """Return how many numbers the parameters of `module` hold, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module, input_size=(3, 32, 32)):
    """Return the multiply-accumulates of one forward pass for one image.

    Counted as papers do: convolutions and linear layers; norms, ReLU, pooling are left out.

    Args:   input_size: (C, H, W) of one input.
    Raises: ValueError if it multiplies outside such layers: they would be missed.
    """
    with torch.no_grad():  # and in evaluation mode: the same count, sooner
        return sum(visit.macs for visit in _trace(_on_meta(module).eval(), input_size).values())


def activation_bytes(module, input_size=(3, 32, 32)):
    """Return the bytes of feature maps that training keeps for one image until its backward pass.

    float32; weights and the batch norms' few statistics are left out. Of an efficient network these
    are the bytes of the plain one: `saved_for_backward` measures its own.
    """
    return sum(visit.saved_bytes for visit in _trace(_on_meta(module), input_size).values())


def saved_for_backward(network, images):
    """Return the bytes that training keeps for the backward pass of a whole batch.

    Measured on a real pass of a copy: each storage that autograd keeps is counted once, the
    network's own (parameters, running statistics) are not. Any network will do, `efficient` or not.

    Args:   images: (N, 3, H, W), on the network's device.
    """
    sizes, network = [], copy.deepcopy(network).train()
    devices = [images.device] if images.is_cuda else []  # else it would wake every GPU there is
    with torch.random.fork_rng(devices), _saved(network, lambda tensor, size: sizes.append(size)):
        output = network(images)  # held, so that no storage's address is used twice
    del output
    return sum(sizes)


@contextmanager
def _saved(module, keep):
    """Call `keep(tensor, bytes)` for each storage that autograd keeps and the module does not."""
    own = [*module.parameters(), *module.buffers()]
    seen = {values.untyped_storage()._cdata for values in own}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            keep(tensor, storage.nbytes())
        return tensor.detach()  # itself, where it is an output, would never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


@dataclass(frozen=True)
class Stage:
    """One row of the ledger."""

    stage: str
    layers: int  # convolutions and linear layers: what "depth" counts
    connections: int  # L (L + 1) / 2 in a dense block of L layers
    channels_in: int
    channels_out: int
    size: str  # height x width that leave the stage
    parameters: int
    macs: int  # forward, for one image
    activation_bytes: int  # kept for the backward pass, for one image


@dataclass(frozen=True)
class Ledger:
    """The accounts of a DenseNet, stage by stage; prints as a table, in a notebook as HTML."""

    stages: tuple
    total: Stage

    def _cells(self):
        """Return the table's texts: a heading row, a row a stage, the total."""
        names = [field.name for field in fields(Stage)]
        rows = [[getattr(stage, name) for name in names] for stage in (*self.stages, self.total)]
        texts = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
        return [[name.replace("_", " ") for name in names], *texts]

    def __str__(self):
        cells = self._cells()
        first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))  # widths
        lines = [
            "  ".join([name.ljust(first), *map(str.rjust, numbers, others)])
            for name, *numbers in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__

    def _repr_html_(self):
        head, *body = self._cells()
        html = "<tr>" + "".join(f"<th>{text}</th>" for text in head) + "</tr>"
        for texts in body:
            html += "<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"
        return f"<table>{html}</table>"


def ledger(model, input_size=(3, 32, 32)):
    """Return the accounts of a DenseNet, ours or torchvision's, for one image of `input_size`.

    The stages are the stem, each block and transition, the last norm and the classifier. Each row
    is measured on its own stage, and the totals are the model's own counts.
    """
    model = _on_meta(model)
    visits = _trace(model, input_size)
    rows = []
    for name, parts in _stages(model).items():
        inside = [module for part in parts for module in part.modules()]
        before, after = visits[parts[0]].shape_in, visits[parts[-1]].shape_out
        dense_layers = len(parts[0]) if "denseblock" in name else 0
        row = Stage(
            stage=name,
            layers=_count_layers(inside),
            connections=dense_layers * (dense_layers + 1) // 2,
            channels_in=before[1],
            channels_out=after[1],
            size="x".join(map(str, after[2:])) or "1x1",
            parameters=sum(count_parameters(part) for part in parts),
            macs=sum(visits[module].macs for module in inside),
            activation_bytes=sum(visits[module].saved_bytes for module in inside),
        )
        rows.append(row)
    total = Stage(
        stage="total",
        layers=_count_layers(model.modules()),
        connections=sum(row.connections for row in rows),
        channels_in=rows[0].channels_in,
        channels_out=rows[-1].channels_out,
        size=rows[-1].size,
        parameters=count_parameters(model),
        macs=sum(visit.macs for visit in visits.values()),
        activation_bytes=sum(visit.saved_bytes for visit in visits.values()),
    )
    return Ledger(tuple(rows), total)


def _stages(model):
    """Group the parts of a DenseNet into the ledger's stages, in the order they run."""
    stages = {}
    for name, part in model.features.named_children():
        if name in ("conv0", "norm0", "relu0", "pool0"):
            name = "stem"
        elif name in ("norm5", "relu5"):
            name = "last norm"
        stages.setdefault(name, []).append(part)
    return stages | {"classifier": [model.classifier]}


def _count_layers(modules):
    return sum(isinstance(module, LAYERS) for module in modules)


@dataclass
class _Visit:
    """What one module did in a forward pass, for one image."""

    shape_in: tuple = ()
    shape_out: tuple = ()
    macs: int = 0
    saved_bytes: int = 0


def _on_meta(module):
    return make_plain(copy.deepcopy(module)).to("meta").train()


def _trace(module, input_size):
    """Run one training forward pass on the meta device; return a _Visit for every module."""
    images = 2  # batch norm wants more than one value a channel
    visits = {part: _Visit() for part in module.modules()}
    current = module

    def enter(part, inputs):
        nonlocal current
        current = part

    def leave(part, inputs, output):
        visit = visits[part]
        first = inputs[0] if inputs else None
        visit.shape_in, visit.shape_out = getattr(first, "shape", ()), getattr(output, "shape", ())
        if isinstance(part, LAYERS):
            visit.macs += output[0].numel() * part.weight[0].numel()

    def keep(tensor, size):  # for the backward pass of the module that was entered last
        if tensor.dim() > 1:  # one dimension: a norm's statistics
            visits[current].saved_bytes += size // images

    hooks = [part.register_forward_pre_hook(enter) for part in module.modules()]
    hooks += [part.register_forward_hook(leave) for part in module.modules()]
    pixels = torch.zeros(images, *input_size, device="meta")
    counter = FlopCounterMode(display=False)  # sees every product, also outside of modules
    with counter, _saved(module, keep):
        output = module(pixels)  # held, so that no storage's address is used twice
    for hook in hooks:
        hook.remove()
    del output
    missed = counter.get_total_flops() // 2 // images - sum(visit.macs for visit in visits.values())
    if missed:
        raise ValueError(
            f"{type(module).__name__} does {missed:,} multiply-accumulates outside of convolution "
            "and linear modules (by torch.nn.functional, say): write them as modules."
        )
    return visits
