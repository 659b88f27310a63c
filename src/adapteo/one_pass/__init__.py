"""Several trainings in one pass over the data: each batch is read once, and passes through what is frozen once.

    loader ──▶ batch ──▶ frozen blocks ──▶ stored ─┬─▶ head 1 ──▶ loss · step
                                                   ├─▶ head 2 ──▶ loss · step     each with its own rate, state, folder
                                                   └─▶ …

They take turns, step by step, so that a batch is needed no longer than until the last has had it, and each gives what
it gives alone. What differs may be all that leaves the batches and the frozen part as they are (`Group.key`): decoder,
rates, schedule, number of epochs, and of several seeds the new weights where ``train.order_seed`` gives them one order.
"""

from adapteo.one_pass._chorus import Chorus
from adapteo.one_pass._group import Group, frozen_start
from adapteo.one_pass._reader import Reader, View
from adapteo.one_pass._run import Ended, fit_each, fit_many

__all__ = ["Chorus", "Ended", "Group", "Reader", "View", "fit_each", "fit_many", "frozen_start"]
