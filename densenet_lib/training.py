"""Train a network and evaluate it; the recipe is data, printing and plotting stay outside.

Knows nothing of DenseNet or CIFAR-10: any module that gives logits, any iterable with a length that
gives (images, labels). Used from notebook 00 on; taught in Part II.
"""

import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Recipe:
    """How to train: stochastic gradient descent, and every number of it.

    The defaults are the settings of the notebook that this series grew from.
    """

    learning_rate: float = 0.1  # the highest of the run
    schedule: str = "constant"  # or "one-cycle": up in a quarter of the steps, then down to 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4  # on every parameter
    label_smoothing: float = 0.0

    def rate_at(self, step, steps):
        """Return the learning rate of `step` (0, 1, ...) in a run of `steps`."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "one-cycle":
            rise = steps / 4
            return self.learning_rate * min((step + 1) / rise, (steps - step) / (steps - rise), 1)
        raise ValueError(f"schedule is {self.schedule!r}: choose 'constant' or 'one-cycle'")


@dataclass(frozen=True)
class Record:
    """What happened since the record before it. loss and accuracy are running means in training."""

    epoch: int  # from 1
    step: int  # updates so far in the whole run
    images: int  # images seen so far in the whole run
    learning_rate: float  # of the last update
    loss: float
    accuracy: float  # 0 to 1
    seconds: float  # since the run began


def train(model, batches, *, epochs, recipe=None, every=None):
    """Train `model` in place; yield a Record after each epoch, or each `every` steps too.

    Args:   batches: iterable with a length that gives (images, labels) on the model's device.
            epochs: passes over the batches.  recipe: a Recipe; None takes the defaults.
    Raises: ValueError for a loss that is not a number: it names the step and what to try.
    """
    recipe = recipe or Recipe()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    steps, step, images_seen, start = epochs * len(batches), 0, 0, time.perf_counter()
    for epoch in range(1, epochs + 1):
        model.train()
        losses, correct, count = 0.0, 0, 0  # since the last record
        for i, (images, labels) in enumerate(batches, start=1):
            rate = recipe.rate_at(step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            loss.backward()
            optimizer.step()

            step, images_seen = step + 1, images_seen + len(labels)
            losses += loss.detach() * len(labels)
            correct += (logits.detach().argmax(dim=1) == labels).sum()
            count += len(labels)
            if i == len(batches) or (every and step % every == 0):
                mean_loss = float(losses) / count
                if not mean_loss < float("inf"):
                    raise ValueError(
                        f"the loss is {mean_loss} at step {step}, learning rate {rate:g}: "
                        "try a tenth of the learning rate"
                    )
                yield Record(
                    epoch=epoch,
                    step=step,
                    images=images_seen,
                    learning_rate=rate,
                    loss=mean_loss,
                    accuracy=int(correct) / count,
                    seconds=time.perf_counter() - start,
                )
                model.train()  # the reader of the record may have evaluated
                losses, correct, count = 0.0, 0, 0


@dataclass(frozen=True)
class Evaluation:
    """How a network does on images it is not trained on."""

    loss: float
    accuracy: float  # 0 to 1
    logits: torch.Tensor  # (N, classes), in the order of the batches, on the CPU
    labels: torch.Tensor  # (N,)

    @property
    def predictions(self):
        """The most likely class of each image, (N,)."""
        return self.logits.argmax(dim=1)


@torch.no_grad()
def evaluate(model, batches):
    """Return the Evaluation of `model` in evaluation mode; its mode is put back afterwards."""
    was_training = model.training
    model.eval()
    answers = [(model(images).cpu(), labels.cpu()) for images, labels in batches]
    model.train(was_training)
    logits, labels = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(logits.argmax(dim=1) == labels).double().mean().item(),
        logits=logits,
        labels=labels,
    )
