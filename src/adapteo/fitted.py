"""A trained model with all that is needed to use it: test it, map scenes with it, merge it.

run = adapteo.load("runs/flood")
run.test()                                tables with intervals, hold-outs and the linear probe beside them
run.predict(["scene.tif"], "map.tif")     a georeferenced map
run.merge("merged.safetensors")           an ordinary checkpoint
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from adapteo import config
from adapteo._chance import Chance, chance_score
from adapteo.assembly import Imagery, adapt_model, assemble, loader, splits
from adapteo.checkpoint import (
    check_base,
    load_adapter,
    locate,
    read_card,
    read_state,
    save_tensors,
    write_json,
)
from adapteo.config import Run
from adapteo.contracts import Batch, Normalisation, Sample, merge
from adapteo.evaluate import ALL, Scores, Table, table
from adapteo.figures import Item, confusion_figure, curves_figure, samples_figure, true_colour
from adapteo.files import replacing
from adapteo.mapping import Mosaic, Reading, Watch, map_scenes
from adapteo.model import Model, predict_logits
from adapteo.scoring import score
from adapteo.train import LOG_FILE
from adapteo.windows import Progress

ADAPTER, CONFIG_FILE, RUN_FILE = "adapter", "config.yaml", "run.json"
PROBE_FILE, PROBE_FACTS = "probe.safetensors", "probe.json"
PROBE = "linear probe"


@dataclass(frozen=True)
class Report:
    """What a test found.

    Attributes:
        tables: by split: "test", then the hold-outs.
        baselines: of the same splits, for the decoder fitted on frozen features; empty without a head start.
        chance: what that decoder scores when the samples are divided by chance, where that is another split.
        note: what the reader has to know of how the samples were divided.
    """

    tables: Mapping[str, Table]
    baselines: Mapping[str, Table]
    chance: Chance | None = None
    note: str | None = None

    def render(self, console: Console | None = None) -> None:
        """Print every table, and the comparison with the linear probe."""
        console = console or Console()
        for name, found in self.tables.items():
            found.render(console)
            if name in self.baselines:
                value, low, high = self.baselines[name].row(ALL).metrics[found.monitor]
                console.print(f"{PROBE}: {found.monitor} {value:.3f} ({low:.3f} … {high:.3f})", highlight=False)
                if self.chance is not None and name == "test":
                    console.print(self._optimism(self.chance, value), highlight=False)
                console.print()
        if self.note:
            console.print(self.note, highlight=False)

    @staticmethod
    def _optimism(chance: Chance, value: float) -> str:
        return (
            f"{PROBE}, random split: {chance.monitor} {chance.value:.3f} ({chance.low:.3f} … {chance.high:.3f}): "
            f"{chance.value - value:+.3f}, as test windows then lie beside training windows"
        )

    def as_dict(self) -> dict[str, object]:
        """Everything as plain numbers."""
        return {
            "method": {name: found.as_dict() for name, found in self.tables.items()},
            "linear_probe": {name: found.as_dict() for name, found in self.baselines.items()},
            **({"linear_probe_random_split": asdict(self.chance)} if self.chance else {}),
            **({"note": self.note} if self.note else {}),
        }


@dataclass(frozen=True)
class FittedRun:
    """A trained model and its run.

    Attributes:
        folder: of the run.
        run: its configuration.
        model: in evaluation mode, with the best weights on validation.
        bands: that the model takes.
        imagery: what it was trained on, also where the dataset is not at hand.
        card: what the adapter's card.json says.
    """

    folder: Path
    run: Run
    model: Model
    bands: tuple[str, ...]
    imagery: Imagery
    card: Mapping[str, Any]

    # ------------------------------------------------------------------------------------------ test

    def test(self, *, show: bool = False, resamples: int = 1000, pictures: bool = True, chance: bool = False) -> Report:
        """Score the test split and every hold-out, with bootstrap intervals over images.

        Writes test.json, one CSV per split, and pictures of the worst and best samples into the run's folder.

        Args:
            show: print the tables.
            resamples: draws for the intervals.
            pictures: draw them; False where many runs are compared by their numbers.
            chance: fit the head start once more, on a split by chance, to show how much easier that test is; kept in
                the run's folder.
        """
        names = [name for name in splits(self.run.dataset) if name not in ("train", "val")]
        scores = {name: self._scores(self.model, name) for name in names}
        report = Report(
            {name: self._table(found, resamples) for name, found in scores.items()},
            {name: self._table(self._scores(probe, name), resamples) for probe in self._probe() for name in names},
            self._chance(resamples) if chance else None,
            self.run.dataset.split_note,
        )
        write_json(report.as_dict(), self.folder / "test.json")
        for name, found in report.tables.items():
            with replacing(self.folder / f"{name}.csv") as beside:
                beside.write_text(found.to_csv(), encoding="utf-8")
            if pictures:
                self._pictures(name, scores[name], found)
        if pictures and (self.folder / LOG_FILE).is_file():  # a run that was trained elsewhere has none
            curve, task = self.folder / "curves.png", self.run.task
            curves_figure(curve, self.folder / LOG_FILE, task.monitor, higher_is_better=task.higher_is_better)
        if show:
            report.render()
        return report

    def _scores(self, model: Model, split: str) -> Scores:
        found = score(model, self.run.task, loader(self.run, split, self.bands))
        groups = [self.run.dataset.group(key) for key in found.keys]
        return Scores(split, found.keys, tuple(groups), found.statistics)

    def _table(self, scores: Scores, resamples: int) -> Table:
        classes = self.run.dataset.classes
        return table(self.run.task, scores.statistics, classes, scores.groups, split=scores.split, resamples=resamples)

    def _probe(self) -> list[Model]:
        """The untouched backbone with the decoder of the head start, where there was one."""
        if not (self.folder / PROBE_FILE).is_file():
            return []
        # Random base weights come from the seed again.
        model = assemble(self.run, self.imagery, self.model.normalisation).model
        model.decoder.load_state_dict(read_state(self.folder / PROBE_FILE))
        return [model.to(next(self.model.parameters()).device).eval()]

    def _chance(self, resamples: int) -> Chance | None:
        """Score of the head start on a split by chance, where there was a head start."""
        if not (self.folder / PROBE_FILE).is_file():
            return None
        device = next(self.model.parameters()).device
        return chance_score(
            self.run,
            self.bands,
            lambda: assemble(self.run, self.imagery, self.model.normalisation).model.to(device),
            resamples,
        )

    def _pictures(self, split: str, scores: Scores, found: Table) -> None:
        task, dataset = self.run.task, self.run.dataset
        ranked = scores.ranked(task, dataset.classes)
        count = min(4, (len(ranked) + 1) // 2)
        chosen = [("worst", *pair) for pair in ranked[:count]] + [("best", *pair) for pair in ranked[::-1][:count]]
        items = [self._item(dataset.read(key), note, value) for note, key, value in chosen]
        samples_figure(
            self.folder / f"{split}_samples.png", items, dataset.classes, dataset.colours, metric=task.monitor
        )
        confusion = found.rows[0].confusion
        if confusion is not None:
            confusion_figure(self.folder / f"{split}_confusion.png", confusion.numpy(), dataset.classes)

    def _item(self, sample: Sample, note: str, value: float) -> Item:
        positions = [self.run.dataset.bands.index(band) for band in self.bands]
        images = torch.from_numpy(sample.image[:, positions]).unsqueeze(0)
        logits = self.logits(images, dates=sample.dates, latlon=sample.latlon)
        prediction = self.run.task.predict(logits)[0].cpu().numpy()
        assert sample.target is not None, "test samples have targets"
        picture = true_colour(sample.image[-1], self.run.dataset.bands)
        return Item(sample.key, picture, sample.target, prediction, value, note)

    # --------------------------------------------------------------------------------------- predict

    def logits(self, images: Tensor, *, dates: np.ndarray | None = None, latlon: np.ndarray | None = None) -> Tensor:
        """Logits of images ``(b, t, c, h, w)`` in physical units, bands as in `bands`, NaN where missing.

        Args:
            images: see above.
            dates: ``(t, 2)`` year and day of year, the same for all images.
            latlon: ``(2,)`` degrees, likewise.
        """
        device = next(self.model.parameters()).device

        def repeated(values: np.ndarray | None) -> Tensor | None:
            if values is None:
                return None
            return torch.from_numpy(np.asarray(values, np.float32)).expand(len(images), *np.shape(values)).to(device)

        batch = Batch(images.to(device), None, repeated(dates), repeated(latlon), self.imagery.gsd)
        return predict_logits(self.model, batch)

    def predict(  # noqa: PLR0913  # all but the first two may be left out
        self,
        scenes: str | Path | Sequence[str | Path],
        out: str | Path,
        *,
        bands: Sequence[str] = (),
        sensor: str | None = None,
        scaling: tuple[float, float] | None = None,
        probabilities: bool = False,
        mosaic: Mosaic | None = None,
        progress: Progress | Watch | None = None,
        readers: int | None = None,
    ) -> Path:
        """Map scenes of any size. A prediction that was stopped goes on when it is called again.

        Args:
            scenes: GeoTIFFs, product folders, folders with one file per band, addresses (`adapteo.data.scene_files`).
                For a model of several dates either one file that stacks them, or one scene per date.
            out: the map; a folder when several scenes are to be mapped, which then has one map for each.
            bands: names of the files' bands in order, for files that do not tell; of one date.
            sensor: one of `adapteo.bands.SENSORS`, where names such as B5 are not clear without.
            scaling: (scale, offset): physical value = stored value * scale + offset; by default as in the dataset.
            probabilities: write ``<out>_probabilities.tif`` as well.
            mosaic: put all scenes into one map.
            progress: called with the number of finished windows and of all windows of a map, or a
                `adapteo.mapping.Watch`, which also hears what a person should know.
            readers: processes that read the scenes; None to choose. The map is the same.

        Returns:
            ``out``.

        Raises:
            ConfigError: the task gives no map.
            DataError: a scene cannot be read, or lacks bands.
        """
        paths = [scenes] if isinstance(scenes, str | Path) else list(scenes)
        reading = Reading(tuple(bands), sensor, scaling, readers)
        watch = progress if isinstance(progress, Watch) else Watch(progress)
        return map_scenes(self, paths, Path(out), reading, probabilities=probabilities, mosaic=mosaic, watch=watch)

    # ----------------------------------------------------------------------------------------- merge

    def merge(self, out: str | Path) -> Path:
        """Write the adapted backbone as an ordinary checkpoint with the upstream keys, and the decoder beside it.

        Tensors of the base checkpoint that this model does not use are copied, so the file can stand in for the base.

        Raises:
            ConfigError: when the method cannot be merged.
        """
        out = Path(out)
        fresh = load(self.folder)
        backbone = merge(fresh.model.backbone.to("cpu"))
        state = backbone.unmap(backbone.state_dict())
        base = self.card["base"]
        if base["skipped"]:
            upstream = read_state(locate(self.run.backbone.weights, backbone.weights))
            state = {**{key: upstream[key] for key, _ in base["skipped"] if key in upstream}, **state}
        save_tensors(state, out)
        save_tensors(fresh.model.decoder.state_dict(), out.with_name(f"{out.stem}_decoder.safetensors"))
        write_json({**self.card, "merged": True}, out.with_suffix(".json"))
        return out


def load(folder: str | Path) -> FittedRun:
    """Load a fitted run from its folder.

    Raises:
        WeightsError: when there is none, or the base weights are not those that it was trained on.
    """
    folder = Path(folder)
    card = read_card(folder / ADAPTER)
    run = config.load(folder / CONFIG_FILE, [f"out={json.dumps(str(folder), ensure_ascii=False)}"])
    imagery = Imagery.from_card(card)
    assembled = assemble(run, imagery, _normalisation(card))
    check_base(assembled.base, card)
    model = assembled.model
    adapt_model(model, run, imagery.classes)
    model.decoder.load_state_dict(load_adapter(folder / ADAPTER, model.backbone, run.method))
    return FittedRun(folder, run, model.to(best_device(run)).eval(), assembled.bands, imagery, card)


def best_device(run: Run) -> torch.device:
    """Device to test and predict on: what the run asks for, where it is there."""
    if run.train.accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if run.train.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _normalisation(card: Mapping[str, Any]) -> Normalisation:
    saved = card["normalisation"]
    return Normalisation(tuple(saved["mean"]), tuple(saved["std"]), saved["source"])
