"""Import every configuration of IBM/peft-geofm, build its model with random weights, and take one training step.

    git clone https://github.com/IBM/peft-geofm
    python tools/import_peft_geofm.py peft-geofm [part of a path ...]

The data are small synthetic stand-ins with the layout of the published ones (64 x 64 pixels, reBEN 120 padded to 128),
two chips per step; models have their full size. With parts of paths only configurations with one of them are tried.
Needs the extras `geobench`, `parquet` and `timm`; the largest model wants 7 GB of memory.
"""

import argparse
import ast
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import timm_here  # noqa: E402
from adapteo.assembly import adapt_model, assemble, loader  # noqa: E402
from adapteo.bands import resolve  # noqa: E402
from adapteo.config import Run, name_of  # noqa: E402
from adapteo.contracts import moving, trainable_count  # noqa: E402
from adapteo.data import (  # noqa: E402
    _samples_burn_scars,
    _samples_geobench,
    _samples_reben,
    _samples_sen1floods11,
)
from adapteo.errors import AdaptEOError  # noqa: E402
from adapteo.terratorch.importing import Imported, import_config  # noqa: E402
from adapteo.train import Trainer  # noqa: E402

CHIPS, SIDE = 2, 64
_UNITS = {"burn_scars": 1.0, "sen1floods11": 1.0, "reben": 1e-4, "m_cashew_plantation": 1e-4, "m_sa_crop_type": 1 / 255}


def write_data(folder: Path) -> None:
    """Stand-ins for the five datasets."""
    _samples_burn_scars.write(folder / "burn_scars", per_split=CHIPS, side=SIDE)
    _samples_sen1floods11.write(folder / "sen1floods11", per_split=CHIPS, side=SIDE)
    _samples_reben.write(folder / "reben", per_split=CHIPS)
    _samples_geobench.write(
        folder / "geobench", per_split=CHIPS, side=SIDE, subsets=("m-cashew-plant", "m-SA-crop-type")
    )


def on_stand_ins(run: Run, data: Path) -> Run:
    """The run on stand-ins, two chips per step, with random weights."""
    name = name_of(run.dataset)
    changes: dict[str, object] = {"root": str(data / name)}
    if name in ("burn_scars", "reben"):
        changes["splits"] = str(data / name / {"burn_scars": "splits", "reben": "lists"}[name])
    if name == "sen1floods11":
        changes["splits"] = "official"
    if name == "reben":
        changes["holdout"] = ("ood",)
    dataset = replace(run.dataset, **changes)  # type: ignore[type-var]
    backbone = replace(run.backbone, weights="random")  # type: ignore[type-var]
    return replace(run, dataset=dataset, backbone=backbone, train=replace(run.train, batch=CHIPS, workers=0))


def step(run: Run, fabric: Fabric) -> dict[str, float]:
    """Build, adapt, one step of the optimiser; checks that what should move moves and nothing else."""
    assembled = assemble(run)
    model = assembled.model
    adapt_model(model, run, run.dataset.classes)
    loaders = (loader(run, "train", assembled.bands, shuffled=True), loader(run, "val", assembled.bands))
    trainer = Trainer(
        fabric=fabric, model=model, task=run.task, train=run.train, rate=run.train.rate or 1e-3, loaders=loaders,
        classes=run.dataset.classes, folder=Path(), keep_best=lambda metrics: None,
    )  # fmt: skip
    trainer._set_up()
    moved = moving(model.backbone).keys()
    before = {n: (p.detach().double().sum(), p.detach().flatten()[:64].clone()) for n, p in model.named_parameters()}
    loss = float(trainer._step([next(loaders[0].epoch(0))]))
    changed = {n for n, p in model.named_parameters() if not _same(before[n], p.detach())}
    frozen = {name for name in changed if name.startswith("backbone.") and name.removeprefix("backbone.") not in moved}
    if frozen or loss != loss or not any(name.startswith("decoder.") for name in changed):
        raise AssertionError(f"loss {loss}; frozen parameters that moved: {sorted(frozen)[:3]}")
    if moved and not any(name.startswith("backbone.") for name in changed):
        raise AssertionError("nothing in the backbone moved")
    total = sum(p.numel() for p in model.backbone.parameters())
    return {"backbone": total, "trained": trainable_count(model.backbone),
            "decoder": sum(p.numel() for p in model.decoder.parameters()), "loss": loss}  # fmt: skip


