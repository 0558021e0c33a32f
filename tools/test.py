"""Check everything, as CI does: code, units, stored outputs, and the student edition.

python tools/test.py              all steps, each to its end, then a summary
python tools/test.py lint unit    only these
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from refresh import STORED

ROOT = Path(__file__).resolve().parents[1]
NBVAL = "--nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg"
STEPS = {
    "lint": ["-m ruff check", "-m ruff format --check"],
    "unit": ["-m pytest tests"],
    "notebooks": [f"-m pytest notebooks {NBVAL} --nbval-kernel-startup-timeout 120"],
    "student": [
        "tools/student.py",
        "tools/run_all.py --notebooks build/student --build build/student-run",
    ],
}


def passes(step):
    """Run the commands of a step and say whether all of them went well."""
    environment = {**os.environ, **STORED}
    codes = [
        subprocess.call([sys.executable, *command.split()], cwd=ROOT, env=environment)
        for command in STEPS[step]
    ]
    return not any(codes)


def main():
    """Run the chosen steps, print a summary, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("steps", nargs="*", metavar="step", help=f"{', '.join(STEPS)} (all)")
    steps = parser.parse_args().steps or list(STEPS)
    if wrong := set(steps) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(wrong))}: there are {', '.join(STEPS)}")
    summary = []
    for step in steps:
        print(f"\n== {step} ==", flush=True)
        began = time.monotonic()
        verdict = "ok" if passes(step) else "FAILED"
        summary.append(f"{step:10} {verdict:6} {time.monotonic() - began:5.0f} s")
    print("", *summary, sep="\n")
    return int(any("FAILED" in line for line in summary))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
