"""The capstone's judge, on planted entries: sound ones, too large ones, such as hang or cheat."""

import csv
import os
import re
import subprocess
import sys

import pytest
from house_rules import ROOT

if not hasattr(os, "fork"):
    pytest.skip("the judge needs os.fork", allow_module_level=True)

import torch
from PIL import Image

from densenet_lib import data
from tools import capstone

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


PEEK = "from densenet_lib.data import shapes\n    shapes.draw('test', seed=3)"
GROW = "network.register_buffer('extra', torch.zeros(100_001))"
BORROW = "__import__('densenet_lib.checkpoints').checkpoints.recorded('best-240k')"
SWAP = "network[2] = nn.Linear(48, 9)"
ENTRIES = {  # name: (source, what the row's remark says; None for a result)
    "sound": (entry(LEARN), None),
    "untrained": (entry(), None),
    "larger": (entry(LEARN, ", nn.BatchNorm1d(10)"), None),
    "too-large": (entry(more=", nn.Linear(10, 10_000)"), "numbers, more than 100,000"),
    "grows": (entry(GROW), "100,491 numbers, more than 100,000"),
    "other-shape": (entry(SWAP), "trained, its state has 441 numbers, but fresh 490"),
    "too-long": (entry(before="#" * 20_000), "bytes, more than 20,000"),
    "sleeps": (entry("__import__('time').sleep(600)"), "killed: not ready"),
    "never-ends": (entry("while True: pass"), "out of processor time|killed: not ready"),
    "exits": (entry("__import__('os')._exit(0)"), "ended without a result"),
    "raises": (entry("1 / 0"), "ZeroDivisionError"),
    "peeks": (entry(PEEK), "PermissionError: train on the pictures that you are given"),
    "borrows": (entry(BORROW), "FileNotFoundError: There is no recorded run"),
    "no-function": ("x = 1", "KeyError: 'network'"),
    "no-python": ("def", "SyntaxError"),
    "wrong-shape": (entry(more=", nn.Softmax(dim=0), nn.Unflatten(1, (2, 5))"), "answers of shape"),
}


@pytest.fixture(scope="module")
def contest(tmp_path_factory):
    """Judge all planted entries; return the table's rows by entry, and what was printed."""
    folder = tmp_path_factory.mktemp("entries")
    for name, (source, _) in ENTRIES.items():
        (folder / f"{name}.py").write_text(source, "utf-8")
    return folder, *judge(folder, *ENTRIES)


def judge(folder, *names, minutes="0.01", patience="1"):
    """Run the judge in a process of its own; return (rows by entry, printed)."""
    out = folder / "out" / "table.csv"
    files = [str(folder / f"{name}.py") for name in names]
    options = ["--minutes", minutes, "--patience", patience, "--cores", "1", "--limit", "100"]
    options += ["--data", "shapes", "--contest", "3", "--out", str(out)]
    command = [sys.executable, str(ROOT / "tools" / "capstone.py"), *files, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.read_text("utf-8").splitlines()))
    return {row["entry"]: row for row in rows}, done.stdout


def walled():
    """Ask a process without threads, which can be forked, whether this system has namespaces."""
    code = "from tools import sandbox; print(sandbox.run(str, 60))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    return done.stdout == "True\n"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_has_a_row_that_says_what_became_of_it(contest, name):
    _, rows, _ = contest
    if name == "borrows" and rows[name]["remark"] == "" and not walled():
        pytest.skip("no namespaces on this system")
    remark = ENTRIES[name][1]
    if remark is None:
        assert rows[name]["remark"] == "" and 0 < float(rows[name]["accuracy"]) < 1
    else:
        assert re.search(remark, rows[name]["remark"]) and rows[name]["accuracy"] == ""


