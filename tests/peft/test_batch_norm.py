"""BatchNorm over processes computes what one process does with all of the images."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from adapteo.peft._batch_norm import SharedBatchNorm2d

PARTS = ((0, 3), (3, 4))
"""Rows of the batch that each of two processes has: three images, and one."""


def problem() -> tuple[nn.BatchNorm2d, Tensor, Tensor]:
    """A norm off its start, images with a large mean, and the gradient of its output."""
    generator = torch.Generator().manual_seed(0)
    norm = SharedBatchNorm2d(5)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn(5, generator=generator))
    images = 30 + torch.randn(4, 5, 3, 2, generator=generator)
    return norm, images.requires_grad_(), torch.randn(4, 5, 3, 2, generator=generator)


def results(norm: nn.BatchNorm2d, images: Tensor, gradient: Tensor, rows: slice) -> dict[str, Tensor]:
    out = norm(images[rows])
    out.backward(gradient[rows])
    own = {"output": out.detach(), "images": images.grad[rows]}
    shared = {name: p.grad for name, p in norm.named_parameters()} | dict(norm.named_buffers())
    return own | shared


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save(results(*problem(), slice(*PARTS[rank])), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path):
    context = multiprocessing.get_context("forkserver")
    started = [context.Process(target=process, args=(rank, tmp_path)) for rank in range(2)]
    for each in started:
        each.start()
    for each in started:
        each.join(120)
        assert each.exitcode == 0
    norm, images, gradient = problem()
    plain = nn.BatchNorm2d(5)
    plain.load_state_dict(norm.state_dict())
    whole = results(plain, images, gradient, slice(None))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in whole.items():
        if name in ("output", "images"):
            found = torch.cat([part[name] for part in parts])
        elif name in ("weight", "bias"):  # data-parallel training adds these up
            found = parts[0][name] + parts[1][name]
        else:
            assert torch.equal(parts[0][name], parts[1][name]), name
            found = parts[0][name]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("training", [True, False])
def test_one_process_computes_as_pytorch_does(training):
    norm, images, gradient = problem()
    plain = nn.BatchNorm2d(5)
    plain.load_state_dict(norm.state_dict())
    found = results(norm.train(training), images, gradient, slice(None))
    images.grad = None
    expected = results(plain.train(training), images, gradient, slice(None))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
