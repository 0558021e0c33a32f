"""Measure speed and memory on this machine, each way against the plain one, in one run.

python tools/bench.py --quick                    within two minutes
python tools/bench.py --device cuda --compile

Every way trains in a process of its own, so that none lives on memory that another has asked for.
Machines are noisy, so the ways take turns, and what counts is the ratio: a way's time is divided by
the first way's in the same turn; the median is printed, with the lowest and the highest. Before
anything is timed the ways of a group are shown to be equal, in float64. One table, one JSON.
"""

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median

import torch
import torchvision
from torch.nn import functional as F

from densenet_lib import analysis
from densenet_lib.checkpoints import write_whole
from densenet_lib.data import Batches, load_images
from densenet_lib.densenet import densenet121, densenet_cifar, named_network
from densenet_lib.efficient import make_efficient
from densenet_lib.training import Recipe, train

ROOT = Path(__file__).resolve().parents[1]
GIGABYTE = 10**9
MEBIBYTE = 2**20
LINE = "{:46}{:>9}{:>7}  {:15}{:>9}{:>9}"


@dataclass(frozen=True)
class Way:
    """One way to train a network: whose code, and in which setting."""

    name: str
    network: str  # origin, bc-100-12, densenet121
    batch: int  # images
    code: str = "ours"  # ours, efficient, torchvision, torchvision's efficient, the origin's
    channels_last: bool = False
    amp: bool = False
    compile: bool = False
    muon: bool = False

    @property
    def size(self):
        return 224 if self.network == "densenet121" else 32

    def build(self):
        """Build the network of this way, always with the same weights."""
        torch.manual_seed(0)
        plain = densenet121() if self.network == "densenet121" else named_network(self.network)
        network = plain
        if self.code == "efficient":
            make_efficient(network)
        elif self.code.startswith("torchvision"):
            network = torchvisions(plain, memory_efficient=self.code != "torchvision")
        elif self.code == "the origin's":
            sys.path.append(str(ROOT / "tests"))
            from origin_network import OriginNetwork

            network = OriginNetwork()
        weights = zip(network.state_dict(), plain.state_dict().values(), strict=True)
        network.load_state_dict(dict(weights))
        return network


def torchvisions(plain, memory_efficient=False):
    """Return torchvision's network of the same shape as one of ours, the stem adapted."""
    arguments = {**plain.arguments}
    compression, stem = arguments.pop("compression"), arguments.pop("stem")
    assert compression == 0.5
    network = torchvision.models.DenseNet(**arguments, memory_efficient=memory_efficient)
    if stem != "imagenet":
        network.features.conv0 = plain.features.conv0
        network.features.pool0 = torch.nn.Identity()
    if stem == "conv":
        network.features.norm0 = network.features.relu0 = torch.nn.Identity()
    return network


def assert_equal(ways):
    """Stop if ways of one network do not agree on loss and gradients, in float64."""
    expected = None
    for way in {way.code: way for way in ways}.values():
        network = way.build().double().train()
        torch.manual_seed(1)
        images = torch.randn(2, 3, min(way.size, 64), min(way.size, 64), dtype=torch.float64)
        loss = F.cross_entropy(network(images), torch.tensor([0, 1]))
        loss.backward()
        found = torch.cat([loss[None], *(p.grad.flatten() for p in network.parameters())])
        expected = found if expected is None else expected
        worst = (found - expected).abs().max().item()
        assert worst < 1e-9, f"{way.network}: {way.code} differs by {worst:.1e}: nothing is timed"


