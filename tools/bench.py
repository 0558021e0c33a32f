"""Measure how fast this machine trains, each way against the plain one, in one run.

python tools/bench.py                                         the origin's network and densenet121
python tools/bench.py --net bc-100-12 --device cuda --compile

Machines are noisy, so the ways take turns, and what counts is the ratio: each turn's speed is
divided by the plain way's in the same turn; the median of these is printed, with the lowest and
the highest.
"""

import argparse
import subprocess
import sys
import time
from statistics import median

import torch
import torchvision

from densenet_lib.densenet import densenet121, named_network
from densenet_lib.training import Recipe, train

PLAIN = "float32"


def ways_of(network, *, compiled):
    """Return {name: (network, channels last?, bfloat16?)} of what trains the same network."""
    ways = {
        PLAIN: (network(), False, False),
        "channels last": (network(), True, False),
        "bfloat16": (network(), False, True),
        "both": (network(), True, True),
    }
    if compiled:
        ways["bfloat16, compiled"] = (torch.compile(network()), False, True)
    return ways


def steps_of(network, device, batch, size, *, channels_last=False, amp=False):
    """Return a function that trains for so many steps and returns the images per second."""
    memory = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device, memory_format=memory)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=memory)
    labels = torch.randint(0, 10, (batch,), device=device)

    def run(steps):
        began = time.perf_counter()
        for _ in train(network, [(images, labels)] * steps, epochs=1, recipe=Recipe(), amp=amp):
            pass  # the record has read the loss, so the device is done
        return steps * batch / (time.perf_counter() - began)

    return run


def measure(title, runs, turns, seconds):
    """Let the runs take turns; print the median speed of each and its ratio to the first."""
    steps = {name: max(1, round(seconds * warm(run))) for name, run in runs.items()}
    speeds = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            speeds[name].append(run(steps[name]))
    print(f"{title:28}{'images/s':>9}{'ratio':>8}  lowest to highest")
    plain = next(iter(speeds.values()))
    for name, each in speeds.items():
        ratios = sorted(speed / first for speed, first in zip(each, plain, strict=True))
        span = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"  {name:26}{median(each):9.0f}{median(ratios):8.2f}  {span}", flush=True)


def warm(run):
    """Run twice, so that all is compiled and allocated; return steps per second."""
    run(1)
    began = time.perf_counter()
    run(2)
    return 2 / (time.perf_counter() - began)


TWICE = """
import os, sys, time
if sys.argv[1] == "spin":
    os.environ["GOMP_SPINCOUNT"] = "300000"  # what threads do if nobody says otherwise
from densenet_lib.densenet import DenseNet
from densenet_lib.training import train
import torch
network = DenseNet(8, (4, 4), 16)
batch = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
list(train(network, [batch] * 5, epochs=1))
steps, until = 0, time.time() + float(sys.argv[2])
while time.time() < until:
    list(train(network, [batch] * 5, epochs=1))
    steps += 5
print(steps / float(sys.argv[2]))
"""


def several(count, kind, seconds):
    """Run so many small trainings at once, as notebooks do; return the steps per second of each."""
    command = [sys.executable, "-c", TWICE, kind, str(seconds)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [float(run.communicate()[0]) for run in runs]


def measure_two_at_once(seconds=6):
    """Compare one and two trainings at once, with threads that spin and with those that sleep."""
    print(f"{'two at once, CPU':28}{'steps/s':>9}{'ratio':>8}  of each, against one alone")
    for kind, name in (("sleep", "as the notebooks set it"), ("spin", "threads that spin")):
        (alone,), pair = several(1, kind, seconds), several(2, kind, seconds)
        print(f"  {name:26}{alone:9.1f}{min(pair) / alone:8.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="origin", help="as for train; default: origin")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="images; default: 64")
    parser.add_argument("--turns", type=int, default=5, help="of each way; default: 5")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn; default: 2")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: a minute")
    parser.add_argument("--small", action="store_true", help="leave the ImageNet networks out")
    chosen = parser.parse_args()
    device, threads = chosen.device, torch.get_num_threads()
    print(f"PyTorch {torch.__version__} on {device}, {threads} threads, batches of {chosen.batch}")

    torch.manual_seed(0)
    ways = ways_of(lambda: named_network(chosen.net), compiled=chosen.compile)
    runs = {
        name: steps_of(network, device, chosen.batch, 32, channels_last=last, amp=amp)
        for name, (network, last, amp) in ways.items()
    }
    measure(f"{chosen.net}, training", runs, chosen.turns, chosen.seconds)
    if not chosen.small:
        few = max(2, chosen.batch // 16)
        pair = {"torchvision's": torchvision.models.densenet121(), "ours": densenet121()}
        runs = {name: steps_of(network, device, few, 224) for name, network in pair.items()}
        measure(f"densenet121, batches of {few}", runs, chosen.turns, chosen.seconds)
        measure_two_at_once()
    return 0


if __name__ == "__main__":
    sys.exit(main())
