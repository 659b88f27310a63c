"""Which backbone fits the scenes, by what each was pre-trained on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapteo import registry
from adapteo._pretraining import Pretraining, pretraining_of, pretrainings
from adapteo.bands import BY_NAME, HLS_L30, HLS_S30, L8, S2
from adapteo.errors import ConfigError, closest

PACKAGED = "nano"
_LEAST = 3
"""Bands that the packaged backbone has to find in the scenes to be taken."""
_SAME = {HLS_S30: {S2, HLS_S30}, HLS_L30: {L8, HLS_L30}, S2: {S2, HLS_S30}, L8: {L8, HLS_L30}}
"""Sensors whose bands are nearly the same."""


@dataclass(frozen=True)
class Model:
    """A backbone and how well it fits.

    Attributes:
        backbone: its key.
        keys: further keys for the configuration; without those that are as by default.
        known: bands of the scenes that it was pre-trained on.
        entry: what is known of it; None for timm, torchgeo, unet and a person's own.
        score: 0 to 1, None without an entry.
    """

    backbone: str
    keys: Mapping[str, str]
    known: tuple[str, ...]
    entry: Pretraining | None
    score: float | None

    @property
    def title(self) -> str:
        """For people: "prithvi 2.0-tiny-TL"."""
        return self.backbone if self.entry is None else self.entry.title

    @property
    def written(self) -> str | dict[str, str]:
        """As in a configuration."""
        return {"name": self.backbone, **self.keys} if self.keys else self.backbone

    def reasons(self, bands: Sequence[str]) -> str:
        """For people, in a line."""
        if self.entry is None:
            return "nothing is known of its pre-training"
        lacking = [name for name in self.entry.bands if name not in bands and BY_NAME[name].kind == "optical"]
        parts = [f"{len(self.known)} of {len(bands)} bands"]
        if lacking and len(lacking) <= 3:
            parts.append(f"without {', '.join(lacking)}")
        parts.append(f"pre-trained on {_images(self.entry)}")
        parts.append(f"{self.entry.parameters / 1e6:.3g} M parameters")
        return ", ".join(parts)


def choose(
    bands: Sequence[str], sensor: str | None, gsd: float, frames: int = 1, wanted: str | None = None
) -> tuple[Model, tuple[Model, ...]]:
    """Choose a backbone: the one that is wanted, else the packaged one where it can see enough, else the best one.

    Args:
        bands: canonical names of the scenes.
        sensor: that they come from.
        gsd: metres per pixel.
        frames: dates per sample.
        wanted: key, or key and variant ("prithvi/2.0-tiny-TL").

    Returns:
        The choice, and the best others, at most one of each backbone and three in all, best first.

    Raises:
        ConfigError: there is no such backbone, or it takes none of the bands.
    """
    ranked = _ranked(bands, sensor, gsd, frames)
    if wanted is not None:
        chosen: Model | None = _wanted(wanted, bands, sensor, gsd, frames)
    else:
        own = next((model for model in ranked if model.backbone == PACKAGED), None)
        chosen = own if own and len(own.known) >= _LEAST else next((m for m in ranked if m is not own), own)
    if chosen is None:
        raise ConfigError(
            f"no backbone was pre-trained on {', '.join(bands)}",
            fix="add --backbone unet, which is trained from nothing and takes any bands",
        )
    others: dict[str, Model] = {}
    for model in ranked:
        if model.backbone not in (chosen.backbone, PACKAGED):
            others.setdefault(model.backbone, model)
    return chosen, tuple(others.values())[:3]


def _ranked(bands: Sequence[str], sensor: str | None, gsd: float, frames: int) -> list[Model]:
    """All that can take the images, best first; among equals the smaller one."""
    models = [_model(entry, bands, sensor, gsd) for entry in pretrainings() if entry.frames >= frames]
    fit = [model for model in models if model.known]
    return sorted(fit, key=lambda m: (-round(m.score or 0, 2), m.entry.parameters if m.entry else 0))


def _model(entry: Pretraining, bands: Sequence[str], sensor: str | None, gsd: float) -> Model:
    """Score: how much of the scene it sees, and of what it knows is there; whether sensor and scale are its own."""
    known = entry.known(bands)
    pixels = [name for name in bands if BY_NAME[name].kind != "other"]
    optical = [name for name in entry.bands if BY_NAME[name].kind == "optical"]
    seen = len(known) / max(1, len(pixels))
    there = len([name for name in optical if name in known]) / max(1, len(optical))
    own = 1.0 if sensor and set(entry.sensors) & _SAME.get(sensor, {sensor}) else 0.0
    near = 0.5 if entry.gsd is None else max(0.0, 1 - abs(math.log2(gsd / entry.gsd)) / 3)
    score = 0.45 * min(1.0, seen) + 0.2 * there + 0.2 * own + 0.15 * near
    default = pretraining_of(entry.backbone)
    same = default is not None and default.keys == entry.keys
    keys = {} if same or default is None else {k: v for k, v in entry.keys.items() if default.keys.get(k) != v}
    return Model(entry.backbone, keys, known, entry, score)


def _wanted(wanted: str, bands: Sequence[str], sensor: str | None, gsd: float, frames: int) -> Model:
    name, _, rest = wanted.partition("/")
    names = registry.names("backbones")
    if name not in names and ":" not in name:
        raise ConfigError(f"--backbone {wanted}: there is no such backbone{closest(name, names)}", allowed=names)
    entries = [entry for entry in pretrainings() if entry.backbone == name]
    if not entries:
        return Model(name, {}, tuple(bands), None, None)
    titles = {"/".join(entry.keys.values()): entry for entry in entries}
    if rest:
        fit = [entry for title, entry in titles.items() if f"{title}/".startswith(f"{rest}/")]
    else:
        fit = [entry for entry in entries if entry.keys.get("variant") == _default_variant(name)]
    if not fit:
        raise ConfigError(
            f"--backbone {wanted}: {name} has no '{rest}'{closest(rest, titles)}",
            allowed=[f"{name}/{title}" for title in titles],
        )
    models = [_model(entry, bands, sensor, gsd) for entry in fit]
    best = max(models, key=lambda model: model.score or 0)
    entry = best.entry
    if not best.known or entry is None:
        known = [band for band in fit[0].bands]
        raise ConfigError(f"--backbone {wanted} takes none of {', '.join(bands)}", allowed=known)
    if entry.frames < frames:
        raise ConfigError(f"--backbone {wanted} takes {entry.frames} dates, the scenes have {frames}")
    return best


def _default_variant(name: str) -> str | None:
    default = pretraining_of(name)
    return None if default is None else default.keys.get("variant")


def _images(entry: Pretraining) -> str:
    if entry.packaged:
        return "synthetic scenes only"
    return f"{' and '.join(entry.sensors)}, {entry.gsd:g} m" if entry.gsd else " and ".join(entry.sensors)
