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
    "paper.html",
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
    site.main(build, "-W")  # no warning either
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
    if address.startswith("http"):  # files may not read each other: there, titles alone
        offline.locator("#search-results .context", has_text="calibrated").first.wait_for()
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
    offline.wait_for_timeout(500)  # Chromium hands what it keeps to a page's new process later
    offline.goto(f"{book.as_uri()}/{NOTEBOOK}")
    assert offline.evaluate(theme) == "light"  # the choice is kept


FADING = """<!doctype html><html lang="en"><title>A</title>
<main><h1>A</h1><p style="color: #fff; transition: color 1s">A word</p></main>
<script>addEventListener("load", () => {
    const word = document.querySelector("p");
    getComputedStyle(word).color;  // it is drawn once in the first colour
    word.style.color = "END";
})</script>"""


@pytest.mark.parametrize(("end", "faults"), [("#000", 0), ("#eee", 1)])
def test_a_colour_is_judged_where_it_ends(browser, end, faults):
    page = browser.new_page()
    page.set_content(FADING.replace("END", end))
    found = serious(page)
    page.close()
    assert [fault.partition(":")[0] for fault in found] == ["color-contrast"] * faults


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


READ = """() => {
    const prose = document.querySelector("article").cloneNode(true);
    const other = "pre, code, h1, h2, h3, table, summary, a:not([href*='glossary.html#term'])";
    prose.querySelectorAll(other).forEach(one => one.remove());
    const all = (selector, give) => [...document.querySelectorAll(selector)].map(give);
    return {
        prose: prose.textContent,
        terms: all("main a[href*='glossary.html#term']", a => a.hash.slice(1)),
        alts: all("main .cell_output img", image => image.alt),
        folds: all("main details", one => [one.open, one.textContent.includes("### BEGIN")]),
    };
}"""


@pytest.fixture(scope="module")
def chapters(book, browser):
    """What each notebook's page holds, and the notebook itself: {name: (READ, notebook)}."""
    page, found = browser.new_page(), {}
    for path in sorted((site.ROOT / "notebooks").glob("[0-9]*.ipynb")):
        page.goto(f"{book.as_uri()}/notebooks/{path.stem}.html")
        found[path.stem] = page.evaluate(READ), nbformat.read(path, as_version=4)
    page.close()
    return found


def test_figures_keep_their_texts(chapters):
    for name, (page, notebook) in chapters.items():
        outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
        figures = [out for out in outputs if "image/png" in out.get("data", {})]
        assert page["alts"] == [out.metadata["image/png"]["alt"] for out in figures], name


def test_hints_answers_and_solutions_are_folded(chapters):
    for name, (page, notebook) in chapters.items():
        told = sum(cell.source.count("<details>") for cell in notebook.cells)
        solved = sum("### BEGIN SOLUTION" in cell.source for cell in notebook.cells)
        hidden = [solution for is_open, solution in page["folds"] if not is_open]
        assert len(hidden) == len(page["folds"]) == told + solved + 1, name  # and the parameters
        assert sum(hidden) == solved, name


def test_the_first_use_of_each_word_leads_to_the_glossary_and_back(book, chapters, offline):
    offline.goto(f"{book.as_uri()}/glossary.html")
    entries = offline.locator("main dt").evaluate_all(
        "all => all.map(dt => [dt.innerText.replace('#', ''), dt.id,"
        " [...dt.nextElementSibling.querySelectorAll('a')].pop().getAttribute('href')])"
    )
    prose = {name: page["prose"] for name, (page, _) in chapters.items()}
    assert len(entries) > 40
    for word, term, place in sorted(entries, key=lambda entry: -len(entry[0])):
        pattern = re.compile(rf"(?i)\b{re.escape(word)}(e?s)?\b")
        used = [name for name in prose if pattern.search(prose[name])]
        linked = [name for name, (page, _) in chapters.items() if term in page["terms"]]
        assert used == linked, word
        assert place.startswith(f"notebooks/{used[0]}.html#"), word  # where it is met first
        prose = {name: pattern.sub("", text) for name, text in prose.items()}
    for page, _ in chapters.values():  # once a page
        assert len(set(page["terms"])) == len(page["terms"])


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
