"""For tests/test_parallel.py, under torchrun: each process writes its gradients of one step.

python gradients.py FOLDER PICTURES [PICTURES ...]

Batch norm is in evaluation mode, so that pictures do not meet: in training mode each process
normalises by its own share, and synchronised batch norm exists for GPUs only.
"""

import os
import sys
import time

import torch
from torch.nn import functional as F

from densenet_lib.data import Batches, ImageSet
from densenet_lib.densenet import DenseNet
from densenet_lib.parallel import data_parallel, process_group
from densenet_lib.training import train


def noise(count):
    """Return pictures of nothing, the same in every process."""
    dice = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, 3, 32, 32), generator=dice, dtype=torch.uint8)
    names = tuple("abcdefghij")
    return ImageSet(images, torch.arange(count) % 10, names, (0.5,) * 3, (0.3,) * 3, "x", "train")


def gradients(count, share, device, wrap=lambda model, device: model):
    """Return pixels and gradients of the share of one batch of `count` pictures."""
    torch.manual_seed(0)
    model = wrap(DenseNet(4, (1, 1), 8).double().eval(), device)
    options = {"augment": True, "shuffle": True, "seed": 5, "device": device, "share": share}
    batches = Batches(noise(count), count, **options)
    pixels, labels = next(iter(batches))
    (batches.weight * F.cross_entropy(model(pixels.double()), labels)).backward()
    return pixels, [p.grad for p in model.parameters()]


def train_in_evaluation_mode(device):
    """A network that is wholly in evaluation mode is trained, as by one process."""
    network = DenseNet(4, (1, 1), 8).eval()
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4))]
    list(train(data_parallel(network, device), batches, epochs=1))
    assert network.features.norm5.num_batches_tracked == 1


if __name__ == "__main__":
    for count in map(int, sys.argv[2:]):  # a group for each, one after the other
        time.sleep(os.environ["RANK"] == "0")  # the others find what is left of the last group
        with process_group(torch.device("cpu")) as (number, processes, device):
            pixels, found = gradients(count, (number, processes), device, data_parallel)
            torch.save({"pixels": pixels, "gradients": found}, f"{sys.argv[1]}/{count}-{number}.pt")
            train_in_evaluation_mode(device)
