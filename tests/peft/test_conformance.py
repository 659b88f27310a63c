"""Every method keeps the same promises on every backbone; both lists are read from the registry.

A method joins by existing; `CASES` holds the fields worth trying beyond its defaults. A backbone family joins by
existing too; `SMALLEST` holds the fields of its smallest build, for families whose default is too large for a test, and
`NARROW` a build of less width, for those whose smallest one is.

Every pair is adapted, trained, saved, loaded and merged once, in one test. What takes a model of its own (copies, half
precision, compilation …) is tried for every method on the two smallest backbones, and on each other backbone for every
fifth method in turn, so that each method meets several families and each family many methods; so are cases beyond a
method's first, and compositions.
"""

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

import timm_here
from adapteo import registry
from adapteo.backbones import clay, dofa
from adapteo.bands import HLS6
from adapteo.contracts import (
    Backbone,
    Batch,
    Composition,
    Grid,
    Method,
    Normalisation,
    StageBackbone,
    Wrapper,
    adapt,
    merge,
    moving,
    trainable,
    trainable_count,
)
from adapteo.errors import ConfigError, WeightsError
from adapteo.model import Model, frozen_in_eval
from tiny import TinyBackbone, TinyStages

CASES: dict[str, list[dict[str, object]]] = {
    "apla": [{}, {"columns": 3}],
    "bitfit": [{}, {"embedding": True}],
    "cp": [{"rank": 8}],
    "hf": [{"kind": "oft"}, {}, {"kind": "vera", "options": {"r": 8}}],
    "mona": [{"width": 8}],
    "last_k": [{"k": 1}],
    "rocoft": [{}, {"side": "columns", "targets": ("fc2",)}],
    "ssb": [{}, {"side": "out"}, {"side": "in"}],
    "lora": [{}, {"preset": "paper"}, {"rank": 2, "rslora": True, "dropout": 0.1, "targets": ("k", "proj")}],
    "pissa": [{"rank": 4}],
    "vera": [{"rank": 32}],
    "vit_adapter": [{"conv_width": 8}, {"conv_width": 8, "cffn": True, "class_token": False, "heads": 2, "points": 3}],
    "vpt": [{}, {"prompts": 3, "deep": False, "real_channels": True}],
}
COMPOSITIONS = (
    "bitfit+lora_plus",
    "dora+norm+ssf",
    "adaptformer+lora+vpt",
    "convpass+mona+ssf+vpt",
    "ia3+houlsby+ssb",
    "norm+slr",
)
SMALLEST: dict[str, dict[str, object]] = {
    "prithvi": {"variant": "2.0-tiny-TL", "metadata": True},
    "terramind": {"variant": "tiny"},
    "timm": {"model": "test_vit"},
    "torchgeo": {"model": "resnet18"},
}
OPTIONAL = {  # packages that some backbones need
    **dict.fromkeys(("timm", "timm-convnext", "timm-swin"), "timm"),
    "torchgeo": "torchgeo",
}
NARROW: dict[str, Callable[[], Backbone]] = {
    "clay": lambda: clay.ClayViT(replace(clay.VARIANTS["v1"], dim=64, depth=2, heads=4), HLS6, metadata=True),
    "dofa": lambda: dofa.DofaViT(replace(dofa.VARIANTS["base"], dim=64, depth=2, heads=4), HLS6),
    "timm-swin": lambda: family("timm", model="swin_tiny_patch4_window7_224"),
    "timm-convnext": lambda: family("timm", model="test_convnext"),
}
CONVOLUTIONS = {"tiny-stages", "decur", "torchgeo", "unet"}  # those without linears
STAGES = {*CONVOLUTIONS, "timm-swin", "timm-convnext"}  # hierarchical networks
FEW_BIASES = {"clay"}  # those whose attention has none
NEED_TOKENS = {"convpass", "lst", "mona", "vit_adapter", "vpt"}
NEED_OUR_BLOCKS = {"convpass", "mona"}
NEED_ATTENTION = {"apla", "houlsby"}
NEED_LINEARS = {
    *("adaptformer", "cp", "dora", "hf", "ia3", "lora", "lora_fa", "lora_plus", "pfeiffer", "pissa", "rocoft", "vera"),
    *NEED_ATTENTION,
}
TWICE = {"pissa"}  # methods whose file holds what they started from as well
ROUNDED = {"pissa"}  # methods that add and subtract the same at the start
COSTLY = {"hf", "vit_adapter"}  # methods whose cases beyond the first are tried on the tiny backbones only
BEYOND_BLOCKS = {"full", "bitfit-1"}  # cases that are asked to train what the embedding is made of


class Pooled(TinyBackbone):
    """Tiny backbone without class token, with the dates averaged."""

    merges = "mean"

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        tokens, grid = super().embed(batch)
        return tokens[:, 1:], Grid(grid.height, grid.width, stack=grid.stack, merge="mean")


