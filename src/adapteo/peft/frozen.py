"""Linear probe: the backbone stays as it was pre-trained, only the decoder learns.

    trained = ∅

G. Alain, Y. Bengio: Understanding intermediate layers using linear classifier probes, arXiv 1610.01644.
"""

from dataclasses import dataclass

from adapteo.contracts import Backbone, Facts, Method


@dataclass(frozen=True)
class Frozen(Method):
    """Linear probe: trains nothing in the backbone, only the decoder."""

    facts = Facts(
        family="reference",
        parameters="none",
        cost="1/3 of full fine-tuning's arithmetic, no activations of the backbone",
        use="the least that every other method has to beat; very few labels",
        evidence="arXiv 1610.01644",
    )

    def apply(self, backbone: Backbone) -> None:
        """Leave everything frozen."""

    def parameters_formula(self, backbone: Backbone) -> int:
        """None."""
        return 0


METHOD = Frozen
