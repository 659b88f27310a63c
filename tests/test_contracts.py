"""What of the contracts needs torch, and what must do without."""

import subprocess
import sys

import pytest

from adapteo import contracts

SURVEY = """
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from adapteo.contracts import Batch, Dataset, Normalisation, Sample
from adapteo.data.raster import Raster, write_image
from adapteo.data.survey import Survey

root = Path(sys.argv[1])
names = ("blue", "green", "red", "nir08")
place = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_700_000.0)
write_image(root / "a.tif", Raster(np.full((4, 96, 96), 800, np.uint16), names, None, "EPSG:32632", place))
xy = [(500_005.0 + 10 * col, 5_699_995.0 - 10 * row) for row in range(0, 96, 4) for col in range(0, 96, 4)]
kinds = ["ab"[i // 4 % 2] for i in range(len(xy))]
gpd.GeoDataFrame({"kind": kinds}, geometry=shapely.points(xy), crs="EPSG:32632").to_file(root / "labels.gpkg")
survey = Survey(str(root), "*.tif", "labels.gpkg", "kind", scale=0.0001, chip=16)
key = survey.split("train")[0]
sample = survey.read(key)
assert isinstance(survey, Dataset) and isinstance(sample, Sample) and sample.image.shape == (1, 4, 16, 16)
assert survey.notes and survey.fingerprint()
assert "torch" not in sys.modules
"""


def test_a_survey_is_planned_and_read_without_torch(tmp_path):
    done = subprocess.run([sys.executable, "-c", SURVEY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(getattr(contracts, name) is not None for name in contracts.__all__)


def test_a_name_that_is_not_there_cannot_be_imported():
    with pytest.raises(ImportError, match="cannot import name 'Batches'"):
        from adapteo.contracts import Batches  # noqa: F401
