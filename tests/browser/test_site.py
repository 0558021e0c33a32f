"""The book in a browser with the network off: opened, searched, read by everybody, printed."""

import functools
import http.server
import re
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import nbformat
import pytest
from access import serious, too_wide

from tools import site

NOTEBOOK = "notebooks/02_bottleneck_layer.html"
KINDS = (  # one page of each kind
    "index.html",
    NOTEBOOK,
    "glossary.html",
    "cheat_sheet.html",
    "questions.html",
    "play.html",
    "library.html",
    "library/densenet.html",
    "search.html",
)


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """The folder of the finished book, made once."""
    pytest.importorskip("myst_nb", reason="no Sphinx with MyST-NB: make site")
    build = tmp_path_factory.mktemp("book")
    site.main(build)
    return build / "site"


@pytest.fixture(params=["file", "http"])
def address(request, book):
    """Where the book is opened: as files, from a stick say, and from a server."""
    if request.param == "file":
        yield book.as_uri()
        return
    handler = functools.partial(QuietHandler, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """A server that does not write down each request."""

    def log_message(self, *_):
        pass


class Links(HTMLParser):
    """What a page links to or loads, and the names that one can link to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.names = [], {""}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names.add(found.get("id"))
        key = "href" if tag in ("a", "link") else "src"
        if found.get(key):
            self.targets.append((tag, found[key]))


def dead_links(folder):
    """Yield a sentence for each link of the pages in `folder` that leads nowhere."""
    paths = (path for path in folder.rglob("*.html") if "_static" not in path.parts)
    pages = {path.as_uri(): Links(path) for path in sorted(paths)}
    for page, links in pages.items():
        for tag, target in links.targets:
            where, name = urldefrag(urljoin(page, re.sub(r"\?[^#]*", "", target)))
            if not where.startswith("file:"):
                if tag != "a" and not where.startswith("data:"):
                    yield f"{page}: loads {target} from another host"
            elif where in pages:
                if unquote(name) not in pages[where].names:
                    yield f"{page}: {target} names no place of that page"
            elif not (folder / unquote(where.removeprefix(folder.as_uri() + "/"))).is_file():
                yield f"{page}: {target} is not there"


def test_every_link_leads_somewhere(book):
    assert list(dead_links(book)) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text("<p id=b></p><a href='a.html#b'></a><img src='a.html'>")
    assert list(dead_links(tmp_path)) == []
    (tmp_path / "c.html").write_text(
        "<a href='a.html#c'></a><a href='d.html'></a><script src='https://e.org/f.js'></script>"
    )
    found = " ".join(dead_links(tmp_path))
    assert found.count("c.html: ") == 3 and "names no place" in found and "another host" in found


def test_no_page_asks_for_a_network_or_complains(address, offline, complaints):
    for page in KINDS:
        offline.goto(f"{address}/{page}", wait_until="load")
    assert complaints == []


def test_a_word_is_searched(address, offline, complaints):
    offline.goto(f"{address}/{NOTEBOOK}")
    offline.keyboard.press("Control+K")
    offline.keyboard.type("calibrated")
    offline.keyboard.press("Enter")
    hits = offline.locator("#search-results li a", has_text="Honest evaluation")
    hits.first.wait_for(timeout=30_000)
    hits.first.click()
    assert "07_honest_evaluation" in offline.url
    assert complaints == []


def test_one_goes_on_and_back(book, offline):
    offline.goto(f"{book.as_uri()}/{NOTEBOOK}")
    offline.click("a.right-next")
    assert "03_dense_block" in offline.url
    offline.click("a.left-prev")
    assert offline.url.endswith(NOTEBOOK)
    offline.click("nav a:has-text('Glossary')")
    assert offline.url.endswith("glossary.html")


def test_light_and_dark(book, offline):
    offline.emulate_media(color_scheme="dark")
    offline.goto(f"{book.as_uri()}/index.html")
    theme = "document.documentElement.dataset.theme"
    assert offline.evaluate(theme) == "dark"  # as the system is set
    offline.click(".theme-switch-button")
    offline.click("[data-mode=light].theme-change-button")
    assert offline.evaluate(theme) == "light"
    offline.goto(f"{book.as_uri()}/{NOTEBOOK}")
    assert offline.evaluate(theme) == "light"  # the choice is kept


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(book, offline, scheme):
    offline.emulate_media(color_scheme=scheme)
    for page in KINDS:
        offline.goto(f"{book.as_uri()}/{page}")
        assert serious(offline) == [], page


def test_a_phone_scrolls_no_page_sideways(book, offline):
    offline.set_viewport_size({"width": 390, "height": 844})
    for page in KINDS:
        offline.goto(f"{book.as_uri()}/{page}")
        assert not too_wide(offline), page


def test_figures_keep_their_texts_and_solutions_are_folded(book, offline):
    for path in sorted((site.ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        offline.goto(f"{book.as_uri()}/notebooks/{path.stem}.html")
        outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
        alts = [
            out.metadata["image/png"]["alt"]
            for out in outputs
            if "image/png" in out.get("data", {})
        ]
        images = offline.locator("main .cell_output img")
        assert images.evaluate_all("all => all.map(one => one.alt)") == alts
        solutions = sum("### BEGIN SOLUTION" in cell.source for cell in notebook.cells)
        folded = offline.locator("main details:not([open])")
        assert folded.filter(has_text="### BEGIN SOLUTION").count() == solutions
        assert offline.locator("main details[open]").count() == 0
        told = sum(cell.source.count("<details>") for cell in notebook.cells)
        assert folded.count() == told + solutions + 1  # and the parameters
        assert not offline.get_by_text("### BEGIN SOLUTION").first.is_visible()


def test_questions_are_all_there(book, offline):
    offline.goto(f"{book.as_uri()}/questions.html")
    notebooks = [nbformat.read(path, 4) for path in (site.ROOT / "notebooks").glob("[0-9]*.ipynb")]
    asked = sum(n.cells[-1].source.count("<summary>") for n in notebooks)
    assert offline.locator("main details:not([open])").count() == asked > 40


def test_the_keyboard_is_enough(book, offline):
    offline.goto(f"{book.as_uri()}/{NOTEBOOK}")
    reached = []
    for _ in range(60):
        offline.keyboard.press("Tab")
        reached.append(
            offline.evaluate(
                "[document.activeElement.className, document.activeElement.innerText,"
                " document.activeElement.closest('main') !== null].join(' ')"
            )
        )
    everything = "\n".join(reached)
    assert "Skip to main content" in reached[0]
    assert all(word in everything for word in ("search-button", "Glossary", "theme-switch", "true"))
    offline.goto(f"{book.as_uri()}/{NOTEBOOK}")
    summary = offline.locator("main summary").last
    summary.focus()
    offline.keyboard.press("Enter")
    assert offline.locator("main details[open]").count() == 1


def pages_on_paper(page, path):
    """Print a page on A4 and return how many sheets it takes."""
    page.pdf(path=path, format="A4")
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def test_on_paper(book, offline, tmp_path):
    offline.goto(f"{book.as_uri()}/cheat_sheet.html")
    assert pages_on_paper(offline, tmp_path / "sheet.pdf") == 1
    offline.goto(f"{book.as_uri()}/{NOTEBOOK}")
    assert pages_on_paper(offline, tmp_path / "notebook.pdf") > 5
    offline.emulate_media(media="print")
    for aside in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article"):
        assert not offline.locator(aside).first.is_visible()
    assert offline.locator("main h1:visible").count() == 1
