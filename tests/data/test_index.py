"""Indexes of chips: CSV and GeoParquet give the same rows of text; what is broken is named."""

import sys

import pytest

from adapteo.data._index import read_rows
from adapteo.errors import DataError


def test_csv_becomes_stripped_text(tmp_path):
    """With the byte order mark that spreadsheets write, spaces around cells, and a row that ends early."""
    (tmp_path / "index.csv").write_text(
        '\ufeffname, split ,note\n a.tif , train ,"x, y"\nb.tif,val\n', encoding="utf-8"
    )
    assert read_rows(tmp_path / "index.csv") == [
        {"name": "a.tif", "split": "train", "note": "x, y"},
        {"name": "b.tif", "split": "val", "note": ""},
    ]


def test_broken_csv(tmp_path):
    path = tmp_path / "index.csv"
    with pytest.raises(DataError, match="there is no index"):
        read_rows(path)
    path.write_text("name,split\na.tif,train\nb.tif,val,more\n")
    with pytest.raises(DataError, match=r"index.csv, row 3 has more cells than the header"):
        read_rows(path)
    path.write_bytes("name,place\na.tif,Besançon\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"index.csv is not a CSV file.*\nsave it as CSV in UTF-8"):
        read_rows(path)


@pytest.fixture
def table():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"name": ["a.tif", "b.tif"], "split": ["train", None], "year": [2020, 2021]}, index=[7, 3])


def test_parquet_without_geometry(tmp_path, table):
    table.to_parquet(tmp_path / "index.parquet")
    assert read_rows(tmp_path / "index.parquet") == [
        {"name": "a.tif", "split": "train", "year": "2020"},
        {"name": "b.tif", "split": "", "year": "2021"},
    ]


@pytest.mark.parametrize("crs", [4326, 32631])
def test_the_geometry_becomes_the_centre_in_degrees(tmp_path, table, crs):
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    places = [(3.0, 45.0), (3.5, -10.25)]
    boxes = geopandas.GeoSeries([shapely.Point(place) for place in places], index=table.index, crs=4326).to_crs(crs)
    boxes = boxes.buffer(1000, cap_style="square") if crs != 4326 else boxes.envelope
    geopandas.GeoDataFrame(table, geometry=boxes).to_parquet(tmp_path / "index.geoparquet")
    rows = read_rows(tmp_path / "index.geoparquet")
    assert [row["name"] for row in rows] == ["a.tif", "b.tif"]
    assert "geometry" not in rows[0]
    found = [(float(row["longitude"]), float(row["latitude"])) for row in rows]
    assert found == [pytest.approx(place, abs=1e-6) for place in places]


def test_columns_of_latitude_come_before_the_geometry(tmp_path, table):
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    table = table.assign(latitude=[1.5, 2.5], longitude=[3.5, 4.5])
    frame = geopandas.GeoDataFrame(table, geometry=[shapely.Point(0, 0)] * 2, crs=4326)
    frame.to_parquet(tmp_path / "index.parquet")
    assert [row["latitude"] for row in read_rows(tmp_path / "index.parquet")] == ["1.5", "2.5"]


def test_broken_parquet(tmp_path):
    pytest.importorskip("geopandas")
    (tmp_path / "index.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"cannot read .*index.parquet"):
        read_rows(tmp_path / "index.parquet")


def test_parquet_without_its_extra(tmp_path, table, monkeypatch):
    table.to_parquet(tmp_path / "index.parquet")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"pip install 'adapteo\[parquet\]'"):
        read_rows(tmp_path / "index.parquet")
