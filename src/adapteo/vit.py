"""The plain vision transformer that the ViT-shaped backbones are made of (arXiv 2010.11929).

    x = x + Attention(LN(x));  x = x + MLP(LN(x))

q, k and v are three linears, each with its role, so that a method can target any of them and adapter files use
HF peft's own key names; `split_qkv` and `fuse_qkv` translate fused checkpoints. `make bench` prints what this costs.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapteo.errors import DataError
from adapteo.lean import Affine, Memory, normed_branch, normed_linears, recomputed

ROLES = ("q", "k", "v", "proj", "fc1", "fc2", "gate")


class RoleLinear(nn.Linear):
    """A linear layer that knows what it is for; methods select by role, never by a pattern on names."""

    def __init__(self, role: str, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.role = role

    def affine(self) -> Affine:
        """What it computes, for `adapteo.lean`."""
        return Affine(self.weight, self.bias)


class SplitLinear(nn.Module):
    """Several linears of one input side by side: a drop-in for a fused linear, ``(..., in) -> (..., sum of out)``."""

    def __init__(self, parts: Mapping[str, RoleLinear]) -> None:
        super().__init__()
        for role, part in parts.items():
            self.add_module(role, part)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the outputs."""
        return torch.cat([part(x) for part in self.children()], dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention, ``(b, n, d) -> (b, n, d)``, through the fused kernel."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool = True, proj_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.q = RoleLinear("q", dim, dim, qkv_bias)
        self.k = RoleLinear("k", dim, dim, qkv_bias)
        self.v = RoleLinear("v", dim, dim, qkv_bias)
        self.proj = RoleLinear("proj", dim, dim, proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over n."""
        out: Tensor = self.proj(self.combine(self.q(x), self.k(x), self.v(x)))
        return out

    def combine(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """From what the linears made of the input to what `proj` gets, ``(b, n, d)`` each."""
        heads = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """Two linears with GELU between, ``(b, n, d) -> (b, n, d)``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = RoleLinear("fc1", dim, hidden)
        self.fc2 = RoleLinear("fc2", hidden, dim)

    hidden = ("fc1",)
    combine = staticmethod(F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each token."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class GatedMlp(nn.Module):
    """SwiGLU, ``fc2(SiLU(fc1(x)) · gate(x))``, ``(b, n, d) -> (b, n, d)`` (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = RoleLinear("fc1", dim, hidden, bias)
        self.gate = RoleLinear("gate", dim, hidden, bias)
        self.fc2 = RoleLinear("fc2", hidden, dim, bias)

    hidden = ("fc1", "gate")

    @staticmethod
    def combine(x: Tensor, gate: Tensor) -> Tensor:
        """From the outputs of the hidden linears to the input of the last."""
        return F.silu(x) * gate

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each token."""
        out: Tensor = self.fc2(self.combine(self.fc1(x), self.gate(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block, ``(b, n, d) -> (b, n, d)``.

    Args:
        dim, heads: width and number of heads.
        mlp: hidden width of the MLP over `dim`, or the module itself.
        qkv_bias, proj_bias, norm_bias: whether those linears of the attention, and the norms, have biases.
        eps: of the norms.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp: float | nn.Module = 4.0,
        *,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        norm_bias: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps, bias=norm_bias)
        self.attn = Attention(dim, heads, qkv_bias=qkv_bias, proj_bias=proj_bias)
        self.norm2 = nn.LayerNorm(dim, eps=eps, bias=norm_bias)
        self.mlp = mlp if isinstance(mlp, nn.Module) else Mlp(dim, int(dim * mlp))
        self.memory: Memory = "fast"

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then MLP, each with its residual."""
        if self.memory == "fast" or not torch.is_grad_enabled():
            x = x + self.attn(self.norm1(x))
            out: Tensor = x + self.mlp(self.norm2(x))
            return out
        x = x + self._lean_attention(x)
        return x + self._lean_mlp(x)

    def _lean_attention(self, x: Tensor) -> Tensor:
        attn, out = self.attn, None
        if type(attn) is Attention:
            qkv = (attn.q, attn.k, attn.v)
            if self.memory == "leanest":
                out = normed_branch(x, self.norm1, qkv, attn.combine, attn.proj, keep_hidden=False)
            elif (heads := normed_linears(x, self.norm1, qkv)) is not None:
                out = attn.proj(attn.combine(*heads))
        return self._otherwise(self.norm1, attn, x) if out is None else out

    def _lean_mlp(self, x: Tensor) -> Tensor:
        mlp, out = self.mlp, None
        if isinstance(mlp, Mlp | GatedMlp):
            hidden = [getattr(mlp, role) for role in mlp.hidden]
            out = normed_branch(x, self.norm2, hidden, mlp.combine, mlp.fc2, keep_hidden=self.memory == "lean")
        return self._otherwise(self.norm2, mlp, x) if out is None else out

    def _otherwise(self, norm: nn.Module, branch: nn.Module, x: Tensor) -> Tensor:
        """What a method has put other modules into: as usual, or all of it again in the backward pass."""
        parameters = [*norm.parameters(), *branch.parameters()]
        if self.memory == "lean" or _draws(norm) or _draws(branch):
            out: Tensor = branch(norm(x))
            return out
        return recomputed(lambda x: branch(norm(x)), x, parameters)


def set_memory(model: nn.Module, memory: Memory) -> None:
    """Choose what the backward passes of all blocks of a model compute again; results stay the same."""
    for module in model.modules():
        if isinstance(module, Block):
            module.memory = memory


def _draws(module: nn.Module) -> bool:
    """Whether a forward pass draws random numbers, which would be others when it is computed again."""
    return any(isinstance(each, nn.Dropout) and each.training and each.p > 0 for each in module.modules())


class PatchConv2d(nn.Conv2d):
    """Patch embedding ``(b, c, h, w) -> (b, d, h / p, w / p)`` with the parameters of a convolution."""

    def __init__(self, channels: int, dim: int, patch: int, bias: bool = True) -> None:
        super().__init__(channels, dim, patch, patch, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed."""
        return embed_patches(images, self.weight, self.bias)


class PatchConv3d(nn.Conv3d):
    """Patch embedding of each date, ``(b, c, t, h, w) -> (b, d, t, h / p, w / p)``, with a kernel of one date."""

    def __init__(self, channels: int, dim: int, patch: int, bias: bool = True) -> None:
        super().__init__(channels, dim, (1, patch, patch), (1, patch, patch), bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed."""
        b, _, t, _, _ = images.shape
        maps = embed_patches(images.transpose(1, 2).flatten(0, 1), self.weight[:, :, 0], self.bias)
        return maps.unflatten(0, (b, t)).transpose(1, 2)


def check_patches(height: int, width: int, patch: int) -> None:
    """Refuse images that patches do not fill.

    Raises:
        DataError: says the nearest sizes that they do.
    """
    if height % patch or width % patch:
        below = " x ".join(str(side // patch * patch) for side in (height, width))
        above = " x ".join(str(-(-side // patch) * patch) for side in (height, width))
        raise DataError(
            f"images of {height} x {width} pixels cannot be cut into patches of {patch}",
            fix=f"crop them to {below}, or pad them to {above}",
        )


def embed_patches(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with kernel = stride = p as one product of matrices: ``(b, c, h, w) -> (b, d, h / p, w / p)``.

    The same function as the convolution, which must not be used: oneDNN 3.12 (in PyTorch 2.13) returns wrong values
    for such convolutions in bfloat16 on CPUs with AMX (a relative error of 1 for 6 channels and p = 16).

    Args:
        images: sides are multiples of p.
        weight: ``(d, c, p, p)``.
        bias: ``(d,)`` or None.
    """
    b, c, h, w = images.shape
    p = weight.shape[-1]
    patches = images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, h // p, w // p, -1)
    return F.linear(patches, weight.flatten(1), bias).permute(0, 3, 1, 2)


def init_weights(module: nn.Module) -> None:
    """Xavier-uniform linears and unit LayerNorms, as in MAE (arXiv 2111.06377); for use with ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def split_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each fused ``….qkv.weight|bias`` by ``….q``, ``….k``, ``….v`` (equal parts of the rows)."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".qkv." in key:
            for role, part in zip("qkv", value.chunk(3), strict=True):
                out[key.replace(".qkv.", f".{role}.")] = part.clone()
        else:
            out[key] = value
    return out


def fuse_qkv(state: Mapping[str, Tensor], part: str = ".attn.{}.", whole: str = ".attn.qkv.") -> dict[str, Tensor]:
    """Invert `split_qkv`: join the three tensors whose keys have ``part`` with "q", "k" and "v" into ``whole``."""
    q, k, v = (part.format(role) for role in "qkv")
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if q in key:
            out[key.replace(q, whole)] = torch.cat([state[key.replace(q, each)] for each in (q, k, v)])
        elif k not in key and v not in key:
            out[key] = value
    return out


def sincos_1d(dim: int, positions: Tensor) -> Tensor:
    """Sine-cosine code of positions ``(n,)`` in float64: ``(n, dim)``, sines first, then cosines (arXiv 2111.06377).

    Raises:
        ValueError: when dim is odd.
    """
    if dim % 2:
        raise ValueError(f"sine-cosine codes need an even width, not {dim}")
    omega = 1.0 / 10000 ** (torch.arange(dim // 2, dtype=torch.float64) / (dim / 2.0))
    angles = torch.outer(positions.double().flatten(), omega)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
