"""Commands that begin with a map."""

import numpy as np
import pyogrio
from typer.testing import CliRunner

from adapteo import cli
from test_polygons import write_map


def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def test_polygons(tmp_path):
    values = np.zeros((12, 12), np.uint8)
    values[2:8, 2:8] = 1
    values[10, 10] = 2
    path, out = write_map(tmp_path / "map.tif", values), tmp_path / "out.gpkg"
    result = run("polygons", path, "--out", out, "--minimum-area", 0.05, "--leave-out", "water, field")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {out}\n"
    table = pyogrio.read_dataframe(out, layer="out")
    assert table["class"].tolist() == ["forest"]
    assert table.area_ha.tolist() == [0.36]


def test_polygons_of_something_else(tmp_path):
    result = run("polygons", tmp_path / "map.tif", "--out", tmp_path / "out.gpkg")
    assert result.exit_code == 2
    assert "there is no file" in result.stderr
