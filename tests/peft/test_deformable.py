"""Deformable attention against the published function, loops, and what it must do by construction."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from vit_adapter_cases import SAMPLINGS, noise

from adapteo.errors import ConfigError
from adapteo.peft import _deformable
from adapteo.peft._deformable import Compiled, DeformableAttention, cell_centres, sample, sample_by_grid

GOLDEN = load_file(Path(__file__).parent / "golden" / "vit_adapter.safetensors")


@pytest.mark.parametrize("name", SAMPLINGS)
def test_equals_the_published_function_and_its_gradients(name):
    value, locations, weights = (t.requires_grad_() for t in SAMPLINGS[name].inputs())
    out = sample(value, SAMPLINGS[name].sizes, locations, weights)
    (out * noise("projection", tuple(out.shape))).sum().backward()
    found = {"output": out, "value": value.grad, "locations": locations.grad, "weights": weights.grad}
    for kind, tensor in found.items():
        torch.testing.assert_close(tensor, GOLDEN[f"{name}/{kind}"], rtol=1e-5, atol=1e-5)


def by_loops(value: Tensor, sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """The formula written out: bilinear between the centres of four cells, zero outside of the map."""
    b, q, m, _, p, _ = locations.shape
    out = torch.zeros(b, q, m, value.shape[-1], dtype=value.dtype)
    start = 0
    for level, (h, w) in enumerate(sizes):
        for i, j, k, n in torch.cartesian_prod(*(torch.arange(size) for size in (b, q, m, p))).tolist():
            x, y = (locations[i, j, k, level, n] * torch.tensor([w, h]) - 0.5).tolist()
            for row in range(h):
                for column in range(w):
                    share = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
                    if share:
                        out[i, j, k] += weights[i, j, k, level, n] * share * value[i, start + row * w + column, k]
        start += h * w
    return out.flatten(2)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_equals_the_formula_written_out(name):
    value, locations, weights = (t.double() for t in SAMPLINGS[name].inputs())
    sizes = SAMPLINGS[name].sizes
    expected = by_loops(value, sizes, locations, weights)
    torch.testing.assert_close(sample(value, sizes, locations, weights), expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    value, locations, weights = (t[:1].double().requires_grad_() for t in SAMPLINGS["one level"].inputs())
    sizes = SAMPLINGS["one level"].sizes
    assert torch.autograd.gradcheck(lambda *args: sample(args[0], sizes, *args[1:]), (value, locations, weights))


def test_the_backward_pass_holds_what_came_in_and_no_samples():
    value, locations, weights = (t.requires_grad_() for t in SAMPLINGS["pyramid"].inputs())
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        sample(value, SAMPLINGS["pyramid"].sizes, locations, weights)
    assert sum(held) == value.numel() + locations.numel() + weights.numel()


# -------------------------------------------------------------------------------------- the compiled operator


def stand_in(calls: list) -> SimpleNamespace:
    """Has the two functions of the compiled operator, with its arguments; computes by the plain ones."""

    def forward(value, shapes, starts, locations, weights, at_once):
        calls.append((shapes.tolist(), starts.tolist(), at_once))
        assert all(t.is_contiguous() for t in (value, locations, weights))
        return sample_by_grid(value, shapes.tolist(), locations, weights)

    def backward(value, shapes, starts, locations, weights, gradient, at_once):
        inputs = [t.detach().requires_grad_() for t in (value, locations, weights)]
        with torch.enable_grad():
            out = sample_by_grid(inputs[0], shapes.tolist(), *inputs[1:])
        return torch.autograd.grad(out, inputs, gradient)

    return SimpleNamespace(ms_deform_attn_forward=forward, ms_deform_attn_backward=backward)


def test_the_compiled_operator_is_called_as_it_wants_and_gives_its_gradients():
    case, calls, results = SAMPLINGS["pyramid"], [], []
    for compiled in (False, True):
        value, locations, weights = (t.requires_grad_() for t in case.inputs())
        if compiled:
            out = Compiled.apply(stand_in(calls), value, case.sizes, locations, weights)
        else:
            out = sample(value, case.sizes, locations, weights)
        (out * noise("projection", tuple(out.shape))).sum().backward()
        results.append((out.detach(), value.grad, locations.grad, weights.grad))
    torch.testing.assert_close(*results)
    assert calls == [([[6, 10], [3, 5], [2, 3]], [0, 60, 75], 2)]


@pytest.mark.parametrize(("images", "at_once"), [(1, 1), (64, 64), (70, 35), (67, 1)])
def test_the_compiled_operator_gets_images_in_equal_parts(images, at_once):
    calls = []
    Compiled.apply(
        stand_in(calls),
        torch.zeros(images, 4, 1, 1),
        ((2, 2),),
        torch.zeros(images, 1, 1, 1, 1, 2),
        torch.zeros(images, 1, 1, 1, 1),
    )
    assert calls[0][2] == at_once


def test_on_a_cpu_the_compiled_operator_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(_deformable, "_extension", lambda: pytest.fail("it knows CUDA only"))
    case = SAMPLINGS["one level"]
    value, locations, weights = case.inputs()
    sample(value, case.sizes, locations, weights)


def test_the_compiled_operator_is_looked_for_without_failing(monkeypatch):
    found = _deformable._extension.__wrapped__
    assert found() is None or found().ms_deform_attn_forward
    monkeypatch.setattr(_deformable, "EXTENSION", "math")
    assert found().__name__ == "math"


# ------------------------------------------------------------------------------------------------ attention


def test_at_the_start_points_lie_on_rays_one_to_four_cells_away():
    """Eight heads look along the axes and diagonals; steps are counted to the sides of a square."""
    attention = DeformableAttention(32, heads=8, levels=2, points=4, ratio=0.5)
    offsets = attention.sampling_offsets.bias.view(8, 2, 4, 2)
    directions = torch.tensor([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]])
    for level in range(2):
        for point in range(4):
            torch.testing.assert_close(offsets[:, level, point], (point + 1.0) * directions, rtol=0, atol=1e-5)
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any()
    assert not attention.attention_weights.bias.any()


def identity(attention: DeformableAttention) -> DeformableAttention:
    """The values pass as they are, and each query reads its own place."""
    with torch.no_grad():
        attention.sampling_offsets.bias.zero_()
        for layer in (attention.value_proj, attention.output_proj):
            layer.weight.copy_(torch.eye(len(layer.weight)))
    return attention


@pytest.mark.parametrize("size", [(4, 6), (1, 5)])
def test_queries_at_the_centres_of_cells_read_the_cells(size):
    attention = identity(DeformableAttention(6, heads=2, levels=1, points=3, ratio=1.0)).double()
    values = torch.randn(2, size[0] * size[1], 6, dtype=torch.float64)
    centres = cell_centres([size], torch.device("cpu")).double()
    found = attention(torch.randn_like(values), centres, values, [size])
    torch.testing.assert_close(found, values, rtol=1e-6, atol=1e-6)


def test_places_stay_exact_in_bfloat16():
    """On a map of 512 columns a bfloat16 could not even tell neighbours apart: values change sign at each of them."""
    attention = identity(DeformableAttention(2, heads=1, levels=1, points=1, ratio=1.0)).bfloat16()
    values = torch.tensor([1.0, -1.0], dtype=torch.bfloat16).repeat(256)[None, :, None].expand(1, 512, 2)
    centres = cell_centres([(1, 512)], torch.device("cpu"))
    assert torch.equal(attention(torch.zeros_like(values), centres, values, [(1, 512)]), values)


def test_heads_that_do_not_divide_the_widths_are_refused():
    with pytest.raises(ConfigError, match="5 heads do not divide a width of 32"):
        DeformableAttention(32, heads=5, levels=1, points=4, ratio=0.5)
    with pytest.raises(ConfigError, match="values of width 12"):
        DeformableAttention(48, heads=8, levels=1, points=4, ratio=0.25)
