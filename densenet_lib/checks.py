"""Checks that learners call: is my module the library's, is my exercise right?

Used in every notebook; the tests show for each check that it can fail.
"""

import copy
from contextlib import contextmanager

import torch
from torch import nn


def assert_same_module(mine, reference, input_shape, *, seed=0, tolerance=1e-10):
    """Assert that two modules are the same function with the same names, however they are written.

    Both get the same random state, batch norms' weights and statistics included (fresh ones are all
    0 and 1, and would hide a misplaced ReLU). Then, in training and in evaluation mode, outputs,
    gradients and the updated state must agree. The modules themselves are left as they were.

    Args:   input_shape: of a batch, (N, C, H, W).  tolerance: largest difference, in float64.
    Raises: AssertionError, with a sentence that says what differs and where to look.
    """
    mine, reference = copy.deepcopy(mine).double(), copy.deepcopy(reference).double()
    _assert_same_names(mine, reference)
    generator = torch.Generator().manual_seed(seed)
    randomise(reference, generator)
    images = torch.randn(input_shape, generator=generator, dtype=torch.float64)
    state = copy.deepcopy(reference.state_dict())
    for mode in ("training", "evaluation"):
        ours, theirs = (
            _observe(module, state, images, mode == "training", seed)
            for module in (mine, reference)
        )
        for what, expected in theirs.items():
            _assert_close(f"in {mode} mode, {what}", ours[what], expected, tolerance)


def randomise(module, generator):
    """Draw random parameters and batch-norm statistics, none of them at its starting value."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                for values in (layer.weight, layer.running_var):
                    values.uniform_(0.5, 1.5, generator=generator)
                for values in (layer.bias, layer.running_mean):
                    values.normal_(0, 0.5, generator=generator)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0, fan_in**-0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.5, generator=generator)


@contextmanager
def exercise(number):
    """Report on an exercise: correct, not attempted yet, or (by AssertionError) what is wrong."""
    try:
        yield
    except NotImplementedError:
        print(f"Exercise {number}: not attempted yet.")
    else:
        print(f"Exercise {number}: correct.")


def same(answer, expected, *, tolerance=1e-6):
    """Is an answer this number, or are they these numbers? False, never an error, if it is none.

    Args:   answer: a number, a list or a tensor; expected: likewise, of the same shape.
            tolerance: the largest difference, as a share of the expected number.
    """
    try:
        answer, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (answer, expected))
    except (TypeError, ValueError, RuntimeError):
        return False
    if answer.shape != expected.shape:
        return False
    return torch.allclose(answer.cpu(), expected, rtol=tolerance, atol=1e-12, equal_nan=True)


def _assert_same_names(mine, reference):
    """Compare the names and shapes of all parameters and buffers."""
    ours, theirs = (
        {name: tuple(values.shape) for name, values in module.state_dict().items()}
        for module in (mine, reference)
    )
    missing, extra = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    assert not missing and not extra, (
        f"the names differ: missing {missing or 'none'}, extra {extra or 'none'}; "
        "name your attributes as the reference does"
    )
    for name, shape in theirs.items():
        assert ours[name] == shape, f"{name} has shape {ours[name]}, but the reference has {shape}"


def _observe(module, state, images, training, seed):
    """Load `state`, run forward and backward, and return everything that can be compared."""
    module.load_state_dict(state)
    module.train(training)
    module.zero_grad()
    images = images.clone().requires_grad_()
    torch.manual_seed(seed)  # the same dropout for both
    given = images * 1  # not a leaf, so that a module may (wrongly) change it in place
    output = module(given)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    (output * weights).sum().backward()
    return {
        "the output": output.detach(),
        "the input after the call": given.detach(),
        "the gradient of the input": images.grad,
        **{f"the gradient of {n}": p.grad for n, p in module.named_parameters()},
        **{f"the updated {n}": b for n, b in copy.deepcopy(dict(module.named_buffers())).items()},
    }


def _assert_close(what, ours, theirs, tolerance):
    assert ours is not None and ours.shape == theirs.shape, (
        f"{what} has shape {None if ours is None else tuple(ours.shape)}, "
        f"but the reference has {tuple(theirs.shape)}"
    )
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance, (
        f"{what} differs from the reference's by up to {difference:.2g}; look at the order of "
        "operations, the order of concatenation, dropout, and the arguments of each layer"
    )
