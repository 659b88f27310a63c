"""The whole of ``adapteo init``: look, choose, write."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from adapteo import registry
from adapteo.data._mask_labels import MaskLabels
from adapteo.data._survey_splits import By, SurveySplits
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError, DataError, closest
from adapteo.files import replacing
from adapteo.init._bands import Bands, tell_bands
from adapteo.init._config import Line, line_of, written
from adapteo.init._imagery import Found, look_at
from adapteo.init._labels import LabelFacts, tell_labels
from adapteo.init._model import PACKAGED, Model, choose
from adapteo.init._places import Places, place
from adapteo.init._values import Values, tell_values
from adapteo.project import CONFIG_FILE, typed

_CHIPS = (128, 64, 32)
FEW_TESTS = 6
_ENOUGH = (40, FEW_TESTS, FEW_TESTS)
"""Windows for training, validation and test that a size of window should give."""
_FEW = 400
"""Training windows below which they overlap by half."""
_MANY_PIXELS = 20_000
"""Labelled pixels from which a UNet is taken instead of a linear decoder."""
_QUICK = 12
_UNEVEN = 5
"""Labels of the most frequent class per label of the rarest one from which training windows are balanced."""


@dataclass(frozen=True)
class Request:
    """What a person says to ``adapteo init``; None and empty for what is to be found out.

    Attributes:
        folder: of the project, to be made.
        images: files, patterns or folders, relative to the current folder.
        labels: a vector file, or masks: files, a pattern or a folder.
        class_column, layer: of the vector file.
        labels_crs: coordinate system of the labels (EPSG code), where their file does not say it, or a wrong one.
        split_by: "block", "scene", "date", "random", or a column of the vector file with regions; None for blocks.
        line_width: metres.
        bands, sensor, scale, offset, nodata, frames: of the images, as the keys of the dataset `survey`.
        backbone: key, or key and variant ("prithvi/2.0-tiny-TL").
        method: key.
        overwrite: an ``adapteo.yaml`` that is there already.
    """

    folder: Path
    images: tuple[str, ...]
    labels: tuple[str, ...]
    class_column: str | None = None
    layer: str | None = None
    labels_crs: str | None = None
    split_by: str | None = None
    line_width: float | None = None
    bands: tuple[str, ...] = ()
    sensor: str | None = None
    scale: float | None = None
    offset: float | Literal["auto"] | None = None
    nodata: float | None = None
    frames: int = 1
    backbone: str | None = None
    method: str = "lora"
    overwrite: bool = False


@dataclass(frozen=True, eq=False)
class Started:
    """What was found, what was chosen, and the file.

    Attributes:
        path: of the configuration.
        text: of the configuration.
        scenes, bands, values, labels: what was found.
        model, others: the backbone, and what else fits.
        survey: the dataset of the configuration.
        notes: of the survey's plan.
    """

    path: Path
    text: str
    scenes: tuple[Found, ...]
    bands: Bands
    values: Values
    labels: LabelFacts
    model: Model
    others: tuple[Model, ...]
    survey: Survey
    notes: tuple[str, ...]


def init(request: Request) -> Started:
    """Look at scenes and labels, choose, and write ``<folder>/adapteo.yaml``.

    Raises:
        ConfigError: something has to be said by the person; the message has the words for it.
        DataError: scenes or labels cannot be used.
    """
    path = request.folder.expanduser() / CONFIG_FILE
    _check_target(path, request.overwrite)
    methods = registry.names("methods")
    if request.method not in methods and ":" not in request.method:
        raise ConfigError(
            f"--method {request.method}: there is no such method{closest(request.method, methods)}", allowed=methods
        )
    places = place(path.parent, request.images, request.labels)
    scenes = look_at(places.root, places.scenes, request.frames)
    bands = tell_bands(scenes, request.bands, request.sensor)
    values = tell_values(scenes, bands, request.scale, request.offset, request.nodata)
    labels = tell_labels(
        places.root,
        places.labels,
        class_column=request.class_column,
        layer=request.layer,
        crs=request.labels_crs,
        line_width=request.line_width,
    )
    model, others = choose(bands.names, bands.sensor, scenes[0].scene.gsd, request.frames, request.backbone)
    survey = _survey(places, bands, values, labels, request.frames)
    survey = replace(survey, labels_crs=request.labels_crs, splits=_splits(request.split_by))
    survey = _sized(_without_negatives(survey) if labels.masks else survey, model)
    if labels.masks:
        labels = _counted(labels, survey)
    counts = [count for count in (labels.classes or {}).values() if count]
    if max(counts) > _UNEVEN * min(counts):
        survey = replace(survey, balance="classes")
    text = _text(request, places, survey, (bands, values, labels, model, others))
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return Started(path, text, scenes, bands, values, labels, model, others, survey, survey.notes)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_file() and not overwrite:
        raise ConfigError(
            f"{path} is there already", fix="choose another name, or add --overwrite (the run beside it is left alone)"
        )
    if path.parent.exists() and not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is a file, not a folder", fix="choose another name for the project")
    if path.parent.suffix in (".yaml", ".yml", ".tif", ".gpkg"):
        raise ConfigError(
            f"{path.parent} is the name of a file; a project is a folder",
            fix="name the project first: adapteo init NAME --images … --labels …",
        )


def _survey(places: Places, bands: Bands, values: Values, labels: LabelFacts, frames: int) -> Survey:
    return Survey(
        str(places.root),
        _single(places.scenes),
        _single(labels.written),
        labels.class_column,
        layer=labels.layer,
        band_names=bands.written,
        sensor=bands.sensor if bands.needs_sensor else None,
        scale=values.scale,
        offset=values.offset,
        nodata=values.nodata,
        frames=frames,
        point_radius=labels.point_radius,
        line_width=labels.line_width,
    )


def _splits(by: str | None) -> SurveySplits | None:
    if by is None or by == "block":
        return None
    if by in get_args(By):
        return SurveySplits(by=by)  # type: ignore[arg-type]  # as the line above says
    return SurveySplits(by="region", column=by)


def _without_negatives(survey: Survey) -> Survey:
    """Values of masks below 0 mean that nobody knows, unless the file names them."""
    read = survey.labels_read
    assert isinstance(read, MaskLabels), "as `are_masks` said"
    named = {value for mask in read.masks for value in mask.names}
    below = tuple(value for value in read.values if value < 0 and value not in named)
    return replace(survey, ignore_values=(*below, 255)) if below else survey


def _single(items: tuple[str, ...]) -> str | tuple[str, ...]:
    return items[0] if len(items) == 1 else items


def _sized(survey: Survey, model: Model) -> Survey:
    """Choose the size of windows: the largest one that gives enough of them, a multiple of the backbone's patch."""
    multiple = model.entry.multiple if model.entry else 32
    sized = survey
    problem: DataError | None = None
    for wanted in _CHIPS:
        chip = max(1, round(wanted / multiple)) * multiple
        candidate = replace(survey, chip=chip)
        try:
            parts = candidate.plan.parts
        except DataError as error:  # e.g. too few windows of this size to divide
            problem = error
            continue
        sized, problem = candidate, None
        if all(len(parts[name]) >= least for name, least in zip(("train", "val", "test"), _ENOUGH, strict=True)):
            break
    if problem is not None:
        raise problem
    if len(sized.plan.parts["train"]) < _FEW and sized.chip % 2 == 0:
        sized = replace(sized, stride=sized.chip // 2)
    for name in ("train", "val", "test"):
        sized.split(name)
    return sized


def _counted(labels: LabelFacts, survey: Survey) -> LabelFacts:
    """What is known of masks once the survey has read them."""
    read = survey.labels_read
    assert isinstance(read, MaskLabels), "as `are_masks` said"
    if len(read.classes) < 2:
        raise ConfigError(
            f"the masks hold one class only, '{read.classes[0]}': nothing to tell it from",
            fix="masks need at least two values that are classes; 255 and nodata are ignored",
        )
    counts: Counter[int] = Counter()
    for mask in read.masks:
        counts.update(mask.counts)
    pixels = Counter({name: counts[value] for name, value in zip(read.classes, read.values, strict=True)})
    return replace(labels, kinds=Counter(mask=len(read.masks)), classes=pixels, notes=read.notes)


def _text(
    request: Request,
    places: Places,
    survey: Survey,
    found: tuple[Bands, Values, LabelFacts, Model, tuple[Model, ...]],
) -> str:
    bands, values, labels, model, others = found
    name = typed(request.folder)
    sections: dict[str, list[Line] | Line] = {
        "dataset": _dataset(places, survey, bands, values, labels),
        "backbone": Line("backbone", model.written, model.reasons(bands.names)),
        "method": Line("method", request.method),
        "decoder": _decoder(labels),
    }
    if model.backbone == PACKAGED:
        sections["train"] = [Line("epochs", _QUICK, "minutes on a CPU; more (the default is 50) may be better")]
    notes = {"backbone": [_other(other, bands) for other in others]}
    return written(f"adapteo check {name}; adapteo fit {name}; adapteo predict {name} …", sections, notes)


def _other(model: Model, bands: Bands) -> str:
    """A line that can take the place of the backbone's."""
    return f"{line_of('backbone', model.written)}   # {model.reasons(bands.names)}; fetched from the hub"


def _dataset(places: Places, survey: Survey, bands: Bands, values: Values, labels: LabelFacts) -> list[Line]:
    ground = f"{survey.chip * survey.gsd:,.0f} m"
    why_scale = f"reflectance = stored value x scale; {values.why.get('scale', '')}".rstrip("; ")
    side = f"pixels of a window, {ground}; {len(survey.split('train'))} windows to train on"
    masks = "masks of the scenes with the same name or place"
    everything: list[tuple[Line, object]] = [
        (Line("name", "survey"), None),
        (Line("root", places.written_root, "the data; from the folder of this file"), None),
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
        (Line("frames", survey.frames, "dates per sample"), 1),
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
