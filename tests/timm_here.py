"""timm for tests, also where its torchvision does not fit this PyTorch.

The torchvision on PyPI is built for CUDA. Beside a PyTorch for CPUs its kernels do not load, and its import fails
because it describes two of them by name. timm uses none of them, so it is enough that the names exist.
"""

import importlib
import sys
from types import ModuleType

import pytest
import torch

_KEPT: list[torch.library.Library] = []


def imported() -> ModuleType:
    """Import timm, or skip the test."""
    prepare()
    return pytest.importorskip("timm", reason="timm is not installed")


def prepare() -> None:
    """Declare what the import of torchvision asks for, when its own kernels cannot do it."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _KEPT.append(torch.library.Library("torchvision", "FRAGMENT"))
        for kernel in ("nms", "qnms"):
            _KEPT[0].define(f"{kernel}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        importlib.import_module("torchvision")
