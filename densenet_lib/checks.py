"""Checks that learners call: is my module the library's, is my exercise right?

Used in every notebook; the tests show for each check that it can fail.
"""

import copy
import sys
from contextlib import contextmanager
from types import FunctionType

import torch
from torch import nn

MODES = ("training", "evaluation")


def assert_same_module(mine, reference, input_shape, *, seed=0, tolerance=1e-10):
    """Assert that two modules are the same function with the same names, however they are written.

    Both get the same random state (fresh norms, all 0 and 1, would hide a misplaced ReLU). Then, in
    training and in evaluation mode, outputs, gradients and the updated state must agree, also for a
    larger batch of larger, odd pictures, if the reference takes one. The modules themselves, and
    the caller's random numbers, are left as they were.

    Args:   input_shape: of a batch, (N, C, H, W).  tolerance: largest difference, in float64, as a
            share of the largest value (of 1, if all are smaller).
    Raises: AssertionError, with a sentence that says what differs and where to look.
    """
    mine, reference = (copy.deepcopy(module).cpu().double() for module in (mine, reference))
    _assert_same_names(mine, reference)
    generator = torch.Generator().manual_seed(seed)
    randomise(reference, generator)
    state = copy.deepcopy(reference.state_dict())
    n, c, *sizes = input_shape
    odd = [size + 1 + size % 2 + 2 * i for i, size in enumerate(sizes)]  # 8 x 8: 9 x 11
    for shape in ((n, c, *sizes), (n + 1, c, *odd), (n + 1, c, *sizes)):
        again = shape != tuple(input_shape)
        images = torch.randn(shape, generator=generator, dtype=torch.float64)
        try:
            expected = [_observe(reference, state, images, mode, seed) for mode in MODES]
        except Exception:
            if again:
                continue  # a classifier, say, that reads pictures of one size
            raise
        for mode, theirs in zip(MODES, expected, strict=True):
            try:
                ours = _observe(mine, state, images, mode, seed)
            except Exception as error:
                if again and not isinstance(error, AssertionError):
                    raise AssertionError(
                        f"the reference takes a batch of shape {shape}, but yours raises "
                        f"{type(error).__name__}: {error}; is a size fixed that may vary?"
                    ) from error
                raise
            where = f"for a batch of shape {shape}, " if again else ""
            for what, values in theirs.items():
                _assert_close(f"{where}in {mode} mode, {what}", ours.get(what), values, tolerance)
        if again:
            return


def randomise(module, generator):
    """Draw every parameter and every batch norm's statistics, so that none is 0 or 1.

    Scales and shifts get both signs: behind a ReLU a positive scale does the same as before it.
    """
    with torch.no_grad():
        for name, values in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                values.uniform_(0.5, 1.5, generator=generator)
            elif values.dim() > 1:
                values.normal_(0, values[0].numel() ** -0.5, generator=generator)  # by fan-in
            elif isinstance(values, nn.Parameter) or name.endswith("running_mean"):
                values.uniform_(-1, 1, generator=generator)
                values += values.sign() / 2  # 0.5 to 1.5 away from 0


@contextmanager
def exercise(number):
    """Report on an exercise: correct, not attempted yet, or (by AssertionError) what is wrong.

    A name that the check gives to something else may have been a function of the learner's. And
    what fails because something is None has mostly met a function without a `return`.
    """
    names = sys._getframe(2).f_globals  # of the cell, past the context manager
    functions = {name: one for name, one in names.items() if isinstance(one, FunctionType)}
    try:
        yield
    except NotImplementedError as error:
        if 'the required "forward"' in str(error):  # nn.Module says so, not the exercise's own line
            raise AssertionError(
                f"{error}: is its name misspelt, or its indentation off?"
            ) from None
        print(f"Exercise {number}: not attempted yet.")
    except (TypeError, AttributeError, RuntimeError) as error:
        lost = [name for name, function in functions.items() if names.get(name) is not function]
        if isinstance(error, TypeError) and "not callable" in str(error) and lost:
            raise AssertionError(
                f"the check has a {lost[0]} of its own, which has replaced yours: "
                f"name it my_{lost[0]}"
            ) from None
        if "NoneType" not in str(error):
            raise
        raise AssertionError(f"{error}: is a `return` missing?") from error
    else:
        print(f"Exercise {number}: correct.")


def same(answer, expected, *, tolerance=1e-6):
    """Is an answer this number, or are they these numbers? False, never an error, if it is none.

    Args:   answer: a number, a list or a tensor; expected: likewise, of the same shape.
            tolerance: the largest difference, as a share of the expected number.
    """
    try:
        answer, expected = map(_as_float64, (answer, expected))
        if answer.shape != expected.shape:
            return False
        return torch.allclose(answer, expected, rtol=tolerance, atol=1e-12, equal_nan=True)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # of no number, or a huge one
        return False


def _as_float64(numbers):
    """Return numbers as a tensor on the CPU, since not every device knows float64."""
    if "complex" in str(getattr(numbers, "dtype", "")):
        raise TypeError("it is complex")  # PyTorch would cut it with a warning
    numbers = numbers.cpu() if isinstance(numbers, torch.Tensor) else numbers
    return torch.as_tensor(numbers, dtype=torch.float64)


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


def _observe(module, state, images, mode, seed):
    """Load `state`, run forward and backward, and return everything that can be compared."""
    module.load_state_dict(state)
    module.train(mode == "training")
    module.zero_grad()
    images = images.clone().requires_grad_()
    given = images * 1  # not a leaf, so that a module may (wrongly) change it in place
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the same dropout for both
        output = module(given)
    assert isinstance(output, torch.Tensor), (
        f"forward returns {type(output).__name__}, not a tensor: is its `return` missing?"
    )
    if output.requires_grad:
        # Not a plain sum: behind a batch norm its gradient is 0, whatever comes before.
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
    if ours is None and theirs is None:  # a frozen parameter's gradient
        return
    ours_has, theirs_has = (
        "none" if values is None else f"shape {tuple(values.shape)}" for values in (ours, theirs)
    )
    assert ours_has == theirs_has, f"{what} has {ours_has}, but the reference has {theirs_has}"
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance * max(1, theirs.abs().max().item()), (
        f"{what} differs from the reference's by up to {difference:.2g}; look at the order of "
        "operations, the order of concatenation, dropout, and the arguments of each layer"
    )