def family(name: str, **fields: object) -> Backbone:
    """Build a family with random weights, cut after two blocks or stages: the others would only take time."""
    spec = registry.load("backbones", name)(**{"weights": "random", **SMALLEST.get(name, {}), **fields})
    backbone = spec.build(spec.accepts(HLS6))
    backbone.blocks, backbone.taps = backbone.blocks[:2], (0, 1)
    if isinstance(backbone, StageBackbone):
        backbone.norm = nn.Identity()  # the last stage's, which has another width
    return backbone


BUILDERS: dict[str, Callable[[], Backbone]] = {
    "tiny": lambda: TinyBackbone(HLS6),
    "tiny-2-dates": lambda: TinyBackbone(HLS6, 2, 3),
    "tiny-pooled": lambda: Pooled(HLS6, 2),
    "tiny-stages": lambda: TinyStages(HLS6),
    **{name: lambda name=name: family(name) for name in registry.names("backbones")},
    **NARROW,
}
METHODS = {
    name if index == 0 else f"{name}-{index}": (name, fields)
    for name in registry.names("methods")
    for index, fields in enumerate(CASES.get(name, [{}]))
} | {name: (name, {}) for name in COMPOSITIONS}


@cache
def original(name: str) -> Backbone:
    """One build per family, never changed; biases off zero, as after pre-training."""
    if name in OPTIONAL:
        timm_here.prepare()
        pytest.importorskip(OPTIONAL[name], reason=f"{OPTIONAL[name]} is not installed")
    torch.manual_seed(0)
    backbone = BUILDERS[name]()
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return backbone.requires_grad_(False).eval()


def make(name: str) -> Method:
    key, fields = METHODS[name]
    parts = key.split("+")
    if "hf" in parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries that it imports
            pytest.importorskip("peft", minversion="0.21", reason="method hf needs the extra `peft`")
    if len(parts) > 1:
        return Composition(tuple(registry.load("methods", part)() for part in parts))
    return registry.load("methods", key)(**fields)


def batch_for(backbone: Backbone, dtype: torch.dtype = torch.float32) -> Batch:
    """Two normalised images, higher than wide or the other way round, with metadata."""
    generator = torch.Generator().manual_seed(1)
    rows, columns = (2, 3) if backbone.multiple < 32 else (1, 2)  # which is pixels enough
    shape = (2, backbone.frames, len(backbone.bands), rows * backbone.multiple, columns * backbone.multiple)
    dates = torch.tensor([2021.0, 180.0]).expand(2, backbone.frames, 2)
    latlon = torch.tensor([[45.0, 11.0], [-10.0, -60.0]])
    return Batch(torch.randn(shape, generator=generator).to(dtype), dates=dates, latlon=latlon, gsd=10.0)


def run(backbone: Backbone) -> Tensor:
    """All maps of one batch, flattened into ``(b, values)``."""
    dtype = next(backbone.parameters()).dtype
    return torch.cat([m.flatten(1) for m in backbone(batch_for(backbone, dtype))], dim=1)


@torch.no_grad()
def output(backbone: Backbone) -> Tensor:
    return run(backbone.eval())


