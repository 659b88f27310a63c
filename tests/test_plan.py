"""What is planned is what a real run takes; what fits is told, and what to change when it does not."""

import json
from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

import timm_here
import tiny
import toy
from adapteo import config, experiment, machine, plan, quantise, registry
from adapteo.assembly import adapt_model, assemble, loader
from adapteo.cli import app
from adapteo.errors import ConfigError
from adapteo.feature_cache import with_features
from adapteo.machine import Limit
from adapteo.meter import Memory
from adapteo.plan import Planner
from adapteo.quantise import make_ready
from adapteo.tracing import Counter, Step
from adapteo.train import Observer

HERE = Limit(None, "a test", gpu=False, here=False)
NANO, TINY = "backbone=nano", "backbone={name: prithvi, variant: 2.0-tiny-TL, weights: random}"
GALILEO = "backbone={name: galileo, variant: nano, weights: random}"
RESNET = "backbone={name: timm, model: resnet18.a1_in1k, weights: random}"

CASES = [
    # backbone, method, decoder and others
    ("full", NANO), ("lora", NANO, "decoder=unet"), ("frozen", NANO), ("last_k", NANO, "decoder=upernet"),
    ("full", TINY, "decoder=unet", "train.memory=leanest"), ("lora", TINY, "train.memory=fast"),
    ("vpt", TINY), ("bitfit", TINY, "decoder=fcn"), ("adaptformer", GALILEO), ("ssf", GALILEO, "train.memory=leanest"),
    ("full", RESNET, "decoder=unet"), ("bitfit", RESNET), ("frozen", TINY, "decoder=unet", "train.cache_features=off"),
    ("lora", TINY, "train.precision=bf16"), ("vit_adapter", TINY, "decoder=unet"), ("mona", TINY, "train.accumulate=2"),
    ("lora", TINY, "train.trunk=bf16"), ("lora", TINY, "train.trunk=int8"),
    ("lora", TINY, "train.crop=32", "train.batch=3"), ("[lora, ssf]", NANO),
    ("lst", TINY, "decoder=unet"), ("side", TINY, "decoder=unet"), ("side", RESNET, "decoder=unet"),
    ("lst", TINY, "decoder=unet", "train.cache_features=off"), ("lst", TINY, "decoder=unet", "train.precision=bf16"),
    ("side", TINY), ("lst", TINY, "train.accumulate=2"),  # of whose maps the linear decoder reads one
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    timm_here.prepare()
    monkeypatch.setenv("ADAPTEO_CACHE", str(tmp_path / "cache"))


def spell(folder, method, *overrides, kind="segmentation", **toy_fields):
    toy_fields = {"side": 64, "counts": (4, 1, 1, 1), "kind": kind} | toy_fields
    return toy.spell(folder / "run", f"method={method}", "train.head_start=false", *overrides, **toy_fields)


def measured(run):
    """Bytes of the first step of a training, by `adapteo.meter` on real tensors."""
    assembled = assemble(run)
    adapt_model(assembled.model, run, run.dataset.classes)
    loaders = (loader(run, "train", assembled.bands, shuffled=True), loader(run, "val", assembled.bands))
    first, _ = with_features(
        run, assembled.model, loaders, untouched=False, autocast=nullcontext, note=lambda message: None
    )
    memory = Memory()
    Step(run, assembled.model, next(iter(first.epoch(0)))).run(memory)
    return memory


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(each.partition("=")[2][:24] or each for each in case))
def test_memory_is_planned_as_it_is_measured(case, tmp_path):
    run = spell(tmp_path, *case)
    planned = Planner(run, HERE).need("it")
    memory = measured(run)
    assert planned.total == pytest.approx(memory.total, rel=0.1)
    for part in ("weights", "gradients", "optimiser"):
        assert planned.memory[part] == getattr(memory, part), part
    kept = planned.memory["activations"] + planned.memory["decoder"]
    assert kept == pytest.approx(memory.activations, rel=0.1)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("method", ["lora", "frozen"])
