"""Pickles are read without running anything in them."""

import os
import pickle
from datetime import date

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from adapteo.data._opcodes import label_of, opcodes, place_of


class Described:
    """Stands for the benchmark's own classes, which are not installed where the files are read."""

    def __init__(self, name):
        self.name, self.label = name, 99


def notes(label, transform=None, crs=None, protocol=4):
    """As ``write_sample_hdf5`` of GEO-Bench writes them."""
    bands = {
        name: {"date": date(2019, 11, 5), "band_info": Described(name), "transform": transform, "crs": crs}
        for name in ("01 - Coastal aerosol", "02 - Blue")
    }
    first = {} if label is None else {"label": label}
    return str(pickle.dumps({**first, **bands, "bands_order": list(bands)}, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("label", [0, 1, 16, 300, 70_000])
def test_class(label, protocol):
    found = label_of(opcodes(notes(label, protocol=protocol)))
    assert found.shape == ()
    assert found == label


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "float32"])
def test_marks(kind, protocol):
    marks = (np.arange(43) % 3 == 0).astype(kind)
    found = label_of(opcodes(notes(marks, protocol=protocol)))
    np.testing.assert_array_equal(found, marks)
    assert found.dtype == np.int64


def test_place():
    transform = Affine(10.0, 0.0, 331_040.0, 0.0, -10.0, -3_714_560.0)
    coefficients, system = place_of(opcodes(notes(3, transform, CRS.from_epsg(32634))))
    assert coefficients == tuple(transform)[:6]
    assert CRS.from_wkt(system) == CRS.from_epsg(32634)
    coefficients, system = place_of(opcodes(notes(3, Affine(1e-4, 0, 90, 0, -1e-4, 24), "EPSG:4326")))
    assert (coefficients[2], coefficients[5], system) == (90.0, 24.0, "EPSG:4326")


def test_what_is_not_there():
    listed = opcodes(notes(None))
    assert label_of(listed) is None
    assert place_of(listed) is None
    assert label_of(opcodes(notes("forest"))) is None
    assert place_of(opcodes(notes(1, Affine.identity(), None))) is None


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = str(pickle.dumps({"label": 4, "other": Harmful()}))
    assert label_of(opcodes(text)) == 4
    assert label_of(opcodes(str(pickle.dumps({"label": Harmful()})))) is None
    assert not (tmp_path / "harmed").exists()
    pickle.loads(eval(text))  # the same bytes do harm when they are loaded
    assert (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b'\\x80\\x04.", "bytes literal"),
        ("4", "bytes literal"),
        ("open('x')", "malformed node"),
        ("b'no pickle'", "opcode"),
        ("", "bytes literal"),
    ],
)
def test_damaged(text, said):
    with pytest.raises(ValueError, match=said):
        opcodes(text)
