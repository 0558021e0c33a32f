"""A folder of real picture files, drawn on the spot: signs and letters, with a few awkward files.

What notebook 15 looks at, cleans and learns from where the reader has no folder of pictures. The
fonts are given by the caller: matplotlib ships the three that are used, free of charge.
"""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = {  # a class each, of several glyphs
    "arrows": "←↑→↓↖↗↘↙⇐⇑⇒⇓",
    "chess": "♔♕♖♗♘♙♚♛♜♝♞♟",
    "cyrillic": "БГДЖЗИЛУФЦЧШЩЪЫЬЭЮЯ",
    "greek": "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπφψω",
    "hebrew": "אבגדהוזחטכלמנסעפצקרשת",
    "music": "♩♪♫♬♭♮♯",
    "stars": "★☆✦✧✩✪✫✬✭✮✯✰✶✷✸✹",
    "suits": "♠♡♢♣♤♥♦♧",
}
STRANGERS = "☀☁☂☃☄☎☕☠☢☯♈♉♊♋♌♍♎♏♐♑♒♓☿♀♁♂♃♄"  # of no class
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")
ENDINGS = ("png", "jpg", "bmp", "gif")
AWKWARD = {  # file of the folder: what is wrong with it, in the words of nobody's report
    "train/hebrew/cut.jpg": "a picture whose second half is missing",
    "train/stars/empty.png": "a file without a byte",
    "train/suits/notes.txt": "a file that is no picture",
    "train/cyrillic/twin.png": "a copy of train/greek/000.png, in another class",
    "test/chess/copy.png": "a copy of train/chess/000.png, byte for byte",
    "test/music/copy.png": "a copy of train/music/000.png, byte for byte",
    "test/arrows/again.jpg": "train/arrows/000.png once more, smaller and as a JPEG",
    "test/stars/again.jpg": "train/stars/000.png once more, smaller and as a JPEG",
}


def draw(glyph, fonts, random):
    """Draw one glyph, turned, coloured and placed by chance, on a ground of some kind.

    Args:   fonts: the folder with the files of FONTS.  random: a np.random.RandomState.
    Returns: a PIL picture in RGB, 40 to 120 pixels wide and high.
    """
    width, height = random.randint(40, 121, 2)
    ground = _ground(width, height, random)
    side = min(width, height)
    file = Path(fonts) / FONTS[random.randint(len(FONTS))]
    font = ImageFont.truetype(str(file), int(side * random.uniform(0.55, 0.9)))
    mask = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(mask).text((side, side), glyph, fill=255, font=font, anchor="mm")
    left, top, right, bottom = mask.getbbox() or (0, 0, 2 * side, 2 * side)
    middle = (left + right) / 2, (top + bottom) / 2  # fonts place signs at odd heights
    moved = random.uniform(-0.1, 0.1, 2) * side
    mask = mask.rotate(random.uniform(-25, 25), Image.Resampling.BICUBIC, center=middle)
    mask = mask.transform(
        (int(width), int(height)),
        Image.Transform.AFFINE,
        (1, 0, middle[0] - width / 2 + moved[0], 0, 1, middle[1] - height / 2 + moved[1]),
    )
    ink = random.randint(0, 256, 3)
    while abs(ink.mean() - ground.mean()) < 60:  # a difference that one can see
        ink = random.randint(0, 256, 3)
    share = np.asarray(mask)[..., None] / 255
    return Image.fromarray((ground * (1 - share) + ink * share).astype(np.uint8))


def write_folder(folder, fonts, train=100, test=40, seed=0, awkward=True):
    """Write train/ and test/ with a subfolder for each of KINDS, and the AWKWARD files if asked.

    Sizes, formats and kinds of picture differ; every fourth lies one folder deeper. Labels and
    numbers are the same everywhere for the same seed, pixels may depend on the version of pillow.

    Args:   folder: is made; nothing may be there.  train, test: pictures of each class.
    Raises: FileExistsError if the folder is there, FileNotFoundError if a font is not.
    """
    folder, random = Path(folder), np.random.RandomState(seed)
    if missing := [name for name in FONTS if not (Path(fonts) / name).is_file()]:
        raise FileNotFoundError(f"There is no {missing[0]} in {fonts}: give matplotlib's fonts.")
    folder.mkdir(parents=True)
    try:
        for part, count in (("train", train), ("test", test)):
            for name, glyphs in KINDS.items():
                for i in range(count):
                    glyph = glyphs[random.randint(len(glyphs))]
                    _save(draw(glyph, fonts, random), folder / part / name, i, random)
        if awkward:
            _write_awkward(folder)
    except BaseException:
        shutil.rmtree(folder)  # never half a folder
        raise


def _ground(width, height, random):
    """Return a plain ground, a ramp, stripes or blots, with some noise: floats (H, W, 3)."""
    one, other = random.randint(0, 256, (2, 3))
    other = one + (other - one) * 0.35
    y, x = np.mgrid[:height, :width] / max(width, height)
    angle = random.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    kind = random.randint(4)
    if kind == 3:
        blots = Image.fromarray(random.randint(0, 256, (5, 5)).astype(np.uint8))
        share = np.asarray(blots.resize((width, height), Image.Resampling.BICUBIC)) / 255
    else:
        share = (0 * along, along, np.sin(40 * along) > 0)[kind]
    ground = one + share[..., None] * (other - one)
    return np.clip(ground + random.normal(0, 6, ground.shape), 0, 255)


def _save(picture, folder, number, random):
    """Write a picture in one of several formats and kinds; the first of a class as plain PNG."""
    ending = ENDINGS[random.randint(len(ENDINGS))] if number else "png"
    if number % 9 == 4:
        picture = picture.convert("L")
    elif number % 9 == 7 and ending == "png":
        picture.putalpha(200)
    folder = folder / "more" if number % 4 == 3 else folder
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{number:03}.{ending}")


def _write_awkward(folder):
    first = {name: folder / "train" / name / "000.png" for name in KINDS}
    for place in AWKWARD:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
    with Image.open(first["hebrew"]) as picture:
        picture.save(folder / "train/hebrew/cut.jpg")
    whole = (folder / "train/hebrew/cut.jpg").read_bytes()
    (folder / "train/hebrew/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "train/stars/empty.png").write_bytes(b"")
    (folder / "train/suits/notes.txt").write_text("suits: ask Ann for the rest\n", "utf-8")
    shutil.copyfile(first["greek"], folder / "train/cyrillic/twin.png")
    for name in ("chess", "music"):
        shutil.copyfile(first[name], folder / "test" / name / "copy.png")
    for name in ("arrows", "stars"):
        with Image.open(first[name]) as picture:
            smaller = picture.resize([side * 3 // 4 for side in picture.size])
            smaller.save(folder / "test" / name / "again.jpg", quality=60)
