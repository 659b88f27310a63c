"""Scores of the TerraMind experiment: one outcome per model, and the tables that they make."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

CLASSES = {
    1: "water", 2: "trees", 3: "flooded", 4: "crops", 5: "built", 6: "bare", 7: "snow", 8: "cloud", 9: "rangeland",
}  # fmt: skip
NAMES = tuple(CLASSES.values())
SITES = {
    "282D_485L_3_3": "Brazil",
    "38D_378R_2_3": "Tanzania",
    "433D_629L_3_1": "Chile",
    "609U_541L_3_0": "Ontario",
    "637U_59R_1_3": "Denmark",
}
COLOURS = {
    0: (26, 91, 171), 1: (53, 130, 33), 2: (135, 210, 158), 3: (255, 219, 92), 4: (237, 2, 42), 5: (179, 159, 125),
    6: (168, 235, 255), 7: (97, 97, 97), 8: (209, 190, 150),
}  # fmt: skip
PROBE, FOREST = "frozen (probe)", "pixels (forest)"
ROWS = (FOREST, "full from random", PROBE, "lora", "full")
"""Order of the rows."""


@dataclass(frozen=True)
class Outcome:
    """One model on its held-out site.

    Attributes:
        way: one of `ROWS`.
        site: held out.
        seed: of the run.
        rate: learning rate, or leaf size of the forest.
        offset: "auto" or "none", how the radiometric offset was treated.
        validation: mIoU in quadrants of the training sites.
        confusion: ``(9, 9)`` pixels of the held-out site, rows truth.
        parameters: that were trained, decoder included.
        seconds: of the processor, all in all.
    """

    way: str
    site: str
    seed: int
    rate: float
    offset: str
    validation: float
    confusion: list[list[int]]
    parameters: int
    seconds: float

    def iou(self) -> np.ndarray:
        """IoU by class ``(9,)``, NaN for what does not occur in the site."""
        matrix = np.array(self.confusion, float)
        hit, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        return np.where(truth > 0, hit / np.maximum(truth + predicted - hit, 1), np.nan)

    def miou(self) -> float:
        """Mean IoU of the classes that occur in the site."""
        return float(np.nanmean(self.iou()))

    def accuracy(self) -> float:
        """Share of the pixels that are right."""
        matrix = np.array(self.confusion, float)
        return float(matrix.trace() / matrix.sum())


def render(outcomes: Sequence[Outcome]) -> str:
    """Markdown: scores by held-out site, IoU by class, and what the offset does."""
    auto = [o for o in outcomes if o.offset == "auto"]
    none = [o for o in outcomes if o.offset == "none"]
    places = list(SITES.values())
    with_known = [site for site in SITES if SITES[site] != "Ontario"]
    lines = _header("mIoU of the classes in the held-out site", (*places, "mean", "mean without Ontario"))
    lines += [_row(way, *_scores(auto, way, SITES), _mean(auto, way, SITES), _mean(auto, way, with_known))
              for way in ROWS]  # fmt: skip
    lines += _header("accuracy", (*places, "mean", "trained parameters", "CPU seconds"))
    for way in ROWS:
        own = [o for o in auto if o.way == way]
        cost = (f"{max(o.parameters for o in own):,}", f"{np.mean([o.seconds for o in own]):.0f}")
        lines.append(_row(way, *_scores(auto, way, SITES, "accuracy"), _mean(auto, way, SITES, "accuracy"), *cost))
    for way in ("lora", "full"):
        lines += _header(f"IoU by class, {way}", NAMES)
        for site, place in SITES.items():
            ious = np.mean([o.iou() for o in auto if (o.way, o.site) == (way, site)], 0)
            lines.append(_row(place, *("" if np.isnan(iou) else f"{iou:.2f}" for iou in ious)))
    lines += _header("mIoU with seed 0", (*places, "mean"))
    for way in (FOREST, PROBE, "lora"):
        for label, part in (("offset found", [o for o in auto if o.seed == 0]), ("offset ignored", none)):
            lines.append(_row(f"{way}, {label}", *_scores(part, way, SITES), _mean(part, way, SITES)))
    lines += _header("rate chosen on validation", places)
    for way in ("lora", "full", "full from random"):
        chosen = [next(o.rate for o in auto if (o.way, o.site, o.seed) == (way, site, 0)) for site in SITES]
        lines.append(_row(way, *(f"{rate:g}" for rate in chosen)))
    return "\n".join(lines).strip() + "\n"


def _value(outcome: Outcome, metric: str) -> float:
    return outcome.accuracy() if metric == "accuracy" else outcome.miou()


def _scores(outcomes: Sequence[Outcome], way: str, sites: Iterable[str], metric: str = "miou") -> list[str]:
    """Mean over seeds of each site, with the standard deviation where there are several."""
    cells = []
    for site in sites:
        values = [_value(o, metric) for o in outcomes if (o.way, o.site) == (way, site)]
        cells.append(f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""))
    return cells


def _mean(outcomes: Sequence[Outcome], way: str, sites: Iterable[str], metric: str = "miou") -> str:
    """Mean over sites; the spread is that of the seeds' means."""
    wanted = list(sites)
    by_seed = [
        np.mean([_value(o, metric) for o in outcomes if (o.way, o.seed) == (way, seed) and o.site in wanted])
        for seed in sorted({o.seed for o in outcomes if o.way == way})
    ]
    return f"{np.mean(by_seed):.3f}" + (f" ± {np.std(by_seed, ddof=1):.3f}" if len(by_seed) > 1 else "")


def _header(corner: str, columns: Sequence[str]) -> list[str]:
    return ["", _row(corner, *columns), _row(*["---"] * (1 + len(columns)))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
