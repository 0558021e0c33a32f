"""How nbval compares the stored outputs of these notebooks with fresh ones."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from pictures import complaint  # noqa: E402

from tools.refresh import STORED  # noqa: E402

CELL_TIMEOUT = 600  # seconds; nbval notices a dead kernel only then


def pytest_configure(config):
    """Run the cells under the settings of the stored outputs, unless told otherwise."""
    config.option.nbval_cell_timeout = CELL_TIMEOUT
    for name, value in STORED.items():
        os.environ.setdefault(name, value)


def pytest_collectstart(collector):
    """Leave out of the comparison what differs between machines and versions."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html", "image/svg+xml")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After a cell has run and its texts agree, compare its pictures too."""
    result = yield
    stored = getattr(getattr(item, "cell", None), "outputs", None)
    exempt = {"figure-varies", "nbval-ignore-output"}  # drawn from what differs between machines
    if stored is not None and not exempt & set(item.cell.metadata.get("tags", [])):
        if found := complaint(stored, item.test_outputs or []):
            pytest.fail(found, pytrace=False)
    return result
