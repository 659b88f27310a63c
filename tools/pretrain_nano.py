"""Pre-train the `nano` backbone by masked reconstruction on synthetic scenes and write its packaged weights.

    python tools/pretrain_nano.py                      # about 15 CPU minutes
    python tools/pretrain_nano.py --smoke --out x.safetensors

A masked autoencoder (arXiv 2111.06377): 75 % of the patches are hidden, the encoder sees the rest, a small decoder
reconstructs the z-scored spectra of the hidden ones; only the encoder is kept. Beside it each visible token says by one
linear map what its surroundings, mostly hidden, look like (mean and contrast per band). It asks the encoder
for context, and its loss still falls when that of the reconstruction has levelled off.

The scenes are single dates of all three kinds (land cover, flood, burn) from random mixtures of the four training
regions (`adapteo.data._regions.blend`), so their settings lie between those of the training regions, give or take some
20 %. The settings of "delta" and "arid" are never used. The seed sequences start with another word than those of the
dataset, so that no chip of any split is among the scenes; no label is looked at.

The same seed on the same machine with the same number of threads and versions gives the same bytes; elsewhere sums are
rounded in another order, and the weights differ in late digits. `nano.py` holds the checksum and the statistics that
this script prints.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapteo.backbones.nano import DIM, PATCH, NanoViT, position_code
from adapteo.bands import HLS6
from adapteo.checkpoint import save_tensors
from adapteo.data._regions import REGIONS, blend
from adapteo.data._scene import KINDS, make_scene
from adapteo.files import sha256
from adapteo.vit import Block, init_weights

PRETRAINING = 3
"""First word of the seed sequences; `adapteo.data.scenes` uses 1 and 2."""
CORNERS = ("temperate", "mediterranean", "boreal", "tropical")
CLOUD = 0.25
"""Blue reflectance above which a pixel is left out of the statistics."""
LIMIT = 3.0
"""Targets are cut at this many standard deviations, or a few clouds would rule the loss."""
TARGET = Path(__file__).parents[1] / "src" / "adapteo" / "backbones" / "nano.safetensors"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result.

    Attributes:
        scenes: number of different scenes.
        side: of a scene in pixels; random windows of `crop` pixels are cut from it, turned and mirrored.
        crop: side of a training image.
        steps, batch, rate, warmup, decay: of AdamW with a cosine schedule.
        masked: share of hidden patches.
        asked: share of the hidden patches that one step reconstructs; the decoder's work falls with it.
        reach: positions start at a random patch up to this one, so that larger images than `crop` look familiar.
        width, depth: of the decoder.
        patch_norm: whether each target patch is brought to zero mean and unit variance (MAE's best for photographs).
        seed: of scenes, weights, order and masks.
    """

    scenes: int = 3000
    side: int = 96
    crop: int = 48
    steps: int = 3000
    batch: int = 32
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.05
    masked: float = 0.75
    asked: float = 0.5
    reach: int = 20
    width: int = 64
    depth: int = 1
    patch_norm: bool = False
    seed: int = 0


SMOKE = Recipe(scenes=4, side=40, crop=32, steps=3, batch=4, warmup=1)


class NearBlock(Block):
    """Block of the decoder whose heads look near first: attention falls with distance, at a rate per head.

    Attending by distance is most of what a decoder of this task has to learn first; it is given for nothing here, as
    ALiBi does for text (arXiv 2108.12409).
    """

    SLOPES = (2.0, 1.0, 0.5, 0.0)

    def forward(self, x: Tensor, distance: Tensor) -> Tensor:
        """``(b, n, d)`` with distances in patches ``(b, n, n)``."""
        b, n, d = x.shape
        attn, y = self.attn, self.norm1(x)
        q, k, v = (f(y).view(b, n, attn.heads, -1).transpose(1, 2) for f in (attn.q, attn.k, attn.v))
        bias = -distance.unsqueeze(1) * torch.tensor(self.SLOPES).view(1, -1, 1, 1)
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + attn.proj(out.transpose(1, 2).reshape(b, n, d))
        return x + self.mlp(self.norm2(x))


