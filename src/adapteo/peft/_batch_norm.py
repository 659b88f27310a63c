"""BatchNorm over all processes: data-parallel training computes the statistics that a single process would.

    y = γ (x − μ) / √(σ² + ε) + β,     μ, σ² over the samples and places of all processes

S. Ioffe, C. Szegedy, arXiv 1502.03167. Works with any backend, on CPUs too, where `torch.nn.SyncBatchNorm` needs CUDA.
With one process it is `torch.nn.BatchNorm2d`.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adapteo.parallel import several_processes


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm of maps ``(b, c, h, w)`` whose statistics in training are those of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if not self.training or not several_processes():
            return super().forward(x)
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        b, _, h, w = x.shape
        count = exact.new_tensor(float(b * h * w))
        dist.all_reduce(count)
        mean = _Sum.apply(exact.sum((0, 2, 3))) / count
        centred = exact - mean.view(-1, 1, 1)
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        self._remember(mean, variance * count / (count - 1))
        scale = self.weight.to(exact.dtype) * (variance + self.eps).rsqrt()
        return (centred * scale.view(-1, 1, 1) + self.bias.to(exact.dtype).view(-1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None, "BatchNorm2d tracks statistics by default"
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self.num_batches_tracked.add_(1)


class _Sum(torch.autograd.Function):
    """Sum over the processes; as each of them uses the sum, the gradient is summed over them too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
