"""Train a configuration: data, backbone, head start, method, training loop; everything lands in one folder.

runs/<name>/ config.yaml         the run with every default spelt out
             adapter/            the best state on validation, see `adapteo.checkpoint`
             probe.safetensors   the decoder after the head start, and probe.json
             log.csv             a row for each epoch; and tensorboard/ when asked for
             plan.json           what it was expected to take, see `adapteo.plan`
             run.json            parameters, memory, time, versions, validation metrics
             state.pt            for --resume
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapteo import config, meter, registry
from adapteo._processes import launch, together
from adapteo.assembly import Assembled, Imagery, adapt_model, assemble, loader
from adapteo.checkpoint import BASE_FILE, read_state, save_adapter, save_tensors, write_json
from adapteo.config import Run, Train
from adapteo.contracts import Batch
from adapteo.data.loader import Batches, Loader
from adapteo.errors import ConfigError
from adapteo.feature_cache import with_features
from adapteo.files import replacing, unwritable
from adapteo.fitted import ADAPTER, CONFIG_FILE, PROBE_FACTS, PROBE_FILE, RUN_FILE, FittedRun, load
from adapteo.headstart import fit_head
from adapteo.model import Model, decoder_state
from adapteo.plan import Settled, bill, settle
from adapteo.quantise import FULL
from adapteo.train import STATE_FILE, Observer, Trainer
from adapteo.vit import set_memory

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PLAN_FILE = "plan.json"


def fit(run: Run, *, resume: bool = False, observer: Observer | None = None, starts: Path | None = None) -> FittedRun:
    """Train a run, or go on with one that was stopped.

    Args:
        run: of `adapteo.config.load`.
        resume: go on from the saved state of ``run.out`` where there is one.
        observer: is told of the progress.
        starts: folder of head starts that runs share; one that another run has fitted is taken from there.

    Raises:
        ConfigError: ``run.out`` holds another run, or parts do not fit together.
        Interrupted: stopped by the user; the state is saved.
    """
    observer = observer or Observer()
    if claim_folder(run, resume):  # before there are several processes, of which each would complain
        observer.note(f"the run in {run.out} is finished; nothing is left to do")
        return load(run.out)
    fabric = launch(run.train)
    with together(fabric):
        training = Training.prepare(run, fabric, observer if fabric.is_global_zero else Observer(), resume, starts)
        training.complete()
    return load(run.out)


@dataclass(frozen=True)
class Training:
    """A run that is ready for its training loop.

    Attributes:
        run: the configuration.
        fabric: of `launch`.
        observer: is told of the progress.
        resume: whether to go on from a saved state.
        planned: how it trains.
        assembled: its model, adapted.
        new_decoder: whether the method has made the head start's decoder useless.
        loaders: of the training and the validation split, of images.
        said: of `facts`.
    """

    run: Run
    fabric: "Fabric"
    observer: Observer
    resume: bool
    planned: Settled
    assembled: Assembled
    new_decoder: bool
    loaders: tuple[Loader, Loader]
    said: Mapping[str, Any]

    @property
    def model(self) -> Model:
        """What is trained."""
        return self.assembled.model

    @classmethod
    def prepare(
        cls, run: Run, fabric: "Fabric", observer: Observer, resume: bool, starts: Path | None = None
    ) -> "Training":
        """Do what comes before the loop: plan, assemble, fit the head start, adapt."""
        resumed = resume and (run.out / STATE_FILE).is_file()
        planned = _planned(run, fabric, observer, resumed)
        assembled = assemble(run)
        model = assembled.model
        for message in _notes(run, assembled):
            observer.note(message)
        if run.train.head_start and not resumed:
            _head_start(run, assembled, fabric, observer, starts)
        model.to("cpu")
        sample = None if run.train.trunk == FULL else _one_image(run, assembled)
        new_decoder = adapt_model(model, run, run.dataset.classes, sample)
        set_memory(model.backbone, planned.memory)
        if fabric.is_global_zero:
            with replacing(run.out / CONFIG_FILE) as beside:
                beside.write_text(config.dump(run), encoding="utf-8")
        loaders = (
            loader(run, "train", assembled.bands, shuffled=True, fabric=fabric),
            loader(run, "val", assembled.bands, fabric=fabric),
        )
        said = facts(run, assembled, fabric.device)
        return cls(run, fabric, observer, resume, planned, assembled, new_decoder, loaders, said)

    def complete(self) -> None:
        """Train to the end on images, or on what is stored of them, and write what came of it."""
        trainer = self.trainer(
            with_features(
                self.run, self.model, self.loaders, untouched=False, autocast=self.fabric.autocast,
                note=self.observer.note,
            )
        )  # fmt: skip
        trainer.fit(self.observer, resume=self.resume)
        self.finish(trainer)

    def trainer(self, loaders: tuple[Batches, Batches]) -> Trainer:
        """Make what trains it on these batches."""
        run, model = self.run, self.model

        def keep(metrics: Mapping[str, float]) -> None:
            card = {**self.said, "validation": dict(metrics), "base": self.assembled.base}
            save_adapter(run.out / ADAPTER, model.backbone, run.method, decoder_state(model), card)

        return Trainer(
            fabric=self.fabric,
            model=model,
            task=run.task,
            train=run.train,
            rate=run.train.rate or run.method.default_rate,
            loaders=loaders,
            classes=run.dataset.classes,
            folder=run.out,
            keep_best=keep,
            rate_factors=run.method.rate_factors(model.backbone),
        )

    def finish(self, trainer: Trainer) -> None:
        """Write what came of a training that has ended; the file with it says that the run is finished."""
        run, best, note = self.run, trainer.best, self.observer.note
        if best.epoch == 0 and trainer.epoch:
            fitted = run.train.head_start and not self.new_decoder
            kept = "the linear probe, which is kept" if fitted else "the start, whose decoder has learned nothing"
            note(f"no epoch was better on validation than {kept}; try a lower train.rate")
        if self.fabric.is_global_zero:
            said = {**self.said, **trainer.meter.facts()}
            said |= {"epochs": trainer.epoch, "best_epoch": best.epoch, "validation": best.metrics}
            files = [file for file in (run.out / ADAPTER).glob("*.safetensors") if file.name != BASE_FILE]
            said |= {"adapter_bytes": sum(file.stat().st_size for file in files)}
            said |= {"train_memory": self.planned.memory, "plan": self.planned.need}
            if (run.out / PROBE_FILE).is_file():
                said["linear_probe"] = json.loads((run.out / PROBE_FACTS).read_text(encoding="utf-8"))
            write_json(said, run.out / RUN_FILE)
            if self.planned.need is not None:
                note("\n".join(bill(self.planned.need, said)))
        self.fabric.barrier()  # no process reads the folder before it is complete


def _planned(run: Run, fabric: "Fabric", observer: Observer, resumed: bool) -> Settled:
    """Plan on the first process, for all; a run that goes on keeps its plan."""
    file = run.out / PLAN_FILE
    if resumed and file.is_file():
        return Settled(**json.loads(file.read_text(encoding="utf-8")))
    planned: Settled | None = None
    if fabric.is_global_zero:
        planned = settle(run)
        write_json(asdict(planned), file)
        if planned.note:
            observer.note(planned.note)
    planned = fabric.broadcast(planned)
    assert planned is not None, "the first process has planned"
    return planned


def _one_image(run: Run, assembled: Assembled) -> Batch:
    """The first training image, as large as in training."""
    only = Loader(run.dataset, run.dataset.split("train")[:1], 1, bands=assembled.bands)
    batch = next(only.epoch(0))
    side = run.train.crop
    return batch.with_images(batch.images[..., :side, :side])


def claim_folder(run: Run, resume: bool) -> bool:
    """Refuse to write over another run, or over this one without being asked; tell whether it is finished already."""
    written, new = run.out / CONFIG_FILE, config.dump(run)
    old = written.read_text(encoding="utf-8") if written.is_file() else new
    if old != new:
        pairs = zip_longest(old.splitlines(), new.splitlines(), fillvalue="nothing")
        there, here = next((a.strip(), b.strip()) for a, b in pairs if a != b)
        raise ConfigError(
            f"{run.out} holds a run of another configuration: '{there}' there, '{here}' here",
            fix="choose another folder with out=…, or delete that one",
        )
    finished, begun = (run.out / RUN_FILE).is_file(), (run.out / STATE_FILE).is_file()
    if (finished or begun) and not resume:
        state, way = ("is finished", f"see `adapteo test {run.out}`") if finished else ("was stopped", "add --resume")
        raise ConfigError(f"{run.out} holds this run, which {state}", fix=f"{way}, or choose another folder with out=…")
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(run.out, error) from error
    return finished


def _head_start(run: Run, assembled: Assembled, fabric: "Fabric", observer: Observer, starts: Path | None) -> None:
    """Fit the decoder on the first process, and give it to all."""
    model = assembled.model
    if fabric.is_global_zero:
        shared = starts and starts / _start_key(run)
        if shared and (shared / PROBE_FACTS).is_file():
            observer.note("the decoder starts as in another run (linear probe)")
            model.decoder.load_state_dict(read_state(shared / PROBE_FILE))
        else:
            observer.note("fitting the decoder on frozen features (linear probe) …")
            _fit_start(run, assembled, fabric, observer, shared or run.out)
        if shared:
            for name in (PROBE_FILE, PROBE_FACTS):
                with replacing(run.out / name) as beside:
                    shutil.copyfile(shared / name, beside)
    if fabric.world_size > 1:
        # As NumPy: older PyTorch warns about the way in which it reads its own tensors from another process.
        state = fabric.broadcast({key: value.numpy() for key, value in decoder_state(model).items()})
        model.decoder.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})


def _fit_start(run: Run, assembled: Assembled, fabric: "Fabric", observer: Observer, folder: Path) -> None:
    model = assembled.model
    model.to(fabric.device)
    loaders = with_features(
        run,
        model,
        (loader(run, "train", assembled.bands), loader(run, "val", assembled.bands)),
        untouched=True,
        autocast=nullcontext,
        note=observer.note,
    )
    found = fit_head(model, run.task, loaders, classes=run.dataset.classes, train=run.train, linear=run.decoder.linear)
    save_tensors(decoder_state(model), folder / PROBE_FILE)
    write_json(asdict(found), folder / PROBE_FACTS)  # the last: with it the folder is complete
    score = found.metrics[run.task.monitor]
    observer.note(f"linear probe: validation {run.task.monitor} {score:.3f} after {found.seconds:.0f} s")


def _start_key(run: Run) -> str:
    """Name of a head start: a hash of all that it depends on, which is no method and little of the training."""
    plain: dict[str, Any] = {f.name: f.default for f in fields(Train) if f.name in _AFTER_THE_START}
    part = replace(run, method=registry.load("methods", "frozen")(), train=replace(run.train, **plain), out=Path())
    return hashlib.sha256(f"{config.dump(part)}{run.dataset.fingerprint()}".encode()).hexdigest()[:16]


_AFTER_THE_START = (
    "epochs", "accumulate", "order_seed", "rate", "head_rate", "clip", "schedule", "warmup", "plateau_patience",
    "plateau_factor", "select", "patience", "augment", "crop", "drop_last", "memory", "workers", "tensorboard",
)  # fmt: skip
"""Keys of the training that the head start does not read."""


def _notes(run: Run, assembled: Assembled) -> list[str]:
    notes = list(run.dataset.notes)
    if assembled.left_out and run.train.bands is None:
        notes.append(f"bands that the backbone does not take and that are not read: {', '.join(assembled.left_out)}")
    if assembled.base.skipped:
        notes.append(f"{len(assembled.base.skipped)} tensors of {assembled.base.file} are not needed (see run.json)")
    return notes


def facts(run: Run, assembled: Assembled, device: torch.device) -> dict[str, Any]:
    """Say what a run is: the content of its adapter's card and of run.json, without results.

    Args:
        run: the configuration.
        assembled: its model, adapted.
        device: that it was trained on.
    """
    model = assembled.model
    first = run.dataset.read(run.dataset.split("train")[0], assembled.bands[:1])
    return {
        "backbone": config.name_of(run.backbone),
        "method": config.name_of(run.method),
        "trunk": run.train.trunk,
        "decoder": config.name_of(run.decoder),
        "task": config.name_of(run.task),
        "base": asdict(assembled.base),
        "bands": assembled.bands,
        "imagery": asdict(Imagery.of(run.dataset)),
        "image_size": [run.train.crop] * 2 if run.train.crop else list(first.image.shape[-2:]),
        "normalisation": asdict(model.normalisation),
        "dataset": {
            "name": config.name_of(run.dataset),
            "fingerprint": run.dataset.fingerprint(),
            "samples": {name: len(run.dataset.split(name)) for name in ("train", "val")},
        },
        "parameters": meter.parameters(model.backbone, model.decoder),
        "environment": meter.environment(device),
    }
