"""What a machine has: memory, here or in a GPU that is named, and how fast this one computes, from half a second.

A named GPU is one of `GPUS` or a size ("8GB"). Of its nominal memory a tenth is set aside for what fragmentation and
the driver take, and half a GiB for CUDA's own context and libraries.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F

from adapteo.config import Train
from adapteo.errors import ConfigError, closest
from adapteo.vit import Block

GIB = 2**30
GPUS = {  # GiB, from the vendor's data sheets
    "T4": 16, "V100": 16, "V100-32GB": 32, "P100": 16, "L4": 24, "L40S": 48, "A10": 24, "A16": 16, "A30": 24, "A40": 48,
    "A100": 40, "A100-80GB": 80, "H100": 80, "H200": 140, "B200": 180, "GH200": 96, "A4000": 16, "A5000": 24,
    "A6000": 48, "RTX2080Ti": 11, "RTX3060": 12, "RTX3070": 8, "RTX3080": 10, "RTX3090": 24, "RTX4060": 8,
    "RTX4070": 12, "RTX4080": 16, "RTX4090": 24, "RTX5070": 12, "RTX5080": 16, "RTX5090": 32,
}  # fmt: skip
_USABLE, _CONTEXT = 0.9, GIB // 2


@dataclass(frozen=True)
class Limit:
    """Memory that a training may take.

    Attributes:
        bytes: that are usable; None when nothing tells.
        name: of the machine or GPU, for people.
        gpu: whether it is one.
        here: whether it is in this machine, so that times can be told.
    """

    bytes: int | None
    name: str
    gpu: bool
    here: bool = True


@dataclass(frozen=True)
class Speed:
    """What this machine does in a second, in a single process.

    Attributes:
        products: operations of a transformer block, with all that is around its products.
        convolutions: operations of a convolution.
        moved: bytes read or written.
    """

    products: float
    convolutions: float
    moved: float


def limit(train: Train, gpu: str | None = None) -> Limit:
    """Find the memory for a training.

    Args:
        train: says which device it asks for.
        gpu: a name of `GPUS`, or a size such as "8GB"; None for what this machine has free now.

    Raises:
        ConfigError: no such GPU.
    """
    if gpu is not None:
        size = _named(gpu)
        return Limit(int(size * GIB * _USABLE) - _CONTEXT, f"a GPU of {size:g} GB", gpu=True, here=False)
    if train.accelerator in ("auto", "cuda") and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return Limit(int(free * (1 + _USABLE) / 2), torch.cuda.get_device_name(), gpu=True)
    return Limit(available(), "this machine", gpu=False)


def _named(gpu: str) -> float:
    size = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:GI?B)?\s*", gpu, re.IGNORECASE)
    if size and float(size[1]) >= 1:
        return float(size[1])
    plain = {_plain(name): gigabytes for name, gigabytes in GPUS.items()}
    if _plain(gpu) not in plain:
        raise ConfigError(f"--gpu '{gpu}' is no GPU that is known{closest(gpu, GPUS)}", allowed=["8GB", *GPUS])
    return plain[_plain(gpu)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]|nvidia|geforce|quadro", "", name.lower())


def available() -> int | None:
    """Bytes of main memory that are free for a process, as the system and its control group say."""
    found = []
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.is_file():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    most, used = (group / f"memory.{name}" for name in ("max", "current"))
    if most.is_file() and used.is_file() and (text := most.read_text().strip()) != "max":
        found.append(max(0, int(text) - int(used.read_text())))
    if not found and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # macOS tells no more than what it has
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found, default=None)


@lru_cache(maxsize=4)
def speed(device: str, precision: str) -> Speed:
    """Measure, once for each process: about half a second.

    Args:
        device: "cpu", "cuda" or "mps".
        precision: as in `Train`.
    """
    images, tokens, width, side = (1, 197, 384, 64) if device == "cpu" else (16, 1024, 1024, 256)
    block = Block(width, width // 64).to(device)
    x = torch.rand(images, tokens, width, device=device, requires_grad=True)
    kernel = torch.rand(64, 64, 3, 3, device=device, requires_grad=True)
    maps = torch.rand(images, 64, side, side, device=device, requires_grad=True)
    memory = torch.rand(2**23, device=device)

    def step(compute: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                out = compute()
            out.float().sum().backward()

        return run

    def copy() -> None:
        memory.clone()

    per_token = 24 * width**2 + 4 * tokens * width  # operations forward; a matrix product's backward takes twice them
    products = 3 * images * tokens * per_token / _fastest(step(lambda: block(x)), device)
    convolved = 3 * 2 * images * side**2 * 64**2 * 9
    convolutions = convolved / _fastest(step(lambda: F.conv2d(maps, kernel, padding=1)), device)
    return Speed(products, convolutions, 2 * memory.nbytes / _fastest(copy, device))


def _fastest(run: Callable[[], None], device: str, seconds: float = 0.15) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    times = list[float]()
    while len(times) < 2 or (sum(times) < seconds and len(times) < 50):
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:])
