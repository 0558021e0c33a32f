"""Is a stored picture still what its cell draws? Used while nbval runs, see notebooks/conftest.py.

Both are shrunk to a few grey fields. Another font or smoother edges change each field a little; a
moved legend, other data or a missing line change some fields much.
"""

import base64
import io

import numpy as np
from PIL import Image

FIELDS = 24  # across
TOLERANCE = 0.011  # root of the mean squared difference of grey, 0 to 1; see test_pictures.py
GROWTH = 0.05  # of width or height, which other fonts may change


def complaint(stored, fresh):
    """Compare the pictures of two lists of outputs; return a sentence, or None if they agree."""
    ours, theirs = pictures(stored), pictures(fresh)
    if len(ours) != len(theirs):
        return f"{len(ours)} pictures are stored and {len(theirs)} drawn: make refresh"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        if found := difference(one, other):
            return f"picture {number} is not the one that is stored ({found}): make refresh"
    return None


def pictures(outputs):
    """Return the PNG pictures of a cell's outputs."""
    texts = [output.get("data", {}).get("image/png") for output in outputs]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts if text]


def difference(one, other):
    """Say how two pictures differ, or nothing if they do not, but for fonts and smooth edges."""
    for side, a, b in zip(("width", "height"), one.size, other.size, strict=True):
        if abs(a - b) > GROWTH * a:
            return f"{side} {b} pixels, not {a}"
    rows = max(4, round(FIELDS * one.height / one.width))
    grey = [
        np.asarray(picture.convert("L").resize((FIELDS, rows), Image.Resampling.BOX)) / 255
        for picture in (one, other)
    ]
    distance = np.sqrt(np.mean((grey[0] - grey[1]) ** 2))
    return f"difference {distance:.3f}" if distance > TOLERANCE else ""
