"""What a step of LoRA costs in operations, time and saved activations, beside full training and HF peft.

    python -m benchmarks lora_step
    python -m benchmarks lora_step --rounds 9 --json lora_step.json

Prithvi 1.0-100M (a ViT-B) with random weights, forward and backward of its last map; all models share weights, data
and process. Rounds are interleaved (A B C, A B C, …), so that a busy machine slows all of them alike; the ratio of the
minima is the one to trust. Saved bytes are what autograd keeps between forward and backward, each storage once, without
parameters. `fast`, `lean` and `leanest` are the values of ``train.memory``. The rows of eight attention layers decide
the layout of `adapteo.vit`: q, k and v as three linears against one fused linear.

Goals: at most 0.70 of the operations of full fine-tuning; no more time than HF peft on the same model; of HF peft's
saved bytes at most 0.63 (lean) and 0.35 (leanest).
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Batch, adapt
from adapteo.lean import Memory
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA, LoRALinear
from adapteo.vit import Attention, RoleLinear, set_memory
from benchmarks._counting import DEVICE, Step, costs, in_turns, operations, saved_bytes, step_options
from benchmarks._peers import hf_peft
from benchmarks._rows import Goal, Row, Skipped, ratio, seconds, tell

LORAS = {"paper": LoRA(preset="paper"), "all linears": LoRA()}
MEMORIES: tuple[Memory, ...] = ("fast", "lean", "leanest")
OPERATIONS, SAVED = Goal(0.70), {"lean": Goal(0.63), "leanest": Goal(0.35)}


class FusedAttention(nn.Module):
    """What `adapteo.vit.Attention` would be with one linear for q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = RoleLinear("q", dim, 3 * dim)
        self.proj = RoleLinear("proj", dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over n."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


def models(variant: str, peft: ModuleType | None) -> dict[str, nn.Module]:
    """The same backbone under each method, HF peft's where it is given."""
    torch.manual_seed(0)
    plain = Prithvi(variant=variant, weights="random").build(HLS6).to(DEVICE)
    found: dict[str, nn.Module] = {"full": adapt(copy.deepcopy(plain), Full())}
    for memory in MEMORIES[1:]:
        found[f"full, {memory}"] = adapt(copy.deepcopy(plain), Full())
        set_memory(found[f"full, {memory}"], memory)
    found["frozen"] = adapt(copy.deepcopy(plain), Frozen())
    for which, method in LORAS.items():
        for memory in MEMORIES:
            found[f"lora ({which}), {memory}"] = adapt(copy.deepcopy(plain), method)
            set_memory(found[f"lora ({which}), {memory}"], memory)
    for which, method in LORAS.items() if peft else ():
        targets = method.adapter_config(plain)["target_modules"]
        config = peft.LoraConfig(r=method.rank, lora_alpha=method.alpha, target_modules=targets)
        found[f"HF peft ({which})"] = peft.get_peft_model(copy.deepcopy(plain), config)
    return found


def methods(options: argparse.Namespace) -> Iterator[Row | Skipped]:
    """Cost of a step under each method, and ours beside HF peft's."""
    batch = Batch(torch.randn(options.batch, 1, len(HLS6), options.size, options.size, device=DEVICE))
    peft = hf_peft()
    built = models("2.0-tiny-TL" if options.quick else "1.0-100M", None if isinstance(peft, Skipped) else peft)
    steps = {name: Step(model, lambda model=model: model(batch)[-1:]) for name, model in built.items()}
    times = in_turns(steps, options.rounds)
    yield from costs(steps, times, "full")
    full = operations(steps["full"])
    if isinstance(peft, Skipped):
        yield peft
    for which in LORAS:
        mine = steps[f"lora ({which}), fast"]
        yield Row(f"lora ({which}) / full", "arithmetic", operations(mine) / full, "ratio", OPERATIONS)
        if isinstance(peft, Skipped):
            continue
        peer = f"HF peft ({which})"
        theirs = saved_bytes(steps[peer].forward, steps[peer].model, steps[peer].projections)
        for memory in MEMORIES:
            name = f"lora ({which}), {memory}"
            saved = saved_bytes(steps[name].forward, steps[name].model, steps[name].projections)
            time = None if memory == "leanest" else Goal(1.0)  # which computes much again
            yield ratio(f"{name} / HF peft", "time", times[name], times[peer], time)
            yield Row(f"{name} / HF peft", "saved", saved / theirs, "ratio", SAVED.get(memory, Goal(1.0)))


def attention(options: argparse.Namespace) -> Iterator[Row]:
    """Forward and backward of eight attention layers: three linears for q, k and v against one."""
    torch.manual_seed(0)
    dim = 96 if options.quick else 768
    split = nn.Sequential(*(Attention(dim, 12) for _ in range(8))).to(DEVICE)
    fused = nn.Sequential(*(FusedAttention(dim, 12) for _ in range(8))).to(DEVICE)
    x = torch.randn(options.batch, (options.size // 16) ** 2 + 1, dim, device=DEVICE, requires_grad=True)

    def lora(stack: nn.Sequential, *names: str) -> nn.Sequential:
        for layer in stack:
            for name in names:
                setattr(layer, name, LoRALinear(layer.get_submodule(name), 16, 1.0))
        return stack

    def frozen(stack: nn.Sequential) -> nn.Sequential:
        return copy.deepcopy(stack).requires_grad_(False)

    stacks = {
        "full, split": split,
        "full, fused": fused,
        "frozen, split": frozen(split),
        "frozen, fused": frozen(fused),
        "lora on q and v, split": lora(frozen(split), "q", "v"),
        "lora on q, k, v, split": lora(frozen(split), "q", "k", "v"),
        "lora on qkv (one A), fused": lora(frozen(fused), "qkv"),
    }

    def step_through(stack: nn.Sequential) -> Callable[[], None]:
        def step() -> None:
            stack(x).square().mean().backward()
            stack.zero_grad(set_to_none=True)
            x.grad = None

        return step

    times = in_turns({name: step_through(stack) for name, stack in stacks.items()}, options.rounds * 2)
    for name, each in times.items():
        yield seconds(f"eight attention layers, {name}", each)


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = step_options(__doc__, given)
    tell(Path(__file__).stem, options, [*methods(options), *attention(options)])


if __name__ == "__main__":
    main()
