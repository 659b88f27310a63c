"""Labels of a survey that are rasters: which mask belongs to which scene, and what its values are. No torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import shapely

from adapteo._ignore import IGNORE
from adapteo.data._mask_files import MASK_SUFFIXES, Colour, MaskFile, open_mask, read_mask_file
from adapteo.data._projection import WGS84, reproject
from adapteo.data._survey_cells import outline, squares_of
from adapteo.data._survey_scenes import SceneFile
from adapteo.errors import DataError, closest

HIDDEN = 255
"""Ignored unless it is a class: what most tools write for "no label"."""


@dataclass(frozen=True, eq=False)
class MaskLabels:
    """Masks on any grid of pixels, drawn into windows of scenes; see `adapteo.data._survey_cells.Drawing`.

    Attributes:
        masks: the files.
        scenes: that they belong to.
        partners: positions of the masks of each scene, by position of the scene; where masks overlap, the last is seen.
        classes: names, in the order of the class index.
        values: value of each class in the masks.
        notes: values that are ignored, with counts, and masks without a scene.
    """

    masks: tuple[MaskFile, ...]
    scenes: tuple[SceneFile, ...]
    partners: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    values: tuple[int, ...]
    notes: tuple[str, ...]

    def window(self, scene: SceneFile, row: int, col: int, size: int) -> np.ndarray:
        """Class indices ``(size, size)`` of a window; `IGNORE` without a label, and outside the scene.

        A pixel has the value that the mask has at its centre. Where the mask is finer, it has the class that most of
        the mask's pixels in it have ("no label" is one to vote for as well; the first class wins a tie).
        """
        out = np.full((size, size), IGNORE, np.int64)
        top, left = max(row, 0), max(col, 0)
        height, width = min(row + size, scene.shape[0]) - top, min(col + size, scene.shape[1]) - left
        if height <= 0 or width <= 0:
            return out
        inside = out[top - row : top - row + height, left - col : left - col + width]
        for number in self._partners(scene):
            mask = self.masks[number]
            with open_mask(mask, scene.crs, scene.transform, scene.shape, scene.gsd) as reader:
                values, there = reader.read(top, left, height, width)
            codes = self._elected(values, there)
            np.copyto(inside, codes, where=codes != IGNORE)
        return out

    def squares(self, scene: SceneFile, size: int) -> list[tuple[int, int]]:
        """Windows that a mask touches, on the common grid."""
        bounds = [shapely.bounds(self._footprint(number, scene)).reshape(-1, 4) for number in self._partners(scene)]
        return squares_of(scene, np.concatenate(bounds), 1.0, size) if bounds else []

    def shared(self, scenes: Sequence[SceneFile]) -> list[tuple[int, int]]:
        """Pairs of scenes, by position, that show labels of the same ground."""
        labelled = []
        for scene in scenes:
            masks = [reproject(self._footprint(number, scene), scene.crs, WGS84)[0] for number in self._partners(scene)]
            ground = shapely.union_all(reproject(np.array([outline(scene)]), scene.crs, WGS84)[0])
            labelled.append(shapely.intersection(ground, shapely.union_all(np.concatenate(masks or [np.empty(0)]))))
        pairs = []
        for i, j in combinations(range(len(scenes)), 2):
            common = shapely.area(shapely.intersection(labelled[i], labelled[j]))
            # Neighbours touch, and reprojection makes slivers of that.
            if common > 1e-5 * min(shapely.area(labelled[i]), shapely.area(labelled[j])):
                pairs.append((i, j))
        return pairs

    def missed(self, scenes: Sequence[SceneFile]) -> DataError:
        """What to say when no label lies in a scene."""
        return DataError(
            f"no mask has a class value in any of {len(scenes)} scenes",
            allowed=[f"{value} = {name}" for value, name in zip(self.values, self.classes, strict=True)],
            fix="correct `class_names`, or name the masks of these scenes in `labels`",
        )

    @property
    def colours(self) -> dict[int, Colour] | None:
        """RGB by class index, when the files have a colour for every class."""
        table = {value: rgb for mask in self.masks for value, rgb in mask.colours.items()}
        found = {index: table[value] for index, value in enumerate(self.values) if value in table}
        return found if len(found) == len(self.values) else None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(mask.path for mask in self.masks)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.values)
        return np.asarray(self.values)[order], order

    @cached_property
    def _position(self) -> dict[str, int]:
        return {scene.name: number for number, scene in enumerate(self.scenes)}

    def _partners(self, scene: SceneFile) -> tuple[int, ...]:
        return self.partners[self._position[scene.name]]

    def _footprint(self, number: int, scene: SceneFile) -> np.ndarray:
        """Outline of a mask in the coordinate system of a scene."""
        mask = self.masks[number]
        if mask.crs is None or mask.transform is None:
            return np.array([outline(scene)])
        return reproject(np.array([_corners(mask)]), mask.crs, scene.crs)[0]

    def _elected(self, values: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Class index ``(h, w)`` from the values at the points of each pixel ``(h, w, p)``."""
        known, order = self._sorted
        index = np.searchsorted(known, values).clip(max=len(known) - 1)
        codes = np.where(there & (known[index] == values), order[index], IGNORE)
        if codes.shape[2] == 1:
            return codes[..., 0]
        votes = np.stack([(codes == code).sum(axis=2) for code in (*range(len(known)), IGNORE)])
        winner = votes.argmax(axis=0)
        return np.where(winner == len(known), IGNORE, winner)


