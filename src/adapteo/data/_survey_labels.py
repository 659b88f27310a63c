"""The labels of a survey, drawn or as masks. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapteo.data._mask_labels import MaskLabels, are_masks, read_masks
from adapteo.data._survey_scenes import SceneFile
from adapteo.data.vector import Labels, read_labels
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class LabelsWanted:
    """What is said of the labels; see the fields of `adapteo.data.survey.Survey`.

    Attributes:
        labels, class_column, class_names, ignore_values, layer, crs: see there.
        column: of regions, read as well; "" for none.
        by_region: whether windows are divided by it.
    """

    labels: str | tuple[str, ...]
    class_column: str
    class_names: tuple[str, ...] | Mapping[str, str]
    ignore_values: tuple[int, ...] | None
    layer: str | None
    crs: str | None
    column: str
    by_region: bool


def find_labels(root: Path, wanted: LabelsWanted, scenes: Sequence[SceneFile]) -> Labels | MaskLabels:
    """Read them.

    Raises:
        ConfigError: a key is missing, or one that such labels do not have.
        DataError: a file cannot be read.
    """
    names = wanted.class_names
    if are_masks(root, wanted.labels):
        if wanted.by_region:
            raise ConfigError(
                "splits.by is 'region', but masks have no column with the region",
                allowed=["block", "scene", "date", "random"],
                fix="divide by scene, and name the scenes of each part",
            )
        if wanted.class_column:
            raise ConfigError(
                f"class_column is '{wanted.class_column}', but the labels are masks, which have values, no columns",
                fix="leave `class_column` out; `class_names` names the values",
            )
        return read_masks(root, wanted.labels, scenes, names, wanted.ignore_values)
    if not isinstance(wanted.labels, str):
        raise ConfigError(f"labels is {list(wanted.labels)}", allowed=["one vector file", "several masks"])
    if not wanted.class_column:
        raise ConfigError(
            "class_column is missing", fix=f"name the column of {wanted.labels} with the class in the dataset section"
        )
    return read_labels(
        root / wanted.labels,
        wanted.class_column,
        layer=wanted.layer,
        classes={key: names[key] for key in names} if isinstance(names, Mapping) else names or None,
        columns=(wanted.column,) if wanted.column else (),
        crs=wanted.crs,
    )


def label_notes(read: Labels | MaskLabels) -> tuple[str, ...]:
    """What was left out or repaired."""
    if isinstance(read, MaskLabels):
        return tuple(read.notes)
    repaired = (f"{read.repaired} invalid geometries were repaired",) if read.repaired else ()
    dropped = (f"left out: {'; '.join(read.dropped)}",) if read.dropped else ()
    return tuple(f"{read.path.name}: {note}" for note in (*repaired, *dropped, *read.doubts))
