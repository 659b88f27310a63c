"""EuroSAT RGB with the real Galileo nano: trained in central Europe, tested there and on the Iberian peninsula.

    python -m experiments.eurosat --data <eurosat_rgb folder> --weights <galileo_nano folder> --out runs/eurosat

Protocol. The training region is divided at random into 70 % training (1,820 images), 10 % validation and 20 % test, for
each seed anew; `iberia` is never trained on. Each trained method has the same budget: the rates of `RATES`, one run
each with seed 0, the best on validation is kept; then three seeds. Nothing is chosen on a test split. The linear probe
is fitted to convergence, its λ chosen on validation; the pixel baseline is a logistic regression on the mean and
standard deviation of each band, its C chosen on validation likewise. Training from random weights has no head start.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import adapteo
from adapteo import config
from adapteo.evaluate import ALL
from adapteo.files import replacing

SEEDS = (0, 1, 2)
RATES = {"lora": (1e-3, 3e-3), "full": (1e-4, 3e-4), "full from random": (3e-4, 1e-3)}
EPOCHS = 8
SPLITS = ("test", "iberia")


@dataclass(frozen=True)
class Way:
    """One row of the table: a method on pretrained or random weights."""

    name: str
    method: dict[str, object]
    pretrained: bool = True
    trained: bool = True


WAYS = (
    Way("linear probe", {"name": "frozen"}, trained=False),
    Way("lora", {"name": "lora", "rank": 8, "alpha": 8}),
    Way("full", {"name": "full"}),
    Way("linear probe on random", {"name": "frozen"}, pretrained=False, trained=False),
    Way("full from random", {"name": "full"}, pretrained=False),
)


def settings(way: Way, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the configuration of a run, without its rate and folder."""
    return {
        "dataset": {
            "name": "folder",
            "root": str(arguments.data),
            "index": "index.csv",
            "scale": 10.8e-4,
            "splits": {
                "by": "column",
                "column": "region",
                "train": ["central"],
                "holdout": {"iberia": ["iberia"]},
                "fractions": [0.7, 0.1, 0.2],
                "seed": seed,
            },
        },
        "backbone": {
            "name": "galileo",
            "variant": "nano",
            "weights": str(arguments.weights) if way.pretrained else "random",
        },
        "method": way.method,
        "decoder": "linear",
        "train": {
            "batch": 64,
            "epochs": EPOCHS if way.trained else 1,
            "schedule": "cosine",
            "warmup": 30,
            "clip": 1.0,
            "seed": seed,
            "rate": 1e-4 if way.trained else 1e-8,
            "head_start": way.pretrained or not way.trained,
            "head_rate": None if way.trained else 1e-8,
        },
    }


def run(way: Way, seed: int, rate: float | None, arguments: argparse.Namespace) -> dict[str, float]:
    """Train (or take up) one run; return its scores, parameters and seconds."""
    label = f"{way.name.replace(' ', '_')}-s{seed}" + (f"-{rate:g}" if rate else "")
    folder = arguments.out / label
    overrides = [f"out={json.dumps(str(folder))}"] + ([f"train.rate={rate:g}"] if rate else [])
    began = time.perf_counter()
    if (folder / "run.json").is_file():
        fitted = adapteo.load(folder)
    else:
        fitted = adapteo.fit(settings(way, seed, arguments), *overrides, resume=True, show=False)
    facts = json.loads((folder / "run.json").read_text())
    scores = {"val": facts["validation"]["accuracy"], "parameters": facts["parameters"]["backbone_trained"]}
    scores["seconds"] = facts["seconds_per_step"] * facts["steps"] if way.trained else facts["linear_probe"]["seconds"]
    tables = fitted.test().tables
    scores |= {name: tables[name].row(ALL).metrics["accuracy"].value for name in SPLITS}
    print(f"{label}: {scores} ({time.perf_counter() - began:.0f} s)", flush=True)
    return scores


def runs_of(way: Way, arguments: argparse.Namespace) -> tuple[list[dict[str, float]], float | None]:
    """Choose the rate on validation with the first seed, then run all seeds; return their scores and the rate."""
    rate = None
    if way.trained:
        tried = {rate: run(way, SEEDS[0], rate, arguments)["val"] for rate in RATES[way.name]}
        rate = max(tried, key=lambda r: tried[r])
    return [run(way, seed, rate, arguments) for seed in SEEDS], rate


def pixel_baseline(seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Logistic regression on each band's mean and standard deviation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    dataset = config.load({**settings(WAYS[0], seed, arguments), "out": str(arguments.out / "pixel")}).dataset

    def table(split: str) -> tuple[np.ndarray, np.ndarray]:
        samples = [dataset.read(key) for key in dataset.split(split)]
        features = [np.concatenate([s.image.mean((0, 2, 3)), s.image.std((0, 2, 3))]) for s in samples]
        return np.stack(features), np.array([s.target for s in samples])

    x, y = table("train")
    fits = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(x, y) for c in (1, 10, 100, 1000)
    ]
    best = max(fits, key=lambda fit: fit.score(*table("val")))
    return {"parameters": 0, "seconds": 0.0} | {name: best.score(*table(name)) for name in SPLITS}


def main() -> None:
    """Run everything that is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only", choices=[way.name for way in WAYS], help="run this way and stop, e.g. side by side")
    arguments = parser.parse_args()
    if arguments.only:
        runs_of(next(way for way in WAYS if way.name == arguments.only), arguments)
        return
    rows: dict[str, list[dict[str, float]]] = {"pixel statistics": [pixel_baseline(s, arguments) for s in SEEDS]}
    chosen: dict[str, float] = {}
    for way in WAYS:
        rows[way.name], rate = runs_of(way, arguments)
        if rate:
            chosen[way.name] = rate
    text = markdown(rows, chosen)
    print(text)
    with replacing(arguments.out / "eurosat.md") as beside:
        beside.write_text(text, encoding="utf-8")


def markdown(rows: dict[str, list[dict[str, float]]], chosen: dict[str, float]) -> str:
    """Format mean and standard deviation over seeds."""
    lines = [
        "| way | rate | trained in backbone | seconds | accuracy central | accuracy iberia (held out) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in rows.items():
        cells = [f"{np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}" for v in ([r[split] for r in runs] for split in SPLITS)]
        rate = f"{chosen[name]:g}" if name in chosen else ""
        seconds = np.mean([r["seconds"] for r in runs])
        lines.append(f"| {name} | {rate} | {runs[0]['parameters']:,} | {seconds:.0f} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
