"""What the command line does: a function for each command, given the options that were chosen."""

import inspect
import io
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from operator import eq

import torch
from tqdm import tqdm

from densenet_lib import training
from densenet_lib.checkpoints import (
    adapt,
    build_network,
    digest_of,
    freeze,
    load_checkpoint,
    normalise,
    write_whole,
)
from densenet_lib.data import Batches, choose_device, home, load_images, split_validation
from densenet_lib.data.folders import read_picture
from densenet_lib.densenet import DenseNet, named_network
from densenet_lib.residual import ResidualNet
from densenet_lib.runs import TEST_BATCH, Run, Speed


def train(chosen):
    """Train a network in a folder."""
    if chosen.freeze and not chosen.start:
        raise ValueError("--freeze keeps what a network has learned: add --from CHECKPOINT.")
    start = load_checkpoint(chosen.start) if chosen.start else None
    train_images, validation = load_images(chosen.data, "train", limit=chosen.limit), None
    test = load_images(chosen.data, "test")
    if start:  # its features know pictures that are normalised so
        numbers = {name: start[name] for name in ("mean", "std")}
        train_images, test = replace(train_images, **numbers), replace(test, **numbers)
    if chosen.validation:
        train_images, validation = split_validation(train_images, chosen.validation)
        test = None
    torch.manual_seed(chosen.seed)
    if start:
        network = adapt(start, train_images.classes)
        if chosen.freeze:
            freeze(network, chosen.freeze)
    else:
        network = _network(chosen.net, len(train_images.classes))
    with _stop_requests() as requests:
        run = Run(
            network,
            train_images,
            _recipe(chosen.recipe),
            chosen.out,
            epochs=chosen.epochs,
            seed=chosen.seed,
            device=choose_device(chosen.device),
            resume=chosen.resume,
            test=test,
            validation=validation,
            speed=Speed(chosen.amp, chosen.compile, chosen.channels_last, chosen.efficient),
            should_stop=lambda: bool(requests),
            started_from=start and _origin(chosen, start),
        )
        try:
            _follow(run, train_images)
        except FloatingPointError as error:
            kept = f"; the last good checkpoint is {run.path}" if run.path.exists() else ""
            raise FloatingPointError(f"{error}{kept}") from None
    if run.stopped:
        if run.is_writer:
            print(f"Stopped and saved in {run.path}.", end=" ", file=sys.stderr)
            print("To go on, give the same command with --resume.", file=sys.stderr)
        return 128 + requests[0] if requests else 1
    return 0


def _follow(run, images):
    """Draw a bar on a terminal, or write plain lines: one per epoch, and some within long ones."""
    if run.is_writer:
        parameters = sum(p.numel() for p in run.network.parameters())
        print(f"network  {parameters:,} parameters\ndata     {images}\nfolder   {run.path.parent}")
        print(f"to do    {run.epochs} epochs, {run.steps:,} steps", flush=True)
    bar, spoken = None, time.monotonic()
    for record in run:
        if not run.is_writer:
            continue
        if bar is None:
            bar = tqdm(total=run.steps, initial=record.step, unit="step", disable=None, leave=False)
        bar.update(record.step - bar.n)
        bar.set_postfix_str(f"loss {record.loss:.3f}, {record.images_per_second:.0f} images/s")
        ends_epoch = run.log and run.log[-1].step == record.step
        if ends_epoch or (bar.disable and time.monotonic() - spoken > 60):
            bar.write(_line(run.log[-1] if ends_epoch else record, run), file=sys.stdout)
            sys.stdout.flush()
            spoken = time.monotonic()
    if bar is not None:
        bar.close()
    if run.is_writer and run.result:
        print(f"test     {_result(run.result)}, once, at the end")
    if run.is_writer and not run.stopped:
        print(f"{'was complete' if run.was_complete else 'complete'}: {run.path}")


def _line(record, run):
    text = (
        f"epoch {record.epoch}/{run.epochs} step {record.step:,}/{run.steps:,}: "
        f"loss {record.loss:.4f}, training accuracy {record.accuracy:.2%}, "
        f"rate {record.learning_rate:.4g}, {record.seconds:.0f} s, "
        f"{record.images_per_second:.0f} images/s"
    )
    if record.validation_accuracy is not None:
        text += f", validation accuracy {record.validation_accuracy:.2%}"
    return text


def _result(result):
    figures = f"accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}"
    return f"{figures} ({result['images']:,} images)"


