"""Pictures as PNG: samples with truth and prediction, confusion matrices, training curves, maps.

Everything takes NumPy arrays and paths. matplotlib loads when a picture is drawn, not before, and only its object
interface is used: no global state, no display, safe in threads.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adapteo.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

RGB = tuple[int, int, int]
_DPI = 130
_MISSING = 235  # light grey
_SUBTLE = "#555555"

# The first seven are Okabe and Ito's (jfly.uni-koeln.de/color), without black. Each next one has the largest distance
# in CIELAB to those before it for normal, protanopic and deuteranopic eyes (Machado et al. 2009), at least 17.
_PALETTE: tuple[RGB, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66),
    (0, 0, 255), (0, 45, 45), (135, 255, 165), (15, 15, 150), (105, 45, 0), (105, 105, 255), (30, 30, 90),
    (240, 225, 240), (225, 30, 75), (135, 60, 105), (225, 165, 90), (105, 150, 255), (135, 210, 165), (45, 45, 210),
    (45, 75, 180), (225, 240, 120), (0, 120, 60),
)  # fmt: skip


def palette(count: int) -> tuple[RGB, ...]:
    """Colours 0..255 that colour-blind people can tell apart; after 24 they return, each time paler."""
    colours = []
    for i in range(count):
        turn, place = divmod(i, len(_PALETTE))
        share = 0.6**turn
        r, g, b = (round(255 - (255 - channel) * share) for channel in _PALETTE[place])
        colours.append((r, g, b))
    return tuple(colours)


def colours_of(classes: Sequence[str], colours: Mapping[int, RGB] | None = None) -> tuple[RGB, ...]:
    """Colour of each class: the dataset's where it gives one, the palette's for the rest."""
    return tuple((colours or {}).get(i, default) for i, default in enumerate(palette(len(classes))))


def true_colour(image: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """Make an image for the eye: red, green and blue where there are all, else the first bands.

    Args:
        image: ``(c, h, w)`` or ``(t, c, h, w)`` in any units, of which the last date is shown; NaN where missing.
        bands: canonical names of the channels.

    Returns:
        ``(h, w, 3)`` uint8. Each channel is stretched from its 2nd to its 98th percentile; missing pixels are grey.
    """
    image = image[-1] if image.ndim == 4 else image
    wanted = ("red", "green", "blue")
    if all(name in bands for name in wanted):
        chosen = [list(bands).index(name) for name in wanted]
    else:
        chosen = [0, 1, 2] if len(image) > 2 else [0, 0, 0]
    channels = image[chosen].astype(np.float64)
    missing = ~np.isfinite(channels).all(0)
    out = np.full((*channels.shape[1:], 3), _MISSING, np.uint8)
    if missing.all():
        return out
    low, high = np.percentile(channels[:, ~missing], (2, 98), axis=1)
    span = np.where(high > low, high - low, 1)[:, None]
    stretched = np.clip((channels[:, ~missing] - low[:, None]) / span, 0, 1)
    out[~missing] = np.rint(stretched.T * 255).astype(np.uint8)
    return out


@dataclass(frozen=True)
class Item:
    """One sample in a picture.

    Attributes:
        key: of the sample.
        image: ``(h, w, 3)`` uint8, see `true_colour`.
        truth: ``(h, w)`` class indices (below 0 is not labelled) or values (NaN), a class index, or a label vector.
        prediction: likewise.
        score: of the monitored metric, or NaN.
        note: written before the key, e.g. "worst".
    """

    key: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    score: float = math.nan
    note: str = ""


def samples_figure(
    path: Path,
    items: Sequence[Item],
    classes: Sequence[str],
    colours: Mapping[int, RGB] | None = None,
    *,
    metric: str = "score",
) -> None:
    """Draw one row of image, truth and prediction per sample (labels per pixel), or a grid of images with labels.

    Args:
        path: PNG to write.
        items: samples, in order; without any, nothing is written.
        classes: class names; empty for regression.
        colours: of the classes, default `palette`.
        metric: what the scores are called.
    """
    if not items:
        return
    if np.ndim(items[0].truth) == 2:
        figure = _pixel_samples(items, classes, colours, metric)
    else:
        figure = _image_samples(items, classes, metric)
    _save(figure, path)


def confusion_figure(path: Path, confusion: np.ndarray, classes: Sequence[str]) -> None:
    """Draw a confusion matrix as shares of the truth, rows truth and columns prediction.

    Args:
        path: PNG to write.
        confusion: ``(k, k)`` counts.
        classes: class names.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    total = confusion.sum(1, keepdims=True)
    share = np.divide(confusion, total, out=np.full_like(confusion, np.nan), where=total > 0)
    k = len(classes)
    side = 2.2 + 0.52 * k
    figure = _figure(side, side)
    axes = figure.add_subplot()
    axes.set_facecolor("#ebebeb")  # of classes that do not occur
    axes.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(k, k):
        value = share[row, column]
        text = f"{value * 100:.{1 if k < 6 else 0}f}"
        if np.isfinite(value) and float(text) > 0:
            shade = "white" if value > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(k), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(k), classes, fontsize=8)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title("% of each true class", fontsize=9, color=_SUBTLE)
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def curves_figure(path: Path, log: Path, monitor: str, *, higher_is_better: bool = True) -> None:
    """Draw losses and the monitored metric by epoch from a ``log.csv``, and mark the best epoch.

    Args:
        path: PNG to write.
        log: CSV with the columns ``epoch``, ``train_loss``, ``val_loss``, ``val_<monitor>``; empty cells are skipped.
        monitor: name of the metric.
        higher_is_better: which epoch is the best.
    """
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = _figure(8, 3)
    left, right = figure.subplots(1, 2)
    for column, label, shade in (("train_loss", "training", "#0072B2"), ("val_loss", "validation", "#D55E00")):
        left.plot(*_series(rows, column), color=shade, label=label, marker="o", markersize=2.5, linewidth=1.3)
    left.set_title("loss")
    left.legend(frameon=False, fontsize=8)
    epochs, values = _series(rows, f"val_{monitor}")
    right.plot(epochs, values, color="#D55E00", marker="o", markersize=2.5, linewidth=1.3)
    right.set_title(f"validation {monitor}")
    if values:
        best = (np.argmax if higher_is_better else np.argmin)(values)
        right.plot(epochs[best], values[best], "o", color="black", markersize=6, fillstyle="none")
        text = f"best: {values[best]:.4g} at epoch {epochs[best]:g}"
        right.text(0.98, 0.04, text, transform=right.transAxes, ha="right", fontsize=8, color=_SUBTLE)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def map_figure(
    path: Path,
    image: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    colours: Mapping[int, RGB] | None = None,
    *,
    title: str = "",
) -> None:
    """Draw a scene beside its map, with a legend that gives each class its share of the area.

    Args:
        path: PNG to write.
        image: ``(h, w, 3)`` uint8.
        labels: ``(h, w)`` class indices (anything outside the classes is nodata), or values with NaN if no classes.
        classes: class names; empty for a map of values.
        colours: of the classes, default `palette`.
        title: above both.
    """
    h, w = labels.shape
    width = 4.2 * max(0.5, min(1.6, w / h))
    figure = _figure(2 * width + 0.3 + (1.6 if classes else 0.9), width * h / w + (0.5 if title else 0.2))
    left, right = figure.subplots(1, 2)
    _show(left, _thinned(image))
    if classes:
        chosen = colours_of(classes, colours)
        _show(right, _coloured(_thinned(labels), chosen))
        known = max(1, int(((labels >= 0) & (labels < len(classes))).sum()))
        shares = [(labels == i).sum() / known for i in range(len(classes))]
        names = [f"{name}  {share:.1%}" for name, share in zip(classes, shares, strict=True)]
        shown = [i for i, share in enumerate(shares) if share > 0]
        _legend(figure, [names[i] for i in shown], [chosen[i] for i in shown], beside=True)
    else:
        drawn = _show_values(right, _thinned(labels), _limits(labels))
        figure.colorbar(drawn, ax=[left, right], shrink=0.85, pad=0.02)
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path)


