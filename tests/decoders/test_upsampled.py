"""Against the definition: double, join, convolve."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from adapteo.decoders import _upsampled
from adapteo.decoders._upsampled import joined_convolution


def by_definition(x, skip, weight):
    doubled = F.interpolate(x, size=skip.shape[2:], mode="nearest")
    return F.conv2d(torch.cat([doubled, skip], dim=1), weight, padding=1)


def tensors(batch=2, coarse=3, fine=2, outputs=4, height=16, width=18, dtype=torch.float64):
    generator = torch.Generator().manual_seed(height * width)
    shapes = (batch, coarse, height, width), (batch, fine, 2 * height, 2 * width), (outputs, coarse + fine, 3, 3)
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(16, 18), (40, 7), (1, 300), (300, 1)])
def test_output_and_gradients_are_those_of_the_definition(shape, layout):
    given = [
        t.detach().contiguous(memory_format=layout).requires_grad_() for t in tensors(height=shape[0], width=shape[1])
    ]
    ours, expected = joined_convolution(*given), by_definition(*given)
    assert type(ours.grad_fn).__name__ == "_JoinedBackward"
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    direction = torch.sin(torch.arange(ours.numel(), dtype=torch.float64)).view_as(ours)
    got, wanted = (torch.autograd.grad(y, given, direction) for y in (ours, expected))
    for mine, reference in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-10)


@pytest.mark.parametrize("trained", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_the_gradients_that_are_wanted_are_computed(trained):
    given = [t.detach().requires_grad_(wanted) for t, wanted in zip(tensors(), trained, strict=True)]
    wanted = given[trained.index(True)]
    got, expected = (torch.autograd.grad(f(*given).square().sum(), wanted) for f in (joined_convolution, by_definition))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("height", "width", "fine"), [(4, 4, (8, 8)), (16, 18, (31, 36)), (16, 18, (33, 37))])
def test_small_maps_and_odd_sizes_go_the_plain_way(height, width, fine):
    x, skip, weight = tensors(height=height, width=width)
    skip = skip.detach()[:, :, :1, :1].expand(-1, -1, *fine)
    assert torch.equal(joined_convolution(x, skip, weight), by_definition(x, skip, weight))


def test_products_are_saved(monkeypatch):
    given = [t.detach().float().requires_grad_() for t in tensors(coarse=8, fine=8, outputs=8)]

    def products():
        with FlopCounterMode(display=False) as counter:
            joined_convolution(*given).sum().backward()
        return counter.get_total_flops()

    folded = products()
    monkeypatch.setattr(_upsampled, "_PLACES", 10**9)
    assert folded / products() == pytest.approx((4 + 9) / 18)


def test_less_is_kept_for_backward():
    x, skip, weight = tensors(batch=2, coarse=32, fine=16, outputs=4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        joined_convolution(x, skip, weight)
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in (x, skip, weight)}


def test_mixed_precision_is_as_accurate_as_the_definition():
    x, skip, weight = given = [t.detach().float().requires_grad_() for t in tensors(coarse=24, fine=8)]
    exact = torch.autograd.grad(by_definition(*given).square().mean(), given)
    errors = []
    for function in (joined_convolution, by_definition):
        with torch.autocast("cpu", torch.bfloat16):
            out = function(x, skip, weight)
        assert out.dtype == torch.bfloat16
        found = torch.autograd.grad(out.float().square().mean(), given)
        assert all(f.dtype == torch.float32 for f in found)
        errors.append(max(float((f - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True)))
    assert errors[0] < 2 * errors[1]
