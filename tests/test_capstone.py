"""The capstone's judge, on planted entries: sound ones, too large ones, such as hang or cheat."""

import csv
import os
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import pytest
from house_rules import ROOT

if not hasattr(os, "fork"):
    pytest.skip("the judge needs os.fork", allow_module_level=True)

import torch
from PIL import Image

from densenet_lib import data
from densenet_lib.data import shapes
from tools import arena, capstone

LINEAR = """
import torch
from torch import nn

def network(classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, classes){more})

def train(network, pictures, left):
    {train}
"""
LEARN = """images = torch.stack([pictures[i][0] for i in range(len(pictures))])
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), pictures.labels).backward()
        optimizer.step()"""


def entry(train="pass", more="", before=""):
    return before + LINEAR.format(train=train, more=more)


# It looks for what the judge knows: in memory, on the stack, in other processes, in files.
SPY = """
import argparse, gc, os, sys
from contextlib import suppress

from densenet_lib import checkpoints
from densenet_lib.data import ImageSet, shapes, sources

def found(given):
    frame = sys._getframe()
    while frame := frame.f_back:
        yield from {"chosen", "test", "labels", "contest"} & frame.f_locals.keys()
    for thing in gc.get_objects():
        if isinstance(thing, (argparse.Namespace, ImageSet)) and thing is not given:
            yield type(thing).__name__
    if sources._draw_shapes.cache_info().currsize:
        yield "shapes drawn before"
    for number in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        with suppress(OSError):
            if "--contest" in open(f"/proc/{number}/cmdline").read():
                yield f"the judge's command, in process {number}"
        with suppress(OSError):
            if int(number) != os.getpid():
                open(f"/proc/{number}/mem", "rb").close()
                yield f"the memory of process {number}"
    with suppress(FileNotFoundError):
        checkpoints.recorded("best-240k")
        yield "trained weights"
    with suppress(PermissionError):
        shapes.draw("test", seed=3)
        yield "shapes"
"""
CLOCK = """import time
    clock = time.process_time
    until = clock() + 2.6
    time.process_time = time.monotonic = time.time = lambda: 0.0
    while clock() < until:
        pass"""
HELPER = """import os, time
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        while time.process_time() < 2.6:
            pass
        os.write(writer, b"done")
        time.sleep(60)
    os.read(reader, 4)"""
COMPANY = """
from torch import nn

class Company(nn.Module):
    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, training=True)
"""
ENTRIES = {  # name: (source, what the row's remark says; None for a result)
    "sound": (entry(LEARN), None),
    "too-long": (entry(before="#" * 20_000), "bytes, more than 20,000"),
    "never-ends": (entry("while True: pass"), r"\d\.\d seconds of processor time, more than 1.2"),
    "spies": (entry("raise ValueError(sorted(set(found(pictures))))", before=SPY), r"Error: \[\]"),
    "stops-clock": (entry(CLOCK), r"[23]\.\d seconds of processor time, more than 1.2"),
    "has-helper": (entry(HELPER), r"[23]\.\d seconds of processor time, more than 1.2"),
    "company": (entry(more=", Company()", before=COMPANY), r"gave \d+ of them another answer"),
}
GROW = "network.register_buffer('extra', torch.zeros(100_001){})"
SWAP = "network[2] = nn.Linear(48, 9)"
SOURCES = {  # name: (source, the error)
    "too-large": (entry(more=", nn.Linear(10, 10_000)"), "110,490 numbers, more than 100,000"),
    "grows": (entry(GROW.format("")), "100,491 numbers, more than 100,000"),
    "grows-unseen": (entry(GROW.format(", persistent=False")), "100,491 numbers, more than"),
    "other-shape": (entry(SWAP), "trained, it has 441 numbers, but fresh 490"),
    "raises": (entry("1 / 0"), "division by zero"),
    "no-network": ("x = 1", r"the file defines no function network\(classes\)"),
    "no-train": ("network = print", r"no function train\(network, pictures, left\)"),
    "no-python": ("def", "invalid syntax"),
    "wrong-shape": (entry(more=", nn.Softmax(dim=0), nn.Unflatten(1, (2, 5))"), "answers of shape"),
}


@pytest.fixture(scope="module")
def contest(tmp_path_factory):
    """Judge all planted entries; return the table's rows by entry, and what was printed."""
    folder = tmp_path_factory.mktemp("entries")
    for name, (source, _) in ENTRIES.items():
        (folder / f"{name}.py").write_text(source, "utf-8")
    return folder, *judge(folder, *ENTRIES)