def test_every_task_can_be_planned(kind, method, tmp_path):
    run = spell(tmp_path, method, NANO, kind=kind)
    planned = Planner(run, HERE).need("it")
    assert planned.total == pytest.approx(measured(run).total, rel=0.1)


@pytest.mark.parametrize("name", [name for name in registry.names("methods") if name != "hf"])
def test_every_method_can_be_planned(name, tmp_path):
    need = Planner(spell(tmp_path, name, TINY), HERE).need("it")
    assert need.peak > need.memory["weights"] > 0


@pytest.mark.parametrize("memory", ["fast", "lean", "leanest"])
def test_the_peak_is_that_of_a_real_step(memory, tmp_path):
    """Real tensors, followed by the same counter from operation to operation; what is recomputed is in it."""
    run = spell(tmp_path, "lora", TINY, f"train.memory={memory}")
    planned = Planner(run, HERE).need("it")
    assembled = assemble(run)
    model = assembled.model
    adapt_model(model, run, run.dataset.classes)
    step = Step(run, model, next(iter(loader(run, "train", assembled.bands).epoch(0))))
    step.run(Memory())
    state = [value for each in step.optimiser.state.values() for value in each.values()]
    with Counter([*model.parameters(), *model.buffers(), *state, step.batch.images, step.batch.target]) as counter:
        step.gradients()
    assert planned.peak == pytest.approx(counter.peak, rel=0.02)
    assert planned.operations * planned.images == pytest.approx(counter.products + counter.convolutions, rel=1e-6)


# ------------------------------------------------------------------------------------------- choices


def test_smaller_batches_and_leanest_need_less(tmp_path):
    planner = Planner(spell(tmp_path, "lora", TINY, "train.batch=4"), HERE)
    lean, leanest = planner.need("lean"), planner.need("leanest", memory="leanest")
    half = planner.need("half", batch=2, accumulate=2)
    assert leanest.total < half.total < lean.total
    assert leanest.operations > lean.operations
    assert half.operations == pytest.approx(lean.operations, rel=0.01)
    assert half.memory["activations"] == pytest.approx(lean.memory["activations"] / 2, rel=0.05)


def test_what_fits_and_what_to_change(tmp_path, monkeypatch):
    run = spell(tmp_path, "adaptformer", "backbone.depth=4", "method.width=8", "train.batch=4")
    made = plan.make(run, "8GB")
    assert made.fits
    assert made.advice is None
    need = {each.name: each for each in made.needs}
    assert made.needs[0].name == "adaptformer"
    assert {"adaptformer, leanest", "adaptformer, bf16", "full", "lora", "last_k", "frozen"} <= set(need)
    assert need["frozen"].peak < need["adaptformer, leanest"].peak < need["adaptformer"].peak < need["full"].peak

    def advice(size):
        monkeypatch.setattr(machine, "limit", lambda train, gpu=None: Limit(int(size), "a test", gpu=False, here=False))
        found = plan.make(run)
        assert found.fits is False
        if found.advice is not None:
            assert found.advice.peak <= size
            again = config.load(vars(run), found.advice.changes)
            assert Planner(again, HERE).need("it").peak == found.advice.peak, "what is written is what was planned"
        return found

    assert advice(need["adaptformer, leanest"].peak).advice.changes == ("train.memory=leanest",)
    smaller = advice(need["adaptformer, leanest"].peak - 1000).advice.changes
    assert smaller in [("train.memory=leanest", f"train.batch={b}", f"train.accumulate={4 // b}") for b in (1, 2)]
    frozen = registry.load("methods", "frozen")()
    other = advice(Planner(run, HERE).need("it", method=frozen, batch=1, accumulate=4).peak)
    assert other.advice.changes == ("method=frozen", "train.batch=1", "train.accumulate=4")
    assert plan.verdict(other)[1:3] == ["  method: frozen", "  train: {batch: 1, accumulate: 4}"]
    assert advice(1000).advice is None


@pytest.fixture
def kinds():
    """Kinds of trunk coarser than fp32 that can be had here."""
    found = quantise.coarser("fp32")
    for kind in found:
        make_ready(kind)
    return found


