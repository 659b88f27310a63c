"""The synthetic scenes: pure functions of a seed, physically plausible, and not solvable by one threshold."""

from dataclasses import replace

import numpy as np
import pytest

from adapteo.bands import HLS6
from adapteo.contracts import IGNORE
from adapteo.data._landscape import fractal, parcels
from adapteo.data._regions import REGIONS, Region, blend
from adapteo.data._scene import KINDS, make_scene
from adapteo.data._spectra import ENDMEMBERS
from adapteo.data.scenes import DATASET, Scenes, scene_map
from adapteo.errors import ConfigError, DataError

BLUE, GREEN, RED, NIR, SWIR1, SWIR2 = range(6)


@pytest.fixture(scope="module")
def chips():
    """Image (n, 6, h, w) and truth (n, h, w) of some chips of every kind, from all training regions."""
    out = {}
    for kind in KINDS:
        data = Scenes(labels=kind, size=48, train=16)
        samples = [data.read(key) for key in data.split("train")]
        out[kind] = np.stack([s.image[0] for s in samples]), np.stack([s.target for s in samples])
    return out


def test_dataset_is_complete():
    data = DATASET(labels="landcover", size=32, frames=3)
    sample = data.read(data.split("val")[1])
    assert data.bands == HLS6
    assert data.task == "segmentation"
    assert data.gsd == 30
    assert len(data.colours) == len(data.classes) == 8
    assert sample.image.shape == (3, 6, 32, 32)
    assert sample.image.dtype == np.float32
    assert sample.target.shape == (32, 32)
    assert sample.target.dtype == np.int64
    assert sample.group == "mediterranean"
    assert sample.dates.shape == (3, 2)
    assert (np.diff(sample.dates @ [366, 1]) > 0).all(), "dates ascend"
    assert ((sample.dates[:, 1] >= 1) & (sample.dates[:, 1] <= 366)).all()
    south, north = REGIONS["mediterranean"].latitude
    assert south <= sample.latlon[0] <= north


@pytest.mark.parametrize("kind", KINDS)
def test_reading_is_pure(kind):
    data = Scenes(labels=kind, size=32)
    key = data.split("test")[5]
    first, again = data.read(key), Scenes(labels=kind, size=32, train=4).read(key)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.image, replace(data, seed=1).read(key).image)
    some = data.read(key, bands=("swir22", "blue"))
    np.testing.assert_array_equal(some.image, first.image[:, [SWIR2, BLUE]])


def test_splits_share_nothing():
    data = Scenes(size=16, train=8, val=8, test=8, heldout=8)
    keys = [key for name in ("train", "val", "test", *data.holdouts) for key in data.split(name)]
    assert len(set(keys)) == len(keys) == 32
    images = {data.read(key).image.tobytes() for key in keys}
    assert len(images) == 32
    assert {data.read(key).group for key in data.split("delta")} == {"delta"}
    assert {data.read(key).group for key in data.split("train")} == set(data.regions)


def test_fingerprint_follows_the_fields():
    prints = {Scenes().fingerprint(), Scenes(seed=1).fingerprint(), Scenes(labels="burn").fingerprint()}
    assert len(prints) == 3
    assert Scenes().fingerprint() == Scenes().fingerprint()


def test_reflectance_is_plausible(chips):
    for image, truth in chips.values():
        assert np.isfinite(image).all()
        assert image.min() > 0
        assert image.max() <= 1.2
        assert (truth >= IGNORE).all()
    image, cover = chips["landcover"]
    mean = {c: image[:, :, :][np.broadcast_to((cover == c)[:, None], image.shape)].mean() for c in range(8)}
    assert min(mean, key=mean.get) == 0, "water is darkest"
    pixels = image.transpose(1, 0, 2, 3)
    water, leaf, conifer, bare = (pixels[:, cover == c].mean(1) for c in (0, 4, 5, 1))
    assert water[GREEN] > water[NIR] > water[SWIR2]
    assert leaf[NIR] > 3 * leaf[RED]
    assert conifer[NIR] < leaf[NIR]
    assert bare[SWIR1] > bare[RED] > bare[BLUE]


def test_floods_and_burns_change_the_spectra(chips):
    image, truth = chips["flood"]
    pixels = image.transpose(1, 0, 2, 3)
    assert pixels[NIR][truth == 2].mean() < 0.6 * pixels[NIR][truth == 0].mean()
    image, truth = chips["burn"]
    pixels = image.transpose(1, 0, 2, 3)
    nbr = (pixels[NIR] - pixels[SWIR2]) / (pixels[NIR] + pixels[SWIR2])
    assert nbr[truth == 1].mean() < nbr[truth == 0].mean() - 0.2


def test_no_threshold_on_one_band_or_index_solves_the_flood_task(chips):
    image, truth = chips["flood"]
    pixels = image.transpose(1, 0, 2, 3)
    ndwi = (pixels[GREEN] - pixels[NIR]) / (pixels[GREEN] + pixels[NIR])
    known, flooded = truth != IGNORE, truth == 2
    for feature in (*pixels, ndwi):
        ious = []
        for threshold in np.quantile(feature[known], np.linspace(0.02, 0.98, 49)):
            for side in (feature < threshold, feature >= threshold):
                side = side & known
                ious.append((side & flooded).sum() / (side | flooded)[known].sum())
        assert max(ious) < 0.75


