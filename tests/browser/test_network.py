"""The network in the page answers as PyTorch does, and reads pictures as the library does."""

import base64
import io

import numpy as np
import pytest
import torch
from access import reached, serious, too_wide
from PIL import Image

from densenet_lib import explain
from densenet_lib.checkpoints import RECORDED, build_network, load_checkpoint, normalise
from densenet_lib.data.folders import read_picture
from densenet_lib.data.shapes import draw
from densenet_lib.densenet import DenseNet
from tools import explorer

AS_THE_PAGE_READS = """async text => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return Array.from(bytesOf(await createImageBitmap(new Blob([bytes]))));
}"""
ANSWER = """([pixels, all]) => {
  const { logits, last, stages } = forward(network, Uint8Array.from(pixels));
  const cams = logits.map((_, label) => Array.from(classActivation(network, last, label)));
  return { logits, cams, maps: all ? stages.map(([, { values }]) => Array.from(values)) : [] };
}"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The explorer's folder, with its weights."""
    return explorer.build(tmp_path_factory.mktemp("site") / "explorer")


@pytest.fixture
def page(offline, built):
    """The page, opened from its file, with the network off."""
    offline.goto((built / "network.html").as_uri())
    return offline


def png(pixels):
    """uint8 (3, H, W) as the text of a PNG file, in base64."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels).transpose(1, 2, 0)).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def pictures():
    """Twenty pictures of 32x32 pixels: shapes, noise, and plain ones at the ends of the range."""
    images, _ = draw("test")
    noise = np.random.RandomState(0).randint(0, 256, (4, 3, 32, 32), np.uint8)
    plain = np.stack([np.full((3, 32, 32), value, np.uint8) for value in (0, 255)])
    return torch.from_numpy(np.concatenate([images[:14], noise, plain]))


def asked(checkpoint, images):
    """Return PyTorch's logits, class activation maps, and what each part makes of the images."""
    network, seen = build_network(checkpoint), {}
    images = normalise(images, checkpoint)
    for name, part in network.features.named_children():
        part.register_forward_hook(lambda _part, _in, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        logits = network(images)
    some = [name for name in seen if name[:5] in ("relu0", "dense", "trans", "relu5")]
    maps = [seen[name].clone() for name in some]
    labels = range(logits.shape[1])
    each = [torch.full((len(images),), label) for label in labels]
    cams = torch.stack([explain.cam(network, images, label) for label in each], dim=1)
    return logits, cams, maps


def farthest(here, there):
    """Return the largest difference of two lists of numbers."""
    return float((torch.tensor(here) - there.flatten()).abs().max())


def test_its_answers_maps_and_cams_are_pytorchs(page, complaints):
    checkpoint = load_checkpoint(RECORDED / f"{explorer.NETWORK}.pt")
    images = pictures()
    logits, cams, maps = asked(checkpoint, images)
    for i, image in enumerate(images):
        pixels = page.evaluate(AS_THE_PAGE_READS, png(image))
        assert pixels == image.flatten().tolist()
        with_maps = i in (0, 14)  # a shape and noise: many numbers have a long way
        found = page.evaluate(ANSWER, [pixels, with_maps])
        assert farthest(found["logits"], logits[i]) < 1e-4
        assert farthest(sum(found["cams"], []), cams[i]) < 1e-4 * cams[i].abs().max()
        for here, there in zip(found["maps"], maps if with_maps else [], strict=True):
            assert farthest(here, there[i]) < 1e-4 * there[i].abs().max()
    assert complaints == []


def test_a_weight_that_is_off_is_noticed(page):
    checkpoint, images = load_checkpoint(RECORDED / f"{explorer.NETWORK}.pt"), pictures()[:1]
    page.evaluate("network.weights['features.denseblock3.denselayer8.norm2.bias'][0] += 0.1")
    found = page.evaluate(ANSWER, [images[0].flatten().tolist(), False])
    assert farthest(found["logits"], asked(checkpoint, images)[0][0]) > 1e-4


@pytest.mark.parametrize("bottleneck", [4, None])
@pytest.mark.parametrize("stem", ["conv", "conv-bn-relu"])
def test_other_networks_run_too(page, stem, bottleneck):
    torch.manual_seed(0)
    network = DenseNet(5, (2, 1), 7, bn_size=bottleneck, num_classes=3, stem=stem)
    for _ in range(3):
        network(2 * torch.randn(8, 3, 32, 32))  # for running statistics that are none's default
    checkpoint = {
        "network": network.arguments,
        "state_dict": network.state_dict(),
        "classes": ["a", "b", "c"],
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "test": None,
    }
    page.add_script_tag(content=explorer.weights_script(checkpoint).replace("CHECKPOINT", "OTHER"))
    images = pictures()[:2]
    for image, true in zip(images, asked(checkpoint, images)[0], strict=True):
        run = "pixels => forward(unpack(OTHER), Uint8Array.from(pixels)).logits"
        assert farthest(page.evaluate(run, image.flatten().tolist()), true) < 1e-5


def test_a_network_for_large_pictures_is_refused():
    checkpoint = {"network": DenseNet(stem="imagenet").arguments}
    with pytest.raises(ValueError, match="give a DenseNet for 32x32"):
        explorer.weights_script(checkpoint)


SIZES = [(32, 32), (33, 32), (64, 64), (100, 61), (61, 100), (7, 5), (500, 333), (1, 1), (31, 90)]
SIZES += [(300, 700), (700, 300)]  # more rows than are read at a time


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pictures_shrink_to_the_librarys_bytes(page, tmp_path, width, height):
    """Tall ones in pillow's two steps, one by one: versions differ in which comes first."""
    colours = np.random.RandomState(width).randint(0, 256, (3, height, width), np.uint8)
    text = png(colours)
    (tmp_path / "a.png").write_bytes(base64.b64decode(text))
    library, _ = read_picture(tmp_path / "a.png")
    if height > width:
        top = (height - width) / 2
        rows = Image.open(tmp_path / "a.png").resize((32, height))
        library = np.asarray(rows.resize((32, 32), box=(0, top, 32, top + width)))
        library = library.transpose(2, 0, 1)
    assert page.evaluate(AS_THE_PAGE_READS, text) == library.flatten().tolist()


@pytest.mark.parametrize("kind", ["L", "P", "RGBA", "LA"])
def test_grey_and_transparent_pictures_are_read_as_in_the_library(page, tmp_path, kind):
    picture = Image.linear_gradient("L").resize((40, 40)).convert(kind if kind != "P" else "L")
    if kind in ("RGBA", "LA"):
        picture.putalpha(Image.linear_gradient("L").rotate(90).resize((40, 40)))
    if kind == "P":
        picture = picture.convert("P")
    picture.save(tmp_path / "a.png")
    library, _ = read_picture(tmp_path / "a.png")
    text = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    here = np.array(page.evaluate(AS_THE_PAGE_READS, text))
    assert np.abs(here - library.flatten().astype(int)).max() <= (1 if "A" in kind else 0)


def test_a_phone_held_upright_is_followed(page, tmp_path):
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:32, :, 0], halves[32:, :, 2] = 200, 200
    exif = Image.Exif()
    exif[0x0112] = 6  # held a quarter turn
    Image.fromarray(halves).save(tmp_path / "a.jpg", exif=exif, quality=95)
    library, _ = read_picture(tmp_path / "a.jpg")
    text = base64.b64encode((tmp_path / "a.jpg").read_bytes()).decode()
    here = np.array(page.evaluate(AS_THE_PAGE_READS, text)).reshape(3, 32, 32)
    assert np.abs(here - library.astype(int)).max() <= 4
    assert here[0, 16, 24] > 150 > 100 > here[0, 16, 8]  # red is on the right now