# ------------------------------------------------------------------------------------------------ parts


def _pixel_samples(
    items: Sequence[Item], classes: Sequence[str], colours: Mapping[int, RGB] | None, metric: str
) -> "Figure":
    size = 2.1
    h, w = items[0].truth.shape
    figure = _figure(3 * size + 0.2, len(items) * (size * max(0.3, min(3, h / w)) + 0.45) + 0.5)
    grid = figure.subplots(len(items), 3, squeeze=False)
    chosen = colours_of(classes, colours)
    for row, item in zip(grid, items, strict=True):
        _show(row[0], item.image)
        row[0].set_title(_caption(item, metric), loc="left", fontsize=8)
        if classes:
            _show(row[1], _coloured(item.truth, chosen))
            _show(row[2], _coloured(item.prediction, chosen))
        else:
            limits = _limits(item.truth)
            drawn = _show_values(row[1], item.truth, limits)
            _show_values(row[2], item.prediction, limits)
            figure.colorbar(drawn, ax=list(row[1:]), shrink=0.85, pad=0.02).ax.tick_params(labelsize=7)
    for axes, text in zip(grid[0, 1:], ("truth", "prediction"), strict=True):
        axes.set_title(text, fontsize=9)
    if classes:
        shown = sorted({int(i) for item in items for array in (item.truth, item.prediction) for i in np.unique(array)})
        shown = [i for i in shown if 0 <= i < len(classes)]
        _legend(figure, [classes[i] for i in shown], [chosen[i] for i in shown])
    return figure


