"""Every key of a checkpoint is accounted for: used, superfluous for a reason, or named in the error."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from adapteo.contracts import Remapped
from adapteo.errors import WeightsError, shorten


def account(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
    *,
    model: str,
    fix: str | Callable[[Mapping[str, Tensor]], str],
    rename: Callable[[str], str] = str,
    superfluous: Callable[[str], str] | None = None,
) -> Remapped:
    """Give every tensor of a checkpoint its place, or say what is wrong with all of them at once.

    Args:
        state: the checkpoint, with the keys of its file.
        expected: shape of each tensor that is needed, by the name that `rename` gives it.
        model: what the weights ought to be of, e.g. "Prithvi 2.0-300M"; for the message.
        fix: last line of the message; or a function of the renamed tensors, the unknown ones among them, that finds it
            out, for instance by recognising another variant.
        rename: turns a key of the file into a name of `expected`, e.g. takes the prefixes of trainers away.
        superfluous: why a renamed key is not needed, or ""; asked before anything else.

    Returns:
        The needed tensors by name, in the order of `expected`, and the keys of the file that were skipped.

    Raises:
        WeightsError: in at most five lines, the keys that are missing, unknown (or there twice) or of another shape.
    """
    given: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    unknown = []
    for key, value in state.items():
        name = rename(key)
        if superfluous is not None and (reason := superfluous(name)):
            skipped[key] = reason
            continue
        if name not in expected or name in given:
            unknown.append(key)
        given.setdefault(name, value)
    wrong = {
        "missing": [name for name in expected if name not in given],
        "unknown": unknown,
        "of another shape": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(shape)}"
            for name, shape in expected.items()
            if name in given and tuple(given[name].shape) != tuple(shape)
        ],
    }
    if any(wrong.values()):
        lists = [f"{what} ({len(keys)}): {shorten(', '.join(keys))}" for what, keys in wrong.items() if keys]
        raise WeightsError(
            "\n".join([f"these weights do not fit {model}", *lists]), fix=fix if isinstance(fix, str) else fix(given)
        )
    return Remapped({name: given[name] for name in expected}, skipped)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor in the state dict of a module."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


_COUNTER = "num_batches_tracked"
_WRAPPERS = ("module", "model", "backbone", "encoder")


def without_prefixes(key: str) -> str:
    """Take away what trainers (``module.``, ``model.``) and models (``backbone.``, smp's ``encoder.``) put before."""
    while (head := key.partition(".")[0]) in _WRAPPERS:
        key = key.removeprefix(f"{head}.")
    return key


def with_counters(state: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Add zeros for BatchNorm's counters of batches, which some files leave out and nothing depends on.

    Args:
        state: a checkpoint.
        expected: the names it ought to have, without prefixes.
    """
    given = {without_prefixes(key) for key in state}
    lacking = (name for name in expected if name.endswith(_COUNTER) and name not in given)
    return {**state, **{name: torch.tensor(0) for name in lacking}}
