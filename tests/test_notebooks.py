"""Every notebook keeps every house rule, and every house rule notices when it is broken."""

import base64
import copy
import io

import nbformat
import pytest
from house_rules import PARAMETERS, ROOT, RULES, TEXT_RULES
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools.refresh import normalise

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PIXEL = io.BytesIO()
Image.new("P", (1, 1)).save(PIXEL, "PNG")
PNG = {"image/png": base64.b64encode(PIXEL.getvalue()).decode()}


def expect_none(breaches):
    """Fail with one line for each breach, and no traceback."""
    if found := "\n".join(breaches):
        pytest.fail(found, pytrace=False)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_notebook(path, rule):
    expect_none(rule(nbformat.read(path, as_version=4)))


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_notebook_file(path, rule):
    expect_none(rule(path.read_bytes().decode()))


TIME = "**Time:** 5 minutes to read, 9 seconds to run on two CPU cores, 9 minutes in class\n"


def good():
    """Return a notebook that keeps all the rules."""
    tags = {"tags": ["parameters"]}
    figure = new_output("display_data", PNG, metadata={"image/png": {"alt": "a line"}})
    attempt = "def two():\n    ### BEGIN SOLUTION\n    return 2\n    ### END SOLUTION"
    return new_notebook(
        cells=[
            new_markdown_cell(
                f"# 02 · Title\n{TIME}[next](../README.md#a), `densenet.py`", id="title"
            ),
            new_code_cell(PARAMETERS, id="parameters", metadata=tags, execution_count=1),
            new_code_cell("plots.show(figure)", id="draw", execution_count=2, outputs=[figure]),
            new_markdown_cell("Some prose: `layers[0](x)`, and below 1/2 and a/tmp/.", id="prose"),
            new_code_cell(attempt, id="exercise-1", execution_count=3),
        ]
    )


def break_it(change):
    """Return a notebook with one change to `good()`; `change` gets its cells."""
    notebook = copy.deepcopy(good())
    change(notebook.cells)
    return notebook


def put(index, **fields):
    return lambda cells: cells[index].update(fields)


def add(*cells):
    return lambda existing: existing.extend(cells)


def image(mime="image/png", **metadata):
    return [new_output("display_data", {mime: "x"}, metadata=metadata)]


ERROR = new_output("error", ename="ValueError", evalue="", traceback=[])
PRINTED = new_output("stream", name="stdout", text="saved in /home/ann/run/1.pt")
SHOWN = new_output("execute_result", {"text/plain": "Path('/Users/ann')/1.pt"}, execution_count=2)
SHOWN.data["text/plain"] = "Path('/Users/ann/1.pt')"
HALF = "def two():\n    ### BEGIN SOLUTION\n    return 2"
OTHER_HALF = "### END SOLUTION"
LONG = [new_code_cell("\n".join("abcdefg"), execution_count=n) for n in range(4, 9)]
HEADLINES = [new_code_cell("1", id=x, metadata={"tags": ["headline"]}) for x in ("one", "two")]

ASKED, HINT = (
    "**Exercise 2.1** (easy, 5 minutes). Do.",
    "<details><summary>Hint</summary>x</details>",
)

