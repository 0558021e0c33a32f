"""Judge the entries of the capstone (notebook 16) and rank them; capstone/README.md has the rules.

python tools/capstone.py capstone/*.py --minutes 1 --out build/capstone.csv

Each entry trains in a fresh interpreter (arena.py), behind walls (sandbox.py), for so many minutes
of two cores, counted as processor time, so that waiting costs nothing. (On a busy machine a second
of it still does less: compare entries on a quiet one.) What comes back is the numbers of its
network and nothing else. A second interpreter builds the network anew, gets these numbers and the
test pictures without their labels, and answers. A third is asked some of the pictures again, in
other company: each is to be judged by itself. Every entry has a row, whatever happens, and the same
command goes on.
"""

import argparse
import csv
import hashlib
import math
import os
import pickle
import secrets
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: waiting threads free their core

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from densenet_lib import data  # noqa: E402
from densenet_lib.data import shapes  # noqa: E402
from densenet_lib.data.images import stratified  # noqa: E402
from tools import sandbox  # noqa: E402
from tools.arena import CORES, NUMBERS  # noqa: E402

SOURCE = 20_000  # bytes of an entry's file
MEMORY = 6 * 2**30  # bytes
ANSWERING = 120  # seconds of processor time to answer all test pictures
AGAIN, TOGETHER = 300, 7  # pictures that are asked a second time, and how many at once
COLUMNS = ["entry", "seed", "accuracy", "luck", "numbers", "seconds", "remark", "key"]


class Refused(Exception):
    """Why an entry has no result, in one sentence."""


def judged(path, seed, pictures, test, chosen):
    """Return what an entry's row says: accuracy, luck, numbers, seconds, or a remark."""
    row, source, seconds = {}, path.read_bytes(), 60 * CORES * chosen.minutes
    try:
        if len(source) > SOURCE:
            raise Refused(f"a file of {len(source):,} bytes, more than {SOURCE:,}")
        given = (source, pictures, seconds, seed)
        learned, used = inside(chosen, "learn", seconds, 4 * NUMBERS + 4000, *given)
        numbers = from_hex(learned)
        row |= {"numbers": len(numbers) // 2, "seconds": f"{used:.0f}"}
        if len(numbers) > 2 * NUMBERS:
            raise Refused(f"{len(numbers) // 2:,} numbers, more than {NUMBERS:,}")
        answers = ask(chosen, test, 100, source, numbers, seed)
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:AGAIN]
        again = ask(chosen, test.subset(order), TOGETHER, source, numbers, seed)
        others = sum(answers[i] != said for i, said in zip(order.tolist(), again, strict=True))
        if others > len(again) / 100:
            asked = f"asked {len(again)} pictures again, in another order"
            raise Refused(f"{asked}, it gave {others} of them another answer")
        share = mean(float(a == str(b)) for a, b in zip(answers, test.labels.tolist(), strict=True))
        luck = math.sqrt(share * (1 - share) / len(test))
        return row | {"accuracy": f"{share:.4f}", "luck": f"{luck:.4f}"}
    except Refused as error:
        plain = "".join(c if c.isprintable() else " " for c in str(error))
        return row | {"remark": plain[:300].lstrip("=+-@")}  # no formula of a spreadsheet


