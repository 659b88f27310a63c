"""What people bring that is not what they think: each input gets a few lines with the file and the remedy.

Each runs through the commands that a person types. An error has code 2 and at most five lines; a finding of
`adapteo check` has code 1 when it stops `adapteo fit`. No command leaves half a file or changes one that was there.
"""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from typer.testing import CliRunner

from adapteo import cli
from broken_inputs import (
    GSD,
    KINDS,
    OUTLINES,
    Breaker,
    around_the_world,
    as_folder,
    bow_tie,
    cut,
    draw,
    every_fifth,
    everywhere,
    half_a_database,
    healthy,
    holding,
    inside,
    labels_as,
    masks,
    no_layers,
    picture,
    placed,
    scene,
    table,
    write,
    yaml,
    yaml_is,
)

INIT = ("init", "new", "--images", "scenes/*.tif", "--labels")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A healthy session with a finished run and a map."""
    folder = tmp_path_factory.mktemp("session")
    healthy(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ADAPTEO_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        assert run("init", "burn", *INIT[2:], "labels.gpkg").exit_code == 0
        yaml("chip: 32", "chip: 16")(folder)
        assert run("fit", "burn", "method=frozen", "train.epochs=1", "dataset.stride=null").exit_code == 0
        assert run("predict", "burn", "new.tif", "--out", "map.tif").exit_code == 0
    return folder


@pytest.fixture
def here(session, tmp_path, monkeypatch):
    """A copy of the session as the current folder."""
    shutil.copytree(session, tmp_path / "work", ignore=shutil.ignore_patterns("state.pt", "*.png"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run(*args):
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert "Traceback" not in result.output
    assert "bug in adapteo" not in result.output
    return result


def content(folder):
    """All files, and what is in them."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(*args, words, names=""):
    """An error of code 2 with a file and a remedy in at most five lines; nothing is written or changed."""
    before = content(Path())
    result = run(*args)
    assert result.exit_code == 2, f"{args}: {result.output}"
    lines = result.stderr.strip().splitlines()
    assert 2 <= len(lines) <= 5, result.stderr
    assert words in result.stderr
    assert names in result.stderr
    assert content(Path()) == before
    return result.stderr


def found(words, names):
    """A finding of `adapteo check`; given as "FAIL scale: words"; a FAIL stops `adapteo fit` with the same words."""
    level, name, problem = words.replace(": ", " ", 1).split(" ", 2)
    before = content(Path())
    result = run("check", "burn", "--json")
    fits = [
        finding
        for finding in json.loads(result.stdout)["findings"]
        if (finding["level"], finding["name"]) == (level, name) and problem in finding["problem"]
    ]
    assert fits, run("check", "burn").stdout
    finding = fits[0]
    assert finding["effect"]
    assert finding["change"]
    assert names in finding["path"] + finding["problem"]
    shown = run("check", "burn").stdout
    assert f"{level:<6}{name}" in shown
    assert result.exit_code == int('"level": "FAIL"' in result.stdout)
    if level == "FAIL":
        refused("fit", "burn", "out=other", words="adapteo check burn")
    assert content(Path()) == before


@dataclass(frozen=True)
class Case:
    """What the commands say; None for a command that has nothing to say, and is then not run."""

    breaker: Breaker
    init: str | None = None
    check: str | None = None
    predict: str | None = None
    tells: str | None = None
    """Words of `adapteo predict` that maps all the same."""


