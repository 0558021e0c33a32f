"""Make the runs that the notebooks show: train what is missing, resume what was stopped, collect.

python tools/reference_runs.py --data "data/CIFAR-10, JPEG copy"            those for two CPU cores
python tools/reference_runs.py --data cifar10 --device cuda --minutes 60    those for a GPU

Runs live in build/reference/NAME. Of those that are complete, the settings and the log go to
densenet_lib/recorded/NAME.json; of some also the answers on the test images (NAME.answers.pt), and
of some of these the checkpoint (NAME.pt) and the answers when the mirror image of each picture
counts too (NAME.mirrored.answers.pt). Stopped (Ctrl-C, --minutes), all is saved; the same command
goes on.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from densenet_lib.checkpoints import write_whole

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "reference"
RECORDED = ROOT / "densenet_lib" / "recorded"
SEEDS = (0, 1, 2)
MORE_SEEDS = (*SEEDS, 3, 4)  # of the small networks that notebooks 08 and 09 compare
LARGEST = 1_500_000  # bytes of a checkpoint that is kept in the repository


@dataclass(frozen=True)
class Reference:
    """One run: the options of `train`, and what of it is kept beside the log."""

    options: str
    processes: int = 1
    device: str = "cpu"
    keep_checkpoint: bool = False
    keep_answers: bool = False


def _net(growth_rate, *blocks, bottleneck=True, compression=0.5, **more):
    """Return the option for a network with the paper's stem: 2k maps from a bare convolution."""
    return {
        "growth_rate": growth_rate,
        "block_config": blocks,
        "num_init_features": 2 * growth_rate,
        "bn_size": 4 if bottleneck else None,
        "compression": compression,
        "stem": "conv",
        **more,
    }


ABLATIONS = {  # of notebook 08: name -> arguments of DenseNet
    "basic-8-4": _net(8, 4, 4, 4, bottleneck=False, compression=1.0),
    "b-8-4": _net(8, 4, 4, 4, compression=1.0),
    "c-8-566": _net(8, 5, 6, 6, bottleneck=False),
    "bc-8-5": _net(8, 5, 5, 5),
    "b-8-344": _net(8, 3, 4, 4, compression=1.0),
    "c-8-5": _net(8, 5, 5, 5, bottleneck=False),
    "bc-8-4": _net(8, 4, 4, 4),
    "bc-4-12": _net(4, 12, 12, 12),
    "bc-12-233": _net(12, 2, 3, 3),
    "bc-20-1": _net(20, 1, 1, 1),
}
# Dense against residual, for notebook 09. Beside one dense network stand three residual ones, equal
# to it in parameters, in MACs and, roughly, in seconds; and a small dense one that keeps as many
# bytes while training as the second of them.
RIVALS = {
    "dense": _net(12, 2, 3, 4),
    "dense-bytes": _net(8, 1, 2, 6),
    "residual-parameters": {"kind": "residual", "block_config": (3, 3, 3), "widths": (8, 16, 32)},
    "residual-macs": {"kind": "residual", "block_config": (3, 3, 3), "widths": (12, 24, 48)},
    "residual-seconds": {"kind": "residual", "block_config": (3, 3, 3), "widths": (16, 32, 64)},
}
# The same roles with two to four times the work.
LARGE_RIVALS = {
    "dense": _net(16, 4, 5, 5),
    "dense-bytes": _net(8, 2, 4, 8),
    "residual-parameters": {"kind": "residual", "block_config": (5, 5, 5), "widths": (11, 22, 44)},
    "residual-macs": {"kind": "residual", "block_config": (3, 3, 3), "widths": (23, 46, 92)},
    "residual-seconds": {"kind": "residual", "block_config": (3, 3, 3), "widths": (30, 60, 120)},
}
RIVAL_RECIPES = {  # name -> settings, and the learning rates that were tried for each kind
    "fast": (
        {
            "schedule": "one-cycle",
            "nesterov": True,
            "muon": True,
            "weight_decay": 5e-4,
            "label_smoothing": 0.1,
        },
        (0.04, 0.08, 0.16, 0.32, 0.64),
    ),
    "sgd": ({"schedule": "steps", "nesterov": True}, (0.05, 0.1, 0.2, 0.4)),
}
TRIED = ("dense", "residual-macs")  # the network of each kind on which its rate was chosen
TRY_SEED = 100  # not one of those that are compared
CHOSEN = {  # for each kind the best of the rates tried
    "fast": {"dense": 0.32, "residual": 0.32},
    "sgd": {"dense": 0.2, "residual": 0.1},
}


