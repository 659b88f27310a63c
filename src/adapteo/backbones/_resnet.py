"""ResNet-50 as stages, for the families that are made of it (arXiv 1512.03385).

    y = ReLU(shortcut(x) + Conv1×1(ReLU(Conv3×3(ReLU(Conv1×1(x))))))      a BatchNorm behind every convolution

Version 1.5: a block that halves the image does so in its 3×3 convolution. Below ``blocks.<stage>.`` the tensors have
the names of torchvision and timm (``conv1``, ``bn1``, ``layer1.0.conv1`` …), so their checkpoints fit as they are.

    stage    0: conv 7×7, ReLU   1: max-pool, layer1   2: layer2   3: layer3   4: layer4
    stride   2                   4                     8           16          32
    width    64                  256                   512         1024        2048
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from adapteo.backbones._keys import account, with_counters, without_prefixes
from adapteo.contracts import Remapped, StageBackbone

WIDTHS = (64, 256, 512, 1024, 2048)
REDUCTIONS = (2, 4, 8, 16, 32)
DEPTHS = (3, 4, 6, 3)
FIRST_KERNEL = "conv1.weight"
_STEM = 64


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut, ``(b, inputs, h, w) -> (b, outputs, h / stride, w / stride)``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        narrow = outputs // 4
        self.conv1 = nn.Conv2d(inputs, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.relu(self.bn3(self.conv3(x)) + shortcut)
        return out


class ResNet50(StageBackbone):
    """ResNet-50 without classifier; subclasses say where weights come from and how images are normalised.

    Args:
        bands: canonical names of the input channels, in order.
        taps: stages whose output the decoder sees.
        depths: blocks of layer1 … layer4; fewer for tests.
    """

    model: str = "ResNet-50"

    def __init__(self, bands: Sequence[str], taps: tuple[int, ...], depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        self.bands, self.taps, self.widths, self.reductions = tuple(bands), taps, WIDTHS, REDUCTIONS
        stem: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(len(bands), _STEM, 7, 2, 3, bias=False),
            "bn1": nn.BatchNorm2d(_STEM),
            "relu": nn.ReLU(inplace=True),
        }
        stages = [stem]
        for index, depth in enumerate(depths, start=1):
            inputs, outputs, stride = WIDTHS[index - 1], WIDTHS[index], 1 if index == 1 else 2
            blocks = [Bottleneck(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1) for i in range(depth)]
            pool: dict[str, nn.Module] = {"maxpool": nn.MaxPool2d(3, 2, 1)} if index == 1 else {}
            stages.append({**pool, f"layer{index}": nn.Sequential(*blocks)})
        self.blocks = nn.ModuleList(nn.Sequential(OrderedDict(stage)) for stage in stages)
        self.norm = nn.Identity()
        self.apply(_init_weights)

    @property
    def checkpoint_bands(self) -> tuple[str, ...]:
        """Bands of an upstream checkpoint, in its order."""
        return self.bands

    def remap(self, state: Mapping[str, Tensor]) -> Remapped:
        """Translate a checkpoint with the names of torchvision and timm; takes the kernels of `bands`.

        Files without BatchNorm's counters of batches, which nothing depends on, get zeros.

        Raises:
            WeightsError: lists the keys that are missing, unknown or of another shape.
        """
        on_meta = {name: value.to("meta") for name, value in self.state_dict().items()}
        shapes = {name: tuple(value.shape) for name, value in self.unmap(on_meta).items()}
        remapped = account(
            with_counters(state, shapes),
            shapes,
            model=self.model,
            rename=without_prefixes,
            superfluous=lambda name: "belongs to the classifier" if name.startswith("fc.") else "",
            fix=f"give a checkpoint of {self.model}",
        )
        used = remapped.state
        used[FIRST_KERNEL] = used[FIRST_KERNEL][:, self._channels()]
        return Remapped({name: used[_upstream(name)] for name in self.state_dict()}, remapped.skipped)

    def unmap(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate back; the first convolution gets all `checkpoint_bands`, with zeros for those not seen here."""
        out = {_upstream(name): value for name, value in state.items()}
        ours = out[FIRST_KERNEL]
        full = ours.new_zeros(len(ours), len(self.checkpoint_bands), *ours.shape[2:])
        full[:, self._channels()] = ours
        return {**out, FIRST_KERNEL: full}

    def _channels(self) -> list[int]:
        return [self.checkpoint_bands.index(band) for band in self.bands]


def _upstream(name: str) -> str:
    """Turn ``blocks.1.layer1.0.conv1.weight`` into ``layer1.0.conv1.weight``."""
    return name.split(".", 2)[2]


def _init_weights(module: nn.Module) -> None:
    """Draw convolutions normally with variance 2 / (outputs · k²) (arXiv 1502.01852); norms start as identities."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
