"""Make the virtual environment .venv and install in it what pyproject.toml asks for.

python tools/setup.py                     again at any time: it only adds what is missing
python tools/setup.py .venv book          and what an extra of pyproject.toml names
"""

import os
import subprocess
import sys

if sys.version_info < (3, 10):  # noqa: UP036 (this file has to start there too)
    version = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        "This is Python " + version + ", but the series needs 3.10 or newer: install one and name "
        "it, as in `make setup PYTHON=python3.12`."
    )

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main(folder=".venv", extra="notebooks"):
    """Set up the environment in `folder` and mark it as complete, for make to see."""
    os.chdir(ROOT)
    python = os.path.join(folder, "Scripts" if os.name == "nt" else "bin", "python")
    print("Setting up " + folder + ": PyTorch, JupyterLab and the rest take some minutes, once.")
    sys.stdout.flush()
    for command in (
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--disable-pip-version-check", "-e", ".[" + extra + "]"],
    ):
        if subprocess.call(command):
            sys.exit("The set-up failed, see above. Mend it and repeat: what is there is kept.")
    stamp = ".complete" if extra == "notebooks" else ".complete-" + extra
    open(os.path.join(folder, stamp), "w").close()


if __name__ == "__main__":
    main(*sys.argv[1:])
