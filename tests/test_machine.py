"""Memory and speed of this machine, and GPUs by name."""

import pytest

from adapteo import machine
from adapteo.config import Train
from adapteo.errors import ConfigError
from adapteo.machine import GIB


def test_names_of_gpus():
    def gigabytes(name):
        return (machine.limit(Train(), name).bytes + GIB // 2) / 0.9 / GIB

    assert [gigabytes(each) for each in ("8GB", "16", "T4", "rtx 4090", "NVIDIA A100-80GB")] == pytest.approx(
        [8, 16, 16, 24, 80]
    )
    with pytest.raises(ConfigError, match="did you mean 'A100'"):
        machine.limit(Train(), "A1000")
    here = machine.limit(Train(accelerator="cpu"))
    assert 0 < here.bytes < 2**50
    assert here.here
    assert not here.gpu


def test_speed_is_measured_once():
    machine.speed.cache_clear()
    found = machine.speed("cpu", "fp32")
    assert machine.speed("cpu", "fp32") is found
    assert 1e7 < found.products < 1e15
    assert 1e7 < found.convolutions < 1e15
