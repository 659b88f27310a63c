"""Tokens as maps, for methods that convolve over places inside a transformer block."""

from collections.abc import Callable

import torch
from torch import Tensor

from adapteo.contracts import Backbone, Grid, TokenBackbone, tokens_of
from adapteo.errors import ConfigError
from adapteo.vit import Block


def over_places(x: Tensor, grid: Grid, convolve: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of maps ``(b, d, h, w)`` to tokens ``(b, n, d)``: one map per date or group of channels.

    Tokens that belong to no place (class tokens, prompts) are maps of one pixel, as in Convpass.
    """
    b, n, d = x.shape
    end = grid.prefix + grid.patches
    size = grid.height, grid.width
    patches = x[:, grid.prefix : end]
    if grid.spatial_first:
        maps = patches.reshape(b, *size, grid.stack, d).permute(0, 3, 4, 1, 2)
    else:
        maps = patches.reshape(b, grid.stack, *size, d).permute(0, 1, 4, 2, 3)
    maps = convolve(maps.reshape(b * grid.stack, d, *size)).view(b, grid.stack, d, *size)
    order = (0, 3, 4, 1, 2) if grid.spatial_first else (0, 1, 3, 4, 2)
    placed = maps.permute(order).reshape(b, grid.patches, d)
    if n == grid.patches:
        return placed
    others = torch.cat([x[:, : grid.prefix], x[:, end:]], dim=1)
    done = convolve(others.reshape(-1, d, 1, 1)).view(b, -1, d)
    return torch.cat([done[:, : grid.prefix], placed, done[:, grid.prefix :]], dim=1)


def known_grid(grid: Grid | None) -> Grid:
    """Return the grid that the backbone told.

    Raises:
        ConfigError: when the block runs outside of the backbone, or on a way that another method leads.
    """
    if grid is None:
        raise ConfigError("a block that convolves over places was not told how its tokens lie", fix="call the backbone")
    return grid


def plain_blocks(backbone: Backbone, title: str) -> TokenBackbone:
    """Return a backbone of tokens whose blocks are `adapteo.vit.Block`, on their plain way.

    Raises:
        ConfigError: when it is hierarchical, has other blocks, or another method leads its own way.
    """
    tokens = tokens_of(backbone, title)
    if tokens.route is not None:
        raise ConfigError(
            f"{title} acts on blocks that see all tokens, and {type(tokens.route).__name__} leads another way",
            fix="use only one of the two methods",
        )
    other = next((type(b).__name__ for b in tokens.blocks if not any(isinstance(m, Block) for m in b.modules())), None)
    if other:
        raise ConfigError(
            f"{title} acts on the sums inside a block, which {type(backbone).__name__}'s do not show",
            fix="choose another method, for example `method: adaptformer`, or another backbone",
        )
    return tokens
