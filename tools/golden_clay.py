"""Write the reference outputs of tests/backbones/test_clay.py, and print how far TerraTorch and we are apart.

Run it with a Python that has TerraTorch and rslearn (1.2.11 and 0.1.19 were used; they are no dependencies of ours):

    python tools/golden_clay.py            # writes tests/backbones/golden/clay.safetensors

Both models get the same weights from a generator (see wavelength_cases.py), so that no weights need to be stored. The
wavelengths and statistics of sensors are compared with Clay's own table, of which rslearn has a copy.
"""

import math
import os
import sys
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from terratorch.models.backbones.clay_v1.modules import EmbeddingEncoder
from terratorch.models.backbones.clay_v1.utils import posemb_sincos_2d_with_gsd
from terratorch.models.backbones.clay_v15.model import Encoder
from torch import Tensor, nn

torch.set_float32_matmul_precision("highest")  # the import of TerraTorch lowers it for the whole process

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "backbones")]

from wavelength_cases import CLAY, CLAY_FULL, Case, batch, digest, fill, sketch  # noqa: E402

from adapteo.backbones._clay_sensors import RADAR, SENSORS  # noqa: E402
from adapteo.backbones.clay import VARIANTS, ClayViT  # noqa: E402
from adapteo.contracts import Batch  # noqa: E402

METADATA = yaml.safe_load(files("rslearn.models.clay.configs").joinpath("metadata.yaml").read_text())
PLATFORMS = {
    "sentinel2": "sentinel-2-l2a",
    "landsat8": "landsat-c2l2-sr",
    "planetscope": "planetscope-sr",
    "modis": "modis",
    "naip": "naip",
    "linz": "linz",
}
NAMES = {
    "sentinel2": {"rededge071": "rededge1", "rededge075": "rededge2", "rededge078": "rededge3"},
    "planetscope": {"coastal": "coastal_blue", "rededge071": "rededge"},
    "modis": {
        "red": "sur_refl_b01",
        "nir08": "sur_refl_b02",
        "blue": "sur_refl_b03",
        "green": "sur_refl_b04",
        "swir16": "sur_refl_b06",
        "swir22": "sur_refl_b07",
    },
}


def check_sensors() -> None:
    """Compare our table of sensors with Clay's."""
    for sensor, platform in PLATFORMS.items():
        theirs = METADATA[platform]["bands"]
        for band, facts in SENSORS[sensor].bands.items():
            name = NAMES.get(sensor, {}).get(band, band)
            assert facts == tuple(theirs[kind][name] for kind in ("wavelength", "mean", "std")), (sensor, band)
    assert PLATFORMS.keys() == SENSORS.keys()
    theirs = METADATA["sentinel-1-rtc"]["bands"]
    assert all(RADAR[b] == tuple(theirs[kind][b] for kind in ("wavelength", "mean", "std")) for b in ("vv", "vh"))


