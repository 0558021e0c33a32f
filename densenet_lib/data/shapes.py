"""The embedded dataset: ten kinds of shape, drawn in about a second; no file, no network.

Everything but the shape is settled before the class is looked at: colours, light, place, turn, and
how many pixels the shape covers. So colour and brightness tell nothing about the class; only the
outline does.

The same seed gives the same pixels on every machine, because this module uses only arithmetic that
is rounded alike everywhere: + - * /, square root, floor, absolute value and comparison, one
element at a time; never sin, exp or a sum over an array. The random numbers come from numpy's
`RandomState`, whose stream numpy has promised never to change (unlike that of `default_rng`).
"""

from types import SimpleNamespace

import numpy as np

from densenet_lib.data.images import SIZE

COUNTS = {"train": 10_000, "test": 2_000}
SPECKS = 3  # bits of confetti on a picture, some too small to see
CHUNK = 16  # pictures painted at once: few enough to stay in the processor's cache


# The outlines: how far the point (x, y) lies outside the shape; less than zero means inside.
# Every shape just fits into the circle of radius 1 around (0, 0).
def _circle(x, y, radius=1.0):
    return np.sqrt(x * x + y * y) - radius


def _heart(x, y):
    x, y = np.abs(x), y + 0.209  # the right half: a round lobe on a square that stands on its tip
    lobe = _circle(x - 0.395, y - 0.395, 0.559)
    return np.minimum(lobe, 0.7071 * (x + np.abs(y)) - 0.559)


def _star(x, y):
    x, y = _fold_in_five(x, y)
    return 0.8968 * x + 0.4425 * (y - 1.0)  # the edge from the tip at (0, 1) down to the notch


def _flower(x, y):
    x, y = _fold_in_five(x, y)
    return _circle(x, y - 0.6, 0.4)  # one petal


def _cross(x, y):
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - 0.3162, np.maximum(x, y) - 0.9487)


def _arrow(x, y):
    y = np.abs(y)  # the upper half of an arrow that points to the right
    head = np.maximum(0.7071 * (x + y) - 0.693, 0.1 - x)
    shaft = np.maximum(y - 0.3, np.abs(x + 0.4) - 0.53)
    return np.minimum(head, shaft)


def _fold_in_five(x, y):
    """Mirror the plane onto one tenth of it, between 0 and 36 degrees from straight up."""
    x = np.abs(x)
    for across, down in ((0.3090, 0.9511), (0.8090, 0.5878)):  # mirrors at 72 and at 36 degrees
        behind = 2.0 * np.maximum(across * x - down * y, 0.0)
        x, y = np.abs(x - across * behind), y + down * behind
    return x, y


OUTLINES = {  # name: (area, outline); the area, so that each picture's size can follow from it
    "circle": (3.1416, _circle),
    "ring": (2.3562, lambda x, y: np.abs(_circle(x, y, 0.75)) - 0.25),
    "moon": (1.5295, lambda x, y: np.maximum(_circle(x, y), -_circle(x - 0.5, y, 0.8))),
    "heart": (2.2324, _heart),
    "star": (1.4695, _star),
    "flower": (2.3925, _flower),
    "triangle": (1.2990, lambda x, y: np.maximum(0.866 * np.abs(x) + 0.5 * y, -y) - 0.5),
    "square": (2.0000, lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.7071),
    "cross": (2.0000, _cross),
    "arrow": (1.3922, _arrow),
}
CLASSES = tuple(OUTLINES)


def draw(split="train", seed=0, *, masks=False):
    """Draw the 10,000 pictures of the training split or the 2,000 of the test split.

    Args:   split: "train" or "test".  seed: a whole number from 0 to 2**32 - 1.  masks: say, too,
            where the shapes are; the pictures are the same.
    Returns: images, uint8 (N, 3, 32, 32), and labels, int64 (N,), indices into CLASSES; every
            class equally often, in random order. With masks a third array, bool (N, 32, 32): True
            where the shape covers half of the pixel or more.
    Raises: ValueError if there is no such split or seed.
    """
    if split not in COUNTS:
        raise ValueError(f"split is {split!r}: the shapes have 'train' and 'test'")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}: give a whole number from 0 to 2**32 - 1")
    count = COUNTS[split]
    rng = np.random.RandomState((seed, list(COUNTS).index(split)))  # a stream for each split
    labels = rng.permutation(np.arange(count, dtype=np.int64) % len(CLASSES))
    scenes = _imagine(rng, count)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    covered = np.empty((count, SIZE, SIZE), bool)
    for label, name in enumerate(CLASSES):
        rows = np.flatnonzero(labels == label)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            scene = SimpleNamespace(**{key: values[some] for key, values in scenes.items()})
            inside = _place(*OUTLINES[name], scene)
            images[some], covered[some] = _paint(inside, scene), inside >= 0.5
    return (images, labels, covered) if masks else (images, labels)


