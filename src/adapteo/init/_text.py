"""The configuration that ``adapteo init`` writes: what was found and chosen, line by line."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from adapteo.data._survey_splits import SurveySplits
from adapteo.data.survey import Survey
from adapteo.init._bands import Bands
from adapteo.init._config import Line, line_of, written
from adapteo.init._dates import Dates
from adapteo.init._labels import LabelFacts
from adapteo.init._model import PACKAGED, Model
from adapteo.init._places import Places
from adapteo.init._values import Values
from adapteo.project import typed

_MANY_PIXELS = 20_000
"""Labelled pixels from which a UNet is taken instead of a linear decoder."""
_QUICK = 12
_NAMED = 12
"""Classes without a name for which a line to name them is offered."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """All that goes into the configuration.

    Attributes:
        folder: of the project.
        method: key.
        places, dates, bands, values, labels: what was found.
        model, others: the backbone, and what else fits.
        survey: the dataset.
    """

    folder: Path
    method: str
    places: Places
    dates: Dates
    bands: Bands
    values: Values
    labels: LabelFacts
    model: Model
    others: tuple[Model, ...]
    survey: Survey


def text_of(chosen: Chosen) -> str:
    """Write the configuration, with a reason for each line."""
    model, name, bands = chosen.model, typed(chosen.folder), chosen.bands
    sections: dict[str, list[Line] | Line] = {
        "dataset": _dataset(chosen),
        "backbone": Line("backbone", model.written, model.reasons(bands.names)),
        "method": Line("method", chosen.method),
        "decoder": _decoder(chosen.labels),
    }
    if model.backbone == PACKAGED:
        sections["train"] = [Line("epochs", _QUICK, "minutes on a CPU; more (the default is 50) may be better")]
    notes = {"dataset": _names(chosen.labels), "backbone": [_other(other, bands) for other in chosen.others]}
    return written(f"adapteo check {name}; adapteo fit {name}; adapteo predict {name} …", sections, notes)


def _names(labels: LabelFacts) -> list[str]:
    """A line to be filled in, where the values of masks have no names."""
    values = list(labels.classes or ())
    if not labels.masks or len(values) > _NAMED or not all(value.isdecimal() for value in values):
        return []
    line = line_of("class_names", {int(value): f"class {value}" for value in values})
    return [f" {line}   # to name the masks' values in tables and maps"]


def _other(model: Model, bands: Bands) -> str:
    """A line that can take the place of the backbone's."""
    return f"{line_of('backbone', model.written)}   # {model.reasons(bands.names)}; fetched from the hub"


def _dataset(chosen: Chosen) -> list[Line]:
    survey, dates, bands, values, labels = chosen.survey, chosen.dates, chosen.bands, chosen.values, chosen.labels
    ground = f"{survey.chip * survey.gsd:,.0f} m"
    why_scale = f"reflectance = stored value x scale; {values.why.get('scale', '')}".rstrip("; ")
    side = f"pixels of a window, {ground}; {len(survey.split('train'))} windows to train on"
    masks = "masks of the scenes with the same name or place"
    everything: list[tuple[Line, object]] = [
        (Line("name", "survey"), None),
        (Line("root", chosen.places.written_root, "the data; from the folder of this file"), None),
        (Line("scenes", survey.scenes), None),
        (Line("labels", survey.labels, masks if labels.masks else ""), None),
        (Line("layer", labels.layer), None),
        (Line("labels_crs", survey.labels_crs, "of the labels"), None),
        (Line("class_column", labels.class_column, ", ".join(labels.classes or ())), ""),
        (Line("ignore_values", survey.ignore_values, "of the masks: no class"), None),
        (Line("band_names", bands.written, bands.why), ()),
        (Line("sensor", survey.sensor, bands.why), None),
        (Line("scale", values.scale, why_scale), None),
        (Line("offset", values.offset, values.why.get("offset", "see scale")), None),
        (Line("nodata", values.nodata, values.why.get("nodata", "stored value that is missing")), None),
        (Line("frames", survey.frames if dates.per_file == 1 else 1, "dates per sample"), 1),
        (Line("dates_per_file", dates.per_file, f"all bands of the first date first; {dates.why}"), 1),
        (Line("dates", dates.days, "of each file"), ()),
        (Line("chip", survey.chip, side), None),
        (Line("stride", survey.stride, "windows overlap by half in training"), None),
        (Line("point_radius", labels.point_radius, "pixels around a point that have its class"), 0.0),
        (Line("line_width", labels.line_width, "metres on the ground"), None),
        (Line("balance", survey.balance, "windows with rare classes are seen more often"), None),
        (Line("splits", _written_splits(survey.splits), "what is kept together"), None),
    ]
    return [line for line, default in everything if line.value != default]


def _written_splits(splits: SurveySplits | None) -> dict[str, str] | None:
    if splits is None:
        return None
    return {"by": splits.by} | ({"column": splits.column} if splits.column else {})


def _decoder(labels: LabelFacts) -> Line:
    """A linear decoder for few labels: it is fitted to convergence, and has little to overfit with.

    For points its weights are the same for all pixels of a patch: points lie on few of these pixels by chance, and
    weights of their own draw a lattice with the period of the patch where they have never seen a class.
    """
    kinds = labels.kinds or Counter()
    pixels = sum((labels.classes or Counter()).values()) if labels.masks else 0
    why = "linear for few labels; unet draws finer borders from many"
    if pixels >= _MANY_PIXELS or kinds["polygon"] >= 200:
        return Line("decoder", "unet", why)
    if kinds["point"] > kinds["polygon"]:
        return Line("decoder", {"name": "linear", "upsampling": 1}, f"one for all pixels of a patch; {why}")
    return Line("decoder", "linear", why)
