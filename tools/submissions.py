"""Read our notebooks and what students handed in: which notebook it is, whose, and what to run.

Nothing of a student's is run here; grade.py does that.
"""

import ast
import dis
import hashlib
import json
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from datetime import datetime
from types import CodeType

import nbformat

from tools.student import SOLUTION

CHECK = re.compile(r'exercise\("(\d+\.\d+)"\)')
COPY = re.compile(r"(?i)[ _-]*(\(\d+\)|copy *\d*|kopie *\d*|v\d+|final)$")  # of a file's name
# Lines for IPython, not for Python.
IPYTHON = re.compile(r"(?m)^(?:[%!?].*|[\w.]+\?{1,2} *|\w+ *= *[%!].*)$")
LARGEST = 50 * 2**20  # bytes of a notebook
LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")  # of outer names
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


class Exercise:
    """What an exercise asks for, by the ids of its answers' cells, and our cells that check it.

    Our solution is not kept: an answer runs where this object lies in memory.
    """

    def __init__(self, cells):
        answers = [cell for cell in cells if SOLUTION.search(cell.source)]
        self.answers = {cell.id: made(*statements(cell.source)) for cell in answers}
        self.asked = set().union(*self.answers.values())
        self.checks = [cell.source for cell in cells if cell.id not in self.answers]


class Ours:
    """Our copy of a notebook: its ordinary cells (id, source), its exercises by their number."""

    def __init__(self, path):
        self.stem, self.ordinary, self.exercises, own = path.stem, [], {}, []
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        cells = nbformat.read(path, as_version=4).cells
        cells = [cell for cell in cells if cell.cell_type == "code"]
        for cell in cells:
            if own or SOLUTION.search(cell.source):
                own.append(cell)
            else:
                self.ordinary.append((cell.id, cell.source))
            if own and (found := CHECK.search(cell.source)):
                self.exercises[found[1]], own = Exercise(own), []
        self.made = made(*(s for _, source in self.ordinary for s in statements(source) or []))
        self.ids = {cell.id for cell in cells}
        self.answers = set().union(*(exercise.answers for exercise in self.exercises.values()))
        self.asked = set().union(*(exercise.asked for exercise in self.exercises.values()))


class Submission:
    """A student's file: name, digest, student, what is to be remarked, code cells (id, source).

    `ours` is the notebook that it answers; None, with a remark, if it cannot be graded.
    """

    def __init__(self, path, folder, series, deadline=None):
        self.file = printable(str(path.relative_to(folder)))
        if self.file[0] in "=+-@":  # a formula to Excel
            self.file = f"./{self.file}"
        self.digest, self.cells, self.ours, self.remarks = "", [], None, []
        try:
            self.cells = self._read(path)
            self.ours = self._find(path.stem, series)
            self.digest += f" by {self.ours.digest}"  # corrected checks judge anew
            handed_in = datetime.fromtimestamp(path.stat().st_mtime, deadline and deadline.tzinfo)
            if deadline and (late := handed_in - deadline).total_seconds() > 0:
                self.remarks.append(f"late by {str(late).partition('.')[0]}")
        except (OSError, ValueError) as error:
            self.remarks.append(printable(f"not graded: {error}"))
        folders = path.relative_to(folder).parts[:-1]
        stem = self.ours.stem if self.ours else ""
        student = printable(folders[0] if folders else student_of(path.stem, stem))
        self.student = unicodedata.normalize("NFC", student).lstrip("=+-@")  # accents composed

    def _read(self, path):
        """Return the code cells; raise ValueError if the file is no notebook."""
        if path.is_symlink() or not path.is_file():
            raise ValueError("a link or a device, not a file")
        if (size := path.stat().st_size) > LARGEST:
            raise ValueError(f"{size / 2**20:.0f} MiB, more than {LARGEST / 2**20:.0f}")
        data = path.read_bytes()
        self.digest = hashlib.sha256(data).hexdigest()[:16]
        if path.suffix.lower() != ".ipynb":
            raise ValueError(f"a file {path.suffix or 'without ending'}, not an .ipynb")
        try:
            cells = [cell for cell in json.loads(data)["cells"] if cell["cell_type"] == "code"]
            return [(str(cell.get("id")), "".join(cell["source"])) for cell in cells]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a notebook ({type(error).__name__}: {error})") from None

    def _find(self, stem, series):
        """Return the notebook that this answers, by ids that no other has, else by its number."""
        theirs = {cell_id for cell_id, _ in self.cells}
        known = Counter(cell_id for ours in series for cell_id in ours.ids)
        shared = {ours: sum(known[i] == 1 for i in ours.ids & theirs) for ours in series}
        best = max(series, key=shared.get, default=None)
        if not best or not shared[best]:
            numbers = re.findall(r"(?<!\d)\d\d(?!\d)", stem)
            named = [ours for ours in series if ours.stem[:2] in numbers]
            if len(named) != 1:
                raise ValueError("which notebook is it? Neither its cells nor its name say so")
            best = named[0]
        if not best.exercises:
            raise ValueError(f"our {best.stem} holds no solutions: take the teacher's notebooks")
        return best


