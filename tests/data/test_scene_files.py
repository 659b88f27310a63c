"""Scenes in every layout, read on one grid in physical units."""

import numpy as np
import products

from adapteo.bands import SENTINEL2_L1C, SENTINEL2_L2A
from adapteo.data.scene_files import discover, open_source


def one(root, *patterns, **more):
    found = discover(patterns or ("*",), root, **more)
    assert len(found) == 1, [source.name for source in found]
    return found[0]


def read(source, bands=None):
    with open_source(source, bands) as reader:
        return reader.read(0, 0, reader.height, reader.width)


def test_safe(tmp_path):
    folder, stored = products.safe(tmp_path)
    source = one(tmp_path)
    assert source.kind == "safe"
    assert source.names == SENTINEL2_L2A
    assert (source.date, source.sensor, source.tile, source.gsd) == ("2023-06-14", "sentinel2", "32UQC", 10)
    values = read(source, ["red", "swir16"])
    assert values.shape == (2, 120, 120)
    np.testing.assert_allclose(values[0], (stored["B04"] - 1000.0) / 10000, atol=1e-6)
    values = read(source, ["nir08", "swir22"])
    assert values.shape == (2, 60, 60)
    np.testing.assert_allclose(values[1], (stored["B12"] - 1000.0) / 10000, atol=1e-6)


def test_safe_1c(tmp_path):
    folder, stored = products.safe(tmp_path, "1C")
    source = one(tmp_path, "*.SAFE")
    assert source.names == SENTINEL2_L1C
    np.testing.assert_allclose(read(source, ["cirrus"])[0], (stored["B10"] - 1000.0) / 10000, atol=1e-6)
