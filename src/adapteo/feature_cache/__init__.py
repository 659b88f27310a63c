"""Features of what is frozen, computed once and kept on disk, for all epochs, runs and processes.

    images ──▶ frozen blocks ──▶ boundary ──▶ trained blocks ──▶ maps ──▶ decoder
                                    │ ▲
                                    ▼ │ the only part that is computed again
                                  shelves

Of a frozen backbone the maps that the decoder reads are kept, of one whose last k blocks are trained what the first of
them sees, and of one with a network beside it all that this network reads (`SideRoute.reads`). Flips and quarter turns
are looks of their own, up to 8 per image, stored when they are first drawn. `adapteo.model.Boundary` says what is
stored, `adapteo.shelf` how, and `FeatureLoader` serves it in batches.
"""

from adapteo.feature_cache._codes import CODES, Code
from adapteo.feature_cache._loader import FeatureLoader, Source
from adapteo.feature_cache._run import with_features

__all__ = ["CODES", "Code", "FeatureLoader", "Source", "with_features"]
