"""From a run of ours to the ``model_args`` of TerraTorch's factories; what it cannot compute is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

from adapteo.backbones.clay import ClayViT
from adapteo.backbones.prithvi import PrithviViT
from adapteo.config import Run, name_of
from adapteo.contracts import Decoder, Method
from adapteo.decoders.fcn import FCN, FCNDecoder
from adapteo.decoders.linear import ImageLinear, Linear, PixelLinear
from adapteo.decoders.unet import UNet, UNetDecoder
from adapteo.decoders.upernet import UPerNet
from adapteo.errors import ConfigError
from adapteo.model import Model
from adapteo.peft.lora import LoRA
from adapteo.peft.vit_adapter import ViTAdapter
from adapteo.peft.vpt import VPT
from adapteo.terratorch.names import LINEARS, Layout
from adapteo.terratorch.vocabulary import BACKBONES

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "coastal": "COASTAL_AEROSOL", "blue": "BLUE", "green": "GREEN", "red": "RED", "rededge071": "RED_EDGE_1",
        "rededge075": "RED_EDGE_2", "rededge078": "RED_EDGE_3", "nir": "NIR_BROAD", "nir08": "NIR_NARROW",
        "nir09": "WATER_VAPOR", "cirrus": "CIRRUS", "swir16": "SWIR_1", "swir22": "SWIR_2",
        "lwir11": "THERMAL_INFRARED_1", "lwir12": "THERMAL_INFRARED_2", "vv": "VV", "vh": "VH",
    }
)  # fmt: skip
_MODALITIES = {"l2a": "S2L2A", "l1c": "S2L1C", "grd": "S1GRD", "rtc": "S1RTC"}
_ADAPTED = ("prithvi_eo_v1_100", "prithvi_eo_v2_300", "prithvi_eo_v2_300_tl")
"""TerraTorch's backbones that can have a ViT-Adapter."""
_NO = "train it otherwise, or keep it here"


@dataclass(frozen=True)
class Plan:
    """How a model is written down for TerraTorch.

    Attributes:
        factory: name of the model factory.
        arguments: ``model_args``.
        layout: where it will have its parts.
        positions: grid of patches of Prithvi's positions; None for that of the pre-training.
        notes: what a person has to know.
    """

    factory: str
    arguments: dict[str, object]
    layout: Layout
    positions: tuple[int, int] | None
    notes: tuple[str, ...]


def plan(run: Run, model: Model, task: str, outputs: int, size: tuple[int, int]) -> Plan:
    """Write down a model.

    Args:
        run: its configuration.
        model: adapted, or merged where the method is not one of LoRA, VPT and ViT-Adapter.
        task: our name.
        outputs: channels of the logits.
        size: of the images in pixels, padded as the model wants them.

    Raises:
        ConfigError: TerraTorch has nothing that computes the same.
    """
    key = "num_outputs" if task == "regression" else "num_classes"
    smp = _is_smp(run, model.decoder)
    if smp:
        names = [NAMES[band] for band in model.backbone.bands]
        arguments = {"model": "Unet", "backbone": "resnet50", "pretrained": False, "bands": names, key: outputs}
        return Plan("SMPModelFactory", arguments, Layout("", "", smp=True), None, ())
    arguments, positions, notes = _backbone(run, model, size)
    arguments |= _method(run.method, name_of(run.backbone), str(arguments["backbone"]))
    arguments |= _decoder(run, model, outputs)
    arguments[key] = outputs
    head = "head.head.1" if task == "regression" else "head.head.2"
    layout = Layout(f"neck.{len(_necks(run, model)) - 1}", head)
    return Plan("EncoderDecoderFactory", arguments, layout, positions, notes)