def train(backbone: Backbone, steps: int = 2) -> dict[str, float]:
    """Train by a random projection of the maps; return the largest gradient that each parameter has seen.

    The sum of a LayerNorm's outputs is constant, so a loss like ``maps.sum()`` would have no gradient at all.
    """
    parameters = trainable(backbone)
    largest = dict.fromkeys(parameters, 0.0)
    if not parameters:
        return largest
    frozen_in_eval(Model(backbone, nn.Identity(), Normalisation((0.0,), (1.0,))))
    optimiser = torch.optim.AdamW(parameters.values(), lr=1e-2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        out = run(backbone)
        projection = torch.randn(out.shape, generator=generator)
        optimiser.zero_grad()
        ((out - projection) ** 2).mean().backward()
        for name, p in parameters.items():
            if p.grad is not None:
                largest[name] = max(largest[name], p.grad.abs().max().item())
        optimiser.step()
    backbone.eval()
    return largest


def adapted(backbone_name: str, method: Method, *, trained: bool = False) -> Backbone:
    torch.manual_seed(3)
    backbone = adapt(copy.deepcopy(original(backbone_name)), method)
    if trained:
        train(backbone)
    return backbone


def refused(backbone_name: str, method_name: str) -> bool:
    """Whether this pair must be refused; everything else must work."""
    kind, fields = METHODS[method_name]
    kinds = set(kind.split("+"))
    attends = "preset" in fields or bool(set(fields.get("targets", ())) - {"fc1", "fc2"})
    return bool(
        (backbone_name in STAGES and kinds & NEED_TOKENS)
        or (backbone_name == "timm" and kinds & NEED_OUR_BLOCKS)
        or (backbone_name in CONVOLUTIONS and kinds & NEED_LINEARS)
        or (backbone_name == "timm-convnext" and (kinds & NEED_ATTENTION or (kinds & NEED_LINEARS and attends)))
        or (backbone_name in FEW_BIASES and "bitfit" in kinds)
    )


def in_turn(backbone_name: str, method_name: str) -> bool:
    """Every fifth method on each backbone, other ones on the next."""
    return (list(BUILDERS).index(backbone_name) + list(METHODS).index(method_name)) % 5 == 0


def tried(backbone_name: str, method_name: str) -> bool:
    """Whether this pair is worth its time: further cases and compositions meet a few large backbones only."""
    kind = METHODS[method_name][0]
    first = method_name == kind and "+" not in kind
    return first or backbone_name.startswith("tiny") or (kind not in COSTLY and in_turn(backbone_name, method_name))


PAIRS = [(backbone, method) for backbone in BUILDERS for method in METHODS if tried(backbone, method)]
WORKING = [pair for pair in PAIRS if not refused(*pair)]
SAMPLE = [pair for pair in WORKING if pair[0] in ("tiny", "tiny-stages") or in_turn(*pair)]
with_all_pairs = pytest.mark.parametrize(("backbone_name", "method_name"), WORKING)
with_a_sample = pytest.mark.parametrize(("backbone_name", "method_name"), SAMPLE)


@pytest.mark.parametrize(("backbone_name", "method_name"), [pair for pair in PAIRS if refused(*pair)])
def test_methods_that_cannot_act_are_refused_with_the_reason(backbone_name, method_name):
    with pytest.raises(ConfigError, match="acts on|trains biases|targets"):
        adapt(copy.deepcopy(original(backbone_name)), make(method_name))


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_says_what_a_user_wants_to_know(name):
    facts = registry.load("methods", name).facts
    assert all(len(text) > 3 for text in vars(facts).values())


@with_all_pairs
def test_from_the_start_to_the_merged_model(backbone_name, method_name):
    method, kind = make(method_name), METHODS[method_name][0]
    before = plain_output(backbone_name)
    backbone = adapted(backbone_name, method)
    check_modules(backbone_name, method_name, backbone)
    check_start(method, before, output(backbone), 1e-5 if kind in ROUNDED else 1e-6)
    check_training(backbone_name, backbone)
    trained = output(backbone)
    if trainable(backbone):
        assert trained.shape != before.shape or not torch.equal(trained, before)
    check_file(backbone_name, method, backbone, 2 if kind in TWICE else 1)
    check_merge(backbone_name, method, backbone, 1e-5)


@cache
def plain_output(backbone_name: str) -> Tensor:
    return output(original(backbone_name))


def check_modules(backbone_name: str, method_name: str, backbone: Backbone) -> None:
    """What was put in or unfrozen: as many numbers as declared, in the blocks, in evaluation mode, without hooks."""
    expected = make(method_name).parameters_formula(original(backbone_name))
    assert trainable_count(backbone) == expected
    assert (expected == 0) == (method_name == "frozen")
    plain = dict(original(backbone_name).named_parameters())
    inside = ("blocks.", "norm.")
    outside = {name for name in trainable(backbone) if name in plain and not name.startswith(inside)}
    kind = "bias" if method_name.startswith("bitfit-") else ""
    wanted = any(name.endswith(kind) and not name.startswith(inside) for name in plain)
    assert bool(outside) == (method_name in BEYOND_BLOCKS and wanted)
    for name, module in backbone.named_modules():
        assert not module.training
        assert name.startswith("blocks.") or not isinstance(module, Wrapper)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks


def check_start(method: Method, before: Tensor, after: Tensor, tolerance: float) -> None:
    """Identity at the start, or declared that it is not."""
    assert torch.isfinite(after).all()
    if method.identity_at_start:
        torch.testing.assert_close(after, before, rtol=0, atol=tolerance)
    else:  # a route returns maps of its own strides
        assert before.shape != after.shape or (after - before).abs().max() > 1e-3


def check_training(backbone_name: str, backbone: Backbone) -> None:
    """Every declared parameter learns and nothing else moves."""
    declared = set(trainable(backbone))
    frozen = {k: v.clone() for k, v in backbone.state_dict().items() if k not in aliases(backbone)}
    largest = train(backbone, steps=3)  # behind two factors that start at zero, gradients come with the third step
    assert set(largest) == declared
    dead = {name for name, size in largest.items() if size == 0.0}
    # Parameters that no feature map depends on, such as codes of absent metadata, cannot learn by any method.
    assert dead <= unused(backbone_name)
    state = backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in frozen.items())
    assert all(p.grad is None for name, p in backbone.named_parameters() if name not in declared)


