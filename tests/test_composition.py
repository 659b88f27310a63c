"""Several methods at once: in any order the same, counted by the sum, refused where their sum is not defined."""

import itertools

import pytest
import torch
from torch import nn

from adapteo import config, experiment, fitted
from adapteo.bands import HLS6
from adapteo.contracts import Batch, Composition, Method, adapt, merge, trainable, trainable_count
from adapteo.errors import ConfigError
from adapteo.peft.adaptformer import AdaptFormer
from adapteo.peft.apla import APLA
from adapteo.peft.bitfit import BitFit
from adapteo.peft.dora import DoRA
from adapteo.peft.full import Full
from adapteo.peft.last_k import LastK
from adapteo.peft.lora import LoRA
from adapteo.peft.lora_plus import LoRAPlus
from adapteo.peft.norm import Norm
from adapteo.peft.pissa import PiSSA
from adapteo.peft.rocoft import RoCoFT
from adapteo.peft.ssb import SSB
from adapteo.peft.ssf import SSF
from adapteo.peft.vpt import VPT
from tiny import TinyBackbone
from toy import spell


def adapted(*methods: Method) -> TinyBackbone:
    torch.manual_seed(0)
    backbone = TinyBackbone(HLS6).eval()
    torch.manual_seed(1)
    return adapt(backbone, Composition(methods))


def filled(backbone: TinyBackbone) -> TinyBackbone:
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable(backbone).values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return backbone


def output(backbone: nn.Module) -> torch.Tensor:
    images = torch.randn(2, 1, 6, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.cat([m.flatten(1) for m in backbone(Batch(images))], dim=1)


@pytest.mark.parametrize("methods", list(itertools.permutations((LoRA(rank=2), SSF(), AdaptFormer(width=4)))))
def test_any_order_gives_the_same_model(methods):
    ours, usual = adapted(*methods), adapted(LoRA(rank=2), SSF(), AdaptFormer(width=4))
    assert list(trainable(ours)) == list(trainable(usual))
    assert torch.equal(output(filled(ours)), output(filled(usual)))
    each = sum(trainable_count(adapted(method)) for method in methods)
    assert trainable_count(ours) == each
    assert Composition(methods) == Composition(methods[::-1])


def test_low_rank_terms_are_added_to_what_is_scaled_and_prompts_see_it_all():
    backbone = filled(adapted(SSF(), LoRA(rank=2), VPT(prompts=3)))
    layer = backbone.blocks[0].inner.attn.q
    x = torch.randn(3, 32)
    plain = layer.inner.inner
    expected = layer.inner.gamma * (x @ plain.weight.T + plain.bias) + layer.inner.beta
    expected = expected + layer.scale * x @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer(x), expected)


def test_merges_when_all_do():
    method = Composition((SSB(), LoRA(rank=2), BitFit()))
    assert method.mergeable
    backbone = filled(adapted(*method.methods))
    before = output(backbone)
    torch.testing.assert_close(output(merge(backbone)), before, rtol=1e-5, atol=1e-5)
    assert {type(m) for m in backbone.modules()} == {type(m) for m in TinyBackbone(HLS6).modules()}
    assert not Composition((LoRA(), AdaptFormer())).mergeable
    assert not Composition((LoRA(), VPT())).identity_at_start


def test_one_file_holds_all_also_what_a_method_started_from():
    method = Composition((PiSSA(rank=2), SSF()))
    ours = filled(adapted(*method.methods))
    other = adapted(*method.methods)
    for name, buffer in other.named_buffers():
        if "start_" in name:
            buffer.neg_()
    method.load_adapter_state(other, method.adapter_state(ours))
    assert torch.equal(output(other), output(ours))
    described = method.adapter_config(ours)
    assert [part["name"] for part in described["methods"]] == ["pissa", "ssf"]


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ((BitFit(), Norm()), "both train 'blocks.0.norm1.bias'"),
        ((Full(), LastK(k=1)), "full and last_k both train"),
        ((DoRA(), SSB()), "change the weight of 'blocks.0.attn.q' itself"),
        ((RoCoFT(), APLA()), "change the weight of 'blocks.0.attn.proj' itself"),
        ((LoRA(), LoRA(rank=2)), "names lora twice"),
        ((), "names none"),
    ],
)
def test_conflicts_are_refused_with_the_reason(methods, message):
    with pytest.raises(ConfigError, match=message):
        adapted(*methods)


def test_different_targets_are_no_conflict():
    backbone = adapted(DoRA(targets=("q",)), RoCoFT(targets=("v",)))
    assert torch.isfinite(output(filled(backbone))).all()


def test_rates():
    method = Composition((LoRAPlus(rank=2, ratio=4), LastK(k=1)))
    factors = method.rate_factors(adapted(*method.methods))
    assert factors["blocks.0.attn.q.lora_B"] == factors["blocks.1.attn.q.lora_B"] == 4
    assert factors["blocks.1.attn.q.lora_A"] == 1
    assert method.default_rate == min(LoRAPlus.default_rate, LastK.default_rate)


# --------------------------------------------------------------------------------------- in a configuration

YAML = """\
dataset: {name: "toy:Toy"}
backbone: {name: "tiny:TinySpec"}
method:
  - ssf
  - name: lora
    rank: 2
decoder: linear
"""


def load(tmp_path, text: str, *overrides: str) -> config.Run:
    (tmp_path / "run.yaml").write_text(text)
    return config.load(tmp_path / "run.yaml", overrides)


def test_a_list_in_yaml_and_back(tmp_path):
    run = load(tmp_path, YAML)
    assert run.method == Composition((LoRA(rank=2), SSF()))
    assert config.name_of(run.method) == "lora+ssf"
    assert load(tmp_path, config.dump(run)) == run
    assert load(tmp_path, YAML, "method=[ssf, lora]").method == Composition((LoRA(), SSF()))
    assert load(tmp_path, YAML, "method=bitfit").method == BitFit()


def test_a_list_of_one_is_that_method(tmp_path):
    assert load(tmp_path, YAML, "method=[lora]").method == LoRA()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rank: 2", "rnk: 2", r"run.yaml, line 6: .*'rnk'.*did you mean 'rank'"),
        ("rank: 2", "rank: many", r"run.yaml, line 6: .*many"),
        ("- ssf", "- sff", r"run.yaml, line 4: .*'sff'.*did you mean 'ssf'"),
        ("- ssf", "- lora", r"run.yaml, line [34]: method names lora twice"),
        ("- ssf", "- 3", r"run.yaml, line 4: 'method' has no name"),
    ],
)
def test_mistakes_name_their_line(tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, YAML.replace(old, new))


def test_python_takes_a_list_too(tmp_path):
    run = spell(tmp_path, "method=[lora, ssf]")
    again = config.load({**vars(run), "out": str(tmp_path), "method": [SSF(), LoRA()]})
    assert again.method == run.method


def test_a_run_trains_a_composition_and_is_opened_again(tmp_path):
    run = spell(tmp_path / "run", "method=[lora, ssf]", "train.epochs=1")
    experiment.fit(run)
    opened = fitted.load(tmp_path / "run")
    images = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = opened.logits(images)
    assert logits.shape[0] == 2
    assert torch.isfinite(logits).all()
    assert opened.merge(tmp_path / "merged").exists()
