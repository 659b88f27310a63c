"""Full fine-tuning: every parameter of the backbone is trained.

    trained = θ

The reference that every parameter-efficient method is compared with; not a method of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapteo.contracts import Backbone, Facts, Method


@dataclass(frozen=True)
class Full(Method):
    """Full fine-tuning: trains every parameter of the backbone."""

    default_rate: ClassVar[float] = 1e-4
    facts = Facts(
        family="reference",
        parameters="all: about 12 D² per block",
        cost="what the others are compared with",
        use="many labels, and no other region in view",
        evidence="five-set mean of Prithvi-300M 68.14, LoRA 68.02 (arXiv 2504.17397)",
    )

    def apply(self, backbone: Backbone) -> None:
        """Unfreeze everything."""
        backbone.requires_grad_(True)

    def parameters_formula(self, backbone: Backbone) -> int:
        """All parameters."""
        return sum(p.numel() for p in backbone.parameters())


METHOD = Full
