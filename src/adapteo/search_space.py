"""What a search may try: numbers in a range or one of some values, for each of several keys."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = str | int | float | bool | None | list[Any] | dict[str, Any]
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, on a logarithmic scale when ``low`` is above 0.

    Attributes:
        low, high: both belong to it.
        whole: whole numbers only.
    """

    low: float
    high: float
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    options: tuple[Value, ...]


Space = Mapping[str, Range | Choice]


def points(space: Space) -> int | None:
    """Number of points of a space; None when there is no end of them."""
    if any(isinstance(part, Range) and not part.whole for part in space.values()):
        return None
    return math.prod(len(_members(part)) for part in space.values())


def grid(space: Space) -> Iterator[Values]:
    """All points of a space that has an end, the last part changing fastest."""
    for values in itertools.product(*map(_members, space.values())):
        yield dict(zip(space, values, strict=True))


def _members(part: Range | Choice) -> Sequence[Value]:
    return part.options if isinstance(part, Choice) else range(int(part.low), int(part.high) + 1)
