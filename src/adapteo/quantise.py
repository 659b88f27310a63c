"""The frozen trunk in fewer bytes: weights that do not train are held rounded, and unpacked for each product.

    bf16   2 bytes a weight, its upper half
    int8   1, and 4 a row:              W ≈ s ⊙ C,  s = max |row| / 127,  C = round(W / s)
    nf4    ½, and 4 for each 64:        16 levels, the quantiles of a normal distribution, times the block's largest
                                        value (T. Dettmers et al.: QLoRA, arXiv 2305.14314), packed by bitsandbytes

Only linears with a role that are frozen after the method has acted are held so; what trains stays float32. y = W x + b
is computed with the unpacked W, and so is its gradient dx = Wᵀ dy; neither keeps W (which autograd would, at 4 bytes a
weight) nor x. So gradients are exactly those of the function that is computed. That they are close to full precision's
as well is checked before training (`check_gradients`).
"""

import importlib.util
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from adapteo.contracts import Backbone, Batch, Wrapper, replace_modules, trainable
from adapteo.errors import AdaptEOError, ConfigError, closest
from adapteo.lean import Affine, Unpack
from adapteo.vit import RoleLinear

FULL = "fp32"
_NF4_BLOCK = 64


class Form(Protocol):
    """How a weight is held."""

    agreement: float
    """Least cosine between the gradients of what trains and full precision's.

    Measured at the start of LoRA: see `tests/test_quantise.py`. One wrong kind is known to reach 0.89."""

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes and scales of a weight ``(out, in)``."""

    def unpack(self, codes: Tensor, scales: Tensor | None, shape: torch.Size, kind: torch.dtype) -> Tensor:
        """The weight ``(out, in)`` in a type."""


class BFloat16:
    """See the top of the file."""

    agreement = 0.99

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Round to nearest."""
        return weight.to(torch.bfloat16), None

    def unpack(self, codes: Tensor, scales: Tensor | None, shape: torch.Size, kind: torch.dtype) -> Tensor:
        """Exact."""
        return codes.to(kind)


class Int8:
    """See the top of the file."""

    agreement = 0.99

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Symmetric, a scale for each output."""
        weight = weight.float()
        scales = weight.abs().amax(1, keepdim=True) / 127
        codes = weight / torch.where(scales == 0, 1.0, scales)
        return codes.round().to(torch.int8), scales

    def unpack(self, codes: Tensor, scales: Tensor | None, shape: torch.Size, kind: torch.dtype) -> Tensor:
        """In float32, then rounded once."""
        assert scales is not None, "int8 has scales"
        return (codes * scales.float()).to(kind)


class NF4:
    """See the top of the file."""

    agreement = 0.9

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Blocks of 64 along the rows."""
        codes, state = _bitsandbytes().quantize_4bit(weight.float(), blocksize=_NF4_BLOCK, quant_type="nf4")
        return codes, state.absmax

    def unpack(self, codes: Tensor, scales: Tensor | None, shape: torch.Size, kind: torch.dtype) -> Tensor:
        """In the type itself where bitsandbytes knows it, else by way of float32."""
        known = kind if kind in (torch.float32, torch.bfloat16, torch.float16) else torch.float32
        functional = _bitsandbytes()
        state = functional.QuantState(scales, shape, dtype=known, blocksize=_NF4_BLOCK, quant_type="nf4")
        weight: Tensor = functional.dequantize_4bit(codes, state)
        return weight.to(kind)


def _bitsandbytes() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that are not asked for here
    try:
        import bitsandbytes.functional as functional
    except ImportError as error:
        raise ConfigError(
            "train.trunk: nf4 needs bitsandbytes, which is not installed",
            fix="pip install 'adapteo[bitsandbytes]', or say `trunk: int8`, which needs nothing",
        ) from error
    return functional


FORMS: Mapping[str, type[Form]] = MappingProxyType({"bf16": BFloat16, "int8": Int8, "nf4": NF4})
KINDS = (FULL, *FORMS)
"""From the most bytes to the fewest."""

