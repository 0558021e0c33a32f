"""Train a network and evaluate it; the recipe is data, printing and plotting stay outside.

Knows nothing of DenseNet or CIFAR-10: any module that gives logits, any iterable with a length that
gives (images, labels). Built live in notebooks/06; runs.py and the command line stand on it.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from densenet_lib.muon import Muon

SCHEDULES = ("constant", "steps", "one-cycle")
LIMITS = {  # of the numbers of a Recipe: kind, the least, and what it stays below
    "learning_rate": (float, 0, math.inf),
    "momentum": (float, 0, 1),
    "weight_decay": (float, 0, math.inf),
    "label_smoothing": (float, 0, 1),
    "batch_size": (int, 1, math.inf),
    "cutout": (int, 0, math.inf),
    "plain_epochs": (int, 0, math.inf),
    "epochs": (int, 1, math.inf),
}


@dataclass(frozen=True)
class Recipe:
    """How to train: the kind of gradient descent, and every number of it.

    The defaults are the settings of the notebook that this series grew from. Three recipes have
    names, in RECIPES. The last five fields are for whoever makes the batches.
    """

    learning_rate: float = 0.1  # the highest of the run
    schedule: str = "constant"  # or "steps": a tenth at 1/2 and at 3/4; or "one-cycle": up, down
    momentum: float = 0.9
    nesterov: bool = False
    muon: bool = False  # convolutions step orthogonally: see muon.py
    weight_decay: float = 1e-4  # on every parameter; under Muon on all but the convolutions
    label_smoothing: float = 0.0
    batch_size: int = 64  # images
    augment: bool = False  # flip and shift
    cutout: int = 0  # pixels: the side of a square hidden in each augmented picture
    plain_epochs: int = 0  # the first so many epochs are not augmented
    epochs: int = 1  # passes over the training images, unless asked otherwise

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}: choose one of {', '.join(SCHEDULES)}")
        for name, (kind, least, below) in LIMITS.items():
            value = getattr(self, name)
            if type(value) not in (int, kind) or not least <= value < below:
                what = "a plain whole number" if kind is int else "a plain number"
                end = "" if below == math.inf else f" and below {below}"
                raise ValueError(f"{name} is {value!r}: it must be {what} of at least {least}{end}")
        for name in ("nesterov", "muon", "augment"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be true or false")
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov looks ahead along the momentum, which is 0: raise it above 0"
            )
        if self.cutout and not self.augment:
            raise ValueError(
                f"cutout is {self.cutout}, but only augmented pictures have squares hidden: set "
                "augment to true, or cutout to 0"
            )

    def rate_at(self, step, steps):
        """Return the learning rate of `step` (0, 1, ...) in a run of `steps`."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** ((2 * step >= steps) + (4 * step >= 3 * steps))
        rise = steps / 4  # one-cycle: rises for a quarter of the steps, then falls to 0
        return self.learning_rate * min((step + 1) / rise, (steps - step) / (steps - rise), 1)

    def optimizer(self, model):
        """Return PyTorch's SGD, or Muon, over every parameter of `model`."""
        kind = Muon if self.muon else torch.optim.SGD
        return kind(
            model.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )


RECIPES = {
    "origin": Recipe(),
    # Section 4.2 of the paper. Two more of its habits live elsewhere: initialisation with fan-out
    # in the network, shifts that bring in the channel mean in the batches.
    "paper": Recipe(schedule="steps", nesterov=True, augment=True, epochs=300),
    # Ours, for few passes: chosen on 5,000 training photographs held out (see recorded/README.md).
    "fast": Recipe(
        learning_rate=0.16,
        schedule="one-cycle",
        nesterov=True,
        muon=True,
        weight_decay=5e-4,
        label_smoothing=0.1,
        augment=True,
        plain_epochs=1,  # the first time, every image is new as it is
        epochs=10,
    ),
}


@dataclass(frozen=True)
class Record:
    """What happened since the record before it: means in training, of a network that changes."""

    epoch: int  # from 1
    step: int  # updates so far in the whole run
    images: int  # images seen so far in the whole run
    count: int  # images of this record: loss and accuracy are their means
    learning_rate: float  # of the last update
    loss: float
    accuracy: float  # 0 to 1
    seconds: float  # since the run began
    images_per_second: float
    validation_loss: float | None = None  # at the end of an epoch, if there is a validation set
    validation_accuracy: float | None = None


