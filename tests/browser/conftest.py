"""A real browser for these tests: the Chromium that is installed, driven by Playwright.

Where there is none, or no Playwright (`make test-browser` installs it), every test here is skipped
and says so. An `offline` page can reach no network at all: what it lacks then, it asked others for.
"""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (  # a root user needs the first; the others keep Chromium from calling home
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a window, one for all tests."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: make test-browser"
    )
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser here: install one of {', '.join(NAMES)}")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=path, args=list(QUIET))
        yield chromium
        chromium.close()


class Complaints(list):
    """What a page complained of: errors in its console, uncaught errors, requests that failed."""

    def watch(self, page):
        """Write down from now on what `page` complains of."""
        page.on("console", lambda message: message.type == "error" and self.append(message.text))
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("requestfailed", self.request)
        return page

    def request(self, failed):
        """Write down a request that failed, not one that was given up for the next page."""
        if failed.failure != "net::ERR_ABORTED":
            self.append(f"failed: {failed.url}")


@pytest.fixture
def complaints():
    """A list that fills itself: see Complaints."""
    return Complaints()


@pytest.fixture
def offline(browser, complaints):
    """A page with the network off, watched; files and this machine's own ports can be opened."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    local = ("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost")
    context.route(
        lambda url: not url.startswith(local), lambda route: route.abort("internetdisconnected")
    )
    yield complaints.watch(context.new_page())
    context.close()
