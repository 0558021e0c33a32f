"""Runs in folders: what is interrupted goes on as if nothing had happened."""

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from densenet_lib import runs
from densenet_lib.checkpoints import load_checkpoint, save_checkpoint
from densenet_lib.data import load_images, split_validation
from densenet_lib.densenet import DenseNet
from densenet_lib.efficient import EfficientBlock
from densenet_lib.runs import Run, Speed, whole_epoch
from densenet_lib.training import Evaluation, Recipe, train

RECIPE = Recipe(
    **{"learning_rate": 0.05, "schedule": "one-cycle", "nesterov": True, "muon": True},
    **{"label_smoothing": 0.1, "batch_size": 10, "augment": True, "cutout": 8, "plain_epochs": 1},
)


@pytest.fixture(scope="module")
def images():
    return load_images("shapes", limit=115)  # twelve batches, the last of five


def network():
    torch.manual_seed(3)
    return DenseNet(4, (1, 1), 8, drop_rate=0.1)  # dropout needs the random state


def run_in(folder, images, **options):
    return Run(network(), images, RECIPE, folder, **{"epochs": 3, "seed": 3, **options})


def assert_same_weights(one, other):
    one, other = (
        load_checkpoint(folder / "checkpoint.pt")["state_dict"] for folder in (one, other)
    )
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def uninterrupted(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    list(run_in(folder, images))
    return folder


def test_a_run_is_train_and_nothing_else(images, uninterrupted):
    options = {"augment": True, "cutout": 8, "plain_epochs": 1, "shuffle": True, "seed": 3}
    plain, batches = network(), runs.Batches(images, 10, **options)
    torch.manual_seed(3)
    log = list(train(plain, batches, epochs=3, recipe=RECIPE))
    found = load_checkpoint(uninterrupted / "checkpoint.pt")
    assert all(torch.equal(t, found["state_dict"][key]) for key, t in plain.state_dict().items())
    for mine, theirs in zip(log, found["log"], strict=True):
        assert theirs["loss"] == pytest.approx(mine.loss, rel=1e-5)
        assert (theirs["step"], theirs["images"]) == (mine.step, mine.images)
        assert theirs["accuracy"] == pytest.approx(mine.accuracy)


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_stopped_and_resumed_is_bit_identical(images, uninterrupted, tmp_path, pieces, monkeypatch):
    monkeypatch.setattr(runs, "RECORD_EVERY", 5)  # so that it stops within epochs too
    for _ in range(20):
        asked = []
        run = run_in(
            tmp_path,
            images,
            resume=True,
            should_stop=lambda a=asked: a.append(1) or len(a) >= pieces,
        )
        list(run)
        if not run.stopped:
            break
        assert load_checkpoint(tmp_path / "checkpoint.pt")["resume"] is not None
    assert_same_weights(tmp_path, uninterrupted)
    one, other = (json.loads((f / "run.json").read_text()) for f in (tmp_path, uninterrupted))
    for mine, theirs in zip(one["log"], other["log"], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        assert mine["images"] == theirs["images"] and mine["seconds"] > 0


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_runs as t
t.runs.RECORD_EVERY, t.runs.SAVE_EVERY = 1, 0.0
left = int(sys.argv[3])
def die():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
list(t.run_in(Path(sys.argv[2]), t.load_images("shapes", limit=115), should_stop=die, resume=True))
"""


def test_killed_at_a_random_step_and_resumed_is_bit_identical(
    images, uninterrupted, tmp_path, monkeypatch
):
    step = random.SystemRandom().randint(2, 34)
    print(f"killed at step {step} of 36")
    arguments = [sys.executable, "-c", KILLED, os.path.dirname(__file__), str(tmp_path), str(step)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    log = load_checkpoint(tmp_path / "checkpoint.pt")["resume"]["since_epoch"]
    assert not log or log[-1]["step"] < step
    monkeypatch.setattr(runs, "RECORD_EVERY", 1)  # it died before `step` was saved
    assert next(iter(run_in(tmp_path, images, resume=True))).step == step
    list(run_in(tmp_path, images, resume=True))  # what `next` left is one more interruption
    assert_same_weights(tmp_path, uninterrupted)


def test_a_missing_random_state_would_be_noticed(images, uninterrupted, tmp_path, monkeypatch):
    """The comparison above can fail: here dropout goes on with other numbers."""
    monkeypatch.setattr(torch, "set_rng_state", lambda _: None)
    list(run_in(tmp_path, images, should_stop=lambda: True))
    list(run_in(tmp_path, images, resume=True))
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path, uninterrupted)


def be_process(number, monkeypatch):
    """Let the next runs be process `number` of two, without another that would have to answer."""
    place = contextlib.nullcontext((number, 2, torch.device("cpu")))
    monkeypatch.setattr(runs, "process_group", lambda device: place)


def test_each_process_draws_its_own_dropout(images, tmp_path, monkeypatch):
    states = []
    for number in range(2):
        be_process(number, monkeypatch)
        next(iter(run_in(tmp_path / str(number), images)))  # both draw equally often
        states.append(torch.get_rng_state())
    assert not torch.equal(*states)


def test_each_process_goes_on_with_its_own_random_numbers(images, tmp_path, monkeypatch):
    states = [torch.Generator().manual_seed(seed).get_state() for seed in (1, 2)]
    monkeypatch.setattr(runs, "gather", lambda _: [{"cpu": state} for state in states])

    def train_on():
        plain = DenseNet(4, (1, 1), 8)  # which draws no numbers while it trains
        list(Run(plain, images, RECIPE, tmp_path, epochs=3, resume=True, should_stop=lambda: True))

    train_on()
    for number, state in enumerate(states):
        be_process(number, monkeypatch)
        train_on()
        assert torch.equal(torch.get_rng_state(), state)


def test_a_complete_run_has_all_that_is_needed_and_no_more(images, tmp_path):
    test = load_images("shapes", "test", limit=30)
    train_part, validation = split_validation(images, 15)
    run = run_in(tmp_path, train_part, epochs=1, test=test, validation=validation)
    list(run)
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found["resume"] is None and found["classes"] == images.classes
    assert found["data"] == {"name": "shapes", "images": 100, "sha256": train_part.digest}
    assert found["seed"] == 3 and found["recipe"]["label_smoothing"] == 0.1
    assert found["machine"]["torch"] == torch.__version__
    assert found["log"][0]["validation_accuracy"] is not None
    assert found["test"]["images"] == 30 and len(found["test"]["per_class"]) == 10
    text = json.loads((tmp_path / "run.json").read_text())
    assert text["test"] == found["test"] and "state_dict" not in text
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "run.json"]
    assert list(run_in(tmp_path, train_part, epochs=1, resume=True)) == []


def test_a_run_iterated_twice_trains_once(images, uninterrupted, tmp_path):
    run = run_in(tmp_path, images)
    list(run)
    assert list(run) == [] and len(run.log) == 3
    assert_same_weights(tmp_path, uninterrupted)


def test_a_run_that_was_left_goes_on_in_a_new_one_only(images, uninterrupted, tmp_path):
    run = run_in(tmp_path, images)
    for record in run:
        if record.step >= 12:  # the end of the first epoch, which is kept
            break
    with pytest.raises(RuntimeError, match="begun and left: make a new Run with resume=True"):
        next(iter(run))
    list(run_in(tmp_path, images, resume=True))
    assert_same_weights(tmp_path, uninterrupted)


def test_two_runs_at_once_in_a_folder_do_not_spoil_each_other(images, uninterrupted, tmp_path):
    one, other = run_in(tmp_path, images), run_in(tmp_path, images)
    steps = iter(one)
    next(steps)
    with pytest.raises(FileExistsError, match="Another process is training in"):
        list(other)
    list(steps)
    assert_same_weights(tmp_path, uninterrupted)
    late = run_in(tmp_path / "none", images)  # as if made when the folder was empty
    late.path = one.path
    with pytest.raises(FileExistsError, match="got a run meanwhile"):
        list(late)
    assert_same_weights(tmp_path, uninterrupted)


def test_a_complete_run_completes_its_json(images, tmp_path, monkeypatch):
    def full(self, whole):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_write_json", full)
        with pytest.raises(OSError, match="No space"):
            list(run_in(tmp_path, images, epochs=1))
    assert not (tmp_path / "run.json").exists()
    assert list(run_in(tmp_path, images, epochs=1, resume=True)) == []
    assert json.loads((tmp_path / "run.json").read_text())["log"][0]["images"] == 115


def test_other_switches_are_recorded_with_their_steps(images, tmp_path):
    for speed in (Speed(amp=True), Speed(), Speed(), Speed(efficient=True)):  # the third: no other
        list(run_in(tmp_path, images, resume=True, should_stop=lambda: True, speed=speed))
    found = load_checkpoint(tmp_path / "checkpoint.pt")["machine"]
    assert (found["amp"], found["efficient"]) == (False, True)
    before = [(m["amp"], m["efficient"], m["until_step"]) for m in found["before"]]
    assert before == [(True, False, 10), (False, False, 20)]


def test_an_efficient_run_is_the_plain_one_says_so_and_goes_on_either_way(images, tmp_path):
    for name, first, then in [("a", True, True), ("b", False, False), ("c", True, False)]:
        run = run_in(
            tmp_path / name, images, should_stop=lambda: True, speed=Speed(efficient=first)
        )
        list(run)
        assert isinstance(run.network.features.denseblock1, EfficientBlock) is first
        list(run_in(tmp_path / name, images, resume=True, speed=Speed(efficient=then)))
    found = [load_checkpoint(tmp_path / name / "checkpoint.pt") for name in "abc"]
    assert [checkpoint["machine"]["efficient"] for checkpoint in found] == [True, False, False]
    assert found[2]["machine"]["before"][0]["efficient"] is True
    assert json.loads((tmp_path / "a" / "run.json").read_text())["machine"]["efficient"] is True
    for checkpoint in found:
        assert checkpoint["state_dict"].keys() == network().state_dict().keys()
        for key, value in checkpoint["state_dict"].items():
            torch.testing.assert_close(value, found[1]["state_dict"][key], rtol=0.05, atol=0.01)


def test_a_last_batch_of_one_is_refused_before_work_is_lost(images, tmp_path):
    deep = DenseNet(4, (1,) * 6, 8)  # five transitions: a single final pixel
    some = replace(images, images=images.images[:21], labels=images.labels[:21])
    with pytest.raises(ValueError, match="21 pictures in batches of 10 leave a last batch of 1"):
        Run(deep, some, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    Run(network(), some, RECIPE, tmp_path / "run")  # has 16x16 final pixels


@pytest.mark.parametrize("count", [22, 23])
def test_so_is_a_last_share_of_one(images, tmp_path, monkeypatch, count):
    monkeypatch.setenv("WORLD_SIZE", "2")
    deep = DenseNet(4, (1,) * 6, 8)
    told = f"{count} pictures in batches of 10 leave a last batch of {count - 20}, for one of 2"
    with pytest.raises(ValueError, match=told):
        Run(deep, images.subset(slice(count)), RECIPE, tmp_path / "run")
    Run(deep, images.subset(slice(24)), RECIPE, tmp_path / "run")


def test_no_compiler_is_told_before_work_is_lost(images, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ValueError, match="torch.compile does not work here .RuntimeError"):
        run_in(tmp_path / "run", images, speed=Speed(compile=True))


@pytest.mark.filterwarnings("ignore")
def test_switches_of_speed_change_no_result(images, tmp_path, monkeypatch):
    sizes, found = [], []

    def backend(graph, inputs):
        sizes.extend(inputs)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    for i, speed in enumerate((Speed(), Speed(channels_last=True), Speed(compile=True))):
        torch.manual_seed(3)
        run = Run(DenseNet(4, (1, 1), 8), images, RECIPE, tmp_path / str(i), epochs=1, speed=speed)
        list(run)
        found.append(load_checkpoint(run.path)["state_dict"])
    for other in found[1:]:
        assert other.keys() == found[0].keys() and all(t.is_contiguous() for t in other.values())
        torch.testing.assert_close(other, found[0], rtol=0.05, atol=0.01)
    # Also the last batch, of five, has a graph of its own: none is for all sizes, which is slower.
    assert sizes and not any(isinstance(size, torch.SymInt) for size in sizes)


@pytest.mark.parametrize("on", [False, True])
def test_each_switch_of_speed_does_what_it_says(images, tmp_path, monkeypatch, on):
    compiled, kinds = [], []
    monkeypatch.setattr(torch, "compile", lambda module, **_: compiled.append(module) or module)
    run = run_in(tmp_path, images, speed=Speed(amp=on, compile=on, channels_last=on))
    first = run.network.features.conv0  # its weights are of shape (8, 3, 3, 3)
    first.register_forward_hook(lambda *arguments: kinds.append(arguments[2].dtype))
    next(iter(run))
    assert set(kinds) == {torch.bfloat16 if on else torch.float32}
    assert (run.network in compiled) is on
    assert first.weight.is_contiguous(memory_format=torch.channels_last) is on


def test_the_compiler_is_tried_on_the_device_that_will_train(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda module, **_: lambda x: seen.append(x.device.type))
    runs._require_compiler(torch.device("meta"))
    assert seen == ["meta"]


def test_a_recipe_field_added_later_is_no_other_run(images, tmp_path):
    list(run_in(tmp_path, images, should_stop=lambda: True))
    content = load_checkpoint(tmp_path / "checkpoint.pt")
    del content["format"], content["sha256"], content["recipe"]["plain_epochs"]
    recipe = replace(RECIPE, plain_epochs=0)  # what the field's absence meant
    save_checkpoint(tmp_path / "checkpoint.pt", **content)
    Run(network(), images, recipe, tmp_path, epochs=3, seed=3, resume=True)


def test_numbers_and_names_of_numpy_can_be_read_back(images, tmp_path):
    theirs = replace(
        images,
        classes=tuple(np.array(images.classes)),
        mean=tuple(np.array(images.mean)),
        std=tuple(np.array(images.std)),
    )
    list(run_in(tmp_path, theirs, epochs=np.int64(1), seed=np.int64(3)))
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert (found["classes"], found["mean"], found["seed"]) == (images.classes, images.mean, 3)


def test_a_validation_loss_that_is_no_number_is_null_in_the_json(images, tmp_path, monkeypatch):
    broken = Evaluation(torch.full((15, 10), torch.nan), torch.zeros(15, dtype=torch.long))
    monkeypatch.setattr("densenet_lib.training.evaluate", lambda *_, **__: broken)
    train_part, validation = split_validation(images, 15)
    list(run_in(tmp_path, train_part, epochs=1, validation=validation))
    (record,) = json.loads((tmp_path / "run.json").read_text())["log"]
    assert record["validation_loss"] is None and record["loss"] > 0


def test_a_class_without_test_pictures_is_null_in_the_json(images, tmp_path):
    test = load_images("shapes", "test", limit=30)
    list(run_in(tmp_path, images, epochs=1, test=test.subset(test.labels != 3)))
    found = json.loads((tmp_path / "run.json").read_text())["test"]["per_class"]
    assert found[3] is None and all(0 <= x <= 1 for i, x in enumerate(found) if i != 3)


def test_a_folder_in_use_is_not_touched(images, uninterrupted):
    before = (uninterrupted / "checkpoint.pt").read_bytes()
    with pytest.raises(FileExistsError, match="already holds a run: add --resume"):
        run_in(uninterrupted, images)
    assert (uninterrupted / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({"epochs": 4}, "with epochs 3 where you ask for 4"),
        ({"seed": 4}, "with seed 3 where you ask for 4"),
        ({"recipe": replace(RECIPE, muon=False)}, "with recipe"),
        ({"network": DenseNet(5, (1, 1), 8)}, "with network"),
    ],
)
def test_another_run_is_not_resumed(images, uninterrupted, what, sentence):
    options = {"network": network(), "recipe": RECIPE, "epochs": 3, "seed": 3, **what}
    model, recipe = options.pop("network"), options.pop("recipe")
    with pytest.raises(ValueError, match=sentence):
        Run(model, images, recipe, uninterrupted, resume=True, **options)


def test_other_pictures_or_classes_are_not_resumed(images, uninterrupted):
    for change in ({"images": images.images.flip(3)}, {"labels": images.labels.roll(1)}):
        with pytest.raises(ValueError, match="with data"):
            run_in(uninterrupted, replace(images, **change), resume=True)
    other = replace(images, classes=images.classes[::-1])
    with pytest.raises(ValueError, match="with classes"):
        run_in(uninterrupted, other, resume=True)


def test_divergence_keeps_the_last_good_checkpoint(images, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(runs, "RECORD_EVERY", 1)
    run = run_in(tmp_path, images)
    with pytest.raises(FloatingPointError, match=r"at step \d+, learning rate .*: try a tenth"):
        for record in run:
            if record.step == 3:
                run.network.classifier.weight.data.fill_(float("inf"))
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(t.isfinite().all() for t in state["state_dict"].values())
    assert state["resume"]["since_epoch"][-1]["step"] == 3


def test_weights_that_broke_after_the_last_good_loss_are_not_kept(images, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "train", broken_after(4, runs.train))
    monkeypatch.setattr(runs, "RECORD_EVERY", 2)
    monkeypatch.setattr(runs, "SAVE_EVERY", 0.0)
    with pytest.raises(
        FloatingPointError, match="a weight became infinite or not a number by step 4"
    ):
        list(run_in(tmp_path, images))
    assert load_checkpoint(tmp_path / "checkpoint.pt")["resume"]["since_epoch"][-1]["step"] == 2


def broken_after(step, real):
    def broken(model, *arguments, **options):
        for record in real(model, *arguments, **options):
            if record.step == step:
                next(model.parameters()).data.fill_(float("nan"))
            yield record

    return broken


def test_an_unwritable_folder_says_so(images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        OSError, match=r"Cannot write into .*run \(Not a directory\): choose another"
    ):
        list(run_in(tmp_path / "file" / "run", images, epochs=1))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=r"Cannot write into .*run \(Permission denied\)"):
        list(run_in(tmp_path / "run", images, epochs=1))


def test_joining_records_of_an_epoch():
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n)) for n in (8, 8, 8, 3)
    ]
    pieces = list(train(network(), batches, epochs=1, every=1))
    whole = list(train(network(), batches, epochs=1))[0]
    joined = whole_epoch(pieces)
    assert joined.count == whole.count == 27 and joined.step == 4 and joined.images == 27
    assert joined.accuracy == pytest.approx(whole.accuracy)
    assert joined.images_per_second == pytest.approx(27 / joined.seconds, rel=0.05)
