"""What a step of LoRA costs in operations, time and saved activations, beside full training and HF peft.

    python -m benchmarks lora_step
    python -m benchmarks lora_step --rounds 9 --json lora_step.json

Prithvi 1.0-100M (a ViT-B) with random weights, forward and backward of its last map; all models share weights, data
and process. Rounds are interleaved (A B C, A B C, …), so that a busy machine slows all of them alike; the ratio of the
minima is the one to trust. Saved bytes are what autograd keeps between forward and backward, each storage once, without
parameters. `fast`, `lean` and `leanest` are the values of ``train.memory``. The second table decides the layout of
`adapteo.vit`: q, k and v as three linears against one fused linear.

Goals: at most 0.70 of the operations of full fine-tuning; no more time than HF peft on the same model; of HF peft's
saved bytes at most 0.63 (lean) and 0.35 (leanest).
"""

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Batch, adapt, trainable_count
from adapteo.lean import Memory
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA, LoRALinear
from adapteo.vit import Attention, RoleLinear, set_memory
from benchmarks._counting import interleaved, operations, saved_bytes

Step = Callable[[], None]
LORAS = {"paper": LoRA(preset="paper"), "all linears": LoRA()}
MEMORIES: tuple[Memory, ...] = ("fast", "lean", "leanest")


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


def models() -> dict[str, nn.Module]:
    """The same backbone under each method; HF peft's only where it is installed."""
    torch.manual_seed(0)
    plain = Prithvi(variant="1.0-100M", weights="random").build(HLS6)
    found: dict[str, nn.Module] = {"full": adapt(copy.deepcopy(plain), Full())}
    for memory in MEMORIES[1:]:
        found[f"full, {memory}"] = adapt(copy.deepcopy(plain), Full())
        set_memory(found[f"full, {memory}"], memory)
    found["frozen"] = adapt(copy.deepcopy(plain), Frozen())
    for which, method in LORAS.items():
        for memory in MEMORIES:
            found[f"lora ({which}), {memory}"] = adapt(copy.deepcopy(plain), method)
            set_memory(found[f"lora ({which}), {memory}"], memory)
    try:
        import peft
    except ImportError:
        return found
    for which, method in LORAS.items():
        targets = method.adapter_config(plain)["target_modules"]
        config = peft.LoraConfig(r=method.rank, lora_alpha=method.alpha, target_modules=targets)
        found[f"HF peft ({which})"] = peft.get_peft_model(copy.deepcopy(plain), config)
    return found


class ModelStep:
    """Forward, and backward where something is trained, of a random projection of the last map."""

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.trained = trainable_count(model) > 0
        self.projection: Tensor | None = None

    def forward(self) -> Tensor:
        """The first half."""
        with torch.set_grad_enabled(self.trained):
            last: Tensor = self.model(self.batch)[-1]
            if self.projection is None:
                self.projection = torch.randn_like(last)
            return (last * self.projection).sum()

    def __call__(self) -> None:
        """Do both."""
        loss = self.forward()
        if self.trained:
            loss.backward()
        self.model.zero_grad(set_to_none=True)


def method_table(rounds: int, size: int, count: int) -> list[dict[str, object]]:
    """Cost of a step under each method."""
    batch = Batch(torch.randn(count, 1, len(HLS6), size, size))
    built = models()
    steps = {name: ModelStep(model, batch) for name, model in built.items()}
    times = interleaved(steps, rounds)
    rows: list[dict[str, object]] = []
    for name, step in steps.items():
        row: dict[str, object] = {"model": name, "trained": trainable_count(built[name]), "flops": operations(step)}
        row |= {
            "saved_bytes": saved_bytes(step.forward, step.model),
            "min_s": times[name][0],
            "median_s": times[name][1],
        }
        rows.append(row)
    return rows


def attention_table(rounds: int, size: int, count: int) -> list[dict[str, object]]:
    """Forward and backward of eight attention layers: three linears for q, k and v against one."""
    torch.manual_seed(0)
    split = nn.Sequential(*(Attention(768, 12) for _ in range(8)))
    fused = nn.Sequential(*(FusedAttention(768, 12) for _ in range(8)))
    x = torch.randn(count, (size // 16) ** 2 + 1, 768, requires_grad=True)

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

    def step_through(stack: nn.Sequential) -> Step:
        def step() -> None:
            stack(x).square().mean().backward()
            stack.zero_grad(set_to_none=True)
            x.grad = None

        return step

    times = interleaved({name: step_through(stack) for name, stack in stacks.items()}, rounds)
    return [{"model": name, "min_s": least, "median_s": median} for name, (least, median) in times.items()]


def main() -> None:
    """Measure, print both tables, and write them as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="pixels per side")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = method_table(options.rounds, options.size, options.batch)
    full = rows[0]
    print(f"{'':28}{'trained':>12}{'GFLOP':>9}{'/full':>7}{'saved MiB':>11}{'min s':>8}{'/full':>7}{'median s':>10}")
    for row in rows:
        shares = row["flops"] / full["flops"], row["min_s"] / full["min_s"]
        print(
            f"{row['model']:28}{row['trained']:12,}{row['flops'] / 1e9:9.1f}{shares[0]:7.3f}"
            f"{row['saved_bytes'] / 2**20:11.1f}{row['min_s']:8.3f}{shares[1]:7.2f}{row['median_s']:10.3f}"
        )
    by_name = {row["model"]: row for row in rows}
    for which in LORAS:
        for memory in MEMORIES if f"HF peft ({which})" in by_name else ():
            ours, theirs = by_name[f"lora ({which}), {memory}"], by_name[f"HF peft ({which})"]
            least, median, saved = (ours[key] / theirs[key] for key in ("min_s", "median_s", "saved_bytes"))
            print(f"lora / HF peft, {which}, {memory}: time {least:.2f} (median {median:.2f}), saved {saved:.3f}")
    attention = attention_table(options.rounds * 2, options.size, options.batch)
    print(f"\n{'eight attention layers':30}{'min ms':>9}{'median ms':>11}")
    for row in attention:
        print(f"{row['model']:30}{row['min_s'] * 1e3:9.1f}{row['median_s'] * 1e3:11.1f}")
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": options.rounds}
        options.json.write_text(json.dumps({**facts, "methods": rows, "attention": attention}, indent=2))


if __name__ == "__main__":
    main()
