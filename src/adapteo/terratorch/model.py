"""From ``model_args`` to backbone, method and decoder: what is computed must be the same, or it is refused."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapteo.terratorch.data import Imagery
from adapteo.terratorch.decoder import Maps, translate_decoder
from adapteo.terratorch.generic import names_of
from adapteo.terratorch.lines import PLACEHOLDER, Translation
from adapteo.terratorch.method import translate_method
from adapteo.terratorch.vocabulary import BACKBONES, TIMM_DEPTHS, Family

ARGS = "model.init_args.model_args"
FACTORIES = ("EncoderDecoderFactory", "PrithviModelFactory", "SMPModelFactory")
_SMP_CHANNELS = (256, 128, 64, 32, 16)
_INTERPOLATED = "positions are stretched over the image"
_DOFA_WAVELENGTHS = ("coastal", "nir", "nir08", "cirrus", "swir22")
_CLAY_WAVELENGTHS = ("coastal", "blue", "rededge071", "nir", "nir08", "nir09", "cirrus", "swir22")
_FALLBACK_METRES = 1.0
_TIMM_MAPS = 3
_OWN_NECK = ("prithvi", "clay")
"""Backbones whose tokens TerraTorch turns into maps by itself when there are no necks."""


@dataclass(frozen=True)
class Built:
    """What the rest needs of the model.

    Attributes:
        bands: canonical names of its channels, in order; empty for all of the dataset.
    """

    bands: tuple[str, ...]


def translate_model(t: Translation, task: str, imagery: Imagery) -> Built:
    """Translate the model; returns its bands."""
    factory = "model.init_args.model_factory"
    kind = t.text(factory)
    if kind not in FACTORIES:
        t.refuse(factory, f"builds models that are not here: {kind}", f"allowed: {', '.join(FACTORIES)}")
        t.silence("model.init_args.model_args")
        return Built(())
    t.is_so(factory, "backbone, method, decoder")
    _flatten(t)
    if t.has(f"{ARGS}.num_classes"):
        t.is_so(f"{ARGS}.num_classes", "the dataset's classes")
    if t.has(f"{ARGS}.num_outputs"):
        t.neutral(f"{ARGS}.num_outputs", (1,), "there is one variable here")
    if kind == "SMPModelFactory":
        return _smp(t, task, imagery)
    if t.has(f"{ARGS}.image_size_out"):
        t.refuse(f"{ARGS}.image_size_out", "logits are on the grid of the labels here")
    old = kind == "PrithviModelFactory"
    family = _family(t)
    if family is None:
        t.silence(ARGS)
        return Built(())
    bands = _channels(t, family, imagery, f"{ARGS}.bands" if old else f"{ARGS}.backbone_bands")
    _weights(t, f"{ARGS}.pretrained" if old else f"{ARGS}.backbone_pretrained", old)
    _options(t, family, imagery, bands)
    method = translate_method(t, family)
    translate_decoder(t, task, _maps(t, family, method, implied_neck=old))
    return Built(bands)


def _flatten(t: Translation) -> None:
    """``backbone_kwargs: {pretrained: true}`` is ``backbone_pretrained: true``; the origin of the line goes along."""
    given = t.get(ARGS)
    if not isinstance(given, dict):
        return
    for part in ("backbone", "decoder", "head"):
        inner = given.get(f"{part}_kwargs")
        if not isinstance(inner, dict):
            continue
        for name, value in inner.items():
            old, new = (*ARGS.split("."), f"{part}_kwargs", name), (*ARGS.split("."), f"{part}_{name}")
            t.document.put(new, value, t.document.origin(old))
        given.pop(f"{part}_kwargs")


# -------------------------------------------------------------------------------------------- backbone


def _family(t: Translation) -> Family | None:
    key = f"{ARGS}.backbone"
    name = t.text(key).removeprefix("terratorch_")
    bare = name.removeprefix("timm_")
    if found := BACKBONES.get(bare):
        t.becomes(key, "backbone.name", found.name)
        for field, value in found.fields.items():
            t.write(f"backbone.{field}", value)
        return found
    if shape := re.match(r"vit_(tiny|small|base|large|huge)_patch(\d+)", bare):
        depth = TIMM_DEPTHS[shape[1]]
        t.becomes(key, "backbone.name", "timm")
        t.write("backbone.model", bare)
        t.write("backbone.last_norm", False)
        taps = tuple(depth * (i + 1) // 4 - 1 for i in range(4))
        return replace(BACKBONES["clay_v1_base"], name="timm", stride=int(shape[2]), depth=depth, taps=taps,
                       fields={}, linears={}, others=(), metadata=False, given=_TIMM_MAPS)  # fmt: skip
    known = ", ".join([*BACKBONES, "timm_vit_<size>_patch<n>_…"])
    t.refuse(key, f"'{name}' has no counterpart with the same outputs here", f"allowed: {known}")
    return None


def _channels(t: Translation, family: Family, imagery: Imagery, key: str) -> tuple[str, ...]:
    """Bands that the model gets; what the data feed and what the model expects must agree."""
    named = key if t.has(key) else f"{ARGS}.backbone_model_bands"
    expected = names_of(t, named) if t.has(named) else family.bands
    fed = imagery.bands
    if t.has(named):
        if fed and expected and fed != expected:
            t.refuse(named, "is another order or choice than the data module feeds", "name the same bands in both")
        else:
            t.is_so(named, "bands are found by name")
    elif fed and expected and fed != expected:
        t.refuse(f"{ARGS}.backbone", "would get other bands than it was trained with", f"name them in {named}")
    for count in ("in_channels", "backbone_in_chans", "backbone_in_channels"):
        if t.has(f"{ARGS}.{count}"):
            t.neutral(f"{ARGS}.{count}", (len(fed or expected),), "is not the number of bands")
    bands = fed or expected
    if bands and t.written.get("dataset", {}).get("name") == "folder" and "band_names" not in t.written["dataset"]:
        t.write("dataset.band_names", list(bands))
    return bands


def _weights(t: Translation, key: str, default: bool) -> None:
    path = next((k for k in (f"{ARGS}.backbone_ckpt_path", f"{ARGS}.backbone_ckpt_data") if t.has(k)), "")
    if not t.flag(key, default):
        t.write("backbone.weights", "random")
        t.is_so(key, "backbone.weights: random") if t.has(key) else t.note(key, "mapped", "backbone.weights: random")
        if path:
            t.drop(path, "not read there either, as nothing is pretrained")
    elif path:
        given = t.text(path)
        t.becomes(path, "backbone.weights", given if PLACEHOLDER.search(given) else t.path(given))
        if t.has(key):
            t.is_so(key, "backbone.weights")
    elif t.has(key):
        t.is_so(key, "backbone.weights: pretrained, the default")


def _options(t: Translation, family: Family, imagery: Imagery, bands: Sequence[str]) -> None:
    """Positions, dates, metadata, wavelengths, and what only one backbone has."""
    _positions(t, family)
    for key in (f"{ARGS}.backbone_num_frames", f"{ARGS}.num_frames"):
        if t.has(key):
            t.is_so(key, "dates come from the dataset")
    drop_path = f"{ARGS}.backbone_drop_path"
    if t.has(drop_path):
        t.neutral(drop_path, (0, 0.0), "blocks are never left out in training here", "write 0")
    _metadata(t, family, imagery)
    if family.name == "timm" and t.flag(f"{ARGS}.backbone_pretrained"):
        t.differ(f"{ARGS}.backbone", "red, green and blue start with their own kernels here; there all bands in turn")
    if family.name == "terramind":
        _modality(t)
    apart = {"clay": _CLAY_WAVELENGTHS, "dofa": _DOFA_WAVELENGTHS}.get(family.name, ())
    if "w" not in imagery.metadata and set(apart) & set(bands):
        t.differ(f"{ARGS}.backbone", f"wavelengths of {', '.join(b for b in bands if b in apart)} are rounded there")
    if family.name == "clay" and "g" not in imagery.metadata:
        metres = "dataset.pixel_size" if t.written.get("dataset", {}).get("name") == "folder" else ""
        if metres:
            t.write(metres, _FALLBACK_METRES)
            t.note("(gsd)", "mapped", f"{metres}: 1, which TerraTorch's Clay takes when the data do not tell")
        else:
            t.differ(f"{ARGS}.backbone", "the dataset's ground sample distance here, 1 m there")


def _positions(t: Translation, family: Family) -> None:
    size = f"{ARGS}.backbone_img_size"
    if family.name in ("prithvi", "terramind"):
        if t.has(size):
            t.is_so(size, "backbone.positions: recomputed, the default")
        else:
            t.write("backbone.positions", "interpolated")
            t.note(size, "mapped", f"backbone.positions: interpolated, as without it {_INTERPOLATED} there")
    elif family.name == "dofa":
        t.write("backbone.positions", "interpolated")
        if t.has(size):
            t.is_so(size, f"backbone.positions: interpolated: {_INTERPOLATED}")
    elif t.has(size) and family.name == "timm":
        t.differ(size, "learned positions are stretched over the image in each step here, once before training there")
    elif t.has(size):
        t.is_so(size, "any image size")


def _metadata(t: Translation, family: Family, imagery: Imagery) -> None:
    coordinates = f"{ARGS}.backbone_coords_encoding"
    wanted = family.metadata and "t" in imagery.metadata
    if t.has(coordinates):
        chosen = set(map(str, t.items(coordinates)))
        if chosen and chosen != {"time", "location"}:
            t.refuse(coordinates, "dates and places go together here", "write both or none")
        wanted = wanted and bool(chosen)
        t.is_so(coordinates, f"backbone.metadata: {str(wanted).lower()}")
    if wanted:
        t.write("backbone.metadata", True)
        text = (
            "the day of the year counts from 1 here, from 0 there"
            if family.name == "prithvi"
            else ("the hour is noon for all images here")
        )
        t.differ("data.init_args.use_metadata", f"backbone.metadata: true; {text}")


def _modality(t: Translation) -> None:
    key = f"{ARGS}.backbone_modalities"
    names = {
        "S2L2A": ("optical", "l2a"),
        "S2L1C": ("optical", "l1c"),
        "S1GRD": ("radar", "grd"),
        "S1RTC": ("radar", "rtc"),
    }
    given = t.items(key)
    if len(given) != 1 or given[0] not in names:
        t.refuse(key if t.has(key) else f"{ARGS}.backbone", "one modality of images", f"allowed: {', '.join(names)}")
        return
    field, value = names[str(given[0])]
    t.becomes(key, f"backbone.{field}", value)


def _maps(t: Translation, family: Family, method: str, *, implied_neck: bool) -> Maps:
    """Blocks whose maps TerraTorch's backbone gives, in order, and their strides."""
    key = f"{ARGS}.backbone_out_indices"
    every = list(range(family.depth))[-family.given :]
    chosen = [i for i in t.items(key) if isinstance(i, int)] or every
    if t.has(key):
        t.is_so(key, "the decoder asks for the maps that it reads")
    blocks = tuple(i % family.depth for i in chosen)
    if method == "vit_adapter":
        return Maps(tuple(range(4)), range(4), 2 * family.stride, False, True)
    implied = implied_neck or (family.name in _OWN_NECK and not t.keys(f"{ARGS}.necks"))
    return Maps(blocks, family.taps, family.stride, family.tokens and family.name != "timm", implied)


