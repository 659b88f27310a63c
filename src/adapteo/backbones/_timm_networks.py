"""timm's networks behind the contracts: plain ViTs as tokens, hierarchical ones as stages.

The blocks are timm's own, made ready by `_timm_roles`. What lies around them is written here: timm's embedding wants
images of one size, and its ways of collecting features hide the stages that methods act on.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones._keys import account, with_counters, without_prefixes
from adapteo.backbones._timm_kernel import Kernel
from adapteo.backbones._timm_roles import cut, fusions, join
from adapteo.contracts import (
    Batch,
    Grid,
    Normalisation,
    Remapped,
    StageBackbone,
    TokenBackbone,
    Weights,
    default_taps,
)
from adapteo.errors import DataError
from adapteo.vit import PatchConv2d, check_patches

_RECOMPUTED = ("relative_position_index", "relative_coords_table", "attn_mask", "k_bias")


@dataclass(frozen=True)
class Facts:
    """What is known about a network beside its modules.

    Attributes:
        model: name for messages.
        kernel: how its first convolution goes with the bands of a checkpoint.
        heads: paths in timm's network that only its classifier needs.
        normalisation: for the network's bands, or None when it is not known.
        weights: where they are, or None.
        optional: tensors that files may lack; they stay as they are at the start, norms as identities.
    """

    model: str
    kernel: Kernel
    heads: tuple[str, ...]
    normalisation: Normalisation | None
    weights: Weights | None
    optional: tuple[str, ...] = ()


class Tokens(TokenBackbone):
    """A plain vision transformer of timm.

        tokens = norm([class, registers, patches] + positions)      positions stretched to the grid as timm does

    Args:
        model: timm's `VisionTransformer`, prepared; its parts are taken over.
        facts: see `Facts`.
    """

    def __init__(self, model: nn.Module, facts: Facts) -> None:
        super().__init__()
        self.cls_token: nn.Parameter | None
        self.reg_token: nn.Parameter | None
        self.dist_token: nn.Parameter | None
        parts = dict(model.named_children())
        own = dict(model.named_parameters(recurse=False))
        self.facts = facts
        self.bands, self.weights = facts.kernel.want, facts.weights
        self.patch_embed = Patches(parts["patch_embed"])
        self._base = self.patch_embed.base
        for name in ("cls_token", "reg_token", "dist_token"):
            self.register_parameter(name, own.get(name))
        self.pos_embed = own.get("pos_embed")
        self.norm_pre = parts["norm_pre"]
        self.blocks = nn.ModuleList(parts["blocks"].children())
        self.norm = parts["norm"]
        self.dim, self.patch = self.patch_embed.proj.out_channels, self.patch_embed.proj.kernel_size[0]
        self.taps = default_taps(len(self.blocks))

    @property
    def normalisation(self) -> Normalisation | None:
        """See `Facts`."""
        return self.facts.normalisation

    def embed(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Turn normalised images ``(b, 1, c, h, w)`` into prefix and patch tokens.

        Raises:
            DataError: more than one date, other bands, or sides that are no multiples of the patch.
        """
        images = self._checked(batch.images)
        x, height, width = self.patch_embed(images.to(self.patch_embed.proj.weight.dtype))
        prefix = [token.expand(len(x), -1, -1) for token in self._prefix_tokens()]
        count = sum(token.shape[1] for token in prefix)
        if self.pos_embed is not None:
            above = self.pos_embed.shape[1] - self._base[0] * self._base[1]  # positions of the prefix: all or none
            x = x + stretched(self.pos_embed[:, above:], self._base, (height, width))
            if above:
                prefix = [torch.cat(prefix, dim=1) + self.pos_embed[:, :above]]
        tokens: Tensor = self.norm_pre(torch.cat([*prefix, x], dim=1))
        return tokens, Grid(height, width, prefix=count)

    def _prefix_tokens(self) -> list[nn.Parameter]:
        return [token for token in (self.cls_token, self.dist_token, self.reg_token) if token is not None]

    def _checked(self, images: Tensor) -> Tensor:
        b, t, c, h, w = images.shape
        if (t, c) != (1, len(self.bands)):
            raise DataError(
                f"the images have {t} dates and {c} bands; built for 1 date and {len(self.bands)} bands",
                fix="build the backbone with the dataset's bands; for several dates choose another backbone",
            )
        check_patches(h, w, self.patch)
        return images.reshape(b, c, h, w)

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a checkpoint of timm; see `remapped`."""
        return remapped(self, self.facts, state)

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back to timm's keys; the classifier's are not among them."""
        return unmapped(self, self.facts, state)


class Patches(nn.Module):
    """Patch embedding, ``(b, c, h, w) -> (b, n, d), h / patch, w / patch``.

    Attributes:
        base: patches per side, high and wide, in pre-training.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.base: tuple[int, int] = tuple(embedding.grid_size)
        parts = dict(embedding.named_children())
        proj = parts["proj"]
        assert isinstance(proj, PatchConv2d), "prepared networks have patch convolutions"
        self.proj = proj
        self.norm = parts["norm"]

    def forward(self, images: Tensor) -> tuple[Tensor, int, int]:
        """Embed."""
        maps = self.proj(images)
        return self.norm(maps.flatten(2).transpose(1, 2)), maps.shape[2], maps.shape[3]


def stretched(positions: Tensor, base: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Stretch learned positions ``(1, n, d)`` of one grid to another, as timm does: bicubic, antialiased, float32."""
    if base == grid:
        return positions
    table = positions.float().unflatten(1, base).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=grid, mode="bicubic", antialias=True)
    return table.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)


