"""The ways to train that a plan compares, and what to change when none fits."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from adapteo import machine, registry
from adapteo.config import Run, Train, name_of
from adapteo.contracts import Method
from adapteo.errors import ConfigError
from adapteo.lean import Memory
from adapteo.machine import Limit
from adapteo.plan._need import Need, Planner, UntraceableError
from adapteo.quantise import coarser

_MEMORIES: tuple[Memory, ...] = ("fast", "lean", "leanest")
_STATES = ("weights", "gradients", "optimiser")
_WEIGHTS_MATTER = 0.25  # of the peak; below, a trunk in fewer bytes is no help worth a line


@dataclass(frozen=True)
class Plan:
    """Of a run.

    Attributes:
        run: the configuration.
        limit: of the memory.
        needs: the configuration as it is, then full fine-tuning and what is cheaper.
        advice: of the changes that were tried, the mildest that fits; None when the run does, or none does.
        samples, size: number and size (height, width) of training images.
    """

    run: Run
    limit: Limit
    needs: tuple[Need, ...]
    advice: Need | None
    samples: int
    size: tuple[int, int]

    @property
    def fits(self) -> bool | None:
        """Whether the configuration does; None when the memory is not known."""
        return fits(self.needs[0], self.limit)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "limit": asdict(self.limit), "samples": self.samples, "size": list(self.size), "fits": self.fits,
            "needs": [{**need.as_dict(), "fits": fits(need, self.limit)} for need in self.needs],
            "advice": None if self.advice is None else self.advice.as_dict(),
        }  # fmt: skip


def fits(need: Need, limit: Limit) -> bool | None:
    """Whether the memory suffices; None when it is not known."""
    return None if limit.bytes is None else need.peak <= limit.bytes


def make(run: Run, gpu: str | None = None) -> Plan:
    """Plan a run.

    Args:
        run: the configuration.
        gpu: see `adapteo.machine.limit`; None for this machine.

    Raises:
        ConfigError: no such GPU, or the parts of the run do not fit together.
        DataError: when no training image can be read.
    """
    limit = machine.limit(run.train, gpu)
    planner = Planner(run, limit)
    first = _chosen(planner)
    needs = [first, *_others(planner, first)]
    advice = None if fits(needs[0], limit) is not False else _advice(planner)
    height, width = planner.shapes.example.images.shape[-2:]
    return Plan(run, limit, tuple(needs), advice, planner.shapes.samples, (height, width))


@dataclass(frozen=True)
class Settled:
    """What was planned for a run that is about to train.

    Attributes:
        memory: its ``train.memory``, chosen where that is "auto".
        need: what it will take, as plain values; None for a model that cannot be planned.
        note: what a person should know before, or "".
    """

    memory: Memory
    need: dict[str, Any] | None
    note: str = ""


def settle(run: Run) -> Settled:
    """Plan a run that is about to train.

    Raises:
        ConfigError: the method does not work with the backbone.
        DataError: when no training image can be read.
    """
    limit, asked = machine.limit(run.train), run.train.memory
    try:
        need = _chosen(Planner(run, limit))
    except UntraceableError as error:
        return Settled("lean" if asked == "auto" else asked, None, f"there is no plan: {error.problem}")
    memory = next(each for each in _MEMORIES if each == asked or f"train.memory={each}" in need.changes)
    if fits(need, limit) is not False:
        return Settled(memory, need.as_dict())
    peak, usable = need.peak / machine.GIB, (limit.bytes or 0) / machine.GIB
    note = (
        f"{limit.name} has {usable:.2f} GiB free, and this needs about {peak:.2f}: `adapteo plan` says what to change"
    )
    return Settled(memory, need.as_dict(), note)


def _chosen(planner: Planner) -> Need:
    """The configuration as it is; with "auto" the first memory that fits, else the last."""
    run, name = planner.run, name_of(planner.run.method)
    if run.train.memory != "auto":
        return planner.need(name)
    for memory in _MEMORIES:
        need = planner.need(f"{name}, {memory}", (f"train.memory={memory}",), memory=memory)
        if fits(need, planner.limit) is not False:
            break
    return need


def _others(planner: Planner, first: Need) -> Iterator[Need]:
    """Full fine-tuning, and what is cheaper, where the method and the backbone allow it."""
    run, mine = planner.run, name_of(planner.run.method)
    if run.train.memory not in ("leanest", "auto") and planner.recomputes():
        yield planner.need(f"{mine}, leanest", ("train.memory=leanest",), memory="leanest")
    if run.train.batch > run.train.devices:
        yield _halved(run.train, first)
    if planner.limit.gpu and run.train.precision == "fp32":
        yield planner.need(f"{mine}, bf16", ("train.precision=bf16",), precision="bf16")
    if first.memory["weights"] >= _WEIGHTS_MATTER * first.peak and not fits(first, planner.limit):
        with suppress(ConfigError):  # nothing is frozen
            for kind in coarser(run.train.trunk):
                yield planner.coarser(first, kind)
    for name in ("full", "lora", "last_k", "frozen"):
        if name != mine:
            with suppress(ConfigError):  # not every method works on every backbone
                yield planner.need(name, (f"method={name}",), method=_method(name))


def _halved(train: Train, need: Need) -> Need:
    """Half the batch in twice as many pieces: what is kept for backward halves, and gradients stay all the time."""
    share = (train.batch // 2) / train.batch
    changes = _written(_smaller(train, train.batch // 2))
    parts = {key: value if key in _STATES else int(value * share) for key, value in need.memory.items()}
    lasting = need.memory["weights"] + need.memory["optimiser"]
    peak = lasting + need.memory["gradients"] + int(max(0, need.peak - lasting) * share)
    name = ", ".join([need.name, *(change.removeprefix("train.") for change in changes)])
    images = -(-(train.batch // 2) // train.devices)
    return replace(need, name=name, changes=(*need.changes, *changes), memory=parts, peak=peak, images=images)


def _smaller(train: Train, batch: int) -> dict[str, int]:
    """Keys of `train` for fewer images at once, and as many more batches per step."""
    return {"batch": batch, "accumulate": -(-train.batch * train.accumulate // batch)}


def _written(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of `train` as overrides."""
    return tuple(f"train.{key}={value}" for key, value in given.items())


