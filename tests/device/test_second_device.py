"""The library and every notebook on a device that is not the CPU, where no GPU is at hand.

A tensor that was left on the CPU, a `.numpy()` without `.cpu()`, a generator of the wrong device:
the CPU notices none of them, a GPU all, and so does the device of second.cpp.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Compile the device; return the environment of processes that have it."""
    if missing := [tool for tool in ("c++", "ninja") if not shutil.which(tool)]:
        pytest.skip(f"to build the device, {' and '.join(missing)} would be needed")
    folder = tmp_path_factory.mktemp("second")
    command = [sys.executable, str(HERE / "second.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    paths = os.pathsep.join([str(HERE), str(ROOT)])
    return {**os.environ, "SECOND_DEVICE": str(folder / "second.so"), "PYTHONPATH": paths}


def python(environment, code):
    """Run code in a process that has the device; return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


MIXED = """
import re
import numpy, torch
from torch.nn import functional as F
from densenet_lib import data

x, y = torch.randn(4, 4, 3, 3, device="second"), torch.randn(4, 4, 3, 3)
assert x[torch.tensor([0])].device.type == (x + torch.tensor(1.0)).device.type == "second"
assert torch.equal((x * 2).cpu(), x.cpu() * 2)
assert data.choose_device("cuda") == torch.device("second") != x.device  # it has no number
for code in '''x + y | x.add_(y) | torch.cat([x, y]) | torch.where(x > 0, x, y) | x.copy_(y) + y
F.conv2d(x, y) | F.conv2d(y, x) | y[x[0, 0, 0].long()] | x[torch.ones(4) > 0] - y | x.numpy()
numpy.asarray(x) | F.cross_entropy(x.flatten(1), torch.zeros(4).long()) | torch.stack([y, x])
torch.randn(3, generator=torch.Generator(), device="second")
torch.nn.BatchNorm2d(4)(x) | x.masked_fill(y > 0, 0) | x.gather(0, y.long())
torch.sum(x, (0, 1, 2, 3), out=torch.tensor(0.0))
torch.tensor(1.0).add_(x[0, 0, 0, 0])'''.split("|"):
    for line in code.strip().splitlines():
        try:
            eval(line)
        except (RuntimeError, TypeError) as error:
            if re.search("device|generator|type", str(error)):
                continue
        print("goes through:", line)
"""


def test_it_refuses_what_a_gpu_refuses(environment):
    assert python(environment, MIXED) == ""


TRAINED = """
import sys, torch
from densenet_lib import data, runs
from densenet_lib.checkpoints import load_checkpoint
from densenet_lib.densenet import DenseNet
from densenet_lib.training import Recipe

runs.RECORD_EVERY, runs.ACCELERATORS = 2, ("second",)
train, test = (data.load_images("shapes", split, limit=100) for split in ("train", "test"))
recipe = Recipe(0.05, nesterov=True, muon=True, augment=True, cutout=8, batch_size=20)

def weights(device, efficient, amp, stops=()):
    torch.manual_seed(0)
    network = DenseNet(8, (2, 2), 16, drop_rate=0.1)
    folder = f"{sys.argv[1]}/{device}-{efficient}-{amp}-{bool(stops)}"
    for stop in (*stops, None):
        run = runs.Run(
            network, train, recipe, folder, epochs=2, test=test, validation=test, device=device,
            resume=True, speed=runs.Speed(efficient=efficient, amp=amp),
            should_stop=lambda: bool(stop) and next(stop),
        )
        list(run)
        assert run.stopped == (stop is not None)
    found = load_checkpoint(f"{folder}/checkpoint.pt")
    assert found["resume"] is None and found["machine"]["device"] == str(torch.device(device))
    return torch.cat([w.double().flatten() for w in found["state_dict"].values()])

for efficient, amp in ((False, False), (True, False), (False, True), (True, True)):
    whole = weights("second", efficient, amp)
    parts = weights("second", efficient, amp, [iter([False, False, True])])
    cpu = weights("cpu", efficient, amp)
    apart = ((whole - cpu).norm() / cpu.norm()).item()
    print(torch.equal(whole, parts), apart < (0.02 if amp else 1e-3))
"""


def test_a_run_there_is_that_on_the_cpu_and_goes_on_where_it_stopped(environment, tmp_path):
    code = TRAINED.replace("sys.argv[1]", repr(str(tmp_path)))
    assert python(environment, code).split() == ["True"] * 8


def test_every_notebook_runs_there(environment, tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "run_all.py"), "--device", "cuda"]
    command += ["--profile", "quick", "--data", "shapes", "--build", str(tmp_path)]
    command += ["--jobs", "2"]  # on a GPU one at a time; this device is the CPU's cores
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = {path.name: path for path in (tmp_path / "executed").glob("*.ipynb")}
    assert executed.keys() == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    for name, path in executed.items():
        assert "device   second" in path.read_text("utf-8"), name
