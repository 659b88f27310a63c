"""The page: one file that needs nothing else, with everything that the terminal says."""

import re
from html.parser import HTMLParser

import madesurvey as made
import numpy as np
import pytest

from adapteo.check import View, read_source, run, write_page
from adapteo.check._charts import bars, histograms
from adapteo.check._maps import maps
from adapteo.errors import DataError


class Page(HTMLParser):
    """Tags that are open, all addresses and ids, and the text."""

    empty = {"meta", "br", "image", "rect", "line", "path", "circle", "input", "link", "img", "hr"}  # noqa: RUF012

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.addresses, self.ids, self.tags, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("href", "src", "xlink:href")]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in self.empty:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.empty:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page(path, out):
    view = View(read_source(path))
    checked = run(view)
    write_page(view, checked, out)
    return Page(out.read_text(encoding="utf-8")), checked


def flat(text):
    return re.sub(r"\s+", " ", text)


def test_it_holds_every_finding_and_loads_nothing(tmp_path):
    found, checked = page(made.healthy(tmp_path, scale=None), tmp_path / "report.html")
    assert found.open == []
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in found.addresses)
    assert {address[1:] for address in found.addresses if address.startswith("#")} <= set(found.ids)
    assert "script" not in found.tags
    assert "http" not in (tmp_path / "report.html").read_text().replace("http-equiv", "")
    said = flat(found.text)
    for finding in checked.findings:
        for text in (finding.problem, finding.effect, finding.change, *finding.details):
            assert flat(text.replace("`", "")) in said.replace("`", ""), text


def test_names_cannot_break_it(tmp_path):
    made.scene(tmp_path / "scenes/a<b>&.tif", made.ground())
    shapes, classes = made.grid()
    made.labels(tmp_path / "labels.gpkg", shapes, ["<script>alert(1)</script>" if c == "a" else "b&c" for c in classes])
    found, _ = page(made.config(tmp_path), tmp_path / "report.html")
    assert "script" not in found.tags
    assert "<script>alert(1)</script>" in found.text
    assert found.open == []


def test_what_cannot_be_drawn_is_left_out(tmp_path):
    path = made.healthy(tmp_path)
    (tmp_path / "labels.gpkg").unlink()
    found, checked = page(path, tmp_path / "report.html")
    assert checked.failed
    assert "maps" not in found.ids
    assert "bands" in found.ids


def test_an_unwritable_place_is_said(tmp_path):
    path = made.healthy(tmp_path)
    (tmp_path / "file").touch()
    view = View(read_source(path))
    with pytest.raises(DataError, match="cannot write"):
        write_page(view, run(view), tmp_path / "file/report.html")


def test_labels_and_windows_are_drawn_in_their_place(tmp_path):
    made.scene(tmp_path / "scenes/a.tif", made.ground())
    made.labels(tmp_path / "labels.gpkg", [made.box(4, 8, 6, 10), made.box(80, 100)], ["a", "b"])
    view = View(read_source(made.config(tmp_path, splits={"by": "random"})))
    (drawn,) = maps(view)
    assert (drawn.width, drawn.height) == (160, 128)
    shape = next(shape for shape in drawn.shapes if shape.name == "a")
    xy = np.array(re.findall(r"([\d.]+) ([\d.]+)", shape.path), float)
    assert (xy.min(axis=0).tolist(), xy.max(axis=0).tolist()) == ([8, 4], [18, 10])
    boxes = {
        tuple(map(int, box)) for path in drawn.boxes.values() for box in re.findall(r"M(\d+) (\d+)H(\d+)V(\d+)", path)
    }
    windows = {(w.col, w.row, w.col + 16, w.row + 16) for w in view.plan.windows.values()}
    assert boxes == windows


def test_histograms_show_the_data_beside_the_pretraining(tmp_path):
    view = View(read_source(made.healthy(tmp_path)))
    values = made.ground().astype(float) / 1e4
    for found, band in zip(histograms(view), values, strict=True):
        assert found.mean == pytest.approx(band.mean(), rel=1e-3)
        assert found.known is not None
        mean, deviation = found.known
        assert found.low <= max(0, mean - deviation) + 1e-6
        assert found.high >= mean + deviation
        assert found.at == pytest.approx((mean - found.low) / (found.high - found.low) * found.width, abs=0.1)


def test_bars_are_the_labels_of_the_splits(tmp_path):
    view = View(read_source(made.healthy(tmp_path)))
    for bar in bars(view):
        targets = [view.dataset.read(key).target for key in view.dataset.split(bar.part)]
        counts = [sum(int((target == code).sum()) for target in targets) for code in (0, 1)]
        assert bar.pixels == sum(counts)
        assert [part for _, _, part in bar.shares] == pytest.approx([100 * n / sum(counts) for n in counts])