def test_entries_are_ranked_and_judged_on_the_shapes_of_this_contest(contest):
    folder, rows, printed = contest
    assert float(rows["sound"]["accuracy"]) > float(rows["untrained"]["accuracy"])
    order = [line.split()[1] for line in printed.splitlines() if line[:4].strip().isdigit()]
    assert len(order) == 3 and order.index("sound") < order.index("untrained")
    assert rows["sound"]["numbers"] == "490" and rows["larger"]["numbers"] == "531"
    torch.manual_seed(0)  # as the judge does: what is untrained can be judged here, too
    names = {}
    exec(ENTRIES["untrained"][0], names)
    network = names["network"](10).eval()
    pictures = data.load_images("shapes", "train", limit=100)
    test = capstone.test_pictures("shapes", 3, pictures)
    with torch.no_grad():
        logits = torch.cat([network(images) for images, _ in data.Batches(test, 100)])
    right = (logits.argmax(dim=1) == test.labels).double().mean().item()
    assert float(rows["untrained"]["accuracy"]) == pytest.approx(right, abs=1e-3)
    assert not torch.equal(test.images, data.load_images("shapes", "test").images)


def test_it_goes_on_and_judges_a_changed_entry_again(contest):
    folder, rows, _ = contest
    (folder / "untrained.py").write_text(entry(LEARN), "utf-8")
    again, printed = judge(folder, "sound", "untrained")
    assert "sound, seed 0" not in printed and "untrained, seed 0" in printed
    assert again["untrained"]["accuracy"] == again["sound"]["accuracy"]


def test_equal_accuracy_is_ranked_by_size():
    def row(name, accuracy, numbers):
        fields = dict.fromkeys(capstone.COLUMNS, "0")
        return fields | {"entry": name, "accuracy": accuracy, "numbers": numbers, "remark": "bad"}

    rows = [row("b", "0.5", "20"), row("a", "0.5", "10"), row("c", "0.9", "30"), row("d", "", "5")]
    lines = capstone.ranking(rows)[1:]
    assert [line.split()[:2] for line in lines] == [["1", "c"], ["2", "a"], ["3", "b"], ["-", "d"]]


def test_a_state_comes_back_as_it_was():
    pair = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)) for _ in range(2)]
    pair[0](torch.randn(5, 3))
    capstone.unpack(pair[1], capstone.packed(pair[0]))
    states = [network.state_dict() for network in pair]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    with pytest.raises(ValueError, match="has 5 numbers, but fresh 17"):
        capstone.unpack(pair[1], capstone.packed(pair[0])[:5])


def test_a_contest_goes_on_with_its_pictures_and_another_has_its_own():
    known = {f"a 12 0 {minutes} minutes shapes None contest {minutes}": {} for minutes in (1, 10)}
    assert capstone.contest_of(known, "1 minutes shapes None") == 1
    assert capstone.contest_of(known, "10 minutes shapes None") == 10
    fresh = {capstone.contest_of(known, "0 minutes shapes None") for _ in range(9)}
    assert len(fresh) == 9 and not fresh & {1, 10}


def test_the_order_of_a_folder_tells_no_label(tmp_path):
    folder = tmp_path / "shapes"  # a name that is no source
    for name, shade in (("ant", 50), ("bee", 200)):
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
            for i in range(20):
                image = Image.new("RGB", (32, 32), (shade, shade, i))
                image.save(folder / split / name / f"{i}.png")
    pictures = data.load_images(str(folder), "train", root=tmp_path)
    labels = capstone.test_pictures(str(folder), 3, pictures).labels.tolist()
    assert sorted(labels) == [0] * 20 + [1] * 20 != labels
    assert capstone.test_pictures(str(folder), 3, pictures).labels.tolist() == labels


def test_labels_are_not_among_what_an_entry_is_asked():
    pictures = data.load_images("shapes", "train", limit=100)
    asked = capstone.unlabelled("shapes", 3, pictures)
    assert asked.labels.unique().tolist() == [0]
    assert torch.equal(asked.images, capstone.test_pictures("shapes", 3, pictures).images)


@pytest.mark.parametrize("name", ["plain", "origin", "ours"])
def test_our_entries_keep_to_the_rules(name):
    path = ROOT / "capstone" / f"{name}.py"
    names = {}
    exec(compile(path.read_text("utf-8"), path.name, "exec"), names)
    network = names["network"](10)
    assert len(capstone.packed(network)) <= capstone.NUMBERS
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    pictures, time_left = data.load_images("shapes", "train", limit=70), iter([10, 9, 6, 1.5, 1, 0])
    before = capstone.packed(network)
    names["train"](network.train(), pictures, lambda: next(time_left))
    assert (capstone.packed(network) != before).any()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.py"], "no file none.py"),
        (["{own}", "{own}"], "the same name"),
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
