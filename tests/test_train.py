"""The training loop: exact resume, repeatability, data-parallel equality, accumulation, what is kept when it fails."""

import csv
import errno
import os
import shlex
import signal
import sys
import threading
import time

import pytest
import torch

import adapteo
from adapteo import checkpoint, config, experiment, train
from adapteo._processes import launch, stop_signals
from adapteo.assembly import assemble, loader
from adapteo.checkpoint import load_state, read_state
from adapteo.contracts import adapt, trainable
from adapteo.errors import AdaptEOError, ConfigError, DataError, Interrupted, WeightsError
from adapteo.scoring import score, total_weight
from adapteo.train import Observer
from toy import Toy, command, other, spell, start, write_config

ALWAYS = ("train.augment=d4+crop", "method.dropout=0.2")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class StopAt(Observer):
    """Sends Ctrl-C at one step, counted over the run."""

    def __init__(self, step):
        self.left = step

    def step(self, loss):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def adapters(folder):
    """Everything that `fit` keeps of a model, and the probe."""
    files = sorted((folder / "adapter").glob("*.safetensors")) + sorted(folder.glob("probe.safetensors"))
    return {f"{file.stem}.{key}": value for file in files for key, value in read_state(file).items()}


def log(folder):
    """Rows of the log without the time they took."""
    with (folder / "log.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def timeless(state):
    """The saved state without measured times."""
    history = [{key: repr(value) for key, value in row.items() if key != "seconds"} for row in state["history"]]
    meter = {key: value for key, value in state["meter"].items() if not key.endswith("seconds")}
    return {**state, "history": history, "meter": meter}


def assert_same_runs(one, two):
    assert log(one) == log(two)
    assert_same(adapters(one), adapters(two))
    assert_same(timeless(load_state(one / "state.pt")), timeless(load_state(two / "state.pt")))


def assert_same(one, two, place=""):
    """Equal to the last bit, however deep."""
    assert type(one) is type(two), place
    if isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            assert_same(one[key], two[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), place
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{place}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), place
    else:
        assert one == two or one != one, place


def assert_close_runs(one, two, tolerance=1e-5):
    left, right = adapters(one), adapters(two)
    assert left.keys() == right.keys()
    for key, value in left.items():
        torch.testing.assert_close(value, right[key], atol=tolerance, rtol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
    for a, b in zip(log(one), log(two), strict=True):
        for key in a:
            assert float(a[key]) == pytest.approx(float(b[key]), abs=1e-4, nan_ok=True), key


# ------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_run_that_was_interrupted_ends_as_an_uninterrupted_one(tmp_path, schedule, step):
    """Three steps are an epoch: stopped in the middle of one, at its end, and in the last one."""
    keys = (*ALWAYS, f"train.schedule={schedule}", "train.plateau_patience=0", "train.warmup=2", "train.epochs=3")
    whole, stopped = spell(tmp_path / "whole", *keys), spell(tmp_path / "stopped", *keys)
    experiment.fit(whole)
    with pytest.raises(Interrupted, match=r"adapteo fit .*config\.yaml --resume"):
        experiment.fit(stopped, observer=StopAt(step))
    position = load_state(stopped.out / "state.pt")["position"]
    assert (position["epoch"], position["group"]) == divmod(step, 3) if step % 3 else (step // 3 - 1, 3)
    experiment.fit(stopped, resume=True)
    assert_same_runs(whole.out, stopped.out)


@pytest.mark.parametrize("where", ["the score of epoch 1", "the state of epoch 1"])
def test_a_run_that_was_killed_between_two_files_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, where):
    whole, killed = spell(tmp_path / "whole", *ALWAYS), spell(tmp_path / "killed", *ALWAYS)
    experiment.fit(whole)
    save, saved = train.Trainer._save, []

    def die(trainer):
        saved.append(trainer.epoch)
        if trainer.epoch == 1 and where == "the score of epoch 1":
            raise SystemExit("killed")
        save(trainer)
        if trainer.epoch == 1:
            raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(train.Trainer, "_save", die)
        with pytest.raises(SystemExit):
            experiment.fit(killed)
    experiment.fit(killed, resume=True)
    assert_same_runs(whole.out, killed.out)


def wait_for(condition, *processes):
    """Until it holds; fails when a process ends before, or after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert all(process.exitcode is None for process in processes), "ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_signal_ended_goes_on_exactly(tmp_path, end):
    whole = spell(tmp_path / "whole", *ALWAYS, "train.epochs=3", delay=0.02)
    run = other(whole, tmp_path / "stopped")
    (process,) = start(run, tmp_path / "said")
    wait_for(lambda: (run.out / "log.csv").is_file() and len(log(run.out)) > 1, process)
    os.kill(process.pid, end)
    process.join(60)
    assert process.exitcode == (-signal.SIGKILL if end == signal.SIGKILL else 130)
    experiment.fit(run, resume=True)
    experiment.fit(whole)
    assert_same_runs(whole.out, run.out)


def test_the_command_that_is_printed_works_as_it_stands(tmp_path):
    run = spell(tmp_path / "a run")
    with pytest.raises(Interrupted) as caught:
        experiment.fit(run, observer=StopAt(2))
    line = str(caught.value).splitlines()[-1].partition("go on with: ")[2]
    program, *arguments = shlex.split(line)
    assert program == "adapteo"
    assert command(*arguments, cwd=tmp_path).returncode == 0
    experiment.fit(other(run, tmp_path / "whole"))
    assert_same_runs(run.out, tmp_path / "whole")


def test_a_second_signal_stops_at_once():
    with stop_signals() as event:
        signal.raise_signal(signal.SIGTERM)
        assert event.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_are_left_alone_outside_the_main_thread():
    found = []

    def look():
        with stop_signals() as event:
            found.append((event.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(False, signal.getsignal(signal.SIGINT))]


def test_a_state_of_another_model_is_refused_before_anything_changes(tmp_path):
    run = spell(tmp_path / "a")
    with pytest.raises(Interrupted):
        experiment.fit(run, observer=StopAt(1))
    state = load_state(run.out / "state.pt")
    name = next(iter(state["model"]))
    del state["model"][name]
    checkpoint.save_state(run.out / "state.pt", state)
    with pytest.raises(WeightsError, match=rf"state of another model: 1 tensors differ, e.g. {name}"):
        experiment.fit(run, resume=True)


# ------------------------------------------------------------------------------------------ repeatability


@pytest.mark.parametrize("kind", ["segmentation", "classification", "multilabel", "regression"])
def test_the_same_seed_gives_the_same_adapter(tmp_path, kind):
    one = spell(tmp_path / "one", *ALWAYS, "train.workers=2", kind=kind)
    two = other(one, tmp_path / "two", workers=0)
    three = other(one, tmp_path / "three", seed=1)
    for run in (one, two, three):
        experiment.fit(run)
    assert_same_runs(one.out, two.out)
    left, right = (read_state(run.out / "adapter" / "decoder.safetensors") for run in (one, three))
    assert not torch.equal(left["head.weight"], right["head.weight"])


# ----------------------------------------------------------------------------- one step, however it is divided


@pytest.mark.parametrize("decoder", ["linear", "unet"])
@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_accumulated_batches_equal_one_large_batch(tmp_path, decoder, kind):
    if decoder == "unet" and kind == "classification":
        pytest.skip("one label per image")
    toy = {"kind": kind, "counts": (7, 3, 3, 3), "ignored": "uneven"}
    # SGD-like conditions: AdamW divides by the size of the gradient, which makes rounding at zero gradients visible
    keys = (f"decoder={decoder}", "train.clip=0.5", "train.head_start=false", "train.rate=1e-3")
    large = spell(tmp_path / "large", *keys, "train.batch=4", **toy)
    small = other(large, tmp_path / "small", batch=2, accumulate=2)
    for run in (large, small):
        experiment.fit(run)
    assert_close_runs(large.out, small.out)


@pytest.mark.parametrize("decoder", ["linear", "unet"])
def test_two_processes_compute_what_one_does(tmp_path, decoder):
    """Labels are unevenly spread over the processes, and the last batch has a sample for one of them only."""
    toy = {"counts": (5, 5, 3, 3), "ignored": "uneven"}
    keys = (f"decoder={decoder}", "train.rate=1e-3", "train.batch=4", "train.clip=1", "train.augment=d4")
    one = spell(tmp_path / "one", *keys, **toy)
    experiment.fit(one)
    two = other(one, tmp_path / "two", devices=2)
    if decoder == "linear":
        path = write_config(tmp_path / "toy.yaml", other(one, two.out))
        done = command("fit", path, "train.devices=2", "train.accelerator=cpu", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        assert done.stderr.count("epoch   1/") == 1, "only the first process talks"
    else:
        for process in start(two, tmp_path / "said", processes=2):
            process.join(60)
            assert process.exitcode == 0
    assert_close_runs(one.out, two.out)


def test_two_processes_stop_and_go_on_together(tmp_path):
    whole = spell(tmp_path / "whole", "train.devices=2", "train.rate=1e-3", delay=0.02)
    run, said = other(whole, tmp_path / "stopped"), tmp_path / "said"
    for process in (stopped := start(run, said, processes=2)) + start(whole, tmp_path / "nothing", processes=2):
        if process is stopped[0]:
            wait_for(lambda: (run.out / "state.pt").is_file(), *stopped)
            os.kill(process.pid, signal.SIGINT)
        process.join(60)
    assert [process.exitcode for process in stopped] == [130, 130]
    assert said.read_text().count("--resume") == 1
    for process in start(run, said, resume=True, processes=2):
        process.join(60)
    assert_same_runs(whole.out, run.out)


def test_an_error_in_one_of_two_processes_ends_both(tmp_path):
    run = spell(tmp_path / "a", "train.devices=2", "train.head_start=false", missing="train-01")
    processes = start(run, tmp_path / "said", processes=2)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [2, 2]
    said = (tmp_path / "said").read_text()
    assert "train-01 cannot be read" in said
    assert "another process of this run has failed" in said


# ------------------------------------------------------------------------------------------------- training


def test_bf16_trains_and_stays_near_fp32(tmp_path):
    full, half = (
        spell(tmp_path / "fp32", "train.clip=1"),
        spell(tmp_path / "bf16", "train.clip=1", "train.precision=bf16"),
    )
    for run in (full, half):
        experiment.fit(run)
    a, b = (float(log(run.out)[-1]["train_loss"]) for run in (full, half))
    assert a == pytest.approx(b, rel=0.3)
    assert a != b
    assert all(value.dtype == torch.float32 for value in adapters(half.out).values())


def test_frozen_parameters_do_not_move(tmp_path):
    run = spell(tmp_path / "a", "train.epochs=1")
    before = {key: value.clone() for key, value in assemble(run).model.backbone.state_dict().items()}
    fitted = experiment.fit(run)
    after = fitted.model.backbone.state_dict()
    trained = trainable(fitted.model.backbone)
    frozen = {key.replace(".inner.", "."): value for key, value in after.items() if key not in trained}
    assert len(trained) == 24
    assert_same(dict(sorted(before.items())), dict(sorted(frozen.items())))
    last = load_state(run.out / "state.pt")["model"]
    assert all(value.abs().sum() > 0 for key, value in last.items() if key.endswith("lora_B"))


def test_rates_of_head_and_backbone(tmp_path):
    """A rate next to 0 leaves one part where it was."""
    keys = ("train.epochs=1", "train.weight_decay=0", "method=full", "train.patience=null")
    still = spell(tmp_path / "still", *keys, "train.rate=1e-30")
    head = spell(tmp_path / "head", *keys, "train.rate=1e-30", "train.head_rate=1e-2")
    body = spell(tmp_path / "body", *keys, "train.rate=1e-3", "train.head_rate=1e-30")
    models = []
    for run in (still, head, body):
        experiment.fit(run)
        models.append(load_state(run.out / "state.pt")["model"])
    for key, value in models[0].items():
        in_head = key.startswith("decoder.")
        assert torch.allclose(value, models[1][key], atol=1e-20) != in_head, key
        assert torch.allclose(value, models[2][key], atol=1e-20) == in_head, key


def test_the_best_epoch_is_kept_and_the_head_start_takes_part(tmp_path):
    run = spell(tmp_path / "a", "train.rate=3", "train.epochs=9", "train.patience=2")  # nothing good can come of it
    fitted = experiment.fit(run)
    assert_same(
        {key: value for key, value in fitted.model.decoder.state_dict().items()},
        read_state(run.out / "probe.safetensors"),
    )
    rows = log(run.out)
    assert len(rows) == 3, "stopped after two epochs without a better score"
    card = fitted.card["validation"]
    assert card["miou"] == float(rows[0]["val_miou"]) > max(float(row["val_miou"]) for row in rows[1:])


def test_the_best_epoch_can_be_that_of_the_lowest_loss(tmp_path):
    spelt = spell(tmp_path / "a", "train.epochs=8", "train.select=loss", "train.seed=1", noise=0.05)
    fitted = experiment.fit(spelt)
    rows = log(tmp_path / "a")
    lowest = min(rows, key=lambda row: float(row["val_loss"]))
    assert lowest != max(rows, key=lambda row: float(row["val_miou"])), "else the test shows nothing"
    assert fitted.card["validation"]["miou"] == float(lowest["val_miou"])


def test_clipping_limits_a_step(tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def spy(optimiser, *args, **kwargs):
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        return step(optimiser, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    experiment.fit(spell(tmp_path / "a", "train.epochs=1", "train.clip=1e-3", "train.head_start=false"))
    assert len(norms) == 3
    assert max(norms) <= 1e-3 * 1.001


def test_score_needs_no_loss_and_orders_by_key(tmp_path):
    run = spell(tmp_path / "a")
    model = adapt(assemble(run).model.backbone, run.method) and assemble(run).model
    data = loader(run, "val", run.dataset.bands)
    plain = score(model, run.task, data)
    full = score(model, run.task, data, weight=total_weight(run.task, data, None))
    assert plain.loss != plain.loss
    assert full.loss > 0
    assert plain.keys == full.keys == tuple(sorted(run.dataset.split("val")))
    assert torch.equal(plain.statistics, full.statistics)


# ------------------------------------------------------------------------------------------- when it fails


@pytest.mark.parametrize("clip", ["null", "1"])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_best(tmp_path, clip):
    keys = ("train.head_start=false", f"train.clip={clip}", "train.rate=1e18", "train.epochs=5", "train.patience=null")
    run = spell(tmp_path / "a", *keys, "train.augment=none", "decoder=unet", "method=full")
    with pytest.raises(AdaptEOError, match=r"training loss became (nan|inf) in epoch \d, step \d") as caught:
        experiment.fit(run)
    assert len(str(caught.value).splitlines()) == 2
    kept = adapteo.load(run.out)
    assert kept.card["validation"]["miou"] >= float(log(run.out)[0]["val_miou"])
    assert all(value.isfinite().all() for value in adapters(run.out).values())


@pytest.mark.parametrize("file", ["state.pt", "adapter_model.safetensors", "card.json"])
def test_a_full_disk_is_told_and_older_files_stay(tmp_path, monkeypatch, file):
    run = spell(tmp_path / "a", "train.rate=1e-3")
    with pytest.raises(Interrupted):
        experiment.fit(run, observer=StopAt(1))
    before = {path.name: path.read_bytes() for path in run.out.rglob("*") if path.is_file()}
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*args, **kwargs):
        raise full

    with monkeypatch.context() as patched:
        if file == "state.pt":
            patched.setattr(torch, "save", refuse)
        else:
            patched.setattr(train.Best, "offer", lambda *_: True)
            patched.setattr(checkpoint, "save_tensors" if file.endswith("safetensors") else "write_json", refuse)
        with pytest.raises(DataError, match="the disk is full: cannot write"):
            experiment.fit(run, resume=True)
    after = {path.name: path.read_bytes() for path in run.out.rglob("*") if path.is_file()}
    unchanged = before.keys() - (
        {"adapter_model.safetensors", "decoder.safetensors", "card.json"} if file == "state.pt" else set()
    )
    assert after.keys() == before.keys(), "no rest of a file that was not finished"
    assert all(after[name] == before[name] for name in unchanged)
    experiment.fit(run, resume=True)


def test_a_device_that_is_not_there(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="train.accelerator 'cuda' with 1 devices"):
        launch(config.Train(accelerator="cuda"))


def test_too_little_gpu_memory_gets_advice():
    with pytest.raises(AdaptEOError, match="train.batch=4 train.accumulate=2 computes the same"):  # noqa: SIM117
        with train._memory_advice(config.Train(batch=8)):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_toy_reads_the_same_twice():
    assert (Toy().read("train-00").image == Toy().read("train-00").image).all()


def test_tensorboard_when_asked(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = spell(tmp_path / "a", "train.tensorboard=true")
    with pytest.raises(Interrupted):
        experiment.fit(run, observer=StopAt(4))
    experiment.fit(run, resume=True)
    events = EventAccumulator(str(run.out / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("val_miou")]
    assert found == [(int(row["epoch"]), pytest.approx(float(row["val_miou"]))) for row in log(run.out)]


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="train.tensorboard needs the package tensorboard"):
        experiment.fit(spell(tmp_path / "a", "train.tensorboard=true", "train.head_start=false"))
