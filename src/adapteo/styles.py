"""QGIS style files (QML): QGIS takes ``map.qml`` by itself when ``map.tif`` is opened.

Only what decides the look is written; QGIS fills in the rest. The elements are those that QGIS 2 and 3 write themselves
(`rasterrenderer` of type "paletted" and "singlebandpseudocolor").
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["classes_style", "style_file", "values_style"]
RGB = tuple[int, int, int]
_RAMP: tuple[RGB, ...] = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Viridis at 0, 1/4 ... 1 (van der Walt and Smith 2015, released into the public domain)."""
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def style_file(path: Path) -> Path:
    """Where QGIS looks for the style of a raster."""
    return path.with_suffix(".qml")


def classes_style(classes: Sequence[str], colours: Mapping[int, RGB]) -> str:
    """Style of a map of class indices: each class with its colour and name, and nothing for missing pixels."""
    root, renderer = _renderer("paletted", 1)
    entries = ElementTree.SubElement(renderer, "colorPalette")
    for i, name in enumerate(classes):
        entry = {"value": str(i), "color": _hex(colours.get(i, (128, 128, 128))), "alpha": "255", "label": name}
        ElementTree.SubElement(entries, "paletteEntry", entry)
    return _text(root)


def values_style(low: float, high: float, band: int = 1, ramp: Sequence[RGB] = _RAMP) -> str:
    """Style of a map of values: colours run from ``low`` to ``high`` and stay beyond.

    Args:
        low: value with the first colour.
        high: value with the last one.
        band: which band is shown, numbered from 1.
        ramp: colours at equal steps, at least two.
    """
    high = high if high > low else low + 1.0
    root, renderer = _renderer("singlebandpseudocolor", band)
    renderer.set("classificationMin", f"{low:.6g}")
    renderer.set("classificationMax", f"{high:.6g}")
    shader = ElementTree.SubElement(ElementTree.SubElement(renderer, "rastershader"), "colorrampshader")
    shader.attrib.update({"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0"})
    shader.attrib.update({"minimumValue": f"{low:.6g}", "maximumValue": f"{high:.6g}"})
    for i, colour in enumerate(ramp):
        value = f"{low + (high - low) * i / (len(ramp) - 1):.6g}"
        ElementTree.SubElement(
            shader, "item", {"value": value, "color": _hex(colour), "alpha": "255", "label": f"{float(value):.4g}"}
        )
    return _text(root)


def _renderer(kind: str, band: int) -> tuple[ElementTree.Element, ElementTree.Element]:
    root = ElementTree.Element("qgis", {"styleCategories": "Symbology"})
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", {"type": kind, "band": str(band), "opacity": "1", "alphaBand": "-1"}
    )
    ElementTree.SubElement(root, "blendMode").text = "0"
    return root, renderer


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return _DOCTYPE + ElementTree.tostring(root, encoding="unicode") + "\n"