def are_masks(root: Path, labels: str | Sequence[str]) -> bool:
    """Whether `labels` means rasters: patterns, folders, and names that end like those of an image."""
    given = (labels,) if isinstance(labels, str) else labels
    return all(
        (any(sign in text for sign in "*?[") and not (root / text).is_file())  # a file may be called "labels [1].gpkg"
        or Path(text).suffix.lower() in MASK_SUFFIXES
        or _is_folder(root / text)
        for text in given
    )


def read_masks(
    root: Path,
    labels: str | Sequence[str],
    scenes: Sequence[SceneFile],
    class_names: Sequence[str] | Mapping[str, str],
    ignore: Sequence[int] | None,
) -> MaskLabels:
    """Find the masks, and say which scenes and classes they are of.

    A mask belongs to the scene whose name it has; words before and after it do not matter, nor those that all scenes
    have. Without such a scene it belongs to all scenes in whose place it lies.

    Args:
        root: folder that `labels` is relative to.
        labels: patterns, files or folders.
        scenes: of the survey.
        class_names: names of the values 0, 1, …, or a mapping of values to names; empty for what the files say, else
            the values themselves.
        ignore: values that are no class; None for 255 and the files' own nodata, unless they have a name.

    Raises:
        DataError: there are no masks, one cannot be used, or none belongs to a scene.
    """
    paths = _find(root, (labels,) if isinstance(labels, str) else labels, scenes)
    masks = tuple(read_mask_file(path) for path in paths)
    found = [_scenes_of(mask, scenes) for mask in masks]
    partners = tuple(tuple(m for m, own in enumerate(found) if s in own) for s in range(len(scenes)))
    lonely = [mask.path.name for mask, own in zip(masks, found, strict=True) if not own]
    if len(lonely) == len(masks):
        raise DataError(
            f"none of {len(masks)} masks (e.g. {lonely[0]}) lies in a scene or has the name of one",
            allowed=[scene.path.name for scene in scenes],
            fix="correct `labels` and `scenes`, or give the masks their place with gdal_edit.py",
        )
    notes = [f"{len(lonely)} of {len(paths)} masks lie in no scene, e.g. {lonely[0]}"] if lonely else []
    table, ignored = _table(masks, class_names, ignore)
    counts: dict[int, int] = {}
    for mask in masks:
        for value, count in mask.counts.items():
            counts[value] = counts.get(value, 0) + count
    strange = {value: counts[value] for value in sorted(counts.keys() - table.keys() - ignored)}
    if strange:
        told = ", ".join(f"{value} ({count:,} pixels)" for value, count in list(strange.items())[:5])
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        notes.append(f"masks: values that are no class are ignored: {told}{more}")
    absent = [f"{name} ({value})" for value, name in table.items() if value not in counts]
    if absent:
        notes.append(f"masks: no pixel has the class {', '.join(absent)}")
    return MaskLabels(masks, tuple(scenes), partners, tuple(table.values()), tuple(table), tuple(notes))


# -------------------------------------------------------------------------------------------- files


def _is_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix.lower() not in (".gdb", ".safe")


def _find(root: Path, given: Sequence[str], scenes: Sequence[SceneFile]) -> list[Path]:
    found: set[Path] = set()
    for text in given:
        if any(sign in text for sign in "*?["):
            found |= set(root.glob(text))
        elif (root / text).is_dir():
            found |= {path for path in (root / text).iterdir() if path.suffix.lower() in MASK_SUFFIXES}
        else:
            found.add(root / text)
    images = {scene.path for scene in scenes}
    paths = sorted(path for path in found if not path.name.startswith(".") and path not in images)
    paths = [path for path in paths if path.suffix.lower() in MASK_SUFFIXES]
    if not paths:
        raise DataError(f"{root}: no mask fits `labels: {list(given)}`", fix="correct `labels` in the dataset section")
    return paths