BREACHES = [
    ("parameters_first", lambda cells: cells.pop(1)),
    ("parameters_first", put(1, metadata={})),
    ("parameters_first", put(1, source=PARAMETERS.replace("auto", "shapes"))),
    ("parameters_first", lambda cells: cells.insert(1, new_code_cell("import torch"))),
    ("executed_in_order", put(4, execution_count=None)),
    ("executed_in_order", put(4, execution_count=4)),
    ("executed_in_order", add(new_code_cell(""))),
    ("no_long_cell", put(2, source="\n" * 24 + "x = 1\ny = 2")),
    ("short_on_the_whole", add(*LONG)),
    ("prose_between", lambda cells: cells.pop(3)),
    ("solutions_marked", put(4, source=HALF)),
    ("solutions_marked", put(4, source=OTHER_HALF)),
    ("solutions_marked", put(4, source=f"{HALF}\n{HALF}\n{OTHER_HALF}\n{OTHER_HALF}")),
    ("no_error_stored", put(2, outputs=[ERROR])),
    ("no_absolute_path", put(2, source="root = '/home/ann/data'")),
    ("no_absolute_path", put(2, source=r"root = 'C:\Users\Ann'")),
    ("no_absolute_path", put(3, source="It is in /usr/share/.")),
    ("no_absolute_path", put(2, outputs=[PRINTED])),
    ("no_absolute_path", put(2, outputs=[SHOWN])),
    ("runs_in_any_folder", put(2, source="open('../README.md')")),
    ("alt_texts", put(2, outputs=image())),
    ("alt_texts", put(2, outputs=image(**{"image/png": {"alt": " "}}))),
    ("alt_texts", put(2, outputs=image("image/svg+xml", **{"image/png": {"alt": "a line"}}))),
    ("alt_texts", put(3, source="![](../.github/densenet.png)")),
    ("alt_texts", put(3, source='<img src="x.png">')),
    ("figures_stored", put(2, outputs=[])),
    ("figures_stored", put(2, outputs=[new_output("display_data", {"text/plain": "<Figure>"})])),
    ("plain_words", put(3, source="Whoever reads this shall know.")),
    ("time_said", put(0, source=TIME.replace("9 seconds", "half a minute"))),
    ("minutes_to_read", put(0, source=TIME.replace("5 minutes", "50 minutes"))),
    ("one_headline", add(*HEADLINES)),
    ("references_exist", put(3, source="[next](03_no_such_notebook.ipynb)")),
    ("references_exist", put(3, source="![a plot](attachment:plot.png)")),
    ("references_exist", put(3, source="See `densenet_lib/nothing.py`.")),
    ("references_exist", put(3, source="See [`densenet.py`](densenet.py).")),
    ("readable_ids", put(3, id="a1b2c3d4")),
    ("readable_ids", put(3, id="6e0b4f0e-7d0f-4b8e-9c0c-0a1b2c3d4e5f")),
    ("readable_ids", put(3, id="Why_this")),
    ("readable_ids", put(3, id="draw")),
    ("hints_given", put(3, source="**Exercise 2.1** (easy, 5 minutes). Do.")),
    ("hints_given", put(3, source=f"**Exercise 2.1** Do.\n\n{HINT}")),
    ("hints_given", put(3, source=f"{ASKED}\n\n{HINT}\n\n{ASKED}")),
]


def breaches(notebook):
    """Return the names of the rules that a notebook breaks."""
    return {rule.__name__ for rule in RULES if list(rule(notebook))}


def test_a_good_notebook_breaks_no_rule():
    assert not breaches(good())
    assert not any(list(rule(normalise(nbformat.writes(good())))) for rule in TEXT_RULES)


@pytest.mark.parametrize(("rule", "change"), BREACHES)
def test_rule_notices(rule, change):
    assert rule in breaches(break_it(change))


@pytest.mark.parametrize("rule", [rule.__name__ for rule in RULES])
def test_every_rule_is_tried(rule):
    assert rule in {name for name, _ in BREACHES}


def test_size_is_noticed():
    small, normal_form = TEXT_RULES
    assert not list(small("é" * 200_000)) and list(small("é" * 200_001))


@pytest.mark.parametrize(
    "change",
    [
        lambda notebook: notebook.metadata.update(widgets={"state": {}}),
        lambda notebook: notebook.metadata.language_info.update(version="3.11.7"),
        lambda notebook: notebook.cells[2].metadata.update(execution={"shell.execute_reply": "1"}),
        lambda notebook: notebook.cells[2].metadata.update(papermill={"duration": 1.0}),
        lambda notebook: notebook.cells[2].outputs.extend([PRINTED, PRINTED]),
    ],
)
def test_what_changes_by_chance_is_noticed(change):
    small, normal_form = TEXT_RULES
    notebook = nbformat.reads(normalise(nbformat.writes(good())), as_version=4)
    change(notebook)
    text = nbformat.writes(notebook) + "\n"
    assert list(normal_form(text)) and not list(normal_form(normalise(text)))
    assert list(normal_form(normalise(text).rstrip()))  # even the last newline
