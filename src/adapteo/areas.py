"""How much of each class there is: counted on the map, and estimated from reference samples, with an interval.

A map's own count is biased by its errors. With samples of what is really there, the area of each class is estimated
without that bias, and the interval says how well it is known.

areas("map.tif", reference="samples.gpkg", class_column="type").render()
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from adapteo.data.class_map import ClassMap
from adapteo.data.error_matrix import Accuracy, Value, assess
from adapteo.data.reference import read_matrix, sample_map, training_overlap
from adapteo.errors import ConfigError

__all__ = ["AreaRow", "AreaTable", "areas"]
_HECTARE = 10_000.0  # square metres
ASSUMPTION = (
    "The intervals hold for samples that were drawn at random (simple, systematic, or by class of this map); "
    "nobody can see that in the file."
)


@dataclass(frozen=True)
class AreaRow:
    """One class. Areas are in hectares, or in pixels where the map has no place on Earth.

    Attributes:
        code: in the map; -1 for a class of the reference that the map does not have.
        name: of the class.
        pixels: of the map.
        mapped: area in the map.
        samples: reference samples that lie where the map says this class.
        estimated: error-adjusted area; None without reference samples.
        users, producers: share of what the map calls so that is so, and of what is so that the map calls so.
    """

    code: int
    name: str
    pixels: int
    mapped: float
    samples: int = 0
    estimated: Value | None = None
    users: Value | None = None
    producers: Value | None = None


@dataclass(frozen=True)
class AreaTable:
    """Areas of all classes of a map.

    Attributes:
        path: the map.
        unit: "ha" or "pixels".
        rows: classes by code.
        overall: overall accuracy; None without reference samples.
        matrix: ``(k, k)`` reference samples by class of the map (rows) and of the reference (columns), in the order of
            `rows`; None without.
        warnings: what weakens the estimates, one line each.
    """

    path: Path
    unit: str
    rows: tuple[AreaRow, ...]
    overall: Value | None = None
    matrix: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Everything as plain numbers and text; None where something is not known."""
        classes = [
            {
                "code": row.code, "class": row.name, "pixels": row.pixels, "mapped": row.mapped, "samples": row.samples,
                "estimated": _plain(row.estimated), "users_accuracy": _plain(row.users),
                "producers_accuracy": _plain(row.producers),
            }
            for row in self.rows
        ]  # fmt: skip
        return {
            "map": str(self.path), "unit": self.unit, "classes": classes, "overall_accuracy": _plain(self.overall),
            "error_matrix": None if self.matrix is None else self.matrix.tolist(), "warnings": list(self.warnings),
            "assumption": None if self.matrix is None else ASSUMPTION,
        }  # fmt: skip

    def to_csv(self) -> str:
        """One line per class; a cell is empty where something is not known."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        head = ["code", "class", "pixels", f"mapped_{self.unit}", "mapped_share"]
        if self.matrix is not None:
            head += ["samples"]
            for name in (f"estimated_{self.unit}", "users_accuracy", "producers_accuracy"):
                head += [name, f"{name}_se", f"{name}_low", f"{name}_high"]
        writer.writerow(head)
        total = sum(row.mapped for row in self.rows) or 1.0
        for row in self.rows:
            cells: list[object] = [row.code, row.name, row.pixels, f"{row.mapped:.6g}", f"{row.mapped / total:.6f}"]
            if self.matrix is not None:
                cells.append(row.samples)
                for value in (row.estimated, row.users, row.producers):
                    numbers = (value.value, value.error, value.low, value.high) if value else (np.nan,) * 4
                    cells += ["" if np.isnan(number) else f"{number:.6g}" for number in numbers]
            writer.writerow(cells)
        return out.getvalue()

    def render(self, console: Console | None = None) -> None:
        """Print the table, what weakens it, and what it assumes."""
        console = console or Console()
        table = Table(title=f"{self.path.name}: area in {self.unit}")
        table.add_column("class")
        table.add_column("mapped", justify="right")
        table.add_column("share", justify="right")
        if self.matrix is not None:
            for name in ("samples", "estimated ± 95 %", "user's", "producer's"):
                table.add_column(name, justify="right")
        total = sum(row.mapped for row in self.rows) or 1.0
        for row in self.rows:
            cells = [row.name, f"{row.mapped:,.2f}", f"{row.mapped / total:.1%}"]
            if self.matrix is not None:
                cells += [str(row.samples), _shown(row.estimated, ",.2f"), _shown(row.users), _shown(row.producers)]
            table.add_row(*cells)
        console.print(table)
        if self.overall is not None:
            console.print(f"overall accuracy {_shown(self.overall)}", highlight=False)
        for warning in self.warnings:
            console.print(f"warning: {warning}", highlight=False, style="yellow")
        if self.matrix is not None:
            console.print(ASSUMPTION, highlight=False)


def areas(
    map_file: str | Path,
    *,
    reference: str | Path | None = None,
    class_column: str | None = None,
    training: str | Path | None = None,
    design: str = "stratified",
) -> AreaTable:
    """Measure the area of each class of a map, and estimate it from reference samples when there are any.

    Estimates are those of Olofsson et al. 2014 (doi:10.1016/j.rse.2014.02.015), see `adapteo.data.error_matrix`. Areas
    are those of pixels on the ellipsoid where the projection changes them by more than 0.5 %, and in the plane else.

    Args:
        map_file: GeoTIFF with one band of class codes; names of classes are its tags ``CLASS_0`` …
        reference: points or polygons with their true class (each is one sample: a polygon counts for the class that
            most of its pixels have in the map); or, without ``class_column``, a CSV with an error matrix: map classes
            in rows, reference classes in columns, names in the first column and row.
        class_column: column with the class, as the map names it or its code.
        training: labels that the model was trained on, to say which samples are not independent of it.
        design: how the samples were drawn: "stratified" by the classes of this map, or "random" for simple random and
            systematic samples over the whole map, whose number in each class is a matter of chance too.

    Raises:
        DataError: a file cannot be read, no sample lies on the map, a class is unknown to the map.
        ConfigError: a reference without its class column, or an unknown design.
    """
    if design not in ("stratified", "random"):
        raise ConfigError(f"there is no design '{design}'", allowed=("stratified", "random"))
    given = ClassMap.open(map_file)
    found = given.sizes()
    found.pop(-1, None)
    legend = given.legend.names
    names = {code: legend.get(code, str(code)) for code in sorted({*found, *legend})}
    metres = given.areas is not None
    scale = 1 / _HECTARE if metres else 1.0
    rows = tuple(
        AreaRow(code, name, found.get(code, (0, 0.0))[0], found.get(code, (0, 0.0))[1] * scale)
        for code, name in names.items()
    )
    table = AreaTable(given.path, "ha" if metres else "pixels", rows)
    if reference is None:
        return table
    warnings: list[str] = []
    if class_column is None:
        if Path(reference).suffix.lower() != ".csv":
            raise ConfigError(
                f"the class of the samples in {reference} is not known",
                fix="name their column with --class-column (in Python: class_column=…)",
            )
        matrix = read_matrix(Path(reference), names)
    else:
        matrix, more = sample_map(given, Path(reference), class_column, names)
        warnings += more
        if training is not None:
            warnings += training_overlap(given, Path(reference), class_column, Path(training))
    return _with_estimates(table, matrix, design, warnings)


# ------------------------------------------------------------------------------------------- details


def _with_estimates(table: AreaTable, matrix: np.ndarray, design: str, warnings: Sequence[str]) -> AreaTable:
    mapped = np.array([row.mapped for row in table.rows])
    accuracy = assess(matrix, mapped, random=design == "random")
    rows = tuple(
        replace(
            row, samples=int(matrix[i].sum()), estimated=accuracy.areas[i], users=accuracy.users[i],
            producers=accuracy.producers[i],
        )
        for i, row in enumerate(table.rows)
    )  # fmt: skip
    found = (*warnings, *_weak(rows, accuracy))
    return replace(table, rows=rows, overall=accuracy.overall, matrix=matrix, warnings=found)


def _weak(rows: Sequence[AreaRow], accuracy: Accuracy) -> list[str]:
    """What the numbers of samples do to the estimates."""
    total = sum(row.mapped for row in rows)
    out = [
        f"no sample lies where the map says {row.name} ({row.mapped / total:.1%} of it): the estimates leave this out"
        for row in rows
        if row.mapped and not row.samples
    ]
    out += [
        f"only one sample lies where the map says {row.name}: there are no intervals for what depends on it; take 2 or "
        "more, better 50"
        for row in rows
        if row.mapped and row.samples == 1
    ]
    if not np.isnan(accuracy.overall.value) and (few := [r.name for r in rows if r.mapped and 2 <= r.samples < 20]):
        out.append(f"fewer than 20 samples in {', '.join(few)}: intervals are only approximate")
    return out


def _plain(value: Value | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    numbers = {"value": value.value, "standard_error": value.error, "low": value.low, "high": value.high}
    return {key: None if np.isnan(number) else float(number) for key, number in numbers.items()}


def _shown(value: Value | None, form: str = ".3f") -> str:
    if value is None or np.isnan(value.value):
        return "–"
    half = "?" if np.isnan(value.error) else format(value.half, form)
    return f"{value.value:{form}} ± {half}"
