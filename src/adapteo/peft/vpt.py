"""Visual prompt tuning: learned tokens beside the patch tokens.

    deep:     [x_l, _] = Block_l([x_{l-1}, P_l])            new prompts in every block
    shallow:  [x_l, Z_l] = Block_l([x_{l-1}, Z_{l-1}]),  Z_0 = P

M. Jia et al.: Visual Prompt Tuning, ECCV 2022, arXiv 2203.12119.

The published code puts the prompts after the class token. Here they follow the patches, which is the same function:
attention does not depend on the order of its tokens, as position codes have been added before. Maps ignore what trails.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Method, TokenBackbone, Wrapper, tokens_of
from adapteo.errors import ConfigError


class PromptedBlock(Wrapper):
    """A block that is given more tokens than it is asked for, ``(b, n, d) -> (b, n + prompts - leaving, d)``.

    Attributes:
        prompts: ``(p, d)`` tokens that enter behind the others, or None when none enter here.
        leaving: number of trailing tokens that are dropped after the block.
    """

    def __init__(self, inner: nn.Module, prompts: Tensor | None, leaving: int, dropout: float) -> None:
        super().__init__()
        self.inner = inner
        self.prompts = None if prompts is None else nn.Parameter(prompts)
        self.leaving = leaving
        self.dropout = nn.Dropout(dropout)
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Append the prompts, run the block, drop what leaves."""
        if self.prompts is not None:
            prompts = self.dropout(self.prompts.expand(len(x), -1, -1))
            x = torch.cat([x, prompts.to(x.dtype)], dim=1)
        out: Tensor = self.inner(x)
        return out[:, : out.shape[1] - self.leaving]

    def merged(self) -> nn.Module:
        """Refuse: tokens are not weights."""
        raise ConfigError(
            "prompts are tokens, so they cannot be merged into the weights of the backbone",
            fix="keep the adapter file, which predicts as it is; or train with `method: lora`, which merges",
        )


@dataclass(frozen=True)
class VPT(Method):
    """Visual prompt tuning: trains tokens that are added in every block (deep) or once (shallow).

    Each token costs compute in every block: on 196 patches, 10 prompts cost 0.72 and 100 prompts 1.06 of the operations
    of full fine-tuning. arXiv 2504.17397 uses `prompts: 100`.

    Attributes:
        prompts: number of tokens.
        deep: new tokens in every block instead of one set that goes through all of them.
        dropout: share of the prompts' values that is dropped in training.
        real_channels: use the number of bands in the bound of the initial values; the published code has 3 there for
            any input, and so has the default.
    """

    prompts: int = 10
    deep: bool = True
    dropout: float = 0.1
    real_channels: bool = False

    identity_at_start = False
    mergeable = False
    order = 2
    facts = Facts(
        family="prompt",
        parameters="L P D deep, P D shallow",
        cost="0.72 of full fine-tuning's arithmetic with 10 prompts, 1.06 with 100, on 196 patches",
        use="to repeat published results; otherwise LoRA is cheaper and merges",
        evidence="compared with LoRA and ViT-Adapter in arXiv 2504.17397",
    )

    def __post_init__(self) -> None:
        if self.prompts < 1:
            raise ConfigError(f"vpt needs at least 1 prompt, not {self.prompts}", fix="see `method.prompts`")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"vpt's dropout is a share from 0 to below 1, not {self.dropout}")

    def apply(self, backbone: Backbone) -> None:
        """Wrap every block (deep), or the first and the last (shallow)."""
        backbone = tokens_of(backbone, "vpt")
        last = len(backbone.blocks) - 1
        for index, block in enumerate(backbone.blocks):
            enters, leaves = self.deep or index == 0, self.deep or index == last
            if enters or leaves:
                prompts = self._initial(backbone) if enters else None
                leaving = self.prompts if leaves else 0
                backbone.blocks[index] = PromptedBlock(block, prompts, leaving, self.dropout)

    def parameters_formula(self, backbone: Backbone) -> int:
        """L · P · D deep, P · D shallow."""
        return (len(backbone.blocks) if self.deep else 1) * self.prompts * tokens_of(backbone, "vpt").dim

    def bound(self, backbone: TokenBackbone) -> float:
        """Initial values are uniform in ±√(6 / (c p² + D)), c = 3 in the published code."""
        channels = len(backbone.bands) if self.real_channels else 3
        return math.sqrt(6 / (channels * backbone.patch**2 + backbone.dim))

    def _initial(self, backbone: TokenBackbone) -> Tensor:
        """Draw in float32 on the CPU's generator, whatever the backbone's dtype and device are."""
        like = next(backbone.blocks.parameters())
        bound = self.bound(backbone)
        values = torch.empty(self.prompts, backbone.dim).uniform_(-bound, bound)
        return values.to(like.device, like.dtype)


METHOD = VPT
