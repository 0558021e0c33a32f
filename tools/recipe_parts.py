"""Measure what each part of the paper's recipe is worth, for notebook 14: recipe-parts.json.

python tools/recipe_parts.py --data "data/CIFAR-10, JPEG copy"

Trains a small network by the whole recipe, then with one part of it otherwise, and so on, with five
seeds: about 25 minutes of one core; goes on where it stopped. No test photograph is used. The file
lies in densenet_lib/recorded/. It has "settings" and "data" (what the runs have in common, and on
which pictures), "machine", "command", and "runs", a list of
{"part": ..., "seed": ..., "accuracy": ..., "loss": ..., "training_accuracy": ..., "seconds": ...}:

part        "whole recipe", or the one that was otherwise: see `variants`
accuracy    on the photographs held out, after the last pass, 0 to 1; loss is their cross-entropy
training_accuracy   of the same network on the photographs it learned from, not flipped or shifted
seconds     of processor time, training alone
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from densenet_lib import checkpoints, data
from densenet_lib.densenet import DenseNet
from densenet_lib.training import RECIPES, Recipe, evaluate, train

TO = checkpoints.RECORDED / "recipe-parts.json"
NETWORK = {"growth_rate": 8, "block_config": (1, 2, 6), "num_init_features": 16, "stem": "conv"}
RECIPE = replace(RECIPES["paper"], epochs=40)
LEARN, HELD_OUT = 2_000, 5_000  # training photographs
SEEDS = range(5)  # of a run: its weights, its order, its flips and shifts


class BlackBorder(data.Batches):
    """Batches that are padded before they are normalised: the border that a shift shows is black.

    In every other pixel they are those of `Batches`, to the bit.
    """

    def __init__(self, image_set, batch_size, **options):
        raw = replace(image_set, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # pixels from 0 to 1
        super().__init__(raw, batch_size, **options)
        self.known = [torch.tensor(v).view(1, 3, 1, 1) for v in (image_set.mean, image_set.std)]

    def __iter__(self):
        mean, std = self.known
        for images, labels in super().__iter__():
            yield (images - mean) / std, labels


def own_deviation(images):
    """Return the mean of the pictures' own deviations, which the origin took for the deviation.

    Shape: uint8 (N, 3, H, W) -> three floats, in units of 0..1, rounded.
    """
    own = [some.float().div(255).std(dim=(2, 3), correction=0) for some in images.split(1000)]
    return tuple(round(value, 6) for value in torch.cat(own).mean(dim=0).tolist())


def fan_in(network):
    """Draw the convolutions anew as torchvision does: He with fan-in, std sqrt(2 / (h * w * C))."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)


@dataclass(frozen=True)
class Variant:
    """What a run does; the defaults are the authors' ways."""

    recipe: Recipe
    initialise: Callable | None = None  # what is done to the network that DenseNet has drawn
    batches: type = data.Batches
    std: tuple | None = None  # to normalise with instead of the pictures' own

    def begin(self, seed, fit):
        """Return network and batches of a run that is to begin."""
        torch.manual_seed(seed)
        # Halving what comes out of the batches makes a run twice as quick; the pictures that are
        # normalised, flipped and shifted are 32x32.
        network = nn.Sequential(nn.AvgPool2d(2), DenseNet(**NETWORK, num_classes=len(fit.classes)))
        if self.initialise:
            self.initialise(network)
        options = {"augment": self.recipe.augment, "shuffle": True, "seed": seed}
        batches = self.batches(self.normalised(fit), self.recipe.batch_size, **options)
        return network.to(memory_format=torch.channels_last), batches

    def normalised(self, image_set):
        """Return the pictures with the deviation that they are divided by."""
        return replace(image_set, std=self.std or image_set.std)


def variants(wrong_std):
    """Return the whole recipe and, by the part that is otherwise, what differs in that alone."""
    whole = Variant(RECIPE)
    return {
        "whole recipe": whole,
        "weight decay": replace(whole, recipe=replace(RECIPE, weight_decay=0.0)),
        "Nesterov": replace(whole, recipe=replace(RECIPE, nesterov=False)),
        "initialisation": replace(whole, initialise=fan_in),
        "border colour": replace(whole, batches=BlackBorder),
        "statistics": replace(whole, std=wrong_std),
        "augmentation": replace(whole, recipe=replace(RECIPE, augment=False)),
    }


def measured(variant, seed, fit, held_out):
    """Train one network and judge it: return the numbers of a row."""
    network, batches = variant.begin(seed, fit)
    began = time.process_time()  # the clock would measure what else the machine does
    for _ in train(network, batches, epochs=variant.recipe.epochs, recipe=variant.recipe):
        pass
    seconds = time.process_time() - began
    judged, known = (
        evaluate(network, data.Batches(variant.normalised(part), 100)) for part in (held_out, fit)
    )
    return {
        "accuracy": round(judged.accuracy, 5),
        "loss": round(judged.loss, 5),
        "training_accuracy": round(known.accuracy, 5),
        "seconds": round(seconds, 1),
    }


def measure(pictures, wrong_std, to):
    """Measure what is missing in the file `to`, run by run; each is written when it is done."""
    fit, held_out = data.split_validation(pictures, HELD_OUT)
    found = {
        "settings": {
            "network": NETWORK,
            "halved": "by averaging, in front of the network",
            "recipe": asdict(RECIPE),
            "learn": len(fit),
            "held_out": len(held_out),
        },
        "data": {
            "name": pictures.name,
            "sha256": pictures.digest,
            "mean": pictures.mean,
            "std": pictures.std,
            "wrong_std": wrong_std,
        },
        "machine": checkpoints.provenance("cpu", channels_last=True),
        "command": "python tools/recipe_parts.py --data DATA",
        "runs": [],
    }
    if to.exists():
        here, found = json.loads(json.dumps(found)), json.loads(to.read_text("utf-8"))
        for key, what in (("data", "of other pictures"), ("settings", "by other settings")):
            if found.get(key) != here[key]:
                sys.exit(f'The runs in {to} are {what}: see its "{key}", or move the file away.')
    done = {(row["part"], row["seed"]) for row in found["runs"]}
    for seed in SEEDS:
        for part, variant in variants(wrong_std).items():
            if (part, seed) not in done:
                row = {"part": part, "seed": seed, **measured(variant, seed, fit, held_out)}
                print(row, flush=True)
                found["runs"].append(row)
                checkpoints.write_whole(to, (json.dumps(found, indent=1) + "\n").encode())


def main():
    """Load the pictures and measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a source, or a folder, as for `train`")
    parser.add_argument("--to", type=Path, default=TO, help="the file (default: %(default)s)")
    chosen = parser.parse_args()
    wrong_std = own_deviation(data.load_images(chosen.data).images)
    measure(data.load_images(chosen.data, limit=LEARN + HELD_OUT), wrong_std, chosen.to)


if __name__ == "__main__":
    main()
