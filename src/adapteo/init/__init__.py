"""From a person's scenes and labels to a project folder with a short configuration. No torch.

scenes ──▶ bands, sensor, scale ──┐
labels ──▶ class column, kinds ───┼──▶ backbone, size of windows ──▶ <name>/adapteo.yaml
"""

from adapteo.init._places import sort_out
from adapteo.init._report import show
from adapteo.init._start import Request, Started, init

__all__ = ["Request", "Started", "init", "show", "sort_out"]
