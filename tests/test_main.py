"""The command line as a stranger uses it: train, evaluate, predict, and every wrong way."""

import contextlib
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from densenet_lib import commands, runs
from densenet_lib.__main__ import main
from densenet_lib.checkpoints import build_network, load_checkpoint, normalise
from densenet_lib.data import load_images
from densenet_lib.runs import Speed
from densenet_lib.training import Evaluation, evaluate

TINY = '{"growth_rate": 4, "block_config": [1, 1], "num_init_features": 8}'
TRAIN = ["train", "--net", TINY, "--data", "shapes", "--limit", "100", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert main([*TRAIN, "--epochs", "2", "--out", str(folder)]) == 0
    return folder / "checkpoint.pt"


@pytest.fixture
def pictures(tmp_path):
    """A large photograph with transparency, a grey one, and a file that is no picture."""
    Image.new("RGBA", (300, 200), (200, 30, 30, 128)).save(tmp_path / "large.png")
    Image.new("L", (20, 32), 90).save(tmp_path / "grey.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.new("F", (32, 32), -1).save(tmp_path / "deep.tif")
    return tmp_path


def said(capsys):
    """Return the one line that went to stderr."""
    text = capsys.readouterr().err.strip()
    assert text.startswith("python -m densenet_lib: ") and "\n" not in text, text
    return text


def test_training_says_what_it_does_in_plain_lines(tmp_path, capsys):
    assert main([*TRAIN, "--epochs", "2", "--out", str(tmp_path / "a")]) == 0
    text = capsys.readouterr().out
    assert "network  1,926 parameters" in text and "shapes train: 100 pictures" in text
    assert "epoch 1/2 step 2/4: loss" in text and "epoch 2/2 step 4/4: loss" in text
    assert text.count("\r") == 0
    result = load_checkpoint(tmp_path / "a" / "checkpoint.pt")["test"]
    assert f"test     accuracy {result['accuracy']:.2%}" in text and result["images"] == 2000
    assert main([*TRAIN, "--epochs", "2", "--out", str(tmp_path / "a"), "--resume"]) == 0
    assert "was complete:" in capsys.readouterr().out


def test_validation_leaves_the_test_images_alone(tmp_path, capsys):
    out = ["--epochs", "1", "--out", str(tmp_path), "--validation", "20"]
    assert main([*TRAIN, *out]) == 0
    text = capsys.readouterr().out
    assert "validation accuracy" in text and "test     " not in text
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found["test"] is None and found["data"]["images"] == 80


@pytest.mark.parametrize("switch", ["amp", "compile", "channels_last", "efficient"])
def test_a_switch_of_the_command_line_is_that_of_the_run(tmp_path, capsys, monkeypatch, switch):
    def run(*_, speed, **__):
        raise ValueError(f"asked for {speed}")

    monkeypatch.setattr(commands, "Run", run)
    assert main([*TRAIN, "--" + switch.replace("_", "-"), "--out", str(tmp_path)]) == 2
    assert said(capsys).endswith(f"asked for {Speed(**{switch: True})}")


def test_an_efficient_run_is_evaluated_like_any_other(tmp_path, capsys):
    assert main([*TRAIN, "--efficient", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["machine"]["efficient"] is True
    assert main(["evaluate", str(tmp_path / "checkpoint.pt"), "--data", "shapes"]) == 0


def test_what_has_no_efficient_kind_is_told_before_it_trains(tmp_path, capsys):
    net = '{"kind": "residual", "block_config": [1], "widths": [4]}'
    options = ["--net", net, "--data", "shapes", "--limit", "20", "--efficient"]
    assert main(["train", *options, "--out", str(tmp_path / "run")]) == 2
    assert "ResidualNet has no dense block" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_evaluate_agrees_with_the_end_of_training(trained, tmp_path, capsys):
    answers = tmp_path / "answers.pt"
    assert main(["evaluate", str(trained), "--data", "shapes", "--answers", str(answers)]) == 0
    text, expected = capsys.readouterr().out, load_checkpoint(trained)["test"]
    assert (
        f"accuracy {expected['accuracy']:.2%}, loss {expected['loss']:.4f} (2,000 images)" in text
    )
    for name, accuracy in zip(
        load_checkpoint(trained)["classes"], expected["per_class"], strict=True
    ):
        end = r"(  most often taken for \w+ \(\d+\))?$"
        assert re.search(rf"(?m)^  {name} +{accuracy:.1%}{end}", text), name
    found = torch.load(answers, weights_only=True)
    assert found["logits"].shape == (2000, 10)
    right = (found["logits"].float().argmax(1) == found["labels"]).double().mean().item()
    assert right == pytest.approx(expected["accuracy"], abs=0.002)  # halved digits can tie
    mirrored = ["--mirror", "--answers", str(tmp_path / "mirrored.pt")]
    assert main(["evaluate", str(trained), "--data", "shapes", *mirrored]) == 0
    assert "shapes test, with mirror images: accuracy " in capsys.readouterr().out
    both = torch.load(tmp_path / "mirrored.pt", weights_only=True)
    assert torch.equal(both["labels"], found["labels"])
    assert not torch.equal(both["logits"], found["logits"])


def test_evaluate_names_the_class_that_each_is_most_often_taken_for(trained, capsys, monkeypatch):
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    guesses = torch.tensor([0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 2])
    found = Evaluation(torch.eye(10)[guesses], labels)
    monkeypatch.setattr(commands.training, "evaluate", lambda *_, **__: found)
    assert main(["evaluate", str(trained), "--data", "shapes"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1:5] == [
        "circle 50.0% most often taken for moon (2)",
        "ring 25.0% most often taken for circle (3)",
        "moon 100.0%",
        f"{load_checkpoint(trained)['classes'][3]} no picture of it",
    ]


def test_predict_reads_any_picture(trained, pictures, capsys):
    names = ["large.png", "grey.jpg"]
    assert main(["predict", str(trained), *(str(pictures / name) for name in names)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(pictures / name) for name in names]
    shares = [float(word[:-1]) for word in lines[0].replace(",", "").split() if word[-1] == "%"]
    assert len(shares) == 3 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.1


def test_a_bad_picture_does_not_spoil_the_others(trained, pictures, capsys):
    paths = [str(pictures / name) for name in ("broken.jpg", "none.png", "grey.jpg", "deep.tif")]
    assert main(["predict", str(trained), "--top", "20", *paths]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(paths[2]) and captured.out.count("%") == 10
    assert "broken.jpg: cannot be read (it is no picture" in captured.err
    assert "none.png: cannot be read (No such file" in captured.err
    assert "deep.tif: cannot be read (its values, -1 to -1, leave open" in captured.err


def test_a_console_that_lacks_a_letter_gets_a_question_mark(trained, tmp_path):
    checkpoint = torch.load(trained, weights_only=True)
    checkpoint["classes"] = [f"ёж{i}" for i in range(10)]
    torch.save(checkpoint, tmp_path / "odd.pt")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "densenet_lib", "predict", tmp_path / "odd.pt"]
    done = subprocess.run(
        [*command, tmp_path / "a.png"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b" ??") == 3


def test_a_class_without_test_pictures_is_said_and_answers_keep_many_classes(tmp_path, capsys):
    for i in range(300):
        for part, count in (("train", 2), ("test", i > 0)):
            (tmp_path / "many" / part / f"{i:03}").mkdir(parents=True)
            for j in range(count):
                Image.new("RGB", (32, 32), (i % 256, j, 9)).save(
                    tmp_path / "many" / part / f"{i:03}" / f"{j}.png"
                )
    source = ["--data", str(tmp_path / "many"), "--device", "cpu"]
    out, answers = tmp_path / "run", tmp_path / "answers.pt"
    with pytest.warns(UserWarning, match="no picture of 000 in test/"):
        train = ["train", "--net", TINY, *source, "--epochs", "1", "--out", str(out)]
        assert main(train) == 0
        capsys.readouterr()
        evaluate = ["evaluate", str(out / "checkpoint.pt"), *source, "--answers", str(answers)]
        assert main(evaluate) == 0
    text = capsys.readouterr().out
    assert "  000  no picture of it\n" in text and "nan" not in text
    assert torch.load(answers, weights_only=True)["labels"].tolist() == list(range(1, 300))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--net", "resnet"], "there is no network 'resnet': use origin, bc-DEPTH-GROWTH"),
        (["--net", "bc-101-12"], "depth 101 does not fit"),
        (["--net", '{"growth_rate": 0}'], "growth_rate is 0"),
        (["--net", '{"growth": 4}'], "--net does not fit .*'growth'.*: it may have growth_rate, "),
        (["--net", "{growth_rate: 4}"], "--net is no JSON"),
        (["--recipe", "slow"], "--recipe is 'slow': choose one of origin, paper, fast"),
        (["--net", '{"num_classes": 4}'], "--net does not fit .*'num_classes'"),
        (["--recipe", '{"speed": 4}'], "--recipe does not fit .*'speed'.*may have learning_rate"),
        (
            ["--recipe", '{"learning_rate": "a"}'],
            "learning_rate is 'a': it must be a plain number of",
        ),
        (
            ["--recipe", '{"batch_size": 2.5}'],
            "batch_size is 2.5: it must be a plain whole number",
        ),
        (["--recipe", '{"schedule": "cosine"}'], "schedule is 'cosine'"),
        (["--data", "no/such/folder"], "no folder 'no/such/folder'"),
        (["--validation", "99"], "each side needs at least 10"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path, capsys, wrong, sentence):
    assert main([*TRAIN, "--epochs", "1", "--out", str(tmp_path / "a"), *wrong]) == 2
    assert re.search(sentence, said(capsys))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["train"],
        ["train", "--net", "origin", "--out", "x", "--epochs", "0"],
        ["train", "--net", "origin", "--out", "x", "--seed", "-1"],
        ["train", "--net", "origin", "--out", "x", "--seed", str(2**32)],
        ["predict", "checkpoint.pt"],
        ["evaluate"],
        ["fly"],
        [],
    ],
)
def test_argparse_ends_wrong_use_with_2(capsys, wrong):
    with pytest.raises(SystemExit) as end:
        main(wrong)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m densenet_lib")


def test_a_folder_in_use_and_another_run(trained, capsys):
    out = ["--epochs", "2", "--out", str(trained.parent)]
    assert main([*TRAIN, *out]) == 2
    assert "already holds a run: add --resume" in said(capsys)
    assert main([*TRAIN, *out, "--resume", "--seed", "1"]) == 2
    assert "is of another run, with seed 0 where you ask for 1" in said(capsys)


def test_checkpoints_that_do_not_fit(trained, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (32, 32), (i, i, i)).save(tmp_path / "pets" / name / f"{i}.png")
    assert main(["evaluate", str(trained), "--data", str(tmp_path / "pets")]) == 2
    assert "knows 10 classes (circle, ring, moon, ...) and pets has 2 (cat, dog)" in said(capsys)
    twisted = torch.load(trained, weights_only=True)
    twisted["classes"] = [*twisted["classes"][:8], "plus", "dart"]
    torch.save(twisted, tmp_path / "twisted.pt")
    assert main(["evaluate", str(tmp_path / "twisted.pt"), "--data", "shapes"]) == 2
    assert "10 classes (..., plus, dart) and shapes has 10 (..., cross, arrow)" in said(capsys)
    (tmp_path / "cut.pt").write_bytes(trained.read_bytes()[:5000])
    assert main(["predict", str(tmp_path / "cut.pt"), "x.png"]) == 2
    assert "cut short, damaged" in said(capsys)
    assert main(["evaluate", "nowhere.pt"]) == 2
    assert "There is no checkpoint nowhere.pt" in said(capsys)


def test_divergence_is_one_sentence(tmp_path, capsys):
    recipe = ["--recipe", '{"learning_rate": 1e30}']
    assert main([*TRAIN, *recipe, "--epochs", "2", "--out", str(tmp_path)]) == 1
    assert said(capsys).endswith("try a tenth of the learning rate")  # there is no checkpoint yet


def test_divergence_names_the_last_good_checkpoint(trained, capsys, monkeypatch):
    def diverge(*_):
        raise FloatingPointError("the loss is nan")

    monkeypatch.setattr(commands, "_follow", diverge)
    assert main([*TRAIN, "--epochs", "2", "--out", str(trained.parent), "--resume"]) == 1
    assert said(capsys).endswith(f"the loss is nan; the last good checkpoint is {trained}")


def test_a_full_disk_loses_nothing_earlier(tmp_path, capsys, monkeypatch):
    out = ["--epochs", "3", "--out", str(tmp_path)]
    real, count = os.fsync, []

    def full_after_the_first_epoch(file):
        count.append(file)
        if len(count) > 2:  # checkpoint.pt and run.json
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full_after_the_first_epoch)
    assert main([*TRAIN, *out]) == 1
    assert "No space left on device" in said(capsys)
    assert len(load_checkpoint(tmp_path / "checkpoint.pt")["log"]) == 1
    monkeypatch.setattr(os, "fsync", real)
    assert main([*TRAIN, *out, "--resume"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "run.json"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(tmp_path, capsys, monkeypatch, number, code):
    monkeypatch.setattr(runs, "RECORD_EVERY", 1)
    real = runs.join_records

    def asked_at_step_three(record, *rest):
        if record.step == 2:
            os.kill(os.getpid(), number)
            time.sleep(0.1)
        return real(record, *rest)

    monkeypatch.setattr(runs, "join_records", asked_at_step_three)
    out = ["--epochs", "2", "--out", str(tmp_path)]
    before = signal.getsignal(number)
    assert main([*TRAIN, *out]) == code
    assert signal.getsignal(number) is before
    text = capsys.readouterr().err
    assert f"Stopped and saved in {tmp_path / 'checkpoint.pt'}." in text and "--resume" in text
    state = load_checkpoint(tmp_path / "checkpoint.pt")["resume"]
    assert state["since_epoch"][-1]["step"] in (2, 3)
    monkeypatch.setattr(runs, "join_records", real)
    assert main([*TRAIN, *out, "--resume"]) == 0
    assert load_checkpoint(tmp_path / "checkpoint.pt")["resume"] is None


def test_it_can_be_stopped_from_outside(tmp_path):
    """A real process, a real signal, and no traceback."""
    command = [sys.executable, "-m", "densenet_lib", *TRAIN, "--epochs", "5000", "--out", tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 2"):
            break
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "--resume" in errors and "Traceback" not in errors
    assert json.loads((tmp_path / "run.json").read_text())["epochs"] == 5000


def test_help_is_worth_reading_and_quick():
    command = [sys.executable, "-X", "importtime", "-m", "densenet_lib", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for word in ("examples:", "--resume", "torchrun", "checkpoint.pt", "--validation", "default"):
        assert word in done.stdout
    assert " torch\n" not in done.stderr  # which alone takes seconds


def test_a_residual_network_trains_and_is_tested(tmp_path, capsys):
    net = '{"kind": "residual", "block_config": [1, 1], "widths": [4, 8]}'
    asked = ["--net", net, "--data", "shapes", "--limit", "100", "--epochs", "1"]
    assert main(["train", *asked, "--validation", "50", "--out", str(tmp_path)]) == 0
    assert main(["evaluate", str(tmp_path / "checkpoint.pt"), "--data", "shapes"]) == 0
    assert "shapes test: accuracy" in capsys.readouterr().out
    assert main(["train", *asked, "--net", net[:-1] + ', "growth_rate": 4}', "--out", "x"]) == 2
    assert "it may have block_config, widths, kind" in capsys.readouterr().err


@pytest.fixture
def pets(tmp_path):
    """Two classes of ten pictures."""
    for name, red in (("cat", 30), ("dog", 200)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (32, 32), (red, 9 * i, 90)).save(tmp_path / "pets" / name / f"{i}.png")
    return str(tmp_path / "pets")


def from_there(trained, pets, *more):
    data = ["--data", pets, "--device", "cpu", "--recipe", '{"batch_size": 4, "muon": true}']
    return ["train", "--from", str(trained), *data, "--epochs", "3", *more]


@pytest.mark.parametrize("frozen", [None, "denseblock1", "relu5"])
def test_it_goes_on_from_a_checkpoint_with_other_classes(trained, pets, tmp_path, capsys, frozen):
    freeze = ["--freeze", frozen] if frozen else []
    assert main(from_there(trained, pets, *freeze, "--out", str(tmp_path / "b"))) == 0
    old, new = load_checkpoint(trained), load_checkpoint(tmp_path / "b" / "checkpoint.pt")
    assert new["classes"] == ("cat", "dog") and new["network"]["num_classes"] == 2
    assert (new["mean"], new["std"]) == (old["mean"], old["std"])  # its features expect them
    origin = new["started_from"]
    assert (origin["file"], origin["frozen"]) == ("checkpoint.pt", frozen)
    assert origin["sha256"] == old["sha256"] and origin["data"] == old["data"]
    assert json.loads((tmp_path / "b" / "run.json").read_text())["started_from"] == origin
    names = {"denseblock1": ("conv0", "norm0", "denseblock1"), "relu5": ("",), None: ("none",)}
    for name, weights in new["state_dict"].items():
        kept = name.startswith(tuple(f"features.{part}" for part in names[frozen]))
        if name != "classifier.weight" and name != "classifier.bias":
            assert torch.equal(weights, old["state_dict"][name]) == kept, name
    picture = os.path.join(pets, "cat", "0.png")
    assert main(["predict", str(tmp_path / "b" / "checkpoint.pt"), picture]) == 0
    assert main(["evaluate", str(tmp_path / "b" / "checkpoint.pt"), "--data", pets]) == 0
    test = load_images(pets, "test")  # by the old numbers, as the new network has learned them
    by_hand = evaluate(build_network(new), [(normalise(test.images, new), test.labels)])
    assert new["test"]["loss"] == pytest.approx(by_hand.loss, rel=1e-5)
    expected = f"accuracy {by_hand.accuracy:.2%}, loss {by_hand.loss:.4f} ({len(test)} images)"
    assert f"\npets test: {expected}\n" in capsys.readouterr().out


def test_another_stream_in_place_of_the_console_will_do(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["evaluate", "nowhere.pt"]) == 2


def test_predict_names_what_the_network_answers(trained, tmp_path, capsys):
    path, colour, known = tmp_path / "plain.png", (200, 30, 90), load_checkpoint(trained)
    Image.new("RGB", (32, 32), colour).save(path)
    pixel = (torch.tensor(colour) / 255 - torch.tensor(known["mean"])) / torch.tensor(known["std"])
    chances = build_network(known)(pixel.view(1, 3, 1, 1).expand(1, 3, 32, 32))[0].softmax(0)
    best = sorted(zip(chances.tolist(), known["classes"], strict=True), reverse=True)[:2]
    assert main(["predict", str(trained), "--top", "2", str(path)]) == 0
    words = ", ".join(f"{name} {chance:.1%}" for chance, name in best)
    assert capsys.readouterr().out == f"{path}: {words}\n"


def test_asked_twice_it_ends_at_once(tmp_path, capsys, monkeypatch):
    def insist(*_):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    monkeypatch.setattr(runs, "RECORD_EVERY", 1)
    monkeypatch.setattr(runs, "join_records", insist)
    assert main([*TRAIN, "--epochs", "2", "--out", str(tmp_path / "a")]) == 130
    assert "again with --resume" in capsys.readouterr().err


def test_a_ctrl_c_that_torchrun_passes_on_is_no_insisting(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with contextlib.suppress(KeyboardInterrupt), commands._stop_requests() as requests:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
    assert requests == [signal.SIGINT] * 2


def test_a_frozen_run_resumes_to_the_bit(trained, pets, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RECORD_EVERY", 1)
    freeze = ["--freeze", "denseblock1", "--seed", "5"]
    assert main(from_there(trained, pets, *freeze, "--out", str(tmp_path / "whole"))) == 0
    real, left = runs.join_records, [5]

    def stop_after_five(record, device, stop, due):
        left[0] -= 1
        return real(record, device, stop or left[0] == 0, due)

    monkeypatch.setattr(runs, "join_records", stop_after_five)
    pieces = from_there(trained, pets, *freeze, "--out", str(tmp_path / "pieces"))
    assert main(pieces) == 1
    assert load_checkpoint(tmp_path / "pieces" / "checkpoint.pt")["resume"] is not None
    assert main([*pieces, "--resume"]) == 0
    one, other = (
        load_checkpoint(tmp_path / name / "checkpoint.pt")["state_dict"]
        for name in ("whole", "pieces")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_to_start_from_is_refused_in_a_sentence(trained, pets, tmp_path, capsys):
    out = ["--out", str(tmp_path / "a")]
    assert main([*TRAIN, "--freeze", "conv0", *out]) == 2
    assert "add --from CHECKPOINT" in said(capsys)
    assert main(from_there(trained, pets, "--freeze", "head", *out)) == 2
    assert "no part 'head' to freeze: choose one of conv0, norm0" in said(capsys)
    assert main(from_there(tmp_path / "none.pt", pets, *out)) == 2
    assert "There is no checkpoint" in said(capsys)
    assert not (tmp_path / "a").exists()
    for arguments, words in (
        ([*from_there(trained, pets), "--net", "origin"], "not allowed with argument"),
        (["train", "--data", pets], "one of the arguments --net --from is required"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, *out])
        assert words in capsys.readouterr().err
    assert main(from_there(trained, pets, "--epochs", "1", *out)) == 0
    capsys.readouterr()
    again = from_there(trained, pets, "--epochs", "1", "--freeze", "conv0", *out, "--resume")
    assert main(again) == 2
    assert "is of another run, with started_from" in said(capsys)
