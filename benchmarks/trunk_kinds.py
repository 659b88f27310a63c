"""What a frozen trunk in fewer bytes saves, costs, and does to the gradients of what trains.

    python -m benchmarks trunk_kinds
    python -m benchmarks trunk_kinds --rounds 9 --json trunk_kinds.json

Prithvi 1.0-100M (a ViT-B) with random weights under LoRA (the paper's targets), forward and backward of a random
projection of its maps, ``train.memory: lean``; all kinds share weights, data and process. LoRA's matrices are off their
start, where half of them would have no gradient. Weights are all parameters and buffers of the backbone; of them the
kinds hold the frozen linears of the blocks, which are what "linears" counts. The largest deviation is that of any
number of the gradient, as a share of the largest number of full precision's.

Goals: the cosine to full precision's gradients that a run asks for (`adapteo.quantise`); linears in half the bytes with
bf16, 0.26 of them with int8 and 1/7 with nf4.
"""

import argparse
import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo import quantise
from adapteo.backbones.prithvi import Prithvi
from adapteo.bands import HLS6
from adapteo.contracts import Backbone, Batch, adapt, trainable
from adapteo.peft.lora import LoRA
from adapteo.quantise import FORMS, KINDS, PackedLinear
from adapteo.vit import RoleLinear, set_memory
from benchmarks._counting import DEVICE, Step, costs, in_turns, step_options
from benchmarks._rows import Goal, Row, Skipped, tell

SHARES = {"bf16": Goal(0.5), "int8": Goal(0.26), "nf4": Goal(1 / 7)}


def measured(options: argparse.Namespace) -> Iterator[Row | Skipped]:
    """All kinds that can be had here."""
    torch.manual_seed(0)
    batch = Batch(torch.randn(options.batch, 1, len(HLS6), options.size, options.size, device=DEVICE))
    spec = Prithvi(variant="2.0-tiny-TL" if options.quick else "1.0-100M", weights="random")
    exact = adapt(spec.build(HLS6), LoRA(preset="paper")).to(DEVICE)
    for parameter in trainable(exact).values():
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    kinds: dict[str, Backbone] = {}
    for kind in KINDS:
        if kind == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
            yield Skipped("nf4 needs bitsandbytes, which is not installed here: pip install 'adapteo[bitsandbytes]'")
            continue
        kinds[kind] = copy.deepcopy(exact)
        quantise.quantise(kinds[kind], kind)
        set_memory(kinds[kind], "lean")
    steps = {kind: Step(model, lambda model=model: model(batch)) for kind, model in kinds.items()}
    yield from costs(steps, in_turns(steps, options.rounds), quantise.FULL)
    gradients = {kind: quantise.gradients(model, batch) for kind, model in kinds.items()}
    plain = linears(exact)
    for kind, model in kinds.items():
        yield Row(kind, "weights", held([*model.parameters(), *model.buffers()]), "B")
        yield Row(kind, "linears", linears(model), "B")
        if kind == quantise.FULL:
            continue
        yield Row(f"{kind} / fp32", "linears", linears(model) / plain, "ratio", SHARES[kind])
        true, found = gradients[quantise.FULL], gradients[kind]
        cosine = float(F.cosine_similarity(true, found, dim=0))
        yield Row(
            f"{kind} against fp32", "cosine of gradients", cosine, "ratio", Goal(FORMS[kind].agreement, least=True)
        )
        yield Row(kind, "largest deviation", float((true - found).abs().max() / true.abs().max()), "ratio")


def linears(model: nn.Module) -> int:
    """Bytes of the weights of the frozen linears of the blocks, with their scales."""
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, PackedLinear):
            found += [each for each in (module.codes, module.scales) if each is not None]
        elif isinstance(module, RoleLinear) and not module.weight.requires_grad:
            found.append(module.weight)
    return held(found)


def held(tensors: list[Tensor]) -> int:
    """Bytes of tensors."""
    return sum(each.numel() * each.element_size() for each in tensors)


def main(given: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = step_options(__doc__, given)
    tell(Path(__file__).stem, options, measured(options))


if __name__ == "__main__":
    main()
