"""One training step on tensors that have shapes but no values: what it keeps, its peak of memory, its arithmetic.

PyTorch's ``FakeTensorMode`` runs the very code of the step and computes shapes alone, so a step of 600 M parameters at
512 pixels is counted in a second or two, on any machine, without weights. Memory is counted in two ways:

- by the counters that a real run uses (`adapteo.meter`): weights, gradients, optimiser state, and what autograd keeps
  from the forward for the backward pass;
- by following each storage from the operation that made it to its end, which gives the most that is alive at any
  moment, with what the backward pass computes again, temporary results, and the images.

Attention counts as PyTorch's fused kernel for CPUs, which stores no matrix of weights, as those for GPUs. What a kernel
allocates inside itself is not seen.
"""

import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from adapteo import meter
from adapteo.config import Run
from adapteo.contracts import Batch, trainable
from adapteo.meter import Memory
from adapteo.model import Model, frozen_in_eval
from adapteo.parallel import alone


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, out_val: Any, **options: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(
    out: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, out_val: Any, **options: Any
) -> int:
    return int(sdpa_backward_flop_count(out.shape, query.shape, key.shape, value.shape))


def _product(into: Tensor, left: Tensor, right: Tensor, *rest: Any, out_val: Any, **options: Any) -> int:
    return 2 * left.shape[0] * left.shape[1] * right.shape[1]


_ATEN = torch.ops.aten
_OPERATIONS: dict[Any, Callable[..., int]] = {
    **flop_registry,  # knows the kernels of GPUs, and leaves out those of CPUs and products in place
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _ATEN.addmm_: _product,
}
_DEVICE = torch.ops.prim.device.default  # asked for by autograd, more often than anything is computed
_CONVOLUTIONS = (_ATEN.convolution, _ATEN.convolution_backward, _ATEN._convolution)


@dataclass
class Trace:
    """Of one training step.

    Attributes:
        memory: bytes, as `adapteo.meter` counts them.
        decoder: those of ``memory.activations`` that decoder and loss keep.
        peak: most bytes that are alive at any moment of a later step, the optimiser's state included.
        products: operations of matrix products and attention, forward and backward; a multiplication and an addition
            are two.
        convolutions: operations of convolutions.
    """

    memory: Memory = field(default_factory=Memory)
    decoder: int = 0
    peak: int = 0
    products: int = 0
    convolutions: int = 0

    @property
    def operations(self) -> int:
        """Of all kinds."""
        return self.products + self.convolutions


class Step:
    """A model, a batch, and an optimiser.

    Args:
        run: what is trained; of `train` the precision and the number of batches per step.
        model: adapted, on its device.
        batch: on the same device.
    """

    def __init__(self, run: Run, model: Model, batch: Batch) -> None:
        self.task, self.train, self.model, self.batch = run.task, run.train, model, batch
        self.device = next(model.parameters()).device
        self.parameters = list(trainable(model).values())
        fused = self.device.type in ("cpu", "cuda")  # as the training does
        self.optimiser = torch.optim.AdamW(self.parameters, run.method.default_rate, fused=fused)

    def run(self, memory: Memory) -> None:
        """One step, counted."""
        self.gradients(memory)
        self.update(memory)

    def gradients(self, memory: Memory | None = None) -> int:
        """Forward and backward.

        Returns:
            The bytes that were kept for backward before the decoder began, when counted.
        """
        frozen_in_eval(self.model)
        before = [0]
        if memory is None:
            loss = self._loss()
        else:
            with meter.count_activations(self.model, memory) as counted, _before(self.model.decoder, counted, before):
                loss = self._loss()
        loss.backward()
        return before[0]

    def update(self, memory: Memory | None = None) -> None:
        """Let the optimiser step."""
        self.optimiser.step()
        if memory is not None:
            meter.count_state(self.model, self.optimiser, memory)
        self.optimiser.zero_grad(set_to_none=True)

    def _loss(self) -> Tensor:
        target = self.batch.target
        assert target is not None, "training images have labels"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16"):
            logits = self.model(self.batch)
        return self.task.loss(logits.float(), target, self.task.weight(target))


