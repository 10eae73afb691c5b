"""The page is one file, safe to open, and readable without its pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.report import figures
from cryoscout.report.figures import Curve, curves_figure, png_bytes, route_figure, svg_text
from cryoscout.report.map_scene import MapScene, RouteOnMap
from cryoscout.report.page import ReportPage, ReportSection, ReportTable, report_html
from cryoscout.routing.problem import NOWHERE
from cryoscout.testing import random_problem


@pytest.fixture
def curve() -> Curve:
    minutes = np.arange(0.0, 250.0, 10.0)
    return Curve("greedy@res50", minutes, minutes / 4, minutes / 5, minutes / 3)


@given(st.lists(st.floats(0, 100), max_size=9), st.floats(0.5, 20))
def test_labels_at_line_ends_keep_their_order_and_distance(values, least):
    ends = [(value, f"policy {place}", "#000000") for place, value in enumerate(values)]
    spread = figures._spread(ends, least)
    positions = [y for y, _, _ in spread]
    assert [label for _, label, _ in spread] == [label for _, label, _ in sorted(ends)]
    assert all(gap >= least - 1e-6 for gap in np.diff(positions))
    assert np.mean(positions) == pytest.approx(np.mean(values), abs=1e-6) if values else not positions
    far = [float(100 * place) for place in range(len(values))]
    assert [y for y, _, _ in figures._spread([(y, "", "") for y in far], least)] == pytest.approx(far)


def page(*sections: ReportSection) -> ReportPage:
    return ReportPage(
        "Session <b>", "Lead & more.", sections, [("Budget", "480 min")], "cryoscout report 'a b'"
    )


def test_text_is_escaped_and_figures_are_not(curve):
    svg = svg_text(curves_figure([curve], "good"), 'Good < time & "more"', "one")
    html = report_html(page(ReportSection("A", ["<script>alert(1)</script>"], svg=svg)))
    assert "<script>" not in html
    assert "Session &lt;b&gt;" in html
    assert "<svg" in html
    assert "Good &lt; time &amp;" in html


def test_a_page_loads_nothing_from_elsewhere(curve):
    svg = svg_text(curves_figure([curve], "good"), "Good", "one")
    html = report_html(page(ReportSection("A", svg=svg)))
    assert not re.search(r"<(script|link|img|iframe)\b", html)
    assert set(re.findall(r'https?://[^"\s]+', html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "@import" not in html.replace("@import url", "@import")


def test_figures_carry_a_title_for_screen_readers_and_ids_of_their_own(curve):
    one, two = (svg_text(curves_figure([curve], "good"), "Good", prefix) for prefix in ("one", "two"))
    assert 'role="img" aria-labelledby="one-title"' in one
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, two)]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]+)"', one)) | set(re.findall(r"url\(#([^)]+)\)", one)) <= ids[0]


def test_the_same_figure_is_the_same_text_and_the_same_picture(curve):
    assert svg_text(curves_figure([curve], "good"), "Good", "a") == svg_text(
        curves_figure([curve], "good"), "Good", "a"
    )
    assert png_bytes(curves_figure([curve], "good")) == png_bytes(curves_figure([curve], "good"))


def test_a_table_has_headers_for_rows_and_columns_and_stresses_one_row():
    table = ReportTable("Good", ["policy", "good"], [["a", "1"], ["b", "2"]], strong_row=1)
    html = report_html(page(ReportSection("A", table=table)))
    assert '<th scope="col">policy</th>' in html
    assert '<tr class="strong"><th scope="row">b</th><td>2</td></tr>' in html


@pytest.mark.parametrize("start", [NOWHERE, 0])
@pytest.mark.parametrize("known", [True, False])
def test_a_route_can_be_drawn_from_anywhere_with_and_without_outcomes(start, known):
    problem = random_problem(np.random.default_rng(4), 20)
    route = np.arange(1, 9)
    good = np.arange(8) % 2 == 0 if known else None
    text = svg_text(route_figure(MapScene(problem, RouteOnMap(route, start, good))), "Route", "r")
    assert text.startswith("<svg")


def test_an_empty_route_can_be_drawn():
    problem = random_problem(np.random.default_rng(4), 5)
    drawn = RouteOnMap(np.zeros(0, np.int64), NOWHERE, None, imaged=np.ones(5, dtype=bool))
    assert svg_text(route_figure(MapScene(problem, drawn)), "Route", "r").startswith("<svg")
