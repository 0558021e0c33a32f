"""Check everything, as CI does: code, units, stored outputs, and a folder of pictures.

python tools/test.py              all steps but the last two below, then a summary
python tools/test.py lint unit    only these
python tools/test.py browser      pages and JupyterLab in Chromium (it needs the extra `browser`)
python tools/test.py device       all notebooks on a device that is not the CPU, made for this

Units and notebooks run beside each other, one process and thread each: on two cores that takes
least time. Units alone take two processes, and so do the browser's tests.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from refresh import STORED

ROOT = Path(__file__).resolve().parents[1]
NBVAL = "--nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg"
STEPS = {
    "lint": ["-m ruff check", "-m ruff format --check"],
    "unit": ["-m pytest tests -n {workers} --dist loadfile"],
    "notebooks": [f"-m pytest notebooks {NBVAL} --nbval-kernel-startup-timeout 120"],
    "student": ["tools/student.py"],
    "folder": ["tools/any_folder.py two"],
    "browser": ["-m pytest tests/browser -n 2 --dist loadfile"],
    "device": ["-m pytest tests/device"],
}
if os.name == "nt":  # the launcher that it uses does not start there (pytorch#148283)
    STEPS["notebooks"][0] += " --ignore=notebooks/14_the_papers_numbers.ipynb"
APART = ("browser", "device")  # only when asked for
TOGETHER = ("unit", "notebooks")  # the two long ones


class Step:
    """The commands of a step, one after the other, in the background."""

    def __init__(self, name, output, workers=2):
        threads = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"} if name in TOGETHER else {}
        self.name, self.output, self.began = name, output, time.monotonic()
        self.commands = [command.format(workers=workers) for command in STEPS[name]]
        self.environment = {**os.environ, **STORED, **threads}
        self.process, self.failed = None, False

    def running(self):
        """Start the next command where one has ended; say whether any is left."""
        if self.process is not None and self.process.poll() is None:
            return True
        if self.process is not None:
            self.failed |= self.process.returncode != 0
        if not self.commands:
            return False
        command = [sys.executable, *self.commands.pop(0).split()]
        pipes = {"stdout": self.output, "stderr": subprocess.STDOUT} if self.output else {}
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, **pipes)
        return True

    def finish(self):
        """Wait for the end; return a line of the summary."""
        while self.running():
            time.sleep(0.1)
        verdict = "FAILED" if self.failed else "ok"
        return f"{self.name:10} {verdict:6} {time.monotonic() - self.began:5.0f} s"


def run(steps):
    """Run the steps; return a line for each."""
    summary = []
    with tempfile.TemporaryFile() as log:
        beside = Step("notebooks", log) if set(TOGETHER) <= set(steps) else None
        for name in steps:
            print(f"\n== {name} ==", flush=True)
            if beside and name == "unit":
                beside.running()
            if beside and name == "notebooks":  # what it has printed meanwhile
                summary.append(beside.finish())
                log.seek(0)
                print(log.read().decode("utf-8", "replace"), flush=True)
            else:
                summary.append(Step(name, None, workers=0 if beside else 2).finish())  # 0: no other
    return summary


def main():
    """Run the chosen steps, print a summary, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("steps", nargs="*", metavar="step", help=", ".join(STEPS))
    steps = parser.parse_args().steps or [name for name in STEPS if name not in APART]
    if wrong := set(steps) - set(STEPS):
        parser.error(f"no step {', '.join(sorted(wrong))}: there are {', '.join(STEPS)}")
    summary = run(steps)
    print("", *summary, sep="\n")
    return int(any("FAILED" in line for line in summary))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
