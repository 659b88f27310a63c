"""Training, validation, test and hold-outs: who decides, and that nothing is in two of them.

A random split of chips that lie side by side tests memory, not generalisation; blocks and regions are the honest ones
(Roberts et al. 2017, doi:10.1111/ecog.02881). A hold-out is a further test split in a place without training chips.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from adapteo.data._blocks import block_of, deal, in_box
from adapteo.data._chips import Chip
from adapteo.data._overlap import Parts, check_contents, check_keys
from adapteo.errors import ConfigError, DataError, closest

By = Literal["random", "file", "column", "block", "folder"]
PARTS = ("train", "val", "test")

_PART_NAMES = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}, "test": {"test", "testing"}}

_USES: dict[str, set[str]] = {
    "random": {"fractions"},
    "file": {"train", "val", "test", "holdout"},
    "column": {"column", "train", "val", "test", "holdout", "fractions"},
    "block": {"size", "unit", "holdout", "fractions"},
    "folder": {"train", "val", "test", "holdout"},
}
_ALWAYS = ("limit", "limit_val", "seed", "duplicates")


@dataclass(frozen=True)
class Splits:
    """How chips are divided. Which keys count depends on `by`; another one is refused.

    - ``random``: by `fractions`, each class alike.
    - ``file``: `train`, `val`, `test` and each `holdout` name a text file (CSV: first column), one chip per line.
    - ``column``: they list values of `column` of the index (also: ``key``, ``folder``). Without `train`, it is every
      value that is not listed. A part without values is taken from the training values, by `fractions`.
    - ``block``: squares of `size` on the ground go to one part as a whole, by `fractions`; each `holdout` is a box.
    - ``folder``: they name the folder that the chips lie in; by default train, val and test.

    Attributes:
        by: what decides.
        train, val, test: see above.
        holdout: name of a further test split to values, file, folder, or ``[west, south, east, north]`` in degrees.
        column: name of a column of the index.
        fractions: of train, val and test; the sum is 1.
        size: side of a block, in `unit`.
        unit: "degrees" or "metres".
        limit: keep only so many training chips, drawn at random, each class alike; for runs with few labels.
        limit_val: the same for the validation chips.
        seed: of all that is random here.
        duplicates: "refuse" images with the same content in two parts, or "allow" them (e.g. many empty chips).
    """

    by: By = "random"
    train: str | tuple[str, ...] = ()
    val: str | tuple[str, ...] = ()
    test: str | tuple[str, ...] = ()
    holdout: Mapping[str, str | tuple[str, ...] | tuple[float, float, float, float]] = field(default_factory=dict)
    column: str = ""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    size: float = 0.0
    unit: Literal["degrees", "metres"] = "degrees"
    limit: int | None = None
    limit_val: int | None = None
    seed: int = 0
    duplicates: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        """Refuse keys that mean nothing together.

        Raises:
            ConfigError: names the key.
        """
        if self.by not in _USES:
            raise ConfigError(f"splits.by is '{self.by}'{closest(self.by, _USES)}", allowed=get_args(By))
        default = type(self).__dataclass_fields__
        for key in sorted(set().union(*_USES.values()) - _USES[self.by]):
            unset = {} if key == "holdout" else default[key].default
            if vars(self)[key] != unset:
                raise ConfigError(
                    f"splits.{key} means nothing with `by: {self.by}`", allowed=(*sorted(_USES[self.by]), *_ALWAYS)
                )
        if len(self.fractions) != 3 or min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ConfigError(f"splits.fractions is {list(self.fractions)}", allowed=["three numbers with the sum 1"])
        if self.by == "column" and not self.column:
            raise ConfigError("splits.column is missing", fix="name the column of the index that decides")
        if self.by == "block" and self.size <= 0:
            raise ConfigError(f"splits.size is {self.size:g}", fix=f"give the side of a block in {self.unit}")
        if self.by == "file" and not self.train:
            raise ConfigError("splits.train is missing", fix="name the text file that lists the training chips")
        for name in self.holdout:
            if name in PARTS:
                raise ConfigError(f"a hold-out cannot be called '{name}'", fix="choose another name")


Place = Callable[[Chip], tuple[float, float] | None]


def assign(splits: Splits, chips: Sequence[Chip], root: Path, place: Place) -> dict[str, tuple[str, ...]]:
    """Divide chips; the same input always gives the same parts, in the order of ``chips``.

    Args:
        splits: how.
        chips: all of them.
        root: folder that split files are relative to.
        place: tells latitude and longitude of a chip; asked only for blocks.

    Returns:
        Keys by part: train, val, test, then the hold-outs; parts may be empty.

    Raises:
        DataError: a file, column, value or place is missing, or a chip falls into two parts.
    """
    if splits.by == "random":
        parts = _by_fractions(chips, splits)
    elif splits.by == "file":
        parts = _by_file(chips, splits, root)
    elif splits.by == "column":
        parts = _by_column(chips, splits)
    elif splits.by == "folder":
        parts = _by_folder(chips, splits, root)
    else:
        parts = _by_block(chips, splits, place)
    check_keys(parts)
    if splits.duplicates == "refuse":
        check_contents(parts)
    for name, limit in (("train", splits.limit), ("val", splits.limit_val)):
        if limit is not None:
            parts[name] = draw(parts[name], limit, splits.seed)
    order = {chip.key: i for i, chip in enumerate(chips)}
    return {name: tuple(sorted((c.key for c in part), key=order.__getitem__)) for name, part in parts.items()}


def draw(chips: Sequence[Chip], count: int, seed: int) -> list[Chip]:
    """Draw chips at random, each class as near to equal shares of the whole as rounding allows."""
    if count >= len(chips):
        return list(chips)
    return _shuffled(chips, seed)[:count]


def default_splits(chips: Sequence[Chip], root: Path) -> Splits:
    """What a dataset seems to bring with it: a column ``split``, folders train and test (or val), or nothing."""
    if chips[0].columns.get("split"):
        found = sorted({chip.columns["split"] for chip in chips})
        train, val, test = (tuple(v for v in found if v.lower() in _PART_NAMES[part]) for part in PARTS)
        others = {v: (v,) for v in found if v not in (*train, *val, *test)}
        return Splits("column", train, val, test, others, column="split", fractions=(1.0, 0.0, 0.0))
    folders = {part for chip in chips for part in _folders(chip.images[0].parent, root)}
    return Splits(by="folder") if "train" in folders and folders & {"val", "valid", "test"} else Splits()


# --------------------------------------------------------------------------------- five ways to divide


def _by_fractions(chips: Sequence[Chip], splits: Splits) -> Parts:
    parts: Parts = {name: [] for name in PARTS}
    shuffled = _shuffled(chips, splits.seed)
    bounds = [0, *(round(cut * len(chips)) for cut in np.cumsum(splits.fractions))]
    for name, start, end in zip(PARTS, bounds[:-1], bounds[1:], strict=True):
        parts[name] = shuffled[start:end]
    return parts


def _by_file(chips: Sequence[Chip], splits: Splits, root: Path) -> Parts:
    by_name: dict[str, set[str]] = defaultdict(set)
    for chip in chips:
        for path in (*chip.images, *([chip.mask] if chip.mask else [])):
            relative = path.relative_to(root) if path.is_relative_to(root) else path
            for name in (chip.key, path.name, path.stem, relative.as_posix(), relative.with_suffix("").as_posix()):
                by_name[name].add(chip.key)
    by_key = {chip.key: chip for chip in chips}
    parts: Parts = {name: [] for name in PARTS}
    for name, source in _given(splits).items():
        for file in (source,) if isinstance(source, str) else source:
            parts.setdefault(name, []).extend(by_key[key] for key in _listed(root / str(file), by_name))
    return parts


def _by_column(chips: Sequence[Chip], splits: Splits) -> Parts:
    values = {chip.key: _value(chip, splits.column, chips) for chip in chips}
    given = {name: (want,) if isinstance(want, str) else tuple(map(str, want)) for name, want in _given(splits).items()}
    known = sorted(set(values.values()))
    for name, wanted in given.items():
        for value in wanted:
            if value not in known:
                raise DataError(
                    f"splits.{name}: no chip has '{value}' in the column '{splits.column}'{closest(value, known)}",
                    allowed=known,
                )
    taken = {value for name, wanted in given.items() if name != "train" for value in wanted}
    given.setdefault("train", tuple(value for value in known if value not in taken))
    parts: Parts = {name: [c for c in chips if values[c.key] in given.get(name, ())] for name in (*PARTS, *given)}
    shares = [
        f if name == "train" or name not in given else 0.0 for name, f in zip(PARTS, splits.fractions, strict=True)
    ]
    if sum(shares[1:]) > 0:
        cut = (shares[0] / sum(shares), shares[1] / sum(shares), shares[2] / sum(shares))
        inside = _by_fractions(parts["train"], Splits(fractions=cut, seed=splits.seed))
        parts |= {name: inside[name] for name in PARTS if name == "train" or name not in given}
    return parts


def _by_folder(chips: Sequence[Chip], splits: Splits, root: Path) -> Parts:
    folders = {"train": "train", "val": ("val", "valid", "validation"), "test": "test", **_given(splits)}
    parts: Parts = {}
    for name, wanted in folders.items():
        wanted = (wanted,) if isinstance(wanted, str) else wanted
        parts[name] = [c for c in chips if any(_lies_in(c.images[0].parent, root, str(folder)) for folder in wanted)]
    if not parts["train"]:
        raise DataError(
            f"no chip in {root} lies in a folder called '{folders['train']}'",
            fix="name the folders in `splits.train`, `val`, `test`, or choose another `by`",
        )
    return parts


def _by_block(chips: Sequence[Chip], splits: Splits, place: Place) -> Parts:
    places = {chip.key: place(chip) for chip in chips}
    lost = [chip for chip in chips if places[chip.key] is None]
    if lost:
        raise DataError(
            f"{lost[0].images[0]} has no place on earth ({len(lost)} such chips), which blocks need",
            fix="add latitude and longitude to the index, or use another `splits.by`",
        )
    parts: Parts = {name: [] for name in (*PARTS, *splits.holdout)}
    blocks: dict[tuple[int, int], list[Chip]] = defaultdict(list)
    for chip in chips:
        lat, lon = places[chip.key] or (np.nan, np.nan)
        home = next((name for name, box in splits.holdout.items() if in_box(lat, lon, name, box)), None)
        if home is not None:
            parts[home].append(chip)
        else:
            blocks[block_of(lat, lon, splits.size, splits.unit)].append(chip)
    for block, i in deal({block: len(found) for block, found in blocks.items()}, splits.fractions, splits.seed).items():
        parts[PARTS[i]] += blocks[block]
    return parts


# -------------------------------------------------------------------------------------------- parts


def _given(splits: Splits) -> dict[str, str | tuple[str, ...] | tuple[float, float, float, float]]:
    """What the user wrote for each part and hold-out."""
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {**{name: value for name, value in parts.items() if value}, **splits.holdout}


def _shuffled(chips: Iterable[Chip], seed: int) -> list[Chip]:
    """Chips in random order, such that any run of them holds each label in about its share.

    The i-th of the m chips of a label, shuffled, sits at (i + 1/2) / m of the way.
    """
    groups: dict[str, list[Chip]] = defaultdict(list)
    for chip in sorted(chips, key=lambda chip: chip.key):
        groups[chip.label or ""].append(chip)
    placed = []
    for label in sorted(groups):
        salt = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=4).digest(), "big")
        order = np.random.default_rng([seed, salt]).permutation(len(groups[label]))
        placed += [((i + 0.5) / len(order), groups[label][j]) for i, j in enumerate(order)]
    placed.sort(key=lambda item: item[0])
    return [chip for _, chip in placed]


def _listed(file: Path, by_name: Mapping[str, set[str]]) -> list[str]:
    """Keys that a split file lists, each line exactly one chip."""
    if not file.is_file():
        raise DataError(f"there is no split file {file}", fix="set it relative to `root`")
    keys = []
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        entry = line.partition(",")[0].strip()
        if not entry:
            continue
        found = by_name.get(entry, set())
        if len(found) != 1:
            problem = f"is {len(found)} chips" if found else f"is no chip of this dataset{closest(entry, by_name)}"
            raise DataError(f"{file}: '{entry}' {problem}", fix="write the path from `root`, one chip per line")
        keys += sorted(found)
    return keys


def _value(chip: Chip, column: str, chips: Sequence[Chip]) -> str:
    if column in chip.columns:
        return chip.columns[column]
    own = {"key": chip.key, "folder": chip.images[0].parent.name}
    if column not in own:
        allowed = sorted({name for c in chips[:1] for name in c.columns} | own.keys())
        raise DataError(f"splits.column: there is no column '{column}'{closest(column, allowed)}", allowed=allowed)
    return own[column]


def _folders(parent: Path, root: Path) -> tuple[str, ...]:
    return (parent.relative_to(root) if parent.is_relative_to(root) else parent).parts


def _lies_in(parent: Path, root: Path, folder: str) -> bool:
    parts = _folders(parent, root)
    return folder in parts or "/".join((*parts, "")).startswith(folder.rstrip("/") + "/")
