"""What is known of pre-training without torch agrees with the backbones themselves."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from adapteo import registry
from adapteo._pretraining import pretraining_of, pretrainings
from adapteo.bands import BY_NAME, HLS6, SENTINEL2_L2A

ROOT = Path(__file__).parents[1]


def test_the_file_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("make_imagery", ROOT / "tools/make_imagery.py")
    make_imagery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_imagery)
    assert make_imagery.FILE.read_text(encoding="utf-8") == make_imagery.text(), "run `make docs`"


def test_entries_are_sensible():
    for entry in pretrainings():
        assert entry.backbone in registry.names("backbones")
        assert set(entry.bands) | set(entry.other_bands) <= set(BY_NAME)
        assert not set(entry.bands) & set(entry.other_bands)
        assert entry.packaged or entry.repo
        for band, (mean, std) in entry.bands.items():
            assert std > 0
            if BY_NAME[band].kind == "optical":
                assert (mean, std) == (0, 1) or 0 < mean < 1, (entry.title, band)
    lacking = {"timm", "torchgeo", "unet"}
    assert {entry.backbone for entry in pretrainings()} == set(registry.names("backbones")) - lacking


@pytest.mark.parametrize(
    ("name", "keys"), [("nano", {}), ("prithvi", {"variant": "2.0-tiny-TL"}), ("galileo", {"variant": "nano"})]
)
def test_statistics_of_a_built_backbone(name, keys):
    spec = registry.load("backbones", name)(**keys)
    entry = pretraining_of(name, keys)
    bands = tuple(reversed(HLS6))
    norm = spec.build(bands).normalisation
    for band, mean, std in zip(bands, norm.mean, norm.std, strict=True):
        assert entry.bands[band] == pytest.approx((mean, std), rel=1e-4)


def test_a_variant_is_found_by_the_keys_of_a_configuration():
    assert pretraining_of("prithvi").keys == {"variant": "2.0-300M"}
    assert pretraining_of("prithvi", {"variant": "1.0-100M", "metadata": False}).keys == {"variant": "1.0-100M"}
    assert pretraining_of("clay", {"sensor": "landsat8"}).keys == {"variant": "v1.5", "sensor": "landsat8"}
    assert pretraining_of("timm") is None
    assert pretraining_of("prithvi", {"variant": "3"}) is None


def test_bands_that_come_in_groups_count_only_together():
    galileo = pretraining_of("galileo")
    assert galileo.known(("red", "green", "swir16", "swir22", "nir")) == ("swir16", "swir22", "nir")
    assert galileo.known(SENTINEL2_L2A) == registry.load("backbones", "galileo")().accepts(SENTINEL2_L2A)
    assert pretraining_of("nano").known(("nir", "red", "blue")) == ("red", "blue")


def test_no_torch():
    code = "import sys; from adapteo._pretraining import pretrainings; assert pretrainings(); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
