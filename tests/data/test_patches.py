"""Patches against scipy's labels, and the sieve against one that goes patch by patch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from adapteo.data.patches import Borders, Patches, components, find, sieve

NEIGHBOURS = {4: ndimage.generate_binary_structure(2, 1), 8: np.ones((3, 3), int)}


def random_map(seed, height, width, classes):
    return np.random.default_rng(seed).integers(-1, classes, (height, width)).astype(np.int32)


def strips(values, rows):
    return lambda: (values[top : top + rows] for top in range(0, len(values), rows))


def reference(values, connectivity):
    """Numbers by first pixel, from scipy's labels of each class."""
    out = np.zeros(values.shape, int)
    for code in np.unique(values):
        label, _ = ndimage.label(values == code, NEIGHBOURS[connectivity])
        out += np.where(label > 0, label + out.max(), 0)
    _, first, index = np.unique(out, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[index].reshape(values.shape)


maps = {
    "seed": st.integers(0, 10_000), "height": st.integers(1, 14), "width": st.integers(1, 14),
    "classes": st.integers(1, 3), "connectivity": st.sampled_from([4, 8]), "rows": st.integers(1, 15),
}  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(**maps)
def test_patches_are_those_of_scipy_whatever_the_strips(seed, height, width, classes, connectivity, rows):
    values = random_map(seed, height, width, classes)
    expected = reference(values, connectivity)
    np.testing.assert_array_equal(components(values, connectivity)[0], expected)
    found = find(strips(values, rows), connectivity, borders=True)
    np.testing.assert_array_equal(np.concatenate(list(found.number(strips(values, rows)))), expected)
    np.testing.assert_array_equal(found.sizes, np.bincount(expected.ravel()))
    np.testing.assert_array_equal(found.codes[expected], values)
    assert lengths(found) == sides(expected, corners=connectivity == 8)


def lengths(patches):
    return {
        tuple(pair): length
        for pair, length in zip(patches.borders.pairs.tolist(), patches.borders.lengths, strict=True)
    }


def sides(numbers, corners):
    """Sides of pixels that patches share, counted pixel by pixel."""
    out = {}
    height, width = numbers.shape
    for row in range(height):
        for col in range(width):
            for down, right in ((0, 1), (1, 0), *(((1, 1), (1, -1)) if corners else ())):
                y, x = row + down, col + right
                if y < height and 0 <= x < width and numbers[row, col] != numbers[y, x]:
                    pair = tuple(sorted((int(numbers[row, col]), int(numbers[y, x]))))
                    out[pair] = out.get(pair, 0) + (abs(down) + abs(right) == 1)
    return out


@settings(max_examples=80, deadline=None)
@given(**maps, smallest=st.integers(1, 12))
def test_sieve_leaves_no_small_patch_that_has_a_neighbour(seed, height, width, classes, connectivity, rows, smallest):
    values = random_map(seed, height, width, classes)
    found = find(strips(values, rows), connectivity, borders=True)
    merged = sieve(found, smallest)
    numbers = np.concatenate(list(merged.number(strips(values, rows))))
    sieved = merged.codes[numbers]
    np.testing.assert_array_equal(sieved == -1, values == -1)
    # What is one patch after the sieve is one patch of the new map.
    np.testing.assert_array_equal(numbers, reference(sieved, connectivity))
    np.testing.assert_array_equal(merged.sizes, np.bincount(numbers.ravel()))
    with_neighbour = {p for pair in sides(numbers, False) for p in pair if all(merged.codes[list(pair)] >= 0)}
    assert all(merged.sizes[p] >= smallest for p in with_neighbour)
    # It does not depend on the strips.
    again = sieve(find(strips(values, height), connectivity, borders=True), smallest)
    np.testing.assert_array_equal(np.concatenate(list(again.number(strips(values, height)))), numbers)


def test_sieve_does_nothing_below_one_pixel():
    values = random_map(0, 20, 20, 3)
    found = find(strips(values, 7), 4, borders=True)
    np.testing.assert_array_equal(sieve(found, 1).codes, found.codes)


@pytest.mark.parametrize(
    ("picture", "expected", "smallest"),
    [
        # One pixel of 1 has three sides with 0 and one with 2.
        (["00022", "00122", "00022"], ["00022", "00022", "00022"], 2),
        # It joins the 0 on both sides, which become one patch.
        (["20002", "20102", "20002"], ["20002", "20002", "20002"], 2),
        # The smaller one goes first, so the ring around it grows to nine pixels, and stays.
        (["00000", "02220", "02120", "02220", "00000"], ["00000", *["02220"] * 3, "00000"], 9),
        # An island in nothing stays.
        (["...", ".1.", "..."], ["...", ".1.", "..."], 3),
        # Of equal borders the one to the larger neighbour counts.
        (["0012222", "0012222"], ["0022222", "0022222"], 3),
    ],
)
def test_a_small_patch_takes_the_neighbour_with_the_longest_border(picture, expected, smallest):
    read = [[-1 if c == "." else int(c) for c in line] for line in picture]
    wanted = [[-1 if c == "." else int(c) for c in line] for line in expected]
    values = np.array(read, np.int32)
    merged = sieve(find(strips(values, 2), 4, borders=True), smallest)
    numbers = np.concatenate(list(merged.number(strips(values, 2))))
    np.testing.assert_array_equal(merged.codes[numbers], wanted)


def test_rounds_of_the_sieve_are_few():
    """A line of single pixels: each is as small as the next one."""
    count = 20_000
    pairs = np.stack([np.arange(count - 1), np.arange(1, count)], 1)
    line = Patches(
        np.arange(count) % 2, np.ones(count, int), Borders(pairs, np.ones(count - 1, int)), np.arange(count), 4
    )
    merged = sieve(line, 5)
    assert merged.sizes.sum() == count
    assert merged.sizes.min() >= 5 or len(merged.sizes) == 1