class Autoencoder(nn.Module):
    """Encoder of visible patches and decoder of hidden ones."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = NanoViT(HLS6)
        self.narrow = nn.Linear(DIM, recipe.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, recipe.width))
        self.place = nn.Linear(DIM, recipe.width)
        self.blocks = nn.ModuleList(NearBlock(recipe.width, 4) for _ in range(recipe.depth))
        self.norm = nn.LayerNorm(recipe.width)
        self.head = nn.Linear(recipe.width, PATCH * PATCH * len(HLS6))
        self.summary = nn.Linear(DIM, 4 * len(HLS6))
        for part in (self.narrow, self.place, self.blocks, self.norm, self.head, self.summary):
            part.apply(init_weights)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of a batch of normalised images ``(b, 6, h, w)``: mean squared error on hidden patches."""
        b, side = len(images), images.shape[-1] // PATCH
        n = side * side
        hide = int(n * self.recipe.masked)
        shown, asked = n - hide, int(hide * self.recipe.asked)
        order = torch.rand(b, n, generator=generator).argsort(1)[:, : shown + asked]
        seen, hidden = order[:, :shown], order[:, shown:]
        code = self._positions(b, side, generator)
        patches = nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)
        kernel = self.encoder.patch_embed
        x = nn.functional.linear(_pick(patches, seen), kernel.weight.flatten(1), kernel.bias) + _pick(code, seen)
        for block in self.encoder.blocks:
            x = block(x)
        x = self.encoder.norm(x)
        around = nn.functional.mse_loss(self.summary(x), _pick(surroundings(images), seen))
        x = self.narrow(x)
        x = torch.cat([x, self.mask_token.expand(b, asked, -1)], dim=1) + self.place(_pick(code, order))
        place = torch.stack([order // side, order % side], dim=-1).float()
        distance = torch.cdist(place, place)
        for block in self.blocks:
            x = block(x, distance)
        target = _pick(patches, hidden)
        if self.recipe.patch_norm:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-4).sqrt()
        target = target.clamp(-LIMIT, LIMIT)
        return nn.functional.mse_loss(self.head(self.norm(x[:, shown:])), target) + around

    def _positions(self, b: int, side: int, generator: torch.Generator) -> Tensor:
        total = side + self.recipe.reach
        table = position_code(total, total).view(total, total, DIM)
        starts = torch.randint(self.recipe.reach + 1, (b, 2), generator=generator).tolist()
        return torch.stack([table[i : i + side, j : j + side].reshape(-1, DIM) for i, j in starts])


def surroundings(images: Tensor) -> Tensor:
    """Mean and logarithm of the standard deviation per band around each patch, ``(b, patches, 24)``.

    Over 3 x 3 patches, most of them hidden, and over the whole image; standardised over the batch.
    """
    images = images.clamp(-LIMIT, LIMIT)
    patches = [nn.functional.avg_pool2d(power, PATCH) for power in (images, images.square())]
    parts = []
    for first, second in (
        [nn.functional.avg_pool2d(p, 3, 1, 1, count_include_pad=False) for p in patches],
        [p.mean((2, 3), keepdim=True).expand_as(p) for p in patches],
    ):
        parts += [first, 0.5 * (second - first.square()).clamp(min=1e-3).log()]
    summary = torch.cat(parts, dim=1)
    mean, std = summary.mean((0, 2, 3), keepdim=True), summary.std((0, 2, 3), keepdim=True)
    return ((summary - mean) / (std + 1e-6)).flatten(2).transpose(1, 2)


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def make_scenes(recipe: Recipe) -> np.ndarray:
    """Reflectance of all scenes ``(n, 6, side, side)`` as float16."""
    corners = [REGIONS[name] for name in CORNERS]
    scenes = np.empty((recipe.scenes, len(HLS6), recipe.side, recipe.side), dtype=np.float16)
    for i in range(recipe.scenes):
        entropy = (PRETRAINING, recipe.seed, i)
        region = blend(corners, np.random.default_rng((*entropy, 1)))
        scenes[i] = make_scene(entropy, region, (recipe.side, recipe.side), KINDS[i % len(KINDS)]).image[0]
        if (i + 1) % 500 == 0:
            print(f"{i + 1:,} of {recipe.scenes:,} scenes", flush=True)
    return scenes


def batches(scenes: np.ndarray, recipe: Recipe) -> Iterator[np.ndarray]:
    """Yield random windows ``(b, 6, crop, crop)`` in float32, turned and mirrored."""
    rng = np.random.default_rng((PRETRAINING, recipe.seed, recipe.scenes))
    for _ in range(recipe.steps):
        windows = []
        for i in rng.integers(len(scenes), size=recipe.batch):
            y, x = rng.integers(recipe.side - recipe.crop + 1, size=2)
            window = np.rot90(scenes[i, :, y : y + recipe.crop, x : x + recipe.crop], int(rng.integers(4)), (1, 2))
            windows.append(window[:, :, ::-1] if rng.integers(2) else window)
        yield np.stack(windows).astype(np.float32)


def pretrain(recipe: Recipe, scenes: np.ndarray) -> tuple[Autoencoder, tuple[np.ndarray, np.ndarray]]:
    """Train the autoencoder; return it with mean and standard deviation of each band."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    mean, std = statistics(scenes[:: max(1, len(scenes) // 500)])
    shift, scale = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std))
    model = Autoencoder(recipe)
    weights = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe))
    started, recent = time.perf_counter(), 0.0
    for step, images in enumerate(batches(scenes, recipe), start=1):
        loss = model((torch.from_numpy(images) - shift) / scale, generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent += loss.item()
        if step % 100 == 0 or step == recipe.steps:
            count = step % 100 or 100
            print(f"step {step:5d}  loss {recent / count:.4f}  {time.perf_counter() - started:6.0f} s", flush=True)
            recent = 0.0
    return model, (mean, std)


def statistics(scenes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over clear pixels."""
    pixels = scenes.transpose(1, 0, 2, 3).reshape(len(HLS6), -1).astype(np.float64)
    clear = pixels[:, pixels[0] < CLOUD]
    return clear.mean(1).round(4), clear.std(1).round(4)


def _rate(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write (default: the packaged one)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; part of what makes the bytes the same")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a few scenes, to see that it runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = SMOKE if options.smoke else Recipe()
    model, (mean, std) = pretrain(recipe, make_scenes(recipe))
    save_tensors({key: value.half() for key, value in model.encoder.state_dict().items()}, options.out)
    print(f"_MEAN = {tuple(mean.tolist())}\n_STD = {tuple(std.tolist())}\nsha256 = {sha256(options.out)}")


if __name__ == "__main__":
    sys.exit(main())
