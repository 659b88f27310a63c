"""From the task to ours: loss, classes, what is frozen."""

from collections.abc import Mapping

from adapteo.terratorch.lines import Translation
from adapteo.terratorch.vocabulary import LOSSES, TASK_DROPPED, TASKS

_INIT = "model.init_args"
_DEFAULT_LOSS = {"segmentation": "ce", "classification": "ce", "multilabel": "ce", "regression": "mse"}
_NEUTRAL: Mapping[str, tuple[tuple[object, ...], str]] = {
    "aux_heads": (([],), "there are no auxiliary heads here"),
    "aux_loss": (({},), "there are no auxiliary heads here"),
    "freeze_decoder": ((False,), "the decoder is always trained here"),
    "freeze_head": ((False,), "the decoder is always trained here"),
    "custom_loss": ((False,), "a loss of one's own is code"),
    "custom_loss_kwargs": (({},), "a loss of one's own is code"),
    "var_weights": ((), "there is one variable here"),
    "model": ((), "a model of one's own is code"),
    "tiled_inference_on_testing": ((False,), "whole images are scored here"),
    "tiled_inference_on_validation": ((False,), "whole images are scored here"),
}


def task_of(t: Translation) -> str:
    """Our name of the task; refuses a file without one that is known, as nothing else can be read then."""
    kind = t.class_name("model")
    if kind not in TASKS:
        t.refuse(
            "model.class_path" if t.has("model") else "model", "is no task of ours", f"allowed: {', '.join(TASKS)}"
        )
        return ""
    t.becomes("model.class_path", "task.name", TASKS[kind])
    return TASKS[kind]


def translate_task(t: Translation, task: str) -> None:
    """Translate what is left of the task after model and optimiser."""
    _loss(t, task)
    for key in t.keys(_INIT):
        name = key.rpartition(".")[2]
        if name in TASK_DROPPED:
            t.drop(key, TASK_DROPPED[name])
        elif name in _NEUTRAL:
            allowed, why = _NEUTRAL[name]
            t.neutral(key, (None, *allowed), why)
        elif t.get(key) is None and name not in ("lr", "optimizer", "scheduler"):
            t.drop(key, "the default")


def _loss(t: Translation, task: str) -> None:
    key = f"{_INIT}.loss"
    given = t.get(key, _DEFAULT_LOSS[task])
    names = given if isinstance(given, list) else list(given) if isinstance(given, dict) else [given]
    if isinstance(given, dict) and set(given.values()) - {1}:
        t.refuse(key, "losses are added here, each with the weight 1", "give them the weight 1")
        return
    for name in names:
        if name not in LOSSES[task]:
            t.refuse(key, f"there is no loss '{name}' for {task} here", f"allowed: {', '.join(LOSSES[task])}")
            return
    ours, apart = "+".join(map(str, names)), [text for name in names if (text := LOSSES[task][str(name)])]
    t.write("task.losses", ours)
    if apart:
        t.differ(key, f"{'; '.join(apart)} (task.losses: {ours})")
    elif key.rpartition(".")[2] in (t.get(_INIT) or {}):  # type: ignore[operator]
        t.becomes(key, "task.losses", ours)
    weights = f"{_INIT}.class_weights"
    if t.has(weights):
        if "ce" not in names:
            t.drop(weights, f"{ours} uses no class weights in TerraTorch")
        elif "focal" in names:
            t.refuse(weights, "here they would weigh the focal loss as well", "use ce without focal")
        else:
            t.becomes(weights, "task.class_weights")
