"""For tests/test_parallel.py, under torchrun: each process writes its gradients of one step.

python gradients.py FOLDER PICTURES

Batch norm is in evaluation mode, so that pictures do not meet: in training mode each process
normalises by its own share, and synchronised batch norm exists for GPUs only.
"""

import sys

import torch
from torch.nn import functional as F

from densenet_lib.data import Batches, load_images
from densenet_lib.densenet import DenseNet
from densenet_lib.parallel import data_parallel, process_group


def gradients(count, share, device, wrap=lambda model, device: model):
    """Return pixels and gradients of the share of one batch of `count` shapes."""
    torch.manual_seed(0)
    model = wrap(DenseNet(4, (1, 1), 8).double().eval(), device)
    images = load_images("shapes", limit=count)
    batches = Batches(images, count, augment=True, shuffle=True, seed=5, device=device, share=share)
    pixels, labels = next(iter(batches))
    (batches.weight * F.cross_entropy(model(pixels.double()), labels)).backward()
    return pixels, [p.grad for p in model.parameters()]


if __name__ == "__main__":
    with process_group(torch.device("cpu")) as (number, processes, device):
        pixels, found = gradients(int(sys.argv[2]), (number, processes), device, data_parallel)
        torch.save({"pixels": pixels, "gradients": found}, f"{sys.argv[1]}/{number}.pt")