def _kind(net):
    return net.get("kind", "dense")


def _rival(net, recipe, rate, seed):
    """Return a run of notebook 09, on the photographs of notebook 08."""
    settings = {"learning_rate": rate, **RIVAL_RECIPES[recipe][0]}
    return Reference(
        f"--net '{json.dumps(net)}' --recipe '{json.dumps(settings)}' --epochs 1 "
        f"--limit 25000 --validation 5000 --seed {seed} --channels-last"
    )


# The best within 240,000 parameters and two hours of two cores: most layers where the maps are
# small and cheap. Settings chosen on 5,000 held-out photographs: see recorded/README.md.
BEST = {
    "growth_rate": 16,
    "block_config": (2, 5, 8),
    "num_init_features": 32,
}
BEST_RECIPE = {
    "learning_rate": 0.06,
    "schedule": "one-cycle",
    "nesterov": True,
    "muon": True,
    "weight_decay": 5e-4,
    "augment": True,
    "epochs": 32,
}
# What fits into two hours. Softer labels, as `fast` has them, are the one change: no search.
LONG_RECIPE = {**BEST_RECIPE, "label_smoothing": 0.1, "epochs": 60}
# As long again, with what that one lacked: a square hidden in each picture, and half of the rate,
# since it stood still while its rate was highest.
CUTOUT_RECIPE = {**LONG_RECIPE, "learning_rate": 0.03, "cutout": 10}
# The same at the rate that short trials had preferred: the one change.
FASTER_RECIPE = {**CUTOUT_RECIPE, "learning_rate": 0.06}
# Twice that rate, which short trials preferred once more, and more passes: two changes.
BOLDER_RECIPE = {**FASTER_RECIPE, "learning_rate": 0.12, "epochs": 80}
# Few and wide layers without bottlenecks, for the work that a processor does fast. Chosen by how
# soon it learns, which does not tell how far: it ended where the smaller one had.
WIDE = {
    "growth_rate": 64,
    "block_config": (1, 2, 3),
    "num_init_features": 64,
    "bn_size": None,
}
WIDE_RECIPE = {
    **BEST_RECIPE,
    "learning_rate": 0.08,
    "label_smoothing": 0.1,
    "plain_epochs": 1,
    "epochs": 22,
}
# Without a limit on parameters: a fourth block, whose maps of 4x4 pixels cost next to nothing.
FOUR_BLOCKS = {
    "growth_rate": 48,
    "block_config": (1, 4, 6, 6),
    "num_init_features": 32,
    "bn_size": None,
    "stem": "conv",
}
FOUR_BLOCKS_RECIPE = {
    **BEST_RECIPE,
    "learning_rate": 0.14,
    "label_smoothing": 0.1,
    "batch_size": 256,
    "cutout": 8,
    "epochs": 40,
}
RUNS = {
    "four-blocks": Reference(
        f"--net '{json.dumps(FOUR_BLOCKS)}' --recipe '{json.dumps(FOUR_BLOCKS_RECIPE)}' --amp "
        "--channels-last",
        processes=2,
        keep_answers=True,
    ),
    **{
        f"{name}-240k": Reference(
            f"--net '{json.dumps(BEST)}' --recipe '{json.dumps(recipe)}' --amp --channels-last",
            processes=2,
            keep_checkpoint=True,
            keep_answers=True,
        )
        for name, recipe in {
            "best": BEST_RECIPE,
            "long": LONG_RECIPE,  # nearly twice the passes, which notebook 14 has foretold
            "cutout": CUTOUT_RECIPE,
            "faster": FASTER_RECIPE,
            "bolder": BOLDER_RECIPE,
        }.items()
    },
    "wide-458k": Reference(
        f"--net '{json.dumps(WIDE)}' --recipe '{json.dumps(WIDE_RECIPE)}' --amp --channels-last",
        keep_answers=True,
    ),
    **{  # the network and the recipe of the best, in fewer passes: for notebook 14
        f"passes-{epochs}": Reference(
            f"--net '{json.dumps(BEST)}' --recipe '{json.dumps(BEST_RECIPE)}' "
            f"--epochs {epochs} --amp --channels-last"
        )
        for epochs in (1, 2, 4)
    },
    **{
        f"{recipe}-recipe-seed{seed}": Reference(
            f"--net origin --recipe {recipe} --epochs 1 --seed {seed} --amp",
            keep_checkpoint=recipe == "fast" and seed == 0,
            keep_answers=True,
        )
        for seed in SEEDS
        for recipe in ("origin", "fast")
    },
    **{
        f"ablation-{name}-seed{seed}": Reference(
            f"--net '{json.dumps(net)}' --recipe fast --epochs 1 --limit 25000 --validation 5000 "
            f"--seed {seed} --channels-last"
        )
        for seed in MORE_SEEDS
        for name, net in ABLATIONS.items()
    },
    **{
        f"rivals-{recipe}-{name}-rate{rate}": _rival(RIVALS[name], recipe, rate, TRY_SEED)
        for recipe, (_, rates) in RIVAL_RECIPES.items()
        for rate in rates
        for name in TRIED
    },
    **{
        f"rivals-{recipe}-{name}-seed{seed}": _rival(net, recipe, rates[_kind(net)], seed)
        for recipe, rates in CHOSEN.items()
        for seed in MORE_SEEDS
        for name, net in RIVALS.items()
    },
    **{  # by `fast` alone, at the rates that were chosen for the small ones
        f"large-rivals-fast-{name}-seed{seed}": _rival(
            net, "fast", CHOSEN["fast"][_kind(net)], seed
        )
        for seed in MORE_SEEDS
        for name, net in LARGE_RIVALS.items()
    },
    **{
        f"{net}-{recipe}-seed{seed}": Reference(
            f"--net {net} --recipe {recipe} {passes}--seed {seed} --amp --compile --channels-last",
            device="cuda",
        )
        for net, recipe, passes, seeds in (  # the short runs first
            ("bc-100-12", "fast", "--epochs 60 ", SEEDS),
            ("bc-40-48", "fast", "--epochs 60 ", SEEDS),
            ("bc-100-12", "paper", "", (0,)),
        )
        for seed in seeds
    },
}