BLACK = "as good as black"
NO_BANDS = "does not say which bands it has: taken as --bands blue,green,red,nir08"
UNREADABLE = "is not an image that can be read"
SCENES = {
    "no coordinate system": Case(
        scene(crs=None), "does not say where it lies", "FAIL alignment: does not say where it lies"
    ),
    "wrong coordinate system": Case(scene(crs="EPSG:32733"), check="WARN missed: 64 labels of 128"),
    "swapped axes": Case(
        placed(lambda t: Affine(0, t.e, t.f, t.a, 0, t.c)), check="FAIL missed: only with x and y exchanged"
    ),
    "rotated": Case(
        placed(lambda t: t @ Affine.rotation(20)), "on different grids of pixels", "WARN alignment: rotated pixels"
    ),
    "upside down": Case(
        placed(lambda t: Affine(t.a, 0, t.c, 0, -t.e, t.f + 96 * t.e)), check="WARN alignment: from south to north"
    ),
    "pixels of no size": Case(placed(lambda t: Affine(0, 0, t.c, 0, 0, t.f)), "pixels of 0 m", "FAIL alignment: 0 m"),
    "in degrees": Case(
        scene(crs="EPSG:4326", place=Affine(1e-4, 0, 9.01, 0, -1e-4, 51.4)), "pixels of", "FAIL alignment: pixels of"
    ),
    "on the antimeridian": Case(
        scene(crs="EPSG:4326", place=Affine(1e-4, 0, 179.995, 0, -1e-4, 51.4)), "pixels", "FAIL alignment: pixels of"
    ),
    "another type": Case(scene(lambda v: v.astype(np.float32)), check="WARN dtypes: uint16, float32"),
    "complex numbers": Case(
        scene(lambda v: v.astype(np.complex64)),
        "holds complex numbers", "FAIL bands: holds complex numbers", "holds complex numbers",
    ),
    "another order of bands": Case(
        scene(lambda v: v[::-1] * [[[1]], [[2]], [[3]], [[4]]], names=None), check="WARN bands: without band names",
        tells=NO_BANDS,
    ),
    "a band missing": Case(
        scene(lambda v: v[:3], names=("blue", "green", "red")),
        "has 3 bands, a.tif has 4", "FAIL alignment: has 3 bands, a.tif has 4", "cannot find nir08 in new.tif",
    ),
    "16 bands": Case(
        scene(lambda v: np.concatenate([v] * 4), names=None),
        "has 16 bands, a.tif has 4", "FAIL alignment: has 16 bands", "which has 16 bands",
    ),
    "names of bands that mean nothing": Case(
        scene(names=("one", "two", "three", "four")), "has no band 'blue'", "FAIL alignment: has no band 'blue'",
        tells=NO_BANDS,
    ),
    "one band twice": Case(
        scene(names=("blue", "blue", "red", "nir08")), "has no band 'green'", "FAIL alignment: has no band 'green'",
        tells=NO_BANDS,
    ),
    "all nodata": Case(
        scene(lambda v: v * 0, nodata=0), check="FAIL blank: no pixel that is not missing",
        tells="every pixel that was looked at is missing",
    ),
    "all NaN": Case(
        scene(everywhere(np.nan)), check="FAIL blank: no pixel that is not missing",
        tells="every pixel that was looked at is missing",
    ),
    "infinite": Case(scene(inside(np.inf)), check="WARN missing: 6,400 infinite values"),
    "constant": Case(scene(everywhere(1200)), check="FAIL blank: the same value everywhere"),
    "empty": Case(holding(b""), "is empty (0 bytes)", "FAIL alignment: is empty (0 bytes)", "is empty (0 bytes)"),
    "broken off": Case(cut(0.5), "cannot read", "FAIL bands: cannot read", "cannot read"),
    "broken off in the header": Case(cut(0.002), "cannot read", "FAIL alignment: cannot read", "cannot read"),
    "text": Case(holding(b"no image"), UNREADABLE, f"FAIL alignment: {UNREADABLE}", UNREADABLE),
    "a JPEG called .tif": Case(
        picture("JPEG"), "does not say where it lies", "FAIL alignment: does not say where it lies", "cannot find nir08"
    ),
    "a PNG called .tif": Case(
        picture("PNG"), "does not say where it lies", "FAIL alignment: does not say where it lies", "cannot find nir08"
    ),
    "a folder called .tif": Case(as_folder, check="WARN missed: 64 labels of 128", predict="is an empty folder"),
    "smaller than a window": Case(scene(lambda v: v[:, :10, :12]), check="WARN small: smallest b: 12 x 10"),
    "one pixel": Case(scene(lambda v: v[:, :1, :1]), check="WARN small: smallest b: 1 x 1"),
    "reflectance among whole numbers": Case(
        scene(lambda v: (v / 1e4).astype(np.float32)), check="FAIL dtypes: values of another size", predict=BLACK
    ),
    "10,000 times too large": Case(
        scene(lambda v: v * np.float32(1e4)), "their scale cannot be told", "FAIL dtypes: values of another size",
        "is not reflectance",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
def test_a_broken_scene(here, name):
    case = SCENES[name]
    case.breaker(here / "scenes/b.tif")
    if case.init:
        said = refused(*INIT, "labels.gpkg", words=case.init)
        assert ".tif" in said
    if case.check:
        found(case.check, "labels.gpkg" if "missed" in case.check else "a" if "dtypes" in case.check else "b")
    if case.predict or case.tells:
        case.breaker(here / "new.tif")
    if case.predict:
        refused("predict", "burn", "new.tif", "--out", "map.tif", words=case.predict, names="new.tif")
    if case.tells:
        result = run("predict", "burn", "new.tif", "--out", "map.tif")
        assert result.exit_code == 0
        assert case.tells in " ".join(result.stderr.split())
        assert "new.tif" in result.stderr


LABELS = {
    "no coordinate system": Case(
        draw(crs=None), "does not say its coordinate system", "FAIL alignment: does not say its coordinate system"
    ),
    "wrong coordinate system": Case(
        draw(crs="EPSG:32633"), "none of its 128 labels lies in", "FAIL balance: none of its 128 labels"
    ),
    "metres that say degrees": Case(draw(crs="EPSG:4326"), "are no degrees", "FAIL alignment: are no degrees"),
    "swapped axes": Case(
        draw(shapely.transform(OUTLINES, lambda xy: xy[:, ::-1])),
        "with x and y exchanged they lie in", "FAIL balance: with x and y exchanged",
    ),
    "outside all scenes": Case(
        draw(shapely.transform(OUTLINES, lambda xy: xy + 1e5)), "none of its 128 labels lies in", "FAIL balance: none"
    ),
    "smaller than a pixel": Case(
        draw(shapely.buffer(shapely.centroid(OUTLINES), 1)), "cover the middle of no pixel", "FAIL balance: no pixel"
    ),
    "column missing": Case(draw(name=KINDS), check="FAIL alignment: has no column 'kind'"),
    "column misspelt": Case(draw(Kind_=KINDS), check="FAIL alignment: did you mean 'Kind_'?"),
    "column of measurements": Case(
        draw(kind=np.linspace(0, 1, len(KINDS))), "which column holds the class?", "FAIL alignment: holds measurements"
    ),
    "column with None": Case(
        draw(kind=[None if i % 4 == 0 else kind for i, kind in enumerate(KINDS)]),
        check="WARN classes: 32 features without a class",
    ),
    "column of None": Case(
        draw(kind=[None] * len(KINDS)), "has nothing in its columns", "FAIL alignment: column 'kind' is empty"
    ),
    "class in another case": Case(
        draw(kind=["Burnt " if i == 1 else kind for i, kind in enumerate(KINDS)]),
        check="WARN classes: written in different ways: 'Burnt', 'burnt'",
    ),
    "a single class": Case(
        draw(kind=["burnt"] * len(KINDS)), "add --class-column", "FAIL classes: there is one class, 'burnt'"
    ),
    "a single feature": Case(draw(OUTLINES[:1]), "add --class-column", "FAIL classes: there is one class"),
    "no features": Case(draw(OUTLINES[:0]), "has nothing in its columns", "FAIL alignment: column 'kind' is empty"),
    "empty geometries": Case(
        every_fifth(lambda _: shapely.Polygon()), check="WARN polygons: 26 features without a geometry"
    ),
    "no geometries": Case(every_fifth(lambda _: None), check="WARN polygons: 26 features without a geometry"),
    "edges that cross": Case(every_fifth(bow_tie), check="WARN polygons: 26 invalid geometries repaired"),
    "infinite coordinates": Case(
        draw([shapely.Point(np.inf, 0), *OUTLINES[1:]]), check="WARN polygons: coordinates that are no finite numbers"
    ),
    "around the world": Case(
        draw(around_the_world(), crs="EPSG:4326"), check="WARN missed: 1 label of 128"
    ),
    "one over the other": Case(
        draw([*OUTLINES, *OUTLINES[:20]], kind=[*KINDS, *["burnt" if k != "burnt" else "unburnt" for k in KINDS[:20]]]),
        check="WARN polygons: the geometry of an earlier one and another class",
    ),
    "text": Case(labels_as(b"hello"), "is no vector file", "FAIL alignment: is no vector file"),
    "empty": Case(labels_as(b""), "is empty (0 bytes)", "FAIL alignment: is empty (0 bytes)"),
    "no layers": Case(no_layers, "cannot read", "FAIL alignment: cannot read"),
    "half a GeoPackage": Case(half_a_database, "cannot read", "FAIL alignment: cannot read"),
    "half a GeoJSON": Case(
        labels_as(b'{"type":"FeatureCollection","features":[{"ty', "labels.geojson"), "cannot read",
        "FAIL alignment: cannot read",
    ),
    "a Shapefile without its parts": Case(
        labels_as(b"\0\0\x27\x0a" + bytes(96), "labels.shp"), "lacks its .shx file", "FAIL alignment: lacks its .shx"
    ),
    "CSV without coordinates": Case(
        table("number,kind", lambda x, y, kind: f"1,{kind}"), "has no columns of coordinates",
        "FAIL alignment: has no columns of coordinates",
    ),
    "CSV with x, y of no system": Case(
        table("x,y,kind", lambda x, y, kind: f"{1e4 * x},{1e4 * y},{kind}"), "does not say its coordinate system",
        "FAIL alignment: does not say its coordinate system",
    ),
    "CSV with latitude and longitude exchanged": Case(
        table("longitude,latitude,kind", lambda x, y, kind: f"{y},{x},{kind}"), "with x and y exchanged",
        "FAIL balance: with x and y exchanged",
    ),
    "CSV with words for numbers": Case(
        table("longitude,latitude,kind", lambda x, y, kind: f"here,there,{kind}"), "row 2: longitude 'here'",
        "FAIL alignment: is not a number",
    ),
    "CSV of Windows": Case(
        table("longitude,latitude,kind", lambda x, y, kind: f"{x},{y},{kind}ß", "latin1"), "save it as CSV in UTF-8",
        "FAIL alignment: is not a CSV file",
    ),
    "RGBA masks": Case(
        masks(lambda m: np.concatenate([m * 255, m, m, m * 0 + 255]).astype(np.uint8), photometric="RGB", alpha="YES"),
        "a picture of classes", "FAIL alignment: a picture of classes",
    ),
    "masks of fractions": Case(
        masks(lambda m: (m / 2).astype(np.float32)), "no whole numbers, e.g. 0.5", "FAIL alignment: no whole numbers"
    ),
    "masks of 255": Case(
        masks(lambda m: (m * 0 + 255).astype(np.uint8)), "no value that is a class", "FAIL alignment: no value that is"
    ),
    "masks of one class": Case(
        masks(lambda m: (m * 0 + 1).astype(np.uint8)), "hold one class only, '1'", "FAIL classes: there is one class"
    ),
    "masks of elsewhere": Case(
        masks(lambda m: np.pad(m, ((0, 0), (0, 0), (0, 9))).astype(np.uint8), at=50), "lies in a scene",
        "FAIL alignment: lies in a scene",
    ),
    "an image as mask": Case(
        masks(lambda m: np.random.default_rng(0).integers(0, 65000, m.shape).astype(np.uint16)),
        "too many for classes", "FAIL alignment: too many for classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_broken_labels(here, name):
    case = LABELS[name]
    case.breaker(here)
    file = next(path.name for path in (*here.glob("labels.*"), here / "masks") if path.exists())
    said = "masks" if file == "masks" else file
    if case.init:
        refused(*INIT, file, words=case.init, names=said)
    if case.check:
        found(case.check, "" if "one class" in case.check or "mask" in file else said)


@pytest.mark.parametrize("name", ["1-bit", "palette", "decimal commas"])
def test_labels_that_look_odd_and_are_well(here, name):
    if name == "decimal commas":
        table("longitude;latitude;kind", lambda x, y, kind: f"{x};{y};{kind}".replace(".", ","))(here)
        assert run(*INIT, "labels.csv").exit_code == 0
    else:
        masks(lambda m: m.astype(np.uint8), **({"nbits": 1} if name == "1-bit" else {}))(here)
        if name == "palette":
            for path in (here / "masks").glob("*.tif"):
                with rasterio.open(path, "r+") as file:
                    file.write_colormap(1, {0: (0, 90, 0, 255), 1: (255, 0, 0, 255)})
        assert run(*INIT, "masks").exit_code == 0
    assert run("check", "burn").exit_code == 0


# ------------------------------------------------------------------------------------ configurations

YAMLS = {
    "broken": (yaml("dataset:", "dataset: ["), "line 4: not YAML"),
    "a tab": (yaml("  scenes", "\tscenes"), "indent with spaces"),
    "of another dataset": (yaml("name: survey", "name: folder"), "dataset 'folder' has no key 'scenes'"),
    "without a name": (yaml("name: survey", "nam: survey"), "allowed: burn_scars, folder"),
    "empty": (yaml_is(b""), "adapteo.yaml is empty"),
    "a list": (yaml_is(b"- a\n"), "expected `key: value` lines"),
    "binary": (yaml_is(b"\x00\xff\xfe\x01"), "is not UTF-8 text"),
    "a misspelt key": (yaml("  chip:", "  chips:"), "did you mean 'chip'?"),
    "windows of no size": (yaml("chip: 16", "chip: 0"), "line 9: chip is 0"),
    "windows far larger than their step": (yaml("chip: 16", "chip: 960"), "each place would be in 3,600 windows"),
    "decimal comma": (yaml("scale: 0.0001", "scale: '0,0001'"), "allowed: a number"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_a_broken_configuration(here, name):
    breaker, words = YAMLS[name]
    breaker(here)
    for command in ("check", "fit"):
        assert "adapteo.yaml" in refused(command, "burn", words=words)


CONTRADICTIONS = {
    "layer": (yaml("  chip:", "  layer: other\n  chip:"), "FAIL alignment: has no layer 'other'"),
    "class names": (yaml("  chip:", "  class_names: [burnt, wet]\n  chip:"), "FAIL alignment: did you mean 'burnt'?"),
    "sensor": (yaml("  chip:", "  sensor: sentinel9\n  chip:"), "FAIL bands: did you mean 'sentinel2'?"),
    "a band": (yaml("  chip:", "  band_names: [blue, grean, red, nir08]\n  chip:"), "FAIL alignment: no band 'grean'"),
    "4 bands, 5 names": (
        yaml("  chip:", "  band_names: [blue, green, red, nir08, swir16]\n  chip:"), "FAIL alignment: names 5"
    ),
    "scale": (yaml("scale: 0.0001", "scale: 1"), "FAIL scale: times larger than nano"),
    "root": (yaml("root: ..", "root: ../nowhere"), "FAIL alignment: there is no such folder"),
    "scenes": (yaml("scenes/*.tif", "scene/*.tif"), "FAIL alignment: no file fits"),
    "labels": (yaml("labels.gpkg", "label.gpkg"), "FAIL alignment: there is no file"),
    "windows": (yaml("chip: 16", "chip: 128\n  stride: 64"), "WARN small: 2 scenes of 2 smaller than a window"),
    "duplicates": (lambda here: shutil.copy(here / "scenes/a.tif", here / "scenes/c.tif"), "FAIL duplicates: a, c"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_configuration_that_its_data_contradict(here, name):
    breaker, words = CONTRADICTIONS[name]
    text = (here / "burn/adapteo.yaml").read_text(encoding="utf-8")
    if "  stride" in text:
        lines = [line for line in text.splitlines() if not line.strip().startswith("stride")]
        (here / "burn/adapteo.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    breaker(here)
    found(words, "")


# ----------------------------------------------------------------------------------- places to write


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def denied(*_args, **_kwargs):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "adapteo.yaml")


WRITING = {
    "predict": ("predict", "burn", "new.tif", "--out", "map.tif"),
    "predict with polygons": ("predict", "burn", "new.tif", "--out", "map.tif", "--polygons", "map.gpkg"),
    "polygons": ("polygons", "map.tif", "--out", "map.gpkg"),
    "areas": ("areas", "map.tif", "--out", "areas.csv"),
    "check": ("check", "burn", "--html", "check.html"),
    "init": ("init", "burn", "--images", "scenes/*.tif", "--labels", "labels.gpkg", "--overwrite"),
    "chips": ("chips", "burn", "--out", "chips"),
}


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("failing", [full, denied], ids=["full disk", "read-only"])
def test_nothing_is_lost_where_nothing_can_be_written(here, monkeypatch, name, failing):
    """Every file is written beside its name and renamed; the last step is the one that fails here."""
    for file in ("map.gpkg", "areas.csv", "check.html"):
        (here / file).write_text("of before", encoding="utf-8")
    before = content(here)
    monkeypatch.setattr(os, "replace", failing)
    monkeypatch.setattr(Path, "replace", failing)
    monkeypatch.setattr(Path, "rename", failing)
    result = run(*WRITING[name])
    assert result.exit_code == 2, result.output
    assert 1 <= len(result.stderr.strip().splitlines()) <= 5
    after = content(here)
    assert {name: after.get(name) for name in before} == before
    left = [name for name in set(after) - set(before) if not name.startswith(".map.tif.partial")]
    assert not left, "only pieces of the map, for the next try"


OUTPUTS = {
    "a folder as project": (("fit", "scenes"), "adapteo init scenes"),
    "no project": (("check", "nowhere"), "nowhere"),
    "no run yet": (("predict", "young", "new.tif", "--out", "map.tif"), "adapteo fit young"),
    "no run": (("predict", "scenes", "new.tif", "--out", "map.tif"), "scenes"),
    "a map over its scene": (("predict", "burn", "new.tif", "--out", "new.tif"), "the map would replace the scene"),
    "a map in a file": (("predict", "burn", "new.tif", "--out", "labels.gpkg/map.tif"), "labels.gpkg"),
    "a map called .png": (("predict", "burn", "new.tif", "--out", "map.png"), "write map.tif"),
    "a scene that is not there": (("predict", "burn", "old.tif", "--out", "map.tif"), "there is no file old.tif"),
    "labels as scene": (("predict", "burn", "labels.gpkg", "--out", "map.tif"), "labels.gpkg"),
    "too few --bands": (
        ("predict", "burn", "new.tif", "--out", "map.tif", "--bands", "red,nir08"), "name every band of the file"
    ),
    "a misspelt --bands": (
        ("predict", "burn", "new.tif", "--out", "map.tif", "--bands", "blue,grean,red,nir08"), "did you mean 'green'?"
    ),
    "a wrong --sensor": (
        ("predict", "burn", "new.tif", "--out", "map.tif", "--sensor", "sentinel9"), "did you mean 'sentinel2'?"
    ),
    "a wrong --scale": (
        ("predict", "burn", "new.tif", "--out", "map.tif", "--scale", "1"), "new.tif is not reflectance"
    ),
    "project in a file": (("init", "labels.gpkg/burn", *INIT[2:], "labels.gpkg"), "labels.gpkg"),
    "project over another": (("init", "burn", *INIT[2:], "labels.gpkg"), "--overwrite"),
    "polygons of a scene": (("polygons", "new.tif", "--out", "map.gpkg"), "new.tif"),
    "polygons of labels": (("polygons", "labels.gpkg", "--out", "map.gpkg"), "labels.gpkg"),
    "areas of a scene": (("areas", "new.tif"), "new.tif"),
    "areas by a column that is not there": (
        ("areas", "map.tif", "--reference", "labels.gpkg", "--class-column", "kin"), "did you mean 'kind'?"
    ),
    "areas by samples of elsewhere": (
        ("areas", "map.tif", "--reference", "labels.gpkg", "--class-column", "kind"), "labels.gpkg"
    ),
    "areas as a picture": (("areas", "map.tif", "--out", "areas.png"), "areas.csv"),
    "chips over files": (("chips", "burn", "--out", "scenes"), "--overwrite"),
    "run of damaged weights": (("predict", "burn", "new.tif", "--out", "map.tif"), "adapter"),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_names_that_cannot_be_what_is_meant(here, name):
    (here / "young").mkdir()
    shutil.copy(here / "burn/adapteo.yaml", here / "young")
    if "damaged" in name:
        for weights in (here / "burn/run/adapter").glob("*.safetensors"):
            weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    args, words = OUTPUTS[name]
    before = content(here)
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert 1 <= len(result.stderr.strip().splitlines()) <= 5
    assert words in result.stderr
    assert content(here) == before


def test_names_with_spaces_and_letters_of_other_alphabets(here):
    (here / "Brände 2024 #1").mkdir()
    write(here / "Brände 2024 #1/сцена [1] ü.tif", at=0)
    (here / "labels.gpkg").rename(here / "étiquettes 'x'.gpkg")
    assert run("init", "Süd & Nord", "--images", "Brände 2024 #1", "--labels", "étiquettes 'x'.gpkg").exit_code == 0
    assert run("check", "Süd & Nord").exit_code == 0
    out = "Karte № 1.tif"
    done = run("predict", "burn", "Brände 2024 #1/сцена [1] ü.tif", "--out", out, "--polygons", "Karte № 1.gpkg")
    assert done.exit_code == 0, done.output
    with rasterio.open(out) as mapped:
        assert (mapped.width, mapped.transform.a) == (96, GSD)
