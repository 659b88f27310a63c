"""The 19 classes of BigEarthNet: CORINE Land Cover 2018, third level, put together or left out.

Nomenclature: Sumbul et al. 2021, doi:10.1109/MGRS.2021.3089174; codes as in IBM/peft-geofm,
``datasets/reben.py``, and torchgeo's ``BigEarthNetV2.clc_codes``, which agree. Colours: the official ones of CORINE, of
the first code of each class.
"""

from types import MappingProxyType

import numpy as np

from adapteo.contracts import IGNORE
from adapteo.errors import DataError

CODES = MappingProxyType(
    {
        "Agro-forestry areas": (244,),
        "Arable land": (211, 212, 213),
        "Beaches, dunes, sands": (331,),
        "Broad-leaved forest": (311,),
        "Coastal wetlands": (421, 422),
        "Complex cultivation patterns": (242,),
        "Coniferous forest": (312,),
        "Industrial or commercial units": (121,),
        "Inland waters": (511, 512),
        "Inland wetlands": (411, 412),
        "Land principally occupied by agriculture, with significant areas of natural vegetation": (243,),
        "Marine waters": (521, 522, 523),
        "Mixed forest": (313,),
        "Moors, heathland and sclerophyllous vegetation": (322, 323),
        "Natural grassland and sparsely vegetated areas": (321, 333),
        "Pastures": (231,),
        "Permanent crops": (221, 222, 223, 241),
        "Transitional woodland, shrub": (324,),
        "Urban fabric": (111, 112),
    }
)
"""Codes by class, in the order of the class index: alphabetical, as in arXiv 2504.17397."""
UNLABELLED = (122, 123, 124, 131, 132, 133, 141, 142, 332, 334, 335, 423, 999)
"""Codes without a class (transport, mines, parks, rock, burnt, ice, tidal flats), and the maps' own mark."""
CLASSES = tuple(CODES)
COLOURS = (
    (242, 204, 166), (255, 255, 168), (230, 230, 230), (128, 255, 0), (204, 204, 255), (255, 230, 77), (0, 166, 0),
    (204, 77, 242), (128, 242, 230), (166, 166, 255), (230, 204, 77), (230, 242, 255), (77, 255, 0), (166, 255, 128),
    (204, 242, 77), (230, 230, 77), (230, 128, 0), (166, 242, 0), (230, 0, 77),
)  # fmt: skip

_UNKNOWN = -2


def _table() -> np.ndarray:
    table = np.full(1000, _UNKNOWN, np.int64)
    table[list(UNLABELLED)] = IGNORE
    for index, codes in enumerate(CODES.values()):
        table[list(codes)] = index
    return table


_INDEX = _table()


def encode(codes: np.ndarray, source: object) -> np.ndarray:
    """Turn codes ``(h, w)`` into class indices, int64 with `IGNORE`.

    Raises:
        DataError: a value that is no code of the third level; names `source`.
    """
    whole = codes.astype(np.int64)
    found = np.where((whole >= 0) & (whole < len(_INDEX)), _INDEX[whole.clip(0, len(_INDEX) - 1)], _UNKNOWN)
    wrong = found == _UNKNOWN
    if wrong.any():
        raise DataError(
            f"{source} holds {whole[wrong][0]} in {int(wrong.sum()):,} pixels, which is no code of CORINE",
            fix="download the reference maps again",
        )
    return found
