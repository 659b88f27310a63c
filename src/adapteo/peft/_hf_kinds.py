"""What is known of each kind of adapter in HF peft: offered with which options, or refused for which reason.

Names are those of `peft.PeftType`, in lower case. Found with peft 0.21.2 on plain transformers; a test asks peft itself
for the list, so that a new kind needs an entry here. Widths below are the numbers of inputs and outputs of the linears.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

Widths = Sequence[tuple[int, int]]
Options = Mapping[str, object]
_NONE: Options = MappingProxyType({})


@dataclass(frozen=True)
class Kind:
    """A kind of adapter that is offered.

    Attributes:
        title: what people call it.
        identity: it computes at first what was pre-trained.
        merges: HF peft can add it to the weights.
        options: values in the place of HF peft's defaults, which the user's own replace.
        fit: options that depend on the widths of the linears.
    """

    title: str
    identity: bool = True
    merges: bool = True
    options: Options = field(default_factory=lambda: _NONE)
    fit: Callable[[Widths], Options] = lambda widths: _NONE


def _divisor(option: str, most: int) -> Callable[[Widths], Options]:
    """The largest number up to ``most`` that divides all widths."""

    def fit(widths: Widths) -> Options:
        common = math.gcd(*(n for pair in widths for n in pair))
        return {option: next(n for n in range(min(most, common), 0, -1) if common % n == 0)}

    return fit


def _at_most_dense(option: str, most: int) -> Callable[[Widths], Options]:
    """As many values as the smallest matrix has, up to ``most``."""
    return lambda widths: {option: min(most, min(a * b for a, b in widths))}


def _sparse_rank(widths: Widths) -> Options:
    """As many values as a low-rank term of this rank would have, but fewer than the matrix."""
    return {"r": max(1, min(32, min(a * b // (2 * (a + b)) for a, b in widths)))}


OFFERED: Mapping[str, Kind] = MappingProxyType(
    {
        "adamss": Kind("AdaMSS"),
        "beft": Kind("BEFT (biases)"),
        "c3a": Kind("C3A (block-circulant)", options={"init_weights": True}, fit=_divisor("block_size", 256)),
        "deft": Kind("DEFT"),
        "delora": Kind("DeLoRA"),
        "fourierft": Kind("FourierFT", options={"init_weights": True}, fit=_at_most_dense("n_frequency", 1000)),
        "frod": Kind("FRoD", options={"progressbar": False}),
        "glora": Kind("GLoRA"),
        "gralora": Kind("GraLoRA"),
        "hira": Kind("HiRA"),
        "ia3": Kind("(IA)3"),
        "lily": Kind("Lily", merges=False),
        "loha": Kind("LoHa"),
        "lokr": Kind("LoKr"),
        "lora": Kind("LoRA and its variants"),
        "miss": Kind("MiSS", fit=_divisor("r", 64)),
        "oft": Kind("OFT", fit=_divisor("oft_block_size", 32)),
        "peanut": Kind("PEANuT"),
        "psoft": Kind("PSOFT"),
        "pvera": Kind("PVeRA", options={"projection_prng_key": 0}),
        "randlora": Kind("RandLoRA"),
        "road": Kind("RoAd", fit=_divisor("group_size", 64)),
        "shira": Kind("SHiRA", options={"random_seed": 0}, fit=_sparse_rank),
        "supertuning": Kind("Supertuning"),
        "tinylora": Kind("TinyLoRA"),
        "unilora": Kind("Uni-LoRA", identity=False),
        "vblora": Kind("VB-LoRA", identity=False, fit=_divisor("vector_length", 256)),
        "vera": Kind("VeRA"),
        "waveft": Kind("WaveFT", fit=_at_most_dense("n_frequency", 2592)),
    }
)
"""Kinds that act on the linears of attention and MLP."""

_PROMPTS = "its prompts are those of a language model; use `method: vpt`"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "adalora": "its ranks are set by calls between the steps of training; use kind `lora`, or `method: dora`",
        "adaption_prompt": "it acts on the attention of language models only; use `method: vpt`",
        "boft": "it takes 23 times the arithmetic of full fine-tuning on a ViT-B; use kind `oft`",
        "cartridge": "it stores keys and values of a language model; use `method: vpt`",
        "cpt": _PROMPTS,
        "hra": "it takes 10 times the arithmetic of full fine-tuning on a ViT-B; use kind `oft`",
        "ln_tuning": "it is `method: norm`, which needs no package",
        "multitask_prompt_tuning": _PROMPTS,
        "osf": "copies of a model lose the hooks that keep its gradients apart, and then train something else",
        "p_tuning": _PROMPTS,
        "poly": "it needs the number of a task with every batch; train one adapter per task",
        "prefix_tuning": _PROMPTS,
        "prompt_tuning": _PROMPTS,
        "shadow": "it looks for the layers of a language model; use `method: lst`",
        "trainable_tokens": "it trains entries of a vocabulary, which images have not",
        "xlora": "it mixes adapters by the hidden states of a language model; compose methods instead",
    }
)
"""Kinds that are not offered, each with its reason."""
