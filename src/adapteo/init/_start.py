"""The whole of ``adapteo init``: look, choose, write."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from adapteo import registry
from adapteo.data._mask_labels import MaskLabels
from adapteo.data._survey_sizes import check_frames
from adapteo.data._survey_splits import By, SurveySplits
from adapteo.data.survey import Survey
from adapteo.errors import ConfigError, DataError, closest
from adapteo.files import replacing
from adapteo.init._bands import Bands, tell_bands
from adapteo.init._dates import Dates, tell_dates
from adapteo.init._imagery import Found, look_at
from adapteo.init._labels import LabelFacts, tell_labels
from adapteo.init._model import Model, choose
from adapteo.init._places import Places, place
from adapteo.init._text import Chosen, text_of
from adapteo.init._values import Values, tell_values
from adapteo.project import CONFIG_FILE

_CHIPS = (128, 64, 32)
FEW_TESTS = 6
_ENOUGH = (40, FEW_TESTS, FEW_TESTS)
"""Windows for training, validation and test that a size of window should give."""
_FEW = 400
"""Training windows below which they overlap by half."""
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
        bands, sensor, scale, offset, nodata, frames, dates_per_file, dates: of the images, as the keys of the dataset
            `survey`.
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
    dates_per_file: int | None = None
    dates: tuple[str, ...] = ()
    backbone: str | None = None
    method: str = "lora"
    overwrite: bool = False


@dataclass(frozen=True, eq=False)
class Started(Chosen):
    """What was found, what was chosen, and the file.

    Attributes:
        path: of the configuration.
        text: of the configuration.
        scenes: that were found.
    """

    path: Path
    text: str
    scenes: tuple[Found, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the survey's plan."""
        return self.survey.notes


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
    check_frames(request.frames, request.dates_per_file or len(request.dates) or 1, request.dates)
    dates = tell_dates(
        places.root,
        places.scenes,
        frames=request.frames,
        per_file=request.dates_per_file,
        days=request.dates,
        bands=request.bands,
    )
    scenes = look_at(places.root, places.scenes, dates)
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
    model, others = choose(bands.names, bands.sensor, scenes[0].scene.gsd, dates.frames, request.backbone)
    survey = _survey(places, bands, values, labels, dates)
    survey = replace(survey, labels_crs=request.labels_crs, splits=_splits(request.split_by))
    survey = _sized(_without_negatives(survey) if labels.masks else survey, model)
    if labels.masks:
        labels = _counted(labels, survey)
    counts = [count for count in (labels.classes or {}).values() if count]
    if max(counts) > _UNEVEN * min(counts):
        survey = replace(survey, balance="classes")
    chosen = Chosen(request.folder, request.method, places, dates, bands, values, labels, model, others, survey)
    text = text_of(chosen)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return Started(**vars(chosen), path=path, text=text, scenes=scenes)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_file() and not overwrite:
        raise ConfigError(
            f"{path} is there already", fix="choose another name, or add --overwrite (the run beside it is left alone)"
        )
    if path.parent.suffix.lower() in (".yaml", ".yml", ".tif", ".gpkg"):
        raise ConfigError(
            f"{path.parent} is the name of a file; a project is a folder",
            fix="name the project first: adapteo init NAME --images … --labels …",
        )
    if path.parent.exists() and not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is a file, not a folder", fix="choose another name for the project")


def _survey(places: Places, bands: Bands, values: Values, labels: LabelFacts, dates: Dates) -> Survey:
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
        frames=dates.frames,
        dates_per_file=dates.per_file,
        dates=dates.days,
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