class Queue:
    """Runs under way, which a signal or the end of the time given stops in good order."""

    def __init__(self, data, device, jobs):
        self.data, self.device, self.jobs = data, device, jobs
        self.stopping, self.running = threading.Event(), []

    def command(self, name):
        """Return the command of a run as a list."""
        run = RUNS[name]
        launcher = ["-m"]
        if run.processes > 1:
            count = f"--nproc-per-node={run.processes}"
            launcher = ["-m", "torch.distributed.run", "--standalone", count, "-m"]
        where = ["--data", self.data, "--device", self.device, "--out", str(BUILD / name)]
        return [*launcher, "densenet_lib", "train", *shlex.split(run.options), *where, "--resume"]

    def train(self, name):
        """Train one run to its end, or to the moment when everything stops; return the code."""
        if self.stopping.is_set():
            return -1
        (BUILD / name).mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // max(self.jobs, RUNS[name].processes))
        env = {"OMP_NUM_THREADS": str(threads), **os.environ}
        began = time.monotonic()
        with open(BUILD / name / "log.txt", "a") as log:
            process = subprocess.Popen(
                [sys.executable, *self.command(name)],
                **{"cwd": ROOT, "env": env, "stdout": log, "stderr": log},
                start_new_session=True,  # a Ctrl-C reaches it through `stop` alone
            )
            self.running.append(process)
            if self.stopping.is_set():  # since we looked
                process.terminate()
            code = process.wait()
            self.running.remove(process)
        verdict = "complete" if code == 0 else "stopped" if self.stopping.is_set() else "FAILED"
        print(f"{name:28} {verdict:9} {time.monotonic() - began:6.0f} s", flush=True)
        return code

    def stop(self, *_):
        """Ask all that runs to save and end; a second time, kill it."""
        for process in list(self.running):
            if self.stopping.is_set():
                _kill(process.pid)
            else:
                process.terminate()
        self.stopping.set()


