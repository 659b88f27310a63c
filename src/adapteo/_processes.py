"""The processes of a run: started, stopped by a signal between two steps, and failing together."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Literal

import torch.distributed as dist

from adapteo.config import Train
from adapteo.errors import AdaptEOError, ConfigError, Interrupted

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def launch(train: Train) -> "Fabric":
    """Set up devices, precision and processes.

    Raises:
        ConfigError: when the machine has no such device.
    """
    from lightning_fabric import Fabric

    for name in ("lightning_fabric", "lightning.fabric"):  # what it says about itself is no news to the user
        logging.getLogger(name).setLevel(logging.WARNING)
    precision: Literal["32-true", "bf16-mixed"] = "32-true" if train.precision == "fp32" else "bf16-mixed"
    strategy = "ddp" if train.devices > 1 else "auto"
    accelerator = "gpu" if train.accelerator == "cuda" else train.accelerator
    try:
        fabric = Fabric(accelerator=accelerator, devices=train.devices, strategy=strategy, precision=precision)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"train.accelerator '{train.accelerator}' with {train.devices} devices: {reason}") from error
    fabric.launch()
    return fabric


@contextlib.contextmanager
def together(fabric: "Fabric") -> Iterator[None]:
    """Say so when a run fails here only because another of its processes did; release what the processes share."""
    try:
        yield
    except Interrupted as stopped:
        if fabric.is_global_zero:
            raise
        raise SystemExit(130) from stopped  # one message is enough
    except RuntimeError as error:
        if fabric.world_size > 1 and any(word in str(error) for word in ("gloo", "NCCL", "Connection", "Broken pipe")):
            raise AdaptEOError("another process of this run has failed; its message is beside this one") from error
        raise
    if dist.is_initialized():  # not after a failure, when this would wait for processes that are gone
        dist.destroy_process_group()


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set an event, so that the running step can end; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
