"""Where an entry of the capstone learns, and where its network answers: a fresh interpreter.

capstone.py starts it inside the walls of sandbox.py, and hands it through a pipe what the entry may
know: nothing else is in its memory. It says what its own start has cost, then what came of the
entry, a line each. An entry can change all that stands here, the clock as well. So the judge
measures time and size from outside; what is measured here only tells the entry where it stands.
"""

import math
import os
import pickle
import sys
import time

import torch

from densenet_lib import data
from densenet_lib.data import shapes

NUMBERS = 100_000  # that a network holds
CORES = 2


def learn(source, pictures, seconds, seed):
    """Train an entry's network on pictures; return its numbers as text."""
    start = time.process_time()
    names, network = begin(source, len(pictures.classes), seed)
    packed(network)  # too many are told before the ten minutes, not after
    names["train"](network, pictures, lambda: seconds - (time.process_time() - start))
    return packed(network).hex()


def answer(source, numbers, pictures, size, seed):
    """Build an entry's network anew and give it its numbers; return its answers as text."""
    _, network = begin(source, len(pictures.classes), seed)
    unpack(network, numbers)
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(images) for images, _ in data.Batches(pictures, size)])
    expected = (len(pictures), len(pictures.classes))
    if logits.shape != expected:
        raise ValueError(f"answers of shape {tuple(logits.shape)}, not {expected}")
    return " ".join(map(str, logits.argmax(dim=1).tolist()))


def begin(source, classes, seed):
    """Run an entry's file; return the names that it defines, and its network."""
    names = {"__name__": "entry"}
    torch.manual_seed(seed)
    exec(compile(source, "<entry>", "exec"), names)
    for asked in ("network(classes)", "train(network, pictures, left)"):
        if not callable(names.get(asked.partition("(")[0])):
            raise NameError(f"the file defines no function {asked}")
    return names, names["network"](classes)


def held(network):
    """Return all tensors of a network, each once: its state, and buffers that it leaves out."""
    state = network.state_dict(keep_vars=True).values()
    return list({id(v): v for v in [*state, *network.parameters(), *network.buffers()]}.values())


def packed(network):
    """Return all numbers that a network holds, one after another, as bfloat16: two bytes each."""
    values = [value.detach().cpu().flatten().bfloat16() for value in held(network)]
    numbers = torch.cat([torch.empty(0, dtype=torch.bfloat16), *values])
    if len(numbers) > NUMBERS:
        raise ValueError(f"{len(numbers):,} numbers, more than {NUMBERS:,}")
    return numbers.view(torch.uint8).numpy().tobytes()


def unpack(network, numbers):
    """Put numbers back into a network of the same shape."""
    sizes = [value.numel() for value in held(network)]
    if (fresh := sum(sizes)) != len(numbers) // 2:
        raise ValueError(f"trained, it has {len(numbers) // 2:,} numbers, but fresh {fresh:,}")
    pieces = torch.frombuffer(bytearray(numbers), dtype=torch.bfloat16).split(sizes)
    with torch.no_grad():
        for value, piece in zip(held(network), pieces, strict=True):
            value.copy_(piece.view(value.shape))


def limit(seconds, cores):
    """Allow this process so many seconds of processor time, on so many cores, and no new shapes."""
    import resource  # Windows has none

    seconds += math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(cores)

    def refuse(*_, **__):
        raise PermissionError("train on the pictures that you are given, and on no others")

    shapes.draw = data.load_images = data.sources.load_images = refuse


def main():
    """Do the work that comes through the pipe; say how long the start took, and what came of it."""
    function, seconds, cores, given = pickle.load(sys.stdin.buffer)
    voice = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the entry prints goes nowhere
    if function == "learn":
        torch.optim.SGD([torch.zeros(1)], 0.1)  # loads what the first optimizer loads
    limit(1.1 * seconds + 3, cores)
    print(time.process_time(), file=voice, flush=True)
    try:
        said = {"learn": learn, "answer": answer}[function](*given)
    except BaseException as error:  # exit() as well
        said = f"! {type(error).__name__}: {error}"
    print(said, file=voice, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
