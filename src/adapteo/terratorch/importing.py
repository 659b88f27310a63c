"""A TerraTorch configuration in, ours out, with a report that says what became of each line.

    lora.yaml (+ the data module's file)
      line 34  model.init_args.lr: 0.0009  ->  train.rate
      line  5  trainer.callbacks.0  dropped: LearningRateMonitor: log.csv has …
      line 49  model.init_args.optimizer: AdamW  differs: weight decay acts on matrices here, …

Every value of the file is mapped, dropped, said to differ, or refused; what is not known is refused.
"""

from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

from adapteo import _yaml, config
from adapteo.config import Run
from adapteo.errors import ConfigError
from adapteo.terratorch.data import translate_data
from adapteo.terratorch.generic import statistics
from adapteo.terratorch.lines import Line, Translation
from adapteo.terratorch.lists import Options
from adapteo.terratorch.model import translate_model
from adapteo.terratorch.task import task_of, translate_task
from adapteo.terratorch.trainer import translate_optimiser, translate_trainer

_SECTIONS = ("dataset", "backbone", "method", "decoder", "task", "train")
_FILES = ("data", "model", "trainer")
"""Keys that may name a file with their content instead."""


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Attributes:
        text: our YAML file.
        lines: what became of each line of TerraTorch's files, and of what they leave to defaults.
        run: the configuration, checked.
    """

    text: str
    lines: tuple[Line, ...]
    run: Run

    def report(self) -> str:
        """All lines, file by file, and how many there are of each kind."""
        written = sorted((line for line in self.lines if line.place), key=_number)
        parts = []
        for name, lines in groupby(sorted(written, key=_file), key=_file):
            parts += [name, *(f"  {line}" for line in lines)]
        parts += ["not written there", *(f"  {line}" for line in self.lines if not line.place)]
        counts = {v: sum(line.verdict == v for line in self.lines) for v in ("mapped", "dropped", "differs")}
        parts.append(f"{counts['mapped']} mapped, {counts['dropped']} dropped, {counts['differs']} differ")
        return "\n".join(parts)


def import_config(
    path: str | Path, *, out: Path | None = None, root: Path | None = None, splits: Path | None = None
) -> Imported:
    """Translate a configuration file of TerraTorch.

    Args:
        path: of the YAML file, as for ``terratorch fit --config``.
        out: where ours will be written, for the paths in it; None for the current folder.
        root: folder of the dataset, for files with a placeholder such as ``<path>`` there.
        splits: folder with the lists of chips, e.g. ``datasets_splits`` of IBM/peft-geofm.

    Raises:
        ConfigError: something in the file would mean something else here; names the lines.
    """
    path = Path(path)
    t = Translation(_yaml.read(path), out.parent if out else Path())
    for key in _FILES:
        _insert(t, key, path)
    task = task_of(t)
    if not task:
        t.silence("")
        t.finish()
    translate_trainer(t, task)
    imagery = translate_data(t, task, Options(root, splits))
    built = translate_model(t, task, imagery)
    translate_optimiser(t)
    translate_task(t, task)
    if t.written.get("dataset", {}).get("name") == "folder" and built.bands:
        statistics(t, built.bands)
    t.finish()
    run = _checked(t, built.bands, imagery.bands)
    return Imported(f"# {path.name}, imported from TerraTorch\n{_yaml.dump(_short(t, run))}", tuple(t.lines), run)


def _insert(t: Translation, key: str, path: Path) -> None:
    """Put the content of a file that is named in the place of a section there."""
    given, document = t.document.root.get(key), t.document
    if not isinstance(given, str):
        return
    there = next((p for p in _candidates(path, given) if p.is_file()), path.parent / given)
    if there != path.parent / given and there.is_file():
        t.differ(key, f"there is no such file; {there} is taken")
    try:
        other = _yaml.read(there)
    except ConfigError as error:
        place = document.origins[(key,)].place
        raise ConfigError(f"{place}: {error.problem}", allowed=error.allowed, fix=error.fix) from error
    document.root[key] = other.root
    document.origins |= {(key, *trail): origin for trail, origin in other.origins.items()}
    t.forget(key)


def _candidates(path: Path, given: str) -> list[Path]:
    """Where a file may be: relative to the one that names it; else where its end lies above that one."""
    end = Path(*(part for part in Path(given).parts if part not in ("..", ".")))
    return [path.parent / given, *(folder / end for folder in path.resolve().parents)]


def _checked(t: Translation, bands: tuple[str, ...], named: tuple[str, ...]) -> Run:
    """Load what was written, with ``train.bands`` where the backbone would take others by itself.

    Args:
        t: the translation.
        bands: that the model gets.
        named: by the data module; empty for all of the dataset.

    Raises:
        ConfigError: our own check refuses it, or the data module feeds other bands than the model has.
    """
    run = config.load(_plain(t))
    if bands and not named and run.dataset.bands != bands:
        t.refuse(
            "data.class_path", f"feeds all {len(run.dataset.bands)} bands to a model of {len(bands)}", "name `bands`"
        )
        t.finish()
    if bands and run.backbone.accepts(run.dataset.bands) != bands:
        t.write("train.bands", list(bands))
        t.note("(bands)", "mapped", f"train.bands: {', '.join(bands)}")
        run = config.load(_plain(t))
    return run


def _plain(t: Translation) -> dict[str, object]:
    sections: dict[str, object] = {name: t.written[name] for name in _SECTIONS if name in t.written}
    return sections | ({"out": t.written["out"][""]} if "out" in t.written else {})


def _short(t: Translation, run: Run) -> dict[str, object]:
    """The sections without what is the default anyway."""
    kept: dict[str, object] = {}
    for name, values in _plain(t).items():
        if not isinstance(values, dict):
            kept[name] = values
            continue
        entry = vars(run)[name]
        defaults = {f.name: f.default for f in fields(entry)}
        rest = {key: values[key] for key in defaults if key in values and vars(entry)[key] != defaults[key]}
        if name != "train" and (name != "task" or values["name"] != run.dataset.task):
            rest = {"name": values["name"], **rest}
        if rest:
            kept[name] = rest["name"] if set(rest) == {"name"} else rest
    return kept


def _file(line: Line) -> str:
    return line.place.partition(", line")[0]


def _number(line: Line) -> int:
    return int(line.place.rpartition("line ")[2] or 0) if "line " in line.place else 0
