"""torchgeo: the ResNets, ViTs and Swins that torchgeo has satellite weights for (MIT; needs the extra `torchgeo`).

torchgeo knows which bands and statistics each of its weights goes with; the networks are timm's and torchvision's:

    resnet18 · resnet50 · resnet152       MoCo, DINO, DeCUR, SoftCon, SeCo, SatlasPretrain, SSL4EO-L, CLOSP, GASSL
    vit_{small,base,large}_patch16_224, vit_huge_patch14_224, vit_{small,base}_patch14_dinov2     MAE, MoCo, SoftCon …
    swin_v2_t · swin_v2_b · swin_t · swin_s                                                       SatlasPretrain …

The Swins are torchvision's, which computes attention in one function of its weights: LoRA acts on their MLPs only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

from torch import nn

from adapteo.backbones._timm_build import build, imported
from adapteo.backbones._timm_kernel import Subset
from adapteo.backbones._timm_networks import Facts, Stages
from adapteo.backbones._timm_roles import exchange, patch_convolution
from adapteo.bands import L8, S2, resolve
from adapteo.contracts import Backbone, BackboneSpec, Normalisation, Weights
from adapteo.errors import ConfigError, closest

_TIMM = (
    "resnet18", "resnet50", "resnet152", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224",
    "vit_huge_patch14_224", "vit_small_patch14_dinov2", "vit_base_patch14_dinov2",
)  # fmt: skip
_TORCHVISION = ("swin_v2_t", "swin_v2_b", "swin_t", "swin_s")
_REASONS = {
    "aurora_swin_unet": "it forecasts the weather from fields of several levels",
    "copernicusfm_base": "its patch embedding is made from wavelengths and a language model",
    "croma_base": "it takes radar and optical images as two inputs of one size",
    "croma_large": "it takes radar and optical images as two inputs of one size",
    "earthloc": "it gives one descriptor per image, no maps",
    "panopticon_vitb14": "its patch embedding attends over bands by their wavelengths",
    "scalemae_large_patch16": "its positions depend on the ground sample distance",
    "swin_b": "torchgeo builds the window of its weights only while it downloads them",
    "unet": "it is an encoder with a decoder; take its encoder with `name: timm`",
}
_OLDER_LANDSAT = {  # of Landsat 4, 5 and 7; their thermal bands have no name in adapteo.bands
    "B1": "blue", "B2": "green", "B3": "red", "B4": "nir08", "B5": "swir16", "B7": "swir22", "B8": "pan",
}  # fmt: skip
_PHOTOGRAPH = ("red", "green", "blue")


@dataclass(frozen=True)
class TorchGeo(BackboneSpec):
    """Any ResNet, ViT or Swin of torchgeo, pre-trained on Sentinel-2, Sentinel-1 or Landsat, on one date.

    Where torchgeo's statistics are not in physical units, those of the dataset are used. Needs
    ``pip install 'adapteo[torchgeo]'``.

    Attributes:
        model: torchgeo's name, as in ``torchgeo.models.list_models()``.
        weights_entry: name of the weights in torchgeo, which says what bands there are; a network takes all or some.
        weights: "pretrained" (from the hub), "random", or a path.
    """

    model: str = "resnet50"
    weights_entry: str = "SENTINEL2_ALL_MOCO"
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        """Refuse networks of another shape.

        Raises:
            ConfigError: says why.
        """
        if self.model.startswith("dofa_"):
            raise ConfigError(f"torchgeo's {self.model} has a backbone of its own here", fix="write `name: dofa`")
        if self.model in _REASONS:
            raise ConfigError(
                f"torchgeo's {self.model} cannot be used here: {_REASONS[self.model]}", allowed=_TIMM + _TORCHVISION
            )
        if self.model not in _TIMM + _TORCHVISION:
            near = closest(self.model, _TIMM + _TORCHVISION)
            raise ConfigError(f"torchgeo has no model '{self.model}'{near}", allowed=_TIMM + _TORCHVISION)

    def accepts(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Those of the bands that the weights know."""
        known = bands_of(self.weights_entry, self._entry())
        return tuple(band for band in bands if band in known)

    def build(self, bands: Sequence[str], frames: int = 1) -> Backbone:
        """Build with random weights.

        Raises:
            ConfigError: no bands, one that the weights do not know or twice; more than one date; torchgeo is missing
                or has no such weights.
        """
        entry = self._entry()
        known = bands_of(self.weights_entry, entry)
        named = [band for band in known if band]
        unknown = [band for band in bands if band not in named]
        if unknown:
            raise ConfigError(
                f"torchgeo's {self.weights_entry} has no band '{unknown[0]}'{closest(unknown[0], named)}",
                allowed=named,
                fix="leave it out of the bands of the backbone",
            )
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"torchgeo needs at least one band, each once, not {list(bands)}", allowed=named)
        if frames != 1:
            raise ConfigError(f"torchgeo's models take 1 date per image, not {frames}", fix="choose one of the dates")

        def describe(cfg: Mapping[str, Any], conv: str, heads: tuple[str, ...]) -> Facts:
            name = f"torchgeo's {self.model} {self.weights_entry}"
            found = normalisation(self.weights_entry, entry.transforms, known, bands)
            # torchgeo itself does not insist on the last norm: some encoders were published without
            optional = () if self.model.startswith("resnet") else ("norm.weight", "norm.bias")
            return Facts(name, Subset(conv, known, tuple(bands)), heads, found, weights_of(entry.url), optional)

        if self.model in _TIMM:
            return build(self.model, len(bands), describe, entry.meta.get("img_size"))
        return _swin(_imported().get_model(self.model), describe({}, "features.0.0", ("head",)))

    def _entry(self) -> Any:
        """Return torchgeo's record of the weights."""
        models = _imported()
        if self.model not in models.list_models():
            raise ConfigError(
                f"the installed torchgeo has no model '{self.model}' yet", fix="pip install --upgrade torchgeo"
            )
        entries = models.get_model_weights(self.model).__members__
        if self.weights_entry not in entries:
            near = closest(self.weights_entry, entries)
            raise ConfigError(
                f"torchgeo has no weights '{self.weights_entry}' for {self.model}{near}",
                allowed=entries,
                fix="change `weights_entry` of the backbone",
            )
        return entries[self.weights_entry]


