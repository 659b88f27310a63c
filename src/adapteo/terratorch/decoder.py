"""From necks, decoder and head to a decoder of ours, which asks the backbone for its maps by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapteo.terratorch.lines import Translation

ARGS = "model.init_args.model_args"
_ONE_MAP = ("linear", "fcn")
_FCN = {"channels": 256, "num_convs": 4}
_NEUTRAL: Mapping[str, tuple[tuple[object, ...], str]] = {
    "decoder_in_index": ((-1,), "the last map is read here"),
    "decoder_attention_type": ((), "there is no attention in the U-Net here"),
    "decoder_use_batchnorm": ((True, "batchnorm"), "write `norm` of the decoder"),
    "decoder_scale_modules": ((False,), "the pyramid is part of the decoder here"),
    "decoder_out_index": ((-1,), "the last map is read here"),
    "head_final_act": ((), "there is no activation behind the logits here"),
    "head_learned_upscale_layers": ((0,), "logits are enlarged bilinearly here"),
    "head_dim_list": (([],), "there is one linear behind the mean here"),
    "head_linear_after_pool": ((True, False), ""),
    "head_batch_norm": ((True,), "hidden layers of the head have no norm here"),
}


@dataclass(frozen=True)
class Maps:
    """What TerraTorch's backbone gives.

    Attributes:
        blocks: block of each map, in order.
        taps: blocks whose maps ours gives.
        stride: of the last map in pixels.
        tokens: whether they are sequences of tokens, which a neck has to turn into maps.
        implied_neck: whether that happens without a neck in the file.
    """

    blocks: tuple[int, ...]
    taps: Sequence[int]
    stride: int
    tokens: bool
    implied_neck: bool


def translate_decoder(t: Translation, task: str, maps: Maps) -> None:
    """Write ``decoder``."""
    key = f"{ARGS}.decoder"
    kinds = {"LinearDecoder": "linear", "FCNDecoder": "fcn", "UNetDecoder": "unet", "UperNetDecoder": "upernet"}
    kinds |= {"IdentityDecoder": "linear"}
    name = t.text(key).removeprefix("terratorch_")
    ours = kinds.get(name, "")
    if not ours:
        t.refuse(key, f"there is no {name or 'default'} decoder here", f"allowed: {', '.join(kinds)}")
        return
    t.becomes(key, "decoder.name", ours)
    dense = task in ("segmentation", "regression")
    if not dense and name != "IdentityDecoder":
        t.refuse(key, f"for labels per image there is the mean of the last map here, not {name}", "IdentityDecoder")
        return
    blocks, pyramid = _necks(t, maps, name)
    _check_blocks(t, ours, blocks, maps)
    if ours in ("unet", "upernet") and len(set(maps.taps)) == 4 and maps.tokens and not pyramid:
        t.refuse(f"{ARGS}.necks", f"{ours} gets a learned pyramid here", "add LearnedInterpolateToPyramidal")
    if ours in ("unet", "upernet"):
        t.write("decoder.norm", "batch")
    shrunk = {"linear": _linear, "fcn": _fcn, "unet": _unet, "upernet": _upernet}[ours](t, name, dense, maps)
    _head(t, name, dense)
    _rescale(t, shrunk)


def _necks(t: Translation, maps: Maps, decoder: str) -> tuple[tuple[int, ...], bool]:
    """Blocks whose maps reach the decoder, and whether a learned pyramid is made of them."""
    blocks, pyramid, reshaped = maps.blocks, t.flag(f"{ARGS}.decoder_scale_modules"), maps.implied_neck
    for key in t.keys(f"{ARGS}.necks"):
        kind = t.text(f"{key}.name")
        if kind == "SelectIndices":
            chosen = [i for i in t.items(f"{key}.indices") if isinstance(i, int)]
            if any(not -len(blocks) <= i < len(blocks) for i in chosen):
                t.refuse(f"{key}.indices", f"the backbone gives {len(blocks)} maps")
                return blocks, pyramid
            blocks = tuple(blocks[i] for i in chosen)
            t.is_so(key, "the decoder asks for the maps that it reads")
        elif kind == "ReshapeTokensToImage":
            reshaped = True
            _reshape(t, key)
        elif kind == "LearnedInterpolateToPyramidal":
            pyramid = True
            t.is_so(key, "part of the decoder")
        elif kind == "AggregateTokens" and decoder == "IdentityDecoder" and t.get(f"{key}.pooling", "mean") == "mean":
            reshaped = True
            if t.flag(f"{key}.drop_cls") or not maps.tokens:
                t.is_so(key, "the mean over the image")
            else:
                t.refuse(key, "the class token takes no part in the mean here", "write drop_cls: true")
        else:
            t.refuse(
                key, f"there is no {kind} here", "SelectIndices, ReshapeTokensToImage, LearnedInterpolateToPyramidal"
            )
    if f"{ARGS}.necks" in t.keys(ARGS) and not t.keys(f"{ARGS}.necks"):
        t.is_so(f"{ARGS}.necks", "none")
    if maps.tokens and not reshaped:
        t.refuse(f"{ARGS}.necks" if t.has(f"{ARGS}.necks") else ARGS, "tokens are no maps", "add ReshapeTokensToImage")
    if t.flag(f"{ARGS}.decoder_scale_modules"):
        t.is_so(f"{ARGS}.decoder_scale_modules", "part of the decoder")
    return blocks, pyramid


def _reshape(t: Translation, key: str) -> None:
    frames = t.get(f"{ARGS}.backbone_num_frames", t.get(f"{ARGS}.num_frames", 1))
    dates = f"{key}.effective_time_dim"
    if t.get(dates, 1) != frames:
        t.refuse(
            dates if t.has(dates) else key, f"with {frames} dates it would mix places", f"effective_time_dim: {frames}"
        )
    else:
        t.is_so(key, "the backbone knows its class token and dates")


def _check_blocks(t: Translation, ours: str, blocks: tuple[int, ...], maps: Maps) -> None:
    last = max(maps.taps)
    if ours in _ONE_MAP:
        if not blocks or blocks[-1] != last:
            t.refuse(f"{ARGS}.necks", f"{ours} reads the map of the last block here", "indices: [-1]")
    elif blocks != tuple(maps.taps):
        shown = ", ".join(map(str, maps.taps))
        t.refuse(f"{ARGS}.necks" if t.has(f"{ARGS}.necks") else f"{ARGS}.backbone", "other blocks than the maps here",
                 f"indices: [{shown}]")  # fmt: skip


# ------------------------------------------------------------------------------------------ one by one


def _linear(t: Translation, name: str, dense: bool, maps: Maps) -> float:
    """Stride of the logits."""
    key = f"{ARGS}.decoder_upsampling_size"
    if not dense:
        return 1.0
    if name == "IdentityDecoder":
        t.write("decoder.upsampling", 1)
        return float(maps.stride)
    size = t.get(key)
    if not isinstance(size, int):
        t.refuse(key if t.has(key) else f"{ARGS}.decoder", "needs decoder_upsampling_size")
        return 1.0
    if f"{ARGS}.decoder_num_classes" in t.keys(ARGS):
        t.differ(f"{ARGS}.decoder_num_classes", "TerraTorch 1.2 adds a 1x1 convolution behind; one linear map here")
    if size == maps.stride:
        t.is_so(key, "each feature becomes the pixels under it")
    else:
        t.becomes(key, "decoder.upsampling")
    return maps.stride / size


def _fcn(t: Translation, name: str, dense: bool, maps: Maps) -> float:
    for theirs, ours in (("channels", "channels"), ("num_convs", "blocks")):
        key = f"{ARGS}.decoder_{theirs}"
        if t.has(key):
            t.becomes(key, f"decoder.{ours}")
        else:
            t.write(f"decoder.{ours}", _FCN[theirs])
            t.note(key, "mapped", f"decoder.{ours}: {_FCN[theirs]} is the default there")
    return maps.stride / 2 ** t.number(f"{ARGS}.decoder_num_convs", _FCN["num_convs"])


def _unet(t: Translation, name: str, dense: bool, maps: Maps) -> float:
    key = f"{ARGS}.decoder_channels"
    if not isinstance(t.get(key), list):
        t.refuse(key if t.has(key) else f"{ARGS}.decoder", "needs decoder_channels, one per map")
    else:
        t.becomes(key, "decoder.channels")
    if 0 in maps.taps:
        t.write("decoder.upsample_last", False)
    finest = maps.stride / 4 if maps.tokens else maps.stride / 8
    return max(1.0, finest)


def _upernet(t: Translation, name: str, dense: bool, maps: Maps) -> float:
    t.write("decoder.channels", 256)
    if t.has(f"{ARGS}.decoder_channels"):
        t.becomes(f"{ARGS}.decoder_channels", "decoder.channels")
    if t.has(f"{ARGS}.decoder_pool_scales"):
        t.becomes(f"{ARGS}.decoder_pool_scales", "decoder.pools")
    key = f"{ARGS}.decoder_align_corners"
    t.write("decoder.align_corners", t.flag(key, True))
    if t.has(key):
        t.becomes(key, "decoder.align_corners")
    return max(1.0, maps.stride / 4 if maps.tokens else maps.stride / 8)


def _head(t: Translation, decoder: str, dense: bool) -> None:
    dropout, hidden = f"{ARGS}.head_dropout", f"{ARGS}.head_channel_list"
    if t.has(dropout):
        if decoder == "IdentityDecoder" and t.number(dropout, 0):
            t.refuse(dropout, "there is no dropout before a linear map here", "write 0")
        else:
            t.becomes(dropout, "decoder.dropout")
    if t.has(hidden):
        if dense and decoder != "IdentityDecoder":
            t.becomes(hidden, "decoder.head_channels")
        else:
            t.refuse(hidden, "there is one linear map here")
    for name, (allowed, why) in _NEUTRAL.items():
        key = f"{ARGS}.{name}"
        if key in t.keys(ARGS) and not (name == "decoder_scale_modules" and t.flag(key)):
            t.neutral(key, (None, *allowed), why)


def _rescale(t: Translation, shrunk: float) -> None:
    key = f"{ARGS}.rescale"
    if t.flag(key, True) or shrunk == 1.0:
        if t.has(key):
            t.is_so(key, "logits are on the pixels")
    else:
        t.refuse(key, "logits are brought to the pixels here, where there they would not be", "write true")
