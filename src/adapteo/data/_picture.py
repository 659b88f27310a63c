"""PNG and JPEG through Pillow, which refuses a truncated picture where GDAL fills the rest with zeros."""

from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that it cannot decode (SyntaxError for a broken PNG chunk)."""
_NAMES = MappingProxyType({"R": "red", "G": "green", "B": "blue", "A": "alpha"})


def read_picture(path: Path) -> tuple[np.ndarray, tuple[str | None, ...]]:
    """Read pixels ``(c, h, w)`` in the file's own type, and the name of each band ("red", ..., "alpha" or None).

    A palette gives its indices, a one-bit picture 0 and 1, CMYK is turned into RGB.

    Raises:
        OSError, SyntaxError, ValueError, DecompressionBombError: when the file cannot be decoded.
    """
    with Image.open(path) as picture:
        decoded = picture.convert("RGB") if picture.mode == "CMYK" else picture
        names = tuple(_NAMES.get(letter) for letter in decoded.getbands())
        pixels = np.asarray(decoded)
    bands = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return bands.astype(np.uint8) if bands.dtype == bool else bands, names
