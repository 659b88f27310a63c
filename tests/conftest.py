"""Fixtures shared by all tests."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

import timm_here

os.environ.setdefault("MPLBACKEND", "Agg")
_SHARED = "PYTEST_XDIST_WORKER" in os.environ  # the other cores have tests of their own
if _SHARED:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1 if _SHARED else min(2, torch.get_num_threads()))
os.environ["ADAPTEO_CACHE"] = tempfile.mkdtemp(prefix="adapteo-tests-")  # for fixtures that outlive a test
atexit.register(shutil.rmtree, os.environ["ADAPTEO_CACHE"], ignore_errors=True)
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
