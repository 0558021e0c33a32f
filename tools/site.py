"""Turn the executed notebooks into pages for a browser, in build/site/."""

import re
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import Highlight2HTML
from traitlets.config import Config

BUILD = Path(__file__).resolve().parents[1] / "build"
FOLDS = "<style>summary { display: list-item; cursor: pointer }</style></head>"  # with a triangle
LINK = re.compile(r'(href="[^":#]*)\.ipynb\b')  # to a neighbour, not to another site


class FoldedSolutions(Highlight2HTML):
    """Highlight the code of a cell; fold it where it holds a solution."""

    def __call__(self, source, *rest, **more):
        """Return HTML."""
        html = super().__call__(source, *rest, **more)
        if "### BEGIN SOLUTION" not in source:
            return html
        return f"<details><summary>Solution</summary>{html}</details>"


def main():
    """Write one page for each notebook in build/executed/, linked as the notebooks are."""
    paths = sorted(p for p in BUILD.glob("executed/[0-9]*.ipynb") if ".failed" not in p.name)
    if not paths:
        sys.exit("There is nothing in build/executed/: call `python tools/run_all.py` first.")
    site = BUILD / "site"
    site.mkdir(exist_ok=True)
    whole_streams = Config(CoalesceStreamsPreprocessor={"enabled": True})
    folded = {"highlight_code": FoldedSolutions()}
    exporter = HTMLExporter(whole_streams, template_name="classic", filters=folded)
    # The template "lab" drops alternative texts.
    for path in paths:
        page, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
        page = LINK.sub(r"\1.html", page).replace("</head>", FOLDS, 1)
        (site / f"{path.stem}.html").write_text(page, "utf-8")
    print(f"{len(paths)} pages; open {site / paths[0].stem}.html")


if __name__ == "__main__":
    main()
