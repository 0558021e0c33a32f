"""The command line of the library: train, evaluate and predict with networks; fetch CIFAR."""

import argparse
import sys

EXAMPLES = """
examples:
  The network of this series on the embedded shapes, a few minutes on two cores:
    python -m densenet_lib train --net origin --data shapes --recipe fast --epochs 3 --out runs/a

  The paper's DenseNet-BC (L=100, k=12) by the paper's recipe, on a GPU in bfloat16:
    python -m densenet_lib train --net bc-100-12 --data cifar10 --recipe paper --amp --out runs/b

  A network that knows your own pictures, from one that knows others; its first block is kept:
    python -m densenet_lib train --from runs/b/checkpoint.pt --freeze denseblock1 --data pictures
        --out runs/c

  The same command with --resume goes on where the run was stopped, or begins it. So this survives
  the death of a process; the launcher starts all of them again, up to three times:
    torchrun --standalone --nproc-per-node=2 --max-restarts=3 -m densenet_lib train --resume ...

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
    kinds = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    _add_train(kinds)
    _add_evaluate(kinds)
    _add_predict(kinds)
    _add_data(kinds)
    for stream in (sys.stdout, sys.stderr):  # a console that lacks a letter gets a question mark
        if hasattr(stream, "reconfigure"):  # not if a program has put another in its place
            stream.reconfigure(errors="replace")
    chosen = parser.parse_args(arguments)
    try:
        from densenet_lib import commands  # brings torch along, which --help need not wait for

        return getattr(commands, chosen.command)(chosen) or 0
    except KeyboardInterrupt:
        how = " with --resume" if chosen.command == "train" else ""
        print(f"\nStopped. Run the same command again{how} to go on.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ValueError, ArithmeticError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ValueError, FileNotFoundError, FileExistsError)) else 1


def _add_train(kinds):
    command = kinds.add_parser(
        "train",
        help="train a network in a folder that survives interruption",
        description="Train a network. Ctrl-C (or SIGTERM) saves, and says how to go on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = command.add_argument_group("what")
    network = what.add_mutually_exclusive_group(required=True)
    network.add_argument(
        "--net",
        help="origin, bc-DEPTH-GROWTH (bc-100-12), DEPTH-GROWTH (40-12), or the arguments of "
        'DenseNet as JSON: \'{"growth_rate": 8, "block_config": [1, 3, 6]}\'; or of ResidualNet: '
        '\'{"kind": "residual", "block_config": [3, 3, 3], "widths": [16, 32, 64]}\'',
    )
    network.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="the trained network of a .pt file, with a fresh classifier if the classes differ",
    )
    what.add_argument(
        "--freeze",
        metavar="PART",
        help="with --from: keep its features up to and including PART as they are: conv0, "
        "denseblock1, transition1, ...; relu5 is the last",
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
    where.add_argument("--efficient", action="store_true", help="linear memory, the same numbers")


def _add_evaluate(kinds):
    command = kinds.add_parser(
        "evaluate",
        help="test a trained network",
        description="Evaluate a checkpoint on the test images of a source.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT")
    _add_source(command)
    _add_device(command)
    command.add_argument(
        "--mirror", action="store_true", help="mean of each picture and its mirror image"
    )
    command.add_argument(
        "--answers", metavar="FILE", help="write logits and labels there, for torch.load"
    )


def _add_predict(kinds):
    command = kinds.add_parser(
        "predict",
        help="say what is on pictures",
        description="Name the most likely classes of pictures of any size and kind. The middle "
        "square of each is shrunk to 32x32, as in training.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT")
    command.add_argument("pictures", metavar="IMAGE", nargs="+")
    command.add_argument("--top", type=_count, default=3, help="classes to name; default: 3")


def _add_data(kinds):
    command = kinds.add_parser(
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


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _seed(text):
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2**32 - 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