# ------------------------------------------------------------------------------------------------- smp


def _smp(t: Translation, task: str, imagery: Imagery) -> Built:
    """segmentation_models.pytorch's Unet on an untrained ResNet-50: `backbone: unet` with `decoder: unet`."""
    t.is_so(f"{ARGS}.model", "decoder.name") if t.text(f"{ARGS}.model") == "Unet" else t.refuse(
        f"{ARGS}.model", "there is no such model of segmentation_models.pytorch here", "allowed: Unet"
    )
    if t.text(f"{ARGS}.backbone") != "resnet50":
        t.refuse(f"{ARGS}.backbone", "there is no such encoder here", "allowed: resnet50")
    else:
        t.becomes(f"{ARGS}.backbone", "backbone.name", "unet")
    key = f"{ARGS}.pretrained"
    if t.flag(key, True):
        t.refuse(key if t.has(key) else f"{ARGS}.backbone", "its ImageNet weights are not here", "pretrained: false")
    else:
        t.is_so(key, "backbone.weights: random, the default")
    t.write("decoder.name", "unet")
    t.write("decoder.channels", list(_SMP_CHANNELS))
    t.write("decoder.norm", "batch")
    t.write("decoder.head_kernel", 3)
    bands = names_of(t, f"{ARGS}.bands")
    if imagery.bands and bands != imagery.bands:
        t.refuse(f"{ARGS}.bands", "is another order or choice than the data module feeds", "name the same in both")
    else:
        t.is_so(f"{ARGS}.bands", "bands are found by name")
    if t.has(f"{ARGS}.in_channels"):
        t.neutral(f"{ARGS}.in_channels", (len(bands),), "is not the number of bands")
    frozen = "model.init_args.freeze_backbone"
    if t.flag(frozen):
        t.refuse(frozen, "an untrained encoder would stay so", "write false")
    elif t.has(frozen):
        t.is_so(frozen, "method.name: full")
    t.write("method.name", "full")
    if "band_names" not in t.written.get("dataset", {}) and t.written["dataset"].get("name") == "folder":
        t.write("dataset.band_names", list(bands))
    return Built(bands)