def prepare(way, device):
    """In the way's own process: build, run twice, and count; return MiB an image, seconds a step.

    What is counted is what the pass keeps for the backward pass.
    """
    global turn
    order = torch.channels_last if way.channels_last else torch.contiguous_format
    network = way.build().to(device, memory_format=order)
    shape = way.batch, 3, way.size, way.size
    images = torch.randn(shape, device=device).contiguous(memory_format=order)
    labels = torch.randint(0, 10, (way.batch,), device=device)
    two = images[:2].contiguous(memory_format=order)
    kept = analysis.saved_for_backward(network, two) / 2 / MEBIBYTE
    trained = torch.compile(network) if way.compile else network
    recipe = Recipe(muon=way.muon)

    def turn(steps):
        batches = [(images, labels)] * steps
        began = time.perf_counter()
        for _ in train(trained, batches, epochs=1, recipe=recipe, amp=way.amp):
            pass  # the record has read the loss, so the device is done
        return (time.perf_counter() - began) / steps

    turn(1)
    return kept, turn(2)


def run(steps):
    """In the way's own process: train for so many steps; return the seconds of one."""
    return turn(steps)


def peak(device):
    """In the way's own process: return the most MiB that it has held on a GPU, or None."""
    return torch.cuda.max_memory_allocated() / MEBIBYTE if device == "cuda" else None


def compare(title, ways, device, turns, seconds):
    """Let the ways take turns; print a line for each, and return the lines for the JSON."""
    assert_equal(ways)
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        homes = [stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for _ in ways]
        for begun in [home.submit(int) for home in homes]:  # they import at the same time
            begun.result()
        pairs = zip(homes, ways, strict=True)
        ready = [home.submit(prepare, way, device).result() for home, way in pairs]
        kept, warm = zip(*ready, strict=True)
        steps = [max(1, round(seconds / one)) for one in warm]
        times = [
            [home.submit(run, n).result() for home, n in zip(homes, steps, strict=True)]
            for _ in range(turns)
        ]
        peaks = [home.submit(peak, device).result() for home in homes]
    print(f"\n{title}")
    rows = []
    for i, way in enumerate(ways):
        ratios = sorted(each[i] / each[0] for each in times)
        speed = way.batch / median(each[i] for each in times)
        span = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        top = f"{peaks[i]:.0f}" if peaks[i] else ""
        cells = f"{speed:.1f}", f"{median(ratios):.2f}", span, f"{kept[i]:.2f}", top
        print(LINE.format("  " + way.name, *cells), flush=True)
        row = {"images_per_second": speed, "time": median(ratios), "times": ratios}
        row |= {"MiB_an_image": kept[i], "bytes": kept[i] / kept[0], "peak_MiB": peaks[i]}
        rows.append(asdict(way) | row)
    return rows


def both_orders(network, batch, others=()):
    """Return two groups of ways: plain against efficient and others, in each memory format."""
    codes = "ours", "efficient", *others
    return [
        [Way(f"{code}, {name}", network, batch, code, last) for code in codes]
        for name, last in (("channels first", False), ("channels last", True))
    ]


def depths(quick):
    """Return {way: its bytes by depth, the straight line nearest to them, the largest miss}."""
    print("\nMiB kept for an image, by depth (BC, k = 12), and the nearest straight line")
    range_of, images, found = range(40, 191, 72 if quick else 30), torch.randn(2, 3, 32, 32), {}
    makers = {
        "ours": lambda plain: plain,
        "torchvision's efficient": lambda plain: torchvisions(plain, memory_efficient=True),
        "efficient": make_efficient,
    }
    for name, make in makers.items():
        kept = [
            analysis.saved_for_backward(make(densenet_cifar(depth, 12)), images) / 2 / MEBIBYTE
            for depth in range_of
        ]
        x = torch.tensor([[depth, 1.0] for depth in range_of], dtype=torch.float64)
        y = torch.tensor(kept, dtype=torch.float64)
        slope, start = torch.linalg.lstsq(x, y[:, None]).solution.flatten().tolist()
        miss = ((x @ torch.tensor([slope, start], dtype=torch.float64) - y).abs() / y).max().item()
        found[name] = {"depths": list(range_of), "MiB": kept, "slope": slope, "largest_miss": miss}
        print(f"  {name:26}" + "".join(f"{mib:7.1f}" for mib in kept), end="")
        print(f"   {slope:.3f} a layer, off by {miss:.1%} at most", flush=True)
    return found


