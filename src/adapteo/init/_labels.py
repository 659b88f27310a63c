"""What the labels are: their class column, geometries and classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapteo.data._mask_labels import are_masks
from adapteo.data.vector import layers, list_columns, read_labels
from adapteo.errors import ConfigError, closest, shorten

_MOST = 30
"""Most classes that a column may have to be taken without being asked for."""
_NO_CLASS = {"id", "fid", "gid", "objectid", "ogc_fid", "index", "layer", "path"}
POINT_RADIUS = 1.5


@dataclass(frozen=True)
class LabelFacts:
    """Labels before they meet the scenes.

    Attributes:
        written: paths or patterns for the configuration, relative to its root.
        masks: True for rasters.
        class_column: "" for masks.
        layer: of a file with several.
        line_width: metres.
        point_radius: pixels.
        kinds: geometries by kind.
        classes: labels by class.
        crs: for people.
        notes: what was dropped, repaired or doubtful.
        why: of the class column.
    """

    written: tuple[str, ...]
    masks: bool
    class_column: str = ""
    layer: str | None = None
    line_width: float | None = None
    point_radius: float = 0.0
    kinds: Counter[str] | None = None
    classes: Counter[str] | None = None
    crs: str = ""
    notes: tuple[str, ...] = ()
    why: str = ""


def tell_labels(
    root: Path,
    written: Sequence[str],
    *,
    class_column: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    line_width: float | None = None,
) -> LabelFacts:
    """Look at the labels; what is given is taken.

    Raises:
        ConfigError: something has to be chosen; says how.
        DataError: a file cannot be read.
    """
    if are_masks(root, written):
        if class_column:
            raise ConfigError(
                f"--class-column {class_column}: masks have values, no columns", fix="leave --class-column out"
            )
        return LabelFacts(tuple(written), masks=True)
    if len(written) > 1:
        raise ConfigError(
            f"--labels names {len(written)} vector files; one holds all labels",
            fix="merge them, e.g. QGIS: Vector > Data Management Tools > Merge Vector Layers",
        )
    path = root / written[0]
    layer = layer or _layer(path)
    column, why = _column(path, layer, class_column)
    labels = read_labels(path, column, layer=layer, crs=crs)
    if len(labels.classes) < 2:
        raise ConfigError(
            f"{path} holds one class only, '{labels.classes[0]}' (column '{column}'): nothing to tell it from",
            fix="draw some of what it is not as a class of its own (e.g. 'other'): what has no label is ignored",
        )
    kinds = Counter(labels.kinds.tolist())
    if kinds["line"] and line_width is None:
        raise ConfigError(
            f"{path} holds {kinds['line']:,} lines, which are no area by themselves",
            fix="say how wide they are on the ground in metres, e.g. --line-width 8",
        )
    repaired = (f"{labels.repaired:,} invalid geometries were repaired",) if labels.repaired else ()
    dropped = tuple(f"left out: {reason}" for reason in labels.dropped)
    codes = Counter(labels.codes.tolist())
    return LabelFacts(
        (written[0],),
        masks=False,
        class_column=column,
        layer=layer,
        line_width=line_width if kinds["line"] else None,
        point_radius=POINT_RADIUS if kinds["point"] else 0.0,
        kinds=kinds,
        classes=Counter({name: codes[i] for i, name in enumerate(labels.classes)}),
        crs=labels.crs,
        notes=(*repaired, *dropped, *labels.doubts),
        why=why,
    )


def _layer(path: Path) -> str | None:
    """Name of the only layer is not needed; with several a person has to choose."""
    names = layers(path)
    if len(names) > 1:
        raise ConfigError(f"{path} has {len(names)} layers", allowed=names, fix=f"name one: --layer {names[0]!r}")
    return None


def _column(path: Path, layer: str | None, given: str | None) -> tuple[str, str]:
    columns = list_columns(path, layer, limit=_MOST + 1)
    if given is not None:
        if given not in columns:
            raise ConfigError(
                f"{path} has no column '{given}'{closest(given, columns)}",
                allowed=columns,
                fix="correct --class-column",
            )
        return given, "--class-column"
    fits = [
        name
        for name, values in columns.items()
        if 2 <= len(values) <= _MOST and name.lower() not in _NO_CLASS and not any(map(_is_fraction, values))
    ]
    if len(fits) == 1:
        return fits[0], "the only column with 2 to 30 different values"
    if not columns:
        raise ConfigError(f"{path} has no columns", fix="add one with the class of each feature")
    filled = {name: values for name, values in columns.items() if values}
    if not filled:
        raise ConfigError(
            f"{path} has nothing in its columns ({shorten(', '.join(columns), 200)}), or no features",
            fix="fill in the class of each feature, save the layer, and name its column with --class-column",
        )
    shown = {name: filled[name] for name in fits or filled}
    samples = "; ".join(f"{name} ({', '.join(values[:3])}{', …' if len(values) > 3 else ''})"
                        for name, values in shown.items())  # fmt: skip
    first = next(iter(shown))
    raise ConfigError(
        f"{path}: which column holds the class? {shorten(samples, 400)}",
        fix=f"add --class-column, e.g. --class-column {first!r}",
    )


def _is_fraction(value: str) -> bool:
    try:
        return float(value) % 1 != 0
    except ValueError:
        return False
