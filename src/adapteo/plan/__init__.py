"""What a training will take, before anything is trained: memory, arithmetic, time, and the size of what it leaves.

    run + the shape of one image ──▶ model of no values (`adapteo.tracing`) ──▶ Need, for each way to train ──▶ Plan

Weights are neither read nor allocated, and of the data one image is read for its shape. `make` answers
``adapteo plan``; a training plans itself beforehand (`settle`), and tells at its end what was planned and what was
measured (`bill`). ``train.memory: auto`` takes the quickest of "fast", "lean" and "leanest" whose peak fits.
"""

from adapteo.plan._choices import Plan, Settled, fits, make, settle
from adapteo.plan._need import Need, Planner, Shapes
from adapteo.plan._screen import bill, render, verdict

__all__ = ["Need", "Plan", "Planner", "Settled", "Shapes", "bill", "fits", "make", "render", "settle", "verdict"]
