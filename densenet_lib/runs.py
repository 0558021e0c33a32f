"""A training run that lives in a folder: begun, interrupted, resumed, finished, never half-written.

The folder holds checkpoint.pt, all that is needed to go on or to use the network, and run.json, the
part of it that a person can read. Used by the command line; taught in notebooks/06.
"""

import copy
import errno
import json
import math
import operator
import os
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from densenet_lib.checkpoints import (
    ORIGIN,
    build_network,
    load_checkpoint,
    provenance,
    save_checkpoint,
    without_tensors,
    write_whole,
)
from densenet_lib.data import Batches, ImageSet
from densenet_lib.efficient import make_efficient
from densenet_lib.parallel import (
    data_parallel,
    gather,
    join_records,
    own_gpu,
    process_group,
    share_buffers,
)
from densenet_lib.training import Evaluation, Recipe, Record, evaluate, train

RECORD_EVERY = 10  # steps: the moments at which a run can stop
SAVE_EVERY = 30  # seconds, within an epoch; a checkpoint ends each epoch anyway
ACCELERATORS = ("cuda", "mps")  # which draw their own random numbers
TEST_BATCH = 500  # images; changes nothing but speed and memory


@dataclass(frozen=True)
class Speed:
    """Switches that save time or memory and leave the mathematics as it is."""

    amp: bool = False  # convolutions in bfloat16, which rounds more
    compile: bool = False  # by torch.compile
    channels_last: bool = False  # the three values of a pixel side by side
    efficient: bool = False  # each feature map kept once for the backward pass