def judge(folder, *names, patience=1.5):
    """Run the judge in a process of its own; return (rows by entry, printed)."""
    out = folder / "out" / "table.csv"
    files = [str(folder / f"{name}.py") for name in names]
    options = ["--minutes", "0.01", "--patience", str(patience), "--cores", "1", "--limit", "100"]
    options += ["--data", "shapes", "--contest", "3", "--out", str(out)]
    command = [sys.executable, str(ROOT / "tools" / "capstone.py"), *files, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.read_text("utf-8-sig").splitlines()))
    return {row["entry"]: row for row in rows}, done.stdout


def walled():
    """Ask a process without threads, which can be forked, whether this system has namespaces."""
    code = "from tools import sandbox; print(sandbox.run(str, 60))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    return done.stdout == "True\n"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_has_a_row_that_says_what_became_of_it(contest, name):
    _, rows, _ = contest
    remark = ENTRIES[name][1]
    if remark is None:
        assert rows[name]["remark"] == "" and 0 < float(rows[name]["accuracy"]) < 1
        return
    assert rows[name]["accuracy"] == ""
    if not re.search(remark, rows[name]["remark"]) and name in ("spies", "has-helper"):
        assert not walled(), rows[name]["remark"]
        pytest.skip("no namespaces on this system")
    assert re.search(remark, rows[name]["remark"])


def test_an_entry_that_sleeps_is_killed(tmp_path):
    (tmp_path / "sleeps.py").write_text(entry("__import__('time').sleep(600)"), "utf-8")
    rows, _ = judge(tmp_path, "sleeps", patience=0.4)
    assert rows["sleeps"]["remark"] == "killed: not ready after 6 seconds"


def test_a_result_is_that_of_the_network_on_the_shapes_of_this_contest(contest):
    _, rows, printed = contest
    assert [line.split()[:2] for line in printed.splitlines() if " sound " in line] == [
        ["1", "sound"]
    ]
    assert rows["sound"]["numbers"] == "490" and float(rows["sound"]["seconds"]) <= 2
    pictures, test = capstone.to_judge(chosen())
    names, network = arena.begin(ENTRIES["sound"][0], 10, seed=0)
    names["train"](network, pictures, None)
    images, labels = map(torch.tensor, shapes.draw("test", seed=3))
    fresh = replace(test, images=images, labels=labels)
    assert len(pictures) == 100 and len(fresh) == 2000
    with torch.no_grad():
        logits = torch.cat([network(some) for some, _ in data.Batches(fresh, 500)])
    right = (logits.argmax(dim=1) == labels).double().mean().item()
    assert float(rows["sound"]["accuracy"]) == pytest.approx(right, abs=5e-3)


def test_it_goes_on_and_judges_a_changed_entry_again(contest):
    folder, rows, _ = contest
    (folder / "too-long.py").write_text(entry(before="#" * 30_000), "utf-8")
    again, printed = judge(folder, "sound", "too-long")
    assert "sound, seed 0" not in printed and "too-long, seed 0: a file of 30," in printed
    assert again["sound"] == rows["sound"] and again["too-long"] != rows["too-long"]


@pytest.mark.parametrize("name", SOURCES)
def test_an_entry_that_is_no_network_of_this_size_is_told_so(name):
    source, error = SOURCES[name]
    pictures = data.load_images("shapes", "train", limit=100)
    with pytest.raises((ArithmeticError, NameError, SyntaxError, ValueError), match=error):
        numbers = bytes.fromhex(arena.learn(source, pictures, 1, 0))
        arena.answer(source, numbers, pictures, 100, 0)


@pytest.mark.parametrize(
    ("said", "remark"),
    [
        ("0", "it ended without a result (exit code -9)"),
        ("[[[[\n", "what came back are no numbers"),
        ("\ud800\x1b[2J\n", "what came back are no numbers"),
        ("! Error: \ud800\0\x1b[2J\n", "Error:    [2J"),
        ('! =HYPERLINK("x"): y\n', 'HYPERLINK("x"): y'),  # in a spreadsheet it stays a text
        ("00" * 200_002 + "\n", "100,001 numbers, more than 100,000"),
        ("0000\n", "what came back are no answers"),
    ],
)
def test_whatever_comes_back_there_is_a_row(said, remark, monkeypatch):
    monkeypatch.setattr(capstone.sandbox, "run", lambda *_, **__: f"0.5 -9 {said}")
    pictures = data.load_images("shapes", "train", limit=100)
    row = capstone.judged(ROOT / "capstone" / "plain.py", 0, pictures, pictures, chosen())
    assert row["remark"] == remark and "accuracy" not in row


