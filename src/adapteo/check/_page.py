"""The report as one HTML file that needs nothing else: findings, maps, histograms, balance of the classes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from adapteo.check._charts import bars, histograms
from adapteo.check._findings import LEVELS, Checked
from adapteo.check._maps import css, maps
from adapteo.check._view import View
from adapteo.errors import DataError
from adapteo.figures import colours_of
from adapteo.files import replacing

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATE = Path(__file__).parent / "page.html"
_Items = TypeVar("_Items")


def write_page(view: View, checked: Checked, path: Path) -> None:
    """Write the page; what cannot be drawn because it cannot be read is left out, the findings say why.

    Args:
        view: that the checks looked at.
        checked: what they said.
        path: HTML file.

    Raises:
        DataError: the file cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    classes = _readable(lambda: view.classes)
    colours = [css(colour) for colour in colours_of(classes, view.dataset.colours)] if classes else []
    text = template.render(
        checked=checked,
        levels=LEVELS,
        classes=list(zip(classes, colours, strict=True)),
        maps=_readable(lambda: maps(view)),
        histograms=_readable(lambda: histograms(view)),
        bars=_readable(lambda: bars(view)),
        pretraining=view.pretraining,
        scenes=len(_readable(lambda: view.scenes)) if view.survey else 0,
    )
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _code(text: str) -> "Markup":
    """Text whose parts between backticks are code."""
    from markupsafe import Markup, escape

    parts = enumerate(text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in parts)


def _readable(make: Callable[[], tuple[_Items, ...]]) -> tuple[_Items, ...]:
    try:
        return make()
    except DataError:  # a finding says so
        return ()
