"""Which bands a file holds: what it says, what its name says, else a question."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from adapteo.bands import (
    BANDS,
    HLS6,
    HLS_L30,
    HLS_S30,
    L8,
    S2,
    SENSORS,
    SENTINEL2_L1C,
    SENTINEL2_L2A,
    resolve_all,
)
from adapteo.errors import ConfigError, closest
from adapteo.init._imagery import Found

_IN_NAMES = (
    (HLS_S30, r"HLS[._]?S30"),
    (HLS_L30, r"HLS[._]?L30"),
    (L8, r"(?<![A-Z])L(?:C|O|E|T)0?[89](?![0-9])|LANDSAT[-_ ]?[89]"),
    (S2, r"SENTINEL[-_ ]?2|(?<![A-Z0-9])S2[ABC]?(?![0-9])|MSIL[12][AC]"),
)
_TAGS = ("PLATFORM", "SPACECRAFT_NAME", "SPACECRAFT_ID", "SATELLITE", "SATELLITEID", "SENSOR", "MISSION")
_BY_COUNT: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        3: ("red", "green", "blue"),
        4: ("blue", "green", "red", "nir"),
        6: HLS6,
        12: SENTINEL2_L2A,
        13: SENTINEL2_L1C,
    }
)
_NEAR = 0.03  # of a wavelength, as a share: nir and nir08 are 0.027 apart, the nearest one counts


@dataclass(frozen=True)
class Bands:
    """The bands of the scenes.

    Attributes:
        names: canonical, in the files' order.
        sensor: one of `adapteo.bands.SENSORS`, or None where it is not known and not needed.
        written: what the configuration has to name; empty when the files' own names do.
        needs_sensor: True when the files' names mean something on the sensor only.
        why: how it was found out.
    """

    names: tuple[str, ...]
    sensor: str | None
    written: tuple[str, ...]
    needs_sensor: bool
    why: str


def tell_bands(scenes: Sequence[Found], given: Sequence[str] = (), sensor: str | None = None) -> Bands:
    """Find out which bands the scenes hold.

    Args:
        scenes: of one layout.
        given: names of all bands in order, if the person named them.
        sensor: if the person named it.

    Raises:
        ConfigError: it cannot be told; says what to add to the command.
    """
    if sensor is not None and sensor not in SENSORS:
        raise ConfigError(f"--sensor {sensor}: there is no such sensor{closest(sensor, SENSORS)}", allowed=SENSORS)
    told, how = (sensor, "--sensor") if sensor else sensor_of(scenes)
    first = next((found for found in scenes if any(found.scene.names)), scenes[0])
    if given:
        return _given(first, given, told)
    names = [name for name in first.scene.names if name]
    if len(names) == len(first.scene.names):
        bands = _described(first, names, sensor, told, how)
        if bands is not None:
            return bands
    by_wavelength = _by_wavelength(first)
    if by_wavelength:
        return Bands(by_wavelength, told, by_wavelength, False, "wavelengths in the files")
    usual = {12: SENTINEL2_L2A, 13: SENTINEL2_L1C}.get(len(first.scene.names))
    if told == S2 and usual:
        return Bands(usual, told, usual, False, f"{len(usual)} bands of Sentinel-2 ({how}) in its own order")
    raise _question(first)


def sensor_of(scenes: Sequence[Found]) -> tuple[str | None, str]:
    """The sensor that all scenes name in their tags or file names, and where; None when they differ or do not."""
    answers = {_sensor_of(found) for found in scenes}
    return answers.pop() if len(answers) == 1 else (None, "")


def _sensor_of(found: Found) -> tuple[str | None, str]:
    if found.source.product and found.source.sensor:
        return found.source.sensor, "the product"
    said = " ".join(found.tags[key] for key in _TAGS if key in found.tags)
    path = found.scene.path
    for text, where in ((said, "the files' tags"), (path.stem, "the file names"), (path.parent.name, "their folder")):
        for sensor, pattern in _IN_NAMES:
            if re.search(pattern, text, re.IGNORECASE):
                return sensor, where
    return None, ""


def _given(first: Found, given: Sequence[str], sensor: str | None) -> Bands:
    count = len(first.scene.names)
    try:
        names = resolve_all(given, sensor)
    except ConfigError as error:
        fix = f"add --sensor, one of {', '.join(SENSORS)}" if "differs" in error.problem else "correct --bands"
        raise ConfigError(f"--bands: {error.problem}", allowed=error.allowed, fix=fix) from error
    if len(names) != count:
        dates, rest = divmod(count, len(names))
        stacked = f"; if it stacks {dates} dates, add --dates-per-file {dates}" if dates > 1 and not rest else ""
        raise ConfigError(
            f"--bands names {len(names)} bands, but {first.scene.path} has {count}",
            fix=f"name all bands of the file, in its order{stacked}",
        )
    return Bands(names, sensor, names, False, "--bands")


def _described(first: Found, names: Sequence[str], sensor: str | None, told: str | None, how: str) -> Bands | None:
    """By the files' own names of their bands; None when they are no names of bands."""
    possible = _possible(names)
    if sensor and sensor not in possible and possible:
        try:
            resolve_all(names, sensor)
        except ConfigError as error:
            raise ConfigError(
                f"{first.scene.path.name}: {error.problem}",
                allowed=error.allowed,
                fix="take another --sensor, or name the bands with --bands",
            ) from error
    try:
        return Bands(resolve_all(names), told, (), False, "the files' names of their bands")
    except ConfigError:
        pass
    if not possible:
        return None
    if told in possible:
        return Bands(possible[told], told, (), True, f"the files' names of their bands, on {told} ({how})")
    if len(set(possible.values())) == 1:
        one = next(iter(possible))
        return Bands(possible[one], one, (), True, f"the files' names of their bands, as on {', '.join(possible)}")
    if S2 in possible and first.scene.gsd < 12:
        why = f"the files' names of their bands, on {S2} (pixels of {first.scene.gsd:.3g} m are too small for Landsat)"
        return Bands(possible[S2], S2, (), True, why)
    raise ConfigError(
        f"{first.scene.path.name} calls its bands {', '.join(names)}, which differ between sensors",
        allowed=[f"--sensor {key}" for key in possible],
        fix="add one of these to the command",
    )


