"""Weights in, adapters out. Every key of a file is accounted for, and loading never runs code from a file.

An adapter is a folder:

    adapter_model.safetensors   what was trained in the backbone (LoRA: HF peft's key names)
    adapter_config.json         the method's fields (LoRA: HF peft's)
    decoder.safetensors         the decoder
    card.json                   base model with revision and sha256, bands, normalisation, classes, metrics
    base.safetensors            only when the base had random weights, which are nowhere else
"""

import json
import math
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapteo.backbones._keys import account, shapes
from adapteo.contracts import Backbone, Method, Weights, copy_exactly, trainable
from adapteo.errors import WeightsError, closest
from adapteo.files import replacing, sha256

PRETRAINED, RANDOM = "pretrained", "random"
BASE_FILE = "base.safetensors"
_WRAPPERS = ("state_dict", "model", "model_state")


@dataclass(frozen=True)
class Base:
    """The weights a backbone started from.

    Attributes:
        weights: what the user wrote: "pretrained", "random" or a path.
        repo, revision, file, licence: where they come from; "" when not known.
        sha256: of the file that was loaded; "" for random weights.
        skipped: keys of the file that are not part of this backbone, with the reason.
    """

    weights: str
    repo: str = ""
    revision: str = ""
    file: str = ""
    licence: str = ""
    sha256: str = ""
    skipped: tuple[tuple[str, str], ...] = ()


def load_base(backbone: Backbone, weights: str) -> Base:
    """Load pretrained weights into a backbone, in place.

    Args:
        backbone: as built, before any method.
        weights: "pretrained" (packaged, or from the hub), "random", or the path of a file or folder.

    Raises:
        WeightsError: no such file, no network, a damaged file, or keys that do not fit.
    """
    if weights == RANDOM:
        return Base(RANDOM)
    source = backbone.weights
    path = locate(weights, source)
    state = read_state(path)
    try:
        remapped = backbone.remap(state)
        given = account(remapped.state, shapes(backbone), model=type(backbone).__name__, fix="give its own weights")
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error.problem}", allowed=error.allowed, fix=error.fix) from error
    backbone.load_state_dict(given.state)
    return Base(
        weights,
        repo=source.repo if source else "",
        revision=_revision(path, source) if weights == PRETRAINED else "",
        file=path.name,
        licence=source.licence if source else "",
        sha256=sha256(path),
        skipped=tuple(sorted(remapped.skipped.items())),
    )


def locate(weights: str, source: Weights | None) -> Path:
    """Find the file behind "pretrained" or a path.

    Raises:
        WeightsError: when it is not there.
    """
    if weights != PRETRAINED:
        return _local(Path(weights).expanduser(), source)
    if source is None:
        raise WeightsError("this backbone has no pretrained weights", fix="say `weights: random`, or give a path")
    if source.packaged:
        return Path(__file__).parent / "backbones" / source.file
    return _from_hub(source)


def _local(path: Path, source: Weights | None) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        known = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".pt", ".pth", ".ckpt", ".bin"))
        named = [p for p in known if source and p.stem == Path(source.file).stem]
        if named or len(known) == 1:
            return (named or known)[0]
        found = ", ".join(p.name for p in known) or "no weights"
        raise WeightsError(f"the folder {path} holds {found}", fix="give the path of one file")
    near = closest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
    raise WeightsError(f"there are no weights at {path}{near}", fix="change `weights` of the backbone")


