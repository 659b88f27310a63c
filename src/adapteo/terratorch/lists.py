"""Lists of chips of published datasets: the caller's, the files' own, or those of arXiv 2504.17397 by their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapteo._yaml import Data
from adapteo.terratorch.lines import Translation

INIT = "data.init_args"


@dataclass(frozen=True)
class Options:
    """What the caller says about the machine.

    Attributes:
        root: folder of the dataset, for files with a placeholder there.
        splits: folder with lists of chips.
    """

    root: Path | None = None
    splits: Path | None = None


@dataclass(frozen=True)
class Lists:
    """A published dataset's lists of chips.

    Attributes:
        folder: that IBM/peft-geofm keeps them in.
        names: of their files, by part of ours.
    """

    folder: str
    names: Mapping[str, str]


FLOODS = Lists("sen1floods11", {"train": "train_data.txt", "val": "valid_data.txt", "test": "test_data.txt"})
BURNS = Lists("burn_scars", {"train": "train_data.txt", "val": "val_data.txt", "test": "test_data.txt"})
REBEN = Lists("reBEN/reBEN_7k", {"train": "train.txt", "val": "val.txt", "test": "test.txt"})


def holdouts(t: Translation, known: Mapping[str, str]) -> list[Data]:
    """Names of the further test lists; a list that is not known is refused."""
    key = f"{INIT}.test_splits"
    found: list[Data] = []
    for one in t.items(key):
        file = Path(str(one)).name
        if file in known:
            found.append(known[file])
        elif "test" not in file:
            t.refuse(key, f"{file} is no hold-out of this dataset", f"allowed: {', '.join(known)}")
    return [name for name in found if name]


def where(t: Translation, lists: Lists, options: Options) -> None:
    """Where the lists of chips are: the caller's folder, the files' own, or the paper's by their names."""
    keys = {part: f"{INIT}.{part}_split" for part in ("train", "val", "test")}
    tests = f"{INIT}.test_splits"
    given = {part: t.text(key) for part, key in keys.items() if t.has(key)}
    if t.has(tests):
        keys["test"] = tests
        given["test"] = next((str(one) for one in t.items(tests) if Path(str(one)).name == lists.names["test"]), "")
    folders = {str(Path(path).parent) for part, path in given.items() if part != "train"}
    wrong = [part for part in ("val", "test") if Path(given.get(part, "")).name != lists.names[part]]
    if len(folders) != 1 or wrong or "train" not in given:
        part = wrong[0] if wrong else "train"
        t.refuse(keys[part], f"its list is called {lists.names[part]} here, beside the others", "name the files so")
        return
    folder, train = Path(folders.pop()), Path(given["train"])
    if options.splits is not None:
        inside = options.splits / lists.folder
        place = t.path(str(inside if inside.is_dir() else options.splits))
        ours, note = place, "--splits"
    elif folder.is_dir():
        ours, note = t.path(str(folder)), ""
    elif folder.as_posix().endswith(f"datasets_splits/{lists.folder}"):
        ours, note = "paper", "the published lists; `dataset.download=true` fetches them, --splits names a folder"
    else:
        ours, note = t.path(str(folder)), "not there yet"
    if train.is_relative_to(folder):
        if str(train.relative_to(folder)) != lists.names["train"]:
            t.write("dataset.train_list", str(train.relative_to(folder)))
    else:
        t.write("dataset.train_list", t.path(str(train)))
    for key in dict.fromkeys(keys.values()):
        if t.has(key):
            t.becomes(key, "dataset.splits", ours, note=note)
