"""The embedded dataset: ten kinds of shape, drawn in about a second; no file, no network.

Everything but the shape is settled before the class is looked at: colours, light, place, turn, and
how many pixels the shape covers. So colour and brightness tell nothing about the class; only the
outline does.

The same seed gives the same pixels on every machine, because this module uses only arithmetic that
is rounded alike everywhere: + - * /, square root, floor, absolute value and comparison, one
element at a time; never sin, exp or a sum over an array. The random numbers come from numpy's
`RandomState`, whose stream numpy has promised never to change (unlike that of `default_rng`).
"""

import numpy as np

SIZES = {"train": 10_000, "test": 2_000}
SIDE = 32  # pixels
SPECKS = 3  # bits of confetti on a picture, some too small to see
CHUNK = 16  # pictures painted at once: few enough to stay in the processor's cache


# The outlines: how far the point (x, y) lies outside the shape; less than zero means inside. y
# points upwards, and every shape just fits into the circle of radius 1 around (0, 0).
def _circle(x, y, radius=1.0):
    return np.sqrt(x * x + y * y) - radius


def _ring(x, y):
    return np.abs(_circle(x, y, 0.75)) - 0.25


def _moon(x, y):
    return np.maximum(_circle(x, y), -_circle(x - 0.5, y, 0.8))  # a circle with a bite taken out


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


def _triangle(x, y):
    return np.maximum(0.866 * np.abs(x) + 0.5 * y, -y) - 0.5


def _square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) - 0.7071


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


OUTLINES = {  # name: (outline, its area), so that the size can be chosen by the area
    "circle": (_circle, 3.1416),
    "ring": (_ring, 2.3562),
    "moon": (_moon, 1.5295),
    "heart": (_heart, 2.2324),
    "star": (_star, 1.4695),
    "flower": (_flower, 2.3925),
    "triangle": (_triangle, 1.2990),
    "square": (_square, 2.0000),
    "cross": (_cross, 2.0000),
    "arrow": (_arrow, 1.3922),
}
CLASSES = tuple(OUTLINES)


def draw(split="train", seed=0):
    """Draw the 10,000 pictures of the training split or the 2,000 of the test split.

    Args:   split: "train" or "test".  seed: a whole number from 0 to 2**32 - 1.
    Returns: images, uint8 (N, 3, 32, 32), and labels, int64 (N,), indices into CLASSES; every
            class equally often, in random order.
    Raises: ValueError if there is no such split or seed.
    """
    if split not in SIZES:
        raise ValueError(f"split is {split!r}: the shapes have 'train' and 'test'")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}: give a whole number from 0 to 2**32 - 1")
    count = SIZES[split]
    rng = np.random.RandomState((seed, list(SIZES).index(split)))  # a stream for each split
    labels = rng.permutation(np.arange(count, dtype=np.int64) % len(CLASSES))
    scenes = _imagine(rng, count)
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for label, name in enumerate(CLASSES):
        rows = np.flatnonzero(labels == label)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            scene = {key: values[some] for key, values in scenes.items()}
            images[some] = _paint(*OUTLINES[name], **scene)
    return images, labels


def _imagine(rng, count):
    """Draw, for `count` pictures, all that there is to know about them but the class."""

    def uniform(low, high, *shape):
        return (low + (high - low) * rng.random_sample((count, *shape))).astype(np.float32)

    def direction():  # (cos a, sin a) without cos and sin: t is the tangent of a / 2
        t, side = uniform(-1, 1, 1), uniform(-1, 1, 1)
        cos_sin = np.concatenate([1.0 - t * t, 2.0 * t], axis=1) / (1.0 + t * t)
        return np.where(side < 0.0, -cos_sin, cos_sin)

    def colour(lightness, strength, *shape):  # of any hue, around a grey of this lightness
        hue = uniform(0, 1, *shape, 1)
        rgb = _wave(hue + np.array([0.0, 1 / 3, 2 / 3], np.float32))
        grey = (rgb[..., :1] + rgb[..., 1:2] + rgb[..., 2:]) / 3.0
        return lightness[..., None] + uniform(0, strength, *shape, 1) * (rgb - grey)

    lightness = uniform(80, 150)
    return {
        "area": uniform(120, 260),  # pixels
        "place": uniform(-1, 1, 2),  # from edge to edge of the room that there is
        "turn": direction(),
        "ground": colour(lightness, 70),
        "paint": colour(lightness + uniform(30, 80), 90),
        "light": direction() * uniform(0, 40, 1),  # lighter on one side
        "stripes": direction() / uniform(8, 16, 1),  # waves per pixel
        "stripes_start": uniform(0, 1),
        "stripes_depth": uniform(0, 18),
        "speck_place": uniform(0, SIDE, SPECKS, 2),
        "speck_radius": uniform(-1, 2, SPECKS),
        "speck_paint": colour(lightness[:, None] + uniform(-40, 40, SPECKS), 90, SPECKS),
        "grain": np.frombuffer(rng.bytes(count * SIDE * SIDE), np.uint8).reshape(-1, SIDE, SIDE),
    }


def _paint(outline, unit_area, *, area, place, turn, ground, paint, light, grain, **rest):
    """Paint one shape into many scenes; return uint8 (N, 3, 32, 32)."""
    pixels = np.arange(SIDE, dtype=np.float32) + 0.5
    fine = (np.arange(2 * SIDE, dtype=np.float32) + 0.5) / 2.0  # two points per pixel and direction

    stripes = _wave(_along(rest["stripes"], pixels, pixels) + rest["stripes_start"][:, None, None])
    shade = _along(light / SIDE, pixels - SIDE / 2, pixels - SIDE / 2)
    shade += rest["stripes_depth"][:, None, None] * (stripes - 0.5)
    # The grain of a photograph: the two halves of a random byte, added, from -15 to 15.
    shade += ((grain & 15).astype(np.float32) + (grain >> 4).astype(np.float32) - 15.0) / 2.0

    picture = np.repeat(ground, SIDE * SIDE).reshape(-1, 3, SIDE, SIDE)
    for i in range(SPECKS):
        x, y = pixels - rest["speck_place"][:, i, :1], pixels - rest["speck_place"][:, i, 1:]
        distance = _circle(x[:, None, :], y[:, :, None], rest["speck_radius"][:, i, None, None])
        _cover(picture, distance, rest["speck_paint"][:, i])

    size = np.sqrt(area / unit_area)[:, None]  # pixels: the radius of the circle around the shape
    centre = SIDE / 2 + place * (SIDE / 2 - size)
    x, y = (fine - centre[:, :1]) / size, (fine - centre[:, 1:]) / size
    ahead, left = turn, np.stack([-turn[:, 1], turn[:, 0]], axis=1)
    distance = outline(_along(ahead, x, y), _along(left, x, y)) * size[:, :, None]
    _cover(picture, distance, paint)
    return np.clip(picture + shade[:, None] + 0.5, 0.0, 255.0).astype(np.uint8)
