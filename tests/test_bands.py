"""One vocabulary for bands: every name that a sensor or tool uses leads to the band that it measures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapteo import bands
from adapteo.bands import BANDS, BY_NAME, HLS6, HLS_L30, HLS_S30, L8, S2, SENSORS, resolve, resolve_all
from adapteo.errors import ConfigError

# Centres in nm from ESA's and USGS's tables, typed in independently of the source: {sensor: {name: (canonical, nm)}}.
SENTINEL2A = {
    "B01": ("coastal", 442.7), "B02": ("blue", 492.4), "B03": ("green", 559.8), "B04": ("red", 664.6),
    "B05": ("rededge071", 704.1), "B06": ("rededge075", 740.5), "B07": ("rededge078", 782.8), "B08": ("nir", 832.8),
    "B8A": ("nir08", 864.7), "B09": ("nir09", 945.1), "B10": ("cirrus", 1373.5), "B11": ("swir16", 1613.7),
    "B12": ("swir22", 2202.4),
}  # fmt: skip
LANDSAT8 = {
    "B1": ("coastal", 443.0), "B2": ("blue", 482.0), "B3": ("green", 561.4), "B4": ("red", 654.6),
    "B5": ("nir08", 864.7), "B6": ("swir16", 1608.9), "B7": ("swir22", 2200.7), "B8": ("pan", 589.5),
    "B9": ("cirrus", 1373.4), "B10": ("lwir11", 10895.0), "B11": ("lwir12", 12005.0),
}  # fmt: skip
HLSL30 = {name: LANDSAT8[f"B{int(name[1:])}"] for name in ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B09")} | {
    "B10": LANDSAT8["B10"],
    "B11": LANDSAT8["B11"],
}
SENSOR_NAMES = [
    (sensor, name, canonical, nm)
    for sensor, table in ((S2, SENTINEL2A), (HLS_S30, SENTINEL2A), (L8, LANDSAT8), (HLS_L30, HLSL30))
    for name, (canonical, nm) in table.items()
]


@pytest.mark.parametrize(("sensor", "name", "canonical", "nm"), SENSOR_NAMES)
def test_names_of_sensors(sensor, name, canonical, nm):
    assert resolve(name, sensor) == canonical
    assert resolve(name.lower(), sensor) == canonical
    assert BY_NAME[canonical].wavelength * 1000 == pytest.approx(nm, rel=0.025)


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_sensor_has_no_other_bands(sensor):
    tables = {S2: SENTINEL2A, HLS_S30: SENTINEL2A, L8: LANDSAT8, HLS_L30: HLSL30}
    assert bands.sensor_bands(sensor) == tuple(canonical for canonical, _ in tables[sensor].values())


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        # TerraTorch's HLSBands and Sentinel-2 names
        ("COASTAL_AEROSOL", "coastal"), ("BLUE", "blue"), ("GREEN", "green"), ("RED", "red"),
        ("RED_EDGE_1", "rededge071"), ("RED_EDGE_2", "rededge075"), ("RED_EDGE_3", "rededge078"),
        ("NIR_BROAD", "nir"), ("NIR_NARROW", "nir08"), ("WATER_VAPOR", "nir09"), ("CIRRUS", "cirrus"),
        ("SWIR_1", "swir16"), ("SWIR_2", "swir22"), ("THERMAL_INFRARED_1", "lwir11"), ("VV", "vv"), ("VH", "vh"),
        # STAC EO common names
        ("coastal", "coastal"), ("nir08", "nir08"), ("nir09", "nir09"), ("swir16", "swir16"), ("lwir11", "lwir11"),
        ("rededge071", "rededge071"), ("pan", "pan"),
        # what people write
        ("B8A", "nir08"), ("SR_B4", "red"), ("b04", "red"), ("B4", "red"), ("B03", "green"), (" Swir-16 ", "swir16"),
        ("near infrared", "nir"), ("Water Vapour", "nir09"), ("dem", "elevation"),
    ],
)  # fmt: skip
def test_names_that_need_no_sensor(name, canonical):
    assert resolve(name) == canonical
    for sensor in SENSORS if canonical == name.lower() else ():
        assert resolve(name, sensor) == canonical


@pytest.mark.parametrize("name", ["B5", "B05", "B6", "B7", "B8", "B9", "B10", "B11", "SR_B5"])
def test_names_that_differ_between_sensors_need_the_sensor(name):
    with pytest.raises(ConfigError, match="differs between sensors") as caught:
        resolve(name)
    assert "name the sensor" in caught.value.fix


def test_mistakes():
    with pytest.raises(ConfigError, match=r"no band 'swri16'; did you mean 'swir16'\?"):
        resolve("swri16")
    with pytest.raises(ConfigError, match=r"no sensor 'sentinel-2'; did you mean 'sentinel2'\?"):
        resolve("B4", "sentinel-2")
    with pytest.raises(ConfigError, match="hls_l30 has no band 'B8'") as caught:
        resolve("B8", HLS_L30)
    assert caught.value.allowed == bands.sensor_bands(HLS_L30)
    with pytest.raises(ConfigError, match="band 'nir08' is named more than once"):
        resolve_all(["B8A", "red", "NIR_NARROW"])
    with pytest.raises(ConfigError, match="band 'ndvi' has no wavelength"):
        bands.wavelengths(["red", "ndvi"])


@given(st.text(alphabet="bB0189 _-aAsrSR", max_size=5))
def test_any_text_is_a_band_or_a_clear_error(text):
    try:
        found = resolve(text)
    except ConfigError as error:
        found, message = None, str(error)
    assert found in BY_NAME or f"band '{text}'" in message


@pytest.mark.parametrize("band", BANDS, ids=lambda band: band.name)
def test_every_name_leads_back(band):
    assert resolve(band.name) == band.name
    for alias in band.aliases:
        assert resolve(alias) == resolve(alias.upper()) == band.name
    for sensor, alias in band.sensors:
        assert resolve(alias, sensor) == band.name


def test_no_name_means_two_things():
    assert len(BY_NAME) == len(BANDS)
    for sensor in SENSORS:
        aliases = [alias for band in BANDS for key, alias in band.sensors if key == sensor]
        assert len(aliases) == len(set(aliases))


def test_sets_of_bands():
    assert bands.wavelengths(HLS6) == (0.493, 0.560, 0.665, 0.865, 1.610, 2.190)
    assert len(bands.SENTINEL2_L2A) == 12
    assert tuple(canonical for canonical, _ in SENTINEL2A.values()) == bands.SENTINEL2_L1C
    assert set(bands.SENTINEL2_L1C) - set(bands.SENTINEL2_L2A) == {"cirrus"}
    assert bands.wavelengths(["vv"])[0] == pytest.approx(299_792_458 / 5.405e9 * 1e6)


def test_resolving_keeps_the_order():
    assert resolve_all(["B12", "B02", "B8A"], S2) == ("swir22", "blue", "nir08")
    assert resolve_all([]) == ()
