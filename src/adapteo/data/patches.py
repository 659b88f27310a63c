"""Patches of equal class in a map that is larger than the memory: found strip by strip, small ones merged.

A patch is what is connected and has one class. Its number counts patches by their first pixel, row by row, so that
nothing depends on how the map is cut into strips. What stays in memory is a few numbers for each patch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Strips = Callable[[], Iterator[np.ndarray]]
"""Gives strips ``(h, width)`` of class codes from top to bottom, anew at each call; -1 where there is no class."""


@dataclass(frozen=True)
class Borders:
    """Which patches lie side by side.

    Attributes:
        pairs: ``(m, 2)`` numbers of patches, the smaller first, each pair once.
        lengths: ``(m,)`` sides of pixels that they share; 0 where they touch at a corner only.
    """

    pairs: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Patches:
    """The patches of a map.

    Attributes:
        codes: ``(n,)`` class of each patch, -1 where there is none.
        sizes: ``(n,)`` sum of the weights of its pixels.
        borders: between them; empty when nobody asked for them.
        owner: patch of each of the pieces that were found in the strips, in their order.
        connectivity: 4 or 8 neighbours of a pixel belong together.
    """

    codes: np.ndarray
    sizes: np.ndarray
    borders: Borders
    owner: np.ndarray
    connectivity: int

    def number(self, strips: Strips) -> Iterator[np.ndarray]:
        """Give the strips again, with the number of the patch of each pixel."""
        first = 0
        for strip in strips():
            pieces, count = components(strip, self.connectivity)
            yield self.owner[first + pieces]
            first += count


def components(values: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """Number what is connected and equal in ``(h, w)``, by its first pixel, row by row; also says how many there are.

    Pixels of a row with the same value are taken together first, so that the graph is much smaller than the image.
    """
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    runs = (np.cumsum(starts.ravel()) - 1).reshape(values.shape)
    links = [_links(runs[:-1], runs[1:], values[:-1] == values[1:])]
    if connectivity == 8:
        links.append(_links(runs[:-1, :-1], runs[1:, 1:], values[:-1, :-1] == values[1:, 1:]))
        links.append(_links(runs[:-1, 1:], runs[1:, :-1], values[:-1, 1:] == values[1:, :-1]))
    label, count = _connect(int(runs[-1, -1]) + 1, np.concatenate(links))
    return label[runs], count


def find(strips: Strips, connectivity: int, *, weights: Strips | None = None, borders: bool = False) -> Patches:
    """Find the patches of a map.

    Args:
        strips: the map.
        connectivity: 4 or 8.
        weights: whole numbers to add up for the size of a patch, as strips like those of the map; 1 by default.
        borders: find out which patches lie side by side.
    """
    codes, sizes, links, sides = [], [], [np.empty((0, 2), np.int64)], [_no_borders()]
    first = 0
    above: tuple[np.ndarray, np.ndarray] | None = None
    weighing = weights() if weights else None
    for values in strips():
        pieces, count = components(values, connectivity)
        weight = next(weighing).ravel() if weighing else None
        sizes.append(np.bincount(pieces.ravel(), weight, count).astype(np.int64))
        code = np.empty(count, np.int64)
        code[pieces.ravel()] = values.ravel()
        codes.append(code)
        pieces = pieces + first
        first += count
        if above is not None:
            seam = np.stack([above[0], values[0]]), np.stack([above[1], pieces[0]])
            links.append(_seam(*seam, connectivity))
            sides += [_sides(*seam, connectivity, rows=False)] if borders else []
        sides += [_sides(values, pieces, connectivity)] if borders else []
        above = values[-1], pieces[-1]
    owner, count = _connect(first, np.concatenate(links))
    code = np.empty(count, np.int64)
    code[owner] = np.concatenate(codes)
    size = np.zeros(count, np.int64)
    np.add.at(size, owner, np.concatenate(sizes))
    return Patches(code, size, _joined(sides, owner), owner, connectivity)


def sieve(patches: Patches, smallest: float) -> Patches:
    """Give each patch that is smaller than this to the neighbour with which it shares the longest border.

    Small ones go first, so that a patch may grow beyond the limit before it is its turn; of equally long borders the
    one to the larger neighbour counts, then to the earlier one. It takes the neighbour's class, and so patches that it
    had kept apart may become one. A patch whose neighbours all have no class (an island in missing pixels) stays.

    In each round those patches are merged that are smaller than all their small neighbours; equal ones are told apart
    by a number that looks random, so that the rounds are few (Luby 1986, doi:10.1137/0215074).
    """
    codes, sizes, owner, edges = patches.codes, patches.sizes, np.arange(len(patches.codes)), patches.borders
    order = _shuffled(len(codes))
    while True:
        small = (sizes < smallest) & (codes >= 0)
        one, other, length = _directed(edges)
        useful = small[one] & (codes[other] >= 0) & (length > 0)
        one, other, length = one[useful], other[useful], length[useful]
        if not one.size:
            return Patches(codes, sizes, edges, owner[patches.owner], patches.connectivity)
        rank = np.empty(len(codes), np.int64)
        rank[np.lexsort((order, sizes))] = np.arange(len(codes))
        lowest = np.full(len(codes), len(codes))
        rivals = small[other]
        np.minimum.at(lowest, one[rivals], rank[other[rivals]])
        ready = rank[one] < lowest[one]
        one, other, length = one[ready], other[ready], length[ready]
        by_patch = np.lexsort((other, -sizes[other], -length, one))
        chosen, at = np.unique(one[by_patch], return_index=True)
        target = other[by_patch][at]
        codes = codes.copy()
        codes[chosen] = codes[target]
        alike = edges.pairs[codes[edges.pairs[:, 0]] == codes[edges.pairs[:, 1]]]
        label, count = _connect(len(codes), np.concatenate([np.stack([chosen, target], 1), alike]))
        merged = np.zeros(count, np.int64)
        np.add.at(merged, label, sizes)
        # The first of a group stands for it: its class is that of all, its place in the order is as good as another's.
        first = np.unique(label, return_index=True)[1]
        codes, order, sizes = codes[first], order[first], merged
        edges, owner = _joined([edges], label), label[owner]


# ------------------------------------------------------------------------------------------- details


def _connect(count: int, links: np.ndarray) -> tuple[np.ndarray, int]:
    """Number of the group of each of ``count`` nodes, groups in the order of their first node; and of how many."""
    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(count, count))
    groups, label = connected_components(graph, directed=False)
    first = np.unique(label, return_index=True)[1]
    position = np.empty(groups, np.int64)
    position[np.argsort(first)] = np.arange(groups)
    return position[label], int(groups)


def _links(one: np.ndarray, other: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """Pairs ``(n, 2)`` that are linked, without repetitions along a row."""
    pairs = np.stack([one[linked], other[linked]], 1)
    fresh = np.ones(len(pairs), bool)
    fresh[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[fresh]


def _seam(values: np.ndarray, pieces: np.ndarray, connectivity: int) -> np.ndarray:
    """Links between the last row of a strip and the first row of the next one, ``(2, w)`` together."""
    links = [_links(pieces[0], pieces[1], values[0] == values[1])]
    if connectivity == 8:
        links.append(_links(pieces[0, :-1], pieces[1, 1:], values[0, :-1] == values[1, 1:]))
        links.append(_links(pieces[0, 1:], pieces[1, :-1], values[0, 1:] == values[1, :-1]))
    return np.concatenate(links)


def _sides(values: np.ndarray, pieces: np.ndarray, connectivity: int, rows: bool = True) -> Borders:
    """Borders within ``(h, w)``; with ``rows`` also those between pixels of the same row."""
    found = [(pieces[:-1], pieces[1:], values[:-1] != values[1:], 1)]
    if rows:
        found.append((pieces[:, :-1], pieces[:, 1:], values[:, :-1] != values[:, 1:], 1))
    if connectivity == 8:  # corners join patches of which one takes the class of the other
        found.append((pieces[:-1, :-1], pieces[1:, 1:], values[:-1, :-1] != values[1:, 1:], 0))
        found.append((pieces[:-1, 1:], pieces[1:, :-1], values[:-1, 1:] != values[1:, :-1], 0))
    pairs = [np.stack([one[apart], other[apart]], 1) for one, other, apart, _ in found]
    lengths = [np.full(len(pair), side, np.int64) for pair, (*_, side) in zip(pairs, found, strict=True)]
    return _summed(np.concatenate(pairs), np.concatenate(lengths))


def _joined(borders: list[Borders], label: np.ndarray) -> Borders:
    """Borders between groups: those within a group are gone, those of the same two groups are added up."""
    pairs = label[np.concatenate([found.pairs for found in borders])]
    lengths = np.concatenate([found.lengths for found in borders])
    apart = pairs[:, 0] != pairs[:, 1]
    return _summed(pairs[apart], lengths[apart])


def _summed(pairs: np.ndarray, lengths: np.ndarray) -> Borders:
    low, high = pairs.min(1, initial=np.iinfo(np.int64).max), pairs.max(1, initial=-1)
    base = int(high.max(initial=0)) + 1
    keys, index = np.unique(low * base + high, return_inverse=True)
    total = np.zeros(len(keys), np.int64)
    np.add.at(total, index, lengths)
    return Borders(np.stack([keys // base, keys % base], 1), total)


def _directed(borders: Borders) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = borders.pairs.T
    return np.concatenate([one, other]), np.concatenate([other, one]), np.tile(borders.lengths, 2)


def _no_borders() -> Borders:
    return Borders(np.empty((0, 2), np.int64), np.empty(0, np.int64))


def _shuffled(count: int) -> np.ndarray:
    """Numbers 0 .. count-1 in an order without a pattern, the same at each call."""
    return np.random.default_rng(count).permutation(count)
