"""The device `second` (second.cpp): build it, and let the library take it for a GPU.

python tests/device/second.py FOLDER      compiles it into FOLDER; it needs a C++ compiler and ninja

A Python process that finds this folder in PYTHONPATH and the compiled file in SECOND_DEVICE has the
device from its start (sitecustomize.py), and where "cuda" is asked for, it gets that.
"""

import argparse
import sys
from pathlib import Path
from types import ModuleType

import torch

NAME = "second"


def build(folder):
    """Compile second.cpp, and load it."""
    from torch.utils import cpp_extension

    source, flags = Path(__file__).with_suffix(".cpp"), ["-O1", "-w"]
    cpp_extension.load(
        NAME, [str(source)], extra_cflags=flags, build_directory=folder, is_python_module=False
    )


def join(library):
    """Make the device known: to PyTorch, to copy.deepcopy, and to the library in place of CUDA."""
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend(NAME)
    module = ModuleType(f"torch.{NAME}")
    vars(module).update(
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
        get_rng_state=lambda device=0: torch.get_rng_state(),  # it draws as the CPU does
        set_rng_state=lambda state, device=0: torch.set_rng_state(state),
        manual_seed_all=lambda seed: None,
        _is_in_bad_fork=lambda: False,
    )
    torch._register_device_module(NAME, module)
    torch.utils.generate_methods_for_privateuse1_backend()
    torch.Tensor.__deepcopy__ = deepcopy
    choose_instead_of_cuda()


def deepcopy(tensor, memo, plain=torch.Tensor.__deepcopy__):
    """Copy a tensor of the device; PyTorch would make the copy of its memory on the CPU."""
    if tensor.device.type != NAME or id(tensor) in memo:
        return plain(tensor, memo)
    copied = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    if isinstance(tensor, torch.nn.Parameter):
        copied = torch.nn.Parameter(copied.detach(), tensor.requires_grad)
    if tensor.grad is not None:
        copied.grad = deepcopy(tensor.grad, memo)
    return memo.setdefault(id(tensor), copied)


def choose_instead_of_cuda():
    """Give the device where "cuda" or "auto" is asked for, and take its name on command lines."""
    from densenet_lib import data

    def choose_device(name="auto", plain=data.choose_device):
        return plain(name) if name in ("cpu", "mps") else torch.device(NAME)

    def check(parser, action, value, plain=argparse.ArgumentParser._check_value):
        return None if value == NAME else plain(parser, action, value)

    data.choose_device = data.batches.choose_device = choose_device
    argparse.ArgumentParser._check_value = check


if __name__ == "__main__":
    build(sys.argv[1])
