"""Splits: nothing in two parts, the same every time, and honest about places."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from adapteo.data import _overlap
from adapteo.data._blocks import block_of
from adapteo.data._chips import Chip
from adapteo.data.splits import PARTS, Splits, assign, default_splits
from adapteo.errors import ConfigError, DataError

ROOT = Path("/data")


def make(count=100, labels=("a",), **columns):
    """Chips that exist by name only; ``columns`` map a position to a cell."""
    return [
        Chip(
            f"c{i:03}",
            (ROOT / f"img/c{i:03}.tif",),
            label=labels[i % len(labels)],
            columns={name: cell(i) for name, cell in columns.items()},
        )
        for i in range(count)
    ]


def split(splits, chips, root=ROOT, place=lambda chip: None):
    return assign(splits, chips, root, place)


def sizes(parts):
    return {name: len(keys) for name, keys in parts.items()}


def test_random_covers_everything_once_and_repeats_itself():
    chips = make(101)
    parts = split(Splits(), chips)
    assert sizes(parts) == {"train": 71, "val": 15, "test": 15}
    assert sorted(key for keys in parts.values() for key in keys) == [chip.key for chip in chips]
    assert split(Splits(), chips[::-1])["train"] == parts["train"][::-1]
    assert split(Splits(seed=1), chips) != parts


def test_random_keeps_the_share_of_each_class():
    chips = make(400, labels=("a", "a", "a", "b"))
    label = {chip.key: chip.label for chip in chips}
    for keys in split(Splits(fractions=(0.5, 0.25, 0.25)), chips).values():
        counts = Counter(label[key] for key in keys)
        assert counts["a"] == pytest.approx(3 * counts["b"], abs=4)


def test_few_labels_are_a_nested_stratified_sample():
    chips = make(400, labels=("a", "b", "c", "d"))
    label = {chip.key: chip.label for chip in chips}
    full = split(Splits(), chips)
    few, more = (split(Splits(limit=n, limit_val=8), chips) for n in (20, 40))
    assert set(few["train"]) < set(more["train"]) < set(full["train"])
    assert set(Counter(label[key] for key in few["train"]).values()) == {5}
    assert len(few["val"]) == 8
    assert few["test"] == full["test"]


def test_by_file_in_every_spelling(tmp_path):
    chips = [Chip(f"c{i}", (tmp_path / f"img/c{i}_S2.tif",), tmp_path / f"lab/c{i}_L.tif") for i in range(12)]
    (tmp_path / "train.txt").write_text("c1\nc10_S2.tif\n\nimg/c2_S2.tif\n")
    (tmp_path / "val.csv").write_text("c3_S2.tif,c3_L.tif\n")
    (tmp_path / "bolivia.txt").write_text("lab/c4_L\nimg/c5_S2\n")
    parts = split(Splits("file", "train.txt", "val.csv", holdout={"bolivia": "bolivia.txt"}), chips, tmp_path)
    assert parts == {"train": ("c1", "c2", "c10"), "val": ("c3",), "test": (), "bolivia": ("c4", "c5")}


@pytest.mark.parametrize(
    ("entry", "message"),
    [("c1x", "'c1x' is no chip of this dataset"), ("same.tif", "'same.tif' is 2 chips"), ("c", "is no chip")],
)
def test_each_line_of_a_file_is_exactly_one_chip(tmp_path, entry, message):
    chips = [Chip(f"c1{x}", (tmp_path / x / "same.tif",)) for x in "ab"]
    (tmp_path / "train.txt").write_text(entry)
    with pytest.raises(DataError, match=message):
        split(Splits("file", "train.txt"), chips, tmp_path)


def test_the_same_line_in_two_files_is_refused(tmp_path):
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").write_text("c001\n")
    with pytest.raises(DataError, match="'c001' is in both 'train' and 'val'"):
        split(Splits("file", "train.txt", "val.txt"), make(3), tmp_path)


def test_by_region_with_a_holdout():
    chips = make(200, region=lambda i: ("central", "iberia", "north", "south")[i % 4])
    region = {chip.key: chip.columns["region"] for chip in chips}
    splits = Splits(
        "column", ("central", "north"), holdout={"iberia": "iberia"}, column="region", fractions=(0.6, 0.2, 0.2)
    )
    parts = split(splits, chips)
    assert sizes(parts) == {"train": 60, "val": 20, "test": 20, "iberia": 50}
    assert {region[key] for name in PARTS for key in parts[name]} == {"central", "north"}
    rest = split(Splits("column", holdout={"iberia": ("iberia", "south")}, column="region"), chips)
    assert sizes(rest) == {"train": 70, "val": 15, "test": 15, "iberia": 100}


def test_a_column_can_name_the_parts():
    chips = make(10, split=lambda i: ("train", "validation", "test", "abroad")[min(i // 3, 3)])
    parts = split(default_splits(chips, ROOT), chips)
    assert sizes(parts) == {"train": 3, "val": 3, "test": 3, "abroad": 1}
    fold = split(Splits("column", val="c008", test="c009", column="key"), make(10))
    assert fold["val"] == ("c008",)
    assert sizes(fold) == {"train": 8, "val": 1, "test": 1}


def test_unknown_columns_and_values_are_named():
    chips = make(4, region=lambda i: "central")
    with pytest.raises(DataError, match="no column 'regoin'; did you mean 'region'"):
        split(Splits("column", column="regoin"), chips)
    with pytest.raises(DataError, match="no chip has 'centrl' in the column 'region'; did you mean 'central'"):
        split(Splits("column", "centrl", column="region"), chips)
    with pytest.raises(DataError, match="'c000' is in both 'train' and 'x'"):
        split(Splits("column", "central", holdout={"x": "central"}, column="region"), chips)


def test_by_folder():
    chips = [
        Chip(f"{part}{i}", (ROOT / part / f"img/{i}.tif",))
        for part in ("train", "valid", "test", "chile")
        for i in "ab"
    ]
    assert default_splits(chips, ROOT) == Splits("folder")
    parts = split(Splits("folder", holdout={"abroad": "chile"}), chips)
    assert set(sizes(parts).values()) == {2}
    assert parts["abroad"] == ("chilea", "chileb")
    with pytest.raises(DataError, match="called 'learn'"):
        split(Splits("folder", "learn"), chips)


# ------------------------------------------------------------------------------------------- blocks


def grid(side=20, step=0.1):
    chips = make(side * side)
    places = {chip.key: (50 + i // side * step, 10 + i % side * step) for i, chip in enumerate(chips)}
    return chips, places


@pytest.mark.parametrize(("size", "unit"), [(0.5, "degrees"), (40_000, "metres")])
def test_a_block_stays_together(size, unit):
    chips, places = grid()
    parts = split(Splits("block", size=size, unit=unit), chips, place=lambda chip: places[chip.key])
    part_of = {}
    for name, keys in parts.items():
        for key in keys:
            assert part_of.setdefault(block_of(*places[key], size, unit), name) == name
    assert sum(map(len, parts.values())) == 400
    for name, fraction in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        assert len(parts[name]) / 400 == pytest.approx(fraction, abs=0.1)


def test_blocks_in_metres_are_as_wide_in_the_north():
    for lat in (0.2, 50.2, 70.2):
        lons = np.arange(0, 20, 0.01)
        columns = [block_of(lat, lon, 100_000, "metres")[1] for lon in lons]
        width = Counter(columns)[5] * 0.01 * 111_319.49 * np.cos(np.radians(lat))
        assert width == pytest.approx(100_000, rel=0.03)


def test_a_box_is_held_out():
    chips, places = grid()
    splits = Splits("block", holdout={"east": (11.05, 0, 20, 90)}, size=0.5)
    parts = split(splits, chips, place=lambda chip: places[chip.key])
    assert {key for key, (_, lon) in places.items() if lon > 11.05} == set(parts["east"])
    with pytest.raises(DataError, match="holdout.east is"):
        split(Splits("block", holdout={"east": "Berlin"}, size=1), chips, place=lambda chip: (0, 0))


def test_blocks_need_places():
    with pytest.raises(DataError, match=r"c000.tif has no place on earth \(3 such chips\)"):
        split(Splits("block", size=1), make(3))


# ------------------------------------------------------------------------------------ the same image


def test_the_same_image_under_two_names_is_refused(tmp_path, monkeypatch):
    chips = [
        Chip(name, (tmp_path / f"{name}.tif",), columns={"part": name[:-1]}) for name in ("train1", "train2", "test1")
    ]
    for chip, content in zip(chips, (b"x" * 50_000, b"y" * 50_000, b"x" * 25_000 + b"z" + b"x" * 24_999), strict=True):
        chip.images[0].write_bytes(content)
    splits = Splits("column", "train", test="test", column="part", fractions=(1, 0, 0))
    assert sizes(split(splits, chips, tmp_path)) == {"train": 2, "val": 0, "test": 1}

    with monkeypatch.context() as patch:  # the answer is remembered
        patch.setattr(_overlap, "_ends", lambda path: pytest.fail("read again"))
        split(splits, chips, tmp_path)

    chips[2].images[0].write_bytes(b"x" * 50_000)
    with pytest.raises(DataError, match=r"test1.tif \(test\) and .*train1.tif \(train\) are the same image"):
        split(splits, chips, tmp_path)
    allowed = Splits("column", "train", test="test", column="part", fractions=(1, 0, 0), duplicates="allow")
    split(allowed, chips, tmp_path)


# ------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"by": "randm"}, "did you mean 'random'"),
        ({"by": "random", "column": "region"}, "splits.column means nothing with `by: random`"),
        ({"by": "random", "holdout": {"a": "b"}}, "splits.holdout means nothing"),
        ({"by": "column"}, "splits.column is missing"),
        ({"by": "block"}, "splits.size is 0"),
        ({"by": "file"}, "splits.train is missing"),
        ({"fractions": (0.5, 0.2, 0.2)}, "splits.fractions is"),
        ({"by": "folder", "holdout": {"val": "x"}}, "cannot be called 'val'"),
    ],
)
def test_keys_that_do_not_fit_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        Splits(**given)


def test_pydantic_builds_it_from_plain_data():
    given = {"by": "column", "column": "region", "train": ["central"], "holdout": {"iberia": ["iberia"]}, "limit": 100}
    expected = Splits("column", ("central",), holdout={"iberia": ("iberia",)}, column="region", limit=100)
    assert TypeAdapter(Splits).validate_python(given) == expected
    box = TypeAdapter(Splits).validate_python({"by": "block", "size": 1, "holdout": {"east": [5, 40, 6.5, 50]}})
    assert box.holdout["east"] == (5, 40, 6.5, 50)
