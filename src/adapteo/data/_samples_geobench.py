"""A small stand-in for GEO-Bench 1.0, file by file as the benchmark lays it out, filled with synthetic scenes."""

import json
import pickle
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from adapteo.bands import BY_NAME
from adapteo.data._geobench_sets import SETS, BenchSet
from adapteo.data._regions import REGIONS
from adapteo.data._sample_scenes import land
from adapteo.errors import ConfigError

_SPLITS = ("train", "valid", "test")
_DATES = (date(2019, 11, 15), date(2020, 1, 9), date(2020, 2, 28))
_UNUSED = {
    "m-cashew-plant": ("Cloud Probability",),
    "m-SA-crop-type": ("Cloud Probability",),
    "m-brick-kiln": ("10 - SWIR - Cirrus", "11 - SWIR", "12 - SWIR"),
    "m-so2sat": ("01 - VH.Real", "02 - VH.Imaginary", "03 - VV.Real", "04 - VV.Imaginary",
                 "07 - VH.LEE Filtered.Real", "08 - VV.LEE Filtered.Imaginary"),
}  # fmt: skip
"""What the files hold beside the bands that are read."""
_INT16 = ("m-eurosat", "m-SA-crop-type")
_UTM = (
    'PROJCS["WGS 84 / UTM zone 29N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-9],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


def write(
    folder: Path, *, per_split: int = 2, side: int = 32, seed: int = 0, subsets: Sequence[str] = tuple(SETS)
) -> None:
    """Write ``<folder>/<collection>/<set>/`` with its samples, partitions and band statistics.

    Args:
        folder: ``root`` of the dataset `adapteo.data.geobench`.
        per_split: samples in each of train, valid and test.
        side: pixels of an image, for all sets.
        seed: of everything.
        subsets: which sets.

    Raises:
        ConfigError: h5py is not installed.
    """
    for name in subsets:
        place = Path(folder) / SETS[name].folder / name
        place.mkdir(parents=True, exist_ok=True)
        partition: dict[str, list[str]] = {}
        stored: dict[str, list[np.ndarray]] = {}
        for part, split in enumerate(_SPLITS):
            partition[split] = []
            for i in range(per_split):
                key, day = _name(name, part * per_split + i)
                arrays = _write_sample(place / f"{key}.hdf5", name, (seed, list(SETS).index(name), part, i), side, day)
                partition[split].append(key)
                if split == "train":
                    for band, array in arrays.items():
                        stored.setdefault(band, []).append(array)
        statistics = {
            band: {"mean": float(np.mean(arrays)), "std": float(np.std(arrays))} for band, arrays in stored.items()
        }
        (place / "band_stats.json").write_text(json.dumps(statistics), encoding="utf-8")
        half = partition | {"train": partition["train"][: max(1, per_split // 2)]}
        for share, content in {"default": partition, "1.00x_train": partition, "0.50x_train": half}.items():
            (place / f"{share}_partition.json").write_text(json.dumps(content), encoding="utf-8")


def _name(subset: str, number: int) -> tuple[str, date | None]:
    """Name and date of the n-th sample, in the form of the set."""
    if subset == "m-cashew-plant":
        return f"sample_{number // 2 * 25 + number % 2}", _DATES[number % 2]
    if subset == "m-SA-crop-type":
        return f"ref_south_africa_crops_competition_v1_train_labels_{number // 2:04d}_{number % 2}", None
    if subset == "m-forestnet":
        day = (date(2015, 6, 1), date(2016, 1, 1))[number % 2]
        return f"{-0.5 - number / 8:.3f}_{110.25 + number / 8:.3f}_{day:%Y_%m_%d}", day
    if subset in ("m-pv4ger", "m-pv4ger-seg"):
        lat, lon = 51.25 + number / 64, 7.0625 + number / 64
        return (f"{lat:.6f},{lon:.6f}" if number % 2 else f"{lon:.6f},{lat:.6f}"), None
    if subset == "m-nz-cattle":
        region, year = (("Hamilton", "2016-2017"), ("Kapiti_Coast", "2017"))[number % 2]
        return f"{number:03d}_{region}_({year})_{175.25 + number / 64:.6f},{-37.75 - number / 64:.6f}", date(2017, 1, 1)
    if subset == "m-NeonTree":
        return f"2018_{('SJER', 'TEAK')[number % 2]}_3_252000_4104000_image_{number}", None
    return (f"examples_{number // 2}_{number % 2}" if subset == "m-brick-kiln" else f"id_{number:04d}"), None


def _write_sample(
    path: Path, subset: str, entropy: tuple[int, ...], side: int, day: date | None
) -> dict[str, np.ndarray]:
    """Write one HDF5 file; return its arrays by the names of the band statistics."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("writing HDF5 files needs h5py", fix="run: pip install 'adapteo[geobench]'") from error
    facts = SETS[subset]
    image, cover, _ = land(entropy, list(REGIONS)[entropy[-1] % len(REGIONS)], side, facts.bands)
    arrays = {key: _stored(image[i], band, subset) for i, (band, key) in enumerate(facts.keys.items())}
    for key in _UNUSED.get(subset, ()):
        arrays[key] = np.zeros((side, side), next(iter(arrays.values())).dtype)
    if subset == "m-NeonTree":
        arrays["Canopy Height Model"] = np.zeros((max(1, side // 10), max(1, side // 10), 1), np.float32)
        arrays["Neon"] = np.zeros((max(1, side // 10), max(1, side // 10), 369), np.int16)
    suffix = f"_{day:%Y-%m-%d}" if day else ""
    label: np.ndarray | int | None = None
    if facts.task == "classification":
        label = int(entropy[-1] + entropy[-2]) % len(facts.classes)
    elif facts.task == "multilabel":
        label = np.isin(np.arange(len(facts.classes)), np.unique(cover)).astype(np.int64)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key + suffix, data=array)
        if facts.task == "segmentation":
            mask = cover % len(facts.classes)
            file.create_dataset("label" + (suffix if facts.placeholder else ""), data=mask)
        file.attrs["pickle"] = str(pickle.dumps(_notes(label, arrays, facts, entropy, suffix), protocol=4))
    return arrays


def _stored(band: np.ndarray, name: str, subset: str) -> np.ndarray:
    """From physical to stored values ``(h, w)``, in the type of the set."""
    scale = SETS[subset].scale
    if scale == 1.0 or BY_NAME[name].kind == "radar":
        return band.astype(np.float32)
    kind = np.int16 if subset in _INT16 else np.float32 if scale == 1e-4 else np.uint8
    return np.round(np.clip(band, 0, 1) / scale).astype(kind)


def _notes(
    label: np.ndarray | int | None,
    arrays: dict[str, np.ndarray],
    facts: BenchSet,
    entropy: tuple[int, ...],
    suffix: str,
) -> dict[str, object]:
    """What the attribute "pickle" of a file says: the label, then place and resolution of each band."""
    step = 8.0 * (entropy[-2] * 100 + entropy[-1])
    transform: tuple[float, ...] | None = None
    if facts.georeferenced and facts.task == "multilabel":
        transform, crs = (10.0, 0.0, 500_000.0 + 160 * step, 0.0, -10.0, 4_400_000.0), _UTM
    elif facts.georeferenced:
        transform, crs = (1e-4, 0.0, 90.0 + step / 1000, 0.0, -1e-4, 24.0), "EPSG:4326"
    place = {"transform": transform, "crs": crs if transform else None}
    notes: dict[str, object] = {} if label is None else {"label": label}
    notes |= {key + suffix: {"spatial_resolution": facts.gsd, "meta_info": None, **place} for key in arrays}
    return notes | {"bands_order": [key + suffix for key in arrays]}
