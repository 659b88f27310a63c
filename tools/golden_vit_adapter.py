"""Write the reference outputs of tests/peft/test_vit_adapter.py and print how far TerraTorch and we are apart.

Run it with a Python that has TerraTorch (1.2.11 was used; it is no dependency of ours):

    python tools/golden_vit_adapter.py            # writes tests/peft/golden/vit_adapter.safetensors

TerraTorch's Prithvi with ViT-Adapter needs a compiled CUDA operator. In its place stands the plain function that
TerraTorch ships beside it, so that the model runs on a CPU. Both models get the same weights from a generator (see
vit_adapter_cases.py), so that no weights need to be stored.
"""

import os
import sys
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "peft")]
sys.modules["MultiScaleDeformableAttention"] = ModuleType("MultiScaleDeformableAttention")  # imported, never called

from terratorch.models.backbones.detr_ops.functions.ms_deform_attn_func import (  # noqa: E402
    ms_deform_attn_core_pytorch,
)
from terratorch.models.backbones.detr_ops.modules import ms_deform_attn  # noqa: E402
from terratorch.models.backbones.prithvi_vit import prithvi_adapter_cfgs  # noqa: E402
from terratorch.models.backbones.prithvi_vit_adapter import PrithviViTAdapter  # noqa: E402
from vit_adapter_cases import CASES, SAMPLINGS, Case, batch, digest, fill, loss, noise, sketch  # noqa: E402

from adapteo.contracts import adapt  # noqa: E402
from adapteo.peft._deformable import sample  # noqa: E402
from adapteo.peft.vit_adapter import from_terratorch  # noqa: E402


class Plain:
    """Stands for the autograd function of the compiled operator."""

    @staticmethod
    def apply(
        value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, at_once: int
    ) -> Tensor:
        """Compute the same."""
        return ms_deform_attn_core_pytorch(value, shapes.tolist(), locations, weights)


ms_deform_attn.MSDeformAttnFunction = Plain
torch.set_float32_matmul_precision("highest")  # importing TerraTorch sets "medium", which is bfloat16 on some CPUs


def build_theirs(case: Case) -> PrithviViTAdapter:
    """TerraTorch's model with the configuration of its Prithvi 1.0 100M, as deep and wide as the case is."""
    third = case.depth // 4
    groups = [[third * i, third * (i + 1) - 1] for i in range(4)]
    config = prithvi_adapter_cfgs["prithvi_eo_v1_100"] | {
        "interaction_indexes": groups,
        "deform_num_heads": case.heads,
        "with_cffn": case.cffn,
    }
    model = PrithviViTAdapter(
        **config,
        img_size=(case.height, case.width),
        in_chans=6,
        embed_dim=case.dim,
        depth=case.depth,
        num_heads=case.heads,
    )
    state = fill({name: tuple(value.shape) for name, value in model.state_dict().items() if name != "pos_embed"})
    model.load_state_dict(state | {"pos_embed": model.pos_embed})
    model.freeze()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(PrithviViTAdapter.extra_layers))
    return model.train(case.training)


def build_ours(case: Case, theirs: PrithviViTAdapter) -> nn.Module:
    """Ours with TerraTorch's weights through `remap` and `from_terratorch`; what they lack stays as it is."""
    backbone = adapt(case.backbone(), case.method)
    state = theirs.state_dict()
    encoder = {name: value for name, value in state.items() if f"route.{name}" not in from_terratorch(state)}
    unused = {"cls_token": torch.zeros(1, 1, case.dim), "norm.weight": torch.ones(case.dim)}
    encoder |= unused | {"norm.bias": torch.zeros(case.dim)}
    plain = case.backbone()
    backbone.load_state_dict(plain.remap(encoder).state, strict=False)
    case.method.load_adapter_state(backbone, from_terratorch(state))
    return backbone.train(case.training)


def run(case: Case, keys: dict[str, str]) -> dict[str, Tensor]:
    """Sketches of TerraTorch's maps and gradients; prints the largest differences of ours.

    ``keys`` gets a fingerprint of the adapter's keys and shapes.
    """
    theirs = build_theirs(case)
    ours = build_ours(case, theirs)
    keys[case.name] = digest({n: tuple(v.shape) for n, v in from_terratorch(theirs.state_dict()).items()})
    given = batch(case)
    expected, found = theirs.forward_features(given.images[:, 0]), ours(given)
    for maps in (expected, found):
        loss(maps).backward()
    apart = max(float((a - b).detach().abs().max()) for a, b in zip(expected, found, strict=True))
    largest = max(float(m.detach().abs().max()) for m in expected)
    gradients = {f"route.{n}": p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    own = {n: p.grad for n, p in ours.named_parameters() if p.grad is not None}
    assert gradients.keys() == own.keys()
    scale = max(float(g.abs().max()) for g in gradients.values())
    off = max(float((gradients[n] - own[n]).abs().max()) for n in own)
    print(f"{case.name:40s} maps {apart:.1e} of {largest:.1f}, gradients {off:.1e} of {scale:.2g}")
    sketches = {f"{case.name}/map {i}": sketch(f"map {i}", m) for i, m in enumerate(expected)}
    names = sorted(gradients)
    sketches[f"{case.name}/gradients"] = torch.stack([sketch(n, gradients[n]) for n in names])
    if case.training:
        sketches |= {f"{case.name}/{n}": b for n, b in theirs.named_buffers() if n.startswith("norm1.running")}
    return sketches


def run_sampling(name: str) -> dict[str, Tensor]:
    """Output and gradients of the published function."""
    case = SAMPLINGS[name]
    results = []
    for function in ("theirs", "ours"):
        value, locations, weights = (t.requires_grad_() for t in case.inputs())
        if function == "theirs":
            out = ms_deform_attn_core_pytorch(value, case.sizes, locations, weights)
        else:
            out = sample(value, case.sizes, locations, weights)
        (out * noise("projection", tuple(out.shape))).sum().backward()
        results.append((out.detach(), value.grad, locations.grad, weights.grad))
    print(name, *(f"{(a - b).abs().max():.1e} of {a.abs().max():.1f}" for a, b in zip(*results, strict=True)))
    kinds = ("output", "value", "locations", "weights")
    return {f"{name}/{kind}": t.contiguous() for kind, t in zip(kinds, results[0], strict=True)}


if __name__ == "__main__":
    tensors: dict[str, Tensor] = {}
    fingerprints: dict[str, str] = {}
    for each in CASES:
        tensors |= run(each, fingerprints)
    for each in SAMPLINGS:
        tensors |= run_sampling(each)
    folder = ROOT / "tests" / "peft" / "golden"
    folder.mkdir(exist_ok=True)
    beside = folder / "vit_adapter.tmp"
    save_file(tensors, beside, metadata=fingerprints)
    os.replace(beside, folder / "vit_adapter.safetensors")
