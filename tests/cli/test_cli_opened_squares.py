"""Sessions whose squares are opened one after the other: what is stored, advised next and exported."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from cryoscout.formats.epu.athena import read_decisions
from cryoscout.session.named import load_session
from cryoscout.session.store import SessionStore

DATA = Path(__file__).parents[1] / "formats" / "data"
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
HEAD = (DATA / "serialem" / "made_by_hand_two_squares.nav").read_text().partition("[Item = 2]")[0]
TIMES = "--budget-min 120 --time-model y1-looks-as-sketched"


def polygon(number: int, half_um: float = 30) -> str:
    x = 100 * number
    corners = f"PtsX = {x - half_um} {x + half_um} {x + half_um} {x - half_um}\n"
    corners += f"PtsY = {50 - half_um} {50 - half_um} {50 + half_um} {50 + half_um}\n"
    return (
        f"[Item = S{number}]\nColor = 1\nStageXYZ = {x} 50 -38\nNumPts = 4\nRegis = 1\nType = 1\nDrawnID = 100001\n"
        f"MapID = {200000 + number}\n{corners}\n"
    )


def square_map(label: str, number: int, x: float, y: float) -> str:
    corners = f"PtsX = {x - 40} {x + 40} {x + 40} {x - 40}\nPtsY = {y - 40} {y - 40} {y + 40} {y + 40}\n"
    return (
        f"[Item = {label}]\nColor = 2\nStageXYZ = {x} {y} -38\nNumPts = 4\nRegis = 1\nType = 2\nMapFile = m.mrc\n"
        f"MapID = {number}\nMapMontage = 0\nMapSection = 0\nMapBinning = 1\nMapMagInd = 17\nMapCamera = 0\n"
        f"MapScaleMat = 0 50 50 0\nMapWidthHeight = 4096 4096\n"
        f"{corners}\n"
    )


def point(label: str, number: int, x: float, y: float, drawn: int = 100001) -> str:
    return (
        f"[Item = {label}]\nColor = 0\nStageXYZ = {x} {y} -38\nNumPts = 1\nRegis = 1\nType = 0\nDrawnID = {drawn}\n"
        f"MapID = {number}\nAcquire = 1\nPtsX = {x}\nPtsY = {y}\n\n"
    )


SQUARES = "".join(polygon(number) for number in (1, 2, 3)) + point("P", 200900, -90, 0)
HOLES = "".join(point(str(100 + n), 300000 + n, 180 + 8 * n, 45, 400001) for n in range(4))
OPENED = square_map("9-A", 400001, 201, 49) + HOLES
THEN_P = square_map("10-A", 400002, -91, 1) + point("200", 300100, -95, 5, 400002)


def moved(text: str, by_um: float) -> str:
    """Items of another grid, elsewhere in x."""
    text = re.sub(r"(StageXYZ = )(\S+)", lambda found: f"{found[1]}{float(found[2]) + by_um}", text)
    text = re.sub(
        r"PtsX = (.*)",
        lambda found: "PtsX = " + " ".join(f"{float(x) + by_um}" for x in found[1].split()),
        text,
    )
    return text.replace("MapID = 200", "MapID = 210")


def looks(cli, session="run.session", more=""):
    answer = cli(f"plan {session} {TIMES} {more} --json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["looks"]


def test_a_square_that_serialem_opened_is_not_advised_again_and_keeps_its_name(cli, tmp_path):
    nav = tmp_path / "grid1.nav"
    nav.write_text(HEAD + SQUARES)
    assert cli("import grid1.nav -o run.session").code == 0
    assert {look["square"] for look in looks(cli)} == {"S1", "S2", "S3", "P"}
    nav.write_text(HEAD + SQUARES + OPENED)
    answer = cli("import grid1.nav -o run.session --update")
    assert answer.code == 0, answer.err
    assert "squares that were opened since keep the names that they had: S2 (map 9-A)" in answer.out
    nav.write_text(HEAD + SQUARES + OPENED + THEN_P)
    assert cli("import grid1.nav -o run.session --update").code == 0
    session = load_session("run.session")
    assert session.squares["square_id"].tolist() == ["P", "S1", "S2", "S3"]
    assert {look["square"] for look in looks(cli)} == {"S1", "S3"}
    of_patch = dict(zip(session.patches["patch_id"], session.patches["square_id"], strict=True))
    squares = [of_patch[patch] for patch in session.holes["patch_id"]]
    assert sorted(squares) == ["P", "S2", "S2", "S2", "S2"]
    opened = session.squares.set_index("square_id").loc[["P", "S2"]]
    assert opened["looked"].tolist() == [True, True]
    assert opened["x_um"].tolist() == [-90, 200]  # where they stood for the plan
    # Once more, nothing is new, and as one import the same squares are left to open.
    assert "nothing new" in cli("import grid1.nav -o run.session --update").out
    assert cli("import grid1.nav -o once.session").code == 0
    assert {look["square"] for look in looks(cli, "once.session")} == {"S1", "S3"}


def test_holes_that_wait_for_a_look_are_counted_with_the_way_to_plan_them_now(cli, tmp_path):
    apart = "".join(point(str(10 + n), 1_000_001 + n, 190 + 15 * n, 50, 400001) for n in range(3))
    (tmp_path / "grid1.nav").write_text(HEAD + polygon(1) + square_map("9-A", 400001, 201, 49) + apart)
    assert cli("import grid1.nav -o run.session").code == 0
    answer = cli("plan run.session --budget-min 240")
    assert answer.code == 0, answer.err
    note = "3 holes are seen and not in this list, because a look gives more now"
    assert note in " ".join(answer.out.split())
    now = cli("plan run.session --budget-min 240 --looks free --json")
    assert sorted(visit["hole"] for visit in json.loads(now.out)["holes"]) == ["10", "11", "12"]
    assert note not in now.out


@pytest.mark.slow
def test_of_two_grids_with_the_same_labels_the_right_square_was_opened(cli, tmp_path):
    (tmp_path / "a.nav").write_text(HEAD + SQUARES)
    (tmp_path / "b.nav").write_text(HEAD + moved(SQUARES, 500.0))
    assert cli("import a.nav b.nav -o run.session").code == 0
    text = (tmp_path / "b.nav").read_text()
    (tmp_path / "b.nav").write_text(
        text + square_map("9-A", 400001, 701, 49) + point("7", 300001, 690, 45, 400001)
    )
    answer = cli("import b.nav -o run.session --update")
    assert answer.code == 0, answer.err
    assert "b/S2 (map 9-A)" in answer.out
    assert {look["square"] for look in looks(cli, more="--loaded b")} == {
        "S1", "S2", "S3", "P", "b/S1", "b/S3", "b/P",
    }  # fmt: skip


@pytest.mark.slow
def test_a_plan_of_days_opens_more_squares_than_are_printed(cli, tmp_path):
    (tmp_path / "Atlas.dm").write_bytes(gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes()))
    assert cli("import Atlas.dm -o run.session").code == 0
    days = "plan run.session --budget-min 4320 --time-model 0.5,1,2,8,0.5,2"
    told = json.loads(cli(f"{days} --json").out)["looks"]
    in_plan = [look for look in told if look["in_plan"]]
    assert len(in_plan) > 40
    assert sum(look["minutes"] for look in in_plan) >= 4320
    assert sum(look["minutes"] for look in in_plan[:-1]) < 4320
    assert cli(f"{days} --export athena-json -o out.json --athena-session {UUID}").code == 0
    (record,) = read_decisions(tmp_path / "out.json")
    assert [str(each.hole_id) for each in record.holes if each.result == "true"] == [
        look["square"] for look in in_plan
    ]


def test_squares_that_smartscope_gave_up_are_not_opened_and_all_that_is_not_open_is_named(cli, tmp_path):
    text = "name: grid1\nparams_id: {}\natlas:\n- name: a\n  pixel_size: 640.0\n  targets:\n"
    for status in ("null", "error", "skipped", "queued", "started"):
        text += f"  - name: square_{status}\n    status: {status}\n    area: 9000.0\n    targets: []\n"
    (tmp_path / "grid1.yaml").write_text(text)
    answer = cli("import grid1.yaml -o run.session")
    assert answer.code == 0, answer.err
    assert "2 squares have the status error or skipped (first: square_error)" in answer.out
    assert (
        "2 squares are queued or started in SmartScope and not imaged yet (first: square_queued)"
        in answer.out
    )
    assert {look["square"] for look in looks(cli)} == {"square_null", "square_queued", "square_started"}
    notes = json.loads(cli(f"plan run.session {TIMES} --json").out)["notes"]
    assert any(
        "Squares do not differ in what is known of their size and brightness" in note for note in notes
    )
    assert not any("Nothing says how large" in note for note in notes)


OWN = """grid,square,hole,stage_x_um,stage_y_um,started_at,exposure,ctf_max_res_angstrom
g,S1,a,0,0,2024-01-05 10:30,e1,3.5
g,S1,b,2,0,2024-01-05 10:35,e2,3.6
g,S1,c,40,0,,,
g,S3,d,300,0,,,
g,S3,e,302,0,,,
"""


def test_a_plan_starts_where_the_last_look_left_the_stage(cli, tmp_path):
    (tmp_path / "holes.csv").write_text(OWN)
    (tmp_path / "squares.csv").write_text(
        "grid,square,looked,looked_at\ng,S1,yes,2024-01-05 10:00\ng,S3,yes,{at}\n"
    )
    squares = (tmp_path / "squares.csv").read_text()
    plan = "plan run.session --budget-min 3.2 --time-model 0.5,1,2,8 --json"
    for at, first, minutes in (("2024-01-05 12:00", "d", 1.0), ("2024-01-05 10:10", "c", 1.0)):
        (tmp_path / "squares.csv").write_text(squares.format(at=at))
        assert cli("import holes.csv squares.csv -o run.session --force").code == 0
        told = json.loads(cli(plan).out)
        assert (told["holes"][0]["hole"], told["holes"][0]["minutes"]) == (first, minutes)
        assert (
            "The plan starts at square S3, which was looked at after the last exposure." in told["notes"]
        ) == (first == "d")
    (tmp_path / "squares.csv").write_text(squares.format(at="2024-01-05 12:00"))
    assert cli("import holes.csv squares.csv -o run.session --force").code == 0
    assert json.loads(cli(f"{plan} --from b").out)["holes"][0]["hole"] == "c"


def test_a_report_of_holes_that_are_worth_less_than_a_look_says_so(cli, tmp_path):
    nav = tmp_path / "grid1.nav"
    nav.write_text(HEAD + SQUARES + OPENED)
    assert cli("import grid1.nav -o run.session").code == 0
    (tmp_path / "p.csv").write_text("hole,p\n" + "".join(f"{100 + n},0.01\n" for n in range(4)))
    assert cli("import p.csv -o run.session --update --column p_good=p --model-id low").code == 0
    assert cli(f"report run.session {TIMES} --policies explore@low -o page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "no hole is worth its minutes before a look; open square" in page
    assert "no hole is seen yet" not in page


def test_the_log_names_the_square_to_look_at(cli, tmp_path):
    (tmp_path / "grid1.nav").write_text(HEAD + SQUARES)
    assert cli("import grid1.nav -o run.session").code == 0
    assert cli(f"plan run.session {TIMES}").code == 0
    (first, *_) = looks(cli)
    with SessionStore.open(tmp_path / "run.session"):
        pass
    assert f"next look at square {first['square']}" in cli("log run.session").out


def test_squares_of_another_grid_than_the_navigators_are_named(cli, tmp_path):
    (tmp_path / "a.nav").write_text(HEAD + SQUARES)
    (tmp_path / "b.nav").write_text(HEAD + moved(SQUARES, 500.0))
    assert cli("import a.nav b.nav -o run.session").code == 0
    (tmp_path / "other.nav").write_text(HEAD + SQUARES)
    plan = "plan run.session --budget-min 2000 --time-model y1-looks-as-sketched --loaded a --export nav"
    answer = cli(f"{plan} --nav other.nav -o x.nav")
    assert answer.code == 2
    assert "must be the navigator of one grid of the session, named as it was imported (a, b)" in answer.err
    answer = cli(f"{plan} --nav a.nav -o x.nav")
    assert answer.code == 0, answer.err
    assert re.search(
        r"\d squares to open are of other grids \(b\): export them again", answer.out + answer.err
    )


@pytest.mark.parametrize("hidden", [pytest.param(False, marks=pytest.mark.slow), True])
def test_looks_below_which_nothing_was_imaged_took_their_time(cli, tmp_path, hidden):
    """Square after square is looked at, and of every second one nothing is imaged."""
    ctf, times = ["name,dx,dy,ctf,confidence"], ["name,time"]
    at_s = 0
    for square in range(30):
        name = f"21mar02c_g_00001gr_{square:05}sq"
        times.append(f"{name},2021-03-02 {10 + at_s // 3600:02}:{at_s // 60 % 60:02}:{at_s % 60:02}")
        at_s += 120
        if square % 6 < 5:
            continue
        for hole in range(3):
            times.append(
                f"{name}_00001hl_{hole:05}en,2021-03-02 {10 + at_s // 3600:02}:{at_s // 60 % 60:02}:{at_s % 60:02}"
            )
            ctf.append(f"{name}_00001hl_{hole:05}en,0,0,3.5,1")
            at_s += 60
    (tmp_path / "ctf.csv").write_text("\n".join(ctf) + "\n")
    kept = [line for line in times if not hidden or "en" in line or line.split(",")[0] + "_" in "".join(ctf)]
    (tmp_path / "timestamps.csv").write_text("\n".join(kept) + "\n")
    assert cli("import ctf.csv timestamps.csv -o run.session").code == 0
    answer = cli("replay run.session --looks charged --budget-min 60 --policies look-first --starts 1")
    assert answer.code == 0, answer.err
    said = answer.out + answer.err
    assert ("120 s at a square (25 steps)" in said) == (not hidden), said
