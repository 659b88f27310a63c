"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

import timm_here

os.environ.setdefault("MPLBACKEND", "Agg")
torch.set_num_threads(min(2, torch.get_num_threads()))
timm_here.prepare()  # torchmetrics and transformers import torchvision as well, when it is there


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory, monkeypatch):
    """No test reads or leaves anything in the user's cache."""
    monkeypatch.setenv("ADAPTEO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real imagery beside the checkout, when it is there."""
    folder = Path(os.environ.get("ADAPTEO_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real imagery (../shared/data, or ADAPTEO_SHARED_DATA) is not on this machine")
    return folder
