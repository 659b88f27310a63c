"""HF peft for the tests that compare with it."""

import warnings
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def peft() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries it imports
        return pytest.importorskip("peft", reason="comparing with HF peft needs the extra `peft`")
