"""Open JupyterLab on the series: for this machine alone, with a token, and asking nobody else.

python tools/lab.py --no-browser --port 8890    (JupyterLab's own options are passed on)

Defaults are in jupyter/labconfig/: no news, no look for updates, and room for the notebooks' names.
What you change in JupyterLab's settings wins over them.
"""

import os
import sys
from pathlib import Path

from jupyterlab.labapp import main

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = (
    "--ip=127.0.0.1",  # no other machine gets an answer; the token is JupyterLab's own habit
    "--LabApp.default_url=/lab/tree/notebooks",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)

if __name__ == "__main__":
    os.chdir(ROOT)
    paths = [
        str(ROOT / "tools" / "jupyter"),
        *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")]),
    ]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(paths)
    if sys.platform == "darwin":  # iCloud may hide the file by which .venv knows this project
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.exit(main([*OPTIONS, *sys.argv[1:]]))
