"""Outlines of parts against GDAL's: the same polygons, corner by corner, whatever the strips and batches."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes

from adapteo.data import _outlines
from adapteo.data._outlines import draw
from adapteo.data.patches import find


def strips(values, rows):
    return lambda: (values[row : row + rows] for row in range(0, len(values), rows))


def drawn(values, rows, batch):
    """All polygons of the parts of a picture, their parts, and in how many batches they came."""
    parts = find(strips(values, rows), 4)
    numbers = (np.where(parts.codes[strip] < 0, -1, strip) for strip in parts.number(strips(values, rows)))
    before, _outlines._BATCH = _outlines._BATCH, batch
    try:
        found = list(draw(numbers, np.arange(len(parts.codes))))
    finally:
        _outlines._BATCH = before
    polygons = [polygon for some, _ in found for polygon in some]
    return polygons, [owner for _, some in found for owner in some.tolist()], len(found)


def by_gdal(values):
    """Polygons of connected equal values of 0 and more, in the order of their first pixels."""
    parts = find(strips(values, len(values)), 4)
    (numbers,) = parts.number(strips(values, len(values)))
    found = [(int(n), outline["coordinates"]) for outline, n in shapes(numbers.astype(np.int32), numbers >= 0)]
    found = sorted(pair for pair in found if parts.codes[pair[0]] >= 0)
    return [shapely.Polygon(shell, holes) for _, (shell, *holes) in found], [number for number, _ in found]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), height=st.integers(1, 24), width=st.integers(1, 24), classes=st.integers(1, 3),
    rows=st.integers(1, 9), batch=st.sampled_from([1, 7, 10_000]), stretch=st.sampled_from([1, 2, 3]),
)  # fmt: skip
def test_they_are_those_of_gdal(seed, height, width, classes, rows, batch, stretch):
    values = np.random.default_rng(seed).integers(-1, classes, (height, width)).repeat(stretch, 1)
    polygons, owners, _ = drawn(values, rows, batch)
    expected, numbers = by_gdal(values)
    assert owners == numbers
    assert shapely.to_wkb(polygons).tolist() == shapely.to_wkb(expected).tolist()
    assert shapely.is_valid(polygons).all()


def test_rings_that_touch():
    """A ring of pixels that closes over a corner has a hole that touches its outline, and holes touch each other."""
    picture = ["#####", "#.#.#", "##.##", "#.#..", "####."]
    values = np.array([[0 if c == "#" else -1 for c in line] for line in picture])
    polygons, _, _ = drawn(values, 2, 100)
    assert len(polygons) == 1
    assert shapely.get_num_interior_rings(polygons[0]) == 4
    assert shapely.is_valid(polygons[0])
    assert shapely.area(polygons[0]) == (values == 0).sum()


def test_batches_are_small_but_for_what_is_large_and_owners_stay_together():
    values = np.arange(400).reshape(20, 20)  # each pixel is a part: two segments
    owners = np.arange(400) // 4
    numbers = lambda: iter(np.split(values, 5))  # noqa: E731
    before, _outlines._BATCH = _outlines._BATCH, 40
    try:
        found = list(draw(numbers(), owners))
    finally:
        _outlines._BATCH = before
    assert [len(some) for some, _ in found] == [20] * 20
    assert np.concatenate([some for _, some in found]).tolist() == owners.tolist()
    assert all(not set(one) & set(other) for (_, one), (_, other) in pairwise(found))


def test_what_was_given_is_not_kept(monkeypatch):
    monkeypatch.setattr(_outlines, "_BATCH", 10)
    drawing = draw(iter([np.arange(100).reshape(10, 10)]), np.arange(100))
    for polygons, _ in drawing:
        seen = weakref.ref(polygons[0])
        del polygons
        assert seen() is None


@pytest.mark.parametrize("values", [np.full((3, 4), -1), np.full((1, 1), -1)])
def test_nothing(values):
    assert drawn(values, 2, 10)[0] == []


def test_a_long_spiral():
    """The rounds of jumping are as many as the logarithm of the corners; the area is that of the pixels."""
    side = 61
    values = np.full((side, side), -1)
    row, col, step = 0, -1, (0, 1)
    for length in [side, *(n for n in range(side - 1, 1, -2) for _ in range(2))]:
        for _ in range(length):
            row, col = row + step[0], col + step[1]
            values[row, col] = 0
        step = (step[1], -step[0])
    polygons, _, _ = drawn(values, 7, 100)
    assert len(polygons) == 1
    assert shapely.area(polygons[0]) == (values == 0).sum()
    assert shapely.to_wkb(polygons).tolist() == shapely.to_wkb(by_gdal(values)[0]).tolist()
