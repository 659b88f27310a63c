"""timm, where it is installed: the oracle of several tests, and what `backbone: timm` needs."""

import pytest

import timm_here


@pytest.fixture(scope="session")
def timm():
    return timm_here.imported()
