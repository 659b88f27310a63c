"""Generated data for smoke runs, written once."""

import pytest

import timm_here
from adapteo.bench import smoke
from adapteo.bench.setting import options
from adapteo.bench.setting import smoke as smoke_setting


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A folder whose ``smoke/data`` holds every dataset; nothing else is written there."""
    timm_here.prepare()
    folder = tmp_path_factory.mktemp("generated")
    smoke.write(smoke_setting(folder, options([])).data)
    return folder


@pytest.fixture
def setting(generated, tmp_path):
    """Smoke runs in this process, in a folder of their own."""
    made = smoke_setting(tmp_path, options(["jobs=0"]))
    made.data.parent.mkdir()
    made.data.symlink_to(generated / "smoke/data", target_is_directory=True)
    return made
