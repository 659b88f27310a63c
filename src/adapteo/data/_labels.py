"""From what a label file or an index says to class indices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from adapteo.contracts import IGNORE
from adapteo.data._chips import Chip
from adapteo.errors import DataError, closest

LabelType = Literal["", "segmentation", "classification", "multilabel", "regression"]


@dataclass(frozen=True)
class ClassTable:
    """Names of the classes and the value that stands for each in a mask.

    Attributes:
        names: in the order of the class index.
        values: value in the mask, by class index.
        ignore: values that are not to be learned.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore: tuple[int, ...] = ()

    @classmethod
    def of(cls, given: Sequence[str] | Mapping[int, str], ignore: int | Sequence[int] = ()) -> "ClassTable":
        """Build from names (values 0, 1, …) or a mapping of values to names; classes are ordered by value.

        Raises:
            DataError: a name is used twice, or a value is both a class and ignored.
        """
        pairs = sorted(given.items()) if isinstance(given, Mapping) else list(enumerate(given))
        ignored = (ignore,) if isinstance(ignore, int) else tuple(ignore)
        names = tuple(name for _, name in pairs)
        for value, name in pairs:
            if names.count(name) > 1:
                raise DataError(f"class_names: '{name}' is named twice", fix="give each class a name of its own")
            if value in ignored:
                raise DataError(f"value {value} is class '{name}' and in `ignore`", fix="take it out of one of them")
        return cls(names, tuple(value for value, _ in pairs), ignored)

    def encode_mask(self, mask: np.ndarray, source: object, nodata: float | None = None) -> np.ndarray:
        """Turn the values of a mask ``(h, w)`` into class indices, int64 with `IGNORE`.

        NaN, and the file's nodata value unless it is a class, become `IGNORE`.

        Raises:
            DataError: a value that is neither a class nor ignored, or not a whole number; names `source`.
        """
        ignored = list(self.ignore)
        if nodata is not None and nodata not in self.values:
            ignored += [int(nodata)] if np.isfinite(nodata) else []
        blank = np.isnan(mask) if mask.dtype.kind == "f" else np.zeros(mask.shape, bool)
        whole = np.where(blank, 0, mask).astype(np.int64) if mask.dtype.kind == "f" else mask.astype(np.int64)
        if mask.dtype.kind == "f" and (whole != mask)[~blank].any():
            raise DataError(
                f"{source} holds values that are no whole numbers, e.g. {mask[(whole != mask) & ~blank][0]:g}",
                fix="for a regression set `label_type: regression` and leave `class_names` out",
            )
        values = np.asarray(self.values)
        index = np.searchsorted(values, whole).clip(max=len(values) - 1)
        known = values[index] == whole
        blank |= np.isin(whole, ignored) & ~known
        wrong = ~known & ~blank
        if wrong.any():
            raise self._unknown_value(int(whole[wrong][0]), int(wrong.sum()), source)
        return np.where(blank, IGNORE, index)

    def encode_label(self, label: str, source: object) -> int:
        """Class index of a name, or of a value written as a number.

        Raises:
            DataError: it is not a class; names `source`.
        """
        if label in self.names:
            return self.names.index(label)
        value = int(label) if label.lstrip("-").isdigit() else None
        if value in self.values:
            return self.values.index(value)
        raise DataError(
            f"{source} has the label '{label}', which is not a class{closest(label, self.names)}",
            allowed=self.names,
            fix="correct it, or add it to `class_names` in the dataset section",
        )

    def encode_labels(self, labels: Iterable[str], source: object) -> np.ndarray:
        """Several classes as ``(k,)`` float32 of 0 and 1.

        Raises:
            DataError: one is not a class; names `source`.
        """
        out = np.zeros(len(self.names), np.float32)
        for label in labels:
            out[self.encode_label(label, source)] = 1.0
        return out

    def _unknown_value(self, value: int, count: int, source: object) -> DataError:
        return DataError(
            f"{source} holds the value {value} in {count:,} pixels, which is not a class",
            allowed=[f"{v} = {name}" for v, name in zip(self.values, self.names, strict=True)],
            fix=f"add `ignore: {value}` to the dataset section, or name the value in `class_names`",
        )


def split_labels(text: str | None) -> list[str]:
    """Labels of a multi-label chip, separated by ``;``."""
    return [part.strip() for part in (text or "").split(";") if part.strip()]


def mark_labels(chips: Sequence[Chip], names: Sequence[object], label_type: LabelType) -> list[Chip]:
    """Write one-hot columns, one per class name, as a label; other chips stay as they are.

    Raises:
        DataError: a cell is neither 0 nor 1, or chips that are to be classified have no label.
    """
    out = []
    for chip in chips:
        if chip.label is None and names and all(name in chip.columns for name in names):
            marks = {str(name): chip.columns[str(name)] for name in names}
            wrong = [f"{name} = '{cell}'" for name, cell in marks.items() if _is_marked(cell) is None]
            if wrong:
                raise DataError(f"chip '{chip.key}': {wrong[0]} is neither 0 nor 1", fix="correct the index")
            chip = replace(chip, label=";".join(name for name, cell in marks.items() if _is_marked(cell)) or ";")
        if label_type in ("classification", "multilabel") and chip.label is None:
            raise DataError(f"chip '{chip.key}' has no label", fix="fill the column `label` of the index")
        if label_type in ("segmentation", "regression") and chip.mask is None:
            raise DataError(f"chip '{chip.key}' has no mask", fix="set `masks`, or fill the column `mask` of the index")
        out.append(chip)
    return out


def label_type_of(chips: Sequence[Chip], named: bool, whole: bool) -> LabelType:
    """Find out what kind of labels chips have.

    Args:
        chips: all of them.
        named: whether the user named the classes.
        whole: whether the first mask is stored as whole numbers.

    Raises:
        DataError: there are none, only some chips have them, or a mask of whole numbers has no class names.
    """
    for has, what in ((lambda chip: chip.mask, "mask"), (lambda chip: chip.label, "label")):
        lacking = [chip for chip in chips if not has(chip)]
        if len(lacking) == len(chips):
            continue
        if lacking:
            raise DataError(f"chip '{lacking[0].key}' has no {what}, others have one", fix="add it or leave it out")
        if what == "label":
            return "multilabel" if any(";" in (chip.label or "") for chip in chips) else "classification"
        if named:
            return "segmentation"
        if whole:
            raise DataError(
                f"{chips[0].mask} holds whole numbers, and the classes have no names",
                fix="set `class_names` in the dataset section, or `label_type: regression`",
            )
        return "regression"
    value = " (a `value` per image is no target: regression is per pixel)" if "value" in chips[0].columns else ""
    raise DataError(f"the chips have no labels{value}", fix="set `masks`, or a column `mask` or `label` in the index")


def encode_regression(mask: np.ndarray, ignore: int | Sequence[int]) -> np.ndarray:
    """Values ``(h, w)`` float32, NaN where they are to be ignored."""
    values = (ignore,) if isinstance(ignore, int) else tuple(ignore)
    return np.where(np.isin(mask, values), np.nan, mask).astype(np.float32)


def _is_marked(cell: str) -> bool | None:
    folded = cell.lower().removesuffix(".0")
    return {"1": True, "true": True, "0": False, "false": False, "": False}.get(folded)
