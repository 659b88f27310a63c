"""The last blocks learn, earlier ones more slowly, and what lies before costs nothing."""

import pytest
from cases import batch, count_on_vit_b, projected, vit

from adapteo.contracts import adapt, trainable
from adapteo.errors import ConfigError
from adapteo.peft.last_k import LastK


def test_count_of_a_vit_b():
    assert count_on_vit_b(LastK(k=3)) == 3 * (12 * 768**2 + 13 * 768) + 2 * 768


def test_rates_fall_with_the_distance_from_the_end():
    backbone = adapt(vit(depth=4), LastK(k=3, decay=0.5))
    factors = LastK(k=3, decay=0.5).rate_factors(backbone)
    assert factors.keys() == {name for name in trainable(backbone) if name.startswith("blocks.")}
    for name, factor in factors.items():
        assert factor == {"1": 0.25, "2": 0.5, "3": 1.0}[name.split(".")[1]]


def test_no_graph_before_the_first_trained_block():
    backbone = adapt(vit(depth=4), LastK(k=1))
    seen = []
    backbone.blocks[3].register_forward_pre_hook(lambda module, args: seen.append(args[0].requires_grad))
    projected(backbone(batch())).backward()
    assert seen == [False]
    assert all(p.grad is not None for p in backbone.blocks[3].parameters())


@pytest.mark.parametrize("fields", [{"k": 0}, {"decay": 0.0}, {"decay": 1.5}])
def test_wrong_fields(fields):
    with pytest.raises(ConfigError):
        LastK(**fields)


def test_more_blocks_than_there_are():
    with pytest.raises(ConfigError, match="that has 2"):
        adapt(vit(), LastK(k=3))
