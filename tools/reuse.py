"""Measure feature reuse in small networks, for notebook 11: densenet_lib/recorded/reuse.json.

python tools/reuse.py --data "data/CIFAR-10, JPEG copy"

Trains on training pictures alone, by both recipes, and measures with the notebook's own functions.
Seeds 3 to 5 are for a question that came up when seeds 0 to 2 had been looked at.
"""

import argparse
import ast
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat

from densenet_lib import checkpoints, data

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "11_feature_reuse.ipynb"
TO = checkpoints.RECORDED / "reuse.json"


def definitions(notebook):
    """Run a notebook's imports, functions and constants, and nothing else; return the names."""
    names = {"lesson": SimpleNamespace(device="cpu")}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for node in ast.parse(cell.source).body if cell.cell_type == "code" else ():
            constant = isinstance(node, ast.Assign) and ast.unparse(node.targets[0])[0].isupper()
            if constant or isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), str(notebook), "exec"), names)
    return SimpleNamespace(**names)


def main():
    """Measure what is missing, one network after the other; each is written when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a source, or a folder, as for `train`")
    pictures = data.load_images(parser.parse_args().data, "train", limit=10_000)
    nb = definitions(NOTEBOOK)
    fit, measured, judged = nb.three_parts(pictures, most=2000)
    some, others, known = map(nb.tensors, (measured, judged, nb.sample(fit, 1000)))
    about = {"data": {"name": pictures.name, "sha256": pictures.digest}, "fit": len(fit)}
    about |= {"measured": len(measured), "judged": len(judged), "epochs": 2, "batch_size": 25}
    about |= {
        "machine": checkpoints.provenance("cpu"),
        "command": "python tools/reuse.py --data DATA",
    }
    found = json.loads(TO.read_text()) if TO.exists() else {"about": about}
    if found["about"]["data"]["sha256"] != pictures.digest:
        sys.exit(f"The runs in {TO} are of other pictures: move the file away.")
    first = itertools.product(("untrained", *nb.SETTINGS), range(3))
    later = itertools.product((f"later {recipe}" for recipe in nb.SETTINGS), range(3, 6))
    for kind, seed in (*first, *later):
        if (name := f"{kind}-{seed}") in found:
            continue
        recipe = kind.removeprefix("later ")
        trained = recipe != "untrained"
        model = nb.trained(recipe, seed, fit, 2) if trained else nb.build(seed).eval()
        run = {"accuracy": nb.accuracy(model, *others), **nb.measure(model, *some)}
        if trained:
            run["removed"] = nb.curves_of(model, run, others, known[0], seed)
        print(f"{name}: {run['accuracy']:.1f} % right", flush=True)
        found[name] = json.loads(json.dumps(run), parse_float=lambda n: float(f"{float(n):.4g}"))
        checkpoints.write_whole(TO, (json.dumps(found) + "\n").encode())


if __name__ == "__main__":
    main()
