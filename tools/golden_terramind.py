"""Write the reference outputs of tests/backbones/test_terramind.py, and print how far TerraTorch and we are apart.

Run it with a Python that has TerraTorch (1.2.11 was used; it is no dependency of ours):

    python tools/golden_terramind.py

Both models get the same weights from a generator (see terramind_cases.py), so that no weights need to be stored.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from terratorch.models.backbones.terramind.model import terramind_register as register
from terratorch.models.backbones.terramind.model.terramind_vit import TerraMindViT as Theirs
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "backbones")]

from prithvi_cases import digest, sketch  # noqa: E402
from terramind_cases import CASES, Case, batch, build_ours, fill  # noqa: E402

from adapteo.backbones.terramind import ELEVATION, OPTICAL, RADAR, Modality  # noqa: E402
from adapteo.bands import resolve  # noqa: E402

torch.set_float32_matmul_precision("highest")  # TerraTorch's imports lower it


def modalities_of(case: Case) -> list[Modality]:
    """Those that the bands belong to, optical first."""
    known = (OPTICAL[case.optical], RADAR[case.radar], ELEVATION)
    return [m for m in known if set(m.bands) & set(case.bands)]


def build_theirs(case: Case) -> tuple[Theirs, dict[str, Tensor]]:
    """TerraTorch's encoder with filled weights, and the checkpoint of all bands that they come from."""
    chosen = modalities_of(case)
    make = getattr(register, f"terramind_v1_{case.variant}")
    size = case.height if case.positions == "recomputed" else 224
    model = make(modalities=[m.key for m in chosen], img_size=size, merge_method=case.merge)
    if case.depth:
        model.encoder = model.encoder[: case.depth]
    own = model.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items() if not name.endswith("pos_emb")}
    state = fill(shapes)
    state.pop("missing_mod_token", None)
    missing, unknown = model.load_state_dict(state, strict=False)
    assert not unknown
    assert all(name.endswith(("pos_emb", "missing_mod_token")) for name in missing), missing
    bands = {}
    for m in chosen:
        names = {resolve(str(name)): name for name in register.PRETRAINED_BANDS[m.key]}
        assert tuple(names) == m.bands, (m.key, tuple(names))
        bands[m.key] = [names[band] for band in case.bands if band in m.bands]
    selected = register.select_modality_patch_embed_weights(model, bands, register.PRETRAINED_BANDS)
    return selected.eval(), state


@torch.no_grad()
def compare(case: Case) -> tuple[list[Tensor], float, dict[str, tuple[int, ...]]]:
    """Maps of theirs after every block, largest difference of ours, and the keys of theirs."""
    theirs, state = build_theirs(case)
    images = batch(case).images[:, 0]
    inputs = {
        m.key: images[:, [i for i, band in enumerate(case.bands) if band in m.bands]] for m in modalities_of(case)
    }
    height, width = case.height // 16, case.width // 16
    expected = [tokens.transpose(1, 2).unflatten(2, (height, width)) for tokens in theirs(inputs)]
    found = build_ours(case, state)(batch(case))
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    return expected, difference, {name: tuple(value.shape) for name, value in theirs.state_dict().items()}


def main() -> None:
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    for case in CASES:
        maps, difference, shapes = compare(case)
        tensors[case.name] = torch.stack([sketch(m) for m in maps])
        if case.merge == "mean":
            keys[case.name] = digest(shapes)
        print(f"{case.name[:90]:90s} difference {difference:.1e} of {max(float(m.abs().max()) for m in maps):.1f}")
    path = ROOT / "tests" / "backbones" / "golden" / "terramind.safetensors"
    beside = path.with_suffix(".tmp")
    save_file(tensors, beside, metadata=keys)
    os.replace(beside, path)


if __name__ == "__main__":
    main()