def from_hex(text):
    """Return the bytes that a text of hexadecimal digits stands for."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Refused("what came back are no numbers") from None


def ask(chosen, test, size, source, numbers, seed):
    """Return the answers to pictures, asked without their labels, so many at once."""
    unlabelled = replace(test, labels=torch.zeros_like(test.labels))
    given = (source, numbers, unlabelled, size, seed)
    answers = inside(chosen, "answer", ANSWERING, 20 * len(test) + 4000, *given)[0].split()
    if len(answers) != len(test):
        raise Refused("what came back are no answers")
    return answers


def inside(chosen, function, seconds, size, *given):
    """Have arena.py run a function in the sandbox; return its text, and the seconds that it used.

    Raises: Refused, if there is no text, or it took more seconds of processor time than allowed.
    """
    job = pickle.dumps((function, seconds, chosen.cores, given))
    patience = chosen.patience * (seconds / chosen.cores + 15)
    options = {"hidden": hidden(chosen), "memory": MEMORY, "size": size + 100}
    try:
        text = sandbox.run(partial(apart, job, size), patience, **options)
    except TimeoutError:
        raise Refused(f"killed: not ready after {patience:.0f} seconds") from None
    except ChildProcessError as error:
        raise Refused(f"it ended without a result ({error})") from None
    used, code, said = text.split(" ", 2)
    if float(used) > seconds + 1:
        spent = f"{float(used):.1f} seconds of processor time"
        raise Refused(f"{spent}, more than {seconds:g}")
    if not said.endswith("\n"):
        raise Refused(f"it ended without a result (exit code {code})")
    if said.startswith("! "):
        raise Refused(said[2:].strip())
    return said, float(used)


def apart(job, size, _walls):
    """Hand a job to a fresh interpreter, inside; return its seconds, its exit code and its text.

    This process has the judge's memory, so no other may read it. What the job leaves running is
    ended, waited for, and counted.
    """
    import resource  # Windows has none

    sandbox.close_memory()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    arena = subprocess.Popen([sys.executable, "-m", "tools.arena"], env=environment, **pipes)
    arena.stdin.write(job)
    arena.stdin.close()
    start = arena.stdout.readline()  # written before the entry's first line runs
    said = arena.stdout.readline(size)
    with suppress(OSError):  # in a namespace of its own, this process is the first: all the others
        os.kill(-1 if os.getpid() == 1 else -arena.pid, signal.SIGKILL)
    code = arena.wait()
    with suppress(ChildProcessError):  # there are no more
        while True:
            os.wait()
    times = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = times.ru_utime + times.ru_stime - float(start or 0)
    return f"{used} {code} {said.decode('utf-8', 'replace')}"


def to_judge(chosen):
    """Return the pictures to train on and those to judge by, two ImageSets.

    The latter are shapes never drawn before, or a test split; in a trial, a fifth of what there is
    to train on. Their order tells no label.
    """
    pictures = data.load_images(chosen.data, "train", limit=chosen.limit)
    if chosen.trial:
        pictures, test = data.split_validation(data.load_images(chosen.data, "train"), 0.2)
        few = stratified(pictures.labels, 0)[: chosen.limit].sort().values
        pictures = pictures.subset(few)
    elif chosen.data == "shapes":
        images, labels = map(torch.tensor, shapes.draw("test", seed=chosen.contest))
        test = replace(pictures, images=images, labels=labels, split="test")
    else:
        test = data.load_images(chosen.data, "test")
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(chosen.contest))
    return pictures, replace(test.subset(order), mean=pictures.mean, std=pictures.std)


def hidden(chosen):
    """Return the folders that no entry may look into: pictures, answers, what we have trained."""
    ours = [ROOT / "build", ROOT / ".git", ROOT / "densenet_lib" / "recorded"]
    folders = [*ours, data.home(), chosen.out.resolve().parent]
    return folders + ([Path(chosen.data)] if Path(chosen.data).is_dir() else [])


def load(out):
    """Return the rows of an earlier call by their key."""
    if not out.exists():
        return {}
    with out.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{out} is not a table of capstone.py: choose another --out")
        return {row["key"]: row for row in reader}


def store(out, rows):
    """Write the whole table beside the old one, for our eyes only, then in its place.

    It begins with a mark by which Excel reads the accents.
    """
    partial_out = out.with_name(f"{out.name}.partial")
    with partial_out.open("w", encoding="utf-8-sig", newline="") as file:
        os.chmod(partial_out, 0o600)
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows.values())
    os.replace(partial_out, out)


def contest_of(known, settled):
    """Return the seed of an interrupted contest of the same settings, else a new one."""
    for key in known:
        before, _, contest = key.rpartition(" contest ")
        if before.endswith(f" {settled}"):
            return int(contest)
    return secrets.randbelow(2**31)


def ranking(rows):
    """Return lines of text: the entries from best to worst, those without a result at the end."""
    entries = {}
    for row in rows:
        entries.setdefault(row["entry"], []).append(row)

    def place(runs):
        done = all(run["accuracy"] for run in runs)
        score = mean(float(run["accuracy"]) for run in runs) if done else -1
        return -round(score, 6), int(runs[0]["numbers"] or 0)

    named = f"{'accuracy':>9}{'luck':>7}{'spread':>8}{'numbers':>9}{'seconds':>9}"
    lines = [f"{'rank':>4}  {'entry':16}{named}"]
    for rank, (name, runs) in enumerate(sorted(entries.items(), key=lambda e: place(e[1])), 1):
        score, numbers = place(runs)
        if score > 0:
            said = next(run["remark"] for run in runs if not run["accuracy"])
            lines.append(f"{'-':>4}  {name:16}{said}")
            continue
        luck = mean(float(run["luck"]) for run in runs)
        right = [float(run["accuracy"]) for run in runs]
        spread = f"{stdev(right):.1%}" if len(runs) > 1 else ""
        used = mean(float(run["seconds"]) for run in runs)
        measured = f"{-score:9.1%}{luck:7.1%}{spread:>8}{numbers:9,}{used:9.0f}"
        lines.append(f"{rank:>4}  {name:16}{measured}")
    return lines


def parse(arguments):
    """Return the options of the command line; a wrong one ends the program with one sentence."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("entries", nargs="+", type=Path, help="Python files")
    parser.add_argument("--minutes", type=float, default=10, help="of two cores (10)")
    parser.add_argument("--cores", type=int, default=CORES, help="to use at once (2); same budget")
    parser.add_argument(
        "--data", default="auto", help="as everywhere: shapes, a folder, ... (auto)"
    )
    parser.add_argument("--limit", type=int, help="so many training pictures only")
    held_out = "judge by a fifth of the training pictures, held out: for all but the contest"
    parser.add_argument("--try", dest="trial", action="store_true", help=held_out)
    waits = "kill what takes so many times longer by the clock (3); more on a busy machine"
    parser.add_argument("--patience", type=float, default=3, help=waits)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each entry (1)")
    parser.add_argument("--contest", type=int, help="seed of the test shapes (drawn by chance)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "capstone.csv")
    chosen = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        parser.error("Windows cannot fork: use WSL")
    if missing := [str(path) for path in chosen.entries if not path.is_file()]:
        parser.error(f"no file {', '.join(missing)}")
    names = Counter(path.stem for path in chosen.entries)
    if twice := [name for name, count in names.items() if count > 1]:
        parser.error(f"several entries have the same name, {', '.join(twice)}: rename the files")
    if ROOT.is_relative_to(chosen.out.resolve().parent):  # which cannot be hidden from them
        parser.error("entries could read a table that lies there: use --out build/NAME.csv")
    if chosen.minutes <= 0 or chosen.seeds < 1 or not 1 <= chosen.cores <= CORES:
        parser.error("--minutes must be above 0, --seeds 1 or more, --cores 1 or 2")
    try:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.known = load(chosen.out)
        chosen.data = data.resolve(chosen.data)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return chosen


def main(arguments=None):
    """Judge what is not judged yet, print the ranking and return the exit code."""
    chosen = parse(arguments)
    torch.set_num_threads(1)  # a process that has threads cannot be forked safely
    sandbox.close_memory()
    settled = f"{chosen.minutes:g} minutes {chosen.data} {chosen.limit}{' try' * chosen.trial}"
    if chosen.contest is None:
        chosen.contest = 0 if chosen.trial else contest_of(chosen.known, settled)
    pictures, test = to_judge(chosen)
    rows, now = chosen.known, []
    for seed in range(chosen.seeds):
        for path in chosen.entries:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            key = f"{path.stem} {digest} {seed} {settled} contest {chosen.contest}"
            if key not in rows:
                result = judged(path, seed, pictures, test, chosen)
                row = dict.fromkeys(COLUMNS, "") | {"entry": path.stem, "seed": seed, "key": key}
                rows[key] = {name: str(value) for name, value in (row | result).items()}
                store(chosen.out, rows)
                said = rows[key]["remark"] or f"{float(rows[key]['accuracy']):.1%}"
                print(f"{path.stem}, seed {seed}: {said}", flush=True)
            now.append(rows[key])
    print("", *ranking(now), "", f"The table is {chosen.out}.", sep="\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped: the same command goes on from here")
