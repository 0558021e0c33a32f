"""The house itself: one list of dependencies, imports that run one way, one set of names."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house_rules import TIME

from densenet_lib import data, lesson
from tools import run_all

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
LIBRARY = sorted((ROOT / "densenet_lib").rglob("*.py"))


def name_of(path):
    """Return a module's name within the library: "densenet", "data", "data.images"."""
    parts = path.relative_to(ROOT / "densenet_lib").with_suffix("").parts
    return ".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)


SIBLINGS = {  # module: those of the library that it may import
    "__init__": set(),
    "densenet": set(),
    "checks": set(),
    "muon": set(),
    "training": {"muon"},  # receives a model and batches, and knows neither
    "data": {"data.batches", "data.images", "data.sources"},
    "data.images": set(),
    "data.batches": set(),
    "data.cifar": {"data.images"},
    "data.folders": {"data.images"},
    "data.glyphs": set(),
    "data.shapes": {"data.images"},
    "data.sources": {"data", "data.cifar", "data.folders", "data.images"},
    "data.download": {"data", "data.cifar"},
    "residual": {"densenet"},
    "checkpoints": {"residual"},
    "efficient": {"densenet"},
    "parallel": set(),
    "runs": {"checkpoints", "data", "efficient", "parallel", "training"},
    "analysis": {"densenet", "efficient"},
    "explain": set(),
    "clinic": {"densenet"},  # wrong on purpose: nothing imports it
    "plots": {"densenet", "analysis"},
    "lesson": set(map(name_of, LIBRARY))
    - {"__main__", "commands", "clinic"},  # these three are on top
    "commands": set(map(name_of, LIBRARY)) - {"__main__", "lesson", "clinic"},
    "__main__": {"commands"},
}
PACKAGES = {"torch", "torchvision", "numpy", "PIL", "tqdm", "filelock", "matplotlib", "IPython"}


def imported(source):
    """Return what a module's source imports: (the library's modules, other top-level packages)."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(["densenet_lib"] * node.level + [node.module] * bool(node.module))
            is_library = base == "densenet_lib"
            names |= {f"{base}.{alias.name}" for alias in node.names} if is_library else {base}
    library = {
        name.removeprefix("densenet_lib.") for name in names if name.startswith("densenet_lib.")
    }
    return library, {name.split(".")[0] for name in names} - {"densenet_lib"}


def test_imports_are_read_in_every_form():
    forms = """
import os.path, densenet_lib.data
from densenet_lib import muon
from densenet_lib.densenet import DenseNet
def late():
    from . import plots
    from .analysis import ledger
    from torch.nn import functional
"""
    library = {"data", "muon", "densenet", "plots", "analysis"}
    assert imported(forms) == (library, {"os", "torch"})


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_imports_run_one_way(path):
    library, others = imported(path.read_text("utf-8"))
    assert library <= SIBLINGS[name_of(path)]
    assert others <= PACKAGES | sys.stdlib_module_names  # so never tests, tools or notebooks


def test_the_heart_imports_torch_alone():
    _, others = imported((ROOT / "densenet_lib" / "densenet.py").read_text("utf-8"))
    assert others - sys.stdlib_module_names == {"torch"}


def test_torchvision_waits_until_it_is_needed():
    """Importing it takes as long as PyTorch, and every notebook and command would wait for it."""
    script = "import sys; from densenet_lib import clinic, commands, lesson, plots; "
    script += "sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def pip_dependencies(text):
    """Return {name: bound} from the text of pyproject.toml, its extras included."""
    blocks = re.findall(r"^(?:dependencies|notebooks) = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    found = [dict(re.findall(r'"([\w-]+)([^"]*)"', block)) for block in blocks]
    library, extras = found
    assert not library.keys() & extras.keys()
    return {**library, **extras, "python": re.search(r'requires-python = "(.*)"', text)[1]}


def conda_dependencies(text):
    """Return {name: bound} from the text of environment.yml, PyTorch by the name that pip uses."""
    found = dict(re.findall(r"^  - ([\w-]+)([^:\n]*)$", text.partition("dependencies:")[2], re.M))
    assert found.pop("pip") == "" and "- -e ." in text
    return {{"pytorch": "torch"}.get(name, name): bound for name, bound in found.items()}


def test_conda_and_pip_install_the_same():
    pip = pip_dependencies(PYPROJECT)
    conda = conda_dependencies((ROOT / "environment.yml").read_text("utf-8"))
    assert len(pip) > 5 and pip == conda


@pytest.mark.parametrize(
    ("old", "new"), [("torch>=2.6", "torch>=2.7"), ('    "ruff', '    "einops>=0.8",\n    "ruff')]
)
def test_a_difference_between_conda_and_pip_is_noticed(old, new):
    assert old in PYPROJECT
    conda = conda_dependencies((ROOT / "environment.yml").read_text("utf-8"))
    assert pip_dependencies(PYPROJECT.replace(old, new)) != conda


WITHOUT_NOTEBOOKS = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from importlib import import_module
for name in sys.argv[2].split(","):
    import_module(f"densenet_lib.{name}")
from densenet_lib.__main__ import main
sys.exit(main(sys.argv[3:]))
"""


