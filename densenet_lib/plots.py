"""The figures of the notebooks, drawn from real objects, in one palette that everybody can read.

Each function returns a matplotlib figure; `show(figure, alt)` displays it with its alternative
text. Lines differ in marker and dash as well as in colour, so that they can be told apart in grey.
"""

import base64
import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from densenet_lib.analysis import ledger

# Okabe and Ito's palette for colour-blind readers, dark enough for lines on white.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK)
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX"
_HATCHES = ("", "//", "xx", "..", "\\\\", "++", "oo")
plt.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#DDDDDD",
        "legend.frameon": False,
    }
)


def show(figure, alt):
    """Display `figure` with `alt`, the sentence that a reader who cannot see it gets.

    The picture is made here, so that it is the same whatever matplotlib is set to draw with.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, bbox_inches="tight")
    plt.close(figure)
    picture = {
        "image/png": base64.b64encode(buffer.getvalue()).decode(),
        "text/plain": repr(figure),
    }
    display(picture, raw=True, metadata={"image/png": {"alt": alt}})


def image_grid(images, titles=None, *, columns=8, cell=0.95, interpolation="nearest"):
    """Draw pictures in a grid.

    Args:   images: (N, 3, H, W), uint8, or float in 0..1; (N, H, W) is drawn in grey.
            titles: N short texts.  cell: inches per picture.
    """
    rows = max(1, -(-len(images) // columns))
    extra = 0.26 * (1 + max(str(title).count("\n") for title in titles)) if titles else 0
    figure, axes = _axes(columns * cell, rows * (cell + extra), rows=rows, columns=columns)
    for i, axis in enumerate(axes):
        axis.axis("off")
        if i < len(images):
            picture = torch.as_tensor(images[i])
            grey = picture.dim() == 2
            picture = picture if grey else picture.permute(1, 2, 0)
            top = 255 if picture.dtype == torch.uint8 else 1
            scale = {"cmap": "gray", "vmin": 0, "vmax": top} if grey else {}
            axis.imshow(picture.numpy(), interpolation=interpolation, **scale)
            if titles:
                axis.set_title(titles[i], fontsize=9, pad=3)
    return figure


def feature_maps(rows, *, columns=12, cell=0.56):
    """Draw the maps of one picture in named rows, all on one scale, bright for large numbers.

    The scale's ends leave out the most extreme 1 % of the numbers, so that one pixel does not
    darken the rest; if there are negative numbers, 0 stands in the middle.

    Args:   rows: {name: maps}, each (C, H, W); uint8 (3, H, W) is a picture, in colour.
            columns: maps in a line; more of them go on in the next.  cell: inches per map.
    """
    numbers = torch.cat([m.flatten() for m in rows.values() if m.dtype != torch.uint8]).cpu()
    high = float(numbers.abs().double().quantile(0.99)) or 1.0
    low = -high if (numbers < 0).any() else 0.0
    drawn = []  # (line, column, what to draw): one axis holds all the maps
    names, line = {}, 0
    for name, maps in rows.items():
        names[line] = name
        colours = maps.dtype == torch.uint8
        pieces = [maps.permute(1, 2, 0)] if colours else list(maps)  # (H, W, 3), or C of (H, W)
        drawn += [(line + i // columns, i % columns, piece) for i, piece in enumerate(pieces)]
        line += -(-len(pieces) // columns)
    figure, (axis,) = _axes(columns * cell + 1.9, line * cell + 0.1)
    for row, column, piece in drawn:
        place = (column, column + 0.94, row + 0.94, row)
        style = {"cmap": "cividis", "vmin": low, "vmax": high, "interpolation": "nearest"}
        scaled = axis.imshow(piece.cpu().numpy(), extent=place, **style)
    axis.set(xlim=(0, columns), ylim=(line, 0), xticks=[])
    axis.set_yticks([row + 0.47 for row in names], names.values())
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    figure.colorbar(scaled, ax=axis, extend="both" if low else "max", aspect=12, shrink=0.9)
    return figure


def curves(series, xlabel, ylabel, *, title=None, width=7, height=3.6, mark=None):
    """Draw named lines, {name: (x, y)}, each with its own colour, dash and marker.

    Args:   mark: {x: text}, vertical lines with a note, such as a break-even.
    """
    figure, (axis,) = _axes(width, height)
    for i, (name, (x, y)) in enumerate(series.items()):
        dash, marker = _DASHES[i % len(_DASHES)], _MARKERS[i % len(_MARKERS)]
        step = max(1, len(x) // 12)
        axis.plot(x, y, dash, marker=marker, markevery=step, ms=5, color=PALETTE[i % 7], label=name)
    _mark(axis, mark, 0.04)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(series) > 1:
        axis.legend()
    return figure


def bars(values, xlabel, *, title=None, width=7, text="{:,}", highlight=(), intervals=None):
    """Draw {name: value} as horizontal bars with their values; those in `highlight` stand out.

    Args:   intervals: {name: (low, high)}, drawn as error bars.
    """
    figure, (axis,) = _axes(width, 0.6 + 0.36 * len(values))
    colours = [ORANGE if name in highlight else BLUE for name in values]
    heights, errors = list(values.values()), None
    if intervals:
        low, high = np.array([intervals[name] for name in values]).T
        errors = np.maximum([heights - low, high - heights], 0)
    drawn = axis.barh(list(values), heights, color=colours, xerr=errors, capsize=3)
    axis.bar_label(drawn, labels=[" " + text.format(value) for value in heights])
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.grid(axis="y", visible=False)
    axis.set(xlabel=xlabel, title=title)
    return figure


def histogram(values, xlabel, ylabel, *, step, mark=None, width=7, height=2.8):
    """Draw how often the values occur: a bar for each multiple of `step` and what is near it.

    Args:   mark: {x: text}, vertical lines with a note.
    """
    figure, (axis,) = _axes(width, height)
    places, counts = np.unique(np.round(np.asarray(values) / step), return_counts=True)
    axis.bar(places * step, counts, 0.9 * step, color=BLUE)
    _mark(axis, mark, 0.9)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def heatmap(values, xlabel, ylabel, *, title=None, width=5, height=4, text="{:.2g}", ticks=True):
    """Draw a small matrix with each value written in its cell."""
    values = np.asarray(values, dtype=float)
    figure, (axis,) = _axes(width, height)
    axis.grid(visible=False)
    axis.imshow(values, cmap="cividis", aspect="auto")
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    for (row, column), value in np.ndenumerate(values):
        if text and not np.isnan(value):
            ink = "white" if value <= (low + high) / 2 else "black"
            axis.text(column, row, text.format(value), ha="center", va="center", color=ink)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if not ticks:
        axis.set(xticks=[], yticks=[])
    return figure


def connection_matrix(block):
    """Draw who reads whom in a dense block: filled where a layer's first norm reads a source.

    Sources run along the columns (the block's input, then each layer), readers down the rows.
    """
    layers = list(block.values())
    first, growth = layers[0].norm1.num_features, _maps_made(layers[0])
    widths = [first] + [growth] * (len(layers) - 1)
    figure, (axis,) = _axes(6.2, 0.9 + 0.42 * len(layers))
    axis.grid(visible=False)
    for row, layer in enumerate(layers):
        arriving = 0
        for column, width in enumerate(widths):
            arriving += width
            reads = layer.norm1.num_features >= arriving
            colour = (BLUE if column else ORANGE) if reads else "white"
            axis.add_patch(plt.Rectangle((column, row), 0.9, 0.9, fc=colour, ec="#BBBBBB"))
            if reads:
                axis.text(column + 0.45, row + 0.45, width, color="white", ha="center", va="center")
    names = ["input"] + [f"layer {i}" for i in range(1, len(layers))]
    axis.set(xlim=(-0.1, len(layers)), ylim=(len(layers), -0.1), xlabel="maps read from")
    axis.set_xticks(np.arange(len(layers)) + 0.45, names, rotation=0 if len(layers) < 8 else 60)
    axis.set_yticks(np.arange(len(layers)) + 0.45, [f"layer {i + 1}" for i in range(len(layers))])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def block_diagram(block):
    """Draw a dense block as boxes and arrows: every layer, and every map it reads."""
    layers = list(block.values())
    first, growth = layers[0].norm1.num_features, _maps_made(layers[0])
    figure, (axis,) = _axes(7.4, 2.6)
    axis.axis("off")
    centres = np.arange(len(layers) + 2) * 1.0
    names = ["input", *(f"layer {i + 1}" for i in range(len(layers))), "output"]
    made = [first] + [growth] * len(layers) + [first + growth * len(layers)]
    for i, (x, name, maps) in enumerate(zip(centres, names, made, strict=True)):
        colour = ORANGE if i == 0 else BLACK if i == len(layers) + 1 else BLUE
        box = FancyBboxPatch(
            (x - 0.3, -0.2), 0.6, 0.4, boxstyle="round,pad=0.03", fc="white", ec=colour, lw=2
        )
        axis.add_patch(box)
        sign = "" if i in (0, len(layers) + 1) else "+"
        axis.text(x, 0, f"{name}\n{sign}{maps}", ha="center", va="center", fontsize=9)
    for source in range(len(layers) + 1):
        for reader in range(source + 1, len(layers) + 2):
            colour = ORANGE if source == 0 else BLUE
            # Neighbours by a straight arrow between their sides, others in a bow over the top.
            aside, up, bend = (0.33, 0, 0) if reader == source + 1 else (0, 0.24, -0.42)
            arrow = FancyArrowPatch(
                (centres[source] + aside, up), (centres[reader] - aside, up),
                connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=11,
                color=colour, alpha=0.8, shrinkA=0, shrinkB=0,
            )  # fmt: skip
            axis.add_patch(arrow)
    reach = 0.42 * (len(layers) + 1) / 2 + 0.45
    axis.set(xlim=(-0.4, centres[-1] + 0.4), ylim=(-0.3, reach))
    return figure


def channel_staircase(model, *, title=None):
    """Draw how many maps there are after the stem and after each layer and transition."""
    counts, kinds = [model.features.conv0.out_channels], ["stem"]
    for name, part in model.features.named_children():
        if name.startswith("denseblock"):
            for layer in part.values():
                counts.append(layer.norm1.num_features + _maps_made(layer))
                kinds.append("dense layer")
        elif name.startswith("transition"):
            counts.append(part.conv.out_channels)
            kinds.append("transition")
    figure, (axis,) = _axes(7, 3.4)
    looks = {"stem": (BLACK, "xx"), "dense layer": (BLUE, ""), "transition": (ORANGE, "//")}
    for kind, (colour, hatch) in looks.items():
        where = [i for i, k in enumerate(kinds) if k == kind]
        heights = [counts[i] for i in where]
        axis.bar(where, heights, color=colour, hatch=hatch, ec="white", label=kind, width=1)
    ends = [i for i in range(len(counts)) if i + 1 == len(counts) or kinds[i + 1] == "transition"]
    for i in {0, *ends, *(i for i, kind in enumerate(kinds) if kind == "transition")}:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(i, counts[i] + 2, counts[i], ha="center", va="bottom", fontsize=9, bbox=box)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="dense layers and transitions, in order", ylabel="feature maps", title=title)
    axis.legend(loc="upper left")
    return figure


def network_diagram(model, input_size=(3, 32, 32)):
    """Draw a DenseNet as slabs as high as its maps are large and as wide as they are many.

    Each strip inside a dense block is what one layer adds; arcs lead to it from all that it reads.
    """
    stages = [stage for stage in ledger(model, input_size).stages if stage.layers]
    largest = max(int(stage.size.split("x")[0]) for stage in stages)
    scale = 1.5 / max(stage.channels_out for stage in stages)  # width per map
    figure, (axis,) = _axes(7.4, 2.8)
    axis.axis("off")
    left = 0.0
    for stage in stages:
        height = int(stage.size.split("x")[0]) / largest
        width = stage.channels_out * scale
        is_block, is_transition = stage.connections > 0, "transition" in stage.stage
        colour = BLUE if is_block else ORANGE if is_transition else "#777777"
        box = (left, -height / 2), width, height
        axis.add_patch(plt.Rectangle(*box, fc=colour, hatch="//" * is_transition, ec="white"))
        if is_block:
            axis.add_patch(plt.Rectangle(*box[:1], stage.channels_in * scale, height, fc=SKY))
            layers = len(model.features.get_submodule(stage.stage))
            edges = np.linspace(stage.channels_in, stage.channels_out, layers + 1)[:-1]
            axis.vlines(left + edges * scale, -height / 2, height / 2, color="white", lw=1)
            made = [stage.channels_in / 2, *(edges + (stage.channels_out - edges[-1]) / 2)]
            for source, reader in itertools.combinations(left + np.array(made) * scale, 2):
                ends, style = ((source, height / 2), (reader, height / 2)), "arc3,rad=-0.35"
                arc = {"connectionstyle": style, "color": "#555555", "lw": 0.6, "alpha": 0.6}
                axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-", **arc))
        name = stage.stage.replace("dense", "dense\n").replace("transition", "tran-\nsition")
        axis.text(left + width / 2, -0.62, name, ha="center", va="top", fontsize=9)
        maps = f"{stage.channels_out}\n{stage.size}"
        axis.text(left + width / 2, 1.0, maps, ha="center", va="bottom", fontsize=9)
        left += width + 0.42
    axis.set(xlim=(-0.3, left - 0.1), ylim=(-0.95, 1.25))
    return figure


def grouped_bars(series, ylabel, *, width=7, height=3.4, text="{:.0f}"):
    """Draw {name: {group: value}}: in each group a bar a name, told apart by colour and hatch."""
    figure, (axis,) = _axes(width, height)
    groups, thick = list(next(iter(series.values()))), 0.84 / len(series)
    for i, (name, values) in enumerate(series.items()):
        where = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * thick
        heights = [values[group] for group in groups]
        look = {"color": PALETTE[i % 7], "hatch": _HATCHES[(i + i // 7) % 7], "ec": "white"}
        drawn = axis.bar(where, heights, thick, label=name, **look)
        axis.bar_label(drawn, labels=[text.format(height) for height in heights], fontsize=9)
    axis.set_xticks(range(len(groups)), groups)
    axis.grid(axis="x", visible=False)
    axis.set(ylabel=ylabel)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series))  # above, hiding no bar
    return figure


def dots(results, xlabel, *, title=None, width=7, error=None):
    """Draw {name: results of several runs}: a dot a run, and their mean with its error.

    Args:   error: how far the mean's bar reaches to each side; None: its own standard error.
    """
    figure, (axis,) = _axes(width, 0.9 + 0.5 * len(results))
    for row, values in enumerate(results.values()):
        values = np.asarray(values, dtype=float)
        above = [np.sum(values[:i] == value) for i, value in enumerate(values)]  # equal ones
        axis.plot(values, row - 0.15 - 0.12 * np.array(above), "o", color=SKY, mec=BLACK)
        reach = error
        if error is None:  # one run alone has no spread that could be known
            reach = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        axis.errorbar(values.mean(), row + 0.15, xerr=reach, fmt="D", color=BLUE, capsize=5)
    axis.set_yticks(range(len(results)), list(results))
    axis.set(xlabel=xlabel, title=title, ylim=(len(results) - 0.5, -0.5))
    return figure


def points(results, costs, ylabel, *, width=9, height=3.2, error=None):
    """Draw means of {name: results of several runs} against {xlabel: {name: cost}}, a panel each.

    Args:   error: how far the bar of a mean reaches up and down.
    """
    figure, axes = _axes(width, height, columns=len(costs))
    for axis, (xlabel, cost) in zip(axes, costs.items(), strict=True):
        for i, (name, values) in enumerate(results.items()):
            look = {"fmt": _MARKERS[i % 7], "color": PALETTE[i % 7], "capsize": 4, "label": name}
            axis.errorbar(cost[name], np.mean(values), yerr=error, ms=8, **look)
        axis.set(xlabel=xlabel, xlim=(0, 1.15 * max(cost.values())))
        axis.sharey(axes[0])
        axis.tick_params(labelleft=axis is axes[0])
    axes[0].set(ylabel=ylabel)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def label(name, longest=14):
    """Return a class's name for a figure: cut if it is long, and with `$` as a plain character."""
    name = name if len(name) <= longest else name[: longest - 1] + "…"
    return name.replace("$", r"\$")


def _mark(axis, notes, height):
    """Draw a vertical line with a note, at a share of the height, for each of {x: text}."""
    for x, text in (notes or {}).items():
        axis.axvline(x, color="#666666", linestyle=":")
        axis.annotate(f" {text}", (x, height), xycoords=("data", "axes fraction"), fontsize=10)


def _maps_made(layer):
    """Return the growth rate of a dense layer: the maps its last convolution makes."""
    return [m.out_channels for m in layer.modules() if isinstance(m, torch.nn.Conv2d)][-1]


def _axes(width, height, rows=1, columns=1):
    """Return a new figure of width x height inches in the house style, and its axes as a list."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    return figure, list(axes.flat)
