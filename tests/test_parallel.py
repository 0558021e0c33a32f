"""Two processes that train as one: shares, gradients, and a worker that is killed."""

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gradients import gradients

from densenet_lib import parallel
from densenet_lib.checkpoints import build_network, load_checkpoint
from densenet_lib.data import Batches, load_images
from densenet_lib.training import Record, evaluate

HERE = Path(__file__).resolve().parent
TINY = '{"growth_rate": 4, "block_config": [1, 1], "num_init_features": 8}'
RECORD = Record(1, 3, 24, 8, 0.1, 2.0, 0.25, 1.0, 100.0)


def torchrun(*arguments, environment=None, processes=2):
    """Run a program as several processes; return what it wrote, once it ended well."""
    if os.name == "nt":
        pytest.skip("PyTorch's launcher does not start on Windows: pytorch#148283")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}"]
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE.parent),
        **(environment or {}),
    }
    done = subprocess.run(
        [*command, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("pictures", "batch_size", "processes"), [(50, 8, 2), (48, 9, 3), (24, 8, 8)]
)
def test_shares_overlap_nowhere_and_lose_nothing(pictures, batch_size, processes):
    images = load_images("shapes", limit=pictures)
    options = {"shuffle": True, "augment": True, "seed": 3}
    alone = list(Batches(images, batch_size, **options))
    shares = [
        list(Batches(images, batch_size, share=(n, processes), **options)) for n in range(processes)
    ]
    assert {len(share) for share in shares} == {len(alone)}
    for (pixels, labels), *parts in zip(alone, *shares, strict=True):
        joint = torch.cat([p for p, _ in parts])
        assert len(joint) == len(labels) == sum(len(part_labels) for _, part_labels in parts)
        rows = {tuple(row) for row in pixels.flatten(1).tolist()}
        assert {tuple(row) for row in joint.flatten(1).tolist()} == rows
        sizes = [len(p) for p, _ in parts]
        assert max(sizes) - min(sizes) <= 1


def test_an_empty_share_is_refused():
    with pytest.raises(ValueError, match="2 processes cannot share a batch of 1 pictures, as 33"):
        Batches(load_images("shapes", limit=33), 16, share=(0, 2))


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Two and three processes join several groups, one after the other; return their folder.

    What they find of an earlier group must not disturb them, and in each group they also train a
    network that is in evaluation mode: gradients.py fails where either goes wrong.
    """
    folder = tmp_path_factory.mktemp("gradients")
    torchrun(HERE / "gradients.py", folder, 32, 33, 11)
    torchrun(HERE / "gradients.py", folder, 64, processes=3)
    return folder


@pytest.mark.parametrize(("count", "processes"), [(32, 2), (33, 2), (11, 2), (64, 3)])
def test_averaged_gradients_are_those_of_the_joint_batch(launched, count, processes):
    found = [torch.load(launched / f"{count}-{n}.pt", weights_only=True) for n in range(processes)]
    pixels, alone = gradients(count, (0, 1), torch.device("cpu"))
    for number, one in enumerate(found):
        assert torch.equal(one["pixels"], pixels[number::processes])
        for mine, theirs, joint in zip(one["gradients"], found[0]["gradients"], alone, strict=True):
            assert torch.equal(mine, theirs)
            torch.testing.assert_close(mine, joint, rtol=1e-10, atol=1e-14)
    _, part = gradients(count, (0, processes), torch.device("cpu"))  # the comparison can fail
    assert not torch.allclose(part[0], alone[0], rtol=1e-3)


KILLER = """
import os, signal, sys
from pathlib import Path
from densenet_lib import __main__, runs
runs.RECORD_EVERY, runs.SAVE_EVERY = 2, 0.0
real = runs.join_records
def join_records(record, device, stop, due):
    mark = Path(sys.argv[1]) / "killed"
    if os.environ["RANK"] == "1" and record.step >= 8 and not mark.exists():
        mark.write_text(str(record.step))
        os.kill(os.getpid(), signal.SIGKILL)
    return real(record, device, stop, due)
runs.join_records = join_records
for name in ("killed_run", "quiet_run"):
    if code := __main__.main([*sys.argv[2:], "--out", f"{sys.argv[1]}/{name}"]):
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Train the same twice, the first time with a worker that dies; return folder and output."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "killer.py").write_text(KILLER)
    train = ["train", "--net", TINY, "--data", "shapes", "--limit", "100", "--epochs", "3"]
    recipe = '{"learning_rate": 0.05, "batch_size": 20, "augment": true}'
    train += ["--recipe", recipe, "--device", "cpu", "--resume"]
    return folder, torchrun("--max-restarts=1", folder / "killer.py", folder, *train)


def test_a_killed_worker_is_restarted_and_the_run_completes(two_runs):
    folder, said = two_runs
    assert (folder / "killed").read_text() == "8"
    assert said.count("complete:") == 2  # one process speaks, of each run
    killed, quiet = (
        load_checkpoint(folder / name / "checkpoint.pt") for name in ("killed_run", "quiet_run")
    )
    assert killed["resume"] is None and killed["machine"]["processes"] == 2
    assert [record["images"] for record in killed["log"]] == [100, 200, 300]
    for key, value in quiet["state_dict"].items():
        assert torch.equal(value, killed["state_dict"][key]), key


def test_the_test_result_is_that_of_the_checkpoint(two_runs):
    found = load_checkpoint(two_runs[0] / "quiet_run" / "checkpoint.pt")
    test = replace(load_images("shapes", "test"), mean=found["mean"], std=found["std"])
    judged = evaluate(build_network(found), Batches(test, 500))
    assert found["test"]["accuracy"] == judged.accuracy
    assert found["test"]["loss"] == pytest.approx(judged.loss, rel=1e-5)


def test_records_join_by_their_images(monkeypatch):
    other = replace(RECORD, loss=4.0, accuracy=1.0, count=4, images_per_second=50.0)

    def all_reduce(totals):
        n = other.count
        sums = [other.loss * n, other.accuracy * n, n, other.images_per_second, 1.0, 0.0]
        totals += torch.tensor(sums, dtype=torch.float64)

    monkeypatch.setattr(parallel.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(parallel.distributed, "all_reduce", all_reduce)
    joint, stop, due = parallel.join_records(RECORD, torch.device("cpu"), False, False)
    assert (joint.count, joint.images_per_second, stop, due) == (12, 150.0, True, False)
    assert joint.loss == pytest.approx((8 * 2.0 + 4 * 4.0) / 12)
    assert joint.accuracy == pytest.approx((8 * 0.25 + 4) / 12)


@pytest.fixture
def told(monkeypatch):
    """Be process 9 of 16, with number 1 on a machine that seems to have GPUs; note what is done."""
    told, found = [], (torch.distributed.HashStore(), 9, 16)
    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    monkeypatch.setattr(parallel.distributed, "rendezvous", lambda _: iter([found]))
    join = lambda kind, device_id, **_: told.extend([kind, device_id])  # noqa: E731
    monkeypatch.setattr(parallel.distributed, "init_process_group", join)
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(parallel.distributed, name, functools.partial(told.append, name))
    return told


def test_each_process_takes_the_gpu_of_its_number_within_its_machine(told):
    with parallel.process_group(torch.device("cuda")) as place:
        assert place == (9, 16, torch.device("cuda", 1))
    mine = torch.device("cuda", 1)
    assert told == [mine, "nccl", mine, "barrier", "destroy_process_group"]


def test_a_process_that_fails_on_its_gpu_does_not_wait_for_the_others(told):
    with pytest.raises(OSError), parallel.process_group(torch.device("cuda")):
        raise OSError("the disk is full")
    assert told[1:] == ["nccl", torch.device("cuda", 1)]


def test_a_reader_who_leaves_early_on_a_gpu_takes_leave(told):
    def reader():
        with parallel.process_group(torch.device("cuda")):
            yield

    reading = reader()
    next(reading)
    reading.close()  # as a loop over records that is broken off, by all processes alike
    assert told[-1] == "destroy_process_group"


def test_more_processes_than_gpus_get_a_sentence(told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    no_gpu = pytest.raises(ValueError, match="Process 1 .* has no GPU of its own: PyTorch sees 1")
    with no_gpu, parallel.process_group(torch.device("cuda")):
        pass
    assert told == []


def test_no_buffer_is_sent_around_in_training():
    norm = torch.nn.BatchNorm1d(2)  # DistributedDataParallel would send them before each forward
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = parallel.data_parallel(norm, torch.device("cpu"))
        wrapped(torch.randn(4, 2)).sum().backward()
        assert wrapped.module is norm and not wrapped.will_sync_module_buffers()
        assert not parallel.data_parallel(norm.eval(), torch.device("cpu")).training
    finally:
        torch.distributed.destroy_process_group()


def test_alone_nothing_changes():
    model = torch.nn.Linear(2, 2)
    assert parallel.data_parallel(model, torch.device("cpu")) is model
    assert parallel.join_records(RECORD, torch.device("cpu"), True, False) == (RECORD, True, False)
    assert parallel.gather(3) == [3]
    with parallel.process_group(torch.device("cpu")) as place:
        assert place == (0, 1, torch.device("cpu"))
