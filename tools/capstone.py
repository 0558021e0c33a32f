"""Judge the entries of the capstone (notebook 16) and rank them; capstone/README.md has the rules.

python tools/capstone.py capstone/*.py --minutes 1 --out build/capstone.csv

Each entry trains in a process of its own (sandbox.py says behind which walls), for so many minutes
of two cores, counted as processor time, so that other work on the machine takes nothing away. What
comes back is the network's state and nothing else. A second process builds the network anew, gets
this state and the test pictures without their labels, and answers. The labels are made when the
answers are there. Every entry has a row, whatever happens, and the same command goes on.
"""

import argparse
import base64
import csv
import hashlib
import json
import math
import os
import secrets
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: waiting threads free their core

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from densenet_lib import data  # noqa: E402
from densenet_lib.data import shapes  # noqa: E402
from tools import sandbox  # noqa: E402

NUMBERS = 100_000  # in the network's state
SOURCE = 20_000  # bytes of an entry's file
CORES = 2
MEMORY = 6 * 2**30  # bytes
ANSWERING = 120  # seconds of processor time to answer all test pictures
COLUMNS = ["entry", "seed", "accuracy", "luck", "numbers", "seconds", "remark", "key"]


def learn(source, pictures, seconds, seed, cores, _walls):
    """Run an entry's training, inside; return its state and the seconds used, as JSON."""
    try:
        limit(1.1 * seconds + 3, cores)
        torch.optim.SGD([torch.zeros(1)], 0.1)  # loads what the first optimizer loads
        start, names = time.process_time(), {"__name__": "entry"}
        torch.manual_seed(seed)
        exec(compile(source, "<entry>", "exec"), names)
        network = names["network"](len(pictures.classes))
        if (numbers := len(packed(network))) > NUMBERS:  # before its ten minutes, not after
            return json.dumps({"error": f"{numbers:,} numbers, more than {NUMBERS:,}"})
        names["train"](network, pictures, lambda: seconds - (time.process_time() - start))
        used = time.process_time() - start
        state = base64.b64encode(packed(network).tobytes()).decode()
        return json.dumps({"seconds": used, "state": state})
    except BaseException as error:  # exit() as well
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})


def answer(source, state, pictures, seed, cores, _walls):
    """Build the network anew, inside, give it its state; return its answers to pictures as JSON."""
    try:
        limit(ANSWERING, cores)
        names = {"__name__": "entry"}
        torch.manual_seed(seed)
        exec(compile(source, "<entry>", "exec"), names)
        network = names["network"](len(pictures.classes))
        unpack(network, np.frombuffer(state, np.float32))
        network.eval()
        with torch.no_grad():
            logits = [network(images) for images, _ in data.Batches(pictures, 100)]
        logits = torch.cat(logits)
        expected = (len(pictures), len(pictures.classes))
        if logits.shape != expected:
            return json.dumps({"error": f"answers of shape {tuple(logits.shape)}, not {expected}"})
        return json.dumps({"answers": logits.argmax(dim=1).tolist()})
    except BaseException as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})


def limit(seconds, cores):
    """Allow this process so many seconds of processor time, on so many cores, and no new shapes."""
    import resource  # Windows has none

    seconds += math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(cores)

    def refuse(*_, **__):
        raise PermissionError("train on the pictures that you are given, and on no others")

    shapes.draw = data.load_images = data.sources.load_images = refuse


def packed(network):
    """Return all that is in a network's state, one number after another, as float32."""
    values = [value.detach().cpu().float().flatten() for value in network.state_dict().values()]
    return torch.cat(values).numpy() if values else np.empty(0, np.float32)


def unpack(network, numbers):
    """Put numbers back into a network of the same shape."""
    state = network.state_dict()
    if (needed := sum(value.numel() for value in state.values())) != len(numbers):
        raise ValueError(f"trained, its state has {len(numbers):,} numbers, but fresh {needed:,}")
    pieces = torch.tensor(numbers).split([value.numel() for value in state.values()])
    with torch.no_grad():
        for value, piece in zip(state.values(), pieces, strict=True):
            value.copy_(piece.view(value.shape))


def test_pictures(source, contest, pictures):
    """Return the pictures to judge by, an ImageSet: shapes never drawn before, or a test split."""
    if source != "shapes":
        test = replace(data.load_images(source, "test"), mean=pictures.mean, std=pictures.std)
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(contest))
        return test.subset(order)  # in a folder's own order its labels could be told
    images, labels = map(torch.tensor, shapes.draw("test", seed=contest))
    return replace(pictures, images=images, labels=labels, split="test")


def unlabelled(source, contest, pictures):
    """Return the test pictures, all with label 0: the true ones are not in memory."""
    pictures = test_pictures(source, contest, pictures)
    return replace(pictures, labels=torch.zeros_like(pictures.labels))


