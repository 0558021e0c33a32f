"""The command line of the library: `python -m densenet_lib data` fetches CIFAR."""

import argparse
import sys


def main(arguments=None):
    """Run one command: return 0, or 1 after one sentence on stderr; wrong use exits with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m densenet_lib",
        description="What notebooks leave to the command line. COMMAND --help tells more of each.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_data(commands)
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


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


def _data(chosen):
    from .data import home  # these bring torch along, which --help need not wait for
    from .download import fetch_cifar

    folder = fetch_cifar(chosen.source, chosen.root)
    print(f"{chosen.source} is whole and checked: {folder}")
    if folder.parent != home().resolve():
        print(f"Notebooks look for it elsewhere unless you set DENSENET_HOME={folder.parent}")
    print(f"A class shares this one copy, read-only: everyone sets DENSENET_HOME={folder.parent}")


if __name__ == "__main__":
    sys.exit(main())
