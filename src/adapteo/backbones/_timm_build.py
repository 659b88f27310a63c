"""From a name of timm's to a backbone, or to the reason why there is none."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from adapteo.backbones._timm_networks import Facts, Stages, Tokens
from adapteo.backbones._timm_roles import prepare
from adapteo.errors import ConfigError, closest

Describe = Callable[[Mapping[str, Any], str, tuple[str, ...]], Facts]
"""Takes timm's ``pretrained_cfg``, the path of the first convolution and the heads; returns what is known."""

_TOKENS = ("patch_embed", "cls_token", "reg_token", "dist_token", "pos_embed", "norm_pre", "blocks", "norm")
_TAKEN = ("plain ViTs (vit_*, deit*, flexivit_*)", "swin_*", "swinv2_*", "convnext*", "resnet*", "others of stages")
_REASONS = {
    "Eva": "its blocks turn queries and keys by the place of their patch (rotary positions)",
    "Beit": "its attention has learnt the distances in images of one size",
    "VisionTransformerRelPos": "its attention has learnt the distances in images of one size",
}


def imported() -> ModuleType:
    """Import timm.

    Raises:
        ConfigError: it is not installed, or its torchvision does not fit this PyTorch.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"this backbone needs timm: {error}", fix="pip install 'adapteo[timm]'") from error
    except RuntimeError as error:  # torchvision's own way to say that it was built for another PyTorch
        raise ConfigError(
            f"timm cannot be imported, as the installed torchvision does not fit PyTorch {torch.__version__}: {error}",
            fix="install torch and torchvision from the same index, in versions that belong together",
        ) from error
    return timm


def build(name: str, channels: int, describe: Describe, size: int | None = None) -> Tokens | Stages:
    """Build a network with random weights.

    Args:
        name: as timm calls it, with or without a tag.
        channels: input channels.
        describe: see `Describe`.
        size: pixels per side in pre-training, where it is not what timm says.

    Raises:
        ConfigError: there is no such network, or it is neither a plain ViT nor made of stages.
    """
    timm = imported()
    with torch.device("meta"):
        probe = create(timm, name)
    kind, parts = type(probe).__name__, dict(probe.named_children())
    if kind in ("VisionTransformer", "VisionTransformerDistilled"):
        if type(parts["patch_embed"]).__name__ != "PatchEmbed":
            raise _refusal(name, "its patches come out of a convolutional network")
        options = {} if size is None else {"img_size": size}
        model = create(timm, name, in_chans=channels, num_classes=0, **options)
        prepare(model)
        return Tokens(model, describe(model.pretrained_cfg, _first_conv(model, name, channels), _heads(probe, _TOKENS)))
    if kind in _REASONS:
        raise _refusal(name, _REASONS[kind])
    return _stages(timm, name, channels, describe, probe)


def create(timm: ModuleType, name: str, **options: Any) -> Any:
    """Call timm's builder without weights, and without stochastic depth.

    Raises:
        ConfigError: there is no such network, or no weights with this tag.
    """
    architecture, _, tag = name.partition(".")
    if ":" in name or not timm.is_model(architecture):
        raise ConfigError(
            f"timm {timm.__version__} has no model '{architecture}'{closest(architecture, timm.list_models())}",
            fix="python -c \"import timm; print(timm.list_models('*swin*'))\" lists those with swin in their name",
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"timm has no weights '{tag}' for {architecture}{closest(tag, tags)}",
            allowed=[f"{architecture}.{known}" for known in tags],
            fix="change `model` of the backbone",
        )
    model = timm.create_model(name, pretrained=False, **options)
    for module in model.modules():
        if isinstance(module, timm.layers.DropPath):
            module.drop_prob = 0.0
    return model


def _stages(timm: ModuleType, name: str, channels: int, describe: Describe, probe: Any) -> Stages:
    """Cut a network where timm's own extraction of features cuts it."""
    swin = type(probe).__name__ in ("SwinTransformer", "SwinTransformerV2")
    if probe.pretrained_cfg["fixed_input_size"] and not swin:
        raise _refusal(name, "it takes images of one size only")
    options = {"strict_img_size": False} if swin else {}
    features = _features(timm, name, options)
    widths, reductions = features.feature_info.channels(), features.feature_info.reduction()
    model = create(timm, name, in_chans=channels, num_classes=0, **options)
    prepare(model)
    paths = {path.replace(".", "_"): path for path, _ in model.named_modules() if path.count(".") < 2}
    stages: list[dict[str, nn.Module]] = [{}]
    for child in features:
        stages[-1][paths[child]] = model.get_submodule(paths[child])
        if child in features.return_layers:
            stages.append({})
    used = [path for stage in stages for path in stage]
    last = dict(model.named_children()).get("norm")
    last = None if isinstance(last, nn.Identity) or "norm" in used else last
    heads = _heads(probe, [*used, "norm"] if last is not None else used)
    facts = describe(model.pretrained_cfg, _first_conv(model, name, channels), heads)
    channels_last = str(features.output_fmt).endswith("NHWC")
    return Stages(stages[:-1], (widths, reductions), facts, last=last, channels_last=channels_last)


def _features(timm: ModuleType, name: str, options: Mapping[str, Any]) -> Any:
    """Return timm's extraction of features, which says where the stages end; on no device.

    Raises:
        ConfigError: the network is not a row of modules, or its maps are not of the sizes that a decoder expects.
    """
    reason = "it cannot be cut into stages that follow one another"
    with torch.device("meta"):
        try:
            found = create(timm, name, features_only=True, **options)
        except (RuntimeError, AssertionError, AttributeError) as error:  # what timm raises where it has none
            raise _refusal(name, reason) from error
        if not isinstance(found, timm.models.FeatureListNet):
            raise _refusal(name, reason)
        strides = found.feature_info.reduction()
        height, width = 2 * strides[-1], 3 * strides[-1]
        try:
            maps = _run(found, torch.empty(2, 3, height, width))
        except (RuntimeError, AssertionError) as error:
            raise _refusal(name, f"it does not take images of {height} x {width} pixels") from error
    if not all(isinstance(m, Tensor) for m in maps):
        raise _refusal(name, reason)
    rows = [m.shape[1 if str(found.output_fmt).endswith("NHWC") else 2] for m in maps]
    if rows != [height // stride for stride in strides]:
        raise _refusal(name, "its maps do not cover the image evenly")
    return found


def _run(features: Any, x: Tensor) -> list[Any]:
    """What the stages hand to each other."""
    found = []
    for child, module in features.items():
        x = module(x)
        if child in features.return_layers:
            found.append(x)
    return found


def _first_conv(model: Any, name: str, channels: int) -> str:
    """Path of the one convolution that sees the image."""
    path = model.pretrained_cfg["first_conv"]
    conv = dict(model.named_modules()).get(path) if isinstance(path, str) else None
    if not isinstance(conv, nn.Conv2d) or conv.weight.shape[1] != channels:
        raise _refusal(name, "its first layer is not one convolution of the bands")
    return str(path)


def _heads(probe: Any, used: Sequence[str]) -> tuple[str, ...]:
    """Paths of a network whose tensors the backbone, which is made of the paths `used`, does not have."""
    found = set()
    for key in probe.state_dict():
        if not any(_within(key, path) for path in used):
            parts = key.split(".")
            above = [".".join(parts[: i + 1]) for i in range(len(parts))]
            found.add(next(path for path in above if not any(_within(one, path) for one in used)))
    return tuple(sorted(found))


def _within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _refusal(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"timm's '{name}' cannot be used here: {reason}", allowed=_TAKEN, fix="choose another `model` of the backbone"
    )
