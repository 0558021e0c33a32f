"""Turn the notebooks into slides, in build/slides/: a deck for each, shown offline by reveal.js.

Which cells are on slides stands in the notebooks, where JupyterLab's property inspector puts it:
the type `slide` begins a slide and `fragment` goes on with it. All other code is left out, and all
other prose up to it becomes the speaker's notes. A slide shows little: of long prose its first
sentence, what is bold, and the question; of code that draws, the figure; and a fragment's output
waits for a click, so that the class can predict it. What a slide leaves out is in its notes.
"""

import argparse
import html
import importlib.util
import math
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parents[1]
SLIDES = ROOT / "build" / "slides"
ASSETS = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js", "LICENSE")
IMAGES = ("image/png", "image/jpeg")
WORDS = {True: 55, False: 110}  # of prose on one slide, beside code or a figure and alone
FEW = 12  # words say too little: then one long sentence more is shown
LINES = 17  # of code and output together on one slide
SENTENCE = re.compile(r"(?<=[a-z0-9)*`\"'][.?!])\s+(?=[A-Z*`\"(0-9])|(?<=\*[.?!])\s+")
LIST = re.compile(r"(?m)^(?:[-*]|\d+\.) ")  # cannot be cut by sentences
LINK = re.compile(r'(href="[^":#]*)\.ipynb\b')  # to a neighbour, not to another site
DECK = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="reveal/dist/reset.css">
<link rel="stylesheet" href="reveal/dist/reveal.css">
<link rel="stylesheet" href="slides.css">
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/dist/reveal.js"></script>
<script src="reveal/plugin/notes/notes.js"></script>
<script>
Reveal.initialize({{ width: 1280, height: 720, margin: 0, center: false, hash: true,
  slideNumber: "c/t", transition: "none", pdfSeparateFragments: false, plugins: [RevealNotes] }});
</script>
</body>
</html>
"""
INDEX = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DenseNet, block by block: slides</title>
<link rel="stylesheet" href="slides.css">
</head>
<body class="index">
<main>
<h1>DenseNet, block by block: slides</h1>
<p>Space goes on, <kbd>S</kbd> opens the speaker's notes, <kbd>F</kbd> fills the screen,
<kbd>Esc</kbd> shows all slides. To print, open <em>print</em> and let the browser print it.</p>
<ol>
{rows}
</ol>
</main>
</body>
</html>
"""

markdown = MarkdownWithMath(renderer=IPythonRenderer(escape=False, exclude_anchor_links=True))
highlight = Highlight2HTML(pygments_lexer="python")


def slide_type(cell):
    """Return "slide", "fragment", another type, or an empty text."""
    return cell.metadata.get("slideshow", {}).get("slide_type", "")


def gather(cells):
    """Return the slides: for each its cells, the prose of its notes, and the section it lies in."""
    slides, speaking, section = [], False, ""
    for cell in cells:
        if slide_type(cell) == "slide":
            slides.append({"cells": [], "notes": [], "section": section})
        if cell.cell_type == "markdown":
            section = (re.findall(r"(?m)^##+ (.*)", cell.source) or [section])[-1]
        if not slides or slide_type(cell) == "skip":
            continue
        if slide_type(cell) in ("slide", "fragment"):
            slides[-1]["cells"].append(cell)
            speaking = True
        elif cell.cell_type == "code" or cell.source.startswith("## Exercises"):
            speaking = False
        elif speaking:
            slides[-1]["notes"].append(cell.source)
    return slides


def shorter(sentences, budget):
    """Return the first sentence, the last question and what leads to it, what is bold, and more.

    Sentences are added in that order as long as there is room; three dots stand for a gap.
    """
    numbers = range(len(sentences))
    last = max((n for n in numbers if sentences[n].endswith("?")), default=0)
    bold = [n for n in numbers if "**" in sentences[n]]
    kept, words = {0}, len(sentences[0].split())
    for wanted in ([last], [last - 1], bold, range(last - 2, 0, -1), numbers[last:]):
        for n in wanted:
            more = len(sentences[n].split()) * (n >= 0 and n not in kept)
            if words + more > budget and words >= FEW:
                break
            kept, words = kept | {max(n, 0)}, words + more
    gaps = {n: "" if not n or n - 1 in kept else "… " for n in kept}
    return " ".join(gaps[n] + sentences[n] for n in sorted(kept))


def essence(source, budget):
    """Return what a slide shows of prose, and whether that is less than all of it."""
    _, heading, body = source.rpartition("\n## ")  # a cell may end one section, begin another
    if heading:
        body = "## " + body
    title, _, text = body.partition("\n") if body.startswith("#") else ("", "", body)
    text = text.strip()
    if len(text.split()) > budget and not LIST.search(text):
        sentences = SENTENCE.split(" ".join(text.split()))
        aside = [s for s in sentences[1:] if s[0] == "(" or s.count("(") != s.count(")")]
        text = shorter([s for s in sentences if s not in aside], budget)
    shown = f"{title}\n\n{text}".strip()
    return shown, shown.split() != source.split()


def goals(source):
    """Return the goals of a notebook's box, without its other lines."""
    return re.search(r"\*\*You will be able to:\*\*.*", source)[0]


