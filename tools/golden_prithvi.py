"""Write the reference outputs of tests/backbones/test_prithvi.py, and print how far TerraTorch and we are apart.

Run it with a Python that has TerraTorch (1.2.11 was used; it is no dependency of ours):

    python tools/golden_prithvi.py            # writes tests/backbones/golden/prithvi_*.safetensors
    python tools/golden_prithvi.py --table 2.0-300M …   # prints the largest difference over dates, sizes and options

Both models get the same weights from a generator (see prithvi_cases.py), so that no weights need to be stored.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import save_file
from terratorch.models.backbones.prithvi_mae import PrithviViT as Theirs
from terratorch.models.backbones.prithvi_vit import PRETRAINED_BANDS, checkpoint_filter_fn_vit, prithvi_cfgs
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "backbones")]

from prithvi_cases import FAST, FULL, REORDERED, Case, batch, digest, fill, sketch  # noqa: E402

from adapteo.backbones.prithvi import VARIANTS, PrithviViT  # noqa: E402
from adapteo.bands import HLS6, resolve  # noqa: E402
from adapteo.contracts import Batch  # noqa: E402

torch.set_float32_matmul_precision("highest")  # TerraTorch's imports lower it

CONFIGS = {
    "1.0-100M": "prithvi_eo_v1_100",
    "2.0-tiny-TL": "prithvi_eo_v2_tiny_tl",
    "2.0-100M-TL": "prithvi_eo_v2_100_tl",
    "2.0-300M": "prithvi_eo_v2_300",
    "2.0-300M-TL": "prithvi_eo_v2_300_tl",
    "2.0-600M": "prithvi_eo_v2_600",
    "2.0-600M-TL": "prithvi_eo_v2_600_tl",
}


def build_theirs(case: Case) -> tuple[Theirs, dict[str, Tensor]]:
    """TerraTorch's encoder with filled weights, and the six-band checkpoint that they come from.

    It is told the image size unless it is to interpolate positions; bands are selected by its own loader.
    """
    config = {**prithvi_cfgs[CONFIGS[case.variant]], "num_frames": case.frames}
    if case.positions == "recomputed":
        config["img_size"] = (case.height, case.width)
    if case.depth:
        config["depth"] = case.depth
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Theirs(**config).named_parameters()}
    state = fill(shapes)
    enums = {resolve(band.value): band for band in PRETRAINED_BANDS}
    assert tuple(enums) == HLS6
    model = Theirs(**{**config, "in_chans": len(case.bands)})
    selected = checkpoint_filter_fn_vit(state, model, PRETRAINED_BANDS, [enums[band] for band in case.bands])
    missing, unknown = model.load_state_dict(selected, strict=False, assign=True)
    assert (missing, unknown) == (["pos_embed"], []), (missing, unknown)
    return model.eval(), state


def maps_of_theirs(model: Theirs, case: Case, given: Batch) -> list[Tensor]:
    """Feature maps of every block."""
    coordinates = (given.dates, given.latlon) if case.metadata else (None, None)
    features = model.forward_features(given.images.transpose(1, 2), *coordinates)
    height, width = case.height // model.patch_embed.patch_size[1], case.width // model.patch_embed.patch_size[2]
    maps = [
        tokens[:, 1:].unflatten(1, (case.frames, height, width)).permute(0, 1, 4, 2, 3).flatten(1, 2)
        for tokens in features
    ]
    if height == width:  # theirs takes the square root of the number of tokens
        model.patch_embed.input_size = (case.frames, case.height, case.width)
        for ours, theirs in zip(maps, model.prepare_features_for_image_model(features), strict=True):
            assert torch.equal(ours, theirs)
    return maps


def build_ours(case: Case, state: dict[str, Tensor]) -> PrithviViT:
    """Our encoder, with the same checkpoint through `remap`."""
    with torch.device("meta"):
        model = PrithviViT(
            VARIANTS[case.variant],
            case.bands,
            case.frames,
            metadata=case.metadata,
            positions=case.positions,
            depth=case.depth,
        )
    model.load_state_dict(model.remap(state).state, assign=True)
    model.taps = tuple(range(len(model.blocks)))
    return model.eval()


@torch.no_grad()
def compare(case: Case) -> tuple[list[Tensor], float, float]:
    """Maps of theirs, largest difference of ours over all blocks, and largest value."""
    given = batch(case)
    theirs, state = build_theirs(case)
    expected = maps_of_theirs(theirs, case, given)
    found = build_ours(case, state)(given)
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    return expected, difference, max(float(e.abs().max()) for e in expected)


def upstream_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of TerraTorch's own state dict for one date of 224 x 224 pixels."""
    with torch.device("meta"):
        state = Theirs(**{**prithvi_cfgs[CONFIGS[variant]], "num_frames": 1}).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def write(name: str, cases: list[Case]) -> None:
    tensors: dict[str, Tensor] = {}
    for case in cases:
        maps, difference, largest = compare(case)
        images = batch(case).images.double()
        tensors[f"{case.name}/maps"] = torch.stack([sketch(m) for m in maps])
        tensors[f"{case.name}/images"] = torch.stack([images.sum(), images.abs().sum()])
        print(f"{case.name:60s} difference {difference:.1e} of {largest:.1f}", flush=True)
    folder = ROOT / "tests" / "backbones" / "golden"
    folder.mkdir(exist_ok=True)
    beside = folder / f"{name}.tmp"
    save_file(tensors, beside, metadata={variant: digest(upstream_shapes(variant)) for variant in VARIANTS})
    os.replace(beside, folder / f"{name}.safetensors")


def table_cases(variant: str) -> Iterator[Case]:
    """Every date count and size at full depth, metadata on at even counts; bands; positions."""
    patch14 = VARIANTS[variant].patch == 14
    sizes = ((224, 224), (98, 98), (70, 126)) if patch14 else ((224, 224), (96, 96), (64, 128))
    located = VARIANTS[variant].metadata
    for frames, (height, width) in product((1, 2, 3, 4), sizes):
        yield Case(variant, frames, height, width, metadata=located and frames % 2 == 0)
    height, width = sizes[2]
    yield Case(variant, 2, height, width, bands=REORDERED, metadata=located)
    yield Case(variant, 2, height, width, positions="interpolated", metadata=located)


def print_table(variants: list[str]) -> None:
    print("| variant | cases | largest difference | largest value |\n| --- | --- | --- | --- |")
    for variant in variants:
        rows = [compare(case)[1:] for case in table_cases(variant)]
        difference, largest = (max(column) for column in zip(*rows, strict=True))
        print(f"| {variant} | {len(rows)} | {difference:.1e} | {largest:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="*", choices=VARIANTS, help="compare at full depth, write nothing")
    chosen = parser.parse_args().table
    if chosen is not None:
        print_table(chosen or list(VARIANTS))
    else:
        write("prithvi_fast", FAST)
        write("prithvi_full", FULL)
