"""Write the student edition of the notebooks into build/student/: no solutions, no outputs.

What stands between `### BEGIN SOLUTION` and `### END SOLUTION` becomes one line that raises
NotImplementedError; cells tagged `solution` are left out. All other code stays as it is, and all
prose, but that "the run stored here" is "our run" where none is stored.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
STUDENT = ROOT / "build" / "student"
SOLUTION = re.compile(r"(?ms)^([ \t]*)### BEGIN SOLUTION.*?^[ \t]*### END SOLUTION[ \t]*$")
STORED = re.compile("the run (that is )?stored here")  # but a copy has no outputs
YOUR_TURN = r'\1raise NotImplementedError("your turn")'


def student_copy(notebook):
    """Turn a notebook into its student copy, in place, and return it.

    Raises: ValueError if a marker has no partner: a solution would slip through.
    """
    notebook.cells = [c for c in notebook.cells if "solution" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = SOLUTION.sub(YOUR_TURN, cell.source)
            cell.metadata.pop("jupyter", None)  # nothing is left to fold
        else:
            cell.source = STORED.sub("our run", cell.source)
        if re.search("### (BEGIN|END) SOLUTION", cell.source):
            where = "has no partner" if cell.cell_type == "code" else "stands in a text cell"
            raise ValueError(f"cell {cell.id}: a solution marker {where}: it would show a solution")
    return notebook


def main(arguments=()):
    """Write a student copy of every notebook and return the exit code."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args(arguments)
    shutil.rmtree(STUDENT, ignore_errors=True)  # a renamed notebook would linger
    STUDENT.mkdir(parents=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        try:
            copy = student_copy(nbformat.read(path, as_version=4))
        except ValueError as error:
            sys.exit(f"{path.name}, {error}")
        nbformat.write(copy, STUDENT / path.name)
    print(f"The student edition is in {STUDENT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
