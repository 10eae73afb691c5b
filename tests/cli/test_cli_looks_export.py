"""Squares to open in the files of the microscopes' programs, in the work list, and on the page."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import pytest

from cryoscout.formats.epu.athena import read_decisions
from cryoscout.formats.leginon.order import LeginonOrder, read_order, write_order
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.smartscope.selection import read_selection
from cryoscout.session.named import load_session

DATA = Path(__file__).parents[1] / "formats" / "data"
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
TIMES = "--budget-min 120 --time-model y1-looks-as-sketched"


@pytest.fixture
def atlas(once, tmp_path):
    """The atlas of a real EPU session alone."""
    (tmp_path / "Atlas.dm").write_bytes(gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes()))
    once("import Atlas.dm -o run.session")


def looks_of(cli):
    told = json.loads(cli(f"plan run.session {TIMES} --json").out)
    return [look for look in told["looks"] if look["in_plan"]], told["looks"]


def test_the_decisions_open_the_planned_squares_and_no_other(cli, tmp_path, atlas):
    in_plan, _ = looks_of(cli)
    answer = cli(f"plan run.session {TIMES} --export athena-json -o out.json --athena-session {UUID}")
    assert answer.code == 0
    assert "not tested on an EPU" in answer.out + answer.err
    (record,) = read_decisions(tmp_path / "out.json")
    assert (record.decision_type, record.square_id) == ("gridSquareSelection", 19493178)
    opened = [str(each.hole_id) for each in record.holes if each.result == "true"]
    assert opened == [look["square"] for look in in_plan]
    assert len(record.holes) == 272


def test_pieces_of_squares_come_after_whole_ones(cli, tmp_path, atlas):
    """On the real atlas a tenth of all squares are cut ones of a quarter of the usual area and specks."""
    _, looks = looks_of(cli)
    squares = load_session(str(tmp_path / "run.session")).squares.set_index("square_id")["area_um2"]
    assert (squares < squares.median() / 4).mean() > 0.08
    first = squares.loc[[look["square"] for look in looks[:20]]]
    assert first.min() > squares.median()


def test_the_list_has_looks_as_steps(cli, tmp_path, atlas):
    in_plan, looks = looks_of(cli)
    assert cli(f"plan run.session {TIMES} --export csv -o out.csv").code == 0
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["square"] for row in rows] == [look["square"] for look in looks]
    assert [row["step"] for row in rows].count("look") == len(in_plan)
    assert {row["hole"] for row in rows} == {""}
    assert float(rows[0]["x_um"]) == pytest.approx(looks[0]["x_um"])
    assert cli(f"plan run.session {TIMES} --export html -o out.html").code == 0
    page = (tmp_path / "out.html").read_text()
    assert "none is planned: the squares to open stand below" in page
    assert "of which 0.0 min" not in page
    assert "Good micrographs expected" not in page
    assert f"1. Look at square {in_plan[0]['square']} of grid 19493178 at" in page
    assert page.count("<rect") == 272  # every square at its place
    assert page.count('fill="#0072b2"') >= len(in_plan)
    sides = re.findall(r'width="([\d.]+)" height="[\d.]+" fill="#(?:0072b2|9ecae1)"', page)
    assert len(sides) == len(looks)
    assert min(map(float, sides)) >= 12  # small squares show their number too
    # Lines of looks are long, and wrap.
    assert '<li class="later">' in page
    assert 'class="p"' not in page


def test_the_report_of_an_atlas_draws_it_with_names(cli, tmp_path, atlas):
    in_plan, _ = looks_of(cli)
    answer = cli(f"report run.session {TIMES} -o page.html")
    assert answer.code == 0
    page = (tmp_path / "page.html").read_text()
    assert f"no hole is seen yet; open square {in_plan[0]['square']} first" in page
    assert "Squares to open next" in page
    assert page.count("<rect") == 272
    assert len(re.findall(rf">{in_plan[0]['square']}</text>", page)) == 1


def test_without_looks_there_is_nothing_to_plan_and_it_is_said(cli, atlas):
    answer = cli(f"plan run.session {TIMES} --looks free")
    assert answer.code == 2
    assert "--looks free must go with a session of which holes are seen" in answer.err
    assert cli(f"plan run.session {TIMES} --looks paid").code == 2


def test_the_navigator_marks_squares_in_their_order(cli, tmp_path):
    made = (DATA / "serialem" / "made_by_hand_two_squares.nav").read_text()
    head = made[: made.index("[Item = 2]")]
    polygons = "".join(
        f"[Item = S{n}]\nColor = 1\nStageXYZ = {100 * n} 50 -38\nNumPts = 4\nRegis = 1\nType = 1\nDrawnID = 100001\n"
        f"MapID = {200000 + n}\nPtsX = {100 * n - a} {100 * n + a} {100 * n + a} {100 * n - a}\n"
        f"PtsY = {50 - a} {50 - a} {50 + a} {50 + a}\nAcquire = 1\n\n"
        for n, a in ((1, 20), (2, 35), (3, 10))
    )
    point = "[Item = P]\nColor = 0\nStageXYZ = -90 0 -38\nNumPts = 1\nRegis = 1\nType = 0\nDrawnID = 100001\n"
    point += "MapID = 200900\nPtsX = -90\nPtsY = 0\n"
    (tmp_path / "grid1.nav").write_text(head + polygons + point)
    answer = cli("import grid1.nav -o run.session")
    assert answer.code == 0
    assert "3 polygons without a map inside are squares that were not opened yet" in answer.out
    assert "1 points drawn on a whole-grid map are squares that were not opened yet" in answer.out
    in_plan, looks = looks_of(cli)
    assert len(looks) == 4
    answer = cli(f"plan run.session {TIMES} --export nav --nav grid1.nav -o out.nav")
    assert answer.code == 0
    assert "marked for Acquire at Items, in order" in answer.out + answer.err
    marked = [item for item in read_nav(tmp_path / "out.nav").items if item.acquire]
    assert [item.label for item in marked] == [look["square"] for look in in_plan]
    assert float(marked[0].section.get("UserValue1")) == pytest.approx(in_plan[0]["rate"], abs=1e-4)
    assert len(read_nav(tmp_path / "out.nav").items) == len(read_nav(tmp_path / "grid1.nav").items)


def test_smartscope_selects_squares(cli, tmp_path):
    text = "name: grid1\nparams_id: {}\natlas:\n- name: a\n  pixel_size: 640.0\n  targets:\n"
    for n in (1, 2, 3):
        text += f"  - name: grid1_square{n}\n    status: null\n    area: {4000.0 * n}\n    targets: []\n"
    (tmp_path / "grid1.yaml").write_text(text)
    assert cli("import grid1.yaml -o run.session").code == 0
    in_plan, _ = looks_of(cli)
    assert cli(f"plan run.session {TIMES} --export smartscope -o out.json").code == 0
    assert read_selection(tmp_path / "out.json", "squares") == [[look["square"] for look in in_plan]]


def test_leginons_order_keeps_places_to_look_at(tmp_path):
    order = LeginonOrder(
        ("21mar02c_grid1_00008gr_00011sq_00002hl_00005en",), {}, ("21mar02c_grid1_00008gr_00012sq",)
    )
    write_order(tmp_path / "order.txt", order)
    assert "look 21mar02c_grid1_00008gr_00012sq\n" in (tmp_path / "order.txt").read_text()
    assert read_order(tmp_path / "order.txt") == order
