"""Twelve patients for notebook 16: each runs, trains, and is wrong. Do not read on before that.

Wrong on purpose, so nothing else imports this file. Each docstring says what its patient takes
itself for; the notebook shows a symptom first, and the source when the diagnosis is made.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from densenet_lib.densenet import DenseBlock, DenseLayer, DenseNet, Transition


def admit(network, patient):
    """Return a copy of a network in which all parts of a patient's kind are this patient.

    Args:   patient: a class made from DenseLayer, DenseBlock, Transition or DenseNet.
    The weights stay the same, for the patients have the parts of their kind, by the same names.
    """
    network = copy.deepcopy(network)
    for part in network.modules():
        if type(part) is patient.__base__:
            part.__class__ = patient
    return network


class Patient1(Transition):
    """A transition, written after the words of the paper's section 3."""

    def forward(self, x):
        return self.pool(self.drop(self.conv(self.norm(x))))


class Patient2(DenseBlock):
    """A dense block: each layer reads everything made before it."""

    def forward(self, x):
        for layer in self.values():
            x = torch.cat([layer(x), x], dim=1)
        return x


def patient_3(num_classes=10):
    """Build a network for 32x32 pictures after densenet121: its four blocks, but smaller."""
    return DenseNet(8, (2, 2, 2, 2), 16, num_classes=num_classes, stem="imagenet")


def patient_4(network):
    """Draw fresh weights after He and others, in place."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)


class Patient5(DenseLayer):
    """A dense layer that saves memory: the backward pass computes its maps once more."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


@torch.no_grad()
def patient_6(network, batches):
    """Return the share of right answers, 0 to 1."""
    right = sum((network(images).argmax(dim=1) == labels).sum() for images, labels in batches)
    return right.item() / len(batches.image_set)


def patient_7(images, mean, std, down, right):
    """Return pictures as a network gets them: moved by up to 4 pixels, and normalised.

    Args:   images: uint8 (N, 3, H, W).  mean, std: three floats each, in units of 0..1.
            down, right: 0 to 8, where the H x W window lies in the picture with its border of 4.
    """
    N, C, H, W = images.shape
    padded = F.pad(images.float() / 255, [4] * 4)  # (N, 3, H + 8, W + 8)
    moved = padded[:, :, down : down + H, right : right + W]
    return (moved - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def patient_8(images, labels, generator):
    """Return pictures and labels in a new order, for one pass."""
    images = images[torch.randperm(len(images), generator=generator)]
    labels = labels[torch.randperm(len(labels), generator=generator)]
    return images, labels


def patient_9(images, part, seed):
    """Return two lists of picture numbers: to train on, and a part to test on."""

    def order(seed):
        return torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))

    count = round(part * len(images))
    return order(seed)[count:].tolist(), order(seed + 1)[:count].tolist()


def patient_10(network, batches, epochs, rate):
    """Train in one cycle of the learning rate, up and down; yield (rate, loss) of each step."""
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    steps = epochs * len(batches)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, cycle_momentum=False)
    for _ in range(epochs):
        for images, labels in batches:
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield optimizer.param_groups[0]["lr"], loss.item()
        cycle.step()


def patient_11(network, rate, decay):
    """Return stochastic gradient descent with a momentum of 0.9 and weight decay."""
    return torch.optim.SGD(network.parameters(), rate, 0.9, decay)


class Patient12(DenseNet):
    """A DenseNet that gives probabilities, so that everybody can read its answers."""

    def forward(self, images):
        return super().forward(images).softmax(dim=1)