def _scenes_of(mask: MaskFile, scenes: Sequence[SceneFile]) -> set[int]:
    """Positions of the scenes that a mask belongs to."""
    named = _namesakes(mask.path.stem, [scene.path.stem for scene in scenes])
    if mask.crs is None or mask.transform is None:
        fitting = {number for number in named if scenes[number].shape == mask.shape}
        if not fitting:
            there = " x ".join(map(str, mask.shape))
            raise DataError(
                f"{mask.path} has no place on Earth ({there} pixels), and is not named like a scene of its size",
                allowed=[f"{scene.path.name} ({scene.shape[0]} x {scene.shape[1]})" for scene in scenes],
                fix="give it the scene's name and size, or its place with gdal_edit.py",
            )
        return fitting
    near = {
        number for number, scene in enumerate(scenes)
        if shapely.intersects(
            shapely.union_all(reproject(np.array([_corners(mask)]), mask.crs, scene.crs)[0]), outline(scene)
        )
    }  # fmt: skip
    return near & named or near


def _namesakes(stem: str, scenes: Sequence[str]) -> set[int]:
    """Scenes whose name a mask has: it holds every word of it that not all scenes have."""
    words = [_words(name) for name in scenes]
    common = set(words[0]).intersection(*words[1:]) if len(words) > 1 else set()
    mask = set(_words(stem))
    best: tuple[int, set[int]] = (0, set())
    for number, all_words in enumerate(words):
        own = set(all_words) - common
        if own and own <= mask and len(own) >= best[0]:
            best = (len(own), best[1] | {number} if len(own) == best[0] else {number})
    return best[1]


def _words(stem: str) -> list[str]:
    return re.findall(r"[^\W_]+", stem.casefold())


def _corners(mask: MaskFile) -> shapely.Polygon:
    assert mask.transform is not None, "asked only of masks with a place"
    a, b, c, d, e, f = mask.transform
    height, width = mask.shape
    at = ((0, 0), (width, 0), (width, height), (0, height))
    return shapely.Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in at])


# ------------------------------------------------------------------------------------------- classes


def _table(
    masks: Sequence[MaskFile], names: Sequence[str] | Mapping[str, str], ignore: Sequence[int] | None
) -> tuple[dict[int, str], set[int]]:
    """Names by value, in the order of the values, and the values that are ignored without a word."""
    missing = {int(mask.nodata) for mask in masks if mask.nodata is not None and np.isfinite(mask.nodata)}
    table = _given(names)
    ignored = set(ignore) if ignore is not None else ({HIDDEN} | missing) - table.keys()
    both = sorted(ignored & table.keys())
    if both:
        raise DataError(
            f"the value {both[0]} is the class '{table[both[0]]}' and in `ignore_values`",
            fix="take it out of one of them",
        )
    if not table:
        present = {value for mask in masks for value in mask.counts}
        said = {value: name for mask in masks for value, name in mask.names.items()}
        if ignore is None:
            ignored -= missing & said.keys()
        table = {value: said.get(value, str(value)) for value in sorted(present - ignored)}
        if len(table) == 1 and missing & present & ignored:
            value, only = min(missing & present & ignored), next(iter(table))
            raise DataError(
                f"{masks[0].path} holds one class ({only}), as it calls {value} its nodata",
                fix=f"if {value} is a class, name both, e.g. `class_names: {{{value}: background, {only}: water}}`",
            )
    else:
        ignored |= missing - table.keys()
    repeated = {name for name in table.values() if list(table.values()).count(name) > 1}
    if repeated:
        raise DataError(f"class_names: '{min(repeated)}' is named twice", fix="give each class a name of its own")
    if not table:
        raise DataError("the masks hold no value that is a class", fix="set `class_names` or `ignore_values`")
    return dict(sorted(table.items())), ignored


def _given(names: Sequence[str] | Mapping[str, str]) -> dict[int, str]:
    if not isinstance(names, Mapping):
        return dict(enumerate(names))
    for key in names:
        if not str(key).lstrip("-").isdigit():
            raise DataError(
                f"class_names: '{key}' is no value of a mask{closest(str(key), [])}",
                fix="map values to names, e.g. {0: background, 1: water}",
            )
    return {int(key): name for key, name in names.items()}