def _image_samples(items: Sequence[Item], classes: Sequence[str], metric: str) -> "Figure":
    columns = min(4, len(items))
    rows = math.ceil(len(items) / columns)
    figure = _figure(columns * 2.3, rows * 2.9)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, item in zip(grid, items, strict=False):
        _show(axes, item.image)
        axes.set_title(_caption(item, metric), loc="left", fontsize=8)
        right = np.array_equal(item.truth, item.prediction)
        text = f"truth: {_names(item.truth, classes)}\n{'✓' if right else '✗'} {_names(item.prediction, classes)}"
        axes.text(
            0, -0.03, text, transform=axes.transAxes, va="top", fontsize=8, color="#0072B2" if right else "#B04000"
        )
    return figure


def _names(labels: np.ndarray, classes: Sequence[str]) -> str:
    """Class name of an index, or all names of a label vector."""
    if np.ndim(labels) == 0:
        return classes[int(labels)] if 0 <= int(labels) < len(classes) else "–"
    chosen = [name for name, label in zip(classes, labels, strict=True) if label > 0.5]
    return ", ".join(chosen) or "–"


def _caption(item: Item, metric: str) -> str:
    key = item.key if len(item.key) <= 26 else "…" + item.key[-25:]
    first = f"{item.note}: {key}" if item.note else key
    return first if math.isnan(item.score) else f"{first}\n{metric} {item.score:.3g}"


def _coloured(labels: np.ndarray, colours: Sequence[RGB]) -> np.ndarray:
    """Class indices ``(h, w)`` as ``(h, w, 3)`` uint8; grey outside the classes."""
    table = np.array([*colours, (_MISSING,) * 3], np.uint8)
    known = (labels >= 0) & (labels < len(colours))
    coloured: np.ndarray = table[np.where(known, labels, len(colours)).astype(np.int64)]
    return coloured


def _series(rows: Sequence[Mapping[str, str]], column: str) -> tuple[list[float], list[float]]:
    pairs = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
    pairs = [pair for pair in pairs if math.isfinite(pair[1])]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _show(axes: "Axes", image: np.ndarray) -> None:
    axes.set_axis_off()
    axes.imshow(image, interpolation="nearest")


def _show_values(axes: "Axes", values: np.ndarray, limits: tuple[float, float]) -> "AxesImage":
    """Draw values ``(h, w)``; grey where NaN."""
    axes.set_axis_off()
    axes.imshow(np.full((*values.shape, 3), _MISSING, np.uint8))
    masked = np.ma.masked_invalid(values)
    return axes.imshow(masked, interpolation="nearest", cmap="viridis", vmin=limits[0], vmax=limits[1])


def _thinned(array: np.ndarray, most: int = 1600) -> np.ndarray:
    """Every n-th row and column, so that no side is longer than the picture can show."""
    step = math.ceil(max(array.shape[:2]) / most)
    return array[::step, ::step]


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _legend(figure: "Figure", names: Sequence[str], colours: Sequence[RGB], *, beside: bool = False) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="#888888", linewidth=0.5, label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    if beside:
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    elif handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(names)), frameon=False, fontsize=8)


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
