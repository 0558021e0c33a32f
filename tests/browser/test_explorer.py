"""The explorer counts what the library counts, and everybody can use it."""

import random
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from access import reached, serious, too_wide

from densenet_lib import analysis, densenet
from densenet_lib.densenet import DenseNet, densenet_cifar, named_network
from densenet_lib.efficient import make_efficient

ROOT = Path(__file__).resolve().parents[2]
EXPLORER = (ROOT / "book/explorer/explorer.html").as_uri()
KINDS = {  # by what names the library and the page call the same argument
    "growth_rate": "growthRate",
    "block_config": "blocks",
    "num_init_features": "stemMaps",
    "bn_size": "bottleneck",
    "compression": "compression",
    "stem": "stem",
    "num_classes": "classes",
}
LEDGERS = "networks => networks.map(network => ledger(network))"


def drawn(count, seed=0):
    """Draw (arguments of a DenseNet, size of a picture), reproducibly, edges included."""
    dice, found = random.Random(seed), []
    for i in range(count):
        blocks = [dice.randint(1, 3) for _ in range(dice.choice([1, 2, 2, 3, 3, 4]))]
        stem = densenet.STEMS[i % 3]
        least = 2 ** (len(blocks) - 1) * (4 if stem == "imagenet" else 1)
        arguments = {
            "growth_rate": dice.randint(1, 48),
            "block_config": blocks,
            "num_init_features": dice.randint(2, 96),
            "bn_size": dice.choice([None, 1, 2, 3, 4, 8]),
            "num_classes": dice.choice([1, 2, 10, 100, 1000]),
            "compression": dice.choice([1, 0.5, 0.3, round(dice.uniform(0.3, 1), 3)]),
            "stem": stem,
        }
        found.append((arguments, least + dice.choice([0, 1, dice.randint(0, 60)])))
    return found


def asked(arguments, size):
    """Return the arguments as the page names them."""
    known = {KINDS[name]: value for name, value in arguments.items() if name in KINDS}
    return known | {"size": size}


def camel(name):
    """activation_bytes -> activationBytes."""
    return re.sub("_(.)", lambda letter: letter[1].upper(), name)


def counted(network, size):
    """Return the library's ledger as the page has it: a list of stages, and the total."""
    accounts = analysis.ledger(network, (3, size, size))
    rows = [asdict(row) for row in (*accounts.stages, accounts.total)]
    return [{camel(name): value for name, value in row.items()} for row in rows]


def differences(here, library):
    """Yield (stage, name, here, in the library) for each number that differs."""
    rows = [*here["stages"], here["total"]]
    if len(rows) != len(library):
        yield "stages", len(rows), len(library)
    for row, true in zip(rows, library, strict=False):
        yield from ((true["stage"], n, row[n], true[n]) for n in true if row[n] != true[n])


@pytest.fixture
def explorer(offline):
    """The page, opened from its file, with the network off."""
    offline.goto(EXPLORER)
    return offline


def test_200_networks_have_the_librarys_numbers(explorer, complaints):
    networks = drawn(200)
    here = explorer.evaluate(LEDGERS, [asked(*network) for network in networks])
    for (arguments, size), found in zip(networks, here, strict=True):
        with torch.device("meta"):
            network = DenseNet(**arguments)
        wrong = list(differences(found, counted(network, size)))
        assert not wrong, (arguments, size, wrong)
    assert complaints == []


@pytest.mark.parametrize("name", ["parameters", "macs", "activationBytes", "channelsOut"])
def test_one_number_that_is_off_by_one_is_noticed(explorer, name):
    (arguments, size) = drawn(1)[0]
    (found,) = explorer.evaluate(LEDGERS, [asked(arguments, size)])
    found["stages"][1][name] += 1
    wrong = list(differences(found, counted(DenseNet(**arguments), size)))
    assert [(stage, what) for stage, what, *_ in wrong] == [("denseblock1", name)]