def picture(output):
    """Return an output's figure as HTML, or None."""
    for mime in set(IMAGES) & set(output.get("data", {})):
        alt = html.escape(output.metadata[mime]["alt"], quote=True)
        return f'<img src="data:{mime};base64,{output.data[mime].strip()}" alt="{alt}">'
    return None


def shown_code(cell, room):
    """Return the HTML of a code cell: its code, unless it draws; its outputs, to wait for.

    `room` is the height that there is, in pixels. Long code with a long output is left out.
    """
    figures = list(filter(None, map(picture, cell.outputs)))
    texts = [o.text if "text" in o else o.data["text/plain"] for o in cell.outputs if printed(o)]
    text = "".join(texts).rstrip()
    code = "" if figures else cell.source
    if text and len(f"{code}\n{text}".splitlines()) > LINES:
        code = ""
    lines = f"{code}\n{text}".strip().splitlines()
    widest = (
        1110 / 0.603 / max(map(len, lines), default=1)
    )  # a letter is 0.603 times as wide as high
    size = min(23, widest, (room - 60) / 1.3 / max(len(lines), 1) if not figures else 20)
    waits = "fragment" if slide_type(cell) == "fragment" else ""
    parts = [highlight(code)] if code else []
    parts += [f'<div class="figures {waits}">{"".join(figures)}</div>'] if figures else []
    parts += [f'<pre class="printed {waits}">{html.escape(text)}</pre>'] if text else []
    style = f"font-size: {math.floor(10 * size) / 10}px"
    return f'<div class="cell" style="{style}">{"".join(parts)}</div>'


def printed(output):
    """Say whether an output is text, and no figure with a text in its place."""
    return "text" in output or (picture(output) is None and "text/plain" in output.get("data", {}))


def shown(slide, number):
    """Return the HTML of a slide; one without a heading repeats its section's, in small."""
    code = [cell for cell in slide["cells"] if cell.cell_type == "code"]
    parts, notes, budget, room = [], [], WORDS[bool(code)], 560
    if any(len(cell.source.splitlines()) > LINES - 3 for cell in code if not cell.outputs):
        budget = 20
    for cell in slide["cells"]:
        if cell.cell_type == "code":
            parts.append(shown_code(cell, room / len(code)))
            continue
        box = cell.source.startswith("> **Read first:**")
        text, cut = (goals(cell.source), True) if box else essence(cell.source, budget)
        budget = max(budget - len(text.split()), 15)
        room -= 40 * math.ceil(len(text) / 80)
        parts.append(markdown.render(text))
        notes += [cell.source] * cut
    if not parts[0].startswith("<h"):
        again = markdown.render(slide["section"]).strip().removeprefix("<p>").removesuffix("</p>")
        parts.insert(0, f'<h2 class="again">{again}</h2>')
    said = "".join(map(markdown.render, notes + slide["notes"]))
    aside = f'<aside class="notes">{said}</aside>' if said else ""
    many = " many" if sum(len(re.sub("<[^>]*>", "", part).split()) for part in parts) > 85 else ""
    kind = "title" if number == 0 else f"words{many}" if not code else "shows"
    names = " ".join(cell.id for cell in slide["cells"])
    body = f'<div class="{kind}">{"".join(parts)}</div>'
    return f'<section data-cells="{names}">\n{body}{aside}</section>'


def teaching(name):
    """Return what TEACHING.md says about a notebook, for the notes of its first slide."""
    text = (ROOT / "TEACHING.md").read_text("utf-8")
    found = re.search(rf"(?ms)^## {name[:2]} · .*?$(.*?)(?=^## |\Z)", text)
    return [found[1]] if found else []


def deck(path):
    """Return a notebook's deck as HTML, its title and the number of its slides (0: it has none)."""
    notebook = nbformat.read(path, as_version=4)
    slides = gather(notebook.cells)
    if slides:
        slides[0]["notes"] += teaching(path.stem)
    pages = [LINK.sub(r"\1.html", shown(slide, number)) for number, slide in enumerate(slides)]
    title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
    return DECK.format(title=html.escape(title), slides="\n".join(pages)), title, len(slides)


def main(arguments=()):
    """Write the decks, a page with links to them, and what they need; return the exit code."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args(arguments)
    found = importlib.util.find_spec("sphinx_revealjs")
    if found is None:
        sys.exit(
            "There is no reveal.js here: `make slides` installs it, or, without make, "
            "`python tools/setup.py .venv slides`."
        )
    reveal = Path(found.submodule_search_locations[0], "_static", "revealjs")
    shutil.rmtree(SLIDES, ignore_errors=True)
    for asset in ASSETS:
        (SLIDES / "reveal" / asset).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(reveal / asset, SLIDES / "reveal" / asset)
    styles = (ROOT / "tools" / "slides.css").read_text("utf-8")
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    (SLIDES / "slides.css").write_text(styles + colours, "utf-8")
    rows = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        page, title, count = deck(path)
        if count:
            (SLIDES / f"{path.stem}.html").write_text(page, "utf-8")
            link = f'<a href="{path.stem}.html">{html.escape(title)}</a>, {count} slides'
            rows.append(f'<li>{link} (<a href="{path.stem}.html?print-pdf">print</a>)</li>')
    (SLIDES / "index.html").write_text(INDEX.format(rows="\n".join(rows)), "utf-8")
    print(f"{len(rows)} decks; open {SLIDES / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
