"""Checkpoints of TerraTorch give TerraTorch's outputs here; see tools/golden_terratorch.py for the reference."""

import pickle

import pytest
import torch
from terratorch_cases import NAMES, batch, build, fill, golden, narrow_variants, sketch

from adapteo.backbones import clay
from adapteo.errors import WeightsError
from adapteo.model import predict_logits
from adapteo.terratorch.checkpoints import load_state, read_checkpoint


@pytest.fixture(autouse=True)
def narrow_clay(monkeypatch):
    monkeypatch.setattr(clay, "VARIANTS", narrow_variants())


def write(path, state, **more):
    """A checkpoint as Lightning writes it."""
    plain = {"lr": 1e-3, "model_args": {"backbone": "prithvi", "necks": [{"name": "SelectIndices", "indices": [-1]}]}}
    content = {"epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.5.0", "state_dict": state}
    content |= {"hyper_parameters": plain, "callbacks": {"EarlyStopping": {"best_score": torch.tensor(0.3)}}}
    torch.save(content | more, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_terratorchs(name, tmp_path):
    keys, expected = golden(name)
    model, run, imagery = build(name)
    parts = read_checkpoint(write(tmp_path / "best.ckpt", fill(keys)))
    load_state(model, run, parts, imagery.classes)
    found = sketch(predict_logits(model, batch(name, model, imagery.frames)))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_older_checkpoints_have_other_prefixes(tmp_path):
    """The state dict of the model alone, and with the wrapper of TerraTorch before 1.1."""
    keys, expected = golden("flood_linear")
    state = fill(keys)
    bare = {key.removeprefix("model."): value for key, value in state.items()}
    old = {key.replace("model.encoder.", "model.encoder._timm_module."): value for key, value in state.items()}
    for given in (bare, old):
        model, run, imagery = build("flood_linear")
        load_state(model, run, read_checkpoint(write(tmp_path / "best.ckpt", given)), imagery.classes)
        found = sketch(predict_logits(model, batch("flood_linear", model, 1)))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


class Bomb:
    def __reduce__(self):
        return (print, ("code of the file runs",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    path = tmp_path / "best.ckpt"
    write(path, {"model.encoder.cls_token": torch.zeros(1)}, hyper_parameters={"model": Bomb()})
    with pytest.raises(WeightsError, match="would run code"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_checkpoints_that_do_not_fit(tmp_path):
    state = fill(golden("flood_linear")[0])
    model, run, imagery = build("flood_linear")

    def load(given):
        load_state(model, run, read_checkpoint(write(tmp_path / "best.ckpt", given)), imagery.classes)

    with pytest.raises(WeightsError, match="no `model.encoder`"):
        load({"model.decoder.conv.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"have no place here: model\.aux_heads\.a\.weight"):
        load({**state, "model.aux_heads.a.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="missing"):
        load({key: value for key, value in state.items() if "blocks.3.attn.proj" not in key})
    with pytest.raises(WeightsError, match="no linear decoder"):
        load({key: value for key, value in state.items() if "decoder" not in key})
    lora = fill(golden("burns_lora_fcn")[0])
    with pytest.raises(WeightsError, match="do not fit"):
        load(lora)
