"""The first convolution for other bands than a checkpoint's: which of its kernels sees which band.

Every family that takes its networks from timm has one of two rules. `Subset`, for networks of satellite bands: a kernel
belongs to its band, so a network sees the bands it was trained with, or some of them. `Extended`, for networks of
photographs: any number of bands; red, green and blue keep their kernels, any other band gets the mean of them, and all
are scaled by 3 / bands, so that an image that is the same in all bands has the response of pre-training. (timm's own
rule repeats the kernels in the order R, G, B, R, … whatever the bands are, with the same scale.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Subset:
    """Each band has its own kernel.

    Attributes:
        conv: path of the convolution.
        have: bands of the checkpoint, in its order; "" for those that `adapteo.bands` has no name for.
        want: bands of the network, all among `have`.
    """

    conv: str
    have: tuple[str, ...]
    want: tuple[str, ...]

    def take(self, kernels: Tensor) -> Tensor:
        """Turn ``(d, have, k, k)`` into ``(d, want, k, k)``."""
        return kernels[:, _positions(self.have, self.want)]

    def give(self, kernels: Tensor) -> Tensor:
        """Turn ``(d, want, k, k)`` into ``(d, have, k, k)``, with zeros for what is not seen."""
        full = kernels.new_zeros(len(kernels), len(self.have), *kernels.shape[2:])
        full[:, _positions(self.have, self.want)] = kernels
        return full


@dataclass(frozen=True)
class Extended:
    """Bands that the checkpoint does not have get the mean of its kernels.

    Attributes:
        conv: path of the convolution.
        have: bands of the checkpoint, in its order.
        want: any bands.
    """

    conv: str
    have: tuple[str, ...]
    want: tuple[str, ...]

    def take(self, kernels: Tensor) -> Tensor:
        """Turn ``(d, have, k, k)`` into ``(d, want, k, k)``."""
        mean = kernels.mean(1)
        found = [kernels[:, self.have.index(band)] if band in self.have else mean for band in self.want]
        return torch.stack(found, dim=1) * (len(self.have) / len(self.want))

    def give(self, kernels: Tensor) -> Tensor:
        """Invert `take` when the bands are the same; otherwise the result has the bands of the network."""
        same = sorted(self.have) == sorted(self.want)
        return kernels[:, _positions(self.want, self.have)] if same else kernels


Kernel = Subset | Extended


def _positions(among: Sequence[str], bands: Sequence[str]) -> list[int]:
    return [among.index(band) for band in bands]
