"""The nouns. Read these five short files first: everything else implements one of them.

    Sample ──▶ Batch ──▶ Backbone (+ Method) ──▶ Decoder ──▶ Task
    data.py              backbone.py  method.py   decoder.py   task.py

A value moves left to right once. Shapes: b batch, t time, c channel, h and w pixels, n tokens, d width.
Images are always ``(b, t, c, h, w)`` in physical units (reflectance 0..1, radar dB); NaN is the one mark for missing.

Samples and datasets need no torch, and importing this does not import it; the first of the other names does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from adapteo._ignore import IGNORE
from adapteo.contracts.data import Batch, Dataset, Normalisation, Sample

if TYPE_CHECKING:
    from adapteo.contracts.backbone import (
        Backbone,
        BackboneSpec,
        Grid,
        GridReader,
        Remapped,
        Route,
        SideRoute,
        StageBackbone,
        TokenBackbone,
        TrunkReads,
        Weights,
        default_taps,
    )
    from adapteo.contracts.composition import Composition
    from adapteo.contracts.decoder import Decoder, DecoderSpec, Features
    from adapteo.contracts.method import (
        Facts,
        Method,
        ModuleMaker,
        Wrapper,
        adapt,
        copy_exactly,
        merge,
        moving,
        replace_modules,
        tokens_of,
        trainable,
        trainable_count,
    )
    from adapteo.contracts.task import Task

__all__ = [
    "IGNORE",
    "Backbone",
    "BackboneSpec",
    "Batch",
    "Composition",
    "Dataset",
    "Decoder",
    "DecoderSpec",
    "Facts",
    "Features",
    "Grid",
    "GridReader",
    "Method",
    "ModuleMaker",
    "Normalisation",
    "Remapped",
    "Route",
    "Sample",
    "SideRoute",
    "StageBackbone",
    "Task",
    "TokenBackbone",
    "TrunkReads",
    "Weights",
    "Wrapper",
    "adapt",
    "copy_exactly",
    "default_taps",
    "merge",
    "moving",
    "replace_modules",
    "tokens_of",
    "trainable",
    "trainable_count",
]

_LAZY = {
    name: file
    for file, names in {
        "backbone": (
            "Backbone", "BackboneSpec", "Grid", "GridReader", "Remapped", "Route", "SideRoute", "StageBackbone",
            "TokenBackbone", "TrunkReads", "Weights", "default_taps",
        ),
        "composition": ("Composition",),
        "decoder": ("Decoder", "DecoderSpec", "Features"),
        "method": (
            "Facts", "Method", "ModuleMaker", "Wrapper", "adapt", "copy_exactly", "merge", "moving",
            "replace_modules", "tokens_of", "trainable", "trainable_count",
        ),
        "task": ("Task",),
    }.items()
    for name in names
}  # fmt: skip


if not TYPE_CHECKING:  # so that a misspelt name is still a type error

    def __getattr__(name: str) -> object:
        """Import a name that needs torch when it is asked for (PEP 562)."""
        if name not in _LAZY:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        value: object = vars(import_module(f"{__name__}.{_LAZY[name]}"))[name]
        globals()[name] = value  # the next time it is found without this function
        return value
