"""Fair comparison of methods: each is searched on validation with the same budget, then trained and tested anew.

    configuration ──▶ arms, one per method ──▶ search of each ──▶ best of each, several seeds ──▶ table
                                                 │ validation        │ test and hold-outs, once
                                                 └── head starts ────┘ shared, features of frozen blocks as well

<out>/ <method>/search.json    what is searched; another search does not go on in its place
                trial-00/ …    see `adapteo.trials`
                best.yaml      configuration of the best trial
                best-03/seed-0 a run's folder, trained with what trial 3 had, and result.json
       linear_probe/ …         the converged probe, which every method has to beat
       starts/                 head starts
       table.csv, .json, .md   see `Tuned`
       best.yaml               of the method that is best on validation
"""

from adapteo.tuning._arms import SCRATCH
from adapteo.tuning._screen import Reporter, ScreenReporter
from adapteo.tuning._space import is_search, parse, searches
from adapteo.tuning._table import Row, Spread, Tuned
from adapteo.tuning._tune import Terms, tune

__all__ = [
    "SCRATCH",
    "Reporter",
    "Row",
    "ScreenReporter",
    "Spread",
    "Terms",
    "Tuned",
    "is_search",
    "parse",
    "searches",
    "tune",
]