TRAINED = """
import re, resource, sys
sys.path.insert(0, sys.argv[1])
from tools.bench import Way, Recipe, torch, train
way = Way("", "bc-100-12", int(sys.argv[3]), sys.argv[2])
batch = torch.randn(way.batch, 3, 32, 32), torch.randint(0, 10, (way.batch,))
list(train(way.build(), [batch] * 2, epochs=1, recipe=Recipe()))
try:  # what the system says otherwise has, on Linux, this process' parent in it
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
except OSError:
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def resident(code, batch):
    """Return the most bytes that a process has held which trained BC-100-12 for two steps."""
    command = [sys.executable, "-c", TRAINED, str(ROOT), code, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def largest_batches(limit=2 * GIGABYTE):
    """Return the largest batch of BC-100-12 with which a process stays below the limit."""
    print("\nLargest batch of BC-100-12 that trains in 2 GB of memory, the program included")
    found = {}
    for code in ("ours", "torchvision's efficient", "efficient"):
        few, many = 16, 48
        less, more = resident(code, few), resident(code, many)
        each = (more - less) / (many - few)  # bytes grow in proportion to the batch, nearly
        batch = int((limit - less) / each) + few
        while (tried := resident(code, batch)) > limit:
            batch = int(0.96 * batch)
        found[code] = {"batch": batch, "MB_an_image": each / 10**6, "peak_GB": tried / GIGABYTE}
        text = f"{batch:6} images, {each / 10**6:.1f} MB each; tried: {tried / GIGABYTE:.2f} GB"
        print(f"  {code:26}{text}", flush=True)
    return found


class Ordinary(torch.utils.data.Dataset):
    """The ordinary way to read pictures: one at a time, through torchvision's transforms."""

    def __init__(self, images, augment):
        T = torchvision.transforms
        shifts = [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip()] if augment else []
        normal = T.Normalize(images.mean, images.std)
        self.images, self.transform = images, T.Compose([*shifts, T.ToTensor(), normal])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        picture = torchvision.transforms.functional.to_pil_image(self.images.images[i])
        return self.transform(picture), int(self.images.labels[i])


def feeding(turns):
    """Compare `Batches` with transforms and DataLoader; return the ratio of their speeds."""
    images = load_images("shapes", limit=2000)
    loader = torch.utils.data.DataLoader

    def speed(batches):
        began = time.perf_counter()
        count = sum(len(labels) for _, labels in batches)
        return count / (time.perf_counter() - began)

    pairs = zip(loader(Ordinary(images, False), 64), Batches(images, 64), strict=True)
    for (theirs, labels), (ours, ours_labels) in pairs:
        torch.testing.assert_close(theirs, ours)
        assert torch.equal(labels, ours_labels)
    theirs = loader(Ordinary(images, True), 64, shuffle=True)
    ours = Batches(images, 64, augment=True, shuffle=True)
    speed(ours)
    pairs = [(speed(theirs), speed(ours)) for _ in range(turns)]
    ratio = median(b / a for a, b in pairs)
    print("\nAugmented batches of 64, images/s")
    print(f"  transforms and DataLoader {median(a for a, _ in pairs):8.0f}")
    print(f"  Batches                   {median(b for _, b in pairs):8.0f}, {ratio:.0f} times")
    return {"ratio": ratio, "pairs": pairs}


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


def two_at_once(seconds):
    """Compare one and two trainings at once, with threads that spin and with those that sleep."""
    print("\nTwo trainings at once on the CPU, steps/s of one alone, and of each of two against it")
    found = {}
    for kind, name in (("sleep", "as the notebooks set it"), ("spin", "threads that spin")):
        (alone,), pair = several(1, kind, seconds), several(2, kind, seconds)
        found[name] = {"alone": alone, "ratio": min(pair) / alone}
        print(f"  {name:26}{alone:9.1f}{min(pair) / alone:8.2f}", flush=True)
    return found


