"""AdaptFormer: a bottleneck beside the MLP of each block.

    y = MLP(x) + s U ReLU(D x),     x behind the norm;  U = 0 at the start

S. Chen et al.: AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition, NeurIPS 2022,
arXiv 2205.13535.
"""

from dataclasses import dataclass

from adapteo.contracts import Backbone, Facts, Method
from adapteo.errors import ConfigError
from adapteo.peft._bottleneck import Beside, Bottleneck, check_width, serial_size
from adapteo.peft._targets import mlps


@dataclass(frozen=True)
class AdaptFormer(Method):
    """AdaptFormer: trains a bottleneck beside the MLP of each block.

    Attributes:
        width: n, of the bottlenecks.
        scale: s, factor of what they add.
    """

    width: int = 64
    scale: float = 0.1

    order = 3
    mergeable = False
    facts = Facts(
        family="adapter",
        parameters="2 n D + n + D per block: 1.19 M for a ViT-B with n = 64",
        cost="2/3 of full fine-tuning's arithmetic and a little more; costs time in prediction too",
        use="the first adapter to try where low-rank terms do not suffice",
        evidence="10 % and 19 % above full fine-tuning on SSv2 and HMDB51 (arXiv 2205.13535, abstract)",
    )

    def __post_init__(self) -> None:
        check_width("adaptformer", self.width)
        if self.scale <= 0:
            raise ConfigError(f"adaptformer's scale is above 0, not {self.scale}", fix="see `method.scale`")

    def apply(self, backbone: Backbone) -> None:
        """Wrap the MLPs.

        Raises:
            ConfigError: when the blocks have none.
        """
        for parent, name, mlp, last in mlps(backbone, self):
            adapter = Bottleneck(last.out_features, self.width, "relu", last.weight)
            setattr(parent, name, Beside(mlp, adapter, self.scale))

    def parameters_formula(self, backbone: Backbone) -> int:
        """L (2 n D + n + D)."""
        return sum(serial_size(last.out_features, self.width) for _, _, _, last in mlps(backbone, self))


METHOD = AdaptFormer
