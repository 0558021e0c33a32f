"""What a slide shows of a notebook, and what its notes have."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

pytest.importorskip("nbconvert", reason="nbconvert comes with JupyterLab")
from tools import slides  # noqa: E402


def put(kind):
    return {"slideshow": {"slide_type": kind}} if kind else {}


def prose(source, kind=""):
    return new_markdown_cell(source, metadata=put(kind), id="words")


def code(source, kind="", *outputs):
    return new_code_cell(source, metadata=put(kind), id="code", outputs=list(outputs))


def printed(text):
    return new_output("stream", name="stdout", text=text)


def figure(alt="a line"):
    return new_output("display_data", {"image/png": "AA=="}, metadata={"image/png": {"alt": alt}})


def test_slides_are_gathered_with_their_notes_and_section():
    cells = [
        prose("# 03 · Title", "slide"),
        prose("said with the title"),
        code("x = 1"),
        prose("left out: it belongs to the code before"),
        prose("## A section\n\nwords"),
        prose("the second", "slide"),
        code("y = 2", "fragment"),
        prose("hidden", "skip"),
        prose("said with the second"),
        prose("## Exercises\n\nno notes"),
    ]
    first, second = slides.gather(cells)
    assert first["notes"] == ["said with the title"] and first["section"] == ""
    assert [cell.source for cell in second["cells"]] == ["the second", "y = 2"]
    assert second["notes"] == ["said with the second"] and second["section"] == "A section"
    assert slides.gather([prose("no types"), code("x")]) == []


LONG = """## A heading

A first sentence of seven short words. Nothing new is in the second one. Nor in this. Take two maps,
about 0.5 wide (or 0.6). What comes out of them? The answer follows in the next cell. """


def test_of_long_prose_the_first_sentence_and_the_question_are_shown():
    shown, cut = slides.essence(LONG, budget=22)
    assert cut and shown == (
        "## A heading\n\nA first sentence of seven short words. … Take two maps, about 0.5 wide "
        "(or 0.6). What comes out of them?"
    )
    more, _ = slides.essence(LONG, budget=28)
    assert "… Nor in this. Take" in more and "answer" not in more
    assert slides.essence(LONG, budget=100) == (LONG.strip(), False)


def test_what_is_bold_is_shown_before_what_is_not():
    first, second = "A first sentence of seven short words.", "A second of as many short words."
    bold = "**The rule:** what stands in bold is shown."
    shown, cut = slides.essence(f"{first} {second} And more. {bold} The end.", budget=16)
    assert shown == f"{first} … {bold}" and cut


def test_a_first_sentence_that_says_too_little_is_not_alone():
    text = f"Few words. {'Many words follow, ' * 9}one sentence. Then more."
    assert slides.essence(text, budget=20)[0] == text.removesuffix(" Then more.")


def test_an_aside_is_not_shown():
    text = f"It goes on. (An aside. It has two sentences.) {'Words that follow. ' * 9}"
    assert slides.essence(text, budget=14)[0].startswith("It goes on. Words that follow.")


def test_a_list_is_not_cut_and_an_old_section_is():
    listed = "Four things:\n\n1. one thing\n2. another thing"
    assert slides.essence(listed, budget=3) == (listed, False)
    shown, cut = slides.essence("The end of a section.\n\n## The next\n\nIts words.", budget=40)
    assert shown == "## The next\n\nIts words." and cut


def test_code_is_shown_unless_it_draws_or_is_long():
    drawn = slides.shown_code(code("plots.show(a)", "fragment", figure("<b>")), 500)
    assert "plots" not in drawn and 'alt="&lt;b&gt;"' in drawn and "fragment" in drawn
    short = slides.shown_code(code("print(6 * 7)", "fragment", printed("42\n")), 500)
    assert "print" in short and '<pre class="printed fragment">42</pre>' in short
    long = slides.shown_code(code("x = 1\n" * 17 + "print(x)", "fragment", printed("1")), 500)
    assert "print(" not in long and ">1</pre>" in long
    assert "x" in slides.shown_code(code("x = 1\n" * 25, "fragment"), 500)  # it is the point
    assert "fragment" not in slides.shown_code(code("1", "slide", printed("1")), 500)


@pytest.mark.parametrize("source", ["x" * 30, "x" * 99, "\n".join("x" * 25)])
def test_code_fits_into_its_room(source):
    shown = slides.shown_code(code(source), 400)
    size = float(shown.partition("font-size: ")[2].partition("px")[0])
    lines = source.splitlines()
    assert size * 0.603 * max(map(len, lines)) <= 1110 and size * 1.3 * len(lines) <= 400


def test_a_slide_without_heading_repeats_its_section_and_notes_have_what_is_cut():
    words = "One sentence. " + " ".join(f"Another, number {n}, that is cut." for n in range(14))
    cells = [prose(words, "slide"), code("x", "fragment")]
    assert len(words.split()) > slides.WORDS[True]
    slide = {"cells": cells, "notes": ["more"], "section": "The `sum`"}
    shown, _, notes = slides.shown(slide, 3).partition('<aside class="notes">')
    assert '<h2 class="again">The <code>sum</code></h2>' in shown
    assert words.count("Another") == notes.count("Another") > shown.count("Another") > 2
    assert "more" in notes and 'data-cells="words code"' in shown


def test_the_title_has_the_goals_and_what_the_teacher_needs(tmp_path):
    box = (
        "> **Read first:** [02](02_x.ipynb)\n>\n> **Time:** 1\n>\n> **You will be able to:** *see*"
    )
    cells = [prose("# 03 · The dense block\n\nBy the end.", "slide"), prose(box, "fragment")]
    cells[1].id = "box"
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "03_dense_block.ipynb")
    page, title, count = slides.deck(tmp_path / "03_dense_block.ipynb")
    shown, _, notes = page.partition('<aside class="notes">')
    assert title == "03 · The dense block" and count == 1
    assert "You will be able to" in shown and "Read first" not in shown
    assert "On the board" in notes and 'href="02_x.html"' in notes
