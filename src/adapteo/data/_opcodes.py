"""What a pickle says, read without unpickling: its opcodes are listed and never executed, so no code in it can run.

GEO-Bench 1.0 keeps the label of a classified image, and the place of some images, as ``str(pickle.dumps(…))`` in the
attribute "pickle" of each HDF5 file. The values are literals behind their keys (observed in all 87,283 files of the six
classification sets by the authors of torchgeo-bench, ``_v1_checksums/sources.json``):

    "label" 3 "01 - Coastal aerosol" { "transform" affine.Affine (a b c d e f) "crs" "EPSG:4326" … } …
"""

import ast
import pickletools
import re
from collections.abc import Sequence

import numpy as np

Opcode = tuple[str, object]
"""Name and argument."""

_WHOLE = ("BININT", "BININT1", "BININT2", "LONG1")
_NOT_VALUES = ("MEMOIZE", "BINPUT", "LONG_BINPUT")
_NUMBER = re.compile(r"[iuf][1248]")


def opcodes(text: str) -> list[Opcode]:
    """List the opcodes of a pickle that is written as a bytes literal.

    Raises:
        ValueError: it is no bytes literal, or no pickle.
    """
    try:
        data = ast.literal_eval(text)
    except SyntaxError as error:
        raise ValueError("not a bytes literal") from error
    if not isinstance(data, bytes):
        raise ValueError("not a bytes literal")
    return [(op.name, argument) for op, argument, _ in pickletools.genops(data) if op.name not in _NOT_VALUES]


def label_of(listed: Sequence[Opcode]) -> np.ndarray | None:
    """The value of the first key, "label": a whole number ``()`` or a vector ``(k,)``, int64; None otherwise."""
    if next((arg for _, arg in listed if isinstance(arg, str)), "") != "label":
        return None
    after = _after(listed, "label")
    name, value = after[0]
    if name in _WHOLE:
        return np.array(value, np.int64)
    # An array is pickled as its kind of number ("i8"), byte order, and raw bytes; one byte is its dummy constructor's.
    kind = next((arg for _, arg in after if isinstance(arg, str) and _NUMBER.fullmatch(arg)), None)
    raw = next((arg for _, arg in after if isinstance(arg, bytes | bytearray) and len(arg) > 1), None)
    if kind is None or raw is None or len(raw) % int(kind[1]):
        return None
    return np.frombuffer(bytes(raw), np.dtype(f"<{kind}")).astype(np.int64)


def place_of(listed: Sequence[Opcode]) -> tuple[tuple[float, ...], str] | None:
    """Affine coefficients a to f (pixel to map) and coordinate system (WKT, "EPSG:4326") of the first band, or None."""
    transform, crs = _after(listed, "transform"), _after(listed, "crs")
    if not transform or transform[0][0] == "NONE" or not crs or crs[0][0] == "NONE":
        return None
    numbers = [arg for name, arg in transform if name == "BINFLOAT" or name in _WHOLE][:6]
    system = next((arg for _, arg in crs if isinstance(arg, str) and (arg.startswith("EPSG:") or "[" in arg)), None)
    if len(numbers) < 6 or system is None:
        return None
    return tuple(float(str(number)) for number in numbers), system


def _after(listed: Sequence[Opcode], key: str) -> Sequence[Opcode]:
    """What follows a key when it is first written."""
    for i, (_, argument) in enumerate(listed):
        if argument == key:
            return listed[i + 1 :]
    return ()
