"""The house rules of the notebooks. Each reads a notebook and yields a sentence for each breach.

`test_notebooks.py` holds every notebook to every rule, and shows every rule a notebook that breaks
it. RULES read the notebook (nbformat), TEXT_RULES the text of its file.
"""

import re
import statistics
from pathlib import Path

import nbformat

from tools.refresh import normalise
from tools.student import student_copy

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = """\
import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # waiting threads free their core: see 00

PROFILE = os.environ.get("DENSENET_PROFILE", "quick")
DATA = os.environ.get("DENSENET_DATA", "auto")
DEVICE = os.environ.get("DENSENET_DEVICE", "auto")
SEED = int(os.environ.get("DENSENET_SEED", "0"))"""
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
ABSOLUTE = re.compile(
    r"(?<![\w.~:/])/(?:home|root|Users|tmp|work|usr|opt|mnt|var)/|\b[A-Z]:\\Users"
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
CODE_SPAN = re.compile(r"`[^`]*`")
FILE = re.compile(r"`([\w./-]+\.(?:py|ipynb|md|toml|yml|cfg))`")

STILTED = re.compile(r"(?i)\b(whoever|whomever|shall|which share|lots of|hitherto|thereby)\b")
TIME = re.compile(
    r"\*\*Time:\*\* (\d+) minutes to read, (\d+) seconds to run on two CPU cores, "
    r"(\d+) minutes in class"
)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def links(cell):
    """Return (`!` for an image, text, target) of each Markdown link, those in code left out."""
    return LINK.findall(CODE_SPAN.sub("", cell.source))


def parameters_first(notebook):
    """The first code cell is the parameters cell, tagged, and the same everywhere."""
    first = (code(notebook) or [nbformat.v4.new_code_cell()])[0]
    if "parameters" not in first.metadata.get("tags", []):
        yield "the first code cell is not tagged `parameters`"
    if first.source != PARAMETERS:
        yield "the first code cell is not the agreed parameters cell"


def executed_in_order(notebook):
    """Every code cell was executed, once, from top to bottom (else nbval compares nothing)."""
    for number, cell in enumerate(code(notebook), start=1):
        if cell.execution_count != number:
            yield f"{cell.id}: execution count {cell.execution_count}, not {number}: make refresh"


def no_long_cell(notebook):
    """A code cell has at most 25 lines."""
    for cell in code(notebook):
        if (lines := len(cell.source.splitlines())) > 25:
            yield f"{cell.id}: {lines} lines of code, more than 25"


def short_on_the_whole(notebook):
    """Half of the code cells have at most 6 lines, empty ones not counted."""
    lines = [len([x for x in cell.source.splitlines() if x.strip()]) for cell in code(notebook)]
    if statistics.median(lines or [0]) > 6:
        yield f"the median code cell has {statistics.median(lines)} lines, more than 6"


def prose_between(notebook):
    """There are never three code cells in a row."""
    for three in zip(notebook.cells, notebook.cells[1:], notebook.cells[2:], strict=False):
        if all(cell.cell_type == "code" for cell in three):
            yield f"{three[0].id}: three code cells in a row without prose"


def solutions_marked(notebook):
    """Solution markers come in pairs, so that the student copy has no solution left."""
    try:
        student_copy(nbformat.from_dict(notebook))
    except ValueError as error:
        yield str(error)


def no_error_stored(notebook):
    """No stored output is an error: mistakes are shown with try/except."""
    for cell in code(notebook):
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"{cell.id}: a stored error"


def no_absolute_path(notebook):
    """No source and no textual output holds a path of the machine it was made on."""
    for cell in notebook.cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), *(v for k, v in data.items() if k not in IMAGES)]
        for text in map(str, texts):
            if found := ABSOLUTE.search(text):
                yield f"{cell.id}: an absolute path, {text[found.start() :][:30]!r}"


def runs_in_any_folder(notebook):
    """No code names a file by the folder it runs in: the student edition lies elsewhere."""
    for cell in code(notebook):
        if re.search(r"""["']\.\./""", cell.source):
            yield f"{cell.id}: a path from the folder of the notebook: start from the library's"


def alt_texts(notebook):
    """Every image, drawn by code or embedded in prose, has an alternative text."""
    for cell in code(notebook):
        for output in cell.outputs:
            for mime in set(IMAGES) & set(output.get("data", {})):
                if not output.metadata.get(mime, {}).get("alt", "").strip():
                    yield f"{cell.id}: a figure without alt text"
    for cell in prose(notebook):
        if any(mark and not alt.strip() for mark, alt, _ in links(cell)):
            yield f"{cell.id}: an image without alt text"
        if any('alt="' not in tag for tag in re.findall(r"<img[^>]*>", cell.source)):
            yield f"{cell.id}: an <img> without alt text"


