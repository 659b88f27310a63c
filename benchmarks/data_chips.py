"""How many GeoTIFF chips are read in a second, in the second epoch, against a reader as TerraTorch's generic one?

    python -m benchmarks data_chips
    /path/of/terratorch's/python benchmarks/data_chips.py --terratorch     (its own reader, where it is installed)

128 deflate-compressed chips of 6 bands, 224 x 224 pixels, int16, with masks; batches of 8, two workers each. Rounds are
interleaved. "plain" opens each file with rasterio in a torch DataLoader with two processes, stacks and scales, as
`terratorch.datasets.GenericNonGeoSegmentationDataset` does with rioxarray; "decoded, disk" has no memory for samples,
so it maps them from the cache; "decoded, memory" is the default for a split that fits.

Goal: at least 20 times the generic reader (73 chips/s on an idle machine of two cores: 1,460).
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

CHIPS, BATCH, GOAL = 128, 8, 20.0


def main() -> None:
    """Print chips per second of each reader, and the ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--terratorch", action="store_true", help="read --folder with TerraTorch, and nothing else")
    parser.add_argument("--folder", type=Path, help="of chips that another call wrote; kept")
    options = parser.parse_args()
    if options.terratorch:
        _report({"terratorch": _measure({"terratorch": _terratorch(options.folder)}, options.rounds)["terratorch"]})
        return
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ADAPTEO_CACHE"] = str(Path(temporary) / "cache")
        root = options.folder or Path(temporary) / "chips"
        if not root.is_dir():
            root.mkdir(parents=True)
            _write(root)
        _report(_measure(_readers(root), options.rounds))


def _write(root: Path) -> None:
    from benchmarks.data_wait import write_chips

    write_chips(root, CHIPS)


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


def _measure(readers: dict[str, Callable[[], Iterable[object]]], rounds: int) -> dict[str, list[float]]:
    """Chips per second of each reader in each round, after an epoch that does not count."""
    found: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, epoch in readers.items():
            began = time.perf_counter()
            for _ in epoch():
                pass
            if number:
                found[name].append(CHIPS / (time.perf_counter() - began))
    return found


def _report(rates: dict[str, list[float]]) -> None:
    for name, found in rates.items():
        line = f"{name:16}{statistics.median(found):8.0f} chips/s   ({min(found):.0f} .. {max(found):.0f})"
        if "plain" in rates and name != "plain":
            ratios = [ours / theirs for ours, theirs in zip(found, rates["plain"], strict=True)]
            line += f"   {statistics.median(ratios):6.1f} x plain ({min(ratios):.1f} .. {max(ratios):.1f})"
        print(line, flush=True)
    if "plain" in rates:
        print(f"goal: decoded at least {GOAL:g} times the generic reader")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
