"""Open a notebook with one line: resolve its four parameters, say what is in use, load the data.

lesson = begin(PROFILE, DATA, DEVICE, SEED)
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch

from densenet_lib import data
from densenet_lib.data.folders import read_picture


@dataclass(frozen=True)
class Profile:
    """How much a notebook runs."""

    meaning: str
    train_images: int | None  # None: all there are
    test_images: int | None
    epochs: int  # passes over the training images


PROFILES = {
    "quick": Profile("seconds on a laptop's CPU", 5_000, 1_000, epochs=1),
    "full": Profile("the real thing, for a GPU", None, None, epochs=10),
}


@dataclass(frozen=True)
class Lesson:
    """What the cells of a notebook need: the choices made, and the pictures, loaded when asked."""

    profile: Profile
    source: str
    device: torch.device
    seed: int

    @cached_property
    def train(self):
        """The training pictures (an ImageSet), as many as the profile has."""
        return self._load("train", self.profile.train_images)

    @cached_property
    def test(self):
        """The test pictures (an ImageSet), as many as the profile has."""
        return self._load("test", self.profile.test_images)

    def picture(self, path=None):
        """Return one picture to look at, uint8 (3, 32, 32): a file's, or the first test picture."""
        return torch.tensor(read_picture(path)[0]) if path else self.test.images[0]

    def _load(self, split, limit):  # in one place, so that Python gives a warning once, not twice
        return data.load_images(self.source, split, limit=limit)


def begin(profile="quick", source="auto", device="auto", seed=0):
    """Resolve a notebook's parameters, print them as a short table, and return a Lesson.

    Args:   profile: a name in PROFILES.  source: as for data.load_images.  device: as for
            data.choose_device.  seed: of torch's generators, 0 to 2**32 - 1.
    Raises: ValueError, with the list of right values.
    """
    if profile not in PROFILES:
        raise ValueError(f"PROFILE is {profile!r}: choose one of {', '.join(PROFILES)}")
    if not hasattr(seed, "__index__") or not 0 <= seed < 2**32:
        raise ValueError(f"SEED is {seed!r}: choose a whole number from 0 to 2**32 - 1")
    resolved = data.resolve(source)
    device = data.choose_device(device)
    torch.manual_seed(seed)
    if device.type == "cuda":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from PyTorch 2.9 on it has another name as well
            torch.backends.cudnn.allow_tf32 = False  # float32 as on a CPU: cells compare numbers

    print(f"profile  {profile}: {PROFILES[profile].meaning}")
    print(f"data     {resolved}")
    if source in ("", "auto") and resolved == "shapes":
        print("         embedded pictures, since CIFAR-10 is not on disk; `make data` fetches it")
    print(f"device   {device}")
    print(f"seed     {seed}")
    return Lesson(PROFILES[profile], resolved, device, seed)