def _method(name: str) -> Method:
    made: Method = registry.load("methods", name)()
    return made


def _with_batch(planner: Planner, batch: int, method: Method, **given: Any) -> Need:
    """Fewer images at once, and as many more batches per step."""
    train = planner.run.train
    if batch != train.batch:
        given |= _smaller(train, batch)
    changes = [*_written(given)]
    if method != planner.run.method:
        changes.insert(0, f"method={name_of(method)}")
    name = ", ".join([name_of(method), *(change.removeprefix("train.") for change in changes if "train." in change)])
    return planner.need(name, tuple(changes), method=method, **given)


def _advice(planner: Planner) -> Need | None:
    """The mildest change that fits.

    That is the same gradients, the same in smaller batches, the trunk in fewer bytes, another method, smaller images.
    """
    run = planner.run
    given: dict[str, Any] = {"memory": "leanest"} if planner.recomputes() and run.train.memory != "leanest" else {}
    methods = [run.method, *(_method(name) for name in ("lora", "frozen") if name != name_of(run.method))]
    for method in methods:
        with suppress(ConfigError):
            frozen = name_of(method) == "frozen"  # sends no gradients through blocks
            if (found := _with_any_trunk(planner, method, {} if frozen else given)) is not None:
                return found
    height, width = planner.shapes.example.images.shape[-2:]
    side = min(height, width)
    for crop in (side // 2, side // 4):
        crop -= crop % planner.multiple
        if crop > 0:
            smaller = Planner(replace(run, train=replace(run.train, crop=crop)), planner.limit)
            found = _fitting(smaller, run.method, given)
            if fits(found, planner.limit):
                return replace(found, changes=(*found.changes, f"train.crop={crop}"))
    return None


def _with_any_trunk(planner: Planner, method: Method, given: dict[str, Any]) -> Need | None:
    """With the trunk as it is, or held as coarsely as is needed."""
    first = need = _fitting(planner, method, given)
    for kind in coarser(planner.run.train.trunk):
        if fits(need, planner.limit):
            break
        if first.peak - first.memory["weights"] <= (planner.limit.bytes or 0):  # else no kind is small enough
            need = _fitting(planner, method, {**given, "trunk": kind})
    return need if fits(need, planner.limit) else None


def _fitting(planner: Planner, method: Method, given: dict[str, Any]) -> Need:
    """The largest batch that fits, by halves; the smallest that was tried where none does."""
    batch = planner.run.train.batch
    need = _with_batch(planner, batch, method, **given)
    fixed = need.memory["weights"] + need.memory["gradients"] + need.memory["optimiser"]
    per_image = max(0, need.peak - fixed) / need.images
    while fits(need, planner.limit) is False:
        smaller = [batch // 2**i for i in range(1, 20) if batch // 2**i >= planner.run.train.devices]
        likely = [b for b in smaller if fixed + per_image * b / planner.run.train.devices <= (planner.limit.bytes or 0)]
        if not smaller:
            break
        batch = likely[0] if likely else smaller[-1]
        need = _with_batch(planner, batch, method, **given)
    return need