@pytest.mark.parametrize(
    ("others", "field", "said"),
    [
        (3, "luck", "0.0150"),  # the root of 0.1 * 0.9 / 400
        (4, "remark", "it gave 4 of them another answer"),
    ],
)
def test_three_of_300_may_get_another_answer(others, field, said, monkeypatch):
    test = data.load_images("shapes", "test", limit=400)
    answers = iter([["1"] * 400, ["2"] * others + ["1"] * (300 - others)])
    monkeypatch.setattr(capstone, "inside", lambda *_: ("0000\n", 1.0))
    monkeypatch.setattr(capstone, "ask", lambda *_: next(answers))
    fewer = test.subset(slice(100))  # to learn from, which luck does not count
    row = capstone.judged(ROOT / "capstone" / "plain.py", 0, fewer, test, chosen())
    assert row[field].endswith(said)


def chosen(**options):
    """Return the judge's options, as `judge` sets them."""
    usual = {"minutes": 0.01, "cores": 1, "patience": 1, "contest": 3, "out": ROOT / "build" / "x"}
    return Namespace(**{"data": "shapes", "limit": 100, "trial": False, **usual, **options})


def row(name, accuracy, numbers="5", seed=0):
    fields = dict.fromkeys(capstone.COLUMNS, "0") | {"entry": name, "remark": "bad", "seed": seed}
    return fields | {"accuracy": accuracy, "numbers": numbers}


def test_equal_accuracy_is_ranked_by_size():
    rows = [row("b", "0.5", "20"), row("a", "0.5", "10"), row("c", "0.9", "30"), row("d", "")]
    lines = capstone.ranking(rows)[1:]
    assert [line.split()[:2] for line in lines] == [["1", "c"], ["2", "a"], ["3", "b"], ["-", "d"]]


def test_several_seeds_have_a_spread():
    rows = [row("a", accuracy, seed=seed) for seed, accuracy in enumerate(("0.6", "0.7", "0.8"))]
    head, three = map(str.split, capstone.ranking(rows))
    assert head[4] == "spread" and three == ["1", "a", "70.0%", "0.0%", "10.0%", "5", "0"]
    head, one = capstone.ranking(rows[:1])
    assert len(one) == len(head) and one.split() == ["1", "a", "60.0%", "0.0%", "5", "0"]


def test_the_numbers_of_a_network_come_back_as_bfloat16_and_no_finer():
    pair = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)) for _ in range(2)]
    pair[0](torch.randn(5, 3))
    arena.unpack(pair[1], arena.packed(pair[0]))
    states = [network.state_dict() for network in pair]
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value.bfloat16().to(value.dtype))
    with pytest.raises(ValueError, match="has 5 numbers, but fresh 17"):
        arena.unpack(pair[1], arena.packed(pair[0])[:10])
    three_in_one = 1 + 2 * 2**8 + 3 * 2**16  # which float32 holds exactly
    torch.nn.init.constant_(pair[0][0].weight, three_in_one)
    arena.unpack(pair[1], arena.packed(pair[0]))
    assert pair[1][0].weight[0, 0] == 4 * 2**8 + 3 * 2**16  # one lost, one wrong


def test_what_a_network_holds_twice_counts_once_and_what_it_hides_counts():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    network[1].weight = network[0].weight
    network.register_buffer("kernel", torch.randn(3), persistent=False)
    assert len(arena.packed(network)) == 2 * (16 + 4 + 4 + 3)


def test_a_contest_goes_on_with_its_pictures_and_another_has_its_own():
    known = {f"a 12 0 {minutes} minutes shapes None contest {minutes}": {} for minutes in (1, 10)}
    known["a 12 0 2 minutes shapes None try contest 0"] = {}
    assert capstone.contest_of(known, "1 minutes shapes None") == 1
    assert capstone.contest_of(known, "10 minutes shapes None") == 10
    fresh = {capstone.contest_of(known, f"{n} minutes shapes None") for n in (0, 2) for _ in "abcd"}
    assert len(fresh) == 8 and not fresh & {0, 1, 10}


