"""Execute the notebooks with papermill into build/executed/, and end with a table of results.

python tools/run_all.py --only 02 05 --profile quick --data shapes

Every notebook has its own process and its own log. A failure does not stop the others. An output
that failed or was interrupted is kept beside the good one, never in its place.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KERNEL = "python3"
PROFILES = ("quick", "full")  # these three as in densenet_lib, which takes seconds to import
SOURCES = ("auto", "cifar10", "cifar100", "shapes")
DEVICES = ("auto", "cpu", "cuda", "mps")
TIMEOUTS = {"quick": 900, "full": 7200}  # seconds: two busy cores need them
GRACE = 15  # seconds that an interrupted papermill has to end its kernel
WATCHED = """import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
runpy.run_module("papermill", run_name="__main__", alter_sys=True)"""  # ends when we are no more
NO_START = ("Kernel died before replying", "Kernel didn't respond")  # worth a second try

signals: list[int] = []  # those received; the main loop looks here


class Execution:
    """One notebook: its files, its papermill process, and what became of it."""

    def __init__(self, notebook, build, options):
        self.notebook, self.name, self.options = notebook, notebook.stem, options
        self.output = build / "executed" / notebook.name
        self.failed = self.output.with_suffix(".failed.ipynb")
        self.partial = self.output.with_name(f".{self.name}.{os.getpid()}.ipynb")
        self.log = build / "logs" / f"{self.name}.log"
        self.status, self.detail, self.headline = "not run", "", ""
        self.tries, self.seconds = 0, 0.0

    def start(self, threads):
        """Start papermill in a process group of its own, which a Ctrl-C here does not reach."""
        for path in (self.output, self.log):
            path.parent.mkdir(parents=True, exist_ok=True)
        paths = (
            str(path).replace("{", "{{").replace("}", "}}")
            for path in (self.notebook, self.partial)
        )
        command = [sys.executable, "-c", WATCHED, *paths]  # papermill takes paths as templates
        command += ["--kernel", KERNEL, "--cwd", str(self.notebook.parent), *self.options]
        command += ["--no-progress-bar", "--log-output", "--autosave-cell-every", "30"]
        env = {"OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8", **os.environ}
        if sys.platform == "darwin":  # as in lab.py
            paths = [str(Path(__file__).resolve().parents[1]), env.get("PYTHONPATH")]
            env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        with self.log.open("wb") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": log, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(command, env=env, start_new_session=True, **pipes)
        self.tries, self.started = self.tries + 1, time.monotonic()

    def end(self, force=False):
        """Ask papermill to end its kernel and itself; or, by force, kill its process group."""
        if os.name == "nt":
            command = ["taskkill", "/T", "/F", "/PID", str(self.process.pid)]
            subprocess.run(command, capture_output=True, check=False)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL if force else signal.SIGINT)

    def finish(self):
        """Judge the ended process and move its output to where it belongs."""
        self.seconds = time.monotonic() - self.started
        self.process.stdin.close()
        cells = []
        with contextlib.suppress(OSError, ValueError):  # no complete file, if it ended early
            cells = json.loads(self.partial.read_text("utf-8"))["cells"]
        self.status, self.detail = self.judge(cells)
        if self.status == "ok":
            self.headline = headline(cells)
            os.replace(self.partial, self.output)
            self.failed.unlink(missing_ok=True)
        elif self.partial.exists():
            os.replace(self.partial, self.failed)

    def judge(self, cells):
        """Return status and detail, from the exit code, the cells papermill left, and the log."""
        log = self.log.read_text("utf-8", "replace")
        opening, self.began, _ = log.partition("Executing Cell")
        unknown = re.search("unknown parameter: (.*)|not contain a cell with tag 'param", opening)
        number, cell = last_started(cells)
        where = f"cell {number} ({cell['id']}): " if cell else ""
        if signals and self.process.returncode:
            return "interrupted", where + "stopped"
        if unknown:
            return "unknown parameter", f"no {unknown[1] or 'cell'} tagged `parameters`"
        if "NoSuchKernel" in log and not cell:
            return "no such kernel", f"Jupyter has none called {KERNEL}"
        if self.process.returncode == 138 or any(sign in opening for sign in NO_START):
            return "kernel died", where + "the kernel died"
        if "\nnbclient.exceptions.CellTimeoutError" in log:
            return "timeout", where + "still running at the time limit (--timeout)"
        if "No module named 'densenet_lib'" in log:
            lacks = "Jupyter's kernel python3 is of an environment without densenet_lib: "
            return "no library", f"{lacks}run this with the Python that has it (see README)"
        if cell and cell["metadata"]["papermill"]["exception"]:
            errors = [f"{o['ename']}: {o['evalue']}" for o in cell["outputs"] if "ename" in o]
            return f"failed cell {number}", where + "\n".join(errors).split("\n")[0].rstrip(": ")
        if self.process.returncode:
            return "failed", where + (log.strip().rpartition("\n")[2] or "see the log")
        return "ok", ""


def last_started(cells):
    """Return the code cell that ran last and its number, counted from 1 as Jupyter does."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    own = [cell for cell in code if "injected-parameters" not in cell["metadata"].get("tags", [])]
    ran = [c for c in own if c["metadata"].get("papermill", {}).get("start_time")]
    return (own.index(ran[-1]) + 1, ran[-1]) if ran else (0, None)


