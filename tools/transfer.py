"""Measure what transfers to few pictures, for notebook 15: densenet_lib/recorded/transfer.json.

python tools/transfer.py        (about 15 minutes of one idle core; goes on where it stopped)

Draws its own folder of glyphs, larger than the notebook's and without awkward files, and learns
with the notebook's own functions. The test pictures are used by the runs that count, once each.
"""

import argparse
import itertools
import json
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import PIL

from densenet_lib import checkpoints, data
from densenet_lib.data import glyphs
from densenet_lib.training import evaluate

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tools.reuse import definitions  # noqa: E402

NOTEBOOK = ROOT / "notebooks" / "15_your_own_pictures.ipynb"
TO = checkpoints.RECORDED / "transfer.json"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SEEDS = range(5)  # of a run: its pictures, its fresh weights, its order
TRIED = {  # by each way of learning, on held-out training pictures, with a seed of its own
    "frozen": (0.001, 0.01, 0.1),
    "upper half": (0.04, 0.16, 0.64),
    "fine-tuned": (0.04, 0.16, 0.64),
    "from scratch": (0.04, 0.16, 0.64),
}
SIZES = dict.fromkeys(TRIED, (20,)) | {"from scratch": (20, 100)}  # with which it was chosen


def pictures(shipped):
    """Draw the folder; return 1,200 pictures to learn from, 400 to choose by, 800 to test with."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells how many are grey
        folder = Path(place) / "glyphs"
        glyphs.write_folder(folder, FONTS, train=200, test=100, seed=1, awkward=False)
        known = {name: shipped[name] for name in ("mean", "std")}
        parts = ("train", "test")
        whole, test = (replace(data.load_images(folder, p, root=place), **known) for p in parts)
    return *data.split_validation(whole, 400), test


def main():
    """Measure what is missing, run by run; each is written when it is done."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    nb = definitions(NOTEBOOK)
    pool, held_out, test = pictures(nb.SHIPPED)
    found = json.loads(TO.read_text()) if TO.exists() else {"tried": {}, "chosen": {}, "runs": {}}
    if found.get("about", {}).get("data", {}).get("sha256", pool.digest) != pool.digest:
        sys.exit(f"The runs in {TO} are of other pictures: move the file away.")

    def accuracy(way, count, seed, number, judged):
        some = pool.subset(nb.choose(pool.labels, count, seed))
        network = nb.taught(way, some, nb.PASSES[count], seed, number, amp=True)
        return round(100 * evaluate(network, data.Batches(judged, 200)).accuracy, 3)

    def note(kind, name, value):
        print(f"{kind} {name}: {value}", flush=True)
        found[kind][name] = value
        checkpoints.write_whole(TO, (json.dumps(found, indent=0) + "\n").encode())

    found["about"] = {
        "data": {"name": "glyphs", "sha256": pool.digest, "learn": len(pool)},
        "held_out": len(held_out),
        "test": len(test),
        "classes": len(test.classes),
        "passes": nb.PASSES,
        "from": "best-240k",
        "machine": checkpoints.provenance("cpu", amp=True),
        "matplotlib": matplotlib.__version__,
        "pillow": PIL.__version__,
        "command": "python tools/transfer.py",
    }
    for way, numbers in TRIED.items():
        for count, number in itertools.product(SIZES[way], numbers):
            if (name := f"{way}, {count}, {number}") not in found["tried"]:
                note("tried", name, accuracy(way, count, 7, number, held_out))
        for count in nb.PASSES:
            near = max(n for n in SIZES[way] if n <= max(count, SIZES[way][0]))
            best = max(numbers, key=lambda n: found["tried"][f"{way}, {near}, {n}"])  # noqa: B023
            if f"{way}, {count}" not in found["chosen"]:
                note("chosen", f"{way}, {count}", best)
    for seed, way, count in itertools.product(SEEDS, TRIED, nb.PASSES):
        if (name := f"{way}, {count}, {seed}") not in found["runs"]:
            number = found["chosen"][f"{way}, {count}"]
            note("runs", name, accuracy(way, count, seed, number, test))


if __name__ == "__main__":
    main()
