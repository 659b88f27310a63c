"""Libraries that the benchmarks compare with, where they are installed."""

import importlib
import importlib.util
import sys
from types import ModuleType

from benchmarks._rows import Skipped


def hf_peft() -> ModuleType | Skipped:
    """HF peft, which gets on without torchvision: one that was built for another PyTorch is hidden from it."""
    if importlib.util.find_spec("peft") is None:
        return Skipped("HF peft is not installed here, so that nothing stands beside it: pip install 'adapteo[peft]'")
    hidden = not _imports("torchvision")
    if hidden:
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # read as: there is none
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        return Skipped(f"HF peft cannot be imported here: {str(error).partition(chr(10))[0]}")
    finally:
        if hidden:
            del sys.modules["torchvision"]


def terratorch() -> Skipped | None:
    """Why nothing stands beside TerraTorch, if it is not installed."""
    found = importlib.util.find_spec("terratorch")
    if found is None or found.origin is None:  # the latter is a mere folder of that name
        return Skipped("TerraTorch is not installed in this environment, so that nothing stands beside it")
    return None


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):  # the latter from kernels that do not fit
        for each in [each for each in sys.modules if each.partition(".")[0] == name]:
            del sys.modules[each]
        return False
    return True