def _kill(pid):
    """Kill a process and its group, then its children's: torchrun's workers have their own.

    In this order, or it might see its workers die and end by itself, as if all were well.
    """
    lists = Path(f"/proc/{pid}/task").glob("*/children")  # on Linux
    children = [int(child) for path in lists for child in path.read_text().split()]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for child in children:
        _kill(child)


def collect(name, data):
    """Copy what is kept of a complete run to densenet_lib/recorded/, unless it is there already."""
    source, run = BUILD / name, RUNS[name]
    found = json.loads((source / "run.json").read_text("utf-8"))
    options = f"train {run.options} --data DATA --out DIR"
    launcher = f"torchrun --nproc-per-node={run.processes}" if run.processes > 1 else "python"
    found["command"] = f"{launcher} -m densenet_lib {options}"
    log, text = RECORDED / f"{name}.json", json.dumps(found, indent=1) + "\n"
    if log.exists() and log.read_text("utf-8") == text:
        return
    RECORDED.mkdir(exist_ok=True)
    checkpoint = source / "checkpoint.pt"
    if run.keep_checkpoint and checkpoint.stat().st_size <= LARGEST:
        write_whole(RECORDED / f"{name}.pt", checkpoint.read_bytes())
    ways = {"answers": []} if run.keep_answers else {}
    if ways and run.keep_checkpoint:
        ways["mirrored.answers"] = ["--mirror"]
    for way, options in ways.items():
        command = ["evaluate", str(checkpoint), "--data", data, *options]
        command += ["--answers", str(RECORDED / f"{name}.{way}.pt")]
        subprocess.run([sys.executable, "-m", "densenet_lib", *command], cwd=ROOT, check=True)
    write_whole(log, text.encode())  # last: it says that the rest is there


def is_complete(name):
    """Say whether a run has trained to its end (then its checkpoint has nothing to resume)."""
    path = BUILD / name / "run.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text("utf-8"))
    return len(found["log"]) == found["epochs"]


def main():
    """Train and collect what was asked for; 1 if anything failed, 0 also if time ran out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="cifar10", help="cifar10 (default), or a folder with train/ and test/"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="runs, or beginnings of names")
    parser.add_argument("--minutes", type=float, help="then save, and leave the rest for next time")
    parser.add_argument("--jobs", type=int, help="runs at once; default: two, on a GPU one")
    parser.add_argument("--list", action="store_true", help="only list the runs and their state")
    chosen = parser.parse_args()
    names = [name for name, run in RUNS.items() if run.device == chosen.device or chosen.only]
    if chosen.only:
        names = [name for name in names if name.startswith(tuple(chosen.only))]
    if not names:
        parser.error(f"no run begins with {' or '.join(chosen.only)}: there are {', '.join(RUNS)}")
    if chosen.list:
        for name in names:
            state = "complete" if is_complete(name) else "to do"
            print(f"{name:28} {state:9} {RUNS[name].options}")
        return 0

    jobs = chosen.jobs or (1 if chosen.device == "cuda" else min(2, os.cpu_count() or 1))
    queue = Queue(chosen.data, chosen.device, jobs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, queue.stop)
    if chosen.minutes:
        timer = threading.Timer(60 * chosen.minutes, queue.stop)
        timer.daemon = True
        timer.start()
    todo = [name for name in names if not is_complete(name)]
    alone = [name for name in todo if RUNS[name].processes > 1]
    codes = [queue.train(name) for name in alone]
    with ThreadPoolExecutor(jobs) as pool:
        codes += pool.map(queue.train, [name for name in todo if name not in alone])
    for name in names:
        if is_complete(name):
            collect(name, chosen.data)
    return int(any(codes) and not queue.stopping.is_set())


if __name__ == "__main__":
    sys.exit(main())