def _imagine(rng, count):
    """Draw, for `count` pictures, all that there is to know about them but the class.

    Most shapes are lighter than their ground and stand nearly upright: with both entirely free, a
    small network finds nothing to start from. The others keep it learning for some epochs.
    """

    def uniform(low, high, *shape):
        return (low + (high - low) * rng.random_sample((count, *shape))).astype(np.float32)

    def direction(t):  # (cos a, sin a) of the angle whose half has the tangent t
        return np.concatenate([1.0 - t * t, 2.0 * t], axis=1) / (1.0 + t * t)

    def colour(lightness, strength, *shape):  # of any hue, around a grey of this lightness
        hue = uniform(0, 1, *shape, 1)
        rgb = _wave(hue + np.array([0.0, 1 / 3, 2 / 3], np.float32))
        grey = (rgb[..., :1] + rgb[..., 1:2] + rgb[..., 2:]) / 3.0
        return lightness[..., None] + uniform(0, strength, *shape, 1) * (rgb - grey)

    tilt = uniform(-1, 1, 1)  # cubed below, so that half are turned by less than 35 degrees
    lightness = uniform(80, 150)
    contrast = uniform(30, 100)  # how much lighter the shape is than its ground
    contrast = np.where(uniform(0, 1) < 0.12, -contrast, contrast)
    return {
        "area": uniform(110, 260, 1),  # pixels
        "place": uniform(-1, 1, 2),  # from edge to edge of the room that there is
        "turn": direction(2.5 * tilt * tilt * tilt),
        "ground": colour(lightness, 80),
        "paint": colour(lightness + contrast, 110),
        "light": direction(uniform(-1, 1, 1)) * uniform(-40, 40, 1),  # lighter on one side
        "stripes": direction(uniform(-1, 1, 1)) / uniform(8, 16, 1),  # waves per pixel
        "stripes_start": uniform(0, 1, 1, 1),
        "stripes_depth": uniform(0, 18, 1, 1),
        "speck_place": uniform(0, SIZE, SPECKS, 2),  # pixels
        "speck_radius": uniform(-1.5, 2.5, SPECKS, 1, 1),  # pixels; below zero there is no speck
        "speck_paint": colour(lightness[:, None] + uniform(-40, 40, SPECKS), 110, SPECKS),
        "grain": np.frombuffer(rng.bytes(count * SIZE * SIZE), np.uint8).reshape(-1, SIZE, SIZE),
    }


def _place(unit_area, outline, scene):
    """Place one shape in many scenes: how much of each pixel it covers, 0 to 1, (N, 32, 32)."""
    fine = (np.arange(2 * SIZE, dtype=np.float32) + 0.5) / 2.0  # 2 x 2 points for each pixel
    size = np.sqrt(scene.area / unit_area)  # pixels: the radius of the circle around the shape
    centre = SIZE / 2 + scene.place * (SIZE / 2 - 1.0 - size)  # a pixel's width from the frame
    x, y = (fine - centre[:, :1]) / size, (centre[:, 1:] - fine) / size  # y upwards
    ahead, aside = scene.turn, np.stack([-scene.turn[:, 1], scene.turn[:, 0]], axis=1)
    inside = _soft(outline(_along(ahead, x, y), _along(aside, x, y)) * size[:, :, None])
    inside = inside[:, ::2] + inside[:, 1::2]
    return (inside[:, :, ::2] + inside[:, :, 1::2]) / 4.0


def _paint(inside, scene):
    """Paint the pictures of many scenes; return uint8 (N, 3, 32, 32)."""
    pixels = np.arange(SIZE, dtype=np.float32) + 0.5
    picture = np.tile(scene.ground[:, :, None, None], (SIZE, SIZE))

    for i in range(SPECKS):
        x, y = pixels - scene.speck_place[:, i, :1], pixels - scene.speck_place[:, i, 1:]
        distance = _circle(x[:, None, :], y[:, :, None], scene.speck_radius[:, i])
        _cover(picture, _soft(distance), scene.speck_paint[:, i])
    _cover(picture, inside, scene.paint)  # over the specks: nothing hides the shape

    waves = _wave(_along(scene.stripes, pixels, pixels) + scene.stripes_start)
    shade = _along(scene.light / SIZE, pixels - SIZE / 2, pixels - SIZE / 2)
    # The grain of a photograph: the two halves of a random byte, added, from -15 to 15.
    grain = (scene.grain & 15).astype(np.float32) + (scene.grain >> 4).astype(np.float32) - 15.0
    shade += scene.stripes_depth * waves + grain / 2.0
    return np.clip(picture + shade[:, None] + 0.5, 0.0, 255.0).astype(np.uint8)


def _along(direction, x, y):
    """Return how far each point of the grid x by y lies along its picture's direction."""
    return (direction[:, :1] * x)[:, None, :] + (direction[:, 1:] * y)[:, :, None]


def _wave(x):
    """Return a zigzag of period 1 between -1/2 and 1/2."""
    return np.abs(x - np.floor(x) - 0.5) * 2.0 - 0.5


def _soft(distance):
    """Return 1 inside, 0 outside, and between them on an edge one pixel wide."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def _cover(picture, inside, colour):
    """Lay a colour over the pictures, in place, as thick as `inside` says."""
    picture += inside[:, None] * (colour[:, :, None, None] - picture)
