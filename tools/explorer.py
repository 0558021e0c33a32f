"""Put the explorer into a folder: two pages that work offline, from a stick, without a server.

python tools/explorer.py            into build/site/explorer/
python tools/explorer.py FOLDER

The pages are those of book/explorer/. Beside them comes weights.js, written from the checkpoint, so
that no weight is kept twice: a script, because a page that was opened from a file may load nothing
else.
"""

import argparse
import base64
import json
import shutil
from pathlib import Path

from densenet_lib.checkpoints import RECORDED, load_checkpoint, write_whole

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "book/explorer"
NETWORK = "best-240k"  # the one that the notebooks use
KEPT = "classes", "mean", "std", "test"


def build(folder):
    """Write pages and weights into `folder`; return its path."""
    folder = Path(folder)
    shutil.copytree(PAGES, folder, dirs_exist_ok=True)
    text = weights_script(load_checkpoint(RECORDED / f"{NETWORK}.pt"))
    write_whole(folder / "weights.js", text.encode())
    return folder


def weights_script(checkpoint):
    """Return the script that gives a page the weights of a checkpoint, float32 in base64.

    Raises: ValueError for a network that network.js cannot run.
    """
    arguments = checkpoint["network"]
    if arguments.get("stem") not in ("conv", "conv-bn-relu"):
        raise ValueError(f"network.js has no layers for {arguments}: give a DenseNet for 32x32.")
    weights = {
        name: values.float().reshape(-1).numpy().astype("<f4")
        for name, values in checkpoint["state_dict"].items()
        if not name.endswith("num_batches_tracked")
    }
    content = {
        "arguments": arguments,
        **{name: checkpoint[name] for name in KEPT},
        "names": [[name, len(values)] for name, values in weights.items()],
        "numbers": base64.b64encode(b"".join(v.tobytes() for v in weights.values())).decode(),
    }
    return f"const CHECKPOINT = {json.dumps(content)};\n"


def main():
    """Build where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default=ROOT / "build/site/explorer")
    folder = build(parser.parse_args().folder)
    print(f"open {folder / 'explorer.html'}")


if __name__ == "__main__":
    main()