def unlike(some, others):
    """Say whether no picture of one set is in the other, nor twice in either."""
    images = [image.numpy().tobytes() for image in (*some.images, *others.images)]
    return len(set(images)) == len(images)


def test_a_trial_is_judged_by_a_fifth_of_the_training_pictures():
    pictures, test = capstone.to_judge(chosen(trial=True))
    assert len(pictures) == 100 and len(test) == 2000 and unlike(pictures, test)
    assert pictures.labels.bincount().tolist() == [10] * 10
    whole, same = capstone.to_judge(chosen(trial=True, limit=None))
    assert len(whole) == 8000 and torch.equal(same.images, test.images) and unlike(whole, test)
    usual = data.load_images("shapes", "train")
    assert (whole.mean, test.mean) == (usual.mean, usual.mean)
    everything = {image.numpy().tobytes() for image in usual.images}
    assert everything == {image.numpy().tobytes() for image in (*whole.images, *test.images)}


def test_the_order_of_a_folder_tells_no_label(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "home"))
    folder = tmp_path / "shapes"  # a name that is no source
    for name, shade in (("ant", 50), ("bee", 200)):
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
            for i in range(20):
                image = Image.new("RGB", (32, 32), (shade, shade, i))
                image.save(folder / split / name / f"{i}.png")
    options = chosen(data=str(folder), limit=None)
    pictures, test = capstone.to_judge(options)
    labels = test.labels.tolist()
    assert test.split == "test" and test.mean == pictures.mean
    assert sorted(labels) == [0] * 20 + [1] * 20 != labels
    assert capstone.to_judge(options)[1].labels.tolist() == labels
    pictures, test = capstone.to_judge(chosen(data=str(folder), limit=None, trial=True))
    assert (len(pictures), len(test), test.split) == (32, 8, "validation")


def test_labels_are_not_among_what_an_entry_is_asked(monkeypatch):
    given = []
    monkeypatch.setattr(capstone, "inside", lambda *job: (given.append(job), ("1 " * 100, 1))[1])
    pictures = data.load_images("shapes", "train", limit=100)
    assert capstone.ask(chosen(), pictures, 7, b"", b"", 0) == ["1"] * 100
    asked = given[0][6]
    assert asked.labels.unique().tolist() == [0] and torch.equal(asked.images, pictures.images)


def test_pictures_answers_and_what_we_have_trained_are_hidden(monkeypatch, tmp_path):
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "home"))
    photos, out = tmp_path / "photos", tmp_path / "out" / "table.csv"
    photos.mkdir()
    own = {ROOT / "build", ROOT / ".git", ROOT / "densenet_lib" / "recorded"}
    own |= {tmp_path / "home", out.parent}
    assert own <= set(capstone.hidden(chosen(out=out)))
    assert own | {photos} <= set(capstone.hidden(chosen(data=str(photos), out=out)))


@pytest.mark.parametrize("name", ["plain", "origin", "ours"])
def test_our_entries_keep_to_the_rules(name):
    path = ROOT / "capstone" / f"{name}.py"
    names = {}
    exec(compile(path.read_text("utf-8"), path.name, "exec"), names)
    network = names["network"](10)
    assert len(arena.packed(network)) <= 2 * capstone.NUMBERS
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    pictures, time_left = data.load_images("shapes", "train", limit=70), iter([10, 9, 6, 1.5, 1, 0])
    before = arena.packed(network)
    names["train"](network.train(), pictures, lambda: next(time_left))
    assert arena.packed(network) != before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.py"], "no file none.py"),
        (["{own}", "{own}"], "have the same name, plain: rename"),
        (["{own}", "--minutes", "0"], "must be above 0"),
        (["{own}", "--data", "no-such-folder"], "no-such-folder"),
        (["{own}", "--out", str(ROOT / "table.csv")], "use --out build/NAME.csv"),
        (["{own}", "--out", str(ROOT.parent / "table.csv")], "use --out build/NAME.csv"),
    ],
)
def test_wrong_options_end_with_a_sentence(arguments, told, capsys, tmp_path):
    own = str(ROOT / "capstone" / "plain.py")
    arguments = [text.format(own=own) for text in arguments]
    with pytest.raises(SystemExit):
        capstone.main(["--out", str(tmp_path / "table.csv"), *arguments])
    assert told in capsys.readouterr().err
