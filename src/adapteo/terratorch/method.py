"""From what is frozen and added to a method of ours."""

import re

from adapteo.terratorch.lines import Translation
from adapteo.terratorch.vocabulary import Family

ARGS, FROZEN = "model.init_args.model_args", "model.init_args.freeze_backbone"
_NEUTRAL = {
    "bias": ("none",), "use_dora": (False,), "modules_to_save": (), "fan_in_fan_out": (False,), "task_type": (),
    "inference_mode": (False,), "rank_pattern": ({},), "alpha_pattern": ({},), "layers_to_transform": (),
    "layers_pattern": (), "exclude_modules": (), "init_lora_weights": (True,),
}  # fmt: skip
_PEFT_RANK, _PEFT_ALPHA = 8, 8
_BATCH_NORM = "BatchNorm of a frozen network keeps its statistics here; there they move with each batch"


def translate_method(t: Translation, family: Family) -> str:
    """Name of the method that a model's arguments describe, which is also written."""
    vpt, adapter = f"{ARGS}.backbone_vpt", f"{ARGS}.backbone_vit_adapter"
    lora = t.has(f"{ARGS}.peft_config")
    chosen = [name for name, on in (("lora", lora), ("vpt", t.flag(vpt)), ("vit_adapter", t.flag(adapter))) if on]
    for key, name in ((vpt, "vpt"), (adapter, "vit_adapter")):
        if t.has(key):
            t.is_so(key, f"method.name: {name}" if t.flag(key) else "not used")
    if len(chosen) > 1:
        t.refuse(vpt if t.flag(vpt) else adapter, f"is used together with {chosen[0]}, which freezes it", "use one")
        return chosen[0]
    frozen = t.flag(FROZEN)
    method = chosen[0] if chosen else "frozen" if frozen else "full"
    t.write("method.name", method)
    if method == "lora":
        _lora(t, family)
        if frozen:
            t.refuse(
                FROZEN, "with peft_config it freezes what LoRA would train: TerraTorch trains no LoRA", "write false"
            )
            return method
    elif method in ("vpt", "vit_adapter"):
        if not frozen:
            t.refuse(FROZEN if t.has(FROZEN) else ARGS, f"with {method} the whole backbone trains too", "write true")
            return method
        _vpt(t) if method == "vpt" else t.write("method.class_token", False)
    elif frozen and not family.tokens:
        t.differ(FROZEN, f"method.name: frozen; {_BATCH_NORM}")
        return method
    if t.has(FROZEN):
        t.is_so(FROZEN, f"method.name: {method}")
    return method


def _vpt(t: Translation) -> None:
    prompts, dropout = f"{ARGS}.backbone_vpt_n_tokens", f"{ARGS}.backbone_vpt_dropout"
    if t.has(prompts):
        t.becomes(prompts, "method.prompts")
    else:
        t.refuse(f"{ARGS}.backbone_vpt", "needs backbone_vpt_n_tokens")
    t.write("method.dropout", t.number(dropout, 0.0))
    if t.has(dropout):
        t.becomes(dropout, "method.dropout")


def _lora(t: Translation, family: Family) -> None:
    config = f"{ARGS}.peft_config"
    kwargs = f"{config}.peft_config_kwargs"
    if t.text(f"{config}.method") != "LORA":
        t.refuse(f"{config}.method", "of HF peft's methods there is LORA here", "LORA")
        return
    t.is_so(f"{config}.method", "method.name: lora")
    names = {"r": ("rank", _PEFT_RANK), "lora_alpha": ("alpha", _PEFT_ALPHA), "lora_dropout": ("dropout", 0.0)}
    names |= {"use_rslora": ("rslora", False)}
    for theirs, (ours, default) in names.items():
        if t.has(f"{kwargs}.{theirs}"):
            t.becomes(f"{kwargs}.{theirs}", f"method.{ours}")
        else:
            t.write(f"method.{ours}", default)
            if ours in ("rank", "alpha"):
                t.note(f"{kwargs}.{theirs}", "mapped", f"method.{ours}: {default} is HF peft's default")
    for key in t.keys(kwargs):
        name = key.rpartition(".")[2]
        if name in _NEUTRAL:
            t.neutral(key, (None, *_NEUTRAL[name]), "LoRA without variants")
    _targets(t, family, f"{kwargs}.target_modules", f"{config}.replace_qkv")


def _targets(t: Translation, family: Family, key: str, split: str) -> None:
    """Roles of the linears that HF peft's patterns hit, in every block and nowhere else."""
    if not family.linears:
        t.refuse(key, f"the linears of this {family.name} model are not known by name here")
        return
    fused = "to_qkv" if family.name == "clay" else "qkv"
    separated = t.text(split) in (fused, f"attn.{fused}")
    names = {role: [pattern.format(i=i) for i in range(family.depth)] for role, pattern in family.linears.items()}
    if not separated:
        whole = re.sub(r"\.q_linear$", "", family.linears["q"])
        names = {role: found for role, found in names.items() if role not in ("q", "k", "v")}
        names["qkv together"] = [whole.format(i=i) for i in range(family.depth)]
    patterns = t.get(key)
    if not isinstance(patterns, str | list):
        t.refuse(key, "without it HF peft does not know where to act", "name q_linear, v_linear, …")
        return
    outside = [name for name in family.others if _hits(patterns, name)]
    if outside:
        t.refuse(key, f"would act on {outside[0]} as well, outside the blocks", "name only linears of the blocks")
        return
    roles = []
    for role, found in names.items():
        hit = [name for name in found if _hits(patterns, name)]
        if hit and len(hit) < len(found):
            t.refuse(key, f"acts on {len(hit)} of {len(found)} blocks", "name linears of every block")
            return
        roles += [role] if hit else []
    if "qkv together" in roles:
        t.refuse(key, "LoRA acts on q, k and v one by one here", f"write replace_qkv: {fused} and {fused}.q_linear, …")
    elif not roles:
        t.refuse(key, "hits no linear of the blocks", f"e.g. {fused}.q_linear")
    else:
        t.becomes(key, "method.targets", roles)
        if t.has(split):
            t.is_so(split, "q, k and v are separate linears")


def _hits(patterns: object, name: str) -> bool:
    """Whether HF peft would adapt a module: a text is a regular expression, a list are endings."""
    if isinstance(patterns, str):
        return re.fullmatch(patterns, name) is not None
    return isinstance(patterns, list) and any(name == str(p) or name.endswith(f".{p}") for p in patterns)
