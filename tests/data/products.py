"""Scenes in the layouts in which agencies deliver them, small, made here."""

import json

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS

UTM = "EPSG:32632"
LEFT, TOP = 600_000.0, 5_700_000.0
METRES = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20,
          "B09": 60, "B10": 60, "B11": 20, "B12": 20}  # fmt: skip
_PHYSICAL = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


def write(path, values, gsd=10.0, left=LEFT, top=TOP, crs=UTM, **more):
    """Write ``(h, w)`` or ``(c, h, w)`` as a GeoTIFF, or without loss as a JPEG 2000."""
    values = np.atleast_3d(values.T).T if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff"}
    if path.suffix == ".jp2":
        options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    names, scales, offsets = more.pop("names", ()), more.pop("scales", ()), more.pop("offsets", ())
    transform = more.pop("transform", Affine(gsd, 0, left, 0, -gsd, top))
    with rasterio.open(
        path, "w", count=len(values), height=values.shape[1], width=values.shape[2], dtype=values.dtype,
        crs=CRS.from_user_input(crs), transform=transform, **options, **more,
    ) as file:  # fmt: skip
        file.write(values)
        if names:
            file.descriptions = names
        if scales:
            file.scales, file.offsets = scales, offsets
    return path


def band(name, side=120, seed=0, low=200, high=4000):
    """Stored values of a band of ``side`` pixels of 10 m, at the band's own size of pixels."""
    rng = np.random.default_rng([seed, *name.encode()])
    pixels = side * 10 // METRES[name]
    return rng.integers(low, high, (pixels, pixels)).astype(np.uint16)


def safe(folder, level="2A", *, bands=tuple(METRES), offset=-1000, day="20230614", tile="32UQC", change=None, **place):
    """A Sentinel-2 product; returns its folder and the stored values of each band."""
    root = folder / f"S2A_MSIL{level}_{day}T101601_N0509_R065_T{tile}_{day}T172604.SAFE"
    granule = root / f"GRANULE/L{level}_T{tile}_A041653_{day}T102043/IMG_DATA"
    stored = {}
    for name in bands:
        if level == "2A" and name == "B10":
            continue
        stored[name] = change(name, band(name)) if change else band(name)
        sizes = [METRES[name]] if level == "1C" else [m for m in (10, 20, 60) if m >= METRES[name]]
        for metres in sizes:
            factor = metres // METRES[name]
            stem = f"T{tile}_{day}T101601_{name}"
            path = granule / (f"{stem}.jp2" if level == "1C" else f"R{metres}m/{stem}_{metres}m.jp2")
            write(path, stored[name][::factor, ::factor], gsd=float(metres), **place)
    other = granule / (f"T{tile}_{day}T101601_TCI.jp2" if level == "1C" else f"R20m/T{tile}_{day}T101601_SCL_20m.jp2")
    write(other, np.full((3 if level == "1C" else 1, 60, 60), 4, np.uint8), gsd=20.0, **place)
    (root / f"MTD_MSIL{level}.xml").write_text(_metadata(level, offset, day), encoding="utf-8")
    return root, stored


def _metadata(level, offset, day):
    start = f"{day[:4]}-{day[4:6]}-{day[6:]}T10:16:01.024Z"
    words = ("BOA_ADD_OFFSET_VALUES_LIST", "BOA_ADD_OFFSET") if level == "2A" else ("Radiometric_Offset_List",
                                                                                  "RADIO_ADD_OFFSET")  # fmt: skip
    offsets = "".join(f'<{words[1]} band_id="{i}">{offset}</{words[1]}>' for i in range(13))
    boa = (
        '<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
        '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
    )
    toa = '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>'
    physical = "".join(f'<Spectral_Information bandId="{i}" physicalBand="{n}"/>' for i, n in enumerate(_PHYSICAL))
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{start}</PRODUCT_START_TIME>
      <PROCESSING_BASELINE>{"05.09" if offset is not None else "02.14"}</PROCESSING_BASELINE>
      <Datatake><DATATAKE_SENSING_START>{start}</DATATAKE_SENSING_START></Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      {boa if level == "2A" else toa}
      {"" if offset is None else f"<{words[0]}>{offsets}</{words[0]}>"}
      <Spectral_Information_List>{physical}</Spectral_Information_List>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-{level}_User_Product>
"""


def hls(folder, sensor="S30", day="2021212", tile="32UQC", side=40, seed=0, **place):
    """An HLS granule in a folder of its own; returns the folder and the stored values of each band."""
    names = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    names = names if sensor == "S30" else ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B09", "B10", "B11")
    stem = f"HLS.{sensor}.T{tile}.{day}T101031.v2.0"
    rng, stored = np.random.default_rng(seed), {}
    for name in names:
        stored[name] = rng.integers(100, 4000, (side, side)).astype(np.int16)
        write(folder / stem / f"{stem}.{name}.tif", stored[name], gsd=30.0, nodata=-9999, **place)
    write(folder / stem / f"{stem}.Fmask.tif", np.zeros((side, side), np.uint8), gsd=30.0, nodata=255, **place)
    return folder / stem, stored


def landsat(folder, satellite="LC08", side=40, day="20210731"):
    """A scene of Landsat Collection 2, level 2; returns the folder and the stored values of each band."""
    stem = f"{satellite}_L2SP_193023_{day}_20210804_02_T1"
    reflective = range(1, 8) if satellite[1] == "C" else (1, 2, 3, 4, 5, 7)
    names = [*(f"SR_B{i}" for i in reflective), "ST_B10" if satellite[1] == "C" else "ST_B6"]
    rng, stored = np.random.default_rng(1), {}
    for name in names:
        stored[name] = rng.integers(7500, 20000, (side, side)).astype(np.uint16)
        write(folder / stem / f"{stem}_{name}.TIF", stored[name], gsd=30.0, nodata=0)
    write(folder / stem / f"{stem}_QA_PIXEL.TIF", np.ones((side, side), np.uint16), gsd=30.0)
    lines = ["GROUP = LANDSAT_METADATA_FILE", "  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"]
    for i in reflective:
        lines += [f"    REFLECTANCE_MULT_BAND_{i} = 2.75e-05", f"    REFLECTANCE_ADD_BAND_{i} = -0.2"]
    lines += ["  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "  GROUP = LEVEL1_RADIOMETRIC_RESCALING"]
    for i in reflective:
        lines += [f"    REFLECTANCE_MULT_BAND_{i} = 2.0000E-05", f"    REFLECTANCE_ADD_BAND_{i} = -0.100000"]
    lines += ["  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING", "END_GROUP = LANDSAT_METADATA_FILE", "END"]
    (folder / stem / f"{stem}_MTL.txt").write_text("\n".join(lines))
    return folder / stem, stored


def stac(path, assets, **properties):
    """A STAC item."""
    item = {"type": "Feature", "stac_version": "1.0.0", "id": path.stem, "assets": assets, "links": [],
            "properties": {"datetime": "2023-06-14T10:16:01Z", **properties}}  # fmt: skip
    path.write_text(json.dumps(item))
    return path