@pytest.mark.parametrize("seed", range(8))
def test_bytes_of_a_batch_are_what_training_keeps(explorer, seed):
    """To the byte, statistics included, on a real pass, plain and efficient."""
    (arguments, size) = drawn(3, seed=100 + seed)[seed % 3]
    size, pictures = size + 1, 2 + seed % 3
    (found,) = explorer.evaluate(LEDGERS, [asked(arguments, size)])
    total, images = found["total"], torch.randn(pictures, 3, size, size)
    network = DenseNet(**arguments)
    plain = pictures * total["activationBytes"] + total["statistics"]
    assert plain == analysis.saved_for_backward(network, images)
    efficient = pictures * total["efficientBytes"] + total["efficientStatistics"]
    assert efficient == analysis.saved_for_backward(make_efficient(network), images)


PUBLISHED = {  # name in the page: (network, size, parameters)
    "This series' network": (lambda: named_network("origin"), 32, 187_450),
    "DenseNet-40, k = 12": (lambda: named_network("40-12"), 32, 1_019_722),
    "DenseNet-100, k = 12": (lambda: named_network("100-12"), 32, 6_979_642),
    "DenseNet-100, k = 24": (lambda: named_network("100-24"), 32, 27_249_082),
    "DenseNet-BC-100, k = 12": (lambda: named_network("bc-100-12"), 32, 769_162),
    "DenseNet-BC-250, k = 24": (lambda: named_network("bc-250-24"), 32, 15_324_406),
    "DenseNet-BC-190, k = 40": (lambda: named_network("bc-190-40"), 32, 25_624_430),
    "DenseNet-121": (densenet.densenet121, 224, 7_978_856),
    "DenseNet-161": (densenet.densenet161, 224, 28_681_000),
    "DenseNet-169": (densenet.densenet169, 224, 14_149_480),
    "DenseNet-201": (densenet.densenet201, 224, 20_013_928),
}


def test_the_papers_networks_have_the_published_counts(explorer):
    named = explorer.evaluate("NAMED.map(({ network, ...rest }) => [rest, ledger(network)])")
    assert {rest["name"] for rest, _ in named} == PUBLISHED.keys()
    for rest, found in named:
        build, size, parameters = PUBLISHED[rest["name"]]
        assert found["total"]["parameters"] == parameters
        if len(found["layers"]) < 60:  # the larger ones would take a minute
            with torch.device("meta"):
                network = build()
            assert not list(differences(found, counted(network, size))), rest["name"]
        if rest.get("parameters"):  # this series' network is nowhere published
            assert rest["parameters"] == f"{parameters / 1e6:.1f}M"


def sentence(call):
    """Return what the library says to a call that it refuses."""
    with pytest.raises(ValueError) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize("depth", [1, 4, 7, 9, 10, 39, 41, 42, 99, 101, 102, 2.5])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_a_depth_that_does_not_fit_gets_the_librarys_sentence(explorer, depth, bottleneck):
    said = explorer.evaluate(
        "([depth, kind]) => { try { return blocksOfDepth(depth, kind) } "
        "catch (error) { return error.message } }",
        [depth, bottleneck],
    )
    if isinstance(said, list):
        network = densenet_cifar(depth, 1, bottleneck=bottleneck)
        assert tuple(said) == network.arguments["block_config"]
    else:
        assert said == sentence(lambda: densenet_cifar(depth, 1, bottleneck=bottleneck))


WRONG = [
    {"growth_rate": 0},
    {"growth_rate": 2.5},
    {"block_config": []},
    {"block_config": [2, 0]},
    {"num_init_features": -3},
    {"bn_size": 0},
    {"num_classes": 0},
    {"compression": 0},
    {"compression": 1.5},
    {"compression": 0.01},
    {"stem": "cifar"},
    {"block_config": [1, 1, 1, 1, 1, 1, 1]},
    {"block_config": [1, 1, 1, 1, 1], "stem": "imagenet"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_impossible_arguments_get_the_librarys_sentence(explorer, wrong):
    arguments = DenseNet().arguments | wrong
    said = explorer.evaluate(
        "network => { try { ledger(network) } catch (error) { return error.message } }",
        asked(arguments, 32),
    )
    assert said == sentence(lambda: DenseNet(**arguments)(torch.zeros(2, 3, 32, 32)))


EXTREMES = [[1], [1, 1, 1, 1, 1, 1, 1], [200], [100, 1, 100]]


def at(page, address):
    """Open the page at an address, as from a link that was sent."""
    page.goto("about:blank")
    page.goto(EXPLORER + address)


# The page


def sums(page):
    """Return what stands under `In numbers`: {name: number}."""
    return dict(
        page.evaluate(
            "[...document.querySelectorAll('#sums div')].map("
            "d => [d.querySelector('dt').textContent, d.querySelector('dd').firstChild.data])"
        )
    )


def test_it_opens_with_the_networks_of_this_series(explorer, complaints):
    assert sums(explorer)["Parameters"] == "187,450"
    assert explorer.locator("#ledger tbody tr").count() == 6
    assert explorer.locator("figure svg[role=img][aria-label]").count() == 5
    assert complaints == []


def test_a_choice_is_in_the_address_and_comes_back_from_it(explorer, complaints):
    explorer.select_option("#named", label="DenseNet-BC-100, k = 12")
    assert sums(explorer)["Parameters"] == "769,162"
    assert "published with 0.8M" in explorer.inner_text("#published")
    explorer.fill("#growthRate", "24")
    address, before = explorer.url, sums(explorer)
    assert "depth=100" in address and "k=24" in address
    assert explorer.input_value("#named") == "-1"
    explorer.goto("about:blank")
    explorer.goto(address)
    assert sums(explorer) == before and explorer.url == address
    assert complaints == []


def test_two_networks_are_compared(explorer, complaints):
    explorer.select_option("#named", label="DenseNet-BC-100, k = 12")
    explorer.select_option("#beside", label="DenseNet-40, k = 12")
    notes = explorer.locator("#sums small").all_inner_texts()
    assert notes[0] == f"{769_162 / 1_019_722:.2f} times DenseNet-40, k = 12"
    assert f"{100 / 40} times DenseNet-40, k = 12" in notes
    explorer.reload()
    assert explorer.locator("#sums small").all_inner_texts() == notes and complaints == []


def test_every_name_can_be_chosen_and_every_link_of_the_table_leads_to_its_network(
    explorer, complaints
):
    for name, (_, _, parameters) in PUBLISHED.items():
        explorer.select_option("#named", label=name)
        assert sums(explorer)["Parameters"] == f"{parameters:,}", name
        assert explorer.locator("#paper tr.yours th").all_inner_texts() == [name]
    explorer.click("#paper a:text-is('DenseNet-40, k = 12')")
    explorer.locator("#paper tr.yours th", has_text="DenseNet-40, k = 12").wait_for()
    assert sums(explorer)["Parameters"] == "1,019,722"
    assert complaints == []


def test_a_depth_that_does_not_fit_is_mended_by_a_button(explorer, complaints):
    explorer.select_option("#named", label="DenseNet-BC-100, k = 12")
    explorer.fill("#depth", "41")
    assert "near it: 40 or 46" in explorer.inner_text("#problem")
    explorer.click("#problem button:text-is('take 46')")
    assert explorer.inner_text("#problem") == "" and sums(explorer)["Depth"] == "46"
    assert explorer.input_value("#blocks") == "7, 7, 7"
    assert complaints == []


@pytest.mark.parametrize("text", ["", "6,,", "a", "6, -1", "1e9", "6 12 24 16 9 9 9"])
def test_blocks_typed_wrong_get_a_sentence_and_no_error(explorer, complaints, text):
    explorer.fill("#blocks", text)
    said = explorer.inner_text("#problem")
    assert (said == "") == (text == "6,,")
    explorer.fill("#blocks", "6, 12")
    assert sums(explorer)["Parameters"] == "187,450" and complaints == []


def test_where_shorter_blocks_make_no_network_the_others_are_drawn(explorer, complaints):
    at(explorer, "#blocks=6-12-6&k=1&c=0.1")
    cells = explorer.locator("#ledger tfoot td").all_inner_texts()
    assert cells[5] == sums(explorer)["Parameters"] and cells[5] != "187,450"
    assert explorer.locator("#questions li").count() == 6 and complaints == []


@pytest.mark.parametrize("address", ["#blocks=4-4&stem=conv", "#blocks=3&b=none&stem=conv"])
def test_the_link_of_ones_own_network_leads_back_to_it(explorer, address, complaints):
    at(explorer, address)
    before = sums(explorer)
    link = explorer.locator("#paper a:text-is('your choice')").get_attribute("href")
    assert f"{address.partition('&')[0]}&" in link
    at(explorer, link)
    assert sums(explorer) == before and complaints == []


def test_the_page_follows_the_form_where_the_address_may_not_change(explorer, complaints):
    explorer.evaluate(
        "() => { window.may = history.replaceState;"
        "history.replaceState = () => { throw new Error('too many') } }"
    )
    explorer.fill("#growthRate", "24")
    assert sums(explorer)["Parameters"] != "187,450" and "k=24" not in explorer.url
    explorer.evaluate("() => { history.replaceState = window.may }")
    explorer.wait_for_function("location.hash.includes('k=24')")
    assert complaints == []


def test_what_is_wrong_is_in_sight(explorer):
    explorer.set_viewport_size({"width": 1280, "height": 720})
    explorer.select_option("#named", label="DenseNet-BC-100, k = 12")
    explorer.fill("#depth", "41")
    told = explorer.locator("#problem").bounding_box()
    assert 0 < told["y"] and told["y"] + told["height"] <= 720
    explorer.click("#problem button:text-is('take 46')")


def test_a_name_can_be_chosen_again_to_mend_the_form(explorer):
    for _ in range(2):
        explorer.select_option("#named", label="DenseNet-121")
        assert explorer.input_value("#growthRate") == "32"
        explorer.fill("#growthRate", "")
        assert explorer.input_value("#named") == "-1"


@pytest.mark.parametrize("address", ["#k=0", "#size=1&batch=1", "#blocks=6-12&k=5000&size=5000"])
def test_an_impossible_address_stays_and_gets_a_sentence(explorer, address, complaints):
    at(explorer, address)
    assert explorer.inner_text("#problem") and explorer.url == EXPLORER + address
    assert complaints == []


def test_a_damaged_address_gets_a_sentence(offline, complaints):
    offline.goto(EXPLORER + "#blocks=6-x&k=zwölf&stem=none&b=7&c=&size=1e99&beside=x")
    assert "must be a whole number" in offline.inner_text("#problem")
    assert sums(offline)["Parameters"] == "187,450"  # there is still something to see
    assert complaints == []


def test_whatever_is_chosen_is_drawn_with_numbers(explorer, complaints):
    """Forty networks, one layer or two hundred: no drawing has a place that is no number."""
    choices = [asked(*network) for network in drawn(40, seed=1)]
    choices += [asked(DenseNet().arguments | {"block_config": blocks}, 64) for blocks in EXTREMES]
    for choice in choices:
        explorer.evaluate("choice => showAll({ ...choice, batch: 2 })", choice)
        drawn_here = explorer.inner_html("#results")
        assert not re.search("NaN|Infinity|undefined", drawn_here), choice
    assert complaints == []


def test_the_answers_of_its_questions_say_what_is_so(explorer):
    answers = explorer.locator("#questions details p").all_text_contents()
    double, less, more, kept, bytes_, larger = answers
    doubled = analysis.count_parameters(DenseNet(24))
    assert double.startswith(f"{doubled / 187_450:.2f} times: 187,450 become {doubled:,}")
    assert less.startswith("Less") and more.startswith("More")
    all_kept = analysis.count_parameters(DenseNet(12, (16,) * 3, compression=1, stem="conv"))
    assert kept.startswith(f"{all_kept / 769_162:.2f} times as many, {all_kept:,}")
    plain, efficient = map(float, re.findall(r"[\d.]+(?= times)", bytes_))
    assert plain > 3 > 2.1 > efficient
    assert [float(n) for n in re.findall(r"[\d.]+(?= times)", larger)] == [4, 4]


def test_a_question_leads_to_its_network(explorer, complaints):
    explorer.locator("#questions a").first.click()
    assert "k=24" in explorer.url and explorer.input_value("#growthRate") == "24"
    assert complaints == []


# For everybody


CHOICES = [
    "",
    "#depth=250&k=24&maps=48&stem=conv",
    "#blocks=6-12-48-32&k=32&maps=64&stem=imagenet&size=224",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(explorer, scheme):
    explorer.emulate_media(color_scheme=scheme)
    assert serious(explorer) == []
    explorer.fill("#growthRate", "0")
    assert serious(explorer) == []


def test_axe_finds_a_planted_fault(explorer):
    explorer.evaluate("document.querySelector('label[for=stem]').remove()")
    assert any(fault.startswith("select-name") for fault in serious(explorer))


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("address", CHOICES)
def test_a_phone_shows_it_whole(explorer, address, width):
    explorer.set_viewport_size({"width": width, "height": 800})
    explorer.goto(EXPLORER + address)
    explorer.reload()
    assert too_wide(explorer) == 0
    outside = explorer.evaluate(
        "[...document.querySelectorAll('svg text, dd, figcaption')].filter(text => {"
        "const box = text.getBoundingClientRect();"
        "return box.left < 0 || box.right > innerWidth}).map(text => text.textContent)"
    )
    assert outside == []


def test_every_control_is_reached_by_keyboard_and_works_by_it(explorer):
    found = reached(explorer, 20)
    for name in ("named", "blocks", "growthRate", "compression", "bottleneck", "stem", "batch"):
        assert name in found
    explorer.focus("#growthRate")
    explorer.keyboard.press("ArrowUp")
    assert "k=13" in explorer.url and sums(explorer)["Parameters"] != "187,450"


def test_the_focus_stays_on_a_link_that_is_followed_and_the_change_is_spoken(explorer):
    explorer.focus("#paper a:text-is('DenseNet-40, k = 12')")
    explorer.keyboard.press("Enter")
    explorer.locator("#paper tr.yours th", has_text="DenseNet-40, k = 12").wait_for()
    assert explorer.evaluate("document.activeElement.textContent") == "DenseNet-40, k = 12"
    explorer.wait_for_function("spoken.textContent.startsWith('1,019,722 parameters')")


def test_the_drawings_follow_the_width_of_the_window(explorer, complaints):
    wide = explorer.locator("#drawing svg").bounding_box()["width"]
    explorer.set_viewport_size({"width": 500, "height": 800})
    assert explorer.locator("#drawing svg").bounding_box()["width"] < min(500, wide)
    assert complaints == []


def test_the_line_of_python_counts_the_same(explorer):
    explorer.goto(EXPLORER + "#blocks=3&k=5&b=none&c=0.7&maps=7&size=20&classes=3&stem=conv")
    explorer.reload()
    names = {"ledger": analysis.ledger, "DenseNet": DenseNet}
    total = eval(explorer.inner_text("#python"), names).total
    assert sums(explorer)["Parameters"] == f"{total.parameters:,}"
    assert sums(explorer)["Multiply-accumulates"] == f"{total.macs:,}"
    assert explorer.locator("#ledger tfoot td").last.inner_text() != ""


def test_its_links_lead_to_notebooks_that_are_there(explorer):
    found = explorer.evaluate(
        "[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
    )
    names = [link.removeprefix("../notebooks/") for link in found if "../notebooks/" in link]
    assert len(names) > 5
    for name in names:
        assert (ROOT / "notebooks" / name.replace(".html", ".ipynb")).exists(), name


def test_print_leaves_the_controls_out_and_keeps_every_figure(explorer):
    explorer.emulate_media(media="print")
    assert not explorer.is_visible("#choice") and explorer.is_visible("#python")
    assert explorer.locator("figure svg:visible").count() == 5
    assert explorer.locator("#results").bounding_box()["width"] > 900  # the controls leave no gap