def test_nf4_is_offered_where_it_can_be_had(monkeypatch):
    for spec, last in ((None, "int8"), (object(), "nf4")):
        monkeypatch.setattr(quantise.importlib.util, "find_spec", lambda name, spec=spec: spec)
        assert quantise.coarser("fp32") == ("bf16", "int8", "nf4")[: 2 + (last == "nf4")]
        assert quantise.coarser("bf16")[-1] == last
        assert quantise.coarser("nf4") == ()


def too_little(monkeypatch):
    monkeypatch.setattr(machine, "limit", lambda train, gpu=None: Limit(1, "a test", gpu=True, here=False))


def test_a_trunk_in_fewer_bytes_is_offered_where_weights_matter(kinds, tmp_path, monkeypatch):
    """Twelve blocks of width 192: 12 D^2 weights each, and 4 + 4 + 1 times D outputs with a scale in int8."""
    too_little(monkeypatch)
    run = spell(tmp_path, "lora", TINY)
    made = plan.make(run)
    need = {each.name: each for each in made.needs}
    weights, outputs = 12 * 12 * 192**2, 12 * 9 * 192
    saved = {"bf16": 2 * weights, "int8": 3 * weights - 4 * outputs, "nf4": 7 * weights // 2 - 4 * weights // 64}
    assert [name for name in need if "trunk" in name] == [f"lora, trunk={kind}" for kind in kinds]
    for kind in kinds:
        other = need[f"lora, trunk={kind}"]
        assert other.changes == (f"train.trunk={kind}",)
        assert other.memory == need["lora"].memory | {"weights": need["lora"].memory["weights"] - saved[kind]}
        assert other.parameters == need["lora"].parameters
        traced = Planner(run, HERE).need("it", trunk=kind)
        assert (other.memory, other.operations) == (traced.memory, traced.operations)
        assert traced.peak <= other.peak <= traced.peak + 4 * 4 * 192**2, "a bound, by one weight of a block at most"


def test_no_trunk_is_offered_where_it_saves_nothing(tmp_path, monkeypatch):
    enough = plan.make(spell(tmp_path / "c", "lora", TINY), "8GB")
    too_little(monkeypatch)
    whole = plan.make(spell(tmp_path / "a", "full", TINY))
    large = plan.make(spell(tmp_path / "b", "lora", "train.memory=fast"))
    assert large.needs[0].peak > 4 * large.needs[0].memory["weights"]
    names = [[need.name for need in made.needs if "trunk" in need.name] for made in (whole, large, enough)]
    assert names == [[], [], []]


def test_the_mildest_trunk_that_fits_is_advised(kinds, tmp_path, monkeypatch):
    """Just too little memory for one kind even in the smallest batch: the next one is told, in a larger batch."""
    run = spell(tmp_path, "lora", "backbone.depth=4", "train.batch=4")
    planner = Planner(run, HERE)
    for before, kind in zip(("fp32", *kinds), kinds, strict=False):
        least = planner.need("it", trunk=before, memory="leanest", batch=1, accumulate=4).peak
        limit = Limit(least - 1, "a test", gpu=False, here=False)
        monkeypatch.setattr(machine, "limit", lambda train, gpu=None, limit=limit: limit)
        found = plan.make(run)
        assert found.advice.changes[:2] == ("train.memory=leanest", f"train.trunk={kind}")
        assert found.advice.peak < least
    least = planner.need("it", trunk=kinds[-1], memory="leanest", batch=1, accumulate=4).peak
    monkeypatch.setattr(machine, "limit", lambda train, gpu=None: Limit(least - 1, "a test", gpu=False, here=False))
    assert plan.make(run).advice.changes[0] == "method=frozen", "then another method"


def test_the_command(tmp_path):
    run = spell(tmp_path, "lora", NANO)
    file = toy.write_config(tmp_path / "run.yaml", run)
    told = CliRunner().invoke(app, ["plan", str(file), "train.batch=1", "--gpu", "8GB", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["fits"] is True
    assert found["needs"][0]["images"] == 1
    assert found["needs"][0]["total"] == sum(found["needs"][0]["memory"].values())
    assert found["needs"][0]["seconds"] is None
    shown = CliRunner().invoke(app, ["plan", str(file)], env={"COLUMNS": "160"})
    assert "4 training images of 64 x 64, 2 at once" in shown.stdout
    assert "the run fits" in shown.stdout
    wrong = CliRunner().invoke(app, ["plan", str(file), "--gpu", "toaster"])
    assert wrong.exit_code == 2
    assert len(wrong.stderr.splitlines()) <= 5
    assert not (tmp_path / "run").exists(), "nothing is written"


# ---------------------------------------------------------------------------------------- in a training


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def test_a_training_prints_its_bill_beside_the_plan(tmp_path):
    run, observer = spell(tmp_path, "lora", TINY, "train.epochs=2"), Notes()
    experiment.fit(run, observer=observer)
    said = json.loads((run.out / "run.json").read_text())
    assert said["plan"]["total"] == pytest.approx(said["memory_bytes"]["total"], rel=0.1)
    assert said["plan"]["parameters"] == said["parameters"]
    assert said["plan"]["adapter"] == pytest.approx(said["adapter_bytes"], rel=0.05)  # beside names
    assert said["train_memory"] == "lean"
    rows = {line[:24].strip(): line[24:].split() for line in observer.notes[-1].splitlines()}
    assert rows[""] == ["planned", "measured"]
    assert rows["trained parameters"][0] == rows["trained parameters"][1]
    assert {"memory", "weights", "gradients", "optimiser", "activations", "seconds of an epoch", "adapter"} <= set(rows)


@pytest.mark.parametrize(("share", "chosen"), [(1.01, "fast"), (0.99, "lean"), (0.0, "leanest")])
def test_auto_takes_the_quickest_that_fits(share, chosen, tmp_path, monkeypatch):
    fast = Planner(spell(tmp_path, "lora", TINY), HERE).need("it", memory="fast").peak
    monkeypatch.setattr(machine, "limit", lambda train, gpu=None: Limit(int(fast * share), "this machine", gpu=False))
    run, observer = spell(tmp_path, "lora", TINY, "train.memory=auto", "train.epochs=1"), Notes()
    experiment.fit(run, observer=observer)
    said = json.loads((run.out / "run.json").read_text())
    assert said["train_memory"] == chosen
    assert said["memory_bytes"]["total"] == pytest.approx(said["plan"]["total"], rel=0.1)
    assert any("says what to change" in note for note in observer.notes) == (share == 0)
    assert config.load(run.out / "config.yaml").train.memory == "auto"


def test_a_run_that_goes_on_keeps_its_plan(tmp_path, monkeypatch):
    run = spell(tmp_path, "lora", NANO, "train.memory=auto", "train.epochs=1")
    experiment.fit(run)
    kept = (run.out / "plan.json").read_text()
    (run.out / "run.json").unlink()
    monkeypatch.setattr(machine, "limit", lambda train, gpu=None: Limit(0, "this machine", gpu=False))
    experiment.fit(run, resume=True)
    assert (run.out / "plan.json").read_text() == kept
    assert json.loads((run.out / "run.json").read_text())["train_memory"] == "fast"


def test_a_model_that_looks_at_values_trains_without_a_plan(tmp_path, monkeypatch):
    def looks(self, batch):
        assert batch.images.isfinite().all().item() in (True, False)
        return plain(self, batch)

    plain = tiny.TinyBackbone.embed
    monkeypatch.setattr(tiny.TinyBackbone, "embed", looks)
    run, observer = spell(tmp_path, "lora", "train.epochs=1"), Notes()
    with pytest.raises(ConfigError, match="cannot be traced without values"):
        plan.make(run)
    experiment.fit(run, observer=observer)
    assert any(note.startswith("there is no plan: ") for note in observer.notes)
    assert json.loads((run.out / "run.json").read_text())["plan"] is None