def aliases(backbone: Backbone) -> set[str]:
    """Names in the state dict of what training changes; a tensor that several layers share has several."""
    changed = {id(value) for value in moving(backbone).values()}
    every = {**dict(backbone.named_parameters(remove_duplicate=False)), **dict(backbone.named_buffers())}
    return {name for name, value in every.items() if id(value) in changed}


def check_file(backbone_name: str, method: Method, backbone: Backbone, times: int) -> None:
    """The adapter file holds what was trained and gives the same model back."""
    state = from_bytes(to_bytes(method.adapter_state(backbone)))
    statistics = sum(value.numel() for value in moving(backbone).values()) - trainable_count(backbone)
    held = sum(t.numel() for t in state.values()) - statistics
    assert held == times * method.parameters_formula(original(backbone_name))
    torch.manual_seed(99)  # other initial values than the first time
    again = adapt(copy.deepcopy(original(backbone_name)), method)
    method.load_adapter_state(again, state)
    assert torch.equal(output(again), output(backbone))
    assert method.adapter_config(backbone)["peft_type"]


def check_merge(backbone_name: str, method: Method, backbone: Backbone, tolerance: float) -> None:
    """The merged model computes the same and is a plain one, unless the method says that it cannot be merged."""
    if not method.mergeable:
        with pytest.raises(ConfigError, match="cannot be merged"):
            merge(backbone)
        return
    before = output(backbone)
    after = output(merge(backbone))
    largest = max(1.0, before.abs().max().item())  # rounding errors are those of the largest terms of a sum
    torch.testing.assert_close(after, before, rtol=tolerance, atol=tolerance * largest)
    plain = original(backbone_name)
    assert [type(m) for m in backbone.modules()] == [type(m) for m in plain.modules()]
    assert backbone.state_dict().keys() == plain.state_dict().keys()
    assert backbone.unmap(backbone.state_dict()).keys() == plain.unmap(plain.state_dict()).keys()


@cache
def unused(backbone_name: str) -> frozenset[str]:
    """Parameters outside the blocks that this input does not reach in the plain backbone."""
    backbone = copy.deepcopy(original(backbone_name)).requires_grad_(True)
    run(backbone).square().sum().backward()
    names = (name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any())
    return frozenset(name for name in names if not name.startswith(("blocks.", "norm.")))


@with_a_sample
def test_an_adapter_that_does_not_fit_changes_nothing(backbone_name, method_name):
    method = make(method_name)
    backbone = adapted(backbone_name, method)
    state = {key: value + 1 for key, value in method.adapter_state(backbone).items()}
    before = output(backbone)
    first = next(iter(state), None)
    wrong = [{**state, "more": torch.zeros(1)}]
    if first is not None:
        wrong += [
            {k: v for k, v in state.items() if k != first},
            {**state, first: state[first].flatten()[:1][None, None]},
        ]
    for each in wrong:
        with pytest.raises(WeightsError):
            method.load_adapter_state(backbone, each)
    assert torch.equal(output(backbone), before)


@with_a_sample
def test_merged_equals_unmerged_in_double_precision(backbone_name, method_name):
    method = make(method_name)
    check_merge(backbone_name, method, adapted(backbone_name, method, trained=True).double(), 1e-12)


@with_a_sample
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_equal_and_independent(backbone_name, method_name, duplicate):
    backbone = adapted(backbone_name, make(method_name), trained=True)
    before = output(backbone)
    other = duplicate(backbone)
    assert torch.equal(output(other), before)
    assert trainable(other).keys() == trainable(backbone).keys()
    train(other, steps=1)
    assert torch.equal(output(backbone), before)


@with_a_sample
@pytest.mark.parametrize("autocast", [True, False])
def test_bf16(backbone_name, method_name, autocast):
    backbone = adapted(backbone_name, make(method_name), trained=True)
    exact = output(backbone)
    if not autocast:
        backbone.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = run(backbone)
    assert (out.float() - exact).norm() < 0.05 * exact.norm()
    if trainable(backbone):
        out.float().square().mean().backward()
        grads = [p.grad for p in trainable(backbone).values() if p.grad is not None]
        assert grads
        assert all(torch.isfinite(g).all() for g in grads)


@with_a_sample
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Dynamo detected a call")  # of the compiler itself
def test_compiles_without_graph_breaks(backbone_name, method_name):
    torch.compiler.reset()
    backbone = adapted(backbone_name, make(method_name), trained=True)
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")  # traces all of it, needs no C++ compiler
    with torch.no_grad():
        maps = compiled(batch_for(backbone))
    torch.testing.assert_close(torch.cat([m.flatten(1) for m in maps], 1), output(backbone), rtol=1e-4, atol=1e-5)