_REFUSED = (
    (
        "dynamicactivation",
        "rounds activations as well, and gradients through it are silently wrong (cosine 0.89 to full precision's for "
        "torchao 0.18's Int8DynamicActivationInt8Weight)",
    ),
    ("int4weightonly", "does not run on plain PyTorch (torchao 0.18 asks for mslk), so its gradients are not known"),
    ("fp4", "is less exact than nf4 in the same bytes (arXiv 2305.14314)"),
)


def coarser(kind: str) -> tuple[str, ...]:
    """Kinds of fewer bytes than one, the mildest first, as far as they can be had here."""
    fewer = KINDS[KINDS.index(kind) + 1 :]
    return tuple(each for each in fewer if each != "nf4" or importlib.util.find_spec("bitsandbytes") is not None)


def make_ready(kind: str) -> None:
    """Import what a kind needs; among tensors without values the tables of bitsandbytes would have none for ever.

    Raises:
        ConfigError: bitsandbytes is missing.
    """
    if kind == "nf4":
        _bitsandbytes()


def check_kind(kind: str) -> None:
    """Refuse what is no kind, or one whose gradients are wrong.

    Raises:
        ConfigError: with the reason.
    """
    if kind in KINDS:
        return
    plain = kind.lower().replace("_", "").replace("-", "")
    reason = next((why for word, why in _REFUSED if word in plain), None)
    problem = f"train.trunk: {kind} {reason}" if reason else f"train.trunk is '{kind}'{closest(kind, KINDS)}"
    raise ConfigError(problem, allowed=KINDS, fix="choose one of these" if reason else "")


# --------------------------------------------------------------------------------------------- linear


