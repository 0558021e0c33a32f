"""The command line of the library: train, evaluate and predict with networks; fetch CIFAR."""

import argparse
import json
import os
import signal
import sys
import time
from contextlib import contextmanager

EXAMPLES = """
examples:
  The small network of notebook 00 on the embedded shapes, a few minutes on two cores:
    python -m densenet_lib train --net origin --data shapes --recipe fast --epochs 3 --out runs/a

  The paper's DenseNet-BC (L=100, k=12) by the paper's recipe, on a GPU in bfloat16:
    python -m densenet_lib train --net bc-100-12 --data cifar10 --recipe paper --amp --out runs/b

  The same command with --resume goes on where the run was stopped, or begins it. So this survives
  the death of a process; the launcher starts all of them again, up to three times:
    torchrun --nproc-per-node=2 --max-restarts=3 -m densenet_lib train --resume ...

A run's folder holds checkpoint.pt (for `evaluate`, `predict` and --resume) and run.json (settings,
a record of each epoch, and the test result). The test images are used once, when all is done.
With --validation they are not used at all: compare settings that way.
"""


def main(arguments=None):
    """Run one command: return 0; 1 or 2 after one sentence on stderr, 2 for wrong use."""
    parser = argparse.ArgumentParser(
        prog="python -m densenet_lib",
        description="What notebooks leave to the command line. COMMAND --help tells more of each.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_data(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ValueError, ArithmeticError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ValueError, FileNotFoundError, FileExistsError)) else 1


def _add_train(commands):
    command = commands.add_parser(
        "train",
        help="train a network in a folder that survives interruption",
        description="Train a network. Ctrl-C (or SIGTERM) saves, and says how to go on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = command.add_argument_group("what")
    what.add_argument(
        "--net",
        required=True,
        help="origin, bc-DEPTH-GROWTH (bc-100-12), DEPTH-GROWTH (40-12), or the arguments of "
        'DenseNet as JSON: \'{"growth_rate": 8, "block_config": [1, 3, 6]}\'',
    )
    _add_source(what)
    what.add_argument(
        "--recipe",
        default="fast",
        help="origin, paper, fast (default), or fields of Recipe as JSON: "
        '\'{"learning_rate": 0.05, "augment": true}\'',
    )
    what.add_argument("--epochs", type=_count, help="passes over the images; default: the recipe's")
    what.add_argument("--seed", type=_seed, default=0, help="default: 0")
    what.add_argument("--limit", type=_count, help="train on so many images only")
    what.add_argument(
        "--validation", type=_count, metavar="N", help="hold out N images, judge on them instead"
    )
    where = command.add_argument_group("where and how")
    where.add_argument("--out", required=True, metavar="DIR", help="the folder of the run")
    where.add_argument("--resume", action="store_true", help="go on with the run in DIR, if any")
    _add_device(where)
    where.add_argument("--compile", action="store_true", help="torch.compile: minutes, then faster")
    where.add_argument("--channels-last", action="store_true", help="another order in memory")
    command.set_defaults(run=_train)


def _add_evaluate(commands):
    command = commands.add_parser(
        "evaluate",
        help="test a trained network",
        description="Evaluate a checkpoint on the test images of a source.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT")
    _add_source(command)
    _add_device(command)
    command.add_argument(
        "--answers", metavar="FILE", help="write logits and labels there, for torch.load"
    )
    command.set_defaults(run=_evaluate)


def _add_predict(commands):
    command = commands.add_parser(
        "predict",
        help="say what is on pictures",
        description="Name the most likely classes of pictures of any size and kind. The middle "
        "square of each is shrunk to 32x32, as in training.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT")
    command.add_argument("pictures", metavar="IMAGE", nargs="+")
    command.add_argument("--top", type=_count, default=3, help="classes to name; default: 3")
    command.set_defaults(run=_predict)


def _add_data(commands):
    command = commands.add_parser(
        "data",
        help="fetch CIFAR-10 or CIFAR-100 (about 170 MB), unless it is on disk",
        description="Fetch CIFAR-10 or CIFAR-100 (about 170 MB), check it and unpack it. Run "
        "again, it goes on where it stopped, and does nothing where all is there. The embedded "
        "shapes and your own folder of pictures need no fetching.",
        epilog="Environment: DENSENET_HOME is the folder for datasets, which a class can share, "
        "read-only; DENSENET_CIFAR_URL is the address of a copy of the archive, tried first.",
    )
    command.add_argument(
        "--source", choices=("cifar10", "cifar100"), default="cifar10", help="default: cifar10"
    )
    command.add_argument("--root", metavar="DIR", help="folder to hold it; default: DENSENET_HOME")
    command.set_defaults(run=_data)


def _add_source(group):
    group.add_argument(
        "--data",
        default="auto",
        metavar="SOURCE",
        help="cifar10, cifar100, shapes, a folder with a subfolder of pictures for each class, or "
        "auto (default): cifar10 if it is on disk, else shapes",
    )


def _add_device(group):
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto"
    )
    group.add_argument(
        "--amp", action="store_true", help="bfloat16 where it is safe: faster, rounds more"
    )


# The library is imported inside the commands: it brings torch along, which --help need not wait for


def _train(chosen):
    import torch

    from .data import load_images, split_validation
    from .runs import Run

    train_images, validation = load_images(chosen.data, "train", limit=chosen.limit), None
    test = load_images(chosen.data, "test")
    if chosen.validation:
        train_images, validation = split_validation(train_images, chosen.validation)
        test = None
    torch.manual_seed(chosen.seed)
    network = _network(chosen.net, len(train_images.classes))
    with _stop_requests() as requests:
        run = Run(
            network,
            train_images,
            _recipe(chosen.recipe),
            chosen.out,
            epochs=chosen.epochs,
            seed=chosen.seed,
            device=_device(chosen.device),
            resume=chosen.resume,
            test=test,
            validation=validation,
            amp=chosen.amp,
            compile=chosen.compile,
            channels_last=chosen.channels_last,
            should_stop=lambda: bool(requests),
        )
        try:
            _follow(run, train_images)
        except FloatingPointError as error:
            kept = f"; the last good checkpoint is {run.path}" if run.path.exists() else ""
            raise FloatingPointError(f"{error}{kept}") from None
    if run.stopped:
        if run.writes:
            print(f"Stopped and saved in {run.path}.", end=" ", file=sys.stderr)
            print("To go on, give the same command with --resume.", file=sys.stderr)
        return 128 + requests[0] if requests else 1
    return 0


def _follow(run, images):
    """Draw a bar on a terminal, or write plain lines: one per epoch, and some within long ones."""
    from tqdm import tqdm

    if int(os.environ.get("RANK", 0)) == 0:
        parameters = sum(p.numel() for p in run.network.parameters())
        print(f"network  {parameters:,} parameters\ndata     {images}\nfolder   {run.path.parent}")
        print(f"to do    {run.epochs} epochs, {run.steps:,} steps", flush=True)
    bar, spoken = None, time.monotonic()
    for record in run:
        if not run.writes:
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
    if run.writes and run.result:
        print(f"test     {_result(run.result)}, once, at the end")
    if run.writes and not run.stopped:
        print(f"{'was complete' if run.done else 'complete'}: {run.path}")


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


def _evaluate(chosen):
    import io
    from dataclasses import replace

    import torch

    from .checkpoints import build_network, load_checkpoint, write_whole
    from .data import Batches, load_images
    from .training import evaluate

    checkpoint = load_checkpoint(chosen.checkpoint)
    images = load_images(chosen.data, "test")
    if images.classes != tuple(checkpoint["classes"]):
        raise ValueError(
            f"{chosen.checkpoint} knows the classes {_few(checkpoint['classes'])} and "
            f"{images.name} has {_few(images.classes)}: evaluate on the kind of data it was "
            "trained on."
        )
    images = replace(images, mean=checkpoint["mean"], std=checkpoint["std"])
    device = _device(chosen.device)
    network = build_network(checkpoint).to(device)
    found = evaluate(network, Batches(images, 500, device=device), amp=chosen.amp)
    result = {"accuracy": found.accuracy, "loss": found.loss, "images": len(images)}
    print(f"{images.name} test: {_result(result)}")
    width = max(map(len, images.classes))
    for name, accuracy, row in zip(images.classes, found.per_class, found.confusion, strict=True):
        wrong = row.clone()
        wrong[images.classes.index(name)] = -1
        taken = f"most often taken for {images.classes[wrong.argmax()]} ({wrong.max()})"
        print(f"  {name:{width}}  {accuracy:6.1%}  {taken if wrong.max() else ''}".rstrip())
    if chosen.answers:
        buffer = io.BytesIO()  # half the bytes: three digits are enough to draw probabilities
        torch.save({"logits": found.logits.half(), "labels": found.labels.byte()}, buffer)
        write_whole(chosen.answers, buffer.getbuffer())


def _predict(chosen):
    import torch

    from .checkpoints import build_network, load_checkpoint, normalise
    from .folders import read_picture

    checkpoint = load_checkpoint(chosen.checkpoint)
    network, failed = build_network(checkpoint), 0
    for path in chosen.pictures:
        try:
            picture, _ = read_picture(path)
        except OSError as error:
            reason = error.strerror or "it is no picture, or a damaged one"
            print(f"{path}: cannot be read ({reason})", file=sys.stderr)
            failed += 1
            continue
        with torch.no_grad():
            logits = network(normalise(torch.tensor(picture)[None], checkpoint))
        best = logits.softmax(1)[0].topk(min(chosen.top, len(checkpoint["classes"])))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        print(f"{path}: " + ", ".join(f"{checkpoint['classes'][i]} {p:.1%}" for p, i in pairs))
    return 2 if failed else 0


def _data(chosen):
    from .data import home
    from .download import fetch_cifar

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


def _device(name):
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not getattr(torch, name).is_available():
        raise ValueError(f"--device is {name}, but PyTorch finds none here: choose auto or cpu.")
    return torch.device(name)


def _network(text, num_classes):
    from .densenet import DenseNet, named_network

    if not text.lstrip().startswith("{"):
        return named_network(text, num_classes)
    return _from_json(lambda **given: DenseNet(num_classes=num_classes, **given), text, "--net")


def _recipe(text):
    from .training import RECIPES, Recipe

    if text.lstrip().startswith("{"):
        return _from_json(Recipe, text, "--recipe")
    if text not in RECIPES:
        raise ValueError(f"--recipe is {text!r}: choose one of {', '.join(RECIPES)}, or give JSON.")
    return RECIPES[text]


def _from_json(make, text, option):
    try:
        return make(**json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{option} is no JSON ({error}): quote it, as --help shows.") from None
    except TypeError as error:
        raise ValueError(f"{option} does not fit: {str(error).split('() ')[-1]}.") from None


def _few(names):
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _seed(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
