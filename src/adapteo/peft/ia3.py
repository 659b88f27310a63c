"""(IA)³: keys, values and the hidden layer of the MLP are scaled.

    k = l_k ⊙ (W_k x + b_k),   v = l_v ⊙ (W_v x + b_v),   MLP(x) = W₂ (l_ff ⊙ σ(W₁ x)) + b₂,     l = 1 at the start

H. Liu et al.: Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, NeurIPS 2022,
arXiv 2205.05638.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapteo.contracts import Facts, Wrapper
from adapteo.peft._affine import Scaled, scale_columns
from adapteo.peft._targets import OnLinears
from adapteo.vit import RoleLinear

_BY_INPUT = "fc2"


class InputScaled(Wrapper):
    """A linear whose input is scaled, ``(..., in) -> (..., out)``.

    Attributes:
        gamma: ``(in,)``, 1 at the start.
    """

    inner: nn.Linear

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.gamma = nn.Parameter(inner.weight.new_ones(inner.in_features))
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Scale and apply."""
        out: Tensor = self.inner(x * self.gamma.to(x.dtype))
        return out

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear with W diag(l)."""
        plain = copy.deepcopy(self.inner)
        scale_columns(plain.weight, self.gamma)
        return plain


@dataclass(frozen=True)
class IA3(OnLinears):
    """(IA)³: trains scales of keys, values and the hidden layer of the MLP.

    Attributes:
        targets: roles of the linears; k, v and fc2, as far as there are such, when none is named. Outputs are scaled,
            except for fc2, whose input is.
    """

    targets: tuple[str, ...] = ()

    usual = ("k", "v", _BY_INPUT)
    needed = usual
    default_rate = 1e-2
    facts = Facts(
        family="scaling",
        parameters="one number per key, value and hidden channel: 6 D per block",
        cost="2/3 of full fine-tuning's arithmetic; keeps three activations per block",
        use="very few labels; the smallest files",
        evidence="more accurate than in-context learning with GPT-3 at 0.01 % of the parameters (arXiv 2205.05638)",
    )

    def __post_init__(self) -> None:
        self.check_targets()

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterable[Wrapper]:
        """Scale the input of fc2, the output of any other."""
        return (InputScaled(x) if x.role == _BY_INPUT else Scaled(x, shift=False) for x in linears)

    def added(self, linear: RoleLinear) -> int:
        """Width of what is scaled."""
        return linear.in_features if linear.role == _BY_INPUT else linear.out_features


METHOD = IA3
