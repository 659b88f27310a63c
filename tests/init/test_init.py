"""From scenes and labels to a configuration: what is found out, what is chosen, and that it works."""

import os
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from typer.testing import CliRunner

from adapteo import cli, config
from adapteo.data.survey import Survey
from adapteo.errors import DataError
from adapteo.init import Request, init

CRS = "EPSG:32632"
LEFT, TOP = 500_000.0, 5_700_000.0
RGBN = ("blue", "green", "red", "nir08")


def write_scene(
    path, names=RGBN, *, shift=0, dtype="uint16", level=800, band_tags=(), nodata=None, gsd=10.0, crs=CRS, **tags
):
    """96 x 96 pixels of noise around a level; the values of each band differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(shift).normal(level, abs(level) / 4, (len(names), 96, 96))
    values = np.clip(noise, 0, np.iinfo(dtype).max) if "u" in dtype else noise
    place = Affine(gsd, 0, LEFT + 960 * shift, 0, -gsd, TOP)
    options = {"width": 96, "height": 96, "count": len(names), "dtype": dtype, "crs": crs, "transform": place}
    with rasterio.open(path, "w", driver="GTiff", nodata=nodata, **options) as file:
        file.write(values.astype(dtype))
        file.descriptions = names
        file.update_tags(**tags)
        for i, more in enumerate(band_tags, start=1):
            file.update_tags(i, **more)
    return path


def write_labels(path, geometry="point", step=4, gsd=10.0, **columns):
    """A label every few pixels, whose class changes every 4 of them."""
    at = [(row, col) for row in range(2, 96, step) for col in range(2, 96, step)]
    kind = [("forest", "meadow", "water")[(col // 16) % 3] for _, col in at]
    xy = [(LEFT + gsd * (col + 0.5), TOP - gsd * (row + 0.5)) for row, col in at]
    shapes = shapely.points(xy)
    if geometry == "polygon":
        shapes = shapely.buffer(shapes, 12, quad_segs=1)
    if geometry == "line":
        shapes = np.array([shapely.LineString([(x - 8, y), (x + 8, y)]) for x, y in xy])
    extra = {name: [make(i) for i in range(len(at))] for name, make in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    gpd.GeoDataFrame({"kind": kind, **extra}, geometry=shapes, crs=CRS).to_file(path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(here, images=("scenes/*.tif",), labels=("labels.gpkg",), folder="burn", **said):
    return init(Request(Path(folder), tuple(images), tuple(labels), **said))


def dataset(started):
    """Of the written file, through the strict loader."""
    return config.load(started.path).dataset


def test_the_configuration_is_what_was_found_and_loads(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg", measured=lambda i: i + 0.5)
    started = start(here)
    run = config.load(started.path)
    found = run.dataset
    assert isinstance(found, Survey)
    assert (Path(found.root).resolve(), found.scenes, found.labels) == (here, "scenes/*.tif", "labels.gpkg")
    assert (found.class_column, found.classes) == ("kind", ("forest", "meadow", "water"))
    assert (found.bands, found.scale, found.offset, found.point_radius) == (RGBN, 1e-4, None, 1.5)
    assert (config.name_of(run.backbone), config.name_of(run.method)) == ("nano", "lora")
    assert found.chip % 4 == 0
    assert all(found.split(name) for name in ("train", "val", "test"))
    assert run.out == here / "burn" / "run"
    assert found.read(found.split("train")[0]).image.shape == (1, 4, found.chip, found.chip)


def test_the_file_holds_only_what_differs_from_the_defaults(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg", "polygon")
    text = start(here).path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 25
    keys = {line.split(":")[0].strip() for line in text.splitlines() if not line.startswith("#")}
    assert not keys & {"offset", "nodata", "layer", "sensor", "band_names", "point_radius", "line_width", "out"}


@pytest.mark.parametrize("folder", ["Brände im Süden", "a: #b", "it's", "deep/er/burn"])
def test_names_and_places_do_not_matter(here, folder, monkeypatch):
    write_scene(here / "Daten ä/scenes/ein Bild.tif")
    write_labels(here / "Daten ä/labels [1].gpkg")
    images, labels = "Daten ä/scenes/*.tif", "Daten ä/labels [1].gpkg"
    if folder == "deep/er/burn":
        (here / "deep/er").mkdir(parents=True)
    started = start(here, [images], [labels], folder)
    path = started.path.resolve()
    monkeypatch.chdir("/")
    found = config.load(path).dataset
    assert Path(found.root).resolve() == here / "Daten ä"
    assert len(found.split("train")) == len(started.survey.split("train"))


def test_data_and_project_in_one_folder_can_be_moved_together(here):
    write_scene(here / "one/scenes/a.tif")
    write_labels(here / "one/labels.gpkg")
    started = start(here, ["one/scenes/a.tif"], ["one/labels.gpkg"], "one/burn")
    assert "\n  root: .. " in started.text
    (here / "one").rename(here / "two")
    assert config.load(here / "two/burn").dataset.split("train")


def test_called_in_the_project_itself(here, monkeypatch):
    write_scene(here / "burn/scenes/a.tif")
    write_labels(here / "burn/labels.gpkg")
    monkeypatch.chdir(here / "burn")
    started = start(here, folder=".")
    assert Path(config.load(".").dataset.root).resolve() == here / "burn"
    assert started.path.resolve() == here / "burn/adapteo.yaml"


# ---------------------------------------------------------------------------------------------- bands


@pytest.mark.parametrize(
    ("file", "names", "expected"),
    [
        ("a.tif", ("B2", "B3", "B4", "B8A"), ("blue", "green", "red", "nir08")),
        ("S2A_MSIL2A_20220101.tif", ("B02", "B03", "B04", "B06"), ("blue", "green", "red", "rededge075")),
        ("HLS.L30.T32UQC.tif", ("B02", "B03", "B04", "B05"), ("blue", "green", "red", "nir08")),
        ("LC08_L2SP_193024.tif", ("SR_B2", "SR_B3", "SR_B4", "SR_B5"), ("blue", "green", "red", "nir08")),
        ("ten metres.tif", ("B2", "B3", "B4", "B8"), ("blue", "green", "red", "nir")),
    ],
)
def test_bands_by_their_names_and_the_files_name(here, file, names, expected):
    write_scene(here / "scenes" / file, names, level=9000 if "LC08" in file else 800)
    write_labels(here / "labels.gpkg")
    assert dataset(start(here)).bands == expected


def test_the_sensor_by_a_tag(here):
    write_scene(here / "scenes/a.tif", ("B2", "B3", "B4", "B5"), SPACECRAFT_NAME="Sentinel-2B")
    write_labels(here / "labels.gpkg")
    assert dataset(start(here)).bands[-1] == "rededge071"


@pytest.mark.parametrize("tag", ["wavelength", "CENTRAL_WAVELENGTH_UM"])
def test_bands_by_wavelength(here, tag):
    centres = (0.49, 0.56, 0.665, 1.61)
    tags = [{tag: f"{um * 1000:g}" if tag == "wavelength" else f"{um:g}"} for um in centres]
    write_scene(here / "scenes/a.tif", ("1", "2", "3", "4"), band_tags=tags)
    write_labels(here / "labels.gpkg")
    assert dataset(start(here)).bands == ("blue", "green", "red", "swir16")


def test_bands_as_they_are_given(here):
    write_scene(here / "scenes/a.tif", (None,) * 4)
    write_labels(here / "labels.gpkg")
    given = ("B04", "B03", "B02", "B11")
    assert dataset(start(here, bands=given, sensor="sentinel2")).bands == ("red", "green", "blue", "swir16")


# --------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("options", "scale", "offset"),
    [
        ({"level": 1500}, 1e-4, None),
        ({"level": 0.15, "dtype": "float32"}, None, None),
        ({"level": 1500, "dtype": "float32"}, 1e-4, None),
        ({"level": 100, "dtype": "uint8"}, 1 / 255, None),
        ({"level": 15000, "PLATFORM": "Landsat-8"}, 2.75e-5, -0.2),
        ({"level": 1500, "PLATFORM": "Sentinel-2A"}, 1e-4, "auto"),
    ],
)
def test_scale_and_offset(here, options, scale, offset):
    write_scene(here / "scenes/a.tif", **options)
    write_labels(here / "labels.gpkg")
    found = dataset(start(here))
    assert (found.scale, found.offset) == (scale if scale is None else pytest.approx(scale), offset)


def test_a_scale_that_the_file_declares(here):
    path = write_scene(here / "scenes/a.tif", level=700)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (2e-4,) * 4, (-0.05,) * 4
    write_labels(here / "labels.gpkg")
    found = dataset(start(here))
    assert (found.scale, found.offset) == (None, None)
    assert np.nanmedian(found.read(found.split("train")[0]).image) == pytest.approx(0.09, abs=0.01)


def test_nodata_that_no_file_declares(here):
    path = write_scene(here / "scenes/a.tif", level=1500)
    with rasterio.open(path, "r+") as file:
        values = file.read()
        values[:, :, 90:] = 0
        file.write(values)
    write_labels(here / "labels.gpkg")
    assert dataset(start(here)).nodata == 0
    with rasterio.open(path, "r+") as file:
        file.nodata = 0
    assert dataset(start(here, overwrite=True)).nodata is None


def test_given_values_are_taken(here):
    write_scene(here / "scenes/a.tif", level=1500)
    write_labels(here / "labels.gpkg")
    found = dataset(start(here, scale=2e-4, offset=-0.1, nodata=7.0))
    assert (found.scale, found.offset, found.nodata) == (2e-4, -0.1, 7.0)


# --------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("form", ["gpkg", "geojson", "shp", "fgb"])
def test_vector_files(here, form):
    write_scene(here / "scenes/a.tif")
    write_labels(here / f"labels.{form}", "polygon")
    found = dataset(start(here, labels=[f"labels.{form}"]))
    assert found.classes == ("forest", "meadow", "water")
    assert found.point_radius == 0


def test_lines_with_a_width(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg", "line")
    assert dataset(start(here, line_width=12.0)).line_width == 12.0


def test_masks(here):
    write_scene(here / "scenes/a.tif")
    values = np.repeat(np.arange(96) // 16 % 3, 96).reshape(96, 96).T.astype(np.uint8)
    (here / "masks").mkdir()
    options = {"width": 96, "height": 96, "count": 1, "dtype": "uint8", "crs": CRS}
    with rasterio.open(
        here / "masks/a.tif", "w", driver="GTiff", transform=Affine(10, 0, LEFT, 0, -10, TOP), **options
    ) as file:
        file.write(values, 1)
    started = start(here, labels=["masks"])
    found = dataset(started)
    assert len(found.classes) == 3
    assert sum(started.labels.classes.values()) == 96 * 96
    assert found.split("train")


# ---------------------------------------------------------------------------------------------- model


def test_a_backbone_as_it_is_asked_for(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg")
    run = config.load(start(here, backbone="prithvi/2.0-tiny-TL").path)
    assert (config.name_of(run.backbone), run.backbone.variant) == ("prithvi", "2.0-tiny-TL")
    assert run.dataset.chip % 16 == 0
    run = config.load(start(here, backbone="prithvi", overwrite=True).path)
    assert run.backbone == type(run.backbone)()
    run = config.load(start(here, backbone="unet", method="full", overwrite=True).path)
    assert config.name_of(run.method) == "full"


def test_every_line_that_is_offered_instead_loads(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg")
    started = start(here)
    offered = [line[2:] for line in started.text.splitlines() if line.startswith("# backbone: ")]
    assert len(offered) == len(started.others) >= 2
    kept = [line for line in started.text.splitlines() if not line.startswith("backbone:")]
    for line in offered:
        started.path.write_text("\n".join([*kept, line]), encoding="utf-8")
        assert config.name_of(config.load(started.path).backbone) != "nano"


def test_radar_gets_a_backbone_that_knows_it(here):
    write_scene(here / "scenes/a.tif", ("vv", "vh"), dtype="float32", level=-12.0)
    write_labels(here / "labels.gpkg")
    started = start(here)
    assert {"vv", "vh"} <= set(started.model.known)
    assert started.model.backbone != "nano"


# -------------------------------------------------------------------------------------------- command


def test_the_command_tells_what_it_found(here):
    write_scene(here / "scenes/a_20220711.tif")
    write_scene(here / "scenes/b.tif", shift=1)
    write_labels(here / "labels.gpkg")
    result = CliRunner().invoke(
        cli.app,
        ["init", "burn", "--images", "scenes/a_20220711.tif", "--labels", "labels.gpkg", "scenes/b.tif"],
        env={"COLUMNS": "200"},
    )
    assert result.exit_code == 0, result.output
    for said in ("a_20220711", "2022-07-11", "UTM zone 32N", "blue, green, red, nir08", "576 points", "meadow", "nano"):
        assert said in result.output, said
    assert "wrote burn/adapteo.yaml" in result.output
    assert config.load("burn").dataset.scenes == "scenes/*.tif"


def test_no_torch(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg")
    code = (
        "import sys; from adapteo.cli import app\n"
        "app(['init', 'burn', '--images', 'scenes/*.tif', '--labels', 'labels.gpkg'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_masks_from_a_pattern_without_quotes(here):
    for name in "ab":
        path = write_scene(here / f"scenes/{name}.tif", shift="ab".index(name))
        with rasterio.open(path) as scene:
            options = {**scene.profile, "count": 1, "dtype": "uint8"}
        (here / "masks").mkdir(exist_ok=True)
        with rasterio.open(here / f"masks/{name}.tif", "w", **options) as file:
            file.write(np.arange(96, dtype=np.uint8).repeat(96).reshape(1, 96, 96) // 24)
    arguments = ["--images", "scenes/a.tif", "scenes/b.tif", "--labels", "masks/a.tif", "masks/b.tif"]
    result = CliRunner().invoke(cli.app, ["init", "burn", *arguments])
    assert result.exit_code == 0, result.output
    found = config.load("burn").dataset
    assert (found.scenes, found.labels) == ("scenes/*.tif", "masks/*.tif")


def test_rare_classes_are_seen_more_often(here):
    write_scene(here / "scenes/a.tif")
    path = write_labels(here / "labels.gpkg", "polygon")
    table = gpd.read_file(path)
    assert dataset(start(here)).balance is None
    table[(table["kind"] != "water") | (table.index % 24 == 8)].to_file(path)
    assert dataset(start(here, overwrite=True)).balance == "classes"


def test_a_product_says_itself_what_it_holds(here):
    """One file per band, of two pixel sizes, as Harmonized Landsat Sentinel-2 delivers them."""
    folder = here / "HLS.S30.T32UNB.2022192T103041.v2.0"
    folder.mkdir()
    for i, band in enumerate(("B02", "B03", "B04", "B8A", "B11", "B12")):
        path = write_scene(
            folder / f"{folder.name}.{band}.tif", (band,), dtype="int16", level=600 + 100 * i, nodata=-9999
        )
        with rasterio.open(path, "r+") as file:
            file.scales = (1e-4,)
    write_labels(here / "labels.gpkg")
    started = start(here, images=[folder.name])
    found = dataset(started)
    assert sorted(found.bands) == ["blue", "green", "nir08", "red", "swir16", "swir22"]
    assert (found.scale, found.offset, found.band_names) == (None, None, ())
    assert started.bands.sensor == "hls_s30"
    assert len(started.model.known) == 6
    assert np.nanmedian(found.read(found.split("train")[0]).image[0, 0]) == pytest.approx(0.06, abs=0.01)


def test_dates_of_one_place(here):
    for day in ("20220501", "20220701", "20220901"):
        write_scene(here / f"scenes/field_{day}.tif")
    write_labels(here / "labels.gpkg")
    started = start(here, frames=3)
    found = dataset(started)
    assert found.frames == 3
    assert found.read(found.split("train")[0]).image.shape[0] == 3
    assert all(model.entry.frames >= 3 for model in (started.model, *started.others))


@pytest.mark.parametrize(
    ("names", "said", "written"),
    [
        (RGBN * 3, {}, ""),
        (tuple(f"{i}_{name}" for i in range(3) for name in RGBN), {}, ""),
        ((None,) * 12, {"bands": RGBN, "frames": 3}, "band_names: [blue, green, red, nir08]"),
        ((None,) * 12, {"bands": RGBN, "dates_per_file": 3}, "band_names: [blue, green, red, nir08]"),
        (
            RGBN * 3,
            {"dates": ("2022-05-01", "2022-07-01", "2022-09-01")},
            "dates: [2022-05-01, 2022-07-01, 2022-09-01]",
        ),
    ],
)
def test_dates_that_one_file_stacks(here, names, said, written):
    """As in multi-temporal chips of HLS: 18 bands are 3 dates of 6 bands."""
    write_scene(here / "scenes/a.tif", names)
    write_labels(here / "labels.gpkg")
    started = start(here, **said)
    assert "\n  dates_per_file: 3 " in started.text
    assert "  frames:" not in started.text
    assert written in started.text
    found = dataset(started)
    assert (found.bands, found.frames) == (RGBN, 3)
    sample = found.read(found.split("train")[0])
    assert sample.image.shape[:2] == (3, 4)
    assert np.isnan(sample.dates).any() == ("dates" not in said)
    assert all(model.entry.frames >= 3 for model in (started.model, *started.others))


def test_the_command_tells_of_dates_in_a_file(here):
    write_scene(here / "scenes/a_20220501_20220901.tif", RGBN * 2)
    write_labels(here / "labels.gpkg")
    result = CliRunner().invoke(
        cli.app, ["init", "burn", "--images", "scenes", "--labels", "labels.gpkg"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert "dates: 2 in each file, one after the other: 2022-05-01, 2022-09-01" in result.output
    assert "2022-05-01 … 2022-09-01" in result.output


def test_masks_without_names_get_a_line_to_name_them(here):
    path = write_scene(here / "scenes/a.tif")
    with rasterio.open(path) as scene:
        options = {**scene.profile, "count": 1, "dtype": "uint8"}
    with rasterio.open(here / "mask.tif", "w", **options) as file:
        file.write(np.arange(96, dtype=np.uint8).repeat(96).reshape(1, 96, 96) // 32)
    started = start(here, labels=["mask.tif"])
    assert dataset(started).classes == ("0", "1", "2")
    (line,) = (line for line in started.text.splitlines() if line.startswith("#  class_names"))
    text = started.text.replace(line, line[1:].replace("class 1", "water"))
    started.path.write_text(text, encoding="utf-8")
    assert config.load(started.path).dataset.classes == ("class 0", "water", "class 2")


def test_values_below_zero_are_no_class(here):
    path = write_scene(here / "scenes/a.tif")
    with rasterio.open(path) as scene:
        options = {**scene.profile, "count": 1, "dtype": "int16"}
    (here / "masks").mkdir()
    with rasterio.open(here / "masks/a.tif", "w", **options) as file:
        file.write(np.arange(96, dtype=np.int16).repeat(96).reshape(1, 96, 96) // 24 - 1)
    found = dataset(start(here, labels=["masks"]))
    assert found.classes == ("0", "1", "2")
    assert found.ignore_values == (-1, 255)


def test_a_decoder_for_points_treats_all_pixels_of_a_patch_alike(here):
    """Points lie on few of a patch's pixels; weights of their own would draw a lattice in the map."""
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg")
    assert "decoder: {name: linear, upsampling: 1}" in start(here).path.read_text(encoding="utf-8")
    write_labels(here / "labels.gpkg", "polygon", step=12)
    assert "decoder: linear " in start(here, overwrite=True).path.read_text(encoding="utf-8")


