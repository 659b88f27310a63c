"""The methods of a tuning, each with what of the space is its own."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from adapteo import config
from adapteo.checkpoint import RANDOM
from adapteo.config import Run
from adapteo.contracts import Composition, Method
from adapteo.errors import ConfigError
from adapteo.search_space import Choice, Range, Space, Value, Values, points
from adapteo.tuning._space import RATE

SCRATCH = "scratch"
"""In place of a method: full training from random weights, without a head start."""
PROBE = "linear probe"


@dataclass(frozen=True)
class Arm:
    """A method with its search.

    Attributes:
        name: as asked for.
        base: its run before the search changes anything.
        space: what is searched; empty when there is nothing.
        fixed: values of keys that have only one.
    """

    name: str
    base: Run
    space: Space
    fixed: Values

    @property
    def folder(self) -> str:
        """A folder's name for it."""
        return re.sub(r"[^\w.+-]+", "_", self.name)

    def run(self, values: Values, out: Path, seed: int | None = None) -> Run:
        """The run of a point of the space.

        Raises:
            ConfigError: a value does not fit.
        """
        given = {**self.fixed, **values}
        texts = [f"{key}={json.dumps(given[key])}" for key in sorted(given, key=lambda key: key.count("."))]
        made = config.load(vars(self.base), texts)
        return replace(made, out=out, train=made.train if seed is None else replace(made.train, seed=seed))

    def usual(self) -> Values:
        """The point of the space that the configuration is at, or next to: what a search begins with."""
        return {key: _nearest(part, self._now(key)) for key, part in self.space.items()}

    def _now(self, key: str) -> Any:
        """What the configuration has under a key; of rates the method's own where there is none."""
        if key == RATE and self.base.train.rate is None:
            return self.base.method.default_rate
        section, _, name = key.partition(".")
        entry = vars(self.base)[section]
        return vars(entry).get(name) if name else config.name_of(entry)

    def plain(self) -> dict[str, Any]:
        """What decides the outcome of the search, for a file."""
        space = {key: {"kind": type(part).__name__.lower(), **vars(part)} for key, part in self.space.items()}
        return {"config": config.dump(replace(self.base, out=Path())), "space": space, "fixed": dict(self.fixed)}


def arms(base: Run, methods: Sequence[str], space: Space) -> list[Arm]:
    """Make the arms, and look whether all that may be tried can be read.

    Args:
        base: of the configuration.
        methods: names; "lora+ssf" for two that work together, `SCRATCH`; none for the configuration's own.
        space: what is searched; keys of methods that do not have them are left out.

    Raises:
        ConfigError: no such method, a key that none of them has, or a value that does not fit.
    """
    names = [name.strip() for name in methods] or [config.name_of(base.method)]
    twice = next((name for place, name in enumerate(names) if names.index(name) != place), None)
    if twice is not None:
        raise ConfigError(f"--methods has '{twice}' twice", fix="name each once")
    made = [_arm(base, name, space) for name in names]
    for key in space:
        if not any(key in arm.space or key in arm.fixed for arm in made):
            known = sorted({f"method.{f}" for arm in made for f in _keys(arm.base.method)})
            raise ConfigError(f"search '{key}': no method of this tuning has that key", allowed=known)
    for arm in made:
        for key, part in arm.space.items():
            for value in part.options if isinstance(part, Choice) else (part.low, part.high):
                whole = isinstance(part, Range) and part.whole
                arm.run({key: int(value) if whole else value}, base.out)  # type: ignore[arg-type]
    return made


def probe(base: Run) -> Arm:
    """The converged linear probe: a head start, of which nothing is searched."""
    texts = ["train.head_start=true", "train.epochs=1", "train.augment=none", "train.crop=null"]
    texts += [] if base.decoder.linear else ["decoder=linear"]
    return Arm(PROBE, config.load(vars(base), ["method=frozen", *texts]), {}, {})


def _arm(base: Run, name: str, space: Space) -> Arm:
    if name == SCRATCH:
        own = config.load(vars(base), ["method=full", f"backbone.weights={RANDOM}", "train.head_start=false"])
        keys = [key for key in space if key != "backbone.weights"]
    else:
        own = base if name == config.name_of(base.method) else config.load(vars(base), [_override(name)])
        keys = list(space)
    has = _keys(own.method)
    keys = [key for key in keys if not key.startswith("method.") or key.split(".")[1] in has]
    fixed = {key: part.options[0] for key in keys if isinstance(part := space[key], Choice) and len(part.options) == 1}
    arm = Arm(name, own, {key: space[key] for key in keys if key not in fixed}, fixed)
    arm.run({}, base.out)
    return arm


def _override(name: str) -> str:
    parts = [part.strip() for part in name.split("+")]
    return f"method={name}" if len(parts) == 1 else f"method={json.dumps(parts)}"


def _keys(method: Method) -> Mapping[str, object]:
    """Keys of a method; those of a composition have no names of their own."""
    return {} if isinstance(method, Composition) else {f.name: None for f in fields(method)}  # type: ignore[arg-type]


def budget(arm: Arm, trials: int) -> int:
    """Number of trials of an arm: fewer where its space has fewer points, none where nothing is searched."""
    count = points(arm.space) if arm.space else 0
    return trials if count is None else min(trials, count)


def _nearest(part: Range | Choice, now: Any) -> Value:
    if isinstance(part, Choice):
        now = list(now) if isinstance(now, tuple) else now
        return now if now in part.options else part.options[0]
    if not isinstance(now, int | float):
        now = part.low
    inside = min(max(now, part.low), part.high)
    return round(inside) if part.whole else float(inside)
