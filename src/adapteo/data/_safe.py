"""Sentinel-2 product folders (SAFE), level 1C and 2A: one JPEG 2000 file per band, and what their numbers mean.

Reflectance = (stored + offset) / quantification value, with the offset of each band from the metadata (processing
baseline 04.00 and later: -1000), and 0 stored where there is nothing. Sources: Sentinel-2 Products Specification
Document (S2-PDGS-TAS-DI-PSD) for the layout and the names of XML elements; SentiWiki, "S2 Products", for the formula.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from adapteo.bands import S2, resolve
from adapteo.data._source import BandFile, Source
from adapteo.errors import DataError

_IMAGE = re.compile(r"(?:^|_)(B\d[\dA])(?:_(\d\d)m)?\.(?:jp2|tif)$", re.IGNORECASE)
_TILE = re.compile(r"(?:^|_)T(\d\d[A-Z]{3})_")
_ORDER = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
"""Physical bands by the number that the metadata use."""
_METADATA = ("MTD_MSIL*.xml", "S2*_MTD_*.xml")
_QUANTIFICATION = ("BOA_QUANTIFICATION_VALUE", "L1C_L2A_Quantification_Values_List", "QUANTIFICATION_VALUE")
_MOST = 64 * 2**20  # bytes; metadata have 50 kB


def find_safe(path: Path) -> Path | None:
    """The product folder that a path is, or lies in, or None."""
    for folder in (path, *path.parents):
        if folder.suffix.upper() == ".SAFE" or (folder.is_dir() and metadata_file(folder) is not None):
            return folder if folder.is_dir() else None
        if folder.name in ("", ".", ".."):
            break
    return None


def metadata_file(folder: Path) -> Path | None:
    """The product's metadata, or None when it has none."""
    return next((file for pattern in _METADATA for file in sorted(folder.glob(pattern))), None)


def read_safe(folder: Path) -> tuple[Source, ...]:
    """Describe a product: one source per granule (products since December 2016 have one).

    Raises:
        DataError: it holds no images, or its metadata cannot be read.
    """
    granules: dict[str, dict[str, tuple[int, str]]] = {}
    for path in sorted((*folder.glob("GRANULE/*/IMG_DATA/**/*.jp2"), *folder.glob("GRANULE/*/IMG_DATA/**/*.tif"))):
        found = _IMAGE.search(path.name)
        if found:
            name, metres = found[1].upper(), int(found[2] or 0)
            bands = granules.setdefault(path.relative_to(folder).parts[1], {})
            if name not in bands or metres < bands[name][0]:
                bands[name] = metres, str(path)
    if not granules:
        raise DataError(
            f"{folder} holds no images: there is no GRANULE/*/IMG_DATA/*.jp2 in it",
            fix="download it again, with the folder GRANULE, or unzip it as a whole",
        )
    said = _Metadata(folder)
    name = folder.name.removesuffix(".SAFE").removesuffix(".safe")
    out = []
    for granule, images in granules.items():
        found = _TILE.search(granule + "_") or _TILE.search(name + "_")
        out.append(
            Source(
                name if len(granules) == 1 else f"{name}_{granule}",
                str(folder),
                tuple(said.band(band, images[band][1]) for band in sorted(images, key=_position)),
                "safe",
                said.day or _day(name),
                S2,
                found[1] if found else None,
                said.doubts,
            )
        )
    return tuple(out)


def _position(band: str) -> int:
    return _ORDER.index(_short(band))


def _short(band: str) -> str:
    """B2 of B02."""
    return "B" + band[1:].lstrip("0")


def _day(name: str) -> str | None:
    found = re.search(r"_(\d{4})(\d\d)(\d\d)T\d{6}", name)
    return "-".join(found.groups()) if found else None


class _Metadata:
    """What MTD_MSIL1C.xml or MTD_MSIL2A.xml says.

    Attributes:
        day: of acquisition.
        doubts: what the user should know.
    """

    def __init__(self, folder: Path) -> None:
        self.day: str | None = None
        self.doubts: tuple[str, ...] = ()
        self._scale: float | None = None
        self._offsets: dict[str, float] = {}
        self._missing: tuple[float, ...] = (0.0,)
        path = metadata_file(folder)
        if path is None:
            self.doubts = ("it has no MTD_MSIL*.xml, so that nobody says what its numbers mean",)
            return
        try:
            if path.stat().st_size > _MOST:
                raise DataError(f"{path} is larger than metadata can be", fix="download the product again")
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            raise DataError(f"cannot read {path}: {error}", fix="download the product again") from error
        self._read(root, path)

    def _read(self, root: ElementTree.Element, path: Path) -> None:
        physical = dict(enumerate(_ORDER))
        special: dict[str, float] = {}
        text = ""
        offsets: dict[int, float] = {}
        found: dict[str, str] = {}
        for element in root.iter():
            tag, value = element.tag.rpartition("}")[2], (element.text or "").strip()
            if tag == "Spectral_Information" and "physicalBand" in element.attrib:
                physical[int(element.attrib["bandId"])] = element.attrib["physicalBand"]
            elif tag in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET"):
                offsets[int(element.attrib["band_id"])] = float(value)
            elif tag == "SPECIAL_VALUE_TEXT":
                text = value.upper()
            elif tag == "SPECIAL_VALUE_INDEX":
                special[text] = float(value)
            else:
                found.setdefault(tag, value)
        quantification = next((found[key] for key in _QUANTIFICATION if found.get(key)), None)
        if quantification is None:
            raise DataError(
                f"{path} has no quantification value", fix="download the product again, or set `scale` and `offset`"
            )
        start = found.get("DATATAKE_SENSING_START") or found.get("PRODUCT_START_TIME") or ""
        self.day = start[:10] if re.match(r"\d{4}-\d\d-\d\d", start) else None
        self._scale = 1 / float(quantification)
        self._offsets = {physical[i]: value / float(quantification) for i, value in offsets.items() if i in physical}
        # A saturated pixel is no reflectance either.
        self._missing = tuple(dict.fromkeys(special.get(key, 0.0) for key in ("NODATA", "SATURATED")))
        baseline = found.get("PROCESSING_BASELINE", "")
        late = re.match(r"(\d\d)\.", baseline)
        if late and int(late[1]) >= 4 and int(late[1]) < 99 and not offsets:
            self.doubts = (f"processing baseline {baseline}, but its metadata have no offset",)

    def band(self, name: str, path: str) -> BandFile:
        """One band, as its file is called (B02)."""
        scale = self._scale
        offset = None if scale is None else self._offsets.get(_short(name), 0.0)
        return BandFile(path, 1, resolve(name, S2), scale, offset, self._missing)
