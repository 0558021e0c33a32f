"""Checkpoints: whole or not at all, and refused in a sentence when they are no good."""

import errno
import os
import pickle

import pytest
import torch

from densenet_lib import checkpoints
from densenet_lib.checkpoints import (
    FORMAT,
    KEYS,
    ORIGIN,
    adapt,
    build_network,
    digest_of,
    freeze,
    load_checkpoint,
    normalise,
    save_checkpoint,
    write_whole,
)
from densenet_lib.data import Batches, load_images
from densenet_lib.densenet import DenseNet
from densenet_lib.training import Recipe, train


def small_network():
    torch.manual_seed(0)
    return DenseNet(4, (1, 1), 8)


@pytest.fixture
def content():
    network = small_network()
    return {
        **dict.fromkeys(KEYS.keys() - {"format"}),
        "network": network.arguments,
        "state_dict": network.state_dict(),
        "classes": tuple("abcdefghij"),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.25, 0.3),
    }


def test_what_is_saved_comes_back(content, tmp_path):
    save_checkpoint(tmp_path / "a.pt", **content)
    found = load_checkpoint(tmp_path / "a.pt")
    assert found["format"] == FORMAT and found["classes"] == content["classes"]
    network = build_network(found)
    assert not network.training and network.arguments == content["network"]
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(images), small_network().eval()(images), rtol=0, atol=0)


def test_where_it_started_from_is_kept_and_old_files_need_not_say(content, tmp_path):
    save_checkpoint(tmp_path / "a.pt", **content, **{ORIGIN: {"file": "b.pt", "frozen": None}})
    assert load_checkpoint(tmp_path / "a.pt")[ORIGIN] == {"file": "b.pt", "frozen": None}
    save_checkpoint(tmp_path / "b.pt", **content)
    assert ORIGIN not in load_checkpoint(tmp_path / "b.pt")


def test_other_classes_get_a_fresh_classifier_and_its_own_keep_theirs(content):
    torch.manual_seed(1)
    network, kept = adapt(content, ("x", "y", "z")), adapt(content, list("abcdefghij"))
    assert network.training and network.arguments["num_classes"] == 3
    assert network.classifier.out_features == 3
    old = content["state_dict"]
    same = {name for name, t in network.state_dict().items() if torch.equal(t, old[name])}
    assert old.keys() - same == {"classifier.weight", "classifier.bias"}
    assert digest_of(kept.state_dict()) == digest_of(old)
    swapped = adapt(content, tuple("bacdefghij"))  # the same names in another order
    assert not torch.equal(swapped.classifier.weight, old["classifier.weight"])
    rebuilt = DenseNet(**network.arguments)
    rebuilt.load_state_dict(network.state_dict())


@pytest.mark.parametrize("last", ["conv0", "denseblock1", "relu5"])
def test_what_is_frozen_stays_and_the_rest_learns(content, last):
    network = adapt(content, ("x", "y"))
    network.features.denseblock1.denselayer1.drop1.p = 0.5
    assert freeze(network, last) is network
    before = {name: t.clone() for name, t in network.state_dict().items()}
    batch = (torch.randn(6, 3, 16, 16) + 1, torch.tensor([0, 1] * 3))
    recipe = Recipe(learning_rate=0.1, muon=True, nesterov=True, weight_decay=0.1)
    list(train(network, [batch], epochs=3, recipe=recipe, validation=[batch]))
    moved = {name for name, t in network.state_dict().items() if not torch.equal(t, before[name])}
    parts = list(dict(network.features.named_children()))
    below = tuple(f"features.{part}." for part in parts[: parts.index(last) + 1])
    assert {"classifier.weight", "classifier.bias"} <= moved
    assert not [name for name in moved if name.startswith(below)]
    above = [name for name in before if not name.startswith((*below, "classifier"))]
    assert set(above) <= moved


def test_a_frozen_norm_in_training_mode_would_be_noticed(content):
    """The comparison above can fail: weights without gradients do not hold running statistics."""
    network = adapt(content, ("x", "y"))
    freeze(network, "denseblock1").train()
    before = network.features.norm0.running_mean.clone()
    list(train(network, [(torch.randn(6, 3, 16, 16), torch.zeros(6).long())], epochs=1))
    assert not torch.equal(network.features.norm0.running_mean, before)


def test_an_unknown_part_is_refused_with_the_names(content):
    with pytest.raises(ValueError, match="no part 'block1' to freeze: choose one of conv0, norm0"):
        freeze(adapt(content, "ab"), "block1")


@pytest.mark.parametrize(
    "arguments",
    [
        {"bn_size": None, "compression": 1.0, "stem": "conv"},
        {"drop_rate": 0.2, "num_classes": 7},
        {"growth_rate": 6, "block_config": [2, 1, 1], "num_init_features": 5, "stem": "imagenet"},
    ],
)
def test_arguments_rebuild_a_network(arguments):
    network = DenseNet(**arguments)
    again = DenseNet(**network.arguments)
    assert str(again) == str(network)
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


