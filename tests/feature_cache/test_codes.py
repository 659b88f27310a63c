"""Each way of storing features against the error that it states."""

import numpy as np
import pytest
import torch

from adapteo.feature_cache import CODES

SHAPES = [torch.Size((5, 3, 4)), torch.Size((7, 5)), torch.Size((5, 1, 1))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CODES)
def test_what_comes_back_is_within_the_stated_error(name, shape):
    code = CODES[name]
    values = torch.randn(6, *shape) * torch.logspace(-3, 2, 6).view(6, *[1] * len(shape))
    values[2] = 0
    rows = code.encode(values)
    assert rows.shape == (6, code.size(shape))
    assert rows.dtype == np.uint8
    back = code.decode(rows, shape)
    assert back.dtype == torch.float32
    assert back.shape == values.shape
    channel = 2 if len(shape) == 2 else 1
    others = [axis for axis in range(1, values.ndim) if axis != channel]
    largest = values.abs().amax(others, keepdim=True)
    bound = {"float32": 0 * largest, "bf16": values.abs() * 2**-8, "int8": largest / 254 * (1 + 1e-4)}[name]
    assert ((back - values).abs() <= bound).all()
    if name == "bf16":
        assert torch.equal(back, values.bfloat16().float())


def test_rows_of_some_images_are_decoded_alone():
    for code in CODES.values():
        values = torch.randn(5, 4, 3, 3)
        rows = code.encode(values)
        assert torch.equal(code.decode(rows[[3, 1]], values.shape[1:]), code.decode(rows, values.shape[1:])[[3, 1]])


@pytest.mark.parametrize("name", CODES)
def test_channels_come_last_in_memory(name):
    """As maps of transformers have them; rows that cannot be written, as those of a mapped file, will do."""
    code, values = CODES[name], torch.randn(2, 5, 3, 4)
    rows = code.encode(values)
    rows.flags.writeable = False
    back = code.decode(list(rows), values.shape[1:])
    assert back.is_contiguous(memory_format=torch.channels_last)
    turned = code.encode(values.contiguous(memory_format=torch.channels_last))
    assert np.array_equal(turned, rows), "how they lay in memory does not matter"
