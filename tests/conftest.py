"""For all tests: what the reader has on this machine stays out of them."""

import pytest

SLOW = {"contest", "graded", "launched", "series", "two_runs"}  # fixtures of over ten seconds


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what waits for such a fixture."""
    for item in items:
        if SLOW.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory):
    """Keep the reader's data and proxy out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENSENET_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield
