"""The figures show what the real objects hold, and carry their alternative text into HTML."""

import base64
import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from nbconvert import HTMLExporter

from densenet_lib import plots
from densenet_lib.densenet import DenseBlock, DenseNet, densenet_cifar


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_connection_matrix_has_one_square_for_each_connection():
    figure = plots.connection_matrix(DenseBlock(6, 24, 12))
    filled = [text for text in texts(figure) if text]
    assert len(filled) == 6 * 7 // 2
    assert sorted(set(filled)) == ["12", "24"] and filled.count("24") == 6


def test_connection_matrix_reads_the_block_it_is_given():
    block = DenseBlock(3, 8, 4)
    block["denselayer3"] = DenseBlock(1, 8, 4)["denselayer1"]  # reads the input alone
    assert len(texts(plots.connection_matrix(block))) == 1 + 2 + 1


def test_block_diagram_names_every_layer():
    words = texts(plots.block_diagram(DenseBlock(4, 16, 12)))
    assert words == ["input\n16", *(f"layer {i}\n+12" for i in (1, 2, 3, 4)), "output\n64"]


def test_channel_staircase_steps_as_the_network_does():
    figure = plots.channel_staircase(densenet_cifar(100, 12))
    heights = {bar.get_x() + 0.5: bar.get_height() for bar in figure.axes[0].patches}
    steps = [heights[x] for x in sorted(heights)]
    assert len(steps) == 1 + 3 * 16 + 2
    assert [steps[0], steps[16], steps[17], steps[33], steps[34], steps[50]] == [
        24, 216, 108, 300, 150, 342,
    ]  # fmt: skip
    assert {"24", "216", "108", "300", "150", "342"} == set(texts(figure))


def test_network_diagram_shows_every_stage():
    words = " ".join(texts(plots.network_diagram(DenseNet()))).split()
    assert {"stem", "sition1", "192", "32x32", "16x16", "10"} <= set(words)


def test_image_grid_takes_bytes_floats_and_grey():
    colour = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    figure = plots.image_grid(colour, [str(i) for i in range(5)], columns=3)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 5 and len(figure.axes) == 6
    assert (torch.as_tensor(shown[4].data) == colour[4].permute(1, 2, 0)).all()
    plots.image_grid(torch.rand(2, 3, 4, 4))
    for greys, white in (
        (torch.full((1, 4, 4), 200, dtype=torch.uint8), 255),
        (torch.rand(1, 4, 4), 1),
    ):
        (drawn,) = plots.image_grid(greys).axes[0].images
        assert drawn.get_clim() == (0, white)


def test_lines_differ_in_more_than_colour():
    figure = plots.curves({str(i): ([0, 1], [0, i]) for i in range(7)}, "x", "y")
    lines = figure.axes[0].get_lines()
    looks = [(line.get_linestyle(), line.get_marker(), line.get_color()) for line in lines]
    for (dash_a, marker_a, colour_a), (dash_b, marker_b, colour_b) in itertools.combinations(
        looks, 2
    ):
        assert (dash_a, marker_a) != (dash_b, marker_b) and colour_a != colour_b


def test_bars_and_heatmap_write_their_values():
    figure = plots.bars({"a": 1200, "b": 5}, "parameters", highlight=["b"])
    assert texts(figure) == [" 1,200", " 5"]
    faces = [bar.get_facecolor() for bar in figure.axes[0].patches]
    assert faces[0] != faces[1]
    assert texts(plots.heatmap([[1, 2], [3, float("nan")]], "x", "y")) == ["1", "2", "3"]


def test_grouped_bars_differ_in_hatch_and_carry_their_values():
    series = {"ours": {"a": 1, "b": 2}, "theirs": {"a": 30, "b": 40}}
    figure = plots.grouped_bars(series, "per second")
    assert [int(text) for text in texts(figure)] == [1, 2, 30, 40]
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in figure.axes[0].patches}
    assert len(looks) == len({colour for colour, _ in looks}) == len({h for _, h in looks}) == 2


@pytest.mark.parametrize("backend", ["agg", "pdf", "svg"])
def test_a_figure_is_shown_as_a_picture_with_its_alternative_text(monkeypatch, backend):
    published = []
    keep = lambda data, raw, metadata: published.extend((data, metadata))  # noqa: E731
    monkeypatch.setattr(plots, "display", keep)
    before = plt.get_backend()
    plt.switch_backend(backend)
    try:
        plots.show(plots.bars({"a": 1}, "x"), "one bar, of height one")
        assert not plt.get_fignums()  # closed, so that it is not drawn a second time
    finally:
        plt.switch_backend(before)
    data, metadata = published
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    cell = nbformat.v4.new_code_cell("plot", outputs=[output], execution_count=1)
    html, _ = HTMLExporter(template_name="classic").from_notebook_node(
        nbformat.v4.new_notebook(cells=[cell])
    )
    assert 'alt="one bar, of height one"' in html


def test_dots_show_every_run_and_the_mean():
    figure = plots.dots({"one": [1.0, 2.0, 6.0], "other": [4.0, 4.0]}, "accuracy, %")
    (axis,) = figure.axes
    drawn = sorted(x for line in axis.lines for x in line.get_xdata())
    for value in (1.0, 2.0, 6.0, 3.0, 4.0):  # the mean of the first is 3
        assert value in drawn, (value, drawn)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one", "other"]


def test_bars_with_intervals_reach_from_low_to_high():
    figure = plots.bars({"a": 1.0, "b": 3.0}, "x", intervals={"a": (0.5, 2.0), "b": (2.5, 3.0)})
    (lines,) = [c for c in figure.axes[0].collections if hasattr(c, "get_segments")]
    reach = [(segment[0][0], segment[1][0]) for segment in lines.get_segments()]
    assert reach == [(0.5, 2.0), (2.5, 3.0)]


@pytest.mark.parametrize(("error", "reach"), [(0.5, (0.5, 0.5)), (None, ((14 / 2 / 3) ** 0.5, 0))])
def test_dots_take_an_error_of_the_reader_or_the_means_own(error, reach):
    figure = plots.dots({"one": [1.0, 2.0, 6.0], "other": [4.0, 4.0]}, "accuracy, %", error=error)
    bars = [c.get_segments()[0][:, 0].tolist() for c in figure.axes[0].collections]
    for bar, mean, by in zip(bars, (3, 4), reach, strict=True):  # 14: the squares of -2, -1 and 3
        assert bar == pytest.approx([mean - by, mean + by])


def test_a_histogram_counts_what_is_nearest_to_each_multiple_of_the_step():
    figure = plots.histogram([1.9, 2.1, 2.0, 4.2], "x", "y", step=2, mark={3: "middle"})
    bars = {p.get_x() + p.get_width() / 2: p.get_height() for p in figure.axes[0].patches}
    assert bars == {2: 3, 4: 1} and "middle" in figure.axes[0].texts[0].get_text()


def test_a_label_is_short_and_no_mathematics():
    assert plots.label("cat") == "cat" and plots.label("$5 to $9") == r"\$5 to \$9"
    assert plots.label("a" * 60) == "a" * 13 + "…" and plots.label("abcdef", 4) == "abc…"


def test_feature_maps_stand_on_one_scale_and_in_lines():
    picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
    maps = torch.linspace(-1, 2, 5 * 16).reshape(5, 4, 4)
    figure = plots.feature_maps({"picture": picture, "maps": maps}, columns=3)
    drawn = figure.axes[0].images
    assert len(drawn) == 1 + 5 and drawn[0].get_array().shape == (4, 4, 3)
    limits = {image.get_clim() for image in drawn[1:]}
    (low, high), *others = limits
    assert not others and low == -high and 1.9 < high < 2  # 0 in the middle, for all of them
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["picture", "maps"]
    places = [image.get_extent() for image in drawn]
    assert places[3][0] == 2 and places[4][0] == 0 and places[4][3] == places[3][3] + 1


def test_feature_maps_without_negative_numbers_begin_at_zero():
    for maps in (torch.zeros(2, 4, 4), torch.rand(2, 4, 4) + 3):
        low, high = plots.feature_maps({"maps": maps}).axes[0].images[0].get_clim()
        assert low == 0 < high


def test_many_series_single_runs_and_nothing_can_be_drawn():
    many = {f"series {i}": ([1, 2], [i, i]) for i in range(9)}
    plots.curves(many, "x", "y")
    figure = plots.grouped_bars({name: {"a": 1, "b": 2} for name in many}, "y")
    looks = [(b.get_facecolor(), b.get_hatch()) for b in figure.axes[0].patches]
    assert len(set(looks)) == 9
    plots.dots({"one run": [1.0], "two": [1.0, 2.0]}, "x")
    plots.heatmap([[float("nan")] * 2] * 2, "x", "y")
    plots.image_grid(torch.zeros(0, 3, 4, 4), [])
    plt.close("all")


def test_points_draw_each_mean_against_each_cost():
    results = {"a": [1.0, 3.0], "b": [5.0, 6.0]}
    costs = {"work": {"a": 10, "b": 20}, "bytes": {"a": 4, "b": 2}}
    figure = plots.points(results, costs, "accuracy", error=0.5)
    for axis, (xlabel, cost) in zip(figure.axes, costs.items(), strict=True):
        assert axis.get_xlabel() == xlabel
        for container, (name, values) in zip(axis.containers, results.items(), strict=True):
            (x, y), (bar,) = container[0].get_xydata()[0], container[2][0].get_segments()
            assert (x, y) == (cost[name], sum(values) / 2)
            assert bar[:, 1].tolist() == [y - 0.5, y + 0.5]
