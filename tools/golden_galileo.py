"""Make tests/backbones/golden/galileo_*.safetensors with the published Galileo.

    python tools/golden_galileo.py <checkout of nasaharvest/galileo> <encoder.safetensors of the nano variant>

Needs torch, einops and safetensors. Nothing of AdaptEO is imported: the two sides share inputs and weights, no code.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

TESTS = Path(__file__).resolve().parents[1] / "tests" / "backbones"
sys.path.insert(0, str(TESTS))

from galileo_cases import CASES, RANDOM, SIZES, Case, inputs, published_shapes, random_state  # noqa: E402

UPSTREAM = {
    "vv": "VV", "vh": "VH", "blue": "B2", "green": "B3", "red": "B4", "rededge071": "B5", "rededge075": "B6",
    "rededge078": "B7", "nir": "B8", "nir08": "B8A", "swir16": "B11", "swir22": "B12", "elevation": "elevation",
    "slope": "slope",
}  # fmt: skip


def main() -> None:
    checkout, weights = Path(sys.argv[1]), Path(sys.argv[2])
    code = load_module(checkout / "single_file_galileo.py")
    statistics = json.loads((checkout / "config" / "normalization.json").read_text())
    folder = TESTS / "golden"
    folder.mkdir(exist_ok=True)
    for name, cases in (("nano", CASES), ("random", RANDOM)):
        golden = {}
        for case in cases:
            encoder = build(code, case.variant, load_file(weights) if name == "nano" else None)
            for step, maps in run(code, encoder, case, statistics).items():
                golden[f"{case.name}/{step}"] = maps
        save_file(golden, folder / f"galileo_{name}.safetensors")


def load_module(path: Path):
    spec = importlib.util.spec_from_file_location("single_file_galileo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(code, variant: str, state):
    dim, depth, heads = SIZES[variant]
    encoder = code.Encoder(embedding_size=dim, depth=depth, num_heads=heads, mlp_ratio=4, drop_path=0.1)
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    assert shapes == published_shapes(variant), "the key table of the tests is wrong"
    encoder.load_state_dict(state or random_state(shapes))
    return encoder.eval()


@torch.no_grad()
def run(code, encoder, case: Case, statistics) -> dict[str, torch.Tensor]:
    """Mean token of each patch ``(b, d, h, w)`` after each of the case's steps, and after all blocks and the norm."""
    space_time, space, masks, months = published_inputs(code, case, statistics)
    b, t = months.shape
    nothing = [torch.zeros(b, t, 6), torch.zeros(b, 18)]
    hidden = [torch.ones(b, t, len(code.TIME_BAND_GROUPS_IDX)), torch.ones(b, len(code.STATIC_BAND_GROUPS_IDX))]
    results = {}
    for step in (*case.steps, None):
        out = encoder(
            space_time, space, *nothing, *masks, *hidden, months, case.patch, case.gsd,
            exit_after=step, add_layernorm_on_exit=step is None,
        )  # fmt: skip
        pooled = encoder.apply_mask_and_average_tokens_per_patch(*out[:8])
        side = space_time.shape[1] // case.patch
        maps = pooled.reshape(b, side, side, -1)[:, : case.height // case.patch, : case.width // case.patch]
        results["last" if step is None else str(step)] = maps.permute(0, 3, 1, 2).contiguous()
    return results


def published_inputs(code, case: Case, statistics):
    """Digital numbers, normalised as by the published `Normalizer` with ``std=True``, with masks and months.

    The published code takes squares only; an image that is none lies in one whose rest is masked.
    """
    images, dates = inputs(case)
    b, t = images.shape[:2]
    side = max(case.height, case.width)
    space_time = torch.zeros(b, side, side, t, len(code.SPACE_TIME_BANDS))
    space = torch.zeros(b, side, side, len(code.SPACE_BANDS))
    for index, band in enumerate(case.bands):
        name, value = UPSTREAM[band], images[:, :, index].permute(0, 2, 3, 1)
        if name in code.SPACE_BANDS:
            channel = code.SPACE_BANDS.index(name)
            space[:, : case.height, : case.width, channel] = normalised(value[..., 0], statistics["16"], channel)
        else:
            value = value * 10000 if name.startswith("B") else value
            channel = code.SPACE_TIME_BANDS.index(name)
            space_time[:, : case.height, : case.width, :, channel] = normalised(value, statistics["13"], channel)
    if case.ndvi and {"red", "nir"} <= set(case.bands):
        red, nir = (images[:, :, case.bands.index(band)].permute(0, 2, 3, 1) for band in ("red", "nir"))
        space_time[:, : case.height, : case.width, :, -1] = (nir - red) / (nir + red)
    return space_time, space, masks(code, case, b, t, side), months(dates, b, t)


def normalised(value: torch.Tensor, statistics, channel: int) -> torch.Tensor:
    mean, std = statistics["mean"][channel], statistics["std"][channel]
    shift, div = mean - 2 * std, 4 * std
    return ((value.double() - shift) / div).float()


def masks(code, case: Case, b: int, t: int, side: int):
    """1 where a group is absent or the square is empty."""
    given = {UPSTREAM[band] for band in case.bands}
    if case.ndvi and {"B4", "B8"} <= given:
        given.add("NDVI")
    space_time = torch.ones(b, side, side, t, len(code.SPACE_TIME_BANDS_GROUPS_IDX))
    for index, channels in enumerate(code.SPACE_TIME_BANDS_GROUPS_IDX.values()):
        if {code.SPACE_TIME_BANDS[c] for c in channels} <= given:
            space_time[:, : case.height, : case.width, :, index] = 0
    space = torch.ones(b, side, side, len(code.SPACE_BAND_GROUPS_IDX))
    if {"elevation", "slope"} <= given:
        space[:, : case.height, : case.width, list(code.SPACE_BAND_GROUPS_IDX).index("SRTM")] = 0
    return [space_time, space]


def months(dates, b: int, t: int) -> torch.Tensor:
    """Month from 0, by the calendar; 5 where unknown, as `construct_galileo_input` has it."""
    found = torch.full((b, t), 5)
    for i in range(b if dates is not None else 0):
        for j in range(t):
            year, day = dates[i, j].tolist()
            if not np.isnan(day):
                date = np.datetime64(f"{int(year)}-01-01") + np.timedelta64(int(day) - 1, "D")
                found[i, j] = date.astype(object).month - 1
    return found


if __name__ == "__main__":
    main()
