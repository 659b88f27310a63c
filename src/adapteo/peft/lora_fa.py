"""LoRA-FA: LoRA whose A stays at its random start, so that only the r numbers A x are kept for the gradient.

    y = W x + b + s B A x,     A (r × in) random and frozen,  B (out × r) = 0 at the start,  s = α / r

L. Zhang et al.: LoRA-FA: Memory-efficient Low-rank Adaptation for Large Language Models Fine-tuning, arXiv 2308.03303.

A is drawn on the CPU by a generator of its own from `seed` and the number of the layer; adapter files hold B alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from adapteo.contracts import Facts, Wrapper
from adapteo.errors import ConfigError
from adapteo.peft._projections import drawn
from adapteo.peft._targets import OnLinears
from adapteo.peft.lora import LoRALinear
from adapteo.vit import RoleLinear


class LoRAFALinear(LoRALinear):
    """`LoRALinear` with a frozen A.

    Attributes:
        lora_A: ``(r, in)``, no parameter.
    """

    def __init__(self, inner: nn.Linear, a: Tensor, scale: float) -> None:
        super().__init__(inner, len(a), scale)
        del self.lora_A
        self.register_buffer("lora_A", a.to(inner.weight), persistent=False)


@dataclass(frozen=True)
class LoRAFA(OnLinears):
    """LoRA-FA: LoRA that trains its second matrix only.

    Attributes:
        rank: r.
        alpha: α; the term is scaled by α / r.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
        seed: of the frozen matrices; the adapter needs the same one.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    seed: int = 0

    facts = Facts(
        family="low-rank",
        parameters="r · out per linear: 9 r D per block",
        cost="10.2 D numbers of activations per token: no input of a linear is kept",
        use="when memory is short; less accurate than LoRA",
        evidence="0.404 against 0.478 (LoRA) in HF peft's benchmark; memory by arXiv 2308.03303 and counting",
    )

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(f"lora_fa needs rank >= 1 and alpha > 0, not rank {self.rank}, alpha {self.alpha}")
        self.check_targets()

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """See `LoRAFALinear`; each A is another one."""
        for index, linear in enumerate(linears):
            a = drawn((self.rank, linear.in_features), self.seed, index)
            yield LoRAFALinear(linear, a, self.alpha / self.rank)

    def added(self, linear: RoleLinear) -> int:
        """Of B: r · out."""
        return self.rank * linear.out_features


METHOD = LoRAFA
