"""Square blocks on the ground, each of which goes to one split as a whole (Roberts et al. 2017)."""

from collections.abc import Mapping, Sequence

import numpy as np

from adapteo.errors import DataError

_METRES_PER_DEGREE = 111_319.49  # on the equator of WGS84: 2 pi 6,378,137 m / 360

Block = tuple[int, int]


def block_of(lat: float, lon: float, size: float, unit: str = "degrees") -> Block:
    """Row and column of the block that a place lies in; blocks in metres keep their width towards the poles."""
    if unit == "degrees":
        return int(np.floor(lat / size)), int(np.floor(lon / size))
    row = int(np.floor(lat * _METRES_PER_DEGREE / size))
    middle = np.radians((row + 0.5) * size / _METRES_PER_DEGREE)
    return row, int(np.floor(lon * _METRES_PER_DEGREE * np.cos(middle) / size))


def deal(blocks: Mapping[Block, int], fractions: Sequence[float], seed: int) -> dict[Block, int]:
    """Give each block, in random order, to the part that lacks most chips.

    Args:
        blocks: number of chips by block.
        fractions: share of the chips that each part should get.
        seed: of the order.

    Returns:
        Position in ``fractions`` by block.
    """
    total = sum(blocks.values())
    lack = np.array([fraction * total if fraction else -np.inf for fraction in fractions])
    keys = sorted(blocks)
    out = {}
    for i in np.random.default_rng(seed).permutation(len(keys)):
        out[keys[i]] = part = int(np.argmax(lack))
        lack[part] -= blocks[keys[i]]
    return out


def in_box(lat: float, lon: float, name: str, box: object) -> bool:
    """Whether a place lies in ``[west, south, east, north]``.

    Raises:
        DataError: the box is not four numbers; names the hold-out.
    """
    sides = [float(side) for side in box if isinstance(side, int | float)] if isinstance(box, list | tuple) else []
    if len(sides) != 4:
        raise DataError(f"splits.holdout.{name} is {box}", allowed=["[west, south, east, north] in degrees"])
    west, south, east, north = sides
    return south <= lat < north and west <= lon < east