def _possible(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sensors that have all these names."""
    found = {}
    for sensor in SENSORS:
        try:
            found[sensor] = resolve_all(names, sensor)
        except ConfigError:
            continue
    return found


def _by_wavelength(first: Found) -> tuple[str, ...]:
    optical = {band.name: band.wavelength for band in BANDS if band.kind == "optical" and band.wavelength}
    names = []
    for wavelength in first.wavelengths:
        if wavelength is None:
            return ()
        name, centre = min(optical.items(), key=lambda item: abs(item[1] - wavelength))
        if abs(centre - wavelength) > _NEAR * centre:
            return ()
        names.append(name)
    return tuple(names) if len(set(names)) == len(names) else ()


def _question(first: Found) -> ConfigError:
    """Ask, with what the numbers of the file suggest."""
    count = len(first.scene.names)
    called = [name for name in first.scene.names if name]
    said = f" (it calls them {', '.join(called)})" if len(called) == count else ""
    valid = [band[~np.isnan(band)] for band in first.values]
    medians = [float(np.median(band)) if band.size else float("nan") for band in valid]
    usual = ("vv", "vh") if count == 2 and max(medians) < 0 else _BY_COUNT.get(count, ("blue", "green", "red", "…"))
    of_each = " of each date" if len(first.scene.sources) > 1 else ""
    shown = ", ".join(f"{median:.4g}" for median in medians[:13])
    return ConfigError(
        f"{first.scene.path} has {count} bands{of_each} and does not say which{said}; medians: {shown}",
        allowed=[band.name for band in BANDS],
        fix=f"name all {count} in the file's order, e.g. --bands {','.join(usual)}   (names like B5: and --sensor)",
    )
