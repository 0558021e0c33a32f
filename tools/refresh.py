"""Execute the notebooks and store them with their outputs, in normal form.

python tools/refresh.py --only 02    (--normalise: store in normal form without executing)
"""

import argparse
import base64
import io
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SETTINGS = {"PROFILE": "quick", "DATA": "shapes", "DEVICE": "cpu", "SEED": "0"}  # of the outputs
STORED = {f"DENSENET_{name}": value for name, value in SETTINGS.items()}
SOLUTION = "### BEGIN SOLUTION"


def normalise(text):
    """Return a notebook's text in normal form.

    It lacks what changes by chance, timing, versions, cuts in streams; and solutions are folded.
    """
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("slideshow", "tags") and v}
        if cell.cell_type == "code" and SOLUTION in cell.source:  # JupyterLab shows three dots
            cell.metadata["jupyter"] = {"source_hidden": True}
        pieces, whole = cell.get("outputs", []), []
        for piece in pieces:
            if whole and piece.output_type == "stream" and whole[-1].get("name") == piece.name:
                whole[-1].text += piece.text
            else:
                whole.append(piece)
        pieces[:] = whole
        for piece in whole:
            if "image/png" in piece.get("data", {}):
                piece.data["image/png"] = smaller(piece.data["image/png"])
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def smaller(png):
    """Return a PNG (base64) with a palette of 256 colours, if it is a drawing, not a picture."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P" or image.convert("RGB").getcolors(maxcolors=4096) is None:
        return png
    buffer = io.BytesIO()
    image.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def execute(text, folder):
    """Return a notebook's text with the outputs of its cells, run in `folder`."""
    notebook = nbformat.reads(text, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    quiet = {"extra_arguments": ["--log-level=ERROR"]}  # but for a warning that every kernel gives
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where, **quiet).execute()
    return nbformat.writes(notebook)


def main(arguments=None):
    """Refresh the chosen notebooks and return the exit code; one that fails stays as it was."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="NN", help="names begin so")
    parser.add_argument("--normalise", action="store_true", help="do not execute")
    chosen = parser.parse_args(arguments)
    only = tuple(chosen.only)
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name.startswith(only)]
    if not paths:
        parser.error(f"no notebook begins with {' or '.join(only)}")
    os.environ.update(STORED)
    failed = 0
    for path in paths:
        text = path.read_text("utf-8")
        try:
            new = normalise(text if chosen.normalise else execute(text, path.parent))
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed += 1
            print(f"{path.name} stays as it was, because it failed: {error}")
            continue
        beside = path.with_suffix(".tmp")
        beside.write_bytes(new.encode())
        os.replace(beside, path)
        print(f"{path.name}: {'unchanged' if new == text else 'stored'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
