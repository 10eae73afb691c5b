"""The list in a terminal: at every width the names of the holes stand whole, and what is left out is said."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from cryoscout.advice.advise import advise
from cryoscout.advice.setting import AdviceRequest
from cryoscout.advice.work_list import name_within
from cryoscout.cli.plan_table import print_plan
from cryoscout.session.builtin import load_builtin


@pytest.fixture(scope="module")
def work_list():
    return advise(load_builtin("y1", split="val"), AdviceRequest(120.0, "greedy")).work_list


def printed(work_list, width: int) -> str:
    text = io.StringIO()
    print_plan(work_list, Console(file=text, width=width, markup=False, highlight=False, emoji=False))
    return text.getvalue()


def holes_column(text: str) -> list[str]:
    """Every name of the column `holes`, line after line."""
    lines = text.split("Left out")[0].split("Holes planned")[0].splitlines()
    heading = next(line for line in lines if " holes " in line)
    begin = heading.index(" holes ") + 1
    end = heading.index(" p", begin)
    cells = [line[begin : end - 2].strip(" ,") for line in lines[lines.index(heading) + 2 :]]
    return [name for cell in cells if cell for name in cell.split(", ")]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_every_hole_is_named_whole_and_in_order_of_visit_at_every_width(work_list, width):
    text = printed(work_list, width)
    assert len(work_list.visits) > 40
    assert holes_column(text) == [name_within(visit.hole, visit.patch) for visit in work_list.visits]
    assert max(map(len, text.split("Left out")[0].split("Holes planned")[0].splitlines())) <= width


@pytest.mark.parametrize("wide", ["hole", "patch"])
def test_no_name_is_cut_where_one_is_wider_than_others(work_list, wide):
    visits = list(work_list.visits[:12])
    if wide == "hole":
        visits[1] = replace(visits[1], hole=visits[1].patch + "H" * 30)
    else:
        visits = [
            replace(visit, patch=visit.square + "P" * 39, hole=f"{visit.square}{'P' * 39}{number}_en")
            for number, visit in enumerate(visits)
        ]
    listed = replace(work_list, visits=tuple(visits))
    names = [name_within(visit.hole, visit.patch) for visit in visits]
    for width in range(52, 125):
        text = printed(listed, width)
        assert holes_column(text) == names, width
        assert wide == "hole" or " patch " not in text or "P" * 39 in text


def test_switch_and_why_go_first(work_list):
    wide, narrow = printed(work_list, 160), printed(work_list, 80)
    assert "new grid +18.0 min" in wide
    assert "first hole" in wide
    assert "Left out in" not in wide
    assert "Left out in 80 columns: grid, min, switch, why; --export html or csv has all." in narrow
    assert "square" in narrow
    assert "new grid" not in narrow.split("Holes planned")[0]


def test_few_holes_are_named_in_order_of_visit(work_list):
    stay = work_list.stays()[2]
    assert len(stay.visits) == 3
    assert ", ".join(name_within(visit.hole, visit.patch) for visit in stay.visits) in printed(work_list, 80)


def test_squares_to_open_are_whole_names_in_80_columns_and_no_empty_list_stands_above(cli, monkeypatch):
    from cryoscout.advice.work_list import PlannedLook
    from cryoscout.cli.plan_looks import _GIVEN_UP, _cells
    from cryoscout.cli.plan_table import columns_that_fit

    listed = SimpleNamespace(
        looks=[
            PlannedLook(
                n, f"8999{n:03}", "9015529", None, 1.0, 2.0, 21.2, (0.0, 119.0), 22.0, 0.98, (0.0, 1.7), n < 3
            )
            for n in range(1, 9)
        ]
    )
    cells = _cells(listed)
    for width in (60, 80, 100, 160):
        kept = columns_that_fit(cells, width, _GIVEN_UP)
        assert "square" in kept
        assert sum(max(map(len, (each, *cells[each]))) + 2 for each in kept) <= width
    assert columns_that_fit(cells, 160, _GIVEN_UP) == list(cells)
