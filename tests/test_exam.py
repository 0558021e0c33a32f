"""The exam: each block computes what its answer says, and the library counts the same.

And the teacher's guide gives the titles, minutes and exercises that the notebooks have.
"""

import ast
import math
import re
from pathlib import Path

import nbformat
import pytest
from house_rules import TIME

from densenet_lib import analysis
from densenet_lib.densenet import DenseBlock, DenseLayer, DenseNet, Transition
from densenet_lib.residual import ResidualLayer

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "exam" / "questions.md").read_text("utf-8")
GUIDE = (ROOT / "TEACHING.md").read_text("utf-8")
CHAPTER = re.compile(r"^## (\d\d · .+) \((\d+) minutes in class, (\d+) to read\)$", re.MULTILINE)
SECTION = re.compile(r"^## (\d\d) · (.+)\n\nPoints: (\d+)\n", re.MULTILINE)
QUESTION = re.compile(r"^### Q(\d+)\.(\d+) \((\d+) points?\)\n", re.MULTILINE)
ANSWER = re.compile(r"^\*\*Answer(?:\.|: (.+?)\.)\*\*", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*\d(?:\.\d+)?|-?\d(?:\.\d+)?")


def questions_of(text):
    """Return {"2.1": (points, text of the question with its answer)}."""
    heads = list(QUESTION.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {
        f"{h[1]}.{h[2]}": (int(h[3]), text[h.end() : e]) for h, e in zip(heads, ends, strict=True)
    }


def stated(body):
    """Return the numbers that an answer states, as they are printed."""
    return NUMBER.findall(ANSWER.search(body)[1] or "")


def computed(code):
    """Run a block; return the values of its last line."""
    *before, last = ast.parse(code).body
    names = {"math": math}
    exec(compile(ast.Module(before, []), "<exam>", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "<exam>", "eval"), names)
    return value if isinstance(value, list) else [value]


def agrees(text, value):
    """Is this the value, to the digits printed? A whole number must be equal."""
    number = float(text.replace(",", ""))
    if isinstance(value, int):
        return "." not in text and number == value
    decimals = len(text.partition(".")[2])
    return abs(number - value) <= 0.5 * 10**-decimals + 1e-9


def complaints(body):
    """Yield what is wrong with the answer of a question."""
    answers, blocks = ANSWER.findall(body), BLOCK.findall(body)
    if len(answers) != 1:
        yield "it has not one answer"
    elif numbers := stated(body):
        values = computed(blocks[0]) if len(blocks) == 1 else []
        if len(values) != len(numbers) or not all(map(agrees, numbers, values)):
            yield f"the answer says {numbers}, its block {values}"
    elif blocks:
        yield "a block, and no number in the answer"


QUESTIONS = questions_of(TEXT)


@pytest.mark.parametrize("number", QUESTIONS)
def test_the_block_computes_the_answer(number):
    assert list(complaints(QUESTIONS[number][1])) == []


@pytest.mark.parametrize(
    ("number", "right", "wrong"),
    [
        ("3.2", "121,216.**", "121,217.**"),
        ("6.3", "0.24, 0.27.**", "0.24, 0.26.**"),
        ("8.4", "1, 64 %.**", "1.**"),
        ("0.1", "2, 4, 8, 16, 32.**", "2, 4, 8, 16, 31.**"),
        ("1.6", "0, -2.**", "0, 2.**"),
        ("2.2", "```python", "```"),
        ("2.2", ": 13,568.**", ".**"),
        ("2.2", "**Answer: 13,568.**", "13,568."),
    ],
)
def test_a_wrong_answer_is_noticed(number, right, wrong):
    body = QUESTIONS[number][1]
    assert right in body
    assert list(complaints(body.replace(right, wrong)))


def macs(bn_size):
    return analysis.count_macs(DenseLayer(200, 12, bn_size), (200, 16, 16))


def stages(network):
    return [stage.channels_out for stage in analysis.ledger(network).stages[:-2]]


def count(module):
    return analysis.count_parameters(module)


ORACLES = {
    "0.2": lambda: stages(DenseNet(6, (4, 5), 20))[1:],
    "2.2": lambda: [count(DenseLayer(64, 16))],
    "2.4": lambda: [macs(4), macs(None)],
    "3.1": lambda: [analysis.ledger(DenseNet(16, (8,), 32)).stages[1].channels_out, 36],
    "3.2": lambda: [count(DenseBlock(8, 32, 16))],
    "3.6": lambda: [analysis.activation_bytes(DenseBlock(4, 20, 10), (20, 16, 16))],
    "4.1": lambda: stages(DenseNet(10, (3, 5, 4), 20)),
    "4.2": lambda: [count(Transition(50, 25))],
    "5.1": lambda: [
        analysis.ledger(DenseNet(4, (4, 8, 6), 8, bn_size=b)).total.layers for b in (4, None)
    ],
    "5.2": lambda: [count(DenseNet(10, (4, 5), 20))],
    "5.3": lambda: [analysis.ledger(DenseNet(4, (4, 8, 6), 8)).total.connections, 171],
    "5.8": lambda: [analysis.count_macs(DenseNet(), (3, 64, 64))],
    "9.1": lambda: [count(ResidualLayer(24, width)) for width in (24, 48)],
    "9.3": lambda: [count(DenseBlock(3, 10, 5, bn_size=None)) - 2 * (10 + 15 + 20), 16_875],
}


@pytest.mark.parametrize("number", ORACLES)
def test_the_library_counts_the_same(number):
    said = [int(text.replace(",", "")) for text in stated(QUESTIONS[number][1])]
    assert ORACLES[number]() == said


def test_each_notebook_has_four_questions_and_its_points():
    numbers = {path.name[:2] for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert {found[0] for found in SECTION.findall(TEXT)} == chapters(GUIDE).keys() == numbers
    for notebook, _, points in SECTION.findall(TEXT):
        assert list((ROOT / "notebooks").glob(f"{notebook}_*.ipynb")), f"no notebook {notebook}"
        own = [p for n, (p, _) in QUESTIONS.items() if n.split(".")[0] == str(int(notebook))]
        assert len(own) >= 4 and sum(own) == int(points), f"{notebook}: {len(own)}, {sum(own)}"
    assert len(QUESTIONS) == len(re.findall("^### ", TEXT, re.MULTILINE))


def chapters(text):
    """Return {"03": (title, minutes in class, minutes to read, text)} of the teacher's guide."""
    heads = list(CHAPTER.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {
        head[1][:2]: (head[1], head[2], head[3], text[head.end() : end])
        for head, end in zip(heads, ends, strict=True)
    }


@pytest.mark.parametrize("number", chapters(GUIDE))
def test_the_guide_says_what_the_notebook_says(number):
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    title, teach, read, text = chapters(GUIDE)[number]
    assert cells[0].startswith(f"# {title}\n")
    minutes = TIME.search(cells[1])
    assert (minutes[1], minutes[3]) == (read, teach)
    for part in ("Goals", "On the board", "What goes wrong, and what to ask", "To discuss", "Cuts"):
        assert f"**{part}.**" in text
    for exercise in re.findall(rf"(?<![\d.Q]){int(number)}\.\d(?!\d)", text):
        assert any(f'exercise("{exercise}")' in source for source in cells), exercise


def test_the_guide_adds_up_the_minutes():
    found = chapters(GUIDE)
    teach, read = (sum(int(chapter[i]) for chapter in found.values()) for i in (1, 2))
    build = sum(int(found[f"0{n}"][1]) for n in range(6))
    words = " ".join(GUIDE.split())
    assert f"add up to {teach}; to read them takes {read}." in words
    assert f"00 to 05 ({build} minutes in class)" in words
    assert len(GUIDE.splitlines()) < 600  # some 25 for a notebook, and what comes before
