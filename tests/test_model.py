"""The model: any image size in, logits of that size out, and what is frozen stays in evaluation mode."""

import pytest
import torch
from torch import nn

from adapteo.contracts import Batch, adapt
from adapteo.decoders.linear import Linear
from adapteo.model import Model, decoder_state, features, frozen_in_eval, pad_to_multiple, predict_logits
from adapteo.peft.lora import LoRA
from tiny import TinyBackbone


def build(dense=True):
    torch.manual_seed(0)
    backbone = TinyBackbone(("red", "nir"))
    return Model(backbone, Linear().build(features(backbone), 3, dense), backbone.normalisation)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 4)])
def test_logits_have_the_size_of_the_image(size):
    images = torch.rand(2, 1, 2, *size)
    logits = predict_logits(build(), Batch(images))
    assert logits.shape == (2, 3, *size)
    padded = predict_logits(build(), Batch(pad_to_multiple(images, 4)))
    assert torch.equal(logits, padded[..., : size[0], : size[1]])
    assert predict_logits(build(dense=False), Batch(images)).shape == (2, 3)


def test_images_are_continued_by_their_edges():
    images = torch.arange(6.0).view(1, 1, 1, 2, 3)
    padded = pad_to_multiple(images, 4)
    assert padded[0, 0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_multiple(padded, 4) is padded


def test_missing_pixels_are_the_mean_of_their_band():
    model, images = build(), torch.rand(1, 1, 2, 8, 8)
    images[..., :3, :] = torch.nan
    filled = torch.where(images.isnan(), torch.tensor(0.1), images)
    torch.testing.assert_close(predict_logits(model, Batch(images)), predict_logits(model, Batch(filled)))


def test_what_is_frozen_stays_in_evaluation_mode():
    model = build()
    model.backbone.blocks[0].extra = nn.BatchNorm1d(4)
    adapt(model.backbone, LoRA(rank=2, dropout=0.5))
    frozen_in_eval(model)
    training = {name for name, module in model.named_modules() if module.training}
    assert "decoder.head" in training
    assert {name for name in training if "dropout" in name}, "LoRA drops"
    assert "backbone.blocks.0.extra" not in training
    assert not any("norm" in name or "patch_embed" in name for name in training)
    assert not predict_logits(model, Batch(torch.rand(1, 1, 2, 8, 8))).requires_grad
    assert not any(module.training for module in model.modules())


def test_modules_without_parameters_follow_what_is_around_them():
    model = build()
    trunk = model.backbone
    trunk.requires_grad_(False)
    trunk.blocks[0].drop = nn.Dropout(0.5)
    trunk.blocks[1].drop = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    trunk.drop = nn.Dropout(0.5)
    trunk.blocks[1].drop[1].requires_grad_(False)
    frozen_in_eval(model)
    assert not any(module.training for module in trunk.modules()), "all is frozen"
    trunk.blocks[1].drop[1].requires_grad_(True)
    frozen_in_eval(model)
    assert trunk.blocks[1].drop[0].training
    assert trunk.drop.training
    assert not trunk.blocks[0].drop.training
    assert not trunk.blocks[1].attn.training
    assert model.decoder.training


def test_the_state_of_a_decoder_is_a_copy():
    model = build()
    state = decoder_state(model)
    with torch.no_grad():
        model.decoder.head.weight.zero_()
    assert state.keys() == model.decoder.state_dict().keys()
    assert state["head.weight"].abs().sum() > 0