class PackedLinear(Wrapper):
    """A frozen linear whose weight is held in fewer bytes, ``(..., in) -> (..., out)``.

    It has no `inner`; it is a wrapper in that `adapteo.contracts.merge` puts a plain linear back.

    Attributes:
        codes, scales: of a `Form`; parameters that never train, so that they move with the model and no process sends
            them to the others at each step, as it would buffers.
        bias: as it was; may train.
    """

    def __init__(self, linear: RoleLinear, form: Form) -> None:
        super().__init__()
        self.role, self.in_features, self.out_features = linear.role, linear.in_features, linear.out_features
        self._form = form
        codes, scales = form.pack(linear.weight.detach())
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.scales = None if scales is None else nn.Parameter(scales, requires_grad=False)
        self.bias = linear.bias
        self.train(linear.training)

    @property
    def weight(self) -> Tensor:
        """Unpacked ``(out, in)`` in float32; a new tensor at each call."""
        return self.unpacked(torch.float32)

    def unpacked(self, kind: torch.dtype) -> Tensor:
        """The weight in a type."""
        shape = torch.Size((self.out_features, self.in_features))
        return self._form.unpack(self.codes, self.scales, shape, kind)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        out: Tensor = _Product.apply(x, self.bias, self.unpacked)
        return out

    def affine(self) -> Affine:
        """What it computes, for `adapteo.lean`."""
        return Affine(None, self.bias, unpack=self.unpacked)

    @torch.no_grad()
    def merged(self) -> RoleLinear:
        """Return a plain linear of float32 that computes the same."""
        with torch.device("meta"):  # draws nothing
            plain = RoleLinear(self.role, self.in_features, self.out_features, self.bias is not None)
        plain.weight = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            plain.bias = self.bias
        return plain.train(self.training)


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, unpack: Unpack) -> Tensor:
        device = x.device.type
        ctx.kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        ctx.unpack, ctx.types = unpack, (x.dtype, None if bias is None else bias.dtype)
        return F.linear(x, unpack(ctx.kind), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_x, of_bias = ctx.types
        d_x = (grad.to(ctx.kind) @ ctx.unpack(ctx.kind)).to(of_x) if ctx.needs_input_grad[0] else None
        d_bias = grad.flatten(0, -2).sum(0, dtype=of_bias) if ctx.needs_input_grad[1] else None
        return d_x, d_bias, None


# ---------------------------------------------------------------------------------------------- trunk


def quantise(backbone: Backbone, kind: str, sample: Batch | None = None) -> None:
    """Hold the frozen linears of an adapted backbone's blocks in fewer bytes, in place.

    What a method computes with the weight itself (`Wrapper.rebuilds`: DoRA, SSB, APLA, …) stays as it is, as autograd
    would keep the unpacked weight there.

    Args:
        backbone: after `adapteo.contracts.adapt`.
        kind: one of `KINDS`.
        sample: a few normalised images, to compare the gradients of what trains before and after.

    Raises:
        ConfigError: nothing is frozen, the kind is none, or bitsandbytes is missing.
        AdaptEOError: the gradients are not those of full precision.
    """
    check_kind(kind)
    if kind == FULL:
        return
    form = FORMS[kind]()
    rebuilt = {m.inner for m in backbone.modules() if isinstance(m, Wrapper) and m.rebuilds}

    def packed(module: nn.Module) -> nn.Module | None:
        if not isinstance(module, RoleLinear) or module.weight.requires_grad or module in rebuilt:
            return None
        return PackedLinear(module, form)

    exact = None if sample is None else gradients(backbone, sample)
    if not replace_modules(backbone.blocks, RoleLinear, packed):
        raise ConfigError(
            f"train.trunk: {kind} holds frozen linears of the blocks in fewer bytes, and there are none here",
            fix="leave train.trunk out; or choose a method that freezes them, for example `method: lora`",
        )
    if exact is not None and sample is not None:
        check_gradients(kind, exact, gradients(backbone, sample), form.agreement)


def restore(backbone: Backbone) -> None:
    """Hold the trunk as plain linears of float32 again, rounded as it is, in place."""
    replace_modules(backbone.blocks, PackedLinear, lambda packed: packed.merged())


def gradients(backbone: Backbone, batch: Batch) -> Tensor:
    """Gradients of all that trains, one after the other, ``(n,)`` in float64.

    They are of a random projection of the maps, the same at each call, not of the loss, which vanishes where the
    decoder fits already.
    """
    asked = list(trainable(backbone).values())
    if not asked:
        return torch.zeros(0, dtype=torch.float64)
    states = {module: module.training for module in backbone.modules()}
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        maps = backbone.eval()(batch)
        total = torch.stack([_projected(each, generator) for each in maps]).sum()
    found = torch.autograd.grad(total, asked, allow_unused=True)
    for module, state in states.items():
        module.training = state
    pairs = zip(found, asked, strict=True)
    return torch.cat([(torch.zeros_like(p) if each is None else each).flatten().double() for each, p in pairs])


def _projected(values: Tensor, generator: torch.Generator) -> Tensor:
    return (values * torch.randn(values.shape, generator=generator).to(values)).mean()


def check_gradients(kind: str, exact: Tensor, found: Tensor, least: float) -> None:
    """Compare gradients of what trains with full precision's.

    Raises:
        AdaptEOError: they point elsewhere.
    """
    if not exact.any():
        return  # nothing trains in the backbone, or nothing of it moves the maps
    cosine = float(F.cosine_similarity(exact, found, dim=0))
    if not cosine >= least:
        raise AdaptEOError(
            f"train.trunk: {kind}: the gradients of what trains are not those of full precision (cosine {cosine:.3f}; "
            f"at least {least} is asked for)",
            fix="choose a finer kind (nf4 < int8 < bf16 < fp32); these weights lose too much by rounding",
        )


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, where each weight counts once, however it is held."""
    layers = [each for each in module.modules() if isinstance(each, PackedLinear)]
    held = {p for layer in layers for p in (layer.codes, layer.scales) if p is not None}
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    return weights + sum(p.numel() for p in module.parameters() if p not in held)
