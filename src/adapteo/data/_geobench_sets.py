"""Facts of the twelve sets of GEO-Bench 1.0: bands, classes, units, resolution, and what file names say.

Their own description is a pickle (``task_specs.pkl``), which is never loaded; the facts are written here instead.
Sources: converters in ServiceNow/geo-bench (``make_benchmark/dataset_converters``), the paper (arXiv 2306.03831), and
where named the issues that correct them.

Two sets name their bands wrongly, and the names here are what the numbers are:

- m-eurosat: EuroSAT stores B8A last, the converter took it to be ninth (geo-bench issue 28; phelber/EuroSAT issue 7).
  The means agree: "09 - Water vapour" has 12, which only the cirrus band is.
- m-brick-kiln: exported were B1, B2, B3, B4, B5, B7, B8A, B8, B11, B12 and an 8-bit true-colour picture (geo-bench
  issue 29); the last three are left out here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from adapteo.bands import SENTINEL2_L1C, SENTINEL2_L2A


@dataclass(frozen=True)
class Name:
    """What the name of a sample says.

    Attributes:
        group: region, site or place.
        latlon: degrees.
    """

    group: str | None = None
    latlon: tuple[float, float] | None = None


def _nothing(name: str) -> Name:
    return Name()


def _cashew(name: str) -> Name:
    """``sample_57``: the converter wrote the 25 dates of one place one after the other."""
    number = name.rpartition("_")[2]
    return Name(f"place {int(number) // 25:02d}") if number.isdecimal() else Name()


def _forestnet(name: str) -> Name:
    """``-0.0151_111.06_2015_06_01``: latitude, longitude, date."""
    found = re.match(r"(-?\d+(?:\.\d+)?)_(-?\d+(?:\.\d+)?)_\d{4}_\d\d_\d\d$", name)
    return Name(latlon=(float(found[1]), float(found[2]))) if found else Name()


def _pv4ger(name: str) -> Name:
    """``51.35,7.08``: in some names the longitude comes first; in Germany it is the smaller one."""
    found = re.fullmatch(r"(\d+\.\d+),(\d+\.\d+)", name)
    return Name(latlon=(max(map(float, found.groups())), min(map(float, found.groups())))) if found else Name()


def _cattle(name: str) -> Name:
    """``331_Kapiti_Coast_(2017)_175.14,-40.70``: region, year, longitude and latitude."""
    found = re.match(r"\d+_(.+?)_\(.*_(-?\d+\.\d+),(-?\d+\.\d+)$", name)
    return Name(found[1].replace("_", " "), (float(found[3]), float(found[2]))) if found else Name()


def _neon(name: str) -> Name:
    """``2018_SJER_3_252000_4104000_image_628``: the code of the NEON site."""
    found = re.search(r"(?<![A-Z])[A-Z]{4}(?![A-Z])", name)
    return Name(found[0] if found else None)


@dataclass(frozen=True)
class BenchSet:
    """One set.

    Attributes:
        folder: where it lies in the benchmark.
        task: "segmentation", "classification" or "multilabel".
        classes: names in the order of the stored values 0, 1, ….
        keys: name in the HDF5 files (without date) of each band, by canonical name.
        scale: physical value = stored value x scale; radar is stored as intensity and becomes decibel.
        gsd: metres.
        side: pixels of an image.
        ignore: stored values that are no class.
        name: tells what the name of a sample says.
        placeholder: True when 1 January stands for "some day of this year".
        georeferenced: True when the place that the files keep is that of the image.
        mean, std: published statistics of the stored values by canonical name, for a copy without ``band_stats.json``.
        sha256: of the zip file on the hub, where it is known.
    """

    folder: str
    task: str
    classes: tuple[str, ...]
    keys: Mapping[str, str]
    scale: float
    gsd: float
    side: int
    ignore: tuple[int, ...] = ()
    name: Callable[[str], Name] = _nothing
    placeholder: bool = False
    georeferenced: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    sha256: str = ""

    @property
    def bands(self) -> tuple[str, ...]:
        """Canonical names."""
        return tuple(self.keys)


_S2 = MappingProxyType(
    {
        "coastal": "01 - Coastal aerosol", "blue": "02 - Blue", "green": "03 - Green", "red": "04 - Red",
        "rededge071": "05 - Vegetation Red Edge", "rededge075": "06 - Vegetation Red Edge",
        "rededge078": "07 - Vegetation Red Edge", "nir": "08 - NIR", "nir08": "08A - Vegetation Red Edge",
        "nir09": "09 - Water vapour", "cirrus": "10 - SWIR - Cirrus", "swir16": "11 - SWIR", "swir22": "12 - SWIR",
    }
)  # fmt: skip
_S2_L2A = {band: _S2[band] for band in SENTINEL2_L2A}
_EUROSAT = {
    band: {"nir09": _S2["nir08"], "cirrus": _S2["nir09"], "swir16": _S2["cirrus"], "swir22": _S2["swir16"],
           "nir08": _S2["swir22"]}.get(band, _S2[band])
    for band in SENTINEL2_L1C
}  # fmt: skip
_BRICK_KILN = {
    "coastal": _S2["coastal"], "blue": _S2["blue"], "green": _S2["green"], "red": _S2["red"],
    "rededge071": _S2["rededge071"], "rededge078": _S2["rededge075"], "nir": _S2["nir"], "nir08": _S2["rededge078"],
    "swir16": _S2["nir08"], "swir22": _S2["nir09"],
}  # fmt: skip
_SO2SAT = {band: _S2[band] for band in SENTINEL2_L2A if band not in ("coastal", "nir09")} | {
    "vv": "06 - VV.LEE Filtered", "vh": "05 - VH.LEE Filtered",
}  # fmt: skip
_LANDSAT = {
    "blue": "02 - Blue", "green": "03 - Green", "red": "04 - Red", "nir08": "05 - NIR", "swir16": "06 - SWIR1",
    "swir22": "07 - SWIR2",
}  # fmt: skip
_RGB = {"red": "Red", "green": "Green", "blue": "Blue"}

_CLC = (
    "continuous urban fabric", "discontinuous urban fabric", "industrial or commercial units",
    "road and rail networks", "port areas", "airports", "mineral extraction sites", "dump sites",
    "construction sites", "green urban areas", "sport and leisure facilities", "non-irrigated arable land",
    "permanently irrigated land", "rice fields", "vineyards", "fruit trees and berry plantations", "olive groves",
    "pastures", "annual crops with permanent crops", "complex cultivation patterns",
    "agriculture with natural vegetation", "agro-forestry areas", "broad-leaved forest", "coniferous forest",
    "mixed forest", "natural grassland", "moors and heathland", "sclerophyllous vegetation",
    "transitional woodland or shrub", "beaches, dunes, sands", "bare rock", "sparsely vegetated areas",
    "burnt areas", "inland marshes", "peatbogs", "salt marshes", "salines", "intertidal flats", "water courses",
    "water bodies", "coastal lagoons", "estuaries", "sea and ocean",
)  # fmt: skip
_ZONES = (
    "compact high rise", "compact mid rise", "compact low rise", "open high rise", "open mid rise", "open low rise",
    "lightweight low rise", "large low rise", "sparsely built", "heavy industry", "dense trees", "scattered trees",
    "bush or scrub", "low plants", "bare rock or paved", "bare soil or sand", "water",
)  # fmt: skip
_CLASSIFICATION, _SEGMENTATION = "classification_v1.0", "segmentation_v1.0"

SETS: Mapping[str, BenchSet] = MappingProxyType(
    {
        "m-bigearthnet": BenchSet(
            _CLASSIFICATION, "multilabel", _CLC, _S2_L2A, 1e-4, 10.0, 120, georeferenced=True,
            sha256="a72d3b7a60ec8fec67b5c4143d18ad7e10858d9633621b1f5db82e955d77f658",
        ),
        "m-so2sat": BenchSet(
            _CLASSIFICATION, "classification", _ZONES, _SO2SAT, 1.0, 10.0, 32,
            sha256="ec4d7cefeea4a326afe3c0f10333a565377d9b0004bcb780949d384e7eaf0704",
        ),
        "m-brick-kiln": BenchSet(
            _CLASSIFICATION, "classification", ("no brick kiln", "brick kiln"), _BRICK_KILN, 1e-4, 10.0, 64,
            georeferenced=True, sha256="53cacc65013b74c6fb9c447486830111ed4a2a83dbb7c27c579fe417b309e265",
        ),
        "m-forestnet": BenchSet(
            _CLASSIFICATION, "classification",
            ("oil palm plantation", "timber plantation", "other large-scale plantations", "grassland or shrubland",
             "small-scale agriculture", "small-scale mixed plantation", "small-scale oil palm plantation", "mining",
             "fish pond", "logging", "secondary forest", "other"),
            _LANDSAT, 1 / 255, 15.0, 332, name=_forestnet, placeholder=True,
            sha256="7ae883180a5e64b0e30849419fc04f13cbef840f5dcc7dbddf63ac02027e7994",
        ),
        "m-eurosat": BenchSet(
            _CLASSIFICATION, "classification",
            ("annual crop", "forest", "herbaceous vegetation", "highway", "industrial", "pasture", "permanent crop",
             "residential", "river", "sea or lake"),
            _EUROSAT, 1e-4, 10.0, 64, sha256="ea1d66258e7a789b24e9f7cfdf7498f3c12129f7725e4710a73547db72329804",
        ),
        "m-pv4ger": BenchSet(
            _CLASSIFICATION, "classification", ("no solar panels", "solar panels"), _RGB, 1 / 255, 0.1, 320,
            name=_pv4ger, sha256="b7f2ebb77e543b3bb7c38f498180976b64d72d541ec712c853e39e5d33e01dca",
        ),
        "m-pv4ger-seg": BenchSet(
            _SEGMENTATION, "segmentation", ("no solar panels", "solar panels"), _RGB, 1 / 255, 0.1, 320, name=_pv4ger
        ),
        "m-chesapeake": BenchSet(
            _SEGMENTATION, "segmentation",
            ("no data", "water", "tree canopy", "low vegetation", "barren", "impervious, other", "impervious, roads"),
            _RGB | {"nir": "NearInfrared"}, 1.0, 1.0, 256, ignore=(15,),
        ),
        "m-cashew-plant": BenchSet(
            _SEGMENTATION, "segmentation",
            ("no data", "well-managed plantation", "poorly-managed plantation", "non-plantation", "residential",
             "background", "uncertain"),
            _S2_L2A, 1e-4, 10.0, 256, name=_cashew,
            mean=(520.1185302734375, 634.7583618164062, 892.461181640625, 880.7075805664062, 1380.6409912109375,
                  2233.432373046875, 2549.379638671875, 2643.248046875, 2643.531982421875, 2852.87451171875,
                  2463.933349609375, 1600.9207763671875),
            std=(204.2023468017578, 227.25344848632812, 222.32545471191406, 350.47235107421875, 280.6436767578125,
                 373.7521057128906, 449.9236145019531, 414.6498107910156, 415.1019592285156, 413.8980407714844,
                 494.97430419921875, 514.4229736328125),
        ),
        "m-SA-crop-type": BenchSet(
            _SEGMENTATION, "segmentation",
            ("no data", "lucerne or medics", "planted pastures", "fallow", "wine grapes", "weeds",
             "small grain grazing", "wheat", "canola", "rooibos"),
            _S2_L2A, 1 / 255, 10.0, 256,
            mean=(12.739611, 16.526744, 26.636417, 36.696639, 46.388679, 58.281453, 63.575819, 68.1836, 69.142591,
                  69.904566, 83.626811, 65.767679),
            std=(7.492811526301659, 9.329547939662671, 12.674537246073758, 19.421922023931593, 19.487411106531287,
                 19.959174612412983, 21.53805760692545, 23.05077775347288, 22.329695761624677, 21.877766438821954,
                 28.14418826277069, 27.2346215312965),
        ),
        "m-nz-cattle": BenchSet(
            _SEGMENTATION, "segmentation", ("no cattle", "cattle"), _RGB, 1 / 255, 0.1, 500, name=_cattle,
            placeholder=True,
        ),
        "m-NeonTree": BenchSet(
            _SEGMENTATION, "segmentation", ("no tree", "tree"), _RGB, 1 / 255, 0.1, 400, name=_neon
        ),
    }
)  # fmt: skip
"""By the name of the set's folder. The statistics are IBM/peft-geofm's, ``datamodules/m_cashew_plantation.py`` and
``m_sa_crop_type.py``; the sums are those of revision 1e57543 in torchgeo-bench, ``_v1_checksums/sources.json``."""