@dataclass(eq=False, repr=False)
class Run:
    """Train a network in a folder; iterate over it for a Record every few steps.

    Args:   network: from make_network, drawn with `seed`.  images: the ImageSet to train on.
            recipe: a Recipe.  epochs: None takes the recipe's.
            folder: where the run lives.  resume: go on with what is there, if anything is.
            test: an ImageSet to evaluate on once, when all is done; None for none.
            validation: an ImageSet to evaluate on after every epoch; None for none.
            speed: switches.  should_stop: a function that says whether to save and stop.
            started_from: what the checkpoint says of where the network's weights are from, if they
            are not fresh; parts that are in evaluation mode stay in it.
    Raises: FileExistsError for a folder that holds a run (without resume) or where another process
            trains, ValueError for one with another run, or for what could not train to its end,
            OSError if it cannot be written, FloatingPointError if training diverges.
    """

    network: torch.nn.Module
    images: ImageSet
    recipe: Recipe
    folder: Path
    _: KW_ONLY
    epochs: int | None = None
    seed: int = 0
    device: torch.device = "cpu"
    resume: bool = False
    test: ImageSet | None = None
    validation: ImageSet | None = None
    speed: Speed = Speed()
    should_stop: Callable = lambda: False
    started_from: dict | None = None

    def __post_init__(self):
        self.device = torch.device(self.device)
        self.epochs = self.recipe.epochs if self.epochs is None else operator.index(self.epochs)
        self.seed = operator.index(self.seed)  # a checkpoint holds plain numbers, not NumPy's
        self.path = Path(self.folder) / "checkpoint.pt"
        self.is_writer = int(os.environ.get("RANK", 0)) == 0  # one process for all
        self.steps = -(-len(self.images) // self.recipe.batch_size) * self.epochs
        self.log, self.result = [], None  # of whole epochs; on the test images
        self.stopped = False
        self._since_epoch = []  # records since the epoch began
        self._earlier = self._find_earlier()
        self.was_complete = self._earlier is not None and self._earlier["resume"] is None
        self._begun = False
        if not self.was_complete:
            self._try_last_batch()
            if self.speed.compile:
                _require_compiler(self.device)
            if self.speed.efficient:
                _require_dense(self.network)

    def __iter__(self):
        if self._begun and not self._complete():
            raise RuntimeError(
                f"The run in {self.path.parent} was begun and left: make a new Run with "
                "resume=True, which goes on from its last checkpoint."
            )
        if self.was_complete and self.is_writer:
            self._write_json(self._earlier)  # the disk may have been full at its end
        if self.was_complete or self._begun:
            return
        self._begun = True
        with process_group(self.device) as place, self._hold_folder():
            yield from self._train(*place)

    def _complete(self):
        return bool(self.log) and self.log[-1].step == self.steps

    def _train(self, number, processes, device):
        """Train as process `number` of so many; yield the joint records."""
        memory = torch.channels_last if self.speed.channels_last else None
        network = self.network.to(device, memory_format=memory)
        if self.speed.efficient:
            make_efficient(network)
        optimizer, after = self.recipe.optimizer(network), None
        batches = Batches(
            self.images,
            self.recipe.batch_size,
            augment=self.recipe.augment,
            cutout=self.recipe.cutout,
            plain_epochs=self.recipe.plain_epochs,
            shuffle=True,
            seed=self.seed,
            device=device,
            share=(number, processes),
        )
        # After the weights, which are the caller's: dropout, which differs between processes.
        torch.manual_seed(self.seed + number)
        self._machine = provenance(device, processes=processes, **asdict(self.speed))
        if self._earlier:
            after = self._go_on(network, optimizer, number)
            batches.epoch = after.step // len(batches)
            self._machine |= _before(self._earlier["machine"], self._machine, after.step)
        # A graph for each size of a batch: PyTorch would else make one for all sizes after the
        # first short batch, and use that slower one from then on.
        compiled = torch.compile(network, dynamic=False) if self.speed.compile else network
        trained = data_parallel(compiled, device)
        validation = self.validation and Batches(self.validation, TEST_BATCH, device=device)
        saved, seen = time.monotonic(), after.images if after else 0
        for record in train(
            trained,
            batches,
            epochs=self.epochs,
            recipe=self.recipe,
            every=RECORD_EVERY,
            validation=validation,
            optimizer=optimizer,
            after=after,
            amp=self.speed.amp,
        ):
            due = time.monotonic() - saved > SAVE_EVERY
            record, stop, due = join_records(record, device, self.should_stop(), due)
            seen += record.count
            record = replace(record, images=seen)
            self._since_epoch.append(record)
            if record.step % len(batches) == 0:
                self.log.append(whole_epoch(self._since_epoch))
                self._since_epoch = []
            finished = record.step == self.steps
            if finished and self.test is not None:
                self.result = self._on_test(network, number, processes, device)
            if finished or stop or due or not self._since_epoch:
                self._save(network, None if finished else optimizer)
                saved = time.monotonic()
            yield record
            if stop and not finished:
                self.stopped = True
                return

    def _describe(self):
        """Return what a checkpoint says of the run whatever its progress."""
        images = self.images
        return {
            "network": self.network.arguments,
            "classes": tuple(map(str, images.classes)),
            "mean": tuple(map(float, images.mean)),
            "std": tuple(map(float, images.std)),
            "data": {"name": images.name, "images": len(images), "sha256": images.digest},
            "recipe": asdict(self.recipe),
            "epochs": self.epochs,
            "seed": self.seed,
            ORIGIN: self.started_from,
        }

    def _find_earlier(self):
        """Return the checkpoint to go on with, or None; refuse a folder of another run."""
        if not self.path.exists():
            return None
        if not self.resume:
            raise FileExistsError(
                f"{self.path.parent} already holds a run: add --resume to go on with it, or choose "
                "another folder with --out."
            )
        earlier = load_checkpoint(self.path)
        earlier["recipe"] = asdict(Recipe()) | earlier["recipe"]  # it may be older than some field
        for key, mine in self._describe().items():
            if (theirs := earlier.get(key)) != mine:
                raise ValueError(
                    f"{self.path} is of another run, with {key} {theirs} where you ask for "
                    f"{mine}: choose another folder with --out, or ask for the same."
                )
        self.log = [Record(**record) for record in earlier["log"]]
        self.result = earlier["test"]
        return earlier

    def _try_last_batch(self):
        """Refuse, before work is lost, a last share too small for batch statistics."""
        last = len(self.images) % self.recipe.batch_size or self.recipe.batch_size
        processes = int(os.environ.get("WORLD_SIZE", 1))
        if last // processes == 1:
            try:
                pixels = torch.zeros(1, *self.images.images.shape[1:])
                copy.deepcopy(self.network).cpu().train()(pixels)
            except ValueError as error:
                whole = f"{len(self.images)} pictures in batches of {self.recipe.batch_size}"
                for_whom = "" if processes == 1 else f", for one of {processes} processes 1"
                raise ValueError(
                    f"{whole} leave a last batch of {last}{for_whom}: {error}"
                ) from None

    @contextmanager
    def _hold_folder(self):
        """Make the run's folder before hours are spent on what could not be kept, and hold it."""
        if not self.is_writer:
            yield
            return
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise OSError(
                f"Cannot write into {folder} ({error.strerror}): choose another folder with --out."
            ) from error
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise FileExistsError(
                f"Another process is training in {folder}: wait for it, or choose another folder "
                "with --out."
            ) from None
        try:
            if self._earlier is None and self.path.exists():
                raise FileExistsError(f"{folder} got a run meanwhile: choose another with --out.")
            yield
        finally:
            with suppress(OSError):
                os.unlink(folder / ".lock")
            lock.release()

    def _go_on(self, network, optimizer, number):
        """Put everything back as it was at the checkpoint; return the Record made there."""
        state = self._earlier["resume"]
        build_network(self._earlier)  # refuses weights that are not of this network
        network.load_state_dict(self._earlier["state_dict"])
        optimizer.load_state_dict(state["optimizer"])
        if number < len(state["random"]):  # a process that was not there before keeps its own seed
            random = state["random"][number]
            torch.set_rng_state(random["cpu"])
            if self.device.type in random and self.device.type in ACCELERATORS:
                getattr(torch, self.device.type).set_rng_state(random[self.device.type])
        self._since_epoch = [Record(**record) for record in state["since_epoch"]]
        return self._last()

    def _save(self, network, optimizer):
        """Write checkpoint.pt and run.json; without an optimizer, as finished."""
        random = {"cpu": torch.get_rng_state()}
        if (kind := self.device.type) in ACCELERATORS:
            random[kind] = getattr(torch, kind).get_rng_state()
        random = gather(random)
        if not self.is_writer:
            return
        content = {
            **self._describe(),
            "state_dict": {name: t.cpu().contiguous() for name, t in network.state_dict().items()},
            "machine": self._machine,
            "log": [asdict(record) for record in self.log],
            "test": self.result,
            "resume": optimizer
            and {
                "optimizer": optimizer.state_dict(),
                "random": random,
                "since_epoch": [asdict(record) for record in self._since_epoch],
            },
        }
        if not all(t.isfinite().all() for t in content["state_dict"].values()):
            raise FloatingPointError(
                f"a weight became infinite or not a number by step {self._last().step}: try a "
                "tenth of the learning rate"
            )
        self._write_json(save_checkpoint(self.path, **content))

    def _write_json(self, whole):
        text = json.dumps(_finite(without_tensors(whole)), indent=1, allow_nan=False).encode()
        path = self.path.with_name("run.json")
        if not path.exists() or path.read_bytes() != text:
            write_whole(path, text)

    def _last(self):
        return (self.log + self._since_epoch)[-1]

    def _on_test(self, network, number, processes, device):
        """Evaluate on the test images, of which every process takes a share."""
        if len(self.test) < processes:
            number, processes = 0, 1
        share_buffers(network)  # so that what is tested is what was saved
        mine = self.test.subset(torch.arange(number, len(self.test), processes))
        found = evaluate(network, Batches(mine, TEST_BATCH, device=device))
        if processes > 1:
            shares = gather((found.logits, found.labels))
            found = Evaluation(*(torch.cat(parts) for parts in zip(*shares, strict=True)))
        return {
            "images": len(self.test),
            "loss": found.loss,
            "accuracy": found.accuracy,
            "per_class": [None if x.isnan() else x.item() for x in found.per_class],  # no picture
        }


def _before(earlier, now, step):
    """Return what a run was trained with up to `step`, if that was something else than now."""
    former = {key: value for key, value in earlier.items() if key != "before"}
    steps = earlier.get("before", [])
    if former != now:
        steps = [*steps, {**former, "until_step": step}]
    return {"before": steps} if steps else {}


def _require_compiler(device):
    """Refuse, before work is lost, to compile where nothing can be compiled."""
    if device.type == "cuda":
        device = own_gpu()
    try:
        torch.compile(torch.nn.ReLU(), dynamic=False)(torch.zeros(2, device=device))
    except Exception as error:
        kind = type(error).__name__
        raise ValueError(
            f"torch.compile does not work here ({kind}): install a C++ compiler, for a "
            "GPU Triton, or leave out --compile."
        ) from None


def _require_dense(network):
    """Refuse, before work is lost, to train efficiently what has no efficient kind."""
    try:
        make_efficient(copy.deepcopy(network))
    except TypeError as error:
        raise ValueError(f"{error} So leave out --efficient.") from None


def whole_epoch(records):
    """Join the records of one epoch into one."""
    count, first, last = sum(r.count for r in records), records[0], records[-1]
    began = first.seconds - first.count / first.images_per_second
    return replace(
        last,
        count=count,
        loss=sum(r.loss * r.count for r in records) / count,
        accuracy=sum(r.accuracy * r.count for r in records) / count,
        images_per_second=count / (last.seconds - began),
    )


def _finite(value):
    """Return the same with None in place of each number that JSON does not know: nan, infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