def test_the_library_trains_where_no_notebook_package_is(tmp_path):
    extras = re.search(r"^notebooks = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)[1]
    blocked = {"IPython", "ipykernel", "nbformat", *re.findall(r'"([\w-]+)', extras)}
    assert {"matplotlib", "jupyterlab", "papermill", "nbval", "ruff"} <= blocked

    def run(modules, *arguments):
        command = [sys.executable, "-c", WITHOUT_NOTEBOOKS, ",".join(blocked), ",".join(modules)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True
        )

    modules = {name_of(path) for path in LIBRARY} - {"__init__", "__main__", "plots"}
    train = ["train", "--net", '{"growth_rate": 2, "block_config": [1]}', "--data", "shapes"]
    train += ["--limit", "40", "--epochs", "1", "--device", "cpu", "--out", str(tmp_path)]
    done = run(modules, *train)
    assert done.returncode == 0, done.stderr
    assert "matplotlib is blocked" in run(["plots"], "--help").stderr  # the blocker blocks


def test_what_the_library_imports_is_what_pip_installs():
    block = re.search(r"^dependencies = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)[1]
    installed = {{"pillow": "PIL"}.get(n, n) for n in re.findall(r'"([\w-]+)', block)}
    paths = [path for path in LIBRARY if name_of(path) != "plots"]
    used = set().union(*(imported(path.read_text("utf-8"))[1] for path in paths))
    assert used - sys.stdlib_module_names == installed


def test_the_runner_knows_the_names_of_the_library():
    """It has copies, because the library takes seconds to import."""
    assert tuple(lesson.PROFILES) == run_all.PROFILES
    assert data.DEVICES == run_all.DEVICES
    assert data.SOURCES == run_all.SOURCES


def test_the_reading_list_has_the_whole_library_with_its_sizes():
    reading_list = (ROOT / "densenet_lib" / "README.md").read_text("utf-8")
    rows = re.findall(r"\| `([\w/]+)\.py` \| (\d+) \|", reading_list)
    listed = {name: int(lines) for name, lines in rows}
    sizes = {
        name_of(path).replace(".", "/"): len(path.read_text("utf-8").splitlines())
        for path in LIBRARY
    }
    del sizes["__init__"], sizes["data"]  # a docstring, and names
    assert listed.keys() == sizes.keys()
    far = {name: sizes[name] for name in sizes if abs(sizes[name] - listed[name]) > 15}
    assert not far, f"the reading list gives other sizes than these: {far}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("[01]*.ipynb")), ids=lambda p: p.stem
)
def test_readme_map_and_notebook_say_the_same_minutes(path):
    start, here = (path.parent / name for name in ("00_start_here.ipynb", path.name))
    read, run, teach = TIME.search(here.read_text("utf-8")).groups()
    assert re.search(
        rf"\({path.name}\)[^|]*\|[^|]*\| {read} min \| {run} s \| {teach} min",
        start.read_text("utf-8").replace("| 00 · Start here |", "| (00_start_here.ipynb) |"),
    )
    row = rf"\(notebooks/{path.name}\)[^|]*\|[^|]*\| {read} min \| {run} s \|"
    assert re.search(row, (ROOT / "README.md").read_text("utf-8"))


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 120


TEXTS = [*ROOT.glob("*.md"), *(ROOT / "densenet_lib").rglob("*.md"), ROOT / "capstone/README.md"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    for file, place in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", path.read_text("utf-8")):
        to = path.parent / file if file else path
        assert to.exists(), f"{path.name} links to {file}, which is not there"
        heads = re.findall(r"(?m)^#+ (.*)", to.read_text("utf-8")) if place else ()
        slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
        assert not place or place in slugs, f"{path.name} links to {file}#{place}"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_what_is_public_has_a_docstring(path):
    nodes = [node for node in ast.parse(path.read_text("utf-8")).body if hasattr(node, "name")]
    assert not [n.name for n in nodes if n.name[0] != "_" and not ast.get_docstring(n)]
