"""Panels: text stays text, labels keep apart, nothing is drawn that was not measured."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from safetyvalve.report import RunRecord
from safetyvalve.report.figures import figures
from safetyvalve.report.plots import Line, _apart, draw, style_of
from safetyvalve.report.text import Text


def _svg(*lines: Line) -> str:
    return draw(lines, key="k", x_label="step", description='a "quoted" <thing>')


def _parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))


@pytest.mark.filterwarnings("error")
def test_text_is_text_whatever_the_name() -> None:
    svg = _svg(Line("日本語 $\\frac$", [0, 1], [0.0, 1.0], "#0072b2"), Line("<i>&", [0, 1], [1.0, 0.0], "#c04a00"))
    texts = ["".join(node.itertext()) for node in _parse(svg).iter("text")]
    assert {"日本語 $\\frac$", "<i>&", "step"} <= set(texts)


def test_it_scales_and_is_named() -> None:
    root = _parse(_svg(Line("a", [0, 1], [0.0, 1.0], "#000")))
    assert root.get("width") is None
    assert root.get("viewBox")
    assert root.get("aria-label") == 'a "quoted" <thing>'
    assert all(node.get("id", "k-").startswith("k-") for node in root.iter())


def test_one_point_and_constant_lines_are_drawn() -> None:
    assert "<path" in _svg(Line("a", [3], [1.0], "#000"), Line("b", [0, 1], [2.0, 2.0], "#111"))


def test_labels_keep_apart_in_order_and_inside() -> None:
    placed = _apart([10.0, 11.0, 10.5, 99.0, 100.0], gap=5.0, top=100.0)
    ordered = [placed[i] for i in (0, 2, 1, 3, 4)]
    assert all(after - before >= 5.0 - 1e-9 for before, after in pairwise(ordered))
    assert max(placed) <= 100.0


def test_runs_beyond_the_palette_differ_in_marker() -> None:
    styles = [style_of(i) for i in range(14)]
    assert len(set(styles)) == 14


def test_panels_of_two_runs(runs: dict[str, RunRecord]) -> None:
    blocks = {b.key: b for b in figures([runs["over"], runs["good"]], Text("en"))}
    assert {key: len(b.panels) for key, b in blocks.items()} == {
        "displacement": 4, "against_kl": 2, "losses": 4, "ranking": 2, "answers": 3,
    }  # fmt: skip
    assert all(panel.svg for block in blocks.values() for panel in block.panels)
    limits = [re.findall(r">(−?[\d.]+)</text>", p.svg) for p in blocks["displacement"].panels[:2]]
    assert limits[0] == limits[1]
    labels = blocks["against_kl"].panels[0].svg
    assert ">over</text>" in labels
    assert ">good</text>" in labels


def test_interval_bars_are_those_of_the_prompts(runs: dict[str, RunRecord]) -> None:
    """48 answers of 24 prompts at 5 evaluations: 5 bars a run."""
    panel = next(b for b in figures([runs["over"]], Text("en")) if b.key == "against_kl").panels[0]
    bars = re.search(r'id="score-LineCollection_1">(.*?)</g>\s', panel.svg, re.DOTALL)
    assert bars is not None
    assert bars[1].count("<path") == 5