def test_maps_are_enlarged_as_in_the_library(page):
    small = torch.randn(1, 5, 5)
    here = page.evaluate(
        "map => Array.from(enlarge(Float32Array.from(map), 5, 5, 32))", small.flatten().tolist()
    )
    assert farthest(here, explain.enlarge(small, (32, 32))) < 1e-5


LATE = """async ([slow, quick]) => {
  const real = window.createImageBitmap;
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  window.createImageBitmap = async (file) => {
    if (file.name === "slow") await held;
    return real(file);
  };
  const file = (text, name) =>
    new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name);
  const first = take(file(slow, "slow"));
  await take(file(quick, "quick"));
  release();
  await first;
  window.createImageBitmap = real;
  return pixels[0];
}"""


def test_a_picture_that_is_read_slowly_replaces_no_later_one(page):
    slow, quick = (png(np.full((3, 32, 32), shade, np.uint8)) for shade in (200, 50))
    assert page.evaluate(LATE, [slow, quick]) == 50


# The page


def test_it_answers_at_once_and_to_what_is_given(page, complaints, tmp_path):
    first = page.inner_text("#verdict")
    assert first.startswith("Its answer: ship")
    Image.fromarray(pictures()[0].permute(1, 2, 0).numpy()).save(tmp_path / "shape.png")
    page.set_input_files("#file", tmp_path / "shape.png")
    page.wait_for_function(f"verdict.textContent !== {first!r}")
    assert page.locator("#classes input").count() == 10
    assert complaints == []


def test_another_class_has_another_map(page, complaints):
    before, said = page.evaluate("cam.toDataURL()"), page.inner_text("#cam-says")
    page.locator("#classes input").nth(3).check()
    assert page.evaluate("cam.toDataURL()") != before and page.inner_text("#cam-says") != said
    assert complaints == []


def test_what_is_no_picture_gets_a_sentence(page, complaints, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.png")
    page.wait_for_function("problem.textContent")
    assert "notes.png is no picture" in page.inner_text("#problem") and complaints == []


def test_without_its_weights_the_page_says_so(offline, complaints):
    offline.goto((explorer.PAGES / "network.html").as_uri())
    assert "python tools/explorer.py writes them" in offline.inner_text("#problem")
    assert all("weights.js" in complaint or "ERR_FILE" in complaint for complaint in complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    page.emulate_media(color_scheme=scheme)
    assert serious(page) == []


def test_a_phone_shows_it_whole(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert too_wide(page) == 0


def test_a_file_is_chosen_and_a_class_too_by_keyboard(page):
    found = reached(page, 12)
    assert "file" in found and "BUTTON" in found and "INPUT" in found
    page.locator("#classes input").first.focus()
    before = page.inner_text("#cam-says")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#cam-says") != before
