"""A configuration is short, strict, and every mistake in it is answered with its line."""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from adapteo import _yaml, config, registry
from adapteo.contracts import Dataset, Method, Task
from adapteo.errors import AdaptEOError, ConfigError
from tiny import TinySpec


@dataclass(frozen=True)
class Shuffle:
    """One way to split, told from `Blocks` by `by`."""

    by: Literal["shuffle"] = "shuffle"
    fractions: tuple[float, float] = (0.8, 0.2)


@dataclass(frozen=True)
class Blocks:
    """The other way."""

    size: float
    by: Literal["blocks"] = "blocks"


@dataclass(frozen=True)
class Chips(Dataset):
    """Dataset with a field of every kind that a user may write."""

    root: Path
    masks: str = ""
    files: tuple[Path, ...] = ()
    band_names: tuple[str, ...] = ("red", "green")
    class_names: tuple[str, ...] | Mapping[int, str] = ()
    scale: float = 1.0
    offset: float | Literal["auto"] = 0.0
    limit: int | None = None
    strict: bool = False
    part: Shuffle | Blocks = field(default_factory=Shuffle)

    def __post_init__(self):
        if self.limit == 13:
            raise ConfigError("limit is 13", fix="any other number will do")

    bands = property(lambda self: self.band_names)
    classes = ()
    task = "segmentation"

    def split(self, name):
        return ()

    def read(self, key, bands=None):
        raise NotImplementedError

    def fingerprint(self):
        return ""


@dataclass(frozen=True)
class Half(Method):
    """A method that cannot be built: it lacks `parameters_formula`."""

    def apply(self, backbone):
        """Do nothing."""


@dataclass(frozen=True)
class Scarce:
    """Not a method at all."""


GOOD = """\
dataset:
  name: test_config:Chips
  root: chips
  scale: 1e-4
backbone: tiny:TinySpec
method:
  name: lora
  rank: 8
decoder: linear
train:
  rate: 3e-4
  epochs: 3
"""


@pytest.fixture
def flood(tmp_path):
    """Write a configuration, changed as told, and return its path."""

    def write(old="", new="", text=GOOD):
        assert old in text
        path = tmp_path / "flood.yaml"
        path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
        return path

    return write


# ----------------------------------------------------------------------------------------- what works


def test_a_short_file_makes_a_whole_run(flood, tmp_path):
    run = config.load(flood())
    assert run.dataset == Chips(root=tmp_path / "chips", scale=1e-4)
    assert run.backbone == TinySpec()
    assert (type(run.method).__name__, run.method.rank) == ("LoRA", 8)
    assert run.train == config.Train(rate=3e-4, epochs=3)
    assert config.name_of(run.task) == "segmentation"
    assert run.out == Path("runs/flood")


def test_a_mapping_says_the_same_as_a_file(flood, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "dataset": {"name": "test_config:Chips", "root": Path("chips"), "scale": 1e-4},
        "backbone": TinySpec(),
        "method": {"name": "lora", "rank": 8},
        "decoder": "linear",
        "train": {"rate": 3e-4, "epochs": 3},
        "out": "runs/flood",
    }
    assert config.load(given) == config.load(flood())


def test_train_and_task_may_be_left_out(flood):
    run = config.load(flood(GOOD[GOOD.index("train:") :], ""))
    assert run.train == config.Train()


def test_a_task_section_without_name_keeps_the_task_of_the_dataset(flood):
    field_name, default = next((f.name, f.default) for f in dataclasses.fields(registry.load("tasks", "segmentation")))
    run = config.load(flood("train:", f"task:\n  {field_name}: {default}\ntrain:"))
    assert config.name_of(run.task) == "segmentation"


