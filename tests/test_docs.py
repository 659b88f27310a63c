"""The documentation is true: its configurations load, its Python runs, its messages are what the command prints.

A block under ``<!-- run -->`` is executed, one under ``<!-- file: name -->`` is written to that name. All of them see
the world that docs/first-run.md describes: flood.yaml, flood/ and scene.tif, with smaller chips and a single epoch.
"""

import importlib.util
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

import adapteo
from adapteo import config
from adapteo.cli import app
from adapteo.data import _samples_burn_scars, _samples_geobench, _samples_reben, _samples_sen1floods11
from adapteo.data.raster import Raster, write_image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOME = "/home/ada/work"
"""Stands in the documentation for the folder that commands run in."""
"""Made by long runs; may be missing until the first of these has ended."""
_BLOCK = re.compile(r"(?:<!-- (run|file: ([\w.]+)) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    number: int
    kind: str
    text: str
    run: bool
    file: str

    @property
    def place(self):
        return f"{self.page.relative_to(ROOT)}-{self.number}"


def blocks(*kinds):
    """Blocks of some kinds, in the order of the pages."""
    return [
        Block(page, number, kind, text, mark == "run", file)
        for page in PAGES
        for number, (mark, file, kind, text) in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind in kinds
    ]


def each(found):
    return pytest.mark.parametrize("block", found, ids=lambda block: block.place)


# --------------------------------------------------------------------------------------------- world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder that the documentation describes, with a finished run in runs/flood."""
    folder = tmp_path_factory.mktemp("world")
    for block in blocks("python", "yaml"):
        if block.file:
            (folder / block.file).write_text(_small(block.text), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ADAPTEO_CACHE", str(tmp_path_factory.mktemp("docs-cache")))
        exec(compile((folder / "make_chips.py").read_text(encoding="utf-8"), "make_chips.py", "exec"), {})
        _further_data(folder)
        adapteo.fit("flood.yaml", show=False)
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the world as the current folder."""
    shutil.copytree(world, tmp_path / "work", ignore=shutil.ignore_patterns("state.pt"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    return tmp_path / "work"


def _small(text):
    smaller = {
        "size=64, train=36, heldout=12": "size=32, train=16, heldout=4",
        'scene_map("flood", "delta")': 'scene_map("flood", "delta", (64, 64))',
        "epochs: 30": "epochs: 1",
    }
    for old, new in smaller.items():
        text = text.replace(old, new)
    return text


def _further_data(folder):
    """What docs/data.md and docs/datasets.md describe beside the floods."""
    _samples_sen1floods11.write(folder / "sen1floods11", side=32)
    _samples_burn_scars.write(folder / "hls_burn_scars", per_split=6, side=32)
    _samples_geobench.write(folder / "geobench", side=32, subsets=("m-cashew-plant", "m-eurosat"))
    _samples_reben.write(folder / "reben", side=36)
    rng = np.random.default_rng(0)
    bands = ("blue", "green", "red", "nir08", "swir16", "swir22")

    place = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)

    def chip(name, count=6, dates=1):
        pixels = rng.integers(1, 4000, (dates * count, 8, 8)).astype(np.uint16)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, Raster(pixels, bands[:count] * dates, None, "EPSG:32632", place))

    def mask(name, values):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, Raster(values[None], ("label",), None, "EPSG:32632", place))

    for i in range(20):
        for label in ("forest", "sea"):
            (folder / "landuse" / label).mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(picture).save(folder / "landuse" / label / f"{i}.png")
        chip(f"fields/images/{i}.tif")
        chip(f"biomass/images/{i}.tif")
        mask(f"biomass/height/{i}.tif", rng.normal(20, 5, (8, 8)).astype(np.float32))
        for season in ("spring", "summer"):
            chip(f"crops/{season}/{i}_2023.tif")
        chip(f"crops/stacked/{i}.tif", dates=2)
        for name in (f"crops/labels/{i}_2023.tif", f"crops/stacked_labels/{i}.tif"):
            mask(name, rng.integers(0, 2, (8, 8), np.uint8))
    rows = [f"images/{i}.tif,{('forest', 'sea')[i % 2]},{('north', 'south')[i // 14]},48.{i},11.5" for i in range(20)]
    (folder / "fields/chips.csv").write_text("\n".join(["path,label,region,latitude,longitude", *rows]))
    rows = [f"images/{i}.tif,{i % 2},{int(i > 9)}" for i in range(20)]
    (folder / "fields/several.csv").write_text("\n".join(["path,forest,sea", *rows]))
    _survey(folder / "valley", rng, bands)
    listed = [path.relative_to(folder / "flood/images").as_posix() for path in (folder / "flood/images").rglob("*.tif")]
    for name, start in (("train", 0), ("val", 1), ("test", 2)):
        lines = [f"images/{path}" for path in sorted(listed)[start::3]]
        (folder / "flood" / f"{name}.txt").write_text("\n".join(lines))


def _survey(folder, rng, bands):
    """A scene, and points drawn on it."""
    (folder / "scenes").mkdir(parents=True)
    pixels = rng.integers(1, 4000, (6, 160, 192)).astype(np.uint16)
    place = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    write_image(folder / "scenes/2023-07-10.tif", Raster(pixels, bands, None, "EPSG:32632", place))
    x, y = rng.uniform(500_000, 501_920, 300), rng.uniform(4_998_400, 5_000_000, 300)
    kinds = [("forest", "meadow", "water")[i % 3] for i in range(300)]
    geopandas.GeoDataFrame({"kind": kinds}, geometry=geopandas.points_from_xy(x, y), crs="EPSG:32632").to_file(
        folder / "landcover.gpkg"
    )


# --------------------------------------------------------------------------------------------- tests


@each(blocks("yaml"))
def test_configurations_load_and_their_data_can_be_read(block, here):
    given = yaml.safe_load(block.text)
    whole = yaml.safe_load((here / "flood.yaml").read_text(encoding="utf-8"))
    if given.keys() <= whole.keys() | {"task", "out", "tune"}:
        whole |= given
    else:  # keys of the dataset section
        whole["dataset"] |= given
    Path("run.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    run = config.load("run.yaml")
    for split in ("train", "val", "test", *run.dataset.holdouts):
        sample = run.dataset.read(run.dataset.split(split)[0])
        assert sample.image.shape[:2] == (run.dataset.frames, len(run.dataset.bands))
        assert sample.target is not None


@each([block for block in blocks("console") if block.run])
def test_commands_print_what_is_written(block, here):
    if "adapteo fit" in block.text:  # the mistakes are made before there is a run
        shutil.rmtree("runs")
    expected, printed = [], []
    for line in block.text.splitlines():
        if not line.startswith("$ "):
            expected[-1].append(line)
            continue
        words = shlex.split(line.removeprefix("$ "))
        expected.append([])
        if words[0] == "adapteo":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 2
            printed.append(result.output.replace(str(here), HOME).strip().splitlines())
        else:
            subprocess.run(words, check=True)
            printed.append([])
    printed = [[line for line in lines if not line.startswith("fitting the decoder")] for lines in printed]
    assert [list(map(_rough, lines)) for lines in printed] == [list(map(_rough, lines)) for lines in expected]


def _rough(line):
    """A line without numbers, which depend on the size of the chips, and without GDAL's own words."""
    return re.sub(r"\d+(\.\d+)?", "#", re.sub(r"(cannot read [^:]*:).*", r"\1", line))


PYTHON_PAGES = sorted({block.page for block in blocks("python") if block.run})


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_python_runs(page, here):
    if page.name == "README.md":
        shutil.rmtree("runs")
    names = {}
    for block in blocks("python"):
        if block.page == page and block.run:
            exec(compile(block.text, block.place, "exec"), names)


def test_the_reference_is_current():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools/make_docs.py")
    make_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_docs)
    written = {path.name: path.read_text(encoding="utf-8") for path in make_docs.FOLDER.glob("*.md")}
    assert written == make_docs.pages(), "run `make docs`"


def test_commands_and_targets_exist():
    commands = typer.main.get_command(app).commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"`([^`\n]+)`", text) + [line for b in _BLOCK.findall(text) for line in b[3].splitlines()]
        for line in code:
            words = line.removeprefix("$ ").removeprefix("PYTHONPATH=. ").partition("#")[0].split()
            if words[:1] == ["make"] and len(words) > 1:
                assert words[1] in targets, f"{page.name}: {line}"
            if words[:1] == ["adapteo"] and len(words) > 1 and words[1].isidentifier():
                assert words[1] in commands, f"{page.name}: {line}"
                command = commands[words[1]]
                if isinstance(command, typer.core.TyperGroup) and len(words) > 2:
                    assert words[2] in command.commands, f"{page.name}: {line}"
                    command = command.commands[words[2]]
                known = {option for parameter in command.params for option in parameter.opts}
                given = {word.strip("[]") for word in words if word.strip("[]").startswith("--")}
                assert given <= known | {"--help", "--debug"}, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)", page.read_text(encoding="utf-8")):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{target} is not there"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor[1:] in anchors, f"{target}{anchor} is not there"
