"""SSF scales and shifts what each layer returns, and merges into tensors that are there."""

import torch
from cases import batch, count_on_vit_b, filled, stages, vit
from torch import nn

from adapteo.contracts import adapt, merge, trainable
from adapteo.peft._affine import Scaled
from adapteo.peft.ssf import SSF


def test_the_formula_for_tokens_and_for_maps():
    generator = torch.Generator().manual_seed(0)
    for layer, x in (
        (nn.Linear(4, 3), torch.randn(2, 5, 4, generator=generator)),
        (nn.LayerNorm(4), torch.randn(2, 5, 4, generator=generator)),
        (nn.Conv2d(4, 3, 3), torch.randn(2, 4, 5, 6, generator=generator)),
        (nn.BatchNorm2d(4).eval(), torch.randn(2, 4, 5, 6, generator=generator)),
    ):
        made = Scaled(layer, shift=True)
        nn.init.normal_(made.gamma)
        nn.init.normal_(made.beta)
        out = layer(x)
        axis = 1 if x.ndim == 4 else 2
        each = [made.gamma[i] * part + made.beta[i] for i, part in enumerate(out.unbind(axis))]
        torch.testing.assert_close(made(x), torch.stack(each, axis))
        torch.testing.assert_close(made.merged()(x), made(x), rtol=1e-5, atol=1e-5)


def test_count_of_a_vit_b():
    assert count_on_vit_b(SSF()) == 12 * 22 * 768


def test_layers_without_bias_are_only_scaled():
    backbone = adapt(stages(), SSF())  # convolutions without bias, norms with
    assert sorted(p.numel() for p in trainable(backbone).values()) == sorted([8, 16, 8, 8, 16, 16])
    before = [m.clone() for m in filled(backbone)(batch(16))]
    after = merge(backbone)(batch(16))
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_the_embedding_is_left_alone():
    backbone = adapt(vit(), SSF())
    assert type(backbone.patch_embed).__name__ == "PatchConv2d"
    assert not [name for name in trainable(backbone) if not name.startswith("blocks.")]