def _backbone(
    run: Run, model: Model, size: tuple[int, int]
) -> tuple[dict[str, object], tuple[int, int] | None, tuple[str, ...]]:
    name, fields = name_of(run.backbone), asdict(run.backbone)  # type: ignore[call-overload]
    found = [key for key, f in BACKBONES.items() if f.name == name and all(fields[k] == v for k, v in f.fields.items())]
    if not found or name == "dofa":
        raise ConfigError(
            f"TerraTorch has no backbone that computes what '{name}' does here",
            allowed=sorted({family.name for family in BACKBONES.values()} - {"dofa"} | {"unet"}),
            fix=_NO,
        )
    backbone, bands = model.backbone, [NAMES[band] for band in model.backbone.bands]
    arguments: dict[str, object] = {"backbone": found[0], "backbone_pretrained": False}
    square: object = size[0] if size[0] == size[1] else list(size)
    if isinstance(backbone, PrithviViT):
        arguments["backbone_bands"] = bands
        recomputed = fields["positions"] == "recomputed"
        arguments |= {"backbone_img_size": square} if recomputed else {}
        arguments |= {"backbone_num_frames": backbone.frames} if backbone.frames > 1 else {}
        if BACKBONES[found[0]].metadata and not fields["metadata"]:
            arguments["backbone_coords_encoding"] = []
        notes = ("dates and places: the data module has to give them (use_metadata)",) if fields["metadata"] else ()
        return arguments, (size[0] // backbone.patch, size[1] // backbone.patch) if recomputed else None, notes
    if isinstance(backbone, ClayViT):
        wavelengths = ", ".join(f"{w:g}" for w in backbone.wavelengths)
        note = f"Clay: the data module has to give gsd and waves: [{wavelengths}]"
        return arguments | {"backbone_img_size": square}, None, (note,)
    if name == "decur":
        return arguments | {"backbone_model_bands": bands, "backbone_out_indices": list(backbone.taps)}, None, ()
    return arguments | _terramind(fields, backbone.bands), None, ()


def _terramind(fields: Mapping[str, object], bands: Sequence[str]) -> dict[str, object]:
    radar = set(bands) <= {"vv", "vh"}
    modality = _MODALITIES[str(fields["radar" if radar else "optical"])]
    count = 2 if radar else 13 if modality == "S2L1C" else 12
    if len(bands) != count or (not radar and "vv" in bands) or fields["positions"] != "interpolated":
        raise ConfigError(
            "TerraTorch is given TerraMind with all bands of one product, and `positions: interpolated`", fix=_NO
        )
    return {"backbone_modalities": [modality]}


def _method(method: Method, backbone: str, theirs: str) -> dict[str, object]:
    if isinstance(method, LoRA):
        targets = [LINEARS[backbone][role].partition("{i}.")[2] for role in method.targets or LINEARS[backbone]]
        kwargs = {"target_modules": targets, "r": method.rank, "lora_alpha": method.alpha}
        kwargs |= {"lora_dropout": method.dropout, "use_rslora": method.rslora}
        fused = "to_qkv" if backbone == "clay" else "qkv"
        return {"peft_config": {"method": "LORA", "replace_qkv": fused, "peft_config_kwargs": kwargs}}
    if isinstance(method, VPT):
        if not method.deep:
            raise ConfigError("TerraTorch has no shallow prompts", fix=_NO)
        return {"backbone_vpt": True, "backbone_vpt_n_tokens": method.prompts, "backbone_vpt_dropout": method.dropout}
    if isinstance(method, ViTAdapter):
        if method != ViTAdapter(class_token=False) or theirs not in _ADAPTED:
            raise ConfigError(
                "TerraTorch's ViT-Adapter is `class_token: false` and the defaults, on Prithvi 1.0 or 2.0-300M", fix=_NO
            )
        return {"backbone_vit_adapter": True}
    return {}


def _necks(run: Run, model: Model) -> list[dict[str, object]]:
    if isinstance(run.method, ViTAdapter) or name_of(run.backbone) in ("decur", "unet"):
        return []
    backbone = model.backbone
    pyramid = isinstance(run.decoder, UNet | UPerNet)
    reshape: dict[str, object] = {"name": "ReshapeTokensToImage"}
    if name_of(run.backbone) == "terramind":
        reshape["remove_cls_token"] = False
    if backbone.frames > 1:
        reshape["effective_time_dim"] = backbone.frames
    necks: list[dict[str, object]] = [
        {"name": "SelectIndices", "indices": list(backbone.taps) if pyramid else [-1]},
        reshape,
    ]
    return necks + ([{"name": "LearnedInterpolateToPyramidal"}] if pyramid else [])


def _decoder(run: Run, model: Model, outputs: int) -> dict[str, object]:
    spec, decoder = run.decoder, model.decoder
    arguments: dict[str, object] = {"necks": _necks(run, model)}
    if isinstance(decoder, ImageLinear):
        return arguments | {"decoder": "IdentityDecoder"}
    if isinstance(spec, Linear) and isinstance(decoder, PixelLinear):
        if decoder.stride != decoder.native:
            raise ConfigError("TerraTorch's linear decoder takes the map as it is", fix="leave decoder.stride out")
        if decoder.upsampling == 1:
            return arguments | {"decoder": "IdentityDecoder"}
        arguments |= {"decoder": "LinearDecoder", "decoder_num_classes": outputs}
        return arguments | {"decoder_upsampling_size": decoder.upsampling}
    if not isinstance(spec, FCN | UNet | UPerNet):
        raise ConfigError(f"TerraTorch has no decoder '{name_of(spec)}'", allowed=("linear", "fcn", "unet", "upernet"))
    norm = "layer" if isinstance(spec, FCN) else "batch"
    if spec.norm != norm:
        raise ConfigError(
            f"TerraTorch's {name_of(spec)} has {norm} norm, and this one {spec.norm} norm",
            fix=f"train with norm: {norm}",
        )
    arguments |= {"head_dropout": spec.dropout} if spec.dropout else {}
    arguments |= {"head_channel_list": list(spec.head_channels)} if spec.head_channels else {}
    state = {key: tuple(value.shape) for key, value in decoder.state_dict().items()}
    if isinstance(decoder, FCNDecoder):
        width, blocks = state["blocks.0.1.weight"][0], len(decoder.blocks)
        return arguments | {"decoder": "FCNDecoder", "decoder_channels": width, "decoder_num_convs": blocks}
    if isinstance(spec, UNet):
        if spec.head_kernel != 1 or _upsamples(decoder):
            raise ConfigError("TerraTorch's UNetDecoder ends on the finest map with a 1x1 convolution", fix=_NO)
        widths = [shape[0] for key, shape in state.items() if key.endswith("conv2.0.weight")]
        return arguments | {"decoder": "UNetDecoder", "decoder_channels": widths}
    assert isinstance(spec, UPerNet), "all others were handled before"
    return arguments | {
        "decoder": "UperNetDecoder",
        "decoder_channels": state["fusion.0.weight"][0],
        "decoder_pool_scales": list(spec.pools),
        "decoder_align_corners": spec.align_corners,
    }


def _upsamples(decoder: Decoder) -> bool:
    return isinstance(decoder, UNetDecoder) and decoder.upsample_last


def _is_smp(run: Run, decoder: Decoder) -> bool:
    """Whether it is segmentation_models.pytorch's Unet on ResNet-50; other decoders on that encoder are refused."""
    if name_of(run.backbone) != "unet":
        return False
    spec, widths = run.decoder, (256, 128, 64, 32, 16)
    if spec != UNet(widths, "batch", head_kernel=3, upsample_last=_asked(spec)) or not _upsamples(decoder):
        raise ConfigError(
            "on `backbone: unet` TerraTorch gets segmentation_models.pytorch's Unet",
            fix=f"train with decoder: {{name: unet, channels: {list(widths)}, norm: batch, head_kernel: 3}}",
        )
    return True


def _asked(spec: object) -> bool | None:
    return spec.upsample_last if isinstance(spec, UNet) else None
