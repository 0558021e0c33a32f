"""Make the virtual environment .venv and install in it what pyproject.toml asks for.

python tools/setup.py                     again at any time: it only adds what is missing
python tools/setup.py .venv book          and what an extra of pyproject.toml names
python tools/setup.py --torch cpu         a build of PyTorch: cpu, cuda, or default (pip's own)
python tools/setup.py --tested            the versions in constraints.txt, where they can be had

On Linux pip's own PyTorch carries the newest CUDA: several gigabytes, which need a new driver. So
uv is asked first, for the build that fits an NVIDIA GPU's driver, or for the CPU's where there is
no GPU: it knows where they are. Where they cannot be reached, pip's own comes.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

if sys.version_info < (3, 10):  # noqa: UP036 (this file has to start there too)
    version = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        "This is Python " + version + ", but the series needs 3.10 or newer: install one and name "
        "it, as in `make setup PYTHON=python3.12`."
    )

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
TESTED = ["-c", "constraints.txt"]
PATIENCE = 60  # seconds in which the index of the CPU build must have answered
LOOK = """import sysconfig, importlib.metadata as metadata
print(sysconfig.get_path("platlib"))
for package in metadata.distributions():
    print(package.metadata["Name"] + "==" + package.version)"""
CUDA_BUILD = 3
LACKS = """import sys, torch
if not torch.cuda.is_available():
    sys.exit(3 if torch.version.cuda else 4)"""
PYTORCH = ("torch", "torchvision", "torchvision.libs", "triton", "nvidia")  # folders of packages


def say(sentence):
    """Print at once, so that it stands before what pip prints next."""
    print(sentence)
    sys.stdout.flush()


def choose(wish):
    """Return what to ask uv for (None: let pip take its own build) and a sentence that says so.

    Where PyTorch has no build for this machine, end with a sentence.
    """
    if os.environ.get("PIP_NO_INDEX"):
        return None, "the build in your own folder of packages (PIP_NO_INDEX is set)."
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        sys.exit(
            "PyTorch is no longer built for Intel's Macs. If yours has Apple's processor, this "
            "Python is the wrong one: take the one from python.org. Else see Colab in TEACHING.md."
        )
    if sysconfig.get_platform() == "win-arm64":
        sys.exit(
            "pip finds no PyTorch for an ARM Python on Windows: try the 64-bit one for Intel and "
            "AMD from python.org, or see Colab in TEACHING.md."
        )
    if sys.platform == "darwin":
        return None, "pip's own build, for the CPU and Apple's GPU (there is no CUDA on a Mac)."
    if sys.platform == "win32":
        if wish == "cuda":
            return "auto", "the CUDA build that fits this machine's driver, as wished."
        return None, "pip's own build, which on Windows is the CPU's."
    if wish == "cpu":
        return "cpu", "the CPU build, as wished."
    there = shutil.which("nvidia-smi") or os.path.exists("/proc/driver/nvidia")
    if there and wish != "default":
        return "auto", "the CUDA build that fits this machine's driver: there is an NVIDIA GPU."
    if wish:
        return None, "pip's own build, as wished. On Linux it carries CUDA."
    return "cpu", "the CPU build, because no NVIDIA GPU was found."


def with_uv(python, backend, tested):
    """Let uv install a build of PyTorch, and nothing else; return whether that went well.

    The first call only asks whether the build can be had, and waits no longer than PATIENCE.
    """
    with tempfile.TemporaryDirectory() as folder:  # uv itself need not stay
        if subprocess.call(pip(python) + ["--quiet", "--target", folder, "uv>=0.6"]):
            return False
        command = [python, "-m", "uv", "pip", "install", "--python", python, "--no-deps"]
        command += ["--torch-backend", backend] + tested + ["torch", "torchvision"]
        environment = dict(os.environ, PYTHONPATH=folder)
        once = dict(environment, UV_HTTP_RETRIES="1", UV_HTTP_TIMEOUT="20")
        try:
            if subprocess.call(command + ["--dry-run"], env=once, timeout=PATIENCE):
                return False
        except subprocess.TimeoutExpired:
            return False
        return subprocess.call(command, env=environment) == 0


def pip(python):
    """Return the beginning of a command that installs."""
    return [python, "-m", "pip", "install", "--disable-pip-version-check"]


def look(python):
    """Return {package: version} of what is installed, and the folder in which it lies."""
    lines = subprocess.check_output([python, "-X", "utf8", "-c", LOOK]).decode("utf-8").splitlines()
    return pins("\n".join(lines[1:])), lines[0]


def pins(text):
    """Return {package: version} from lines like torch==2.14.1; names as the index writes them."""
    found = re.findall(r"(?m)^([\w.-]+)==(\S+)", text)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def gigabytes(*folders):
    """Return the size of these folders in GB, as a text."""
    total = 0
    for folder in folders:
        for where, _, names in os.walk(folder):
            paths = [os.path.join(where, name) for name in names]
            total += sum(os.lstat(path).st_size for path in paths)
    return "%.1f GB" % (total / 1e9)  # noqa: UP031


def report(python, folder, tested):
    """Say which PyTorch it has become and how large, and which versions are not the tested ones."""
    there, packages = look(python)
    size = gigabytes(*[os.path.join(packages, name) for name in PYTORCH])
    build = "with" if os.path.isdir(os.path.join(packages, "nvidia")) else "without"
    words = [folder, "takes", gigabytes(folder) + ", of which PyTorch", there.get("torch", "?")]
    say(" ".join(words + ["(" + build, "NVIDIA's libraries)", size + "."]))
    if tested:
        with open("constraints.txt") as file:
            wanted = pins(file.read())
        others = [
            name + " " + there[name] + " (tested: " + wanted[name] + ")"
            for name in sorted(there.keys() & wanted.keys())
            if there[name].partition("+")[0] != wanted[name]
        ]
        say("Not the tested versions: " + ", ".join(others) if others else "All as tested.")


def main(folder=".venv", extra="notebooks", wish="", tested=False):
    """Set up the environment in `folder` and mark it as complete, for make to see."""
    os.chdir(ROOT)
    python = os.path.join(folder, SCRIPTS, "python")
    tested = TESTED if tested else []
    say("Setting up " + folder + ": PyTorch, JupyterLab and the rest take some minutes, once.")
    if os.name == "nt" and len(os.path.abspath(folder)) > 100:
        say("This folder's name is long, and Windows may refuse longer ones. If the set-up fails,")
        say("move the project to a place such as C:\\densenet, and not into OneDrive.")
    if (
        subprocess.call([sys.executable, "-m", "venv", folder])
        or install(python, extra, wish, tested)
        or subprocess.call([python, "-c", "import torchvision"])  # does it fit PyTorch?
    ):
        there = os.path.exists(python) or os.path.exists(python + ".exe")
        if there and "torch" not in look(python)[0]:
            say("If no torch was found, this Python may be too new for PyTorch: take an older one.")
        sys.exit("The set-up failed, see above. Mend it and repeat: what is there is kept.")
    report(python, folder, tested)
    if wish != "cpu" and shutil.which("nvidia-smi"):
        lacks = subprocess.call([python, "-c", LACKS])
        if lacks == CUDA_BUILD:
            say("There is an NVIDIA GPU, but PyTorch cannot use it: its driver may be too old.")
        elif lacks:
            say("There is an NVIDIA GPU, but this is the CPU's PyTorch. For the other one delete")
            say(folder + " and add --torch cuda to the command (make setup TORCH=cuda).")
    stamp = ".complete" if extra == "notebooks" else ".complete-" + extra
    open(os.path.join(folder, stamp), "w").close()


def install(python, extra, wish, tested):
    """Install PyTorch in the build that fits, then all the rest; return whether that failed."""
    torch = look(python)[0].get("torch")
    if torch:
        say("PyTorch " + torch + " is there already. (For another build delete the folder first.)")
    else:
        backend, sentence = choose(wish)
        say("PyTorch: " + sentence)
        if backend and not with_uv(python, backend, tested):
            say("That build cannot be had here, see above. Going on with pip's own.")
    wanted = ["-e", ".[" + extra + "]"]
    if not tested:
        return subprocess.call(pip(python) + wanted)
    if not subprocess.call(pip(python) + tested + wanted):
        return 0
    say("The tested versions cannot all be had here, see above. Going on with the newest.")
    return subprocess.call(pip(python) + wanted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default=".venv", help="of the environment")
    parser.add_argument("extra", nargs="?", default="notebooks", help="of pyproject.toml")
    parser.add_argument("--torch", default="", choices=["cpu", "cuda", "default"], dest="wish")
    parser.add_argument("--tested", action="store_true", help="take the versions tested")
    main(**vars(parser.parse_args()))