def headline(cells):
    """Return the last line printed by the cell tagged `headline`."""
    tagged = [cell for cell in cells if "headline" in cell["metadata"].get("tags", [])]
    outputs = [output for cell in tagged for output in cell["outputs"]]
    printed = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")
    return printed.strip().rpartition("\n")[2]


def execute(runs, jobs, threads):
    """Run them all, `jobs` at a time, until done or interrupted."""
    waiting, running = list(runs), []
    while (waiting or running) and not signals:
        while waiting and len(running) < jobs:
            running.append(waiting.pop(0))
            running[-1].start(threads)
            say(f"start: {running[-1].name}")
        time.sleep(0.1)
        for run in [run for run in running if run.process.poll() is not None]:
            running.remove(run)
            run.finish()
            say(f"{run.status}: {run.name}, {run.seconds:.0f} s")
            if run.status == "kernel died" and not run.began and run.tries == 1:
                waiting.insert(0, run)  # kernels that start together can race for a port
        if sys.stdout.isatty():
            seconds = [f"{r.name} {time.monotonic() - r.started:.0f} s" for r in running]
            done = len(runs) - len(waiting) - len(running)
            line = f"{done} of {len(runs)} done; running: {', '.join(seconds)}"
            say(line[: os.get_terminal_size().columns - 1], end="")
    deadline = time.monotonic() + GRACE
    for run in running:  # left over: there was a signal
        say(f"stopping: {run.name}")
        run.end()
    for run in running:
        while run.process.poll() is None:
            if time.monotonic() > deadline or len(signals) > 1:
                run.end(force=True)
            time.sleep(0.1)
        run.finish()


def say(line, end="\n"):
    """Print a line; on a terminal, in place of the live one."""
    print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, end=end, flush=True)


def report(runs):
    """Print the final table, then where and why each failure happened."""
    width = max(len(run.name) for run in runs)
    say(f"\n{'notebook':{width}}  {'status':17}  seconds  headline")
    for run in runs:
        print(f"{run.name:{width}}  {run.status:17}  {run.seconds:7.1f}  {run.headline}".rstrip())
    for run in [run for run in runs if run.detail]:
        print(f"\n{run.notebook.name}, {run.detail}\n  its log: {run.log}")
        print(f"  its output: {run.failed}" if run.failed.exists() else "  no output")


