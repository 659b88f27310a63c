"""Random flips, quarter turns and resized crops, each a pure function of (seed, epoch, position of the sample).

No state is drawn on, so a resumed run, or one on more processes, sees exactly the same images. D4 is the symmetry group
of the square (8 elements); resized crops follow Szegedy et al. 2015 (arXiv 1409.4842) with the aspect ratio kept.
"""

from dataclasses import dataclass, replace

import numpy as np

from adapteo.contracts import Sample
from adapteo.errors import ConfigError


@dataclass(frozen=True)
class Augment:
    """What may happen to a training sample.

    Attributes:
        d4: flips and quarter turns; an image that is not square is flipped and turned by a half only.
        crop: side in pixels of the random window that is returned; None for the image's own size.
        zoom: smallest and largest magnification of the window; (1, 1) for none. 0.8 shows 1.25 times as much.
    """

    d4: bool = True
    crop: int | None = None
    zoom: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse an empty window or range.

        Raises:
            ConfigError: names the value.
        """
        if self.crop is not None and self.crop < 1:
            raise ConfigError(f"crop is {self.crop}", allowed=["1 or more pixels"])
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ConfigError(f"zoom is {self.zoom}", allowed=["two positive numbers, the smaller one first"])

    def __call__(self, sample: Sample, seed: int, epoch: int, position: int) -> Sample:
        """Return a changed sample; missing pixels and `IGNORE` stay what they are, and labels are never mixed.

        Flips and turns are views, which are carried out as the sample is copied into its batch.

        Args:
            sample: as read.
            seed: of the run.
            epoch: number of the pass over the data.
            position: of the sample in the training split.
        """
        zoom, (row, col), turn = self._draw(seed, epoch, position)
        image, mask = sample.image, _mask(sample)
        if self.crop is not None or zoom != 1.0:
            image, mask = self._window(image, mask, zoom, (row, col))
        if self.d4:
            image = dihedral(image, turn)
            mask = None if mask is None else dihedral(mask, turn)
        return replace(sample, image=image, target=sample.target if mask is None else mask)

    @property
    def whole(self) -> bool:
        """Whether samples keep all of their pixels, so that each has 8 looks at most."""
        return self.crop is None and self.zoom == (1.0, 1.0)

    def element(self, seed: int, epoch: int, position: int) -> int:
        """The element of D4 (see `dihedral`) that a call with these arguments applies."""
        return self._draw(seed, epoch, position)[2] if self.d4 else 0

    def _draw(self, seed: int, epoch: int, position: int) -> tuple[float, tuple[float, float], int]:
        """Magnification, place and element of D4 of a sample."""
        random = np.random.default_rng([seed, epoch, position])
        zoom = float(np.exp(random.uniform(*np.log(self.zoom))))
        row, col = random.random(2)
        return zoom, (float(row), float(col)), int(random.integers(8))

    def _window(
        self, image: np.ndarray, mask: np.ndarray | None, zoom: float, place: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Cut a window at a place (0..1 of the room there is) and bring it to its size."""
        height, width = image.shape[-2:]
        out = (self.crop or height, self.crop or width)
        # One factor for both sides keeps the aspect; the window must fit into the image.
        factor = min(1 / zoom, height / out[0], width / out[1])
        size = (max(1, round(out[0] * factor)), max(1, round(out[1] * factor)))
        top, left = (int(p * (n - m + 1)) for p, n, m in zip(place, (height, width), size, strict=True))
        window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
        image = resize(image[window], out)
        return image, None if mask is None else resize_nearest(mask[window], out)


def dihedral(array: np.ndarray, element: int) -> np.ndarray:
    """Apply one of the 8 elements of D4 to the last two axes; a view.

    Bit 0 flips left-right, bit 1 upside down, bit 2 transposes, unless that would change the shape.
    """
    if element & 4 and array.shape[-1] == array.shape[-2]:
        array = array.swapaxes(-1, -2)
    if element & 2:
        array = array[..., ::-1, :]
    return array[..., ::-1] if element & 1 else array


def resize(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resampling of the last two axes with pixel centres at (i + 1/2), edges repeated.

    A result is the weighted mean of the pixels that are there; it is NaN where less than half the weight is.
    """
    if array.shape[-2:] == size:
        return array
    missing = np.isnan(array)
    if not missing.any():
        return _bilinear(array, size)
    weight = _bilinear((~missing).astype(array.dtype), size)
    total = _bilinear(np.where(missing, 0, array), size)
    return np.where(weight >= 0.5, total / np.maximum(weight, 0.5), np.nan).astype(array.dtype)


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest pixel for the last two axes; no new values."""
    rows, cols = (
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
        for m, n in zip(size, array.shape[-2:], strict=True)
    )
    return array[..., rows[:, None], cols]


def _bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    for axis, m in ((-2, size[0]), (-1, size[1])):
        n = array.shape[axis]
        centre = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        low = centre.astype(int)
        weight = (centre - low).astype(array.dtype)
        weight = weight[:, None] if axis == -2 else weight
        before, after = array.take(low, axis), array.take(np.minimum(low + 1, n - 1), axis)
        array = before + (after - before) * weight
    return array


def _mask(sample: Sample) -> np.ndarray | None:
    """The target, where it is a picture."""
    return sample.target if sample.target is not None and sample.target.ndim == 2 else None
