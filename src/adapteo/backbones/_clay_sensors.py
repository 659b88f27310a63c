"""What Clay was told about sensors: wavelength, mean and standard deviation of each band.

From ``configs/metadata.yaml`` of the published code (Apache-2.0), where they are in stored numbers; `Sensor.statistics`
turns them into the units of `adapteo.bands`. Left out: level 1 of Landsat, whose stored numbers become reflectance
only with the sun's elevation of each scene, and bands that have no name here (yellow, green I, MODIS 1.24 µm).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from adapteo.bands import wavelengths


@dataclass(frozen=True)
class Sensor:
    """Bands of one sensor.

    Attributes:
        bands: wavelength in micrometres, mean and standard deviation of the stored numbers, by canonical name.
        scale, offset: reflectance is stored · scale + offset.
    """

    bands: Mapping[str, tuple[float, float, float]]
    scale: float = 1e-4
    offset: float = 0.0

    def wavelength(self, band: str) -> float:
        """Micrometres; of `adapteo.bands` where the sensor does not have the band."""
        if band in RADAR:
            return RADAR[band][0]
        return self.bands[band][0] if band in self.bands else wavelengths([band])[0]

    def statistics(self, band: str) -> tuple[float, float] | None:
        """Mean and standard deviation as reflectance, or in dB for radar; None when Clay has none for the band."""
        if band in RADAR:
            return RADAR[band][1:]
        if band not in self.bands:
            return None
        _, mean, std = self.bands[band]
        return mean * self.scale + self.offset, std * self.scale


RADAR: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"vv": (3.5, -12.113, 8.314), "vh": (4.0, -18.673, 8.017)}
)
"""Sentinel-1 beside any sensor. Two polarisations have one wavelength, so the published ones are numbers to tell them
apart. The statistics in dB are those of v1.5; v1 was trained on power (0.123273 ± 1.492154, 0.027337 ± 0.122182)."""

_EIGHT_BIT = 1 / 255
SENSORS: Mapping[str, Sensor] = MappingProxyType(
    {
        "sentinel2": Sensor(
            {
                "blue": (0.493, 1105.0, 1809.0),
                "green": (0.56, 1355.0, 1757.0),
                "red": (0.665, 1552.0, 1888.0),
                "rededge071": (0.704, 1887.0, 1870.0),
                "rededge075": (0.74, 2422.0, 1732.0),
                "rededge078": (0.783, 2630.0, 1697.0),
                "nir": (0.842, 2743.0, 1742.0),
                "nir08": (0.865, 2785.0, 1648.0),
                "swir16": (1.61, 2388.0, 1470.0),
                "swir22": (2.19, 1835.0, 1379.0),
            }
        ),
        "landsat8": Sensor(  # collection 2 level 2; scale and offset: USGS, Landsat 8-9 C2 L2 science product guide
            {
                "red": (0.65, 13705.0, 9578.0),
                "green": (0.56, 13310.0, 9408.0),
                "blue": (0.48, 12474.0, 10144.0),
                "nir08": (0.86, 17801.0, 8277.0),
                "swir16": (1.6, 14615.0, 5300.0),
                "swir22": (2.2, 12701.0, 4522.0),
            },
            scale=2.75e-5,
            offset=-0.2,
        ),
        "planetscope": Sensor(
            {
                "coastal": (0.443, 1720.0, 747.0),
                "blue": (0.49, 1715.0, 698.0),
                "green": (0.565, 2088.0, 768.0),
                "red": (0.665, 2290.0, 868.0),
                "rededge071": (0.705, 2613.0, 849.0),
                "nir": (0.865, 3970.0, 914.0),
            }
        ),
        "modis": Sensor(
            {
                "red": (0.645, 1072.0, 1643.0),
                "nir08": (0.858, 1624.0, 1878.0),
                "blue": (0.469, 931.0, 1449.0),
                "green": (0.555, 1023.0, 1538.0),
                "swir16": (1.64, 1404.0, 1618.0),
                "swir22": (2.13, 1051.0, 1396.0),
            }
        ),
        "naip": Sensor(
            {
                "red": (0.65, 110.16, 47.23),
                "green": (0.56, 115.41, 39.82),
                "blue": (0.48, 98.15, 35.43),
                "nir": (0.842, 139.04, 49.86),
            },
            scale=_EIGHT_BIT,
        ),
        "linz": Sensor(
            {
                "red": (0.635, 89.96, 41.83),
                "green": (0.555, 99.46, 36.96),
                "blue": (0.465, 89.51, 31.45),
            },
            scale=_EIGHT_BIT,
        ),
    }
)
"""By name. NAIP and LINZ are 8-bit pictures, which are loaded with a scale of 1/255: brightness, 0 to 1."""
