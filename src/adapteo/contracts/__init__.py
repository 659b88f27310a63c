"""The nouns. Read these five short files first: everything else implements one of them.

    Sample ──▶ Batch ──▶ Backbone (+ Method) ──▶ Decoder ──▶ Task
    data.py              backbone.py  method.py   decoder.py   task.py

A value moves left to right once. Shapes: b batch, t time, c channel, h and w pixels, n tokens, d width.
Images are always ``(b, t, c, h, w)`` in physical units (reflectance 0..1, radar dB); NaN is the one mark for missing.
"""

from adapteo._ignore import IGNORE
from adapteo.contracts.backbone import (
    Backbone,
    BackboneSpec,
    Grid,
    Remapped,
    Route,
    StageBackbone,
    TokenBackbone,
    Weights,
    default_taps,
)
from adapteo.contracts.data import Batch, Dataset, Normalisation, Sample
from adapteo.contracts.decoder import Decoder, DecoderSpec, Features
from adapteo.contracts.method import (
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
    "Dataset",
    "Decoder",
    "DecoderSpec",
    "Features",
    "Grid",
    "Method",
    "ModuleMaker",
    "Normalisation",
    "Remapped",
    "Route",
    "Sample",
    "StageBackbone",
    "Task",
    "TokenBackbone",
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