def build_theirs(case: Case) -> tuple[nn.Module, dict[str, Tensor]]:
    """TerraTorch's encoder with filled weights, and these."""
    variant = VARIANTS[case.variant]
    sizes = dict(
        patch_size=8,
        dim=variant.dim,
        depth=case.depth or variant.depth,
        heads=variant.heads,
        dim_head=variant.dim // variant.heads,
        mlp_ratio=4.0,
    )
    with torch.device("meta"):
        if case.variant == "v1":
            model: nn.Module = EmbeddingEncoder(img_size=case.height, **sizes)
        else:
            model = Encoder(mask_ratio=0.0, shuffle=False, **sizes)
    state = fill({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict(state, assign=True)
    return model.eval(), state


def datacube(case: Case, given: Batch) -> dict[str, Tensor]:
    """What Clay's examples make of the batch; the hour is noon (see `adapteo.backbones._clay_codes`)."""
    time, place = torch.zeros(len(given), 4), torch.zeros(len(given), 4)
    if case.metadata:
        for i, ((year, day), (lat, lon)) in enumerate(
            zip(given.dates[:, 0].tolist(), given.latlon.tolist(), strict=True)
        ):
            date = datetime(int(year), 1, 1, 12, tzinfo=UTC) + timedelta(days=day - 1)
            week, hour = date.isocalendar().week * 2 * math.pi / 52, date.hour * 2 * math.pi / 24
            lat, lon = lat * math.pi / 180, lon * math.pi / 180
            time[i] = torch.tensor([math.sin(week), math.cos(week), math.sin(hour), math.cos(hour)])
            place[i] = torch.tensor([math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)])
    names = NAMES.get(case.sensor, {})
    tables = METADATA[PLATFORMS[case.sensor]], METADATA["sentinel-1-rtc"]
    known = tables[0]["bands"]["wavelength"] | tables[1]["bands"]["wavelength"]
    waves = torch.tensor([known[names.get(band, band)] for band in case.bands])
    return {"pixels": given.images[:, 0], "time": time, "latlon": place, "gsd": torch.tensor(case.gsd), "waves": waves}


def maps_of_theirs(model: nn.Module, case: Case, cube: dict[str, Tensor]) -> list[Tensor]:
    """Feature maps of every block, the last one normalised, for images of any shape.

    TerraTorch takes the square root of the number of patches, so the encodings are put together here from its own
    functions; for square images the result must be that of its own forward pass.
    """
    height, width = case.height // 8, case.width // 8
    x, _ = model.to_patch_embed(cube["pixels"], cube["waves"])
    codes = posemb_sincos_2d_with_gsd(height, width, model.dim - 8, cube["gsd"])
    metadata = torch.cat([cube["time"], cube["latlon"]], 1)
    x = x + torch.cat([codes.expand(len(x), -1, -1), metadata[:, None].expand(-1, len(codes), -1)], 2)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], 1)
    tokens = []
    for attention, feedforward in model.transformer.layers:
        x = attention(x) + x
        x = feedforward(x) + x
        tokens.append(x)
    tokens[-1] = model.transformer.norm(x)
    if height == width:
        own = model(cube)
        for ours, theirs in zip(tokens if isinstance(own, list) else tokens[-1:], own, strict=False):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    return [t[:, 1:].unflatten(1, (height, width)).permute(0, 3, 1, 2) for t in tokens]


def build_ours(case: Case, state: dict[str, Tensor]) -> ClayViT:
    """Our encoder, with the same checkpoint, as Lightning saves it, through `remap`."""
    with torch.device("meta"):
        model = ClayViT(
            VARIANTS[case.variant], case.bands, sensor=case.sensor, metadata=case.metadata, depth=case.depth
        )
    saved = {f"model.encoder.{name}": value for name, value in state.items()}
    model.load_state_dict(model.remap(saved).state, assign=True)
    model.taps = tuple(range(len(model.blocks)))
    return model.eval()


@torch.no_grad()
def compare(case: Case) -> tuple[list[Tensor], float, float]:
    """Maps of theirs, largest difference of ours over all blocks, and largest value."""
    given = batch(case)
    theirs, state = build_theirs(case)
    expected = maps_of_theirs(theirs, case, datacube(case, given))
    found = build_ours(case, state)(given)
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    return expected, difference, max(float(e.abs().max()) for e in expected)


def main() -> None:
    check_sensors()
    tensors: dict[str, Tensor] = {}
    for case in CLAY + CLAY_FULL:
        maps, difference, largest = compare(case)
        images = batch(case).images.double()
        tensors[f"{case.name}/maps"] = torch.stack([sketch(m) for m in maps])
        tensors[f"{case.name}/images"] = torch.stack([images.sum(), images.abs().sum()])
        print(f"{case.name:100s} difference {difference:.1e} of {largest:.1f}", flush=True)
    layouts = {}
    for variant in VARIANTS:
        with torch.device("meta"):
            state = build_theirs(Case(variant))[0].state_dict()
        layouts[variant] = digest({name: tuple(value.shape) for name, value in state.items()})
    folder = ROOT / "tests" / "backbones" / "golden"
    beside = folder / "clay.tmp"
    save_file(tensors, beside, metadata=layouts)
    os.replace(beside, folder / "clay.safetensors")


if __name__ == "__main__":
    main()
