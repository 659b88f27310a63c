"""What of a run can be served from stored features."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

from adapteo.config import FeatureCaching, Run, name_of
from adapteo.contracts import SideRoute
from adapteo.data._cache import cache_folder
from adapteo.data.loader import Loader
from adapteo.feature_cache._loader import FeatureLoader, Source
from adapteo.model import Model, boundary
from adapteo.shelf import Shelves


def with_features(
    run: Run,
    model: Model,
    loaders: tuple[Loader, Loader],
    *,
    untouched: bool,
    autocast: Callable[[], AbstractContextManager[Any]],
    note: Callable[[str], None],
) -> tuple[Loader, Loader]:
    """Let loaders serve stored features where the configuration and the method allow it.

    Args:
        run: the configuration.
        model: on its device; learns where its frozen part ends.
        loaders: of the training and the validation split.
        untouched: whether this is before any method (the head start).
        autocast: the precision in which missing features are computed.
        note: is told what is cached, and why not.
    """
    asked = run.train.cache_features
    model.boundary = None
    if asked == "off":
        return loaders
    caching = FeatureCaching() if asked == "auto" else asked
    first = run.dataset.read(loaders[0].keys[0], model.backbone.bands[:1])
    size = (int(first.image.shape[-2]), int(first.image.shape[-1]))
    model.boundary = boundary(model, size, untouched=untouched)
    if model.boundary is None:
        if asked != "auto":
            note(f"features are not cached: {name_of(run.method)} {_why_not(model)}")
        return loaders
    source = Source(model, model.boundary, size, _identity(run, model, untouched), pooled=not run.task.dense)
    shelves = Shelves(caching.folder or cache_folder() / "features", int(caching.limit * 2**30))
    served = []
    for loader in loaders:
        if loader.augment is not None and not loader.augment.whole:
            note("features of the training images are not cached: windows are drawn anew each epoch (train.crop)")
            served.append(loader)
        else:
            served.append(FeatureLoader(loader, source, shelves, caching.store, autocast, note))
    return served[0], served[1]


def _why_not(model: Model) -> str:
    """Reason why no boundary was found."""
    route = model.backbone.route
    if route is None:
        return "trains the backbone from its start"
    if isinstance(route, SideRoute) and route.reads(model.backbone) is not None:
        return "trains parts of the backbone that its side network reads"
    return "leads its own way through the backbone"


def _identity(run: Run, model: Model, untouched: bool) -> str:
    """What features depend on beside weights, normalisation, size, image and orientation."""
    given = {f.name: getattr(run.backbone, f.name) for f in fields(run.backbone) if f.name != "weights"}  # type: ignore[arg-type]
    precision = "fp32" if untouched else run.train.precision
    parts = (name_of(run.backbone), given, model.backbone.bands, run.dataset.gsd, precision, run.dataset.fingerprint())
    return ", ".join(map(str, parts))
