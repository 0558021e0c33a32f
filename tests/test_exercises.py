"""Every exercise takes right answers however they are written, and catches typical wrong ones.

answers/nbNN.py holds the answers for notebook NN: each replaces what stands between the solution
markers. Run are only the cells that an exercise builds on, found by the names they define.
"""

import ast
import builtins
import importlib.util
import io
import random
import re
import textwrap
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from time import monotonic

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from tools import submissions
from tools.student import SOLUTION, YOUR_TURN

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
CHECK = re.compile(r'exercise\("(\d+\.\d+)"\)')
DRAWS, SECONDS = 20, 0.5  # that a right answer meets: so many, or those for which there is time


def answers_of(path):
    """Return {number: {"right": ..., "wrong": ...}} for a notebook."""
    file = Path(__file__).with_name("answers") / f"nb{path.name[:2]}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ANSWERS


def exercises_of(notebook):
    """Return {number: (cells before it, its own cells)}, as lists of source texts."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    found = {}
    for last, source in enumerate(sources):
        if number := CHECK.search(source):
            first = last
            while not SOLUTION.search(sources[first]):
                first -= 1
            found[number[1]] = sources[:first], sources[first : last + 1]
    return found


def pieces(statements):
    """Yield texts in the order in which they run, those inside `with` and `for` too."""
    for one in statements:
        if isinstance(one, ast.With):
            yield f"with {', '.join(map(ast.unparse, one.items))}: pass"
        elif isinstance(one, ast.For):
            yield f"for {ast.unparse(one.target)} in {ast.unparse(one.iter)}: pass"
        else:
            yield ast.unparse(one)
            continue
        yield from pieces([*one.body, *getattr(one, "orelse", [])])


@cache
def names(source):
    """Return the global names that a cell reads before it makes them, and those that it makes."""
    read, made = set(), set()
    for text in pieces(ast.parse(source).body):
        body = ast.parse(text).body
        read |= submissions.read(*body) - made
        made |= submissions.made(*body)
    return read - set(dir(builtins)), made


def cells_needed(cells):
    """Return those of the cells that the last one builds on, directly or by others."""
    wanted, chosen = names(cells[-1])[0], []
    for number in reversed(range(len(cells) - 1)):
        read, made = names(cells[number])
        if made & wanted:
            wanted = (wanted - made) | read
            chosen.insert(0, number)
    return chosen


@cache
def prepared(path):
    """Run the cells that any exercise of a notebook builds on; return what they define."""
    numbers = set()
    for exercise, (before, own) in exercises_of(nbformat.read(path, as_version=4)).items():
        planted = answers_of(path)[exercise]
        answers = [*planted["right"], *(wrong for wrong, _ in planted["wrong"])]
        for cells in (own, *(with_answer(own, answer) for answer in answers)):
            numbers.update(cells_needed([*before, "\n".join(cells)]))
    sources = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    namespace = {"__name__": "__main__"}
    found = attempt([sources[number] for number in sorted(numbers)], namespace)
    assert isinstance(found, str), found
    return namespace


def with_answer(own, answer):
    """Return an exercise's cells with its solutions replaced by an answer, a text or several."""
    texts = [answer] if isinstance(answer, str) else list(answer)
    whole = "\n\n# %%\n".join(own)
    put = SOLUTION.sub(lambda match: textwrap.indent(texts.pop(0), match[1]), whole)
    assert not texts, "more texts than solutions"
    return put.split("\n\n# %%\n")


def attempt(cells, namespace):
    """Run cells; return what they print, or the error that they raise."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            for source in cells:
                exec(compile(source, "<exercise>", "exec"), namespace)
    except Exception as error:
        return error
    return printed.getvalue()


def refused(cells, namespace, number):
    """Run a right answer with several draws of random numbers; return how one of them ends, if not
    with `correct`. Where nothing is drawn, once will do.
    """
    end = monotonic() + SECONDS
    for draw in range(DRAWS):
        torch.manual_seed(draw)
        random.seed(draw)
        before = torch.get_rng_state(), random.getstate()
        found = attempt(cells, dict(namespace))
        if f"Exercise {number}: correct." not in str(found):
            return f"draw {draw} gives {found!r}"
        if before[0].equal(torch.get_rng_state()) and before[1] == random.getstate():
            break
        if draw >= 2 and monotonic() > end:  # three draws, however slow
            break
    return None


@pytest.fixture(scope="module", autouse=True)
def as_stored():
    """Run the cells as the stored outputs were made, and show no figures."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PROFILE": "quick", "DATA": "shapes", "DEVICE": "cpu"}.items():
            patch.setenv(f"DENSENET_{name}", value)
        patch.setenv("DENSENET_SEED", "0")
        patch.chdir(NOTEBOOKS[0].parent)
        patch.setattr("densenet_lib.plots.show", lambda figure, alt: plt.close(figure))
        yield


