"""A training run that lives in a folder: begun, interrupted, resumed, finished, never half-written.

The folder holds checkpoint.pt, all that is needed to go on or to use the network, and run.json, the
part of it that a person can read. Used by the command line; taught in notebooks/06.
"""

import errno
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from densenet_lib.checkpoints import (
    build_network,
    load_checkpoint,
    machine,
    save_checkpoint,
    without_tensors,
    write_whole,
)
from densenet_lib.data import Batches
from densenet_lib.parallel import agree, gathered, shared, together
from densenet_lib.training import Record, evaluate, train

EVERY = 10  # steps between two records, each a moment at which the run can stop
PAUSE = 30  # seconds between two checkpoints within an epoch
TEST_BATCH = 500  # images; changes nothing but speed and memory


class Run:
    """Train a network in a folder; iterate over it for a Record every few steps.

    Args:   network: a DenseNet, drawn from `seed`.  images: the ImageSet to train on.
            recipe: a Recipe.  epochs: None takes the recipe's.
            folder: where the run lives.  resume: go on with what is there, if anything is.
            test: an ImageSet to evaluate on once, when all is done; None for none.
            validation: an ImageSet to evaluate on after every epoch; None for none.
            amp, compile, channels_last: speed, with the same mathematics (bfloat16 rounds more).
            should_stop: a function that says whether to save and stop.
    Raises: FileExistsError for a folder in use, ValueError for one that holds another run,
            OSError if it cannot be written, FloatingPointError if training diverges.
    """

    def __init__(
        self,
        network,
        images,
        recipe,
        folder,
        *,
        epochs=None,
        seed=0,
        device="cpu",
        resume=False,
        test=None,
        validation=None,
        amp=False,
        compile=False,
        channels_last=False,
        should_stop=lambda: False,
    ):
        self.network, self.images, self.test, self.validation = network, images, test, validation
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        self.epochs = recipe.epochs if epochs is None else epochs
        self.switches = {"amp": amp, "compile": compile, "channels_last": channels_last}
        self.should_stop, self.stopped, self.writes = should_stop, False, True
        self.path = Path(folder) / "checkpoint.pt"
        self.log, self.result = [], None  # of whole epochs; on the test images
        self._since_epoch = []  # records since the epoch began
        self._earlier = self._find_earlier(resume)
        self.steps = -(-len(images) // recipe.batch_size) * self.epochs
        self.done = self._earlier is not None and self._earlier["resume"] is None

    def __iter__(self):
        if self.done:
            return
        with together(self.device) as (number, processes, device):
            self.writes = number == 0
            if self.writes:
                self._make_folder()
            memory = torch.channels_last if self.switches["channels_last"] else None
            network = self.network.to(device, memory_format=memory)
            optimizer, after = self.recipe.optimizer(network), None
            batches = Batches(
                self.images,
                self.recipe.batch_size,
                augment=self.recipe.augment,
                plain_epochs=self.recipe.plain_epochs,
                shuffle=True,
                seed=self.seed,
                device=device,
                share=(number, processes),
            )
            torch.manual_seed(self.seed + number)  # for dropout, which differs between processes
            if self._earlier:
                after = self._go_on(network, optimizer, number)
                batches.epoch = after.step // len(batches)
            trained = shared(
                torch.compile(network) if self.switches["compile"] else network, device
            )
            validation = self.validation and Batches(self.validation, TEST_BATCH, device=device)
            self._machine = machine(device, processes=processes, **self.switches)
            saved, seen = time.monotonic(), after.images if after else 0
            for record in train(
                trained,
                batches,
                epochs=self.epochs,
                recipe=self.recipe,
                every=EVERY,
                validation=validation,
                optimizer=optimizer,
                after=after,
                amp=self.switches["amp"],
            ):
                due = time.monotonic() - saved > PAUSE
                record, stop, due = agree(record, device, self.should_stop(), due)
                seen += record.count
                record = replace(record, images=seen)
                self._since_epoch.append(record)
                if record.step % len(batches) == 0:
                    self.log.append(whole_epoch(self._since_epoch))
                    self._since_epoch = []
                finished = record.step == self.steps
                if finished and self.test is not None:
                    self.result = self._on_test(network, device)
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
            "classes": images.classes,
            "mean": images.mean,
            "std": images.std,
            "data": {"name": images.name, "images": len(images), "sha256": images.digest},
            "recipe": asdict(self.recipe),
            "epochs": self.epochs,
            "seed": self.seed,
        }

    def _find_earlier(self, resume):
        """Return the checkpoint to go on with, or None; refuse a folder of another run."""
        if not self.path.exists():
            return None
        if not resume:
            raise FileExistsError(
                f"{self.path.parent} already holds a run: add --resume to go on with it, or choose "
                "another folder with --out."
            )
        earlier = load_checkpoint(self.path)
        for key, mine in self._describe().items():
            if earlier[key] != mine:
                raise ValueError(
                    f"{self.path} is of another run, with {key} {earlier[key]} where you ask for "
                    f"{mine}: choose another folder with --out, or ask for the same."
                )
        self.log = [Record(**record) for record in earlier["log"]]
        self.result = earlier["test"]
        return earlier

    def _make_folder(self):
        """Make the run's folder before hours are spent on what could not be kept."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise OSError(
                f"Cannot write into {folder} ({error.strerror}): choose another folder with --out."
            ) from error

    def _go_on(self, network, optimizer, number):
        """Put everything back as it was at the checkpoint; return the Record made there."""
        state = self._earlier["resume"]
        build_network(self._earlier)  # refuses weights that are not of this network
        network.load_state_dict(self._earlier["state_dict"])
        optimizer.load_state_dict(state["optimizer"])
        random = state["random"][number % len(state["random"])]
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and self.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"])
        self._since_epoch = [Record(**record) for record in state["since_epoch"]]
        return (self.log + self._since_epoch)[-1]

    def _save(self, network, optimizer):
        """Write checkpoint.pt and run.json; without an optimizer, as finished."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        random = gathered(random)
        if not self.writes:
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
        whole = save_checkpoint(self.path, **content)
        text = json.dumps(without_tensors(whole), indent=1)
        write_whole(self.path.with_name("run.json"), text.encode())

    def _last(self):
        return (self.log + self._since_epoch)[-1]

    def _on_test(self, network, device):
        found = evaluate(network, Batches(self.test, TEST_BATCH, device=device))
        return {
            "images": len(self.test),
            "loss": found.loss,
            "accuracy": found.accuracy,
            "per_class": found.per_class.tolist(),
        }


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