def test_haze_is_strongest_in_blue_and_regions_differ():
    calm = replace(REGIONS["temperate"], aerosol=0.001)
    hazy = replace(calm, aerosol=0.6)
    added = np.mean(
        [
            make_scene((9, i), hazy, (24, 24), "landcover").image
            - make_scene((9, i), calm, (24, 24), "landcover").image
            for i in range(6)
        ],
        axis=(0, 1, 3, 4),
    )
    assert added[BLUE] > added[GREEN] > added[RED] > added[SWIR2]
    means = {name: np.mean([make_scene((8, i), r, (32, 32), "landcover").image.mean((0, 2, 3)) for i in range(6)], 0)
             for name, r in REGIONS.items()}  # fmt: skip
    assert means["arid"][RED] > 1.3 * means["boreal"][RED]


def test_vegetation_follows_the_season_of_its_hemisphere():
    north = replace(REGIONS["temperate"], days=(170, 180))
    winter = replace(north, days=(1, 10))
    south = replace(north, latitude=(-50, -45))

    def ndvi(region: Region) -> float:
        images = np.concatenate([make_scene((7, i), region, (24, 24), "landcover").image for i in range(8)])
        return float(np.median((images[:, NIR] - images[:, RED]) / (images[:, NIR] + images[:, RED])))

    assert ndvi(north) > ndvi(winter) + 0.1
    assert make_scene((7, 0), north, (16, 16), "burn").dates[0, 1] in range(169, 182)
    assert make_scene((7, 0), south, (16, 16), "burn").dates[0, 1] in (*range(351, 366), *range(1, 3))


def test_events_happen_before_the_last_date_only():
    stormless = [
        scene
        for scene in (make_scene((5, i), REGIONS["temperate"], (48, 48), "flood", frames=2) for i in range(6))
        if (scene.truth["flood"] == 2).mean() > 0.2
    ]
    assert stormless
    for scene in stormless:
        before, after = (frame[NIR][scene.truth["flood"] == 2].mean() for frame in scene.image)
        assert after < before


def test_random_fields_have_the_stated_moments():
    fields = fractal(np.random.default_rng(0), 200, (48, 64), scale=8.0, beta=3.0)
    assert fields.shape == (200, 48, 64)
    assert abs(fields.mean()) < 0.05
    assert fields.std() == pytest.approx(1.0, abs=0.05)
    neighbours = (fields[:, :, 1:] * fields[:, :, :-1]).mean()
    assert neighbours > 0.5 > (fields[:, :, 30:] * fields[:, :, :-30]).mean()


def test_parcels_have_the_wanted_size():
    found = parcels(np.random.default_rng(1), (120, 90), 8.0, 1.5)
    assert found.ids.shape == found.edge.shape == (120, 90)
    assert found.ids.min() >= 0
    assert found.ids.max() < found.count
    area = 120 * 90 / len(np.unique(found.ids))
    assert 0.5 * 8 * 12 < area < 1.2 * 8 * 12
    assert (found.edge >= 0).all()


def test_blend_stays_between_the_corners():
    corners = [REGIONS["boreal"], REGIONS["tropical"]]
    rng = np.random.default_rng(0)
    for _ in range(20):
        mixed = blend(corners, rng)
        assert 60 <= mixed.peak <= 195
        assert corners[0].soil[0] <= mixed.soil[0] <= corners[1].soil[0]
        assert mixed not in REGIONS.values()


def test_endmembers_are_reflectances():
    values = np.array(list(ENDMEMBERS.values()))
    assert values.shape[1] == len(HLS6)
    assert ((values > 0) & (values < 0.6)).all()


def test_scene_map_is_georeferenced():
    scene = scene_map("flood", "temperate", (80, 120), seed=3)
    assert scene.image.shape == (6, 80, 120)
    assert scene.image.dtype == np.uint16
    assert (scene.image[:, 0, 0] == scene.nodata).all()
    assert scene.truth[0, 0] == scene.truth_nodata
    assert (scene.image[:, 40:, 60:] > 0).all()
    assert set(np.unique(scene.truth)) <= {0, 1, 2, 255}
    a, _, east, _, e, north = scene.transform
    assert (a, e) == (30, -30)
    assert scene.epsg in range(32631, 32635)
    assert 160_000 < east < 840_000
    assert 5_000_000 < north < 6_050_000
    np.testing.assert_array_equal(scene.image, scene_map("flood", "temperate", (80, 120), seed=3).image)
    assert scene_map("burn", "tropical", (16, 16)).epsg // 100 in (326, 327)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": "floods"}, "did you mean 'flood'"),
        ({"regions": ("tempirate",)}, "did you mean 'temperate'"),
        ({"holdout": "boreal"}, "also a training region"),
        ({"regions": ()}, "empty"),
        ({"size": 8}, "at least 16"),
        ({"frames": 0}, "at least 1"),
    ],
)
def test_impossible_fields_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        Scenes(**fields)


def test_wrong_splits_and_keys_are_refused():
    data = Scenes(val=0, holdout="")
    assert data.holdouts == ()
    for split, words in (("val", "empty"), ("delta", "no split"), ("tset", "did you mean 'test'")):
        with pytest.raises(DataError, match=words):
            data.split(split)
    for key in ("train-delta-00001", "train-temperate-x", "nonsense", "holdout-delta-00001"):
        with pytest.raises(DataError, match="no chip"):
            data.read(key)
