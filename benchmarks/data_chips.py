"""How many GeoTIFF chips are read in a second, in the second epoch, against a reader as TerraTorch's generic one?

    python -m benchmarks data_chips

128 deflate-compressed chips of 6 bands, 224 x 224 pixels, int16, with masks; batches of 8, two workers each. Rounds are
interleaved. "plain" opens each file with rasterio in a torch DataLoader with two processes, stacks and scales, as
`terratorch.datasets.GenericNonGeoSegmentationDataset` does with rioxarray; "terratorch" is that one itself, where it is
installed; "decoded, disk" has no memory for samples,
so it maps them from the cache; "decoded, memory" is the default for a split that fits.

Goal: at least 20 times the generic reader (73 chips/s on an idle machine of two cores: 1,460).
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks._counting import in_turns
from benchmarks._peers import terratorch
from benchmarks._rows import Goal, Row, Skipped, Spread, arguments, tell
from benchmarks.data_wait import write_chips

CHIPS, BATCH, GOAL = 128, 8, Goal(20.0, least=True)
PEERS = ("plain", "terratorch")


def measured(options: argparse.Namespace) -> Iterator[Row | Skipped]:
    """Chips per second of each reader, and ours beside the generic ones."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ADAPTEO_CACHE"] = str(Path(temporary) / "cache")
        root = Path(temporary) / "chips"
        root.mkdir()
        write_chips(root, options.chips)
        readers = _readers(root)
        if (missing := terratorch()) is None:
            readers["terratorch"] = _terratorch(root)
        else:
            yield missing
        times = in_turns(
            {name: lambda epoch=epoch: _exhaust(epoch()) for name, epoch in readers.items()}, options.rounds
        )
    for name, found in times.items():
        rates = [options.chips / each for each in found]
        yield Row(name, "rate", options.chips / min(found), "chips/s", spread=Spread.of(rates))
    for peer in [name for name in PEERS if name in times]:
        for name in [name for name in times if name not in PEERS]:
            faster = [theirs / ours for ours, theirs in zip(times[name], times[peer], strict=True)]
            goal = GOAL if name.startswith("decoded") else None
            value = min(times[peer]) / min(times[name])
            yield Row(f"{name} / {peer}", "rate", value, "ratio", goal, Spread.of(faster))


def _exhaust(epoch: Iterable[object]) -> None:
    for _ in epoch:
        pass


def _readers(root: Path) -> dict[str, Callable[[], Iterable[object]]]:
    from adapteo.data.folder import Folder
    from adapteo.data.loader import Loader, Reading

    dataset = Folder(str(root), "*_image.tif", "*_mask.tif", class_names=("land", "water"), scale=1e-4)
    keys = tuple(dataset._chips)
    found: dict[str, Callable[[], Iterable[object]]] = {"plain": _plain(root)}
    for name, reading in (
        ("each time", Reading(2, memory=0.0, disk=0.0)),
        ("decoded, disk", Reading(2, memory=0.0, disk=1.0)),
        ("decoded, memory", Reading(2, memory=1.0)),
    ):
        loader = Loader(dataset, keys, BATCH, bands=dataset.bands, shuffle=0, reading=reading)
        found[name] = lambda loader=loader: loader.epoch(0)
    return found


def _plain(root: Path) -> Callable[[], Iterable[object]]:
    import numpy as np
    import rasterio
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Plain(Dataset):
        """Opens both files each time, as whole arrays; channels last, then first, as transforms want them."""

        images = sorted(root.glob("*_image.tif"))

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            path = self.images[index]
            with rasterio.open(path) as file:
                image = np.moveaxis(file.read(masked=True).filled(0), 0, -1).astype(np.float32) * 1e-4
            with rasterio.open(str(path).replace("_image", "_mask")) as file:
                mask = file.read(1).astype(np.int64)
            return {"image": torch.from_numpy(np.moveaxis(image, -1, 0).copy()), "mask": torch.from_numpy(mask)}

    loader = DataLoader(Plain(), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return lambda: loader


def _terratorch(root: Path) -> Callable[[], Iterable[object]]:
    import albumentations
    from albumentations.pytorch import ToTensorV2
    from terratorch.datasets import GenericNonGeoSegmentationDataset
    from torch.utils.data import DataLoader

    dataset = GenericNonGeoSegmentationDataset(
        root, num_classes=2, label_data_root=root, image_grep="*_image.tif", label_grep="*_mask.tif",
        constant_scale=1e-4, transform=albumentations.Compose([ToTensorV2()]),
    )  # fmt: skip
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return lambda: loader


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--chips", type=int, default=CHIPS)
    options = parser.parse_args(given)
    if options.quick:
        options.rounds, options.chips = 1, 8
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()