def groups_of(chosen):
    """Return [(title, ways)]: what is compared with what."""
    theirs = "torchvision's efficient"
    first, last = both_orders("bc-100-12", small := 16 if chosen.quick else 32, (theirs,))
    groups = [(f"BC-100-12, batches of {small}, 32x32", ways) for ways in (first, last)]
    batch, few, others = 64, 4, ("torchvision", "the origin's")
    ways = [Way(code, "origin", batch, code) for code in ("ours", *others)]
    groups.append((f"the origin's network in others' code, batches of {batch}", ways))
    if chosen.quick:
        return groups
    for ways in both_orders("origin", batch):
        groups.append((f"the origin's network, batches of {batch}, 32x32", ways))
    last, amp = {"channels_last": True}, {"amp": True}
    settings = {"float32": {}, "channels last": last, "bfloat16": amp, "both": last | amp}
    if chosen.compile:
        settings["bfloat16, compiled"] = {"amp": True, "compile": True}
    ways = [Way(name, "origin", batch, **options) for name, options in settings.items()]
    ways.append(Way("efficient, bfloat16", "origin", batch, "efficient", amp=True))
    groups.append((f"what speeds up the origin's network, batches of {batch}", ways))
    for ways in both_orders("densenet121", few, ("torchvision", theirs)):
        groups.append((f"densenet121, batches of {few}, 224x224", ways))
    if chosen.device == "cuda":
        # The ways of a group hold their memory at the same time: 512 pictures, some 50 GB together.
        room = torch.cuda.mem_get_info()[0] / 1e9
        for batch in (64, 512 if room > 70 else 128):
            for ways in both_orders("bc-100-12", batch, ("torchvision", theirs)):
                groups.append((f"BC-100-12 on the GPU, batches of {batch}", ways))
        settings = {"float32": {}, "both": last | amp, "both, Muon": last | amp | {"muon": True}}
        if chosen.compile:
            settings |= {f"{way}, compiled": settings[way] | {"compile": True} for way in settings}
        ways = [Way(name, "bc-100-12", 64, **options) for name, options in settings.items()]
        groups.append(("BC-100-12 as the reference runs train it, batches of 64", ways))
    return groups


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer rows, pictures and turns")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: a minute")
    parser.add_argument("--only", default="", help="rows whose title has this text, nothing else")
    parser.add_argument("--turns", type=int, help="of each way; default: 5, quick 3")
    parser.add_argument("--seconds", type=float, help="of each turn; default: 3, quick 0.5")
    parser.add_argument("--out", default="build/bench.json", help="default: build/bench.json")
    chosen = parser.parse_args()
    turns = chosen.turns or (3 if chosen.quick else 5)
    seconds = chosen.seconds or (0.5 if chosen.quick else 3)
    about = {
        "date": str(date.today()),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if chosen.device == "cuda" else chosen.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "quick": chosen.quick,
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print("time: of a step, against the first line of its group (median, lowest to highest)")
    print(LINE.format("", "images/s", "time", "", "MiB/image", "peak MiB"))
    found, groups = {"about": about, "training": []}, groups_of(chosen)
    wanted = [(title, ways) for title, ways in groups if chosen.only in title]
    if not wanted:
        titles = "\n  ".join(title for title, _ in groups)
        parser.error(f"no title has {chosen.only!r} in it; there are\n  {titles}")
    out = Path(chosen.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for title, ways in wanted:
        found["training"] += compare(title, ways, chosen.device, turns, seconds)
        write_whole(out, json.dumps(found, indent=1).encode())  # so that nothing measured is lost
    if not chosen.only:
        found["by_depth"] = depths(chosen.quick)
        found["feeding"] = feeding(turns)
    if not chosen.only and not chosen.quick:
        found["largest_batch"] = largest_batches()
        found["two_at_once"] = two_at_once(6)
    write_whole(out, json.dumps(found, indent=1).encode())
    print(f"\nwritten to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
