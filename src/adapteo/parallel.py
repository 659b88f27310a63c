"""Whether this is one of several processes that train together, and that what it computes now is its own affair."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch.distributed as dist

_ALONE = ContextVar("adapteo_alone", default=False)


def several_processes() -> bool:
    """Whether other processes compute the same now, so that this one may wait for them."""
    return not _ALONE.get() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, nothing waits for other processes: what one of them plans, the others do not compute."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)
