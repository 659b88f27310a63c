"""What is searched, as it is written: ``method.rank=4,8,16``, ``train.rate=1e-5..1e-2``, ``decoder=linear,unet``.

a,b,c     one of these
a..b      a number from a to b, on a logarithmic scale when a is above 0; a whole one when both are
"""

from collections.abc import Sequence

from adapteo import _yaml
from adapteo.errors import ConfigError
from adapteo.search_space import Choice, Range, Space
from adapteo.trials import HIGHEST, LOWEST

RATE = "train.rate"
SECTIONS = ("method", "decoder", "backbone", "train")
"""Of the configuration, where a search may change something; in others scores would not be comparable."""
_FIXED = ("seed", "order_seed", "select", "devices", "accelerator", "workers", "tensorboard", "cache_features")


def parse(texts: Sequence[str]) -> Space:
    """Read a space; without a learning rate in it, that is searched from 1e-5 to 1e-2.

    Raises:
        ConfigError: names the text and what is allowed.
    """
    space = {}
    for text in texts:
        key, part = _part(text)
        if key in space:
            raise ConfigError(f"search '{text}': {key} is searched already", fix="keep one of them")
        space[key] = part
    inner = next((key for key in space if key.startswith("decoder.")), None)
    if "decoder" in space and inner:
        raise ConfigError(
            f"search '{inner}' belongs to one decoder, and several are searched",
            fix=f"search {inner} for one decoder at a time",
        )
    return space if RATE in space else {**space, RATE: Range(LOWEST, HIGHEST)}


def is_search(text: str) -> bool:
    """Whether a ``key=value`` gives several values, so that it is something to search and no override."""
    key, _, written = text.partition("=")
    if key.strip().partition(".")[0] not in SECTIONS:
        return False
    low, dots, high = written.partition("..")
    return len(_items(written)) > 1 or bool(dots and _number(low) is not None and _number(high) is not None)


def searches(texts: Sequence[str]) -> dict[str, str]:
    """What of ``key=value`` texts is to be searched, by key; a learning rate that is given is one value of a search.

    Raises:
        ConfigError: a key twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, _, written = (part.strip() for part in text.partition("="))
        if not is_search(text) and key != RATE:
            continue
        if key in found:
            raise ConfigError(f"search '{text}': {key} is searched already", fix="keep one of them")
        found[key] = written
    return found


def _part(text: str) -> tuple[str, Range | Choice]:
    key, equals, written = (part.strip() for part in text.partition("="))
    if not (equals and key and written):
        raise ConfigError(f"search '{text}' is not key=values", fix="write it like method.rank=4,8,16 or a=1e-5..1e-2")
    section, _, name = key.partition(".")
    if key == "method":
        raise ConfigError(f"search '{text}': each method is searched on its own", fix="name them with --methods")
    whole = not name and section != "decoder"
    if section not in SECTIONS or whole or (section == "train" and name in _FIXED):
        allowed = ["method.…", "decoder", "decoder.…", "backbone.…", "train.…"]
        raise ConfigError(f"search '{text}': {key} decides what is compared, and is not searched", allowed=allowed)
    if ".." in written:
        return key, _range(text, written)
    items = _items(written)
    options = tuple(_yaml.value(item, f"search '{text}'") for item in items)
    if "" in items or any(options.index(option) != place for place, option in enumerate(options)):
        raise ConfigError(f"search '{text}' has an empty value, or one twice", fix="write each once: a,b,c")
    return key, Choice(options)


def _range(text: str, written: str) -> Range:
    low, _, high = written.partition("..")
    first, last = _number(low), _number(high)
    if first is None or last is None or not first < last:
        raise ConfigError(f"search '{text}' is no range", allowed=["low..high, two numbers, e.g. 1e-5..1e-2 or 4..64"])
    return Range(first, last, whole=isinstance(first, int) and isinstance(last, int))


def _number(text: str) -> int | float | None:
    try:
        value = _yaml.value(text, "search")
    except ConfigError:
        return None
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return value if known else None  # type: ignore[return-value]


def _items(written: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    items, depth, quote = [""], 0, ""
    for sign in written:
        if quote or sign in "'\"":
            quote = "" if sign == quote else quote or sign
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and not depth and not quote:
            items.append("")
        else:
            items[-1] += sign
    return [item.strip() for item in items]
