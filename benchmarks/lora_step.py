"""What a step of LoRA costs in operations, time and saved activations, beside full training and HF peft.

    python -m benchmarks lora_step
    python benchmarks/lora_step.py --rounds 9 --json lora_step.json

Prithvi 1.0-100M (a ViT-B) with random weights, forward and backward of its last map; all models share weights, data
and process. Rounds are interleaved (A B C, A B C, …), so that a busy machine slows all of them alike; the ratio of the
minima is the one to trust. Saved bytes are what autograd keeps for the backward pass, each storage once, without
parameters. The second table decides the layout of `adapteo.vit`: q, k and v as three linears against one fused linear.

Goals: at most 0.75 of the operations of full fine-tuning; no more time than HF peft on the same model.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Batch, adapt, trainable_count
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from adapteo.peft.lora import LoRA, LoRALinear
from adapteo.vit import Attention, RoleLinear

Step = Callable[[], None]
PAPER = LoRA(preset="paper")


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
    found: dict[str, nn.Module] = {
        "full": adapt(copy.deepcopy(plain), Full()),
        "frozen": adapt(copy.deepcopy(plain), Frozen()),
        "lora (paper)": adapt(copy.deepcopy(plain), PAPER),
        "lora (all linears)": adapt(copy.deepcopy(plain), LoRA()),
    }
    try:
        import peft
    except ImportError:
        return found
    for name, method in (("HF peft (paper)", PAPER), ("HF peft (all linears)", LoRA())):
        targets = method.adapter_config(plain)["target_modules"]
        config = peft.LoraConfig(r=method.rank, lora_alpha=method.alpha, target_modules=targets)
        found[name] = peft.get_peft_model(copy.deepcopy(plain), config)
    return found


def step_of(model: nn.Module, batch: Batch) -> Step:
    """Forward, and backward where something is trained, of a random projection of the last map."""
    trained = trainable_count(model) > 0
    projection: list[Tensor] = []

    def step() -> None:
        with torch.set_grad_enabled(trained):
            last = model(batch)[-1]
            if trained:
                projection[:] = projection or [torch.randn_like(last)]
                (last * projection[0]).sum().backward()
        model.zero_grad(set_to_none=True)

    return step


def operations(step: Step) -> int:
    """Floating-point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def saved_bytes(step: Step, model: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass, without parameters and buffers."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}  # held until the end, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for storage in storages.values())


def interleaved(steps: Mapping[str, Step], rounds: int) -> dict[str, tuple[float, float]]:
    """Minimum and median seconds of each step over the rounds, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: (min(t), statistics.median(t)) for name, t in times.items()}


def method_table(rounds: int, size: int, count: int) -> list[dict[str, object]]:
    """Cost of a step under each method."""
    batch = Batch(torch.randn(count, 1, len(HLS6), size, size))
    built = models()
    steps = {name: step_of(model, batch) for name, model in built.items()}
    times = interleaved(steps, rounds)
    rows: list[dict[str, object]] = []
    for name, step in steps.items():
        row: dict[str, object] = {"model": name, "trained": trainable_count(built[name]), "flops": operations(step)}
        row |= {"saved_bytes": saved_bytes(step, built[name]), "min_s": times[name][0], "median_s": times[name][1]}
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
    print(f"{'':24}{'trained':>12}{'GFLOP':>9}{'/full':>7}{'saved MiB':>11}{'min s':>8}{'/full':>7}{'median s':>10}")
    for row in rows:
        shares = row["flops"] / full["flops"], row["min_s"] / full["min_s"]
        print(
            f"{row['model']:24}{row['trained']:12,}{row['flops'] / 1e9:9.1f}{shares[0]:7.3f}"
            f"{row['saved_bytes'] / 2**20:11.1f}{row['min_s']:8.3f}{shares[1]:7.2f}{row['median_s']:10.3f}"
        )
    by_name = {row["model"]: row for row in rows}
    for which in ("paper", "all linears"):
        if theirs := by_name.get(f"HF peft ({which})"):
            ours = by_name[f"lora ({which})"]
            least, median = (ours[key] / theirs[key] for key in ("min_s", "median_s"))
            print(f"ours / HF peft, {which}: minimum {least:.2f}, median {median:.2f} (goal <= 1.00)")
    attention = attention_table(options.rounds * 2, options.size, options.batch)
    print(f"\n{'eight attention layers':30}{'min ms':>9}{'median ms':>11}")
    for row in attention:
        print(f"{row['model']:30}{row['min_s'] * 1e3:9.1f}{row['median_s'] * 1e3:11.1f}")
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": options.rounds}
        options.json.write_text(json.dumps({**facts, "methods": rows, "attention": attention}, indent=2))


if __name__ == "__main__":
    main()
