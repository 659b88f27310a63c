import math
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from adapteo.errors import DataError
from adapteo.figures import (
    Item,
    colours_of,
    confusion_figure,
    curves_figure,
    map_figure,
    palette,
    samples_figure,
    true_colour,
)

NAMES = ("soil", "water", "forest")
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (12, 16, 3), np.uint8)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(path, colour):
    return int((pixels(path) == np.array(colour)).all(-1).sum())


def test_palette_colours_are_different_for_every_eye():
    """Also after the red-green information is gone: deuteranopia, Machado et al. 2009, in linear RGB."""
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    colours = palette(24)
    assert len(set(colours)) == 24
    seen = (np.array(colours) / 255) ** 2.2 @ deuteranopia.T
    seen = np.clip(seen, 0, 1) ** (1 / 2.2)
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.05
    assert palette(8)[:3] == palette(3)
    assert len(set(palette(60))) == 60
    assert all(0 <= channel <= 255 for colour in palette(200) for channel in colour)


def test_given_colours_replace_the_palette():
    assert colours_of(NAMES, {1: (0, 0, 250)}) == (palette(3)[0], (0, 0, 250), palette(3)[2])
    assert colours_of(NAMES) == palette(3)


def test_true_colour_takes_red_green_blue_and_stretches_them():
    image = np.zeros((2, 4, 10, 10), np.float32)
    ramp = np.linspace(0.1, 0.3, 100).reshape(10, 10)
    image[1, 2] = ramp  # red of the last date
    shown = true_colour(image, ("blue", "green", "red", "nir"))
    assert shown.shape == (10, 10, 3)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[-1, -1].tolist() == [255, 0, 0]
    radar = true_colour(np.stack([ramp, ramp * 0]), ("vv", "vh"))
    assert (radar[..., 0] == radar[..., 2]).all()
    three = true_colour(np.stack([ramp * 0, ramp, ramp * 0, ramp]), ("swir16", "nir", "swir22", "red"))
    assert three[-1, -1].tolist() == [0, 255, 0]


def test_missing_pixels_are_grey():
    image = RNG.random((3, 8, 8)).astype(np.float32)
    image[1, :4] = np.nan
    shown = true_colour(image, ("red", "green", "blue"))
    assert (shown[:4] == 235).all()
    assert (shown[4:] != 235).any()
    assert (true_colour(image * np.nan, ("red", "green", "blue")) == 235).all()


def test_samples_show_truth_and_prediction_in_the_colours_of_the_classes(tmp_path):
    truth = np.zeros((12, 16), np.int64)
    truth[:6] = -1
    items = [Item("a", IMAGE, truth, truth * 0 + 1, 0.5, "worst"), Item("b" * 60, IMAGE, truth, truth * 0 + 2)]
    path = tmp_path / "new" / "samples.png"
    samples_figure(path, items, NAMES, {0: (1, 2, 3)}, metric="mIoU")
    soil, water, forest = count(path, (1, 2, 3)), count(path, palette(3)[1]), count(path, palette(3)[2])
    assert water == pytest.approx(soil, rel=0.1)  # half of two truths against one prediction, and the legend
    assert forest == pytest.approx(water, rel=0.1)
    assert [p.name for p in path.parent.iterdir()] == ["samples.png"]


@pytest.mark.parametrize(
    ("classes", "truth", "prediction"),
    [
        ((), RNG.random((12, 16)), RNG.random((12, 16))),
        ((), np.full((12, 16), np.nan), RNG.random((12, 16))),
        (NAMES, np.int64(1), np.int64(2)),
        (NAMES, np.int64(-1), np.int64(2)),
        (NAMES, np.array([1.0, 0, 1]), np.array([1, 0, 0])),
    ],
)
def test_samples_of_every_task(tmp_path, classes, truth, prediction):
    items = [Item(str(i), IMAGE, truth, prediction, math.nan if i else 0.25) for i in range(5)]
    samples_figure(tmp_path / "samples.png", items, classes)
    assert pixels(tmp_path / "samples.png").std() > 10
    samples_figure(tmp_path / "none.png", [], classes)
    assert not (tmp_path / "none.png").exists()


def test_confusion_is_shown_as_shares_of_the_truth(tmp_path):
    sure = np.array([[10, 0, 0], [0, 2000, 0], [0, 0, 0]])
    confusion_figure(tmp_path / "sure.png", sure, NAMES)
    assert count(tmp_path / "sure.png", (8, 48, 107)) > 5000  # the darkest blue, on two of three diagonal cells
    assert count(tmp_path / "sure.png", (235, 235, 235)) > 5000  # forest does not occur
    confusion_figure(tmp_path / "scaled.png", sure * 3, NAMES)
    assert np.array_equal(pixels(tmp_path / "sure.png"), pixels(tmp_path / "scaled.png"))


def test_curves_skip_what_was_not_measured(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,train_loss,val_loss,val_rmse,rate\n0,nan,1.0,3,0\n1,0.9,,2,1e-3\n2,0.7,0.8,2.5,1e-3\n")
    curves_figure(tmp_path / "curves.png", log, "rmse", higher_is_better=False)
    assert count(tmp_path / "curves.png", (0, 114, 178)) > 50
    log.write_text("epoch,train_loss,val_loss,val_rmse,rate\n")
    curves_figure(tmp_path / "empty.png", log, "rmse")
    assert (tmp_path / "empty.png").is_file()


def test_map_beside_its_image(tmp_path):
    labels = np.full((40, 20), 1)
    labels[:10] = 255  # nodata
    map_figure(tmp_path / "map.png", IMAGE.repeat(2, 0), labels, NAMES, title="Spain")
    water = count(tmp_path / "map.png", palette(3)[1])
    nodata = count(tmp_path / "map.png", (235, 235, 235))
    assert water == pytest.approx(3 * nodata, rel=0.1)
    assert count(tmp_path / "map.png", palette(3)[0]) == 0  # not in the map, not in the legend
    map_figure(tmp_path / "values.png", IMAGE, RNG.random((12, 16)), ())
    assert pixels(tmp_path / "values.png").std() > 10


def test_long_scenes_are_thinned(tmp_path):
    labels = np.zeros((20, 9000), np.uint8)
    map_figure(tmp_path / "map.png", np.zeros((20, 9000, 3), np.uint8), labels, NAMES)
    assert count(tmp_path / "map.png", palette(1)[0]) > 0


def test_unwritable_place_is_an_error_for_the_user(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        confusion_figure(tmp_path / "file" / "x.png", np.eye(3), NAMES)


def test_nothing_heavy_loads_before_a_picture_is_drawn():
    code = "import sys, adapteo.figures as f; f.palette(3); assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
