import json
import math
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from adapteo import checkpoint
from adapteo.checkpoint import Base, check_base, load_adapter, load_base, locate, read_card, read_state, save_adapter
from adapteo.contracts import Weights, adapt
from adapteo.errors import DataError, WeightsError
from adapteo.files import sha256
from adapteo.peft.frozen import METHOD as Frozen
from adapteo.peft.lora import METHOD as LoRA
from tiny import TinyBackbone

BANDS = ("red", "green", "blue")


def _upstream(seed=0):
    torch.manual_seed(seed)
    backbone = TinyBackbone(BANDS)
    return backbone, backbone.unmap(backbone.state_dict())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
def test_loads_what_trainers_save(tmp_path, wrap):
    donor, state = _upstream()
    path = tmp_path / "weights.pt"
    torch.save(wrap(state), path)
    backbone = TinyBackbone(BANDS)
    base = load_base(backbone, str(path))
    assert base.sha256 == sha256(path)
    assert base.file == "weights.pt"
    for key, value in donor.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value)


def test_random_weights_touch_nothing():
    backbone = TinyBackbone(BANDS)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    assert load_base(backbone, "random") == Base("random")
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.weight"), r"missing \(1\): norm.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), r"unknown \(1\): extra"),
        (lambda s: s.update({"norm.weight": torch.zeros(7)}), r"norm.weight \(7,\) instead of \(32,\)"),
    ],
)
def test_every_key_is_accounted_for(tmp_path, change, message):
    _, state = _upstream()
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    backbone = TinyBackbone(BANDS)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_base(backbone, str(tmp_path / "w.safetensors"))
    assert "w.safetensors" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


class _Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_loading_never_runs_code(tmp_path, capsys):
    torch.save({"w": _Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="more than tensors"):
        read_state(tmp_path / "evil.pt")
    (tmp_path / "evil2.pt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(WeightsError):
        read_state(tmp_path / "evil2.pt")
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x10\x00\x00\x00half")
    with pytest.raises(WeightsError, match=name):
        read_state(tmp_path / name)


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds no tensors"):
        read_state(tmp_path / "w.pt")


def test_locate_in_a_folder(tmp_path):
    source = Weights("lab/model", "model.pt", "MIT")
    with pytest.raises(WeightsError, match="holds no weights"):
        locate(str(tmp_path), source)
    (tmp_path / "other.pt").touch()
    assert locate(str(tmp_path), source).name == "other.pt"
    (tmp_path / "model.pt").touch()
    assert locate(str(tmp_path), source).name == "model.pt"
    (tmp_path / "model.pt").rename(tmp_path / "third.pt")
    with pytest.raises(WeightsError, match=r"holds other.pt, third.pt"):
        locate(str(tmp_path), source)


def test_a_missing_file_names_the_closest(tmp_path):
    (tmp_path / "weights.pt").touch()
    with pytest.raises(WeightsError, match="did you mean 'weights.pt'"):
        locate(str(tmp_path / "weigths.pt"), None)
    with pytest.raises(WeightsError, match="no pretrained weights"):
        locate("pretrained", None)


def test_without_the_hub_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="weights: <its path>") as caught:
        locate("pretrained", Weights("adapteo/no-such-model", "model.pt", "MIT"))
    assert len(str(caught.value).splitlines()) <= 5


def test_a_changed_download_is_refused(monkeypatch, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"changed")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: str(tmp_path / "model.pt"))
    with pytest.raises(WeightsError, match="damaged or was changed"):
        locate("pretrained", Weights("lab/model", "model.pt", "MIT", sha256="0" * 64))
    right = Weights("lab/model", "model.pt", "MIT", sha256=sha256(tmp_path / "model.pt"))
    assert locate("pretrained", right) == tmp_path / "model.pt"


class _Refused(HfHubHTTPError):
    """What the hub's client raises, without an answer of the hub, which its versions take in different ways."""

    def __init__(self):
        Exception.__init__(self, "403 Forbidden: the model is gated")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_Refused(), r"the hub refused lab/model/model.pt: .*gated"),
        (PermissionError(13, "Permission denied"), r"cannot fetch lab/model/model.pt: .*Permission denied"),
    ],
)
def test_what_the_hub_or_the_system_refuses_is_named(monkeypatch, error, said):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(WeightsError, match=said) as caught:
        locate("pretrained", Weights("lab/model", "model.pt", "MIT"))
    assert "weights: <its path>" in str(caught.value)