def _same(before: tuple[torch.Tensor, torch.Tensor], now: torch.Tensor) -> bool:
    return bool(now.double().sum() == before[0]) and torch.equal(now.flatten()[:64], before[1])


def check_statistics(checkout: Path, runs: list[Run], empty: Path) -> list[str]:
    """Compare the data modules' own means and deviations with those that the runs normalise with."""
    wrong = []
    by_set = {getattr(run.dataset, "subset", None) or name_of(run.dataset): run.dataset for run in runs}
    keys = {"m-cashew-plant": "m_cashew_plantation", "m-SA-crop-type": "m_sa_crop_type"}
    for name, dataset in by_set.items():
        file = keys.get(name, name)
        if name in keys:  # without its file of statistics, which the paper does not read, it has those of the paper
            (empty / name).mkdir()
            dataset = replace(dataset, root=str(empty))  # type: ignore[type-var]
        tree = ast.parse((checkout / "src" / "peft_geofm" / "datamodules" / f"{file}.py").read_text())
        tables = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        theirs = {resolve(b): v * _UNITS[file] for b, v in tables["MEANS"].items() if b != "CLOUD_PROBABILITY"}
        deviations = {resolve(b): v * _UNITS[file] for b, v in tables["STDS"].items() if b != "CLOUD_PROBABILITY"}
        ours = dataset.published_statistics(tuple(theirs))
        pairs = ((ours.mean, theirs), (ours.std, deviations)) if ours else ()
        same = all(
            abs(a - b) <= 1e-6 * abs(b) for mine, table in pairs for a, b in zip(mine, table.values(), strict=True)
        )
        if not pairs or not same:
            wrong.append(name)
    return wrong


def main() -> int:
    """Run all; 1 when a file did not get through."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--import-only", action="store_true")
    options = parser.parse_args()
    configs = options.checkout / "configs"
    files = [f for f in sorted(configs.rglob("*.yaml")) if "datamodules" not in f.relative_to(configs).parts]
    files = [f for f in files if not options.parts or any(part in str(f) for part in options.parts)]
    timm_here.prepare()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    imported: dict[Path, Imported] = {}
    for file in files:
        try:
            imported[file] = import_config(file)
            counts["imported"] += 1
        except AdaptEOError as error:
            print(f"{file.relative_to(configs)}: refused: {error}")
    print(f"{len(files)} files, {counts['imported']} imported")
    with tempfile.TemporaryDirectory() as folder:
        wrong = check_statistics(options.checkout, [one.run for one in imported.values()], Path(folder))
    print("band statistics equal the data modules'" if not wrong else f"band statistics differ: {', '.join(wrong)}")
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        if not options.import_only:
            write_data(data)
        for file, one in imported.items():
            verdicts = Counter(line.verdict for line in one.lines)
            said = f"{verdicts['mapped']:3d} {verdicts['dropped']:3d} {verdicts['differs']:2d}"
            line = f"{file.relative_to(configs)!s:72s} {said}"
            if not options.import_only:
                try:
                    found = step(on_stand_ins(one.run, data), fabric)
                except (AdaptEOError, AssertionError, RuntimeError, ValueError, KeyError) as error:
                    print(f"{line}  FAILED: {type(error).__name__}: {error}", flush=True)
                    continue
                counts["stepped"] += 1
                line += "".join(f" {name} {found[name]:>11,.0f}" for name in ("backbone", "trained", "decoder"))
                line += f"  loss {found['loss']:.3f}"
            print(line, flush=True)
    if not options.import_only:
        print(f"{counts['stepped']} built and stepped in {time.perf_counter() - started:.0f} s")
    return 0 if counts["imported"] == len(files) and (options.import_only or counts["stepped"] == len(files)) else 1


if __name__ == "__main__":
    sys.exit(main())
