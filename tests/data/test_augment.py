"""Augmentation: a pure function, the group of the square, and what is missing stays missing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adapteo.contracts import IGNORE, Sample
from adapteo.data.augment import Augment, dihedral, resize, resize_nearest
from adapteo.errors import ConfigError


def make(height=8, width=8, missing=False):
    random = np.random.default_rng(0)
    image = random.random((2, 3, height, width), np.float32)
    target = random.integers(0, 4, (height, width))
    if missing:
        image[:, :, :2, :3] = np.nan
        target[:2, :3] = IGNORE
    return Sample("a", image, target)


def test_the_eight_elements_of_d4_are_distinct_and_closed():
    array = np.arange(9).reshape(3, 3)
    elements = [dihedral(array, i) for i in range(8)]
    seen = {e.tobytes() for e in map(np.ascontiguousarray, elements)}
    assert len(seen) == 8
    assert {np.ascontiguousarray(np.rot90(e)).tobytes() for e in elements} == seen
    assert {np.ascontiguousarray(dihedral(e, j)).tobytes() for e in elements for j in range(8)} == seen


def test_an_oblong_is_never_transposed():
    array = np.arange(6).reshape(2, 3)
    seen = {np.ascontiguousarray(dihedral(array, i)).tobytes() for i in range(8)}
    assert len(seen) == 4
    assert all(dihedral(array, i).shape == (2, 3) for i in range(8))


def test_it_depends_on_seed_epoch_and_position_only():
    augment, sample = Augment(crop=4, zoom=(0.5, 2.0)), make()
    first = augment(sample, 1, 2, 3)
    np.testing.assert_array_equal(first.image, augment(sample, 1, 2, 3).image)
    others = [augment(sample, *where).image for where in ((0, 2, 3), (1, 0, 3), (1, 2, 0))]
    assert not any(np.array_equal(first.image, other) for other in others)


def test_the_sample_itself_is_not_touched_and_everything_is_contiguous():
    sample = make()
    image, target = sample.image.copy(), sample.target.copy()
    out = Augment(zoom=(0.5, 2.0))(sample, 0, 0, 0)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.target, target)
    assert out.image.flags.c_contiguous
    assert out.target.flags.c_contiguous
    assert out.image.dtype == np.float32
    assert out.target.dtype == np.int64


@pytest.mark.parametrize("position", range(12))
def test_image_and_mask_move_together(position):
    sample = make(16, 16, missing=True)
    sample.image[:] = np.where(sample.target == IGNORE, np.nan, sample.target)
    out = Augment(crop=8)(sample, 0, 0, position)
    np.testing.assert_array_equal(np.nan_to_num(out.image[0, 0], nan=IGNORE), out.target)


@pytest.mark.parametrize(("crop", "zoom"), [(None, (1.0, 1.0)), (5, (1.0, 1.0)), (6, (0.5, 2.0)), (20, (0.3, 3.0))])
def test_the_size_is_the_crop_whatever_the_zoom(crop, zoom):
    for position in range(8):
        out = Augment(crop=crop, zoom=zoom)(make(9, 12), 0, 0, position)
        assert out.image.shape == (2, 3, *((crop, crop) if crop else (9, 12)))
        assert out.target.shape == out.image.shape[-2:]


def test_every_place_of_a_window_occurs():
    sample = Sample("a", np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4).repeat(4, 2))
    seen = {Augment(d4=False, crop=2)(sample, 0, 0, i).image[0, 0, 0, 0] for i in range(60)}
    assert seen == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (16, 4), (1, 1), (7, 9)])
def test_resampling_equals_torch(size):
    image = make(7, 9).image
    expected = F.interpolate(torch.from_numpy(image), size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize(image, size), expected.numpy(), atol=1e-6)
    mask = make(7, 9).target
    exact = F.interpolate(torch.from_numpy(mask)[None, None].double(), size, mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(resize_nearest(mask, size), exact.numpy())


def test_missing_pixels_do_not_spread_and_do_not_bleed():
    image = np.ones((1, 1, 8, 8), np.float32)
    image[..., :4] = np.nan
    out = resize(image, (16, 16))
    assert np.isnan(out[..., :8]).all()
    np.testing.assert_array_equal(out[..., 8:], 1.0)


def test_labels_that_are_not_pictures_stay():
    sample = make()
    sample.target = np.array(3)
    assert Augment()(sample, 0, 0, 1).target == 3


def test_impossible_values_are_refused():
    with pytest.raises(ConfigError, match="crop is 0"):
        Augment(crop=0)
    with pytest.raises(ConfigError, match="zoom is"):
        Augment(zoom=(2.0, 1.0))