def test_labels_whose_file_does_not_say_where_they_are(here):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.shp", "polygon")
    (here / "labels.prj").unlink()
    with pytest.raises(DataError, match="coordinate system"):
        start(here, labels=("labels.shp",))
    found = dataset(start(here, labels=("labels.shp",), labels_crs=CRS))
    assert found.labels_crs == CRS
    assert found.split("train")


@pytest.mark.parametrize(("by", "kept"), [("part", "region"), ("random", "random")])
def test_what_is_kept_together_in_a_split(here, by, kept):
    write_scene(here / "scenes/a.tif")
    write_labels(here / "labels.gpkg", part=lambda i: "abcdefghi"[i // 192 * 3 + i % 24 // 8])  # squares
    found = dataset(start(here, class_column="kind", split_by=by))
    assert found.splits.by == kept
    assert found.splits.column == ("part" if kept == "region" else "")
    assert all(found.split(name) for name in ("train", "val", "test"))


def test_scenes_of_two_zones_with_the_same_labels_are_split_by_scene(here):
    write_scene(here / "scenes/a.tif")
    for number in range(1, 4):
        write_scene(here / f"scenes/far{number}.tif", shift=2 * number)
    write_scene(here / "scenes/b.tif", gsd=10.5)  # another grid of the same place
    drawn = [gpd.read_file(write_labels(here / "one.gpkg", "polygon")) for _ in range(4)]
    moved = [each.translate(xoff=1920 * number) for number, each in enumerate(drawn)]
    kinds = np.concatenate([each["kind"] for each in drawn])
    gpd.GeoDataFrame({"kind": kinds}, geometry=np.concatenate([m.values for m in moved]), crs=CRS).to_file(
        here / "labels.gpkg"
    )
    with pytest.raises(DataError, match="by: scene"):
        start(here)
    found = dataset(start(here, split_by="scene"))
    parts = [{key.split("/")[0] for key in found.split(name)} for name in ("train", "val", "test")]
    assert sum({"a", "b"} <= part for part in parts) == 1
    assert not any(one & other for one, other in zip(parts, parts[1:] + parts[:1], strict=True))
