"""Run the notebooks on folders of pictures as readers have them, and end with a table.

python tools/any_folder.py                    all notebooks on all folders, many minutes
python tools/any_folder.py two grey --only 07

The folders (tests/odd_folders.py says what is odd about each) and what the notebooks made of them
are in build/odd/.
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from odd_folders import FOLDERS  # noqa: E402

from tools import run_all  # noqa: E402


def main(arguments=None):
    """Run the notebooks on each folder in turn, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help=f"{', '.join(FOLDERS)} (all)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NN", help="names begin so")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.folders) - set(FOLDERS):
        parser.error(f"no folder {', '.join(sorted(unknown))}: there are {', '.join(FOLDERS)}")
    only = ["--only", *chosen.only] if chosen.only else []
    lines = []
    for name in chosen.folders or FOLDERS:
        build = ROOT / "build" / "odd" / name
        shutil.rmtree(build, ignore_errors=True)
        FOLDERS[name](build / "pictures")
        print(f"\n== {name}: {FOLDERS[name].__doc__}", flush=True)
        options = ["--data", str(build / "pictures"), "--build", str(build), *only]
        runs = run_all.run(run_all.parse(options))
        failed = " ".join(f"{run.name[:2]} ({run.status})" for run in runs if run.status != "ok")
        lines.append(f"{name:12} {len(runs)} notebooks: {failed or 'all ok'}")
        if run_all.signals:
            break
    print("", *lines, sep="\n")
    return int(any("all ok" not in line for line in lines))


if __name__ == "__main__":
    run_all.listen()
    sys.exit(main())
