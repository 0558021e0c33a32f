"""Every slide of every deck fits, at two sizes of screen, offline; notes and print work.

A deck is loaded once and judged in the page itself.
"""

import re

import nbformat
import pytest

from tools import slides

if slides.importlib.util.find_spec("sphinx_revealjs") is None:
    pytest.skip("no reveal.js: make slides", allow_module_level=True)

NOTEBOOKS = sorted((slides.ROOT / "notebooks").glob("[0-9]*.ipynb"))
DECKS = [p for p in NOTEBOOKS if slides.gather(nbformat.read(p, as_version=4).cells)]
SIZES = ((1280, 720), (1920, 1080))
FAULTS = """() => Reveal.getSlides().map((slide, number) => {
  Reveal.slide(number);
  slide.querySelectorAll(".fragment").forEach(part => part.classList.add("visible"));
  const faults = [], screen = slide.getBoundingClientRect(), box = slide.firstElementChild;
  const scale = Reveal.getScale();
  if (screen.left < -1 || screen.top < -1 || screen.right > innerWidth + 1
      || screen.bottom > innerHeight + 1) faults.push("the slide leaves the screen");
  for (const part of [box, ...box.querySelectorAll("*")]) {
    const place = part.getBoundingClientRect();
    if (place.right > screen.right + 1 || place.bottom > screen.bottom + 1
        || part.scrollWidth > part.clientWidth + 1 && part.clientWidth)
      faults.push(`${part.tagName} does not fit`);
  }
  if (box.scrollHeight > box.clientHeight + 1) faults.push("too high");
  for (const image of slide.querySelectorAll("img")) {
    if (!image.alt.trim()) faults.push("a figure without alt text");
    if (!image.naturalWidth || image.clientHeight < 150) faults.push("a figure too small to see");
  }
  for (const text of slide.querySelectorAll("p, li, h1, h2, .cell pre"))
    if (!text.closest("aside") && parseFloat(getComputedStyle(text).fontSize) < 14)
      faults.push(`${text.tagName} in ${getComputedStyle(text).fontSize}`);
  if (!box.innerText.trim()) faults.push("empty");
  return faults.length ? `${number + 1} (${slide.dataset.cells}): ${[...new Set(faults)]}` : null;
}).filter(found => found)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The decks, written into a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slides, "SLIDES", tmp_path_factory.mktemp("slides"))
        assert slides.main() == 0
        yield slides.SLIDES


def show(page, path, query=""):
    """Open a deck and wait until reveal.js has laid it out."""
    page.goto(f"{path.as_uri()}{query}")
    page.wait_for_function("window.Reveal && Reveal.isReady()")


@pytest.mark.parametrize("notebook", DECKS, ids=lambda path: path.stem[:2])
def test_every_slide_fits(notebook, folder, offline, complaints):
    for width, height in SIZES:
        offline.set_viewport_size({"width": width, "height": height})
        if width == SIZES[0][0]:
            show(offline, folder / f"{notebook.stem}.html")
        offline.wait_for_function(f"Math.abs(Reveal.getScale() - {width / 1280}) < 0.01")
        assert offline.evaluate(FAULTS) == []
    count = offline.evaluate("Reveal.getTotalSlides()")
    assert 8 <= count <= 22
    title = offline.evaluate("Reveal.getSlides()[0].querySelector('h1').innerText")
    assert re.match(rf"{notebook.stem[:2]} · \w", title)
    show(offline, folder / f"{notebook.stem}.html", "?print-pdf")
    offline.wait_for_function(f"document.querySelectorAll('.pdf-page').length == {count}")
    assert complaints == []


def test_it_prints_a_page_for_each_slide(folder, offline):
    show(offline, folder / f"{DECKS[3].stem}.html", "?print-pdf")
    offline.wait_for_selector(".pdf-page")
    count = offline.locator(".pdf-page").count()
    printed = offline.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == count


def test_the_speaker_sees_notes_in_a_window_of_its_own(folder, offline, complaints):
    show(offline, folder / f"{DECKS[0].stem}.html")
    with offline.expect_popup() as opened:
        offline.keyboard.press("s")
    notes = opened.value
    notes.wait_for_selector(".speaker-controls-notes .value >> text=On the board")
    assert complaints == []


def test_every_deck_is_on_the_first_page(folder, offline, complaints):
    offline.goto((folder / "index.html").as_uri())
    links = offline.eval_on_selector_all("li > a:first-child", "all => all.map(a => a.href)")
    assert links == [(folder / f"{path.stem}.html").as_uri() for path in DECKS]
    assert complaints == []


PLANTED = {
    "too high": "<pre>" + "line\n" * 40 + "</pre>",
    "PRE does not fit": "<pre>" + "x" * 150 + "</pre>",
    "without alt text": '<img src="data:image/png;base64,AA==" alt="">',
    "in 9px": '<p style="font-size: 9px">small print</p>',
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault, folder, offline):
    page = (folder / f"{DECKS[0].stem}.html").read_text("utf-8")
    planted = f'<section data-cells="planted"><div class="shows">{PLANTED[fault]}</div></section>'
    path = folder / "planted.html"
    path.write_text(page.replace('<div class="slides">', f'<div class="slides">{planted}'), "utf-8")
    offline.set_viewport_size({"width": 1280, "height": 720})
    show(offline, path)
    found = offline.evaluate(FAULTS)
    assert len(found) == 1 and "planted" in found[0] and fault in found[0]


def test_a_request_of_a_deck_is_noticed(folder, offline, complaints):
    page = (folder / f"{DECKS[0].stem}.html").read_text("utf-8")
    asking = page.replace("</body>", '<img src="https://example.org/a.png"></body>')
    (folder / "asking.html").write_text(asking, "utf-8")
    with offline.expect_event("requestfailed"):
        show(offline, folder / "asking.html")
    assert any("example.org" in complaint for complaint in complaints)