class Stages(StageBackbone):
    """A hierarchical network of timm.

    Args:
        stages: modules of each stage by their path in timm's network, in order; the stem is part of the first one.
        shape: channels and stride of each stage's output.
        last: norm of the last map, or None.
        channels_last: whether the stages hand each other ``(b, h, w, c)``.
        facts: see `Facts`.
    """

    def __init__(
        self,
        stages: Sequence[Mapping[str, nn.Module]],
        shape: tuple[Sequence[int], Sequence[int]],
        facts: Facts,
        *,
        last: nn.Module | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.facts = facts
        self.bands, self.weights = facts.kernel.want, facts.weights
        self.widths, self.reductions = (tuple(values) for values in shape)
        self.taps = tuple(range(len(stages)))[-4:]
        self.blocks = nn.ModuleList(
            Stage(modules, channels_last=(channels_last and i > 0, channels_last)) for i, modules in enumerate(stages)
        )
        self.norm = nn.Identity() if last is None else Stage({"norm": last}, channels_last=(channels_last,) * 2)

    @property
    def normalisation(self) -> Normalisation | None:
        """See `Facts`."""
        return self.facts.normalisation

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a checkpoint of timm; see `remapped`."""
        return remapped(self, self.facts, state)

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back to timm's keys; the classifier's are not among them."""
        return unmapped(self, self.facts, state)


class Stage(nn.Sequential):
    """Modules in a row, ``(b, c, h, w) -> (b, c', h', w')``.

    Attributes:
        names: path of each module in timm's network, by its name here, which must have no dots.
        channels_last: whether the first one takes, and the last one gives, ``(b, h, w, c)``.
    """

    def __init__(self, modules: Mapping[str, nn.Module], *, channels_last: tuple[bool, bool]) -> None:
        super().__init__(OrderedDict((path.replace(".", "_"), module) for path, module in modules.items()))
        self.names = {path.replace(".", "_"): path for path in modules}
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Apply one after the other."""
        if self.channels_last[0]:
            x = x.permute(0, 2, 3, 1)
        for module in self:
            x = module(x)
        return x.permute(0, 3, 1, 2) if self.channels_last[1] else x


# ---------------------------------------------------------------------------------------------- keys


def remapped(backbone: nn.Module, facts: Facts, state: Mapping[str, Tensor]) -> Remapped:
    """Translate a checkpoint with timm's keys to those of a backbone; the kernels of its bands are chosen or made.

    Raises:
        WeightsError: lists the keys that are missing, unknown or of another shape.
    """
    own = backbone.state_dict()
    paths = _paths(backbone)
    on_meta = {name: value.to("meta") for name, value in own.items()}
    shapes = {name: tuple(value.shape) for name, value in unmapped(backbone, facts, on_meta).items()}
    first = f"{facts.kernel.conv}.weight"
    shapes[first] = (shapes[first][0], len(facts.kernel.have), *shapes[first][2:])
    state = with_counters(state, shapes)
    given = {without_prefixes(key) for key in state}
    named = {paths.get(ours, ours): value for ours, value in own.items()}
    lacking = {name: value for name, value in named.items() if name in facts.optional and name not in given}
    found = account(
        {**state, **lacking},
        shapes,
        model=facts.model,
        rename=without_prefixes,
        superfluous=lambda name: "" if name in shapes else _superfluous(name, facts.heads),
        fix=f"give a checkpoint of {facts.model} for the bands {', '.join(facts.kernel.have)}",
    )
    used = {**found.state, first: facts.kernel.take(found.state[first])}
    back = {theirs: ours for ours, theirs in paths.items()}
    rows = {name: len(value) for name, value in own.items() if value.ndim}
    parts = cut({back.get(name, name): value for name, value in used.items()}, fusions(backbone), rows)
    return Remapped({name: parts[name] for name in own}, found.skipped)


def unmapped(backbone: nn.Module, facts: Facts, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the state of a backbone to timm's keys."""
    paths = _paths(backbone)
    out = {paths.get(name, name): value for name, value in join(state, fusions(backbone)).items()}
    first = f"{facts.kernel.conv}.weight"
    return {**out, first: facts.kernel.give(out[first])}


def _paths(backbone: nn.Module) -> dict[str, str]:
    """Name in timm's network of each tensor, fused ones included, that has another name in the backbone."""
    stages = {path: module for path, module in backbone.named_modules() if isinstance(module, Stage)}
    names = {*backbone.state_dict(), *fusions(backbone)}
    found = {}
    for name in names:
        for path, stage in stages.items():
            if name.startswith(f"{path}."):
                child, _, rest = name.removeprefix(f"{path}.").partition(".")
                found[name] = f"{stage.names[child]}.{rest}"
    return found


def _superfluous(name: str, heads: Sequence[str]) -> str:
    """Why a tensor of a checkpoint is not needed, or nothing."""
    if any(name == head or name.startswith(f"{head}.") for head in heads):
        return "belongs to the classifier"
    if name == "mask_token":
        return "stood for hidden patches in pre-training"
    if name.rpartition(".")[2] in _RECOMPUTED:
        return "recomputed"
    return ""
