"""Harmonized Landsat Sentinel-2, version 2: one GeoTIFF per band.

``HLS.S30.T32UQD.2021212T101031.v2.0.B04.tif``: sensor, tile, year and day of the year. Reflectance = stored x 0.0001,
brightness temperature (bands 10 and 11 of L30) in degrees Celsius = stored x 0.01, -9999 where there is nothing.
Source: HLS Product User Guide 2.0, tables of layers; B8A of S30 and B05 of L30 are the narrow near infrared.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from adapteo.bands import HLS_L30, HLS_S30, resolve
from adapteo.data._source import BandFile, Source
from adapteo.errors import ConfigError

_NAME = re.compile(r"^HLS\.([SL])30\.T(\d\d[A-Z]{3})\.(\d{7})T\d{6}\.v\d\.\d$", re.IGNORECASE)
_FILL = (-9999.0,)


def read_hls(name: str, folder: str, files: Mapping[str, str]) -> Source | None:
    """Describe a granule, or None when it is something else.

    Args:
        name: what its files' names have in common.
        folder: that they lie in.
        files: path by band, as the files are called (B04).
    """
    found = _NAME.match(name)
    if found is None:
        return None
    sensor = HLS_S30 if found[1].upper() == "S" else HLS_L30
    bands = []
    for band in sorted(files):
        try:
            meaning = resolve(band, sensor)
        except ConfigError:  # Fmask, angles
            continue
        bands.append(BandFile(files[band], 1, meaning, 0.01 if meaning[:4] == "lwir" else 1e-4, 0.0, _FILL))
    try:
        day = datetime.strptime(found[3], "%Y%j").date().isoformat()
    except ValueError:
        day = None
    return Source(name, folder, tuple(bands), "hls", day, sensor, found[2].upper()) if bands else None