CASES = [
    (path, number)
    for path in NOTEBOOKS
    for number in exercises_of(nbformat.read(path, as_version=4))
]


@pytest.mark.parametrize(
    ("path", "number"), CASES, ids=lambda case: getattr(case, "stem", case)[:4]
)
def test_exercise(path, number):
    _, own = exercises_of(nbformat.read(path, as_version=4))[number]
    namespace = prepared(path)
    assert not (found := refused(own, namespace, number)), found
    empty = [SOLUTION.sub(YOUR_TURN, source) for source in own]
    assert f"Exercise {number}: not attempted yet." in str(attempt(empty, dict(namespace)))
    answers = answers_of(path)[number]
    assert len(answers["right"]) >= 2 and len(answers["wrong"]) >= 3
    for answer in answers["right"]:
        found = refused(with_answer(own, answer), namespace, number)
        assert not found, f"{answer!r} is right, but {found}"
    nothing = ["pass"] * len(SOLUTION.findall("\n".join(own)))  # the commonest slip of all
    torch.manual_seed(0)
    for answer, hint in [*answers["wrong"], (nothing, "")]:
        error = attempt(with_answer(own, answer), dict(namespace))
        assert isinstance(error, AssertionError), f"{answer!r} is wrong, but: {error!r}"
        assert hint in str(error), f"{answer!r}: no {hint!r} in {error}"


def test_a_check_that_hangs_on_luck_is_noticed():
    def check(drawn):
        return [f'import torch\nif {drawn} < 0.5:\n    print("Exercise 1.1: correct.")']

    assert "draw 0" in refused(check("1"), {}, "1.1")
    assert refused(check("0"), {}, "1.1") is None
    assert "draw 1" in refused(check("torch.rand(1)"), {}, "1.1")  # draw 0 is 0.496
    assert refused(check("torch.rand(1) / 2"), {}, "1.1") is None


def dependent(sources):
    """Return the later cells that read what only an exercise's solution makes.

    A student who has not solved an exercise has its functions, which say "your turn" when called.
    """
    left, found = set(), []
    for source in sources:
        read, made = names(source)
        if SOLUTION.search(source):
            left |= made
        elif not CHECK.search(source):
            found += [source] if read & left else []
            left -= made
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_each_exercise_has_a_check_and_answers(path):
    notebook = nbformat.read(path, as_version=4)
    checked, answered = exercises_of(notebook), answers_of(path)
    named = re.findall(r"\*\*Exercise (\d+\.\d+)\*\*", "\n".join(c.source for c in notebook.cells))
    assert list(checked) == list(answered) == named, "of text, checks and tests/answers one differs"
    own = [source for _, cells in checked.values() for source in cells]
    left = [c.id for c in notebook.cells if SOLUTION.search(c.source) and c.source not in own]
    assert not left, f"no check belongs to the solutions in {left}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_nothing_else_waits_for_an_exercise(path):
    """So that Run All on the student edition reaches the end: with the empty answers above."""
    cells = nbformat.read(path, as_version=4).cells
    assert dependent([cell.source for cell in cells if cell.cell_type == "code"]) == []


def test_a_cell_that_waits_for_an_exercise_is_noticed():
    solution = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    check = 'with exercise("1.1"):\n    assert f() == 1'
    assert dependent([solution, check, "f()"]) == ["f()"]
    assert dependent([solution, check, "f = 2", "print(f)"]) == []


def test_the_cells_needed_are_found():
    cells = ["import math", "a = 0", "a = 1", "def b(c): return a + c", "c = 5", "print(a)"]
    assert cells_needed([*cells, "d = 2\nmath.sqrt(b(d))"]) == [0, 2, 3]
    assert cells_needed([*cells, "c = c + 1"]) == [4]


def test_an_answer_takes_the_place_of_the_solution():
    own = ["def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION", "f(1)"]
    assert with_answer(own, "y = x\nreturn y") == ["def f(x):\n    y = x\n    return y", "f(1)"]
    with pytest.raises(AssertionError, match="more texts"):
        with_answer(own, ("return 1", "return 2"))
