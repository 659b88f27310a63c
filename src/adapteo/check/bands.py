"""Names and order of the bands: against the files, against the other scenes, and against the backbone."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from adapteo.bands import BY_NAME, resolve
from adapteo.check._findings import Check, Finding, number, some
from adapteo.check._view import View
from adapteo.errors import ConfigError

_NAME = "bands"
_LEAST = 4
"""Scenes from which on one can be told from the others."""
_BETTER, _CLEAR = 0.15, 0.1


def _run(view: View) -> Iterator[Finding]:
    well = True
    for finding in (*_against_files(view), *_against_others(view), *_against_backbone(view)):
        well = False
        yield finding
    if well:
        taken = view.pretraining.known(view.bands) if view.pretraining else ()
        more = f"; {view.pretraining.title} was pre-trained on {len(taken)} of them" if view.pretraining else ""
        yield Finding("OK", _NAME, "", f"{len(view.bands)} bands: {', '.join(view.bands)}{more}")


def _against_files(view: View) -> Iterator[Finding]:
    """What `band_names` says, and what the files call their bands."""
    if view.survey is None:
        return
    sensor = view.survey.sensor
    unnamed = [scene.path.name for scene in view.scenes if not all(scene.names)]
    if unnamed and not view.survey.band_names and len(unnamed) < len(view.scenes):
        yield Finding(
            "WARN", _NAME, some(unnamed), f"{number(len(unnamed), 'scene')} of {len(view.scenes)} without band names",
            "their bands are taken to be in the order of the first scene that names them",
            view.change("band_names", f"[{', '.join(view.bands)}]") + ", if that is the order in all files",
        )  # fmt: skip
    wrong = []
    for scene in view.scenes:
        for place, (given, said) in enumerate(zip(view.bands, scene.names, strict=False)):
            meant = _meaning(said, sensor)
            if meant is not None and meant != given:
                wrong.append(f"{scene.path.name}: band {place + 1} is called '{said}', configured as {given}")
    if wrong:
        file, _, first = wrong[0].partition(": ")
        yield Finding(
            "FAIL", _NAME, file, f"{first} ({number(len(wrong), 'such band')})",
            "the backbone gets one band for another", view.change("band_names", "[…]") + " in the order of the files",
            tuple(wrong[:50]),
        )  # fmt: skip


def _meaning(name: str | None, sensor: str | None) -> str | None:
    try:
        return resolve(name, sensor) if name else None
    except ConfigError:  # no name of a band, or one that needs the sensor: nothing to compare with
        return None


def _against_others(view: View) -> Iterator[Finding]:
    """Scenes whose bands look like those of the others in another order."""
    table = {
        p.name: np.array([np.nanmedian(band) if not np.isnan(band).all() else np.nan for band in p.values])
        for p in view.pixels
    }
    table = {name: np.log(medians) for name, medians in table.items() if (medians > 0).all()}
    if view.survey is None or len(table) < _LEAST or len(view.bands) < 3:
        return
    for name, row in table.items():
        usual = np.median([other for key, other in table.items() if key != name], axis=0)
        orders = _orders(len(row))
        away = [float(np.abs(_centred(row[list(order)]) - _centred(usual)).mean()) for order in orders]
        best = int(np.argmin(away))
        if away[0] - away[best] > _BETTER and away[best] < _CLEAR:
            told = ", ".join(view.bands[i] for i in orders[best])
            flags = " ".join(f"-b {i + 1}" for i in orders[best])
            yield Finding(
                "WARN", _NAME, name, f"its brightness by band looks like that of the others in the order {told}",
                "if its bands are in another order, the backbone gets one band for another",
                f"compare it in a GIS; if so, write it anew: `gdal_translate {flags}`",
            )  # fmt: skip


def _orders(count: int) -> list[tuple[int, ...]]:
    """As they are, reversed, and each pair exchanged."""
    plain = tuple(range(count))
    out = [plain, plain[::-1]]
    for i, j in combinations(range(count), 2):
        order = list(plain)
        order[i], order[j] = j, i
        out.append(tuple(order))
    return out


def _centred(row: np.ndarray) -> np.ndarray:
    centred: np.ndarray = row - row.mean()
    return centred


def _against_backbone(view: View) -> Iterator[Finding]:
    known = view.pretraining
    if known is None or not known.bands:
        return
    taken = known.known(view.bands)
    if not taken and not set(view.bands) & set(known.other_bands):
        yield Finding(
            "FAIL", _NAME, "", f"{known.title} was pre-trained on none of the bands {some(view.bands, 8)}",
            "there is nothing that it could tell about such images",
            f"name the files' bands with `band_names`, or choose another backbone; it knows {', '.join(known.bands)}",
        )  # fmt: skip
        return
    sensed = {BY_NAME[band].kind for band in taken}  # a backbone of several sensors does well with one of them
    wanted = [band for band in known.bands if BY_NAME[band].kind in sensed]
    absent = [band for band in wanted if band not in view.bands]
    if taken and len(taken) < len(wanted) / 2:
        yield Finding(
            "WARN", _NAME, "",
            f"{known.title} was pre-trained on {len(wanted)} such bands, {len(taken)} of them are here",
            f"it does without {some(absent, 6)}, and is less sure of what it sees",
            "add the bands to the files, or take a backbone with fewer: `adapteo list backbones`",
        )  # fmt: skip


CHECK = Check(_run)