@pytest.mark.parametrize(
    ("overrides", "where", "value"),
    [
        (["train.rate=1e-5"], "train.rate", 1e-5),
        (["train.rate=1", "train.rate=2"], "train.rate", 2.0),
        (["train.clip=null"], "train.clip", None),
        (["train.tensorboard=true"], "train.tensorboard", True),
        (["method.rank=2"], "method.rank", 2),
        (["method=lora"], "method.rank", 8),
        (["backbone.depth=5"], "backbone.depth", 5),
        (["dataset.masks=*_S2.tif"], "dataset.masks", "*_S2.tif"),
        (["dataset.masks=%Y: #1"], "dataset.masks", "%Y: #1"),
        (["dataset.masks='12'"], "dataset.masks", "12"),
        (["dataset.band_names=[nir, red]"], "dataset.band_names", ("nir", "red")),
        (["dataset.class_names={0: land, 1: water}"], "dataset.class_names", {0: "land", 1: "water"}),
        (["dataset.offset=auto"], "dataset.offset", "auto"),
        (["dataset.part={size: 0.5}"], "dataset.part", Blocks(0.5)),
        (["dataset.part.fractions=[0.5, 0.5]"], "dataset.part", Shuffle(fractions=(0.5, 0.5))),
        (["out=a: [b] #c"], "out", Path("a: [b] #c")),
        (["out=1e5"], "out", Path("1e5")),
        (['out="a: [b] #c"'], "out", Path("a: [b] #c")),
    ],
)
def test_overrides(flood, overrides, where, value):
    found = config.load(flood(), overrides)
    for name in where.split("."):
        found = vars(found)[name]
    assert found == value
    assert type(found) is type(value)


def test_an_override_that_names_another_entry_drops_the_keys_of_the_former(flood):
    assert type(config.load(flood(), ["method=vpt"]).method).__name__ == "VPT"
    assert config.load(flood(), ["method.name=frozen"]) == config.load(flood(), ["method=frozen"])