def test_a_forgotten_part_is_noticed_when_saving(content, tmp_path):
    del content["seed"]
    with pytest.raises(AssertionError, match="seed"):
        save_checkpoint(tmp_path / "a.pt", **content)


def test_normalise_is_what_batches_do():
    images = load_images("shapes", "test", limit=20)
    (by_batches, _), *_ = Batches(images, 20)
    mine = normalise(images.images, {"mean": images.mean, "std": images.std})
    torch.testing.assert_close(mine, by_batches)


class Foreign:
    """A class that no checkpoint may name."""


def damage(path, how):
    whole = path.read_bytes()
    found = torch.load(path, weights_only=True)
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no checkpoint at all")
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"format": 1}, protocol=2))
    elif how == "code":
        torch.save({**found, "recipe": Foreign()}, path)
    elif how == "weights only":
        torch.save(found["state_dict"], path)
    elif how == "list":
        torch.save([1, 2], path)
    elif how == "future":
        torch.save({**found, "format": FORMAT + 1}, path)
    elif how == "lacking":
        del found["classes"]
        torch.save(found, path)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("cut", "cut short, damaged"),
        ("empty", "cut short, damaged"),
        ("text", "cut short, damaged"),
        ("pickle", "cut short, damaged"),
        ("code", "more than numbers and texts"),
        ("weights only", "not of this library"),
        ("list", "not of this library"),
        ("future", "has format 2 and this version of the library reads 1"),
        ("lacking", "lacks classes"),
    ],
)
def test_bad_files_are_refused(content, tmp_path, how, sentence):
    path = tmp_path / "a.pt"
    save_checkpoint(path, **content)
    damage(path, how)
    with pytest.raises(ValueError, match=sentence) as refusal:
        load_checkpoint(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_every_truncation_is_noticed(content, tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, **content)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut short"):
            load_checkpoint(path)


def test_no_flipped_bit_changes_the_weights(content, tmp_path):
    """Each is refused in the one sentence, or harmless: names of folders, times, padding."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, **content)
    whole, refused = path.read_bytes(), 0
    for number in torch.randperm(8 * len(whole), generator=torch.Generator().manual_seed(0))[:400]:
        place, bit = divmod(number.item(), 8)
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            found = load_checkpoint(path)
        except ValueError as error:
            assert "cut short, damaged" in str(error) or "of this library" in str(error)
            refused += 1
        else:
            for name, values in content["state_dict"].items():
                assert torch.equal(found["state_dict"][name], values)
    assert refused > 200


def test_weights_that_are_not_those_saved_are_refused(content, tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, **content)
    found = torch.load(path, weights_only=True)
    found["state_dict"]["classifier.bias"] += 1
    torch.save(found, path)  # a whole archive, with other weights
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(path)
    del found["sha256"]  # as the first checkpoints were written
    torch.save(found, path)
    load_checkpoint(path)


def test_a_file_that_may_not_be_read_is_told_apart(content, tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.pt", **content)

    def denied(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(checkpoints.Path, "read_bytes", denied)
    with pytest.raises(PermissionError, match=r"Cannot read .*a.pt \(Permission denied\)"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_link_stays_and_a_protected_file_is_not_overwritten(tmp_path, monkeypatch):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=r"real \(Permission denied\)"):
        write_whole(link, b"newer")
    assert real.read_bytes() == b"new" and len(os.listdir(tmp_path)) == 2


def test_no_file():
    with pytest.raises(FileNotFoundError, match="no checkpoint nowhere.pt"):
        load_checkpoint("nowhere.pt")


def test_weights_of_another_network(content, tmp_path):
    content["network"] = {**content["network"], "growth_rate": 5}
    save_checkpoint(tmp_path / "a.pt", **content)
    with pytest.raises(ValueError, match="not of the network that it names"):
        build_network(load_checkpoint(tmp_path / "a.pt"))


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file_whole(content, tmp_path, monkeypatch, call):
    path = tmp_path / "a.pt"
    save_checkpoint(path, **content)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        real = open

        def opened(*arguments):
            file = real(*arguments)
            monkeypatch.setattr(checkpoints, "open", real, raising=False)

            class Full:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, content):
                    file.write(content[:100])
                    full()

            return Full()

        monkeypatch.setattr(checkpoints, "open", opened, raising=False)
    else:
        monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left on device.*untouched.*the same command"):
        save_checkpoint(path, **{**content, "seed": 1})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]


def test_really_full(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    (tmp_path / "a.pt").write_bytes(b"old")
    (tmp_path / f"a.pt.{os.getpid()}.part").symlink_to("/dev/full")  # the temporary file
    with pytest.raises(OSError, match="No space left on device.*untouched"):
        write_whole(tmp_path / "a.pt", b"x" * 10_000)
    assert (tmp_path / "a.pt").read_bytes() == b"old" and os.listdir(tmp_path) == ["a.pt"]
    with pytest.raises(OSError, match="Cannot write /proc/none/a.pt"):
        write_whole("/proc/none/a.pt", b"x")


def test_recorded_runs_are_named_when_asked_for_another():
    with pytest.raises(FileNotFoundError, match="no recorded run 'nothing'"):
        checkpoints.recorded("nothing")