def train(
    model,
    batches,
    *,
    epochs,
    recipe=None,
    every=None,
    validation=None,
    optimizer=None,
    after=None,
    amp=False,
):
    """Train `model` in place; yield a Record after each epoch, or each `every` steps too.

    Args:   batches: iterable with a length that gives (images, labels) on the model's device.
            epochs: passes over the batches.  recipe: a Recipe; None takes the defaults.
            validation: batches to evaluate on after each epoch.  amp: forward pass in bfloat16.
            optimizer, after: to go on with an interrupted run, its optimizer and its last Record
            (batches must give the pass that was interrupted). Any optimizer will do; all its groups
            step at the rate of the recipe.
    Parts that the caller has put into evaluation mode in a model that is in training mode, such as
    frozen batch norms, stay in it.
    Raises: FloatingPointError for a loss that is not a number: it names the step and what to try;
            ValueError if there are no batches.
    """
    recipe = recipe or Recipe()
    if not len(batches):
        raise ValueError("there are no batches to train on: give it some pictures")
    modes = {part: part.training or not model.training for part in model.modules()}
    optimizer = optimizer or recipe.optimizer(model)
    step, images_seen, before = (after.step, after.images, after.seconds) if after else (0, 0, 0.0)
    done, skip = divmod(step, len(batches))
    steps, start = epochs * len(batches), time.perf_counter() - before
    since = before  # seconds at the last record
    for epoch in range(done + 1, epochs + 1):
        _set_modes(modes)
        losses, correct, count = 0.0, 0, 0  # since the last record
        for i, (images, labels) in enumerate(batches, start=1):
            if i <= skip:
                continue
            rate = recipe.rate_at(step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
                logits = model(images)
            logits = logits.float()
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            (loss * getattr(batches, "weight", 1)).backward()  # 1 unless shares are uneven
            optimizer.step()

            step, images_seen = step + 1, images_seen + len(labels)
            losses += loss.detach() * len(labels)
            correct += (logits.detach().argmax(dim=1) == labels).sum()
            count += len(labels)
            if i == len(batches) or (every and step % every == 0):
                mean_loss = float(losses) / count
                if not mean_loss < float("inf"):
                    raise FloatingPointError(
                        f"the loss is {mean_loss} at step {step}, learning rate {rate:g}: "
                        "try a tenth of the learning rate"
                    )
                seconds = time.perf_counter() - start
                judge = i == len(batches) and validation is not None
                judged = evaluate(model, validation, amp=amp) if judge else None
                yield Record(
                    epoch=epoch,
                    step=step,
                    images=images_seen,
                    count=count,
                    learning_rate=rate,
                    loss=mean_loss,
                    accuracy=int(correct) / count,
                    seconds=seconds,
                    images_per_second=count / (seconds - since),
                    validation_loss=judged and judged.loss,
                    validation_accuracy=judged and judged.accuracy,
                )
                _set_modes(modes)  # the reader of the record may have evaluated
                losses, correct, count = 0.0, 0, 0
                since = time.perf_counter() - start
        skip = 0


@dataclass(frozen=True)
class Evaluation:
    """How a network does on images it is not trained on."""

    logits: torch.Tensor  # (N, classes), in the order of the batches, on the CPU
    labels: torch.Tensor  # (N,)

    @property
    def loss(self):
        """The mean cross-entropy."""
        return F.cross_entropy(self.logits, self.labels).item()

    @property
    def accuracy(self):
        """The share of images whose most likely class is the right one, 0 to 1."""
        return (self.predictions == self.labels).double().mean().item()

    @property
    def probabilities(self):
        """What the network believes of each class, (N, classes); each row sums to 1."""
        return self.logits.softmax(dim=1)

    @property
    def predictions(self):
        """The most likely class of each image, (N,)."""
        return self.logits.argmax(dim=1)

    @property
    def confusion(self):
        """How often class i (row) was taken for class j (column): counts, (classes, classes)."""
        classes = self.logits.shape[1]
        pairs = self.labels.long() * classes + self.predictions
        return pairs.bincount(minlength=classes**2).view(classes, classes)

    @property
    def per_class(self):
        """The accuracy on the images of each class, (classes,); nan where there is no image."""
        return self.confusion.diagonal() / self.confusion.sum(dim=1)


@torch.no_grad()
def evaluate(model, batches, *, amp=False, mirror=False):
    """Return the Evaluation of `model` in evaluation mode; each part's own mode is put back.

    Args:   mirror: give each picture the mean of its logits and of its mirror image's, for twice
            the work.
    Raises: ValueError if there are no batches.
    """
    modes = {part: part.training for part in model.modules()}
    model.eval()
    answers = []
    try:
        for images, labels in batches:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
                logits = model(images).float()
                if mirror:
                    logits = (logits + model(images.flip(-1)).float()) / 2
            answers.append((logits.cpu(), labels.cpu()))
    finally:
        _set_modes(modes)
    if not answers:
        raise ValueError("there are no batches to evaluate on: give it some pictures")
    return Evaluation(*(torch.cat(parts) for parts in zip(*answers, strict=True)))


def _set_modes(modes):
    """Put each module into training mode or evaluation mode, as {module: training?} says."""
    for part, training in modes.items():
        part.training = training
