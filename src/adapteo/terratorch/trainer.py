"""From ``trainer``, its callbacks, the optimiser and the schedule to the section ``train``."""

from adapteo._yaml import Data
from adapteo.terratorch.lines import PLACEHOLDER, Translation
from adapteo.terratorch.vocabulary import (
    CALLBACKS_DROPPED,
    SCHEDULER_NEUTRAL,
    SCORES,
    TOP_DROPPED,
    TRAINER_DROPPED,
    TRAINER_NEUTRAL,
)

_PRECISIONS = {"32": "fp32", "32-true": "fp32", "bf16": "bf16", "bf16-mixed": "bf16", "16": "bf16", "16-mixed": "bf16"}
_ACCELERATORS = {"auto": "auto", "cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "mps": "mps"}
_RENAMED = {
    "max_epochs": "train.epochs", "accumulate_grad_batches": "train.accumulate", "gradient_clip_val": "train.clip",
}  # fmt: skip
_LIGHTNING_EPOCHS, _LIGHTNING_PATIENCE, _TORCH_PATIENCE, _TORCH_FACTOR = 1000, 3, 10, 0.1
_ADAM_RATE, _ADAMW_DECAY, _TASK_RATE = 1e-3, 1e-2, 1e-3
_DECAY = "weight decay acts on matrices here, not on biases and norms"
_ADAM_NEUTRAL = {
    "betas": ([0.9, 0.999],), "eps": (1e-8,), "amsgrad": (False,), "maximize": (False,), "foreach": (True, False),
    "capturable": (False,), "differentiable": (False,), "fused": (True, False),
}  # fmt: skip


def translate_trainer(t: Translation, task: str) -> None:
    """Translate everything that is about training and not about one task."""
    if isinstance(t.get("seed_everything"), bool):
        t.differ("seed_everything", "the seed is 0 here unless a number is given")
    elif t.has("seed_everything"):
        t.becomes("seed_everything", "train.seed")
    for key in t.keys("trainer"):
        _trainer_key(t, key)
    if not t.has("trainer.max_epochs"):
        t.write("train.epochs", _LIGHTNING_EPOCHS)
        t.note("trainer.max_epochs", "mapped", f"train.epochs: {_LIGHTNING_EPOCHS} is Lightning's default")
    _callbacks(t, task)
    if not t.has("trainer.gradient_clip_val"):
        t.write("train.clip", None)
        t.note("trainer.gradient_clip_val", "mapped", "train.clip: null, as Lightning clips nothing by default")
    t.write("train.head_start", False)
    t.note("(head start)", "mapped", "train.head_start: false, as TerraTorch does not fit the decoder first")
    for key, why in TOP_DROPPED.items():
        if key in t.document.root:
            t.drop(key, why)


def _trainer_key(t: Translation, key: str) -> None:
    name, value = key.partition(".")[2], t.get(key)
    if name in _RENAMED and value is not None:
        t.becomes(key, _RENAMED[name])
    elif name == "precision" and value is not None:
        _precision(t, key, str(value))
    elif name == "accelerator":
        if str(value or "auto") not in _ACCELERATORS:
            t.refuse(key, "there is no such device here", f"allowed: {', '.join(_ACCELERATORS)}")
        else:
            t.becomes(key, "train.accelerator", _ACCELERATORS[str(value or "auto")])
    elif name == "devices":
        _devices(t, key, value)
    elif name == "default_root_dir" and isinstance(value, str) and not PLACEHOLDER.search(value):
        t.becomes(key, "out.", f"{t.path(value).rstrip('/')}/{t.document.name.rpartition('.')[0]}")
    elif name == "enable_checkpointing":
        if value is False:
            t.differ(key, "the best epoch is kept here; there the last one is tested")
        else:
            t.is_so(key, "the best epoch is kept")
    elif name in TRAINER_DROPPED:
        t.drop(key, TRAINER_DROPPED[name])
    elif name in TRAINER_NEUTRAL:
        allowed, why = TRAINER_NEUTRAL[name]
        t.neutral(key, (None, *allowed), why)
    elif name != "callbacks" and value is None:
        t.drop(key, "the default")


def _precision(t: Translation, key: str, value: str) -> None:
    if value not in _PRECISIONS:
        t.refuse(key, "there is no such precision here", f"allowed: {', '.join(_PRECISIONS)}")
    elif value.startswith("16"):
        t.write("train.precision", "bf16")
        t.differ(key, "mixed precision is bf16 here, which needs no scaling of the loss")
    else:
        t.becomes(key, "train.precision", _PRECISIONS[value])


def _devices(t: Translation, key: str, value: Data) -> None:
    if value in (None, "auto", 1, "1", -1):
        t.is_so(key, "one device, unless train.devices names more") if value != -1 else t.refuse(
            key, "the number of devices is not known before", "write the number"
        )
    elif isinstance(value, int) and not isinstance(value, bool):
        t.becomes(key, "train.devices")
    else:
        t.refuse(key, "devices are counted here, not chosen", "write their number")


# -------------------------------------------------------------------------------------------- callbacks


def _callbacks(t: Translation, task: str) -> None:
    """EarlyStopping and ModelCheckpoint say which epoch is the best one; there is one such rule here."""
    chosen: dict[str, str] = {}
    key = "trainer.callbacks"
    single = isinstance(t.get(key), dict)
    for callback in [key] if single else t.keys(key):
        kind = t.class_name(callback)
        if kind == "EarlyStopping":
            chosen[f"{callback}.init_args.monitor"] = _early_stopping(t, callback, task)
        elif kind in ("ModelCheckpoint", "StateDictAwareModelCheckpoint"):
            monitor = f"{callback}.init_args.monitor"
            t.is_so(callback, "the best epoch is kept")
            if t.has(monitor):
                chosen[monitor] = _monitored(t, monitor, f"{callback}.init_args.mode", task)
        elif kind in CALLBACKS_DROPPED:
            t.drop(callback, f"{kind}: {CALLBACKS_DROPPED[kind]}")
        else:
            t.refuse(callback, f"there is nothing like {kind or 'this'} here")
    rules = {rule for rule in chosen.values() if rule}
    if len(rules) > 1:
        t.refuse(list(chosen)[-1], "one rule picks the best epoch and stops early here", "monitor the same in both")
    for monitor, rule in chosen.items():
        if rule:
            t.becomes(monitor, "train.select", rule)
    if not chosen:
        t.write("train.select", "loss")
        t.note(
            "(ModelCheckpoint)", "mapped", "train.select: loss, as TerraTorch keeps the epoch of the lowest val/loss"
        )
    if not any(t.class_name(c) == "EarlyStopping" for c in ([key] if single else t.keys(key))):
        t.write("train.patience", None)
        t.note("(EarlyStopping)", "mapped", "train.patience: null, as there is no early stopping")


def _early_stopping(t: Translation, callback: str, task: str) -> str:
    t.is_so(f"{callback}.class_path", "train.patience and train.select")
    patience = f"{callback}.init_args.patience"
    if t.has(patience):
        t.becomes(patience, "train.patience")
    else:
        t.write("train.patience", _LIGHTNING_PATIENCE)
        t.note(patience, "mapped", f"train.patience: {_LIGHTNING_PATIENCE} is Lightning's default")
    neutral = {"min_delta": (0, 0.0, -0.0), "strict": (True, False), "verbose": (True, False), "check_finite": (True,)}
    neutral |= {"check_on_train_epoch_end": (False,), "log_rank_zero_only": (True, False)}
    for key in t.keys(f"{callback}.init_args"):
        name = key.rpartition(".")[2]
        if name in ("stopping_threshold", "divergence_threshold") or name in neutral:
            t.neutral(key, (None, *neutral.get(name, ())), "early stopping looks at the best epoch only here")
    return _monitored(t, f"{callback}.init_args.monitor", f"{callback}.init_args.mode", task)


def _monitored(t: Translation, monitor: str, mode: str, task: str) -> str:
    """Rule of ours for what is monitored: "loss", "score", or nothing when it is refused."""
    name, wanted = t.text(monitor, "val/loss"), t.text(mode, "min")
    rule, right = ("loss", "min") if name in ("val/loss", "val_loss") else ("", "")
    if SCORES.get(name, ("", ""))[0] == task:
        rule, right = "score", SCORES[name][1]
    if not rule:
        own = [score for score, (of, _) in SCORES.items() if of == task]
        t.refuse(monitor, "the best epoch is picked by val/loss or the task's own score", f"use val/loss or {own[0]}")
        return ""
    if wanted != right:
        t.refuse(mode if t.has(mode) else monitor, f"mode {wanted} would keep the worst epoch", f"write mode: {right}")
        return ""
    if t.has(mode):
        t.is_so(mode, "the best epoch is kept")
    return rule


# -------------------------------------------------------------------------------------------- optimiser


def translate_optimiser(t: Translation) -> None:
    """Translate the optimiser and schedule of the task, or those beside it, which win (LightningCLI)."""
    if t.has("optimizer"):
        for name in ("optimizer", "lr", "optimizer_hparams", "scheduler", "scheduler_hparams"):
            if t.has(f"model.init_args.{name}"):
                t.drop(f"model.init_args.{name}", "`optimizer` and `lr_scheduler` beside `model` win")
        inner = "optimizer.init_args"
        _optimiser(t, "optimizer.class_path" if isinstance(t.get("optimizer"), dict) else "optimizer", inner)
        _rate(t, f"{inner}.lr", _ADAM_RATE)
        _schedule(t, "lr_scheduler.class_path", "lr_scheduler.init_args")
        return
    task = "model.init_args"
    _optimiser(t, f"{task}.optimizer", f"{task}.optimizer_hparams")
    _rate(t, f"{task}.lr", _TASK_RATE)
    _schedule(t, f"{task}.scheduler", f"{task}.scheduler_hparams")
    if t.has("lr_scheduler"):
        t.refuse("lr_scheduler", "Lightning needs `optimizer` beside it")


def _optimiser(t: Translation, key: str, hparams: str) -> None:
    """AdamW; Adam without weight decay is the same."""
    kind = t.class_name(key) or "Adam"
    decay = t.number(f"{hparams}.weight_decay", _ADAMW_DECAY if kind == "AdamW" else 0.0)
    if kind == "AdamW" or (kind == "Adam" and decay == 0):
        t.write("train.weight_decay", decay)
        if decay:
            t.differ(key, _DECAY)
        elif t.has(key):
            t.is_so(key, "AdamW without weight decay")
        else:
            t.note(key, "mapped", "AdamW without weight decay is Adam, TerraTorch's default")
    elif kind == "Adam":
        t.refuse(key, f"Adam with weight_decay {decay:g} is not AdamW", "write AdamW, or weight_decay: 0")
    else:
        t.refuse(key, f"there is no {kind} here", "write AdamW")
    if t.has(f"{hparams}.weight_decay"):
        t.becomes(f"{hparams}.weight_decay", "train.weight_decay")
    for inner in t.keys(hparams):
        name = inner.rpartition(".")[2]
        if name in _ADAM_NEUTRAL:
            t.neutral(inner, (None, *_ADAM_NEUTRAL[name]), "AdamW has PyTorch's own values here")


def _rate(t: Translation, key: str, default: float) -> None:
    rate = t.number(key, default)
    overrides = "model.init_args.lr_overrides"
    if t.has(overrides):
        given = t.get(overrides)
        if not isinstance(given, dict) or list(given) != ["encoder"]:
            t.refuse(overrides, "there are two rates here: the backbone's and the decoder's", "override `encoder` only")
        else:
            t.becomes(f"{overrides}.encoder", "train.rate")
            t.write("train.head_rate", rate)
            if t.has(key):
                t.becomes(key, "train.head_rate", rate)
            return
    if t.has(key):
        t.becomes(key, "train.rate", rate)
    else:
        t.write("train.rate", rate)
        t.note(key, "mapped", f"train.rate: {rate:g} is the default there")


def _schedule(t: Translation, key: str, hparams: str) -> None:
    kind = t.class_name(key)
    if not kind:
        t.write("train.schedule", "constant")
        t.note(key, "mapped", "train.schedule: constant, as there is none")
        return
    if kind == "ReduceLROnPlateau":
        t.becomes(key, "train.schedule", "plateau")
        names = {"patience": ("plateau_patience", _TORCH_PATIENCE), "factor": ("plateau_factor", _TORCH_FACTOR)}
        for name, (ours, default) in names.items():
            if t.has(f"{hparams}.{name}"):
                t.becomes(f"{hparams}.{name}", f"train.{ours}")
            else:
                t.write(f"train.{ours}", default)
                t.note(f"{hparams}.{name}", "mapped", f"train.{ours}: {default:g} is PyTorch's default")
    elif kind == "CosineAnnealingLR":
        epochs, length = t.number("trainer.max_epochs", _LIGHTNING_EPOCHS), f"{hparams}.T_max"
        if t.number(length, 0) != epochs:
            t.refuse(length, f"the cosine falls over all epochs here, which are {epochs:g}", "write the same number")
        else:
            t.is_so(length, "train.epochs")
        t.write("train.schedule", "cosine")
        t.differ(key, "the cosine falls step by step here, epoch by epoch there")
    else:
        t.refuse(key, f"there is no {kind} here", "ReduceLROnPlateau, CosineAnnealingLR, or none")
    for inner in t.keys(hparams):
        name = inner.rpartition(".")[2]
        if name in SCHEDULER_NEUTRAL:
            allowed = (None, *SCHEDULER_NEUTRAL[name])
            t.neutral(inner, allowed, "the schedule has PyTorch's own values here")