def parse(arguments):
    """Return the options of the command line; a wrong one ends the program with one sentence."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NN", help="notebooks whose name begins so")
    parser.add_argument("--profile", choices=PROFILES, help="how much each notebook runs")
    parser.add_argument("--data", help=f"{', '.join(SOURCES)}, or a folder of pictures")
    parser.add_argument("--device", choices=DEVICES, help="where the networks run")
    parser.add_argument("--seed", type=int, help="of every random number, 0 or more")
    parser.add_argument("--jobs", type=int, help="at once (by cores and memory; on a GPU 1)")
    limits = ", ".join(f"{seconds} {name}" for name, seconds in TIMEOUTS.items())
    parser.add_argument("--timeout", type=int, help=f"seconds a cell may take ({limits})")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="their folder")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where results go")
    chosen = parser.parse_args(arguments)
    if chosen.data not in (None, *SOURCES):
        folder = Path(chosen.data).expanduser().resolve()  # the notebooks run in another folder
        if not folder.is_dir():
            parser.error(f"no folder {folder}: --data takes {', '.join(SOURCES)} or a folder")
        chosen.data = str(folder)
    if chosen.timeout is None:
        profile = chosen.profile or os.environ.get("DENSENET_PROFILE")
        chosen.timeout = TIMEOUTS.get(profile, TIMEOUTS["quick"])
    if chosen.timeout < 1 or (chosen.jobs or 1) < 1 or (chosen.seed or 0) < 0:
        parser.error("--jobs and --timeout take 1 or more, --seed takes 0 or more")
    found = sorted(chosen.notebooks.resolve().glob("[0-9]*.ipynb"))
    for start in chosen.only or [""]:
        if not any(path.name.startswith(start) for path in found):
            names = " ".join(path.stem for path in found) or "none"
            parser.error(f"no notebook {start} in {chosen.notebooks}; there are: {names}")
    chosen.found = [p for p in found if p.name.startswith(tuple(chosen.only or [""]))]
    return chosen


def on_gpu(device):
    """Say whether a GPU will be used, which several notebooks at once would fill, and mistime."""
    if device is None:
        device = os.environ.get("DENSENET_DEVICE", "auto")
    if device == "auto" and shutil.which("nvidia-smi"):  # a GPU: can this PyTorch use it?
        look = "import sys, torch; sys.exit(not torch.cuda.is_available())"
        return subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
    return device in ("cuda", "mps")


def room():
    """Return for how many notebooks there is memory: 2.5 GB each, of which a kernel takes 1."""
    try:
        return max(1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2_500_000_000)
    except (AttributeError, ValueError):  # Windows does not say
        return 4


def run(chosen):
    """Run the notebooks that `parse` found, end with a table, and return the runs."""
    options = ["--execution-timeout", str(chosen.timeout), "--start-timeout", "120"]
    for name in ("profile", "data", "device", "seed"):  # what is not given, the notebook decides
        if (value := getattr(chosen, name)) is not None:
            options += ["-p", name.upper(), str(value)]
    runs = [Execution(path, chosen.build.resolve(), options) for path in chosen.found]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = 1 if on_gpu(chosen.device) else max(min(cores, 2), min(cores // 2, room()))
    jobs = min(chosen.jobs or most, len(runs))
    began = time.monotonic()
    execute(runs, jobs, threads=max(1, cores // jobs))
    report(runs)
    good, seconds = sum(run.status == "ok" for run in runs), time.monotonic() - began
    print(f"\n{good} of {len(runs)} notebooks ran through, in {seconds:.0f} s, {jobs} at a time.")
    return runs


def main(arguments=None):
    """Run the chosen notebooks and return the exit code: 0, 1 (a failure) or 130 (interrupted)."""
    runs = run(parse(arguments))
    return 130 if signals else int(any(run.status != "ok" for run in runs))


def listen():
    """Note the signals that ask to stop, and print what the terminal's alphabet allows."""
    for sign in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        if sign == signal.SIGINT or signal.getsignal(sign) != signal.SIG_IGN:  # as nohup asks
            signal.signal(sign, lambda number, frame: signals.append(number))
    sys.stdout.reconfigure(errors="replace")  # a headline may not fit


if __name__ == "__main__":
    listen()
    sys.exit(main())