@pytest.mark.parametrize(("folder", "revision"), [("snapshots/4f2c", "4f2c"), ("elsewhere/4f2c", "v2")])
def test_the_commit_of_a_download_is_kept(monkeypatch, tmp_path, folder, revision):
    """The hub's cache names folders by commit; where it does not, the name that was asked for is all that is known."""
    path = tmp_path / folder / "w.safetensors"
    path.parent.mkdir(parents=True)
    save_file(_upstream()[1], path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: str(path))
    backbone = TinyBackbone(BANDS)
    backbone.weights = Weights("lab/model", "w.safetensors", "MIT", revision="v2")
    base = load_base(backbone, "pretrained")
    assert (base.repo, base.revision, base.licence) == ("lab/model", revision, "MIT")


def test_packaged_weights_need_no_hub():
    path = locate("pretrained", Weights("", "nano.safetensors", "Apache-2.0", packaged=True))
    assert "patch_embed.weight" in read_state(path)


def _adapted(seed=1, method=None):
    backbone, _ = _upstream(0)
    torch.manual_seed(seed)
    method = method or LoRA(rank=2)
    adapt(backbone, method)
    for p in backbone.parameters():
        if p.requires_grad:
            nn.init.normal_(p)
    return backbone, method


def test_adapter_folder_round_trip(tmp_path):
    backbone, method = _adapted()
    decoder = nn.Linear(4, 2)
    base = Base("somewhere.pt", repo="lab/model", revision="abc", file="w.pt", sha256="f" * 64)
    save_adapter(tmp_path / "adapter", backbone, method, decoder.state_dict(), {"base": base, "classes": ("a", "b")})
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "card.json", "decoder.safetensors",
    ]  # fmt: skip
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "lab/model"
    assert config["revision"] == "abc"
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in backbone.parameters() if p.requires_grad)

    fresh, _ = _adapted(seed=2)
    state = load_adapter(tmp_path / "adapter", fresh, method)
    assert torch.equal(state["weight"], decoder.weight)
    for (name, a), b in zip(backbone.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b), name
    card = read_card(tmp_path / "adapter")
    assert card["classes"] == ["a", "b"]
    check_base(base, card)
    with pytest.raises(WeightsError, match="was trained on w.pt"):
        check_base(Base("x", file="other.pt", sha256="0" * 64), card)


def test_a_random_base_is_kept_because_it_is_nowhere_else(tmp_path):
    torch.manual_seed(5)
    backbone = adapt(TinyBackbone(BANDS), Frozen())
    save_adapter(tmp_path / "a", backbone, Frozen(), nn.Linear(1, 1).state_dict(), {"base": Base("random")})
    torch.manual_seed(6)
    fresh = adapt(TinyBackbone(BANDS), Frozen())
    load_adapter(tmp_path / "a", fresh, Frozen())
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), fresh.parameters(), strict=True))


def test_what_is_no_adapter_is_refused(tmp_path):
    backbone, method = _adapted()
    with pytest.raises(WeightsError, match="no adapter"):
        load_adapter(tmp_path, backbone, method)
    with pytest.raises(WeightsError, match="there is no adapter"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(WeightsError, match="is damaged"):
        read_card(tmp_path)


def test_state_round_trip_and_damage(tmp_path):
    checkpoint.save_state(tmp_path / "s.pt", {"a": torch.ones(2), "b": [1.0, {"c": "d"}]})
    assert checkpoint.load_state(tmp_path / "s.pt")["b"] == [1.0, {"c": "d"}]
    (tmp_path / "s.pt").write_bytes(b"half")
    with pytest.raises(WeightsError, match="damaged"):
        checkpoint.load_state(tmp_path / "s.pt")


@contextmanager
def _small_files(size):
    """Let the system refuse files that are larger, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, state: checkpoint.save_state(path, state),
        lambda path, state: checkpoint.save_tensors(state, path),
    ],
    ids=["PyTorch", "safetensors"],
)
def test_what_the_system_refuses_to_write_is_named_and_the_old_file_stays(tmp_path, write):
    """PyTorch and safetensors wrap it into errors of their own."""
    path = tmp_path / "weights"
    write(path, {"a": torch.ones(2)})
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"cannot write .*weights: File too large"), _small_files(2**16):
        write(path, {"a": torch.ones(2**20)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


@pytest.mark.parametrize(
    "error", [RuntimeError("a storage of a kind that cannot be saved"), SafetensorError("no such dtype")]
)
def test_other_errors_of_the_writers_are_left_as_they_are(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(type(error)) as caught:
        checkpoint.save_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_json_holds_what_it_knows(tmp_path):
    content = {
        "a": torch.tensor([1.5, 2]), "b": (1, math.nan), "c": {"d": math.inf}, "e": frozenset({3}), "f": Path("x/y"),
    }  # fmt: skip
    checkpoint.write_json(content, tmp_path / "a.json")
    read = json.loads((tmp_path / "a.json").read_text())
    assert read == {"a": [1.5, 2.0], "b": [1, None], "c": {"d": None}, "e": [3], "f": "x/y"}