def test_paths_are_relative_to_where_they_are_written(flood, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = flood("root: chips", "root: chips\n  files: [a.tif, /b.tif]")
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = config.load(path)
    assert run.dataset.root == tmp_path / "chips"
    assert run.dataset.files == (tmp_path / "a.tif", Path("/b.tif"))
    assert config.load(path, ["dataset.root=mine"]).dataset.root == tmp_path / "elsewhere" / "mine"


def test_local_weights_are_found_beside_the_file(flood, tmp_path):
    (tmp_path / "model.pt").touch()
    text = "backbone:\n  name: tiny:TinySpec\n  weights: model.pt"
    assert config.load(flood("backbone: tiny:TinySpec", text)).backbone.weights == str(tmp_path / "model.pt")
    assert config.load(flood(), ["backbone.weights=pretrained"]).backbone.weights == "pretrained"


def test_anchors_aliases_and_merges(flood):
    text = GOOD.replace("backbone:", "train: &t {epochs: 7, batch: 2}\nbackbone:").replace(
        "train:\n  rate: 3e-4\n", "task:\n"
    )
    assert config.load(flood(text=text.replace("task:\n  epochs: 3\n", ""))).train == config.Train(epochs=7, batch=2)
    path = flood("train:", "train:\n  <<: {epochs: 9, batch: 4}")
    assert config.load(path).train == config.Train(rate=3e-4, epochs=3, batch=4)


# ----------------------------------------------------------------------------------------- round trip


def test_dump_loads_to_an_equal_run(flood, tmp_path):
    run = config.load(
        flood(),
        ["dataset.class_names={0: 'no', 1: '1e-4', 255: null here}", "dataset.part={size: 3}", "dataset.masks='007'"],
    )
    again = tmp_path / "config.yaml"
    again.write_text(config.dump(run), encoding="utf-8")
    assert config.load(again) == run
    assert config.load(vars(run)) == run


def _entries():
    return [(family, name) for family in registry.FAMILIES for name in registry.names(family)]


@pytest.mark.parametrize(("family", "name"), _entries(), ids=lambda value: value)
def test_every_entry_survives_the_round_trip(family, name, tmp_path, flood):
    cls = registry.load(family, name)
    assert dataclasses.is_dataclass(cls)
    needed = [
        f.name
        for f in dataclasses.fields(cls)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    base = config.load(flood())
    section = {"name": name} | dict.fromkeys(needed, str(tmp_path))
    if family == "datasets":  # its task may need its files
        run = dataclasses.replace(base, dataset=cls(**dict.fromkeys(needed, str(tmp_path))))
        text = config.dump(run)
        assert text.startswith(f"dataset:\n  name: {name}\n")
        assert config.load({**vars(run)}).dataset == run.dataset
        return
    run = config.load({**vars(base), family.removesuffix("s"): section})
    again = tmp_path / "config.yaml"
    again.write_text(config.dump(run), encoding="utf-8")
    assert config.load(again) == run
    assert config.name_of(vars(run)[family.removesuffix("s")]) == name


@pytest.mark.parametrize(
    "text",
    ["1", "1e-4", "-.5", ".inf", ".nan", "true", "no", "on", "null", "~", "", "0x1F", "0o7", "007", "1_000", "12:30",
     "2020-01-01", "<<", "=", "a: b", "# no", "*x", "&x", "- a", "%Y", "'", '"', " padded ", "zwei\nZeilen", "ä"],
)  # fmt: skip
def test_text_stays_text(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(_yaml.dump({"key": text, "list": [text]}), encoding="utf-8")
    assert _yaml.read(path).root == {"key": text, "list": [text]}


@pytest.mark.parametrize("value", [0, -7, 1e-4, 1e22, 3.0, math.inf, True, False, None, [], {}, [[1], {"a": 2}]])
def test_values_stay_values(value, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(_yaml.dump({"key": value}), encoding="utf-8")
    (found,) = _yaml.read(path).root.values()
    assert found == value
    assert type(found) is type(value)


# ------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("rank: 8", "rnak: 8", 8, ["method 'lora' has no key 'rnak'; did you mean 'rank'?", "allowed: rank, alpha"]),
        ("rank: 8", "rank: eight", 8, ["method.rank is 'eight'", "a whole number"]),
        ("rank: 8", 'rank: "8"', 8, ["method.rank is '8'", "a whole number"]),
        ("rank: 8", "rank:", 8, ["method.rank is empty", "a whole number"]),
        ("rank: 8", "rank: 2.5", 8, ["method.rank is 2.5", "a whole number"]),
        ("name: lora", "name: lorra", 7, ["there is no method 'lorra'; did you mean 'lora'?", "adapteo list methods"]),
        ("  name: lora\n", "", 6, ["'method' has no name", "lora"]),
        ("method:\n  name: lora\n  rank: 8\n", "", None, ["'method' is missing", "frozen", "`method: <name>`"]),
        ("method:", "metod:", 6, ["there is no key 'metod'; did you mean 'method'?", "dataset, backbone, method"]),
        ("decoder: linear", "decoder: 3", 9, ["'decoder' has no name"]),
        ("decoder: linear", "decoder: no_such.thing:Head", 9, ["cannot import 'no_such.thing'", "PYTHONPATH"]),
        ("decoder: linear", "decoder: tiny:TinySpeck", 9, ["has no class 'TinySpeck'; did you mean 'TinySpec'?"]),
        ("decoder: linear", "decoder: tiny:TinySpec", 9, ["'tiny:TinySpec' cannot be the decoder", "DecoderSpec"]),
        ("name: lora\n  rank: 8", "name: test_config:Half", 6, ["cannot be the method", "contracts.Method"]),
        ("name: lora\n  rank: 8", "name: test_config:Scarce", 6, ["cannot be the method"]),
        ("  root: chips\n", "", 1, ["dataset 'test_config:Chips' needs 'root'"]),
        ("root: chips", "roott: chips", 3, ["has no key 'roott'; did you mean 'root'?"]),
        ("scale: 1e-4", "strict: yes", 4, ["dataset.strict is 'yes'", "true or false"]),
        ("scale: 1e-4", "strict: 'false'", 4, ["dataset.strict is 'false'", "true or false"]),
        ("scale: 1e-4", "band_names: red", 4, ["dataset.band_names is 'red'", "a list, like [a, b]"]),
        ("scale: 1e-4", "band_names:\n    - red\n    - 4", 6, ["dataset.band_names.1 is 4", "quotes"]),
        ("scale: 1e-4", "limit: 13", 4, ["limit is 13", "any other number"]),
        ("scale: 1e-4", "offset: atuo", 4, ["dataset.offset is 'atuo'", "'auto'", "a number"]),
        ("scale: 1e-4", "class_names: {one: land}", 4, ["dataset.class_names has the key 'one'", "a whole number"]),
        ("scale: 1e-4", "part:\n    by: block", 5, ["dataset.part.by is 'block'", "'blocks'", "'shuffle'"]),
        ("scale: 1e-4", "part:\n    by: blocks", 4, ["dataset.part needs 'size'"]),
        ("scale: 1e-4", "part:\n    by: blocks\n    sise: 2", 6, ["has no key 'sise'; did you mean 'size'?", "by"]),
        ("scale: 1e-4", "part: blocks", 4, ["dataset.part is 'blocks'", "keys with values"]),
        ("scale: 1e-4", "part:\n    fractions: [1]", 5, ["dataset.part.fractions has too few items"]),
        ("scale: 1e-4", "part:\n    fractions: [1, 2, 3]", 5, ["dataset.part.fractions is [1, 2, 3]"]),
        ("scale: 1e-4", "scale: 1\n  scale: 2", 5, ["key 'scale' is already in line 4"]),
        ("rate: 3e-4", "rate: fast", 11, ["train.rate is 'fast'", "a number"]),
        ("rate: 3e-4", "rate: 0", 11, ["train.rate is 0", "more than 0"]),
        ("epochs: 3", "epochs: 0", 12, ["train.epochs is 0", "1 or more"]),
        ("epochs: 3", "epoch: 3", 12, ["train has no key 'epoch'; did you mean 'epochs'?"]),
        ("epochs: 3", "schedule: cosin", 12, ["train.schedule is 'cosin'", "'plateau', 'cosine' or 'constant'"]),
        ("  rate: 3e-4\n  epochs: 3", "- epochs", 10, ["train is ['epochs']"]),
        ("epochs: 3", "epochs: 3\nout: 5", 13, ["out is 5"]),
        ("epochs: 3", "epochs: 3\ntask: 5", 13, ["'task' has no name", "segmentation"]),
        ("epochs: 3", "epochs: 3\ntask: segmentatoin", 13, ["no task 'segmentatoin'; did you mean 'segmentation'?"]),
        ("  epochs: 3", "\tepochs: 3", 12, ["a tab", "spaces"]),
        ("rate: 3e-4", "rate: [3e-4", 12, ["not YAML"]),
        ("scale: 1e-4", "masks: *_S2.tif", 4, ["not YAML", "quotes around"]),
        ("scale: 1e-4", "masks: %Y", 4, ["not YAML", "quotes around"]),
        ("rate: 3e-4", "rate 3e-4", 12, ["not YAML"]),
        ("rate: 3e-4", "rate: !!python/name:os.system 1", 11, ["does not fit"]),
        ("rate: 3e-4", "rate: !!int lots", 11, ["does not fit 'lots'"]),
        ("rate: 3e-4", "[a, b]: 1", 11, ["a list cannot be a key"]),
        ("train:", "train: &self\n  crop: *self", 10, ["an alias that contains itself"]),
        ("rate: 3e-4", "<<: 5", 11, ["takes an alias of a mapping"]),
        ("rate: 3e-4", "rate: \x07", 11, ["a character that no text has (#7)"]),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_line(flood, old, new, line, says):
    with pytest.raises(ConfigError) as caught:
        config.load(flood(old, new))
    message = str(caught.value)
    place = f"flood.yaml, line {line}: " if line else "flood.yaml: "
    assert message.startswith(place), message
    assert len(message.splitlines()) <= 5
    for words in says:
        assert words in message


def test_several_mistakes_are_shown_together_but_not_more_than_three(flood):
    text = GOOD.replace("epochs: 3", "epochs: many\n  batch: few\n  crop: big\n  wormup: 3")
    with pytest.raises(ConfigError) as caught:
        config.load(flood(text=text))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("flood.yaml, line 15: train has no key 'wormup'")
    assert lines[2].startswith("flood.yaml, line 12: train.epochs is 'many'")
    assert lines[3].startswith("flood.yaml, line 13: train.batch is 'few'")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.rate", ["override 'train.rate' is not key=value"]),
        ("=3", ["is not key=value"]),
        ("train..rate=3", ["is not key=value"]),
        ("train.rtae=3", ["override 'train.rtae=3': train has no key 'rtae'; did you mean 'rate'?"]),
        ("trian.rate=3", ["override 'trian.rate=3': there is no key 'trian'; did you mean 'train'?"]),
        ("method=lorra", ["override 'method=lorra': there is no method 'lorra'; did you mean 'lora'?"]),
        ("method.rank=two", ["override 'method.rank=two': method.rank is 'two'", "a whole number"]),
        ("train.epochs.most=3", ["train.epochs is 3 and has no keys"]),
        ("train.clip=[1", ["not YAML"]),
        ("out=", ["out is ''", "folder"]),
    ],
)
def test_a_mistake_in_an_override_is_answered_with_the_override(flood, override, says):
    with pytest.raises(ConfigError) as caught:
        config.load(flood(), [override])
    for words in says:
        assert words in str(caught.value)


def test_a_mistake_in_a_mapping_needs_no_line(flood):
    given = {**vars(config.load(flood())), "method": {"name": "lora", "rnak": 3}}
    with pytest.raises(ConfigError, match=r"^configuration: method 'lora' has no key 'rnak'"):
        config.load(given)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "flood.yaml is empty"),
        (b"# nothing yet\n", "flood.yaml is empty"),
        (b"- a\n- b\n", "line 1: expected `key: value` lines, found a list"),
        (b"flood\n", "line 1: expected `key: value` lines, found 'flood'"),
        (b"a: 1\n---\nb: 2\n", "line 2: not YAML"),
        (b"a: \xff\n", "is not UTF-8 text (byte 3)"),
    ],
)
def test_files_that_hold_no_configuration(tmp_path, content, says):
    path = tmp_path / "flood.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert says in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "flood.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert config.load(path).train.epochs == 3


def test_a_file_that_is_not_there(flood, tmp_path):
    flood()
    with pytest.raises(ConfigError, match=r"flod.yaml does not exist; did you mean 'flood.yaml'\?"):
        config.load(tmp_path / "flod.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        config.load(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        config.load(tmp_path / "no" / "such.yaml")


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"rate": -1.0}, {"plateau_factor": 1.0}, {"patience": 0}, {"crop": 0}, {"seed": -1}]
)
def test_train_refuses_values_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(AdaptEOError, match=f"train.{name} is"):
        config.Train(**wrong)


def test_every_field_is_documented():
    for cls in (config.Train, config.Run):
        documented = inspect.cleandoc(cls.__doc__).partition("Attributes:")[2]  # Python 3.13 takes the indent away
        for f in dataclasses.fields(cls):
            assert f"\n    {f.name}: " in documented


def test_tasks_are_named_by_datasets_of_every_kind():
    assert {"segmentation", "classification", "multilabel", "regression"} <= set(registry.names("tasks"))
    assert all(issubclass(registry.load("tasks", name), Task) for name in registry.names("tasks"))