def evaluate(chosen):
    """Test a checkpoint, and say what each class is taken for."""
    checkpoint = load_checkpoint(chosen.checkpoint)
    images = load_images(chosen.data, "test")
    known = tuple(checkpoint["classes"])
    if images.classes != known:
        alike = len(list(takewhile(bool, map(eq, known, images.classes))))
        theirs, ours = _few(known, alike), _few(images.classes, alike)
        raise ValueError(
            f"{chosen.checkpoint} knows {len(known)} classes ({theirs}) and {images.name} has "
            f"{len(images.classes)} ({ours}): evaluate on the kind of data it was trained on."
        )
    images = replace(images, mean=checkpoint["mean"], std=checkpoint["std"])
    device = choose_device(chosen.device)
    network = build_network(checkpoint).to(device)
    batches = Batches(images, TEST_BATCH, device=device)
    found = training.evaluate(network, batches, amp=chosen.amp, mirror=chosen.mirror)
    result = {"accuracy": found.accuracy, "loss": found.loss, "images": len(images)}
    way = "test, with mirror images" if chosen.mirror else "test"
    print(f"{images.name} {way}: {_result(result)}")
    width = max(map(len, images.classes))
    wrong = found.confusion.fill_diagonal_(-1)  # below any count
    for name, accuracy, row in zip(images.classes, found.per_class, wrong, strict=True):
        if accuracy.isnan():
            print(f"  {name:{width}}  no picture of it")
            continue
        taken = f"most often taken for {images.classes[row.argmax()]} ({row.max()})"
        print(f"  {name:{width}}  {accuracy:6.1%}  {taken if row.max() else ''}".rstrip())
    if chosen.answers:
        buffer = io.BytesIO()  # half the bytes: three digits are enough to draw probabilities
        labels = found.labels.byte() if len(known) <= 256 else found.labels.int()
        torch.save({"logits": found.logits.half(), "labels": labels}, buffer)
        write_whole(chosen.answers, buffer.getbuffer())


def predict(chosen):
    """Name the most likely classes of pictures; 2 if one could not be read."""
    checkpoint = load_checkpoint(chosen.checkpoint)
    network, failed = build_network(checkpoint), 0
    for path in chosen.pictures:
        try:
            picture, _ = read_picture(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            print(f"{path}: cannot be read ({reason})", file=sys.stderr)
            failed += 1
            continue
        with torch.no_grad():
            logits = network(normalise(torch.tensor(picture)[None], checkpoint))
        best = logits.softmax(1)[0].topk(min(chosen.top, len(checkpoint["classes"])))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        print(f"{path}: " + ", ".join(f"{checkpoint['classes'][i]} {p:.1%}" for p, i in pairs))
    return 2 if failed else 0


def data(chosen):
    """Fetch CIFAR-10 or CIFAR-100 and say where it is."""
    from densenet_lib.data.download import fetch_cifar  # imports torchvision, which is slow

    folder = fetch_cifar(chosen.source, chosen.root)
    print(f"{chosen.source} is whole and checked: {folder}")
    if folder.parent != home().resolve():
        print(f"Notebooks look for it elsewhere unless you set DENSENET_HOME={folder.parent}")
    print(f"A class shares this one copy, read-only: everyone sets DENSENET_HOME={folder.parent}")


@contextmanager
def _stop_requests():
    """Collect SIGINT and SIGTERM in a list, to be heeded at the next record; insisting kills."""
    requests = []

    def ask(number, _):
        if requests and "RANK" not in os.environ:  # torchrun passes a Ctrl-C on a second time
            raise KeyboardInterrupt
        requests.append(number)
        print("\nStopping at the next step that can be saved ...", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _network(text, num_classes):
    if not text.lstrip().startswith("{"):
        return named_network(text, num_classes)
    make = ResidualNet if '"kind"' in text else DenseNet
    return _from_json(make, text, "--net", num_classes=num_classes)


def _origin(chosen, start):
    """Return what the new checkpoint says of the one that it started from."""
    return {
        "file": os.path.basename(chosen.start),
        "sha256": digest_of(start["state_dict"]),
        "data": start["data"],
        "frozen": chosen.freeze,
    }


def _recipe(text):
    if text.lstrip().startswith("{"):
        return _from_json(training.Recipe, text, "--recipe")
    if text not in training.RECIPES:
        raise ValueError(
            f"--recipe is {text!r}: choose one of {', '.join(training.RECIPES)}, or give JSON."
        )
    return training.RECIPES[text]


def _from_json(make, text, option, **fixed):
    try:
        return make(**json.loads(text), **fixed)
    except json.JSONDecodeError as error:
        raise ValueError(f"{option} is no JSON ({error}): quote it, as --help shows.") from None
    except TypeError as error:
        known = ", ".join(name for name in inspect.signature(make).parameters if name not in fixed)
        reason = str(error).split("() ")[-1]
        raise ValueError(f"{option} does not fit ({reason}): it may have {known}.") from None


def _few(names, start):
    few = ["..."] * (start > 0) + list(names[start : start + 3])
    return ", ".join(few + ["..."] * (start + 3 < len(names)))