def submissions_in(folder, series, deadline=None, except_for=None):
    """Return the files in a folder and in its subfolders, hidden ones left out, as submissions."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if not hidden and (path.is_symlink() or not path.is_dir()) and path.resolve() != except_for:
            found.append(Submission(path, folder, series, deadline))
    files = Counter((one.student.casefold(), one.ours) for one in found if one.ours)
    for one in found:
        if not one.student:
            one.remarks.append("whose is it? Neither a folder nor its name says so")
        elif (count := files[one.student.casefold(), one.ours]) > 1:
            one.remarks.append(f"one of {count} files of this student")
    return found


def printable(text):
    """Return a text with escapes for the bytes of a name that are no letters."""
    return text.encode("utf-8", "backslashreplace").decode()


def student_of(name, stem):
    """Return what is left of a file's name without the notebook's name, or its number alone."""
    name = name.replace(stem or "\0", "")
    while name != (shorter := COPY.sub("", name.strip(" _-."))):
        name = shorter
    return re.sub(rf"(?<!\d){stem[:2]}(?!\d)", "", name).strip(" _-.") if stem else name


def answer(cells, exercise, ours):
    """Return the sources to run for an exercise; none if nothing defines what it asks for.

    The cell of an answer is taken whole; of the student's other cells, what it needs: definitions,
    and values that our notebook does not give. Of several definitions the last counts, as it did
    when the student ran the notebook.
    """
    own, others = {}, {}  # sources and statements, by their place
    for n, (cell_id, source) in enumerate(cells):
        if statements(source) is None:  # it may have lines for IPython
            source = IPYTHON.sub("", source)
        if cell_id in exercise.answers:
            own[n, 0] = source
        elif cell_id not in ours.ids or cell_id in ours.answers:
            others.update({(n, m): s for m, s in enumerate(statements(source) or [])})
    parts = [statements(source) for source in own.values()]
    # Run all the same, for the student to be told why.
    broken = any(part is None or not codes(*part) for part in parts)
    whole = [statement for part in parts for statement in part or []]
    needed, chosen = exercise.asked | read(*whole) | {"*"}, {}
    others = {place: s for place, s in others.items() if defines(s, exercise.asked, ours.made)}
    while new := {p: s for p, s in others.items() if p not in chosen and made(s) & needed}:
        chosen |= new
        needed |= read(*new.values())
    if not broken and not exercise.asked <= made(*whole, *chosen.values()):
        return []
    sources = own | {place: ast.unparse(statement) for place, statement in chosen.items()}
    return [sources[place] for place in sorted(sources)]


def statements(source):
    """Return the statements of a source text; None if it is not Python."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def defines(statement, asked, given):
    """Say whether a statement defines, assigns names that are not given, or makes one asked for."""
    assigns = isinstance(statement, (ast.Assign, ast.AnnAssign)) and not made(statement) & given
    return assigns or isinstance(statement, DEFINITIONS) or bool(made(statement) & asked)


def made(*trees):
    """Return the names that statements make at their top level; `*` if they may be any."""
    names = {"*" for t in trees if isinstance(t, ast.ImportFrom) and t.names[0].name == "*"}
    for code in (code for tree in trees for code in codes(tree)):
        names |= named(code, "STORE_GLOBAL")
        if code.co_name == "<module>":  # a class, too, stores names, its own
            names |= named(code, "STORE_NAME")
    return names


def read(*trees):
    """Return the names that statements take from outside: no function's own, such as its loop's."""
    return {name for code in codes(*trees) for name in named(code, *LOADS)}


def codes(*trees):
    """Return the code objects of statements: the whole, then those inside it; none if none run.

    The compiler's word counts, since which names belong to a comprehension is not to be seen in
    Python's symbol tables from 3.12 on.
    """
    found = []
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):  # say, a `return` outside
        whole = ast.Module(list(trees), [])
        found.append(compile(whole, "answer", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    for code in found:
        found += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


def named(code, *operations):
    """Return the names that these operations of a code object name."""
    return {one.argval for one in dis.get_instructions(code) if one.opname in operations}
