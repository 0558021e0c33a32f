"""The comparison of stored and fresh pictures forgives fonts, and nothing else."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pictures import complaint

from densenet_lib import plots

X = np.arange(20)


def lines(place="upper left", factor=1.0, names=("one", "two")):
    figure = plots.curves({names[0]: (X, factor * X**1.2), names[1]: (X, 30 - X)}, "x", "y")
    figure.axes[0].legend(loc=place)
    return figure


def bars(middle=5.0):
    return plots.bars({"first thing": 3, "second": middle, "third one": 8}, "count")


def outputs(*figures):
    """Return figures as the outputs of a cell."""
    found = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        plt.close(figure)
        found.append({"data": {"image/png": base64.b64encode(buffer.getvalue()).decode()}})
    return found


@pytest.mark.parametrize("draw", [lines, bars])
def test_another_font_is_forgiven(draw):
    with plt.rc_context({"font.family": "DejaVu Serif", "text.antialiased": False}):
        other = outputs(draw())
    assert complaint(outputs(draw()), other) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: lines(), lambda: lines("lower right")),
        (lambda: lines(), lambda: lines(factor=1.1)),
        (lambda: lines(), lambda: lines(names=("one", "a name much longer than two is"))),
        (lambda: bars(), lambda: bars(5.2)),
        (lambda: bars(), lambda: lines()),
    ],
)
def test_another_figure_is_noticed(one, other):
    assert "is not the one that is stored" in complaint(outputs(one()), outputs(other()))


def test_a_missing_figure_is_noticed():
    assert complaint(outputs(bars()), []) == "1 pictures are stored and 0 drawn: make refresh"
    assert complaint([], outputs(bars())) == "0 pictures are stored and 1 drawn: make refresh"