def cached(source: Weights) -> bool:
    """Tell whether weights from the hub are on this machine already."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source.repo, source.file, revision=source.revision), str)


def _from_hub(source: Weights) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    fix = f"download {source.file} of {source.repo} elsewhere and say `weights: <its path>`"
    try:
        path = Path(hf_hub_download(source.repo, source.file, revision=source.revision))
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            f"cannot reach the hub for {source.repo}/{source.file}, nor is it cached", fix=fix
        ) from error
    except HfHubHTTPError as error:
        raise WeightsError(f"the hub refused {source.repo}/{source.file}: {error}", fix=fix) from error
    except OSError as error:
        raise WeightsError(f"cannot fetch {source.repo}/{source.file}: {error}", fix=fix) from error
    if source.sha256 and sha256(path) != source.sha256:
        raise WeightsError(f"{path} is damaged or was changed: its sha256 is not {source.sha256}", fix="delete it")
    return path


def _revision(path: Path, source: Weights | None) -> str:
    """Commit of a file in the hub's cache (``…/snapshots/<commit>/file``), else the name that was asked for."""
    if path.parent.parent.name == "snapshots":
        return path.parent.name
    return source.revision if source else ""


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or a PyTorch file, without running code from it.

    Raises:
        WeightsError: when the file is damaged, needs code to load, or holds no tensors.
    """
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    content = _load_pickled(path)
    return _unwrapped(content, path)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the tensors in what trainers save: ``{"state_dict": …}``, ``{"model": …}``, or the dict itself."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise WeightsError(f"{path} holds no tensors", fix="give a file with a state dict")
    return state


# ------------------------------------------------------------------------------------------- adapter


def save_adapter(
    folder: Path, backbone: Backbone, method: Method, decoder: Mapping[str, Tensor], card: Mapping[str, object]
) -> None:
    """Write an adapter folder; an older one is exchanged for it in one go.

    Args:
        folder: see the drawing at the top of this file.
        backbone: adapted.
        method: that adapted it.
        decoder: its state dict.
        card: JSON-ready facts; ``card["base"]`` as of `Base`.
    """
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        save_tensors(method.adapter_state(backbone), beside / "adapter_model.safetensors")
        save_tensors(decoder, beside / "decoder.safetensors")
        base = card["base"]
        config = method.adapter_config(backbone)
        if isinstance(base, Base):
            config = {**config, "base_model_name_or_path": base.repo or base.file or None, "revision": base.revision}
            card = {**card, "base": asdict(base)}
            if base.weights == RANDOM:
                save_tensors(_frozen(backbone), beside / BASE_FILE)
        write_json(config, beside / "adapter_config.json")
        write_json(card, beside / "card.json")


def load_adapter(folder: Path, backbone: Backbone, method: Method) -> dict[str, Tensor]:
    """Copy an adapter into an adapted backbone, in place, and return the state dict of its decoder.

    Raises:
        WeightsError: when a file is missing, damaged or does not fit.
    """
    for name in ("adapter_model.safetensors", "decoder.safetensors", "card.json"):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} is no adapter: it has no {name}", fix="give the folder that `fit` wrote")
    if (folder / BASE_FILE).is_file():
        copy_exactly(_frozen(backbone), _load_safetensors(folder / BASE_FILE))
    method.load_adapter_state(backbone, _load_safetensors(folder / "adapter_model.safetensors"))
    return read_state(folder / "decoder.safetensors")


def _frozen(backbone: Backbone) -> dict[str, Tensor]:
    """Everything of the state dict that does not train; the tensors themselves, not copies."""
    trained = trainable(backbone)
    return {key: value for key, value in backbone.state_dict().items() if key not in trained}


def read_card(folder: Path) -> dict[str, Any]:
    """Read ``card.json`` of an adapter folder.

    Raises:
        WeightsError: when it is not there, or no JSON.
    """
    path = folder / "card.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"there is no adapter in {folder}", fix="run `adapteo fit` first, or name its folder"
        ) from error
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path} is damaged: {error}", fix="restore it, or train again") from error
    return card


def check_base(found: Base, card: Mapping[str, Any]) -> None:
    """Refuse to put an adapter on other weights than it was trained on.

    Raises:
        WeightsError: when the sha256 differs.
    """
    wanted = card["base"]["sha256"]
    if wanted != found.sha256:
        raise WeightsError(
            f"the adapter was trained on {card['base']['file']} with sha256 {wanted[:12]}…; {found.file} has "
            f"{found.sha256[:12]}…",
            fix="give the base weights that are named in the adapter's card.json",
        )


def save_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, beside and renamed."""
    plain = {key: value.detach().to("cpu").contiguous().clone() for key, value in state.items()}
    with replacing(path) as beside, _os_errors():
        save_file(plain, beside, metadata={"format": "pt"})


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write readable JSON, beside and renamed; numbers that are not defined become null."""
    text = json.dumps(_defined(content), indent=2, ensure_ascii=False, default=_plain, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def _defined(value: object) -> object:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {key: _defined(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> object:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no safetensors file, or it is damaged: {error}", fix="fetch it again") from error


def _load_pickled(path: Path) -> Any:
    """Read a PyTorch file of tensors and plain values only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of files that are no PyTorch files; the error below says so
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors, and reading that would run code from it",
            fix="convert it to safetensors where you trust it: save_file(state_dict, 'weights.safetensors')",
        ) from error
    except (EOFError, RuntimeError, OSError, LookupError, ValueError, AttributeError) as error:
        # whatever PyTorch's reader stumbles over in bytes that are not its own
        raise WeightsError(f"{path} is damaged, or no PyTorch file", fix="fetch it again") from error


@contextmanager
def _os_errors() -> Iterator[None]:
    """Let what the system refused (a full disk) out of the errors that PyTorch and safetensors wrap it into."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    except SafetensorError as error:
        code = re.search(r"(?:os error|Os \{ code:) (\d+)", str(error))  # the latter in safetensors 0.5
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


# -------------------------------------------------------------------------------------------- resume


def save_state(path: Path, state: Mapping[str, object]) -> None:
    """Write the state of an unfinished run."""
    with replacing(path) as beside, _os_errors(), beside.open("wb") as file:
        torch.save(dict(state), file)


def load_state(path: Path) -> dict[str, Any]:
    """Read the state of an unfinished run, tensors and plain values only.

    Raises:
        WeightsError: when it is damaged.
    """
    state: dict[str, Any] = _load_pickled(path)
    return state