def figures_stored(notebook):
    """A cell that shows a figure has stored one: else there is nothing to see, or to compare."""
    for cell in code(notebook):
        shows = re.search(r"^plots\.show\(", cell.source, re.MULTILINE)
        if shows and not any(set(IMAGES) & set(out.get("data", {})) for out in cell.outputs):
            yield f"{cell.id}: shows a figure and has stored none: make refresh"


def plain_words(notebook):
    """The prose is English as one would say it aloud."""
    for cell in prose(notebook):
        if found := STILTED.search(cell.source):
            yield f"{cell.id}: {found[0]!r} is a word that nobody says aloud"


def time_said(notebook):
    """The box at the top says how long it takes to read, to run and in class."""
    if not TIME.search("\n".join(cell.source for cell in prose(notebook)[:2])):
        yield "the box at the top does not say the time as the other notebooks do"


def minutes_to_read(notebook):
    """They are about those of 150 words and 20 lines of code a minute, exercises apart."""
    text, program = (
        "\n".join(cell.source for cell in cells if not cell.id.startswith("exercise"))
        for cells in (prose(notebook), code(notebook))
    )
    found = len(re.findall(r"\w+", text)) / 150 + len(re.findall(r"(?m)^.*\S", program)) / 20
    if (said := TIME.search(text)) and abs(int(said[1]) - found) > max(5, found / 8):
        yield f"{said[1]} minutes to read are said, and its length makes {found:.0f}"


def one_headline(notebook):
    """At most one cell is tagged `headline`."""
    if sum("headline" in cell.metadata.get("tags", []) for cell in code(notebook)) > 1:
        yield "several cells are tagged `headline`"


def references_exist(notebook):
    """Relative links, and file names in backticks, lead to files of this repository."""
    for cell in prose(notebook):
        for _, _, target in links(cell):
            path, _, _ = target.partition("#")
            if target.startswith("attachment:"):
                if target.removeprefix("attachment:") not in cell.get("attachments", {}):
                    yield f"{cell.id}: no attachment {target}"
            elif path and "://" not in path and not (ROOT / "notebooks" / path).exists():
                yield f"{cell.id}: a link to {target}, which is not there"
        for name in FILE.findall(cell.source):
            places = (ROOT, ROOT / "notebooks", ROOT / "densenet_lib")
            if not any((place / name).exists() for place in places):
                yield f"{cell.id}: `{name}` is not there"


def readable_ids(notebook):
    """Cell ids are words, not chance, and no two are the same."""
    ids = [cell.get("id", "") for cell in notebook.cells]
    for name in ids:
        if not re.fullmatch("[a-z0-9-]+", name) or re.fullmatch("[0-9a-f]{8}|[0-9a-f-]{32,}", name):
            yield f"{name!r} is no readable cell id: use lower case words and hyphens"
        if ids.count(name) > 1:
            yield f"{name!r} is the id of several cells"


def hints_given(notebook):
    """Each exercise has a hint, folded, and says how hard it is and how long it takes."""
    for cell in prose(notebook):
        for text in re.split(r"(?=\*\*Exercise \d)", cell.source)[1:]:
            number = text.split("**")[1]
            if "<details><summary>Hint" not in text:
                yield f"{cell.id}: {number} has no folded hint"
            if not re.match(r"\*\*[^*]+\*\* \((easy|medium|harder), \d+ minutes\)\.", text):
                yield f"{cell.id}: {number} does not say '(easy, 10 minutes).'"


def small(text):
    """The file has at most 400 KB."""
    if (size := len(text.encode())) > 400_000:
        yield f"{size // 1000} KB, more than 400"


def normal_form(text):
    """The file is as `tools/refresh.py` writes it."""
    if normalise(text) != text:
        yield "not in normal form: python tools/refresh.py --normalise"


RULES = (
    parameters_first,
    executed_in_order,
    no_long_cell,
    short_on_the_whole,
    prose_between,
    solutions_marked,
    no_error_stored,
    no_absolute_path,
    runs_in_any_folder,
    alt_texts,
    figures_stored,
    plain_words,
    time_said,
    minutes_to_read,
    one_headline,
    references_exist,
    readable_ids,
    hints_given,
)
TEXT_RULES = (small, normal_form)
