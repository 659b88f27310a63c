"""Coordinate systems of scenes and labels, rotated and upside-down scenes."""

from collections.abc import Iterator

from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View
from adapteo.data._projection import crs_name, same_crs
from adapteo.data._survey_scenes import SceneFile

_NAME = "alignment"


def _run(view: View) -> Iterator[Finding]:
    scenes, labels = view.scenes, view.drawn
    rotated = [scene for scene in scenes if _is_rotated(scene)]
    if rotated:
        yield Finding(
            "WARN", _NAME, some([scene.path.name for scene in rotated]),
            f"{number(len(rotated), 'scene')} of {len(scenes)} with rotated pixels (b, d of its geotransform)",
            "labels are drawn in the right place; some programs show such maps unrotated, so they seem shifted",
            f"turn it north up: `gdalwarp -r bilinear {rotated[0].path.name} north_up.tif`",
        )  # fmt: skip
    flipped = [scene for scene in scenes if not _is_rotated(scene) and _is_flipped(scene)]
    if flipped:
        yield Finding(
            "WARN", _NAME, some([scene.path.name for scene in flipped]),
            f"{number(len(flipped), 'scene')} of {len(scenes)} stored from south to north, or from east to west",
            "the model sees mirrored ground; other programs may show it upside down",
            f"turn it north up: `gdalwarp {flipped[0].path.name} north_up.tif`",
        )  # fmt: skip
    doubts = [doubt for doubt in labels.doubts if "look like degrees" in doubt] if labels else []
    for doubt in doubts:
        assert labels is not None
        yield Finding(
            "FAIL", _NAME, labels.path.name, doubt, "labels would be drawn in the wrong place",
            view.change("labels_crs", "EPSG:4326"),
        )  # fmt: skip
    if rotated or flipped or doubts:
        return
    systems = sorted({crs_name(scene.crs) for scene in scenes})
    sizes = sorted({f"{scene.gsd:.4g} m" for scene in scenes})
    said = f"{number(len(scenes), 'scene')} in {some(systems)}, pixels of {some(sizes)}"
    if labels is not None:
        moved = [scene for scene in scenes if not same_crs(scene.crs, labels.crs)]
        said += f"; labels in {crs_name(labels.crs)}" + (", moved to the scenes' system" if moved else "")
    yield Finding("OK", _NAME, "", said)


def _is_rotated(scene: SceneFile) -> bool:
    a, b, _, d, e, _ = scene.transform
    return max(abs(b), abs(d)) > 1e-6 * max(abs(a), abs(e))


def _is_flipped(scene: SceneFile) -> bool:
    return scene.transform[4] > 0 or scene.transform[0] < 0


CHECK = Check(_run, survey=True)
