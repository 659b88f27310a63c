"""Scenes as small pictures with their labels and splits drawn over them, for the page."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from PIL import Image

from adapteo._ignore import IGNORE
from adapteo.check._pixels import Pixels
from adapteo.check._view import View
from adapteo.data._shapes import to_grid
from adapteo.data._survey_scenes import SceneFile
from adapteo.figures import RGB, colours_of, true_colour

_SIDE = 480
"""Pixels of a picture's longer side, at most."""
_MOST = 24
"""Pictures, at most."""
_FEATURES = 4000
"""Labels that are drawn in a scene, at most."""
_BOXES = 5000
_VEIL = 115  # of 255: how much of the ground a label of a mask covers


@dataclass(frozen=True)
class Shape:
    """Labels of one class in a scene: an SVG path, or the centres of points."""

    name: str
    colour: str
    path: str = ""
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Map:
    """One picture; lengths are in pixels of the scene.

    Attributes:
        name: of the scene or chip.
        caption: what there is to know of it.
        width, height: of the scene.
        picture: address of its image, with the data in it.
        overlay: likewise of labels that are pixels; empty where they are shapes.
        shapes: labels.
        boxes: windows of each split, as an SVG path.
    """

    name: str
    caption: str
    width: int
    height: int
    picture: str
    overlay: str = ""
    shapes: tuple[Shape, ...] = ()
    boxes: dict[str, str] = field(default_factory=dict)


def maps(view: View) -> tuple[Map, ...]:
    """The first scenes, or chips from all splits.

    Raises:
        DataError: they cannot be read.
    """
    colours = colours_of(view.classes, view.dataset.colours)
    if view.survey is None:
        every = view.pixels[:: -(-len(view.pixels) // _MOST) or 1]
        return tuple(_chip(view, pixels, colours) for pixels in every)
    last = {pixels.scene: pixels for pixels in view.pixels}  # of several dates
    return tuple(_scene(view, i, scene, last[i], colours) for i, scene in enumerate(view.scenes[:_MOST]))


def css(colour: RGB) -> str:
    """A colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _scene(view: View, number: int, scene: SceneFile, pixels: Pixels, colours: Sequence[RGB]) -> Map:
    height, width = scene.shape
    day = f", {scene.date}" if scene.date else ""
    caption = f"{width:,} x {height:,} pixels of {scene.gsd:.4g} m{day}"
    if pixels.step == 0:
        caption += "; shown as pieces side by side, labels in their place"
    drawn = view.drawn is not None
    overlay = "" if drawn else _png(_veil(_burnt(view, number, scene), colours))
    shapes = tuple(_shapes(view, scene, colours)) if drawn else ()
    return Map(scene.name, caption, width, height, _picture(view, pixels), overlay, shapes, _boxes(view, number, scene))


def _chip(view: View, pixels: Pixels, colours: Sequence[RGB]) -> Map:
    height, width = pixels.values.shape[1:]
    target = pixels.target
    overlay = _png(_veil(target, colours)) if target is not None and target.ndim == 2 and view.classes else ""
    return Map(pixels.name, f"{pixels.part}, {width} x {height} pixels", width, height, _picture(view, pixels), overlay)


def _picture(view: View, pixels: Pixels) -> str:
    step = max(1, -(-max(pixels.values.shape[1:]) // _SIDE))
    return _png(true_colour(pixels.values[:, ::step, ::step], view.bands))


def _png(image: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _veil(codes: np.ndarray, colours: Sequence[RGB]) -> np.ndarray:
    """Class indices as ``(h, w, 4)`` uint8, transparent without a label."""
    step = max(1, -(-max(codes.shape) // _SIDE))
    codes = codes[::step, ::step]
    table = np.array([*((*colour, _VEIL) for colour in colours), (0, 0, 0, 0)], np.uint8)
    known = (codes >= 0) & (codes < len(colours))
    veiled: np.ndarray = table[np.where(known, codes, len(colours)).astype(np.int64)]
    return veiled


def _burnt(view: View, number: int, scene: SceneFile) -> np.ndarray:
    """Labels of a scene, from its windows, thinned to what a picture can show."""
    step = max(1, -(-max(scene.shape) // _SIDE))
    out = np.full(tuple(-(-side // step) for side in scene.shape), IGNORE, np.int64)
    for window in view.plan.windows.values():
        if window.scene == number:
            target = view.plan.labelling.target(window)
            rows, cols = (np.arange(start, start + len(target)) for start in (window.row, window.col))
            tall = np.flatnonzero((rows >= 0) & (rows < scene.shape[0]) & (rows % step == 0))
            wide = np.flatnonzero((cols >= 0) & (cols < scene.shape[1]) & (cols % step == 0))
            part = target[np.ix_(tall, wide)]
            place = np.ix_(rows[tall] // step, cols[wide] // step)
            out[place] = np.where(part != IGNORE, part, out[place])
    return out


def _shapes(view: View, scene: SceneFile, colours: Sequence[RGB]) -> Iterator[Shape]:
    """Labels of a vector file, by class."""
    labels = view.drawn
    assert labels is not None, "asked only of drawn labels"
    here = labels.to_crs(scene.crs)
    height, width = scene.shape
    corners = [scene.place(row, col)[2::3] for row, col in ((0, 0), (0, width), (height, width), (height, 0))]
    found = here.touching(corners)[:_FEATURES]
    shapes = shapely.simplify(to_grid(here.geometry[found], scene.transform), max(height, width) / _SIDE / 2)
    codes, kinds = here.codes[found], here.kinds[found]
    for code, name in enumerate(view.classes):
        points = [(round(p.x, 1), round(p.y, 1)) for p in shapes[(codes == code) & (kinds == "point")]]
        rest = shapes[(codes == code) & (kinds != "point")]
        path = "".join(_path(line, closed) for shape in rest for line, closed in _lines(shape))
        if points or path:
            yield Shape(name, css(colours[code]), path, tuple(points))


def _lines(shape: shapely.Geometry) -> Iterator[tuple[np.ndarray, bool]]:
    if shape.geom_type == "LineString":
        yield shapely.get_coordinates(shape), False
        return
    for ring in shapely.get_rings(shape):
        yield shapely.get_coordinates(ring)[:-1], True


def _path(line: np.ndarray, closed: bool) -> str:
    told = "L".join(f"{x:.1f} {y:.1f}" for x, y in line.tolist())
    return f"M{told}{'Z' if closed else ''}" if told else ""


def _boxes(view: View, number: int, scene: SceneFile) -> dict[str, str]:
    """Windows of each split that lie in a scene."""
    survey = view.survey
    assert survey is not None, "asked only of a survey"
    out: dict[str, list[str]] = {}
    for window in list(view.plan.windows.values())[: _BOXES * len(view.scenes)]:
        if window.scene == number:
            top, left = max(window.row, 0), max(window.col, 0)
            bottom = min(window.row + survey.chip, scene.shape[0])
            right = min(window.col + survey.chip, scene.shape[1])
            out.setdefault(window.part, []).append(f"M{left} {top}H{right}V{bottom}H{left}Z")
    return {part: "".join(paths[:_BOXES]) for part, paths in out.items()}