@contextlib.contextmanager
def _before(module: nn.Module, counted: Callable[[], int], note: list[int]) -> Iterator[None]:
    """Note what was counted when a module is called."""
    hook = module.register_forward_pre_hook(lambda module, arguments: note.__setitem__(0, counted()))
    try:
        yield
    finally:
        hook.remove()


def trace(step: Step) -> Trace:
    """Count one step in all ways; inside `without_values`.

    The optimiser has its state before, as in all steps but the first, and with several batches per step the gradients
    of the earlier ones are there. A parameter that the loss does not depend on has neither.
    """
    found = Trace()
    for parameter in step.parameters:
        parameter.grad = torch.empty_like(parameter)
    step.optimiser.step()
    if step.train.accumulate == 1:
        step.optimiser.zero_grad(set_to_none=True)
    batch = step.batch
    there = [
        *step.model.parameters(), *step.model.buffers(), *(batch.stored or ()), *(p.grad for p in step.parameters),
        *(value for state in step.optimiser.state.values() for value in state.values()),
        batch.images, batch.target, batch.dates, batch.latlon,
    ]  # fmt: skip
    counter, reached = Counter(there), set[Tensor]()
    for parameter in step.parameters:
        parameter.register_post_accumulate_grad_hook(reached.add)
    with _without_collection(), counter:
        before = step.gradients(found.memory)
    unused = 0
    for parameter in set(step.parameters) - reached:
        for tensor in (parameter.grad, *step.optimiser.state.pop(parameter).values()):
            unused += 0 if tensor is None else tensor.untyped_storage().nbytes()
    meter.count_state(step.model, step.optimiser, found.memory)
    found.decoder = found.memory.activations - before
    found.peak, found.products, found.convolutions = counter.peak - unused, counter.products, counter.convolutions
    return found


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Let the garbage collector wait: thousands of small objects would call it all the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Counter(TorchDispatchMode):
    """Counts operations, and follows each storage from the operation that made it to its end.

    `torch.utils.flop_counter.FlopCounterMode` tells operations by module as well, for three times the time.

    Attributes:
        now, peak: bytes that are alive, and the most so far.
        products, convolutions: see `Trace`.
    """

    def __init__(self, there: Iterable[object] = ()) -> None:
        """Begin.

        Args:
            there: tensors that are alive already; what is no tensor does not count.
        """
        super().__init__()
        self.now = self.peak = self.products = self.convolutions = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for tensor in there:
            if isinstance(tensor, Tensor):
                self._see(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, and look at what it made."""
        out = func(*args, **(kwargs or {}))
        if func is _DEVICE:
            return out
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, Tensor):
                self._see(each)
        kind = func.overloadpacket
        if (count := _OPERATIONS.get(kind)) is not None:
            number = count(*args, **(kwargs or {}), out_val=out)
            if kind in _CONVOLUTIONS:
                self.convolutions += number
            else:
                self.products += number
        return out

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so at each operation takes a tenth of the time

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(reference: object) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


# ------------------------------------------------------------------------------------- without values


class NoDraws(TorchDispatchMode):
    """Inside, no start values are drawn: for modules that are made on the device "meta", where there are none."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Leave operations out that fill a tensor of no values."""
        if func.overloadpacket in _FILLS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


_FILLS = (_ATEN.uniform_, _ATEN.normal_, _ATEN.fill_, _ATEN.zero_)


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Inside, new tensors have shapes but no values; tables that functions remember, and other processes, stay out."""
    with _no_tables(), alone(), FakeTensorMode():
        yield


def give_shapes(model: Model) -> None:
    """Turn parameters and buffers of no device into such of the CPU without values, inside `without_values`."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            fake = torch.empty(parameter.shape, dtype=parameter.dtype)
            module.register_parameter(name, nn.Parameter(fake, parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))


@contextlib.contextmanager
def _no_tables() -> Iterator[None]:
    """Keep the tables that functions remember (position codes) from going in, or out, as tensors without values."""
    families = ("adapteo.backbones.", "adapteo.peft.", "adapteo.decoders.")

    def forget() -> None:
        modules = [module for name, module in sys.modules.items() if name.startswith(families)]
        for value in [value for module in modules for value in vars(module).values()]:
            if isinstance(value, _REMEMBERS):
                value.cache_clear()

    forget()
    try:
        yield
    finally:
        forget()


_REMEMBERS = type(lru_cache(lambda: None))
