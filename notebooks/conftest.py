"""How nbval compares the stored outputs of these notebooks with fresh ones."""

import os

from tools.refresh import STORED

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