def judged(path, seed, pictures, chosen):
    """Return what an entry's row says: accuracy, luck, numbers, seconds, or a remark."""
    source = path.read_bytes()
    if len(source) > SOURCE:
        return {"remark": f"a file of {len(source):,} bytes, more than {SOURCE:,}"}
    seconds = 60 * CORES * chosen.minutes
    size = 6 * NUMBERS + 4000  # bytes of the state in base64, and more
    options = {"memory": MEMORY, "hidden": hidden(chosen), "size": size}
    work = partial(learn, source, pictures, seconds, seed, chosen.cores)
    learned = inside(work, chosen.patience * (seconds / chosen.cores + 15), **options)
    if "error" in learned:
        return {"remark": learned["error"]}
    try:
        state, used = base64.b64decode(learned["state"]), float(learned["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        return {"remark": f"what came back is no state: {error}"}
    row = {"numbers": len(state) // 4, "seconds": f"{used:.0f}"}
    if row["numbers"] > NUMBERS:
        return row | {"remark": f"{row['numbers']:,} numbers, more than {NUMBERS:,}"}
    if used > seconds + 1:
        return row | {"remark": f"{used:.0f} seconds of processor time, more than {seconds:.0f}"}
    asked = unlabelled(chosen.data, chosen.contest, pictures)
    work = partial(answer, source, state, asked, seed, chosen.cores)
    options["size"] = 20 * len(asked) + 4000
    answered = inside(work, chosen.patience * ANSWERING, **options)
    if "error" in answered:
        return row | {"remark": answered["error"]}
    labels = test_pictures(chosen.data, chosen.contest, pictures).labels.tolist()
    answers = answered.get("answers")
    if not isinstance(answers, list) or len(answers) != len(labels):
        return row | {"remark": "what came back are no answers"}
    share = mean(float(a == b) for a, b in zip(answers, labels, strict=True))
    luck = math.sqrt(share * (1 - share) / len(labels))
    return row | {"accuracy": f"{share:.4f}", "luck": f"{luck:.4f}", "remark": ""}


def inside(work, seconds, **options):
    """Run work in the sandbox; return what its JSON says, or {"error": why there is none}."""
    try:
        said = json.loads(sandbox.run(work, seconds, **options))
        return said if isinstance(said, dict) else {"error": "what came back is no answer"}
    except TimeoutError:
        return {"error": f"killed: not ready after {seconds:.0f} seconds"}
    except ChildProcessError as error:
        why = {
            "signal 24": "out of processor time",
            "signal 9": "killed: out of processor time, or of memory",
        }
        return {"error": why.get(str(error), f"it ended without a result ({error})")}
    except ValueError:
        return {"error": "what came back is no answer"}


def hidden(chosen):
    """Return the folders that no entry may look into: pictures, answers, what we have trained."""
    ours = [ROOT / "build", ROOT / ".git", ROOT / "densenet_lib" / "recorded"]
    folders = [*ours, data.home(), chosen.out.resolve().parent]
    return folders + ([Path(chosen.data)] if Path(chosen.data).is_dir() else [])


def load(out):
    """Return the rows of an earlier call by their key."""
    if not out.exists():
        return {}
    with out.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{out} is not a table of capstone.py: choose another --out")
        return {row["key"]: row for row in reader}


def store(out, rows):
    """Write the whole table beside the old one, for our eyes only, then in its place."""
    partial_out = out.with_name(f"{out.name}.partial")
    with partial_out.open("w", encoding="utf-8", newline="") as file:
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

    lines = [f"{'rank':>4}  {'entry':16}{'accuracy':>9}{'luck':>7}{'numbers':>9}{'seconds':>9}"]
    for rank, (name, runs) in enumerate(sorted(entries.items(), key=lambda e: place(e[1])), 1):
        score, numbers = place(runs)
        if score > 0:
            said = next(run["remark"] for run in runs if not run["accuracy"])
            lines.append(f"{'-':>4}  {name:16}{said}")
            continue
        luck = mean(float(run["luck"]) for run in runs)
        used = mean(float(run["seconds"]) for run in runs)
        lines.append(f"{rank:>4}  {name:16}{-score:9.1%}{luck:7.1%}{numbers:9,}{used:9.0f}")
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
    names = [path.stem for path in chosen.entries]
    if len(set(names)) < len(names):
        parser.error("two entries have the same name: rename one file")
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
    pictures = data.load_images(chosen.data, "train", limit=chosen.limit)
    settled = f"{chosen.minutes:g} minutes {chosen.data} {chosen.limit}"
    if chosen.contest is None:
        chosen.contest = contest_of(chosen.known, settled)
    rows, now = chosen.known, []
    for seed in range(chosen.seeds):
        for path in chosen.entries:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            key = f"{path.stem} {digest} {seed} {settled} contest {chosen.contest}"
            if key not in rows:
                result = judged(path, seed, pictures, chosen)
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
