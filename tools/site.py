"""Make the book: notebooks, glossary, cheat sheet, questions and library as pages in build/site/.

python tools/site.py                      then open build/site/index.html, from a stick if you like

A notebook shows the outputs of `make run-all` where build/executed/ has a copy newer than the
notebook, else those that are stored in it. The pages are written to build/book/ first; Sphinx
turns them into HTML. Nothing in them asks for a network.
"""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nbformat

if __name__ == "__main__":  # as a program, too, this file finds its neighbours
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools import cheat_sheet, explorer
from tools.student import SOLUTION, YOUR_TURN

ROOT = Path(__file__).resolve().parents[1]
BOOK, BUILD, LIBRARY = ROOT / "book", ROOT / "build", ROOT / "densenet_lib"
QUESTIONS = re.compile(r"(?s)## Questions to ask yourself\s*(.*</details>)")
NO_PROSE = re.compile(  # where no word becomes a link: headings, code, tables, links, HTML
    r"(?s)((?m:^)(?:#| {4}|\|)[^\n]*|`[^`]*`|\[[^\]]*\]\([^)]*\)|<summary>.*?</summary>|<[^>]*>)"
)


def main(build=BUILD, *options):
    """Write the pages, call Sphinx, and put the site in place when it is complete.

    Args:   options: more of Sphinx's, such as "-W": then a warning of Sphinx ends it.
    """
    if find_spec("myst_nb") is None:
        sys.exit(
            "Sphinx and MyST-NB are missing: `make site` installs them, or, without make, "
            "`python tools/setup.py .venv book`."
        )
    pages, fresh, site = build / "book", build / "book-html", build / "site"
    for folder in (pages, fresh):
        shutil.rmtree(folder, ignore_errors=True)
    paths = [newest(path, build) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
    executed = sum(path.parent.name == "executed" for path in paths)
    print(f"{len(paths)} notebooks: {executed} as make run-all left them, the others as stored")
    print("Making pages of them takes half a minute or more.", flush=True)
    write_pages(pages, paths)
    command = [sys.executable, "-m", "sphinx", "-q", "-c", str(BOOK), *options]
    command += ["-d", str(pages / ".doctrees")]  # else they lie in the site
    if subprocess.call([*command, str(pages), str(fresh)]):
        sys.exit("Sphinx could not make the book, see above.")
    explorer.build(fresh / "explorer")
    shutil.rmtree(site, ignore_errors=True)
    fresh.rename(site)
    print(f"Open {site / 'index.html'}")


def newest(path, build):
    """Return the executed copy of a notebook where it is newer, else the notebook itself."""
    executed = build / "executed" / path.name
    is_newer = executed.exists() and executed.stat().st_mtime > path.stat().st_mtime
    return executed if is_newer else path


def write_pages(folder, paths):
    """Write what Sphinx reads into `folder`: Markdown and notebooks, linked by relative paths."""
    notebooks = {path.name: nbformat.read(path, as_version=4) for path in paths}
    pages = {path.name: path.read_text("utf-8") for path in BOOK.glob("*.md")}
    pages |= library_pages()
    pages["index.md"] += series_table((ROOT / "README.md").read_text("utf-8"))
    pages["questions.md"] = questions_page(notebooks)
    pages["cheat_sheet.md"] = cheat_sheet.page()
    pages["glossary.md"] = glossary_page(pages["glossary.md"], notebooks)
    for name, notebook in notebooks.items():
        pages[f"notebooks/{name}"] = nbformat.writes(book_copy(notebook))
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def title(notebook):
    """Return the text of the first heading."""
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def series_table(readme):
    """Return README's table of the notebooks."""
    return re.search(r"(?ms)^\| notebook \|.*?\|$(?!\n\|)", readme)[0]


def book_copy(notebook):
    """Turn a notebook into its copy for the book, in place: solutions and parameters folded."""
    cells = []
    for cell in notebook.cells:
        cell.source = cell.source.replace("](../README.md)", "](../index.md)")
        if cell.cell_type == "code" and SOLUTION.search(cell.source):
            stub = nbformat.from_dict({**cell, "id": f"{cell.id}-stub", "outputs": []})
            stub.source = SOLUTION.sub(YOUR_TURN, cell.source)
            cells.append(stub)
            fold(cell, "Solution")
        if "parameters" in cell.metadata.get("tags", []):
            fold(cell, "Parameters, the same in every notebook")
        if "injected-parameters" in cell.metadata.get("tags", []):
            fold(cell, "Parameters of this run")
        cells.append(cell)
    notebook.cells = cells
    return notebook


def fold(cell, summary):
    """Show the code of a cell only when a click on `summary` asks for it."""
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    cell.metadata["mystnb"] = {"code_prompt_show": summary, "code_prompt_hide": summary}


def questions_page(notebooks):
    """Gather the questions that end the notebooks, their answers folded."""
    parts = ["# Questions to ask yourself", "From all notebooks. The answers are folded."]
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            if found := QUESTIONS.search(cell.source):
                parts += [f"## [{title(notebook)}](notebooks/{name})", found[1]]
    return "\n\n".join(parts)


def glossary_page(text, notebooks):
    """Return the glossary with the places of each word; link the words in the notebooks to it.

    A word's first use in each notebook becomes a link, in place.
    Raises: ValueError if a word of the glossary is used nowhere.
    """
    terms = re.findall(r"(?m)^(?![#`:])(\S.*)\n  ", text)
    uses = {term: [] for term in terms}
    for name, notebook in notebooks.items():
        link_terms(notebook, uses, f"notebooks/{name}")
    for term, places in uses.items():
        if not places:
            raise ValueError(f"book/glossary.md: {term!r} is used in no notebook")
        entry = re.search(rf"(?m)^{re.escape(term)}\n(?:(?:  .*)?\n)+", text)
        first = places[0]
        explained = next((place for place in places if place.explains), first)
        line = f"First met in {first.link}."
        if "](notebooks/" not in entry[0]:  # an entry may name its place itself
            line = f"Explained in {explained.link}." + f" {line}" * (first.page != explained.page)
        text = text.replace(entry[0], f"{entry[0].rstrip()}\n  {line}\n\n")
    return text


def link_terms(notebook, uses, page):
    """Link the first use of each term to the glossary, in place; append each use to `uses`."""
    known = {term.lower(): term for term in uses}
    words = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    pattern = re.compile(rf"(?i)\b({words})(?:e?s)?\b")
    heading, linked = title(notebook), set()

    def replace(match):
        term = known[match[1].lower()]
        around = match.string[match.start() - 1 : match.start()] + match.string[match.end() :][:1]
        uses[term].append(Place(page, title(notebook), heading, around == "**"))
        if term in linked:
            return match[0]
        linked.add(term)
        return f"{{term}}`{match[0]} <{term}>`"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            pieces = NO_PROSE.split(cell.source)
            for i, piece in enumerate(pieces):
                if i % 2 == 0:
                    pieces[i] = pattern.sub(replace, piece)
                elif piece.startswith("#"):
                    heading = piece.lstrip("# ")
            cell.source = "".join(pieces)


class Place(NamedTuple):
    """Where a word of the glossary stands."""

    page: str
    title: str
    heading: str
    explains: bool  # the word is set in italics there

    @property
    def link(self):
        """A Markdown link to the heading above it."""
        slug = re.sub(r"[^\w -]", "", self.heading.lower()).replace(" ", "-")
        return f"[{self.title}]({self.page}#{slug})"


def library_pages():
    """Return the library's reading list, and a page for each file in it, by name."""
    text = (LIBRARY / "README.md").read_text("utf-8")
    files = re.findall(r"^\| `([\w/]+)\.py`", text, re.MULTILINE)
    contents = "\n".join(f"library/{name}" for name in files)
    text = re.sub(r"(?m)^\| (`([\w/]+)\.py`)", r"| [\1](library/\2.md)", text)
    pages = {"library.md": f"{text}\n\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n"}
    for name in files:
        code = (LIBRARY / f"{name}.py").read_text("utf-8")
        pages[f"library/{name}.md"] = f"# {name}.py\n\n`````python\n{code}`````\n"
    return pages


if __name__ == "__main__":
    main()
