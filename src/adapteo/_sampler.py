"""What to try next, by Optuna: a function of the trials before.

Tree-structured Parzen estimator (Bergstra et al. 2011). Where several are tried at once, those of the same round whose
value is not known yet count as bad ones, so that the next goes elsewhere (the constant liar: Ginsbourger, Le Riche and
Carraro 2010).
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

from adapteo.errors import ConfigError
from adapteo.search_space import Choice, Range, Space, Value, Values

COMPLETE, FAILED, PRUNED = "complete", "failed", "pruned"
"""States of a trial that has ended."""
Trial = dict[str, Any]
"""``values``; of a finished one ``state`` and ``seconds`` too, and ``value`` with other facts, or why it failed."""
_SEED = 2504
_BEFORE_PRUNING = 4  # trials that come to an end before any is ended


@dataclass(frozen=True)
class Sampler:
    """Proposes points of a space.

    Attributes:
        space: what may be tried.
        maximise: whether higher values are better.
    """

    space: Space
    maximise: bool = False

    def draw(self, before: Sequence[Trial], number: int, pending: Sequence[Values]) -> Values:
        """A point for a trial.

        Args:
            before: finished trials.
            number: decides, with them, about the point.
            pending: values of trials that have begun.

        Raises:
            ConfigError: Optuna is not installed.
        """
        optuna = load_optuna()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the liar, since 2021
            sampler = optuna.samplers.TPESampler(seed=_SEED + number, constant_liar=bool(pending))
        study = self._study(optuna, before, sampler)
        for values in pending:
            study.add_trial(self._frozen(optuna, values, optuna.trial.TrialState.RUNNING))
        params = study.ask(_distributions(optuna, self.space)).params
        return {name: _value(part, params[name]) for name, part in self.space.items()}

    def _study(self, optuna: ModuleType, before: Sequence[Trial], sampler: Any) -> Any:
        """A study of the trials before."""
        direction = "maximize" if self.maximise else "minimize"
        study, states = optuna.create_study(sampler=sampler, direction=direction), optuna.trial.TrialState
        state = {COMPLETE: states.COMPLETE, FAILED: states.FAIL, PRUNED: states.PRUNED}
        for trial in before:
            facts = {
                "value": trial.get("value") if trial["state"] == COMPLETE else None,
                "intermediate_values": _known(trial.get("course", ())),
            }
            study.add_trial(self._frozen(optuna, trial["values"], state[trial["state"]], facts))
        return study

    def _frozen(
        self, optuna: ModuleType, values: Values, state: Any, facts: Mapping[str, Any] = MappingProxyType({})
    ) -> Any:
        """A trial as Optuna has it."""
        params = {name: _param(part, values[name]) for name, part in self.space.items()}
        return optuna.trial.create_trial(
            params=params, distributions=_distributions(optuna, self.space), state=state, **facts
        )

    def hopeless(self, before: Sequence[Trial], course: Sequence[float], warmup: int) -> bool:
        """Whether a trial is to be ended: it is worse than the median of those before it at the same epoch.

        Args:
            before: finished trials, with their ``course``: the value after each epoch, from 0 on.
            course: of this one, so far.
            warmup: epochs in which no trial is ended.
        """
        optuna = load_optuna()
        study = self._study(optuna, before, optuna.samplers.RandomSampler(seed=_SEED))
        running = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=_known(course))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=warmup)
        return bool(pruner.prune(study, running))


def load_optuna() -> ModuleType:
    """Import Optuna, and keep it quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("the search needs optuna", fix="run: pip install 'adapteo[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module: ModuleType = optuna
    return module


def _known(course: Sequence[float | None]) -> dict[int, float]:
    """Values by epoch, without those that are no number."""
    return {epoch: value for epoch, value in enumerate(course) if value is not None and math.isfinite(value)}


def _distributions(optuna: ModuleType, space: Space) -> dict[str, Any]:
    """The space in Optuna's terms; choices by their place, as lists are no choices there."""
    made = {}
    for name, part in space.items():
        if isinstance(part, Choice):
            made[name] = optuna.distributions.CategoricalDistribution(range(len(part.options)))
        elif part.whole:
            made[name] = optuna.distributions.IntDistribution(int(part.low), int(part.high), log=part.low > 0)
        else:
            made[name] = optuna.distributions.FloatDistribution(part.low, part.high, log=part.low > 0)
    return made


def _value(part: Range | Choice, param: Any) -> Value:
    return part.options[param] if isinstance(part, Choice) else param


def _param(part: Range | Choice, value: Any) -> Any:
    return part.options.index(value) if isinstance(part, Choice) else value
