"""LoRA: a low-rank term beside frozen linears.

    y = W x + b + s B A x,   A (r × in) random,  B (out × r) = 0,   s = α / r, or α / √r (rsLoRA)

E. J. Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv 2106.09685.
D. Kalajdzievski: A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, arXiv 2312.03732 (rsLoRA).

Adapter files are in HF peft's format: `peft.PeftModel.from_pretrained(<our plain backbone>, folder)` opens them, and
`LoRA.from_hf` opens HF peft's for our backbones.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Wrapper, copy_exactly, trainable
from adapteo.errors import ConfigError, WeightsError
from adapteo.lean import Affine, affine_of
from adapteo.peft._targets import OnLinears, paths, role_linears, title_of
from adapteo.vit import ROLES, RoleLinear

PAPER_TARGETS = ("q", "v", "fc1", "fc2")
PAPER = MappingProxyType({"rank": 16, "alpha": 16.0, "dropout": 0.0, "rslora": False})
"""The setting of arXiv 2504.17397 (with `PAPER_TARGETS`): 14 r D parameters per block of a ViT."""


class LoRALinear(Wrapper):
    """A frozen linear with a trained low-rank term, ``(..., in) -> (..., out)``.

    Attributes:
        lora_A: ``(r, in)``, Kaiming-uniform with a = √5, as HF peft and nn.Linear do.
        lora_B: ``(out, r)``, zero at the start.
        scale: factor of the low-rank term.
    """

    inner: nn.Linear

    def __init__(self, inner: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = inner
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        weight = inner.weight
        self.lora_A = nn.Parameter(weight.new_empty(rank, inner.in_features))
        self.lora_B = nn.Parameter(weight.new_zeros(inner.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Add the low-rank term while it is being multiplied: no pass over the output of its own.

        The tokens are flattened first, because adding in place into a view would make autograd copy gradients.
        """
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = self.inner(rows)
        low = F.linear(self.dropout(rows), self.lora_A)
        out = out.addmm_(low, self.lora_B.t().to(out.dtype), alpha=self.scale)  # autocast leaves in-place ops alone
        return out.view(*x.shape[:-1], out.shape[-1])

    def affine(self) -> Affine | None:
        """What it computes, for `adapteo.lean`; None while it drops inputs."""
        inner = affine_of(self.inner)
        if (self.training and self.dropout.p > 0) or inner is None or inner.down is not None:
            return None
        return inner._replace(down=self.lora_A, up=self.lora_B, scale=self.scale)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with W + s B A, added in at least float32 and rounded once."""
        plain = copy.deepcopy(self.inner)
        exact = torch.promote_types(plain.weight.dtype, torch.float32)
        delta = self.scale * (self.lora_B.to(exact) @ self.lora_A.to(exact))
        plain.weight.copy_(plain.weight.to(exact) + delta)
        return plain


@dataclass(frozen=True)
class LoRA(OnLinears):
    """LoRA: trains a low-rank term beside the linears of attention and MLP.

    The defaults of rank, alpha, dropout and rslora are those of arXiv 2504.17397; `preset: paper` adds its targets.

    Attributes:
        rank: r; parameters grow with it, compute hardly.
        alpha: α; the term is scaled by α / r.
        dropout: share of the term's input that is dropped in training; costs memory for the masks.
        rslora: scale by α / √r instead, which keeps large ranks learning.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
        preset: "paper" for r = 16, α = 16 on q, v, fc1 and fc2.
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    targets: tuple[str, ...] = ()
    preset: Literal["paper"] | None = None

    facts = Facts(
        family="low-rank",
        parameters="r (in + out) per linear: 18 r D per block, 14 r D for the paper's targets",
        cost="2/3 of full fine-tuning's arithmetic; as many activations",
        use="the first to try; merges, so that prediction costs nothing more",
        evidence="best across regions for TerraMind, DINOv3 and Prithvi-2 on 3,820 fires (arXiv 2605.04989)",
    )

    def __post_init__(self) -> None:
        targets = tuple(self.targets) or (PAPER_TARGETS if self.preset == "paper" else ())
        object.__setattr__(self, "targets", targets)
        if self.preset is not None:
            self._check_preset()
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(
                f"{title_of(self)} needs rank >= 1 and alpha > 0, not rank {self.rank}, alpha {self.alpha}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"{title_of(self)}'s dropout is a share from 0 to below 1, not {self.dropout}")
        self.check_targets()

    def _check_preset(self) -> None:
        if self.preset != "paper":
            raise ConfigError(f"{title_of(self)} has no preset '{self.preset}'", allowed=("paper",))
        wrong = [name for name, value in PAPER.items() if vars(self)[name] != value]
        wrong += ["targets"] if set(self.targets) != set(PAPER_TARGETS) else []
        if wrong:
            raise ConfigError(
                f"{title_of(self)}'s preset 'paper' sets {wrong[0]}, and {wrong[0]} = {vars(self)[wrong[0]]} is given "
                "too",
                fix=f"leave out either `preset` or `{wrong[0]}`",
            )

    @property
    def scale(self) -> float:
        """Factor s of the low-rank term."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `LoRALinear`."""
        return (LoRALinear(linear, self.rank, self.scale, self.dropout) for linear in linears)

    def added(self, linear: RoleLinear) -> int:
        """Of A and B: r (in + out)."""
        return self.rank * (linear.in_features + linear.out_features)

    # ------------------------------------------------------------------------------- HF peft's format

    def adapter_state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Tensors of the adapter under HF peft's keys, on the CPU."""
        return {_hf_key(name): p.detach().cpu().contiguous() for name, p in trainable(backbone).items()}

    def load_adapter_state(self, backbone: Backbone, state: Mapping[str, Tensor]) -> None:
        """Copy tensors under HF peft's keys into an adapted backbone.

        Raises:
            WeightsError: when a tensor is missing, superfluous or of another shape; nothing is copied then.
        """
        copy_exactly({_hf_key(name): p for name, p in trainable(backbone).items()}, state)

    def adapter_config(self, backbone: Backbone) -> dict[str, object]:
        """The content of HF peft's adapter_config.json (the keys known since peft 0.12), modules by exact names."""
        weights = backbone.weights
        names = [name for name, m in backbone.named_modules() if isinstance(m, LoRALinear)]
        names = names or list(paths(backbone, (linear for _, _, linear in self.chosen(backbone))))
        return {
            "peft_type": "LORA",
            "task_type": None,
            "auto_mapping": None,
            "base_model_name_or_path": weights.repo if weights else None,
            "revision": weights.revision if weights else None,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": int(self.alpha) if self.alpha == int(self.alpha) else self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
            "use_dora": False,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "target_modules": names,
            "modules_to_save": None,
        }

    @classmethod
    def from_hf(cls, backbone: Backbone, config: Mapping[str, object], state: Mapping[str, Tensor]) -> "LoRA":
        """Return the method of an adapter that HF peft wrote for one of our backbones; `load_adapter_state` loads it.

        Args:
            backbone: the plain backbone.
            config: content of adapter_config.json.
            state: content of adapter_model.safetensors.

        Raises:
            WeightsError: when the adapter is not LoRA, uses a variant that computes something else, or acts on
                modules that are not role linears of the blocks.
        """
        _refuse_variants(config)
        linears = paths(backbone, (linear for _, _, linear in role_linears(backbone)))
        acted_on = {key.removeprefix(_HF_PREFIX).partition(".lora_")[0] for key in state}
        foreign = sorted(acted_on - linears.keys())
        if foreign:
            raise WeightsError(
                f"the LoRA file acts on '{foreign[0]}', which is no attention or MLP linear of this backbone's blocks",
                fix="train it again with target_modules restricted to the blocks, or give the backbone it was made for",
            )
        found = {linears[path].role for path in acted_on}
        return cls(
            rank=int(str(config["r"])),
            alpha=float(str(config["lora_alpha"])),
            dropout=float(str(config.get("lora_dropout", 0.0))),
            rslora=bool(config.get("use_rslora", False)),
            targets=tuple(role for role in ROLES if role in found),
        )


_HF_PREFIX = "base_model.model."
_HF_READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "init_lora_weights", "bias"}
_HF_NEUTRAL = {
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "layers_pattern", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "task_type",
}  # fmt: skip


def _hf_key(name: str) -> str:
    """Turn ``blocks.0.attn.q.lora_A`` into ``base_model.model.blocks.0.attn.q.lora_A.weight``."""
    return f"{_HF_PREFIX}{name}.weight"


def _refuse_variants(config: Mapping[str, object]) -> None:
    """Refuse whatever changes the computation; an unknown key that is switched on counts, so new variants do too."""
    if config.get("peft_type") != "LORA":
        raise WeightsError(f"the adapter is of type {config.get('peft_type')}, not LORA")
    on = {key: value for key, value in config.items() if value and key not in _HF_READ | _HF_NEUTRAL}
    if config.get("bias", "none") != "none":
        on["bias"] = config["bias"]
    if config.get("init_lora_weights", True) not in (True, False, "gaussian", "orthogonal", "eva"):
        on["init_lora_weights"] = config["init_lora_weights"]  # pissa, olora, corda, ... change the frozen weights
    if on:
        key, value = next(iter(on.items()))
        raise WeightsError(
            f"the LoRA file uses {key} = {value}, a variant that adapteo does not compute",
            fix="open it with HF peft, merge it there and load the merged weights",
        )


METHOD = LoRA
