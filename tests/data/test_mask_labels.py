"""Labels that are rasters, on other grids than the scenes; references are made with NumPy and pyproj alone."""

import os

import numpy as np
import pyproj
import pytest
import rasterio
from PIL import Image

from adapteo.contracts import IGNORE
from adapteo.data._mask_labels import _namesakes
from adapteo.data._survey_splits import SurveySplits
from adapteo.data.raster import Raster, write_image
from adapteo.data.survey import Survey
from adapteo.errors import AdaptEOError, ConfigError, DataError

UTM = "EPSG:32632"
LEFT, TOP, GSD = 500_000.0, 5_700_000.0, 10.0


def scene(path, size=(64, 96), at=(0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((2, *size), 500, np.uint16)
    place = (GSD, 0.0, LEFT + GSD * at[1], 0.0, -GSD, TOP - GSD * at[0])
    write_image(path, Raster(image, ("red", "nir08"), None, UTM, place))


def mask(path, values, *, crs=UTM, transform=None, nodata=None, colours=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.atleast_3d(values.T).T if values.ndim == 2 else values
    place = rasterio.Affine(*(transform or (GSD, 0.0, LEFT, 0.0, -GSD, TOP)))
    where = {"crs": crs, "transform": place} if crs else {}
    made = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", dtype=values.dtype, nodata=nodata, **made, **where, **options) as file:
        file.write(values)
        if colours:
            file.write_colormap(1, colours)


def survey(root, labels="m.tif", names=(), **more):
    given = {"splits": SurveySplits("random"), "scale": 1e-4, "chip": 16, **more}
    return Survey(str(root), "s*.tif", labels, class_names=names, **given)


def whole(made, size=(64, 96), name="s"):
    """All targets of a scene put together."""
    out = np.full(size, IGNORE)
    for key in made.plan.windows:
        stem, _, place = key.rpartition("/")
        if stem == name:
            row, col = map(int, place.split("_"))
            here = out[row : row + made.chip, col : col + made.chip]
            here[:] = made.read(key).target[: here.shape[0], : here.shape[1]]
    return out


def patches(seed, size=(64, 96), classes=3):
    """Random patches, so that a class has an inside."""
    coarse = np.random.default_rng(seed).integers(0, classes, (size[0] // 4 + 1, size[1] // 4 + 1))
    return np.kron(coarse, np.ones((4, 4), int))[: size[0], : size[1]].astype(np.uint8)


# ---------------------------------------------------------------------------------------------- pixels


def test_a_mask_on_the_scenes_pixels_is_the_target(tmp_path):
    scene(tmp_path / "s.tif")
    values = patches(0)
    mask(tmp_path / "m.tif", values)
    made = survey(tmp_path)
    assert made.classes == ("0", "1", "2")
    np.testing.assert_array_equal(whole(made), values)


@pytest.mark.parametrize(
    ("crs", "gsd", "turn"), [("EPSG:32632", 13.0, 0.0), ("EPSG:32633", 10.0, 0.0), ("EPSG:4326", 1.3e-4, 0.3)]
)
def test_another_grid_is_looked_up_at_the_middle_of_each_pixel(tmp_path, crs, gsd, turn):
    scene(tmp_path / "s.tif")
    way = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
    middle = way.transform(LEFT + 480, TOP - 320)
    values = patches(1, (120, 120))
    cos, sin = gsd * np.cos(turn), gsd * np.sin(turn)
    turned = np.array([[cos, sin], [sin, -cos]])
    left, top = np.array(middle) - turned @ [60, 60]
    mask(tmp_path / "m.tif", values, crs=crs, transform=(cos, sin, left, sin, -cos, top))
    rows, cols = np.mgrid[:64, :96] + 0.5
    x, y = way.transform(LEFT + GSD * cols, TOP - GSD * rows)
    at = np.einsum("ij,jrc->irc", np.linalg.inv(turned), np.stack([x - left, y - top]))
    inside = ((at >= 0) & (at < 120)).all(axis=0)
    index = np.clip(np.floor(at).astype(int), 0, 119)
    expected = np.where(inside, values[index[1], index[0]].astype(int), IGNORE)
    sure = np.abs(at - np.round(at)).min(axis=0) > 0.01  # else rounding decides
    found = whole(survey(tmp_path, "m.tif", {"0": "a", "1": "b", "2": "c"}))
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(found[sure], expected[sure])


def test_of_a_finer_mask_the_majority_of_its_pixels_decides(tmp_path):
    scene(tmp_path / "s.tif")
    values = np.random.default_rng(2).integers(0, 3, (64 * 5, 96 * 5)).astype(np.uint8)
    values[:25] = 255
    mask(tmp_path / "m.tif", values, transform=(2.0, 0.0, LEFT, 0.0, -2.0, TOP))
    blocks = values.reshape(64, 5, 96, 5).transpose(0, 2, 1, 3).reshape(64, 96, 25)
    votes = np.stack([(blocks == value).sum(axis=2) for value in (0, 1, 2, 255)])
    expected = np.array([0, 1, 2, IGNORE])[votes.argmax(axis=0)]
    np.testing.assert_array_equal(whole(survey(tmp_path)), expected)


def test_a_coarser_or_smaller_mask_leaves_the_rest_without_a_label(tmp_path):
    scene(tmp_path / "s.tif")
    mask(tmp_path / "m.tif", np.array([[1, 2]], np.uint8), transform=(160.0, 0.0, LEFT + 160, 0.0, -160.0, TOP - 160))
    expected = np.full((64, 96), IGNORE)
    expected[16:32, 16:32], expected[16:32, 32:48] = 0, 1
    np.testing.assert_array_equal(whole(survey(tmp_path)), expected)


# ------------------------------------------------------------------------------------- which is whose


@pytest.mark.parametrize(
    ("stem", "scenes", "expected"),
    [
        ("mask_001", ["img_001", "img_002"], {0}),
        ("Spain_7_LabelHand", ["Spain_7_S2Hand", "Spain_8_S2Hand", "Ghana_7_S2Hand"], {0}),
        ("hls_T10SEH.2018190.mask", ["hls_T10SEH.2018190_merged", "hls_T10SEH.2018300_merged"], {0}),
        ("20210731", ["T32_20210731_B", "T32_20210805_B"], {0}),
        ("a_b", ["x_a", "x_a_b", "x_c"], {1}),
        ("scene_mask", ["scene"], {0}),
        ("mosaic", ["t1", "t2"], set()),
        ("t3", ["t1", "t2"], set()),
    ],
)
def test_masks_have_the_name_of_a_scene_whatever_stands_around_it(stem, scenes, expected):
    assert _namesakes(stem, scenes) == expected


def test_a_mosaic_labels_every_scene_in_its_place(tmp_path):
    scene(tmp_path / "s1.tif")
    scene(tmp_path / "s2.tif", at=(0, 96))
    values = patches(3, (64, 192))
    mask(tmp_path / "m.tif", values)
    made = survey(tmp_path)
    np.testing.assert_array_equal(whole(made, name="s1"), values[:, :96])
    np.testing.assert_array_equal(whole(made, name="s2"), values[:, 96:])
    apart = survey(tmp_path, splits=SurveySplits("scene", test=("s2",), fractions=(0.8, 0.2, 0)))
    with pytest.raises(DataError, match="'val' is empty"):  # neighbours that only touch are two places
        apart.split("val")
    assert {key[:2] for key in apart.split("train")} == {"s1"}


def test_each_date_of_a_place_has_its_own_mask_and_both_stay_together(tmp_path):
    for day, value in (("20200101", 1), ("20210101", 2)):
        scene(tmp_path / f"s_{day}.tif")
        mask(tmp_path / f"masks/label_{day}.tif", np.full((64, 96), value, np.uint8))
    made = survey(tmp_path, "masks", {"1": "one", "2": "two"})
    assert {int(c) for c in np.unique(whole(made, name="s_20200101"))} == {0}
    assert {int(c) for c in np.unique(whole(made, name="s_20210101"))} == {1}
    for name in ("train", "val", "test"):
        keys = made.split(name)
        assert {key.partition("/")[2] for key in keys if "2020" in key} == {
            key.partition("/")[2] for key in keys if "2021" in key
        }
    with pytest.raises(DataError, match="same labels as another one"):
        survey(tmp_path, "masks", splits=SurveySplits("scene", train=("s_20200101",), test=("s_20210101",))).split(
            "val"
        )


def test_pictures_without_a_place_lie_on_the_scene_of_their_name(tmp_path):
    scene(tmp_path / "s.tif")
    values = patches(4)
    picture = Image.new("P", (96, 64))
    picture.putdata(values.ravel().tolist())
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
    picture.save(tmp_path / "s_mask.png")
    made = survey(tmp_path, "*.png")
    np.testing.assert_array_equal(whole(made), values)
    assert made.colours == {0: (10, 20, 30), 1: (200, 0, 0), 2: (0, 200, 0)}


def test_one_bit_masks_are_0_and_1(tmp_path):
    scene(tmp_path / "s.tif")
    values = patches(5, classes=2)
    mask(tmp_path / "m.tif", values, nbits=1)
    np.testing.assert_array_equal(whole(survey(tmp_path)), values)


# -------------------------------------------------------------------------------------------- values


def test_values_that_are_no_class_are_ignored_and_counted(tmp_path):
    scene(tmp_path / "s.tif")
    values = patches(6, classes=3).astype(np.int16)
    values[:4], values[4:6], values[6, :7] = -9999, 255, 77
    mask(tmp_path / "m.tif", values, nodata=-9999)
    made = survey(tmp_path, names={"0": "land", "1": "water", "2": "ice", "3": "lava"})
    assert made.classes == ("land", "water", "ice", "lava")
    np.testing.assert_array_equal(whole(made), np.where((values < 0) | (values > 2), IGNORE, values))
    assert any("77 (7 pixels)" in note for note in made.notes)
    assert any("lava (3)" in note for note in made.notes)
    assert not any("255" in note or "9999" in note for note in made.notes)
    other = survey(tmp_path, names={"0": "land", "1": "water", "77": "x"}, ignore_values=(2,))
    assert (whole(other) == 2).sum() == 7
    assert any("255 (192 pixels)" in note for note in other.notes)  # no longer said to be ignored


@pytest.mark.parametrize("where", ["tags", "categories", "table", "style"])
def test_names_come_from_wherever_the_file_has_them(tmp_path, where):
    scene(tmp_path / "s.tif")
    mask(tmp_path / "m.tif", patches(7))
    names = ("land", "water", "ice")
    if where == "tags":
        with rasterio.open(tmp_path / "m.tif", "r+") as file:
            file.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(names)})
    band = "<PAMDataset><PAMRasterBand band='1'>{}</PAMRasterBand></PAMDataset>"
    if where == "categories":
        inner = "".join(f"<Category>{name}</Category>" for name in names)
        (tmp_path / "m.tif.aux.xml").write_text(band.format(f"<CategoryNames>{inner}</CategoryNames>"))
    if where == "table":
        fields = "".join(f"<FieldDefn><Usage>{usage}</Usage></FieldDefn>" for usage in (1, 2, 5))
        rows = "".join(f"<Row><F>9</F><F>{name}</F><F>{i}</F></Row>" for i, name in enumerate(names))
        table = f"<GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>"
        (tmp_path / "m.tif.aux.xml").write_text(band.format(table))
    if where == "style":
        entries = "".join(f'<paletteEntry value="{i}" label="{name}" color="#000000"/>' for i, name in enumerate(names))
        (tmp_path / "m.qml").write_text(f"<qgis><rasterrenderer>{entries}</rasterrenderer></qgis>")
    assert survey(tmp_path).classes == names


def broken(root, kind):
    """Write a mask that cannot be used; give what is asked for."""
    path, values = root / "m.tif", patches(8)
    kinds = {
        "rgba": lambda: mask(path, np.stack([values] * 4), photometric="rgb", alpha="yes"),
        "two bands": lambda: mask(path, np.stack([values] * 2)),
        "fractions": lambda: mask(path, values / 2.0),
        "image": lambda: mask(path, np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)),
        "jpeg": lambda: mask(path, values, compress="jpeg"),
        "binary": lambda: mask(path, (values > 0).astype(np.uint8), nodata=0),
        "elsewhere": lambda: mask(path, values, transform=(10.0, 0.0, 0.0, 0.0, -10.0, 0.0)),
        "no place": lambda: mask(path, values, crs=None),
        "empty": lambda: path.touch(),
        "truncated": lambda: (mask(path, values), os.truncate(path, 300)),
        "missing": lambda: None,
        "only nodata": lambda: mask(path, np.full((64, 96), 255, np.uint8)),
    }
    kinds[kind]()


@pytest.mark.parametrize(
    ("kind", "names", "said"),
    [
        ("rgba", (), "picture of classes"),
        ("two bands", (), "2 bands"),
        ("fractions", (), "no whole numbers"),
        ("image", (), "too many for classes"),
        ("jpeg", (), "smears"),
        ("binary", (), "calls 0 its nodata"),
        ("elsewhere", (), "lies in a scene"),
        ("no place", (), "no place on Earth"),
        ("empty", (), "0 bytes"),
        ("truncated", (), "cannot read"),
        ("missing", (), "there is no file"),
        ("only nodata", (), "no value that is a class"),
        ("only nodata", ("a", "b"), "no mask has a class value"),
        ("rgba", {"water": "w"}, "picture of classes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_masks_that_cannot_be_used_are_named_with_a_remedy(tmp_path, kind, names, said):
    scene(tmp_path / "s.tif")
    broken(tmp_path, kind)
    with pytest.raises(AdaptEOError, match=said) as caught:
        survey(tmp_path, names=names).split("train")
    assert len(str(caught.value).splitlines()) <= 5
    assert caught.value.fix


def test_what_only_vectors_have_is_refused(tmp_path):
    scene(tmp_path / "s.tif")
    mask(tmp_path / "m.tif", patches(9))
    with pytest.raises(ConfigError, match="no column with the region"):
        survey(tmp_path, splits=SurveySplits("region", column="x")).split("train")
    with pytest.raises(DataError, match="'water' is no value of a mask"):
        survey(tmp_path, names={"water": "Water"}).split("val")
    with pytest.raises(ConfigError, match="class_column is missing"):
        survey(tmp_path, "labels.gpkg").split("val")


def test_a_changed_mask_changes_the_fingerprint(tmp_path):
    scene(tmp_path / "s.tif")
    mask(tmp_path / "m.tif", patches(10))
    before = survey(tmp_path).fingerprint()
    assert survey(tmp_path).fingerprint() == before
    os.utime(tmp_path / "m.tif", (1, 1))
    assert survey(tmp_path).fingerprint() != before


def test_sen1floods11_in_spain(shared_data):
    """Its masks hold -1 (no data), 0 and 1, and lie on the pixels of the image."""
    root = shared_data / "sen1floods11_spain"
    made = Survey(
        str(root), "*_S2Hand.tif", "*_LabelHand.tif", class_names={"0": "land", "1": "water"}, scale=1e-4, chip=128,
        band_names=("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08",
                    "nir09", "cirrus", "swir16", "swir22"),
        splits=SurveySplits("random"),
    )  # fmt: skip
    with rasterio.open(root / "Spain_7370579_LabelHand.tif") as file:
        values = file.read(1).astype(int)
    np.testing.assert_array_equal(whole(made, values.shape, "Spain_7370579_S2Hand"), np.where(values < 0, -1, values))
    assert sum("-1" in note for note in made.notes) == (values < 0).any()


def test_masks_have_no_column(tmp_path):
    scene(tmp_path / "s.tif")
    mask(tmp_path / "m.tif", np.arange(64, dtype=np.uint8).repeat(96).reshape(64, 96) // 32)
    with pytest.raises(ConfigError, match="leave `class_column` out"):
        survey(tmp_path, class_column="kind").classes  # noqa: B018