def _imported() -> ModuleType:
    """Import torchgeo's models.

    Raises:
        ConfigError: it is not installed, or what it needs is not.
    """
    imported()
    try:
        import torchgeo.models
    except ImportError as error:
        raise ConfigError(f"this backbone needs torchgeo: {error}", fix="pip install 'adapteo[torchgeo]'") from error
    models: ModuleType = torchgeo.models
    return models


def bands_of(name: str, entry: Any) -> tuple[str, ...]:
    """Bands of an entry in its order by our names; "" for those that have none.

    Raises:
        ConfigError: torchgeo does not say which bands they are.
    """
    written, channels = entry.meta.get("bands"), entry.meta["in_chans"]
    if written is None and channels == len(_PHOTOGRAPH):  # GASSL and the photographs of Cityscapes
        return _PHOTOGRAPH
    if name.startswith("NAIP_RGB"):
        return _PHOTOGRAPH
    if written is None or len(written) != channels:
        raise ConfigError(f"torchgeo does not say which {channels} bands its {name} is for", fix="take other weights")
    if name.startswith(("LANDSAT_TM", "LANDSAT_ETM")):
        return tuple(_OLDER_LANDSAT.get(band.removeprefix("SR_"), "") for band in written)
    sensor = L8 if name.startswith("LANDSAT") else S2
    return tuple(resolve(band, sensor) for band in written)


def normalisation(name: str, transforms: nn.Module, known: Sequence[str], bands: Sequence[str]) -> Normalisation | None:
    """Statistics of the pre-training in physical units; None where torchgeo's are of other numbers.

    Sentinel-2 is stored as reflectance x 10,000, Sentinel-1 in decibel. Images of SatlasPretrain, SSL4EO-L (Landsat)
    and SeCo were stretched to 8 bits, in ways that torchgeo does not keep; neither does it say how NDVI was stored.
    """
    unit = {"SENTINEL1": 1.0, "SENTINEL2": 1e4}.get(name.partition("_")[0])
    found = [module for module in transforms.modules() if type(module).__name__ == "Normalize"]
    if unit is None or name.endswith("SATLAS") or "ndvi" in known or len(found) != 1:
        return None

    def by_band(values: Sequence[float]) -> tuple[float, ...]:
        spread = dict(zip(known, list(values) * (len(known) if len(values) == 1 else 1), strict=True))
        return tuple(float(spread[band]) / unit for band in bands)

    return Normalisation(by_band(found[0].mean), by_band(found[0].std))  # type: ignore[arg-type]


def weights_of(url: str) -> Weights | None:
    """Read repository, revision and file out of an address like ``…/<owner>/<name>/resolve/<revision>/<file>``."""
    path = urlparse(url).path.strip("/").split("/")
    if len(path) != 5 or path[2] != "resolve":
        return None
    return Weights("/".join(path[:2]), path[4], "unknown", revision=path[3])


def _swin(model: Any, facts: Facts) -> Stages:
    """Cut torchvision's Swin into its four stages; the way down belongs to the stage that it leads to."""
    for module in model.modules():
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
        elif type(module).__name__ == "MLP":
            exchange(module, {"0": ("fc1",), "3": ("fc2",)})
    features = model.get_submodule("features")
    stem = model.get_submodule("features.0")
    old = model.get_submodule("features.0.0")
    assert isinstance(old, nn.Conv2d), "torchvision's Swin starts with a convolution"
    bands = len(facts.kernel.want)
    new = nn.Conv2d(bands, old.out_channels, old.kernel_size[0], old.stride[0], bias=old.bias is not None)
    setattr(stem, "0", patch_convolution(new))
    count = len(list(features.children())) // 2
    paths = [(f"features.{2 * i}", f"features.{2 * i + 1}") for i in range(count)]
    stages = [{path: model.get_submodule(path) for path in pair} for pair in paths]
    widths = [old.out_channels * 2**i for i in range(count)]
    reductions = [old.stride[0] * 2**i for i in range(count)]
    return Stages(stages, (widths, reductions), facts, last=model.get_submodule("norm"), channels_last=True)


BACKBONE = TorchGeo
