"""MultiShot patterns that a navigator tells: their holes before and after they are imaged, planned as a whole."""

from __future__ import annotations

import pytest

from cryoscout.advice.advise import advise
from cryoscout.advice.export import ExportRequest, write_export
from cryoscout.advice.setting import AdviceRequest
from cryoscout.core.errors import FileFormatError
from cryoscout.formats.own.scores import SaidPlace, ScoreTable
from cryoscout.formats.serialem import nav
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.serialem.patterns import holes_of_pattern, item_of_hole
from cryoscout.formats.serialem.session import read_source
from cryoscout.intake.assemble import assemble
from cryoscout.intake.predictions import p_good_of

ROW_BY_ROW = [f"X{column:+d}Y{row:+d}" for row in (-1, 0, 1) for column in (-1, 0, 1)]


def item(number, array="3 3", skip=None, acquire=1):
    x_um = 18 * number
    lines = [
        f"[Item = {number}]", "Color = 0", f"StageXYZ = {x_um} 0 0", "NumPts = 1", "Regis = 1", "Type = 0",
        f"Acquire = {acquire}", f"MapID = {100 + number}", f"PtsX = {x_um}", "PtsY = 0",
        *([f"HoleArray = {array}"] if array else []), *([f"SkipHoles = {skip}"] if skip else []), "",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def navigator(tmp_path, *items):
    path = tmp_path / "a.nav"
    path.write_text("AdocVersion = 2.00\nLastSavedAs = a.nav\n\n" + "".join(items))
    return path


def images(tmp_path, number, shots, minute):
    """The shots of a pattern 6 s apart."""
    parts = [
        f"[FrameSet = {n}]\nStagePosition = {18 * number} 0\nSubFramePath = X:\\m_{number}_{n}.tif\n"
        f"DateTime = 05-Jan-2024  10:{minute + n * 6 // 60:02}:{n * 6 % 60:02}\nNavigatorLabel = {number}\n"
        + (f"MultishotHoleAndPosition = {shot}\n" if shot else "")
        for n, shot in enumerate(shots)
    ]
    path = tmp_path / f"m_{number}.mdoc"
    path.write_text("T = SerialEM: K3\n\n" + "\n".join(parts))
    return path


@pytest.mark.parametrize(
    ("array", "skipped", "holes"),
    [
        ((3, 3), (), ("X+0Y+0", *(name for name in ROW_BY_ROW if name != "X+0Y+0"))),
        ((3, 3), {(0, 0), (2, 2)}, ("X+0Y+0", "X+0Y-1", "X+1Y-1", "X-1Y+0", "X+1Y+0", "X-1Y+1", "X+0Y+1")),
        ((3, 1), {(1, 0)}, ("X-1Y+0", "X+1Y+0")),
        ((2, 2), (), ("X+1Y+1", "X-1Y-1", "X+1Y-1", "X-1Y+1")),
        ((4, 1), (), ("X-2Y+0", "X-1Y+0", "X+1Y+0", "X+2Y+0")),
        ((-3, -3), (), ("X+0Y-1", "X-1Y+0", "X+0Y+0", "X+1Y+0", "X+0Y+1")),
        ((1, -1), {(1, 0)}, ("R0H1", "R1H2", "R1H3", "R1H4", "R1H5", "R1H6")),
        ((1, 1), {(0, 0)}, ()),
        ((100, 100), (), ("X+0Y+0",)),
    ],
)
def test_the_holes_of_a_pattern_are_named_as_their_images(array, skipped, holes):
    assert holes_of_pattern(array, skipped) == holes


@pytest.mark.parametrize("with_navigator", [False, True])
def test_shots_that_name_no_item_are_of_one_hole_where_stage_and_pattern_are_one(tmp_path, with_navigator):
    if with_navigator:
        navigator(tmp_path, item(9))
    shots = [
        (x_um, f"X{column:+d}Y0-{shot}") for x_um in (400, 460) for column in (-1, 1) for shot in (1, 2, 3)
    ]
    for n, (x_um, hole) in enumerate([*shots, (520, ""), (520, "")]):
        pattern = f"MultishotHoleAndPosition = {hole}\n" if hole else ""
        (tmp_path / f"b_{n:02}.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = {x_um + 0.02 * (n % 3)} 2\nSubFramePath = X:\\b_{n:02}.tif\n"
            f"DateTime = 05-Jan-2024  12:00:{n:02}\n{pattern}"
        )
    source = read_source(tmp_path)
    assert source.exposures.set_index("exposure_id")["hole_id"].sort_index().tolist() == [
        *["b_00"] * 3, *["b_03"] * 3, *["b_06"] * 3, *["b_09"] * 3, "", "",
    ]  # fmt: skip
    assert (
        sum("4 holes have several shots of MultiShot that name no item" in note for note in source.notes) == 1
    )
    holes = assemble([source]).session.holes
    # Images beside a navigator that name no item and no pattern are of no hole.
    alone = [] if with_navigator else ["b_12", "b_13"]
    assert sorted(holes["hole_id"][~holes["hole_id"].str.startswith("9")]) == [
        "b_00",
        "b_03",
        "b_06",
        "b_09",
        *alone,
    ]


def test_a_hexagonal_pattern_has_a_middle_and_its_rings():
    holes = holes_of_pattern((2, -1), ())
    assert (len(holes), holes[-1]) == (19, "R2H12")


def test_a_further_hole_is_of_its_item_where_there_is_one():
    holes = {"5", "6@plan", "g/7"}
    names = ("5@X+1Y-1", "g/7@R1H2", "6@plan", "8@X+0Y+0", "5@X+1")
    assert [item_of_hole(name, holes) for name in names] == ["5", "g/7", "6@plan", "8@X+0Y+0", "5@X+1"]


def test_the_holes_of_a_pattern_to_come_stand_at_their_item_and_are_chosen_with_it(tmp_path):
    source = read_source(navigator(tmp_path, item(1, skip="0 0"), item(2, acquire=0), item(3, array=None)))
    holes = source.holes
    assert len(holes) == 8 + 9 + 1
    first = holes[holes["hole_id"].str.startswith("1")]
    assert set(first["hole_id"]) == {
        "1",
        *(f"1@{name}" for name in ROW_BY_ROW if name not in ("X-1Y-1", "X+0Y+0")),
    }
    assert first["patch_id"].nunique() == 1
    assert set(first["x_um"]) == {18.0}
    assert holes["chosen"].tolist() == [True] * 8 + [False] * 9 + [True]
    assert any(
        note.startswith(
            "2 items to come are of several holes (HoleArray), 17 in all: one of them has the item's name"
        )
        for note in source.notes
    )


def test_an_item_that_skips_its_whole_pattern_is_not_chosen(tmp_path):
    source = read_source(navigator(tmp_path, item(1, array="1 1", skip="0 0")))
    assert source.holes["chosen"].tolist() == [False]
    assert "1 item skips all holes of the pattern: SerialEM passes them over" in source.notes


def test_a_pattern_that_is_imaged_later_gives_no_hole_twice_whatever_its_order(tmp_path):
    nav = navigator(tmp_path, item(1), item(2))
    before = assemble([read_source(nav)]).session
    assert before.n_holes == 18
    images(tmp_path, 1, [f"{name}-0" for name in ROW_BY_ROW], 0)
    images(tmp_path, 2, [f"{name}-0" for name in ROW_BY_ROW[:4]], 2)
    after = assemble([read_source(tmp_path)], before).session
    assert set(after.holes["hole_id"]) == set(before.holes["hole_id"])
    imaged = set(after.exposures["hole_id"])
    assert len(imaged) == 13
    assert {"1", "1@X-1Y-1", "2@X-1Y-1"} <= imaged
    assert "2" not in imaged


def test_a_pattern_whose_item_was_moved_keeps_its_holes(tmp_path):
    first = read_source(navigator(tmp_path, item(1)))
    moved = item(1).replace("StageXYZ = 18 ", "StageXYZ = 21 ").replace("PtsX = 18", "PtsX = 21")
    again = tmp_path / "again"
    again.mkdir()
    both = assemble([first, read_source(navigator(again, moved))]).session
    assert set(both.holes["hole_id"]) == set(first.holes["hole_id"])


def test_what_is_predicted_of_an_item_is_predicted_of_its_pattern(tmp_path):
    session = assemble([read_source(navigator(tmp_path, item(1), item(2, array=None)))]).session
    said = (SaidPlace(), SaidPlace())
    table = ScoreTable(tmp_path / "p.csv", "p_good", ("1", "2"), True, (0.9, 0.1), said, (2, 3), (), ())
    p_good, _, notes = p_good_of(session, table)
    assert p_good.tolist() == [0.9] * 9 + [0.1]
    assert notes == ()


def test_items_that_were_imaged_without_multishot_are_single_holes(tmp_path):
    navigator(tmp_path, item(1), item(2))
    images(tmp_path, 1, [""], 0)
    source = read_source(tmp_path)
    assert source.holes["hole_id"].tolist() == ["1", "2"]
    assert any(note.endswith("without MultiShot: each is one hole") for note in source.notes)


def test_a_pattern_that_was_imaged_otherwise_is_as_its_images_say(tmp_path):
    navigator(tmp_path, item(1), item(2))
    images(tmp_path, 1, ["X-1Y-1-0", "X+3Y+0-0"], 0)
    images(tmp_path, 2, ["X-1Y-1-0"], 2)
    source = read_source(tmp_path)
    holes = source.holes["hole_id"]
    assert holes[holes.str.startswith("1")].tolist() == ["1", "1@X+3Y+0"]
    assert holes.str.startswith("2").sum() == 9
    assert any(note.startswith("1 item was imaged otherwise than the pattern says") for note in source.notes)


def test_a_plan_takes_patterns_as_a_whole_within_the_minutes_and_marks_each_item_once(tmp_path):
    """46 s to an item and 6 s to each further hole: 94 s an item, six in ten minutes."""
    nav = navigator(tmp_path, *(item(number, acquire=int(number > 3)) for number in range(1, 16)))
    for number in (1, 2, 3):
        images(tmp_path, number, [f"{name}-0" for name in ROW_BY_ROW], 2 * number)
    session = assemble([read_source(tmp_path)]).session
    request = AdviceRequest(budget_min=10.0, time_model=f"0.1,{46 / 60},2,4")
    work_list = advise(session, request).work_list
    planned = [visit.hole for visit in work_list.visits]
    assert len(planned) == 54
    assert len({hole.partition("@")[0] for hole in planned}) == 6
    assert work_list.minutes_used == pytest.approx(6 * 94 / 60)
    # A budget that a part of one more pattern would fit into.
    longer = advise(session, AdviceRequest(budget_min=10.5, time_model=request.time_model)).work_list
    assert len(longer.visits) == 54
    out = tmp_path / "out.nav"
    write_export(ExportRequest("nav", out, nav=nav), session, work_list, print)
    marked = [each.id for each in read_nav(out).holes if each.acquire]
    assert marked == list(dict.fromkeys(hole.partition("@")[0] for hole in planned))


def test_a_file_whose_patterns_fill_any_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nav, "MOST_HOLES_OF_PATTERNS", 17)
    path = navigator(tmp_path, item(1), item(2))
    with pytest.raises(
        FileFormatError, match=r"patterns of a navigator must have at most 17 holes\. Got more"
    ):
        read_source(path)


def test_patterns_that_no_file_tells_beforehand_are_said_at_import_and_in_the_plan(tmp_path):
    navigator(tmp_path, *(item(n, array="1 1" if n == 5 else None, acquire=int(n > 2)) for n in range(1, 7)))
    for number in (1, 2):
        images(tmp_path, number, [f"{name}-{shot}" for name in ROW_BY_ROW for shot in (1, 2)], 2 * number)
    made = assemble([read_source(tmp_path)])
    said = (
        "2 items were imaged as patterns of up to 9 holes (MultiShot) that no item of the navigator tells (HoleArray): "
        "3 items to come are planned as one hole each"
    )
    assert sum(note.startswith(said) for note in made.notes) == 1
    work_list = advise(made.session, AdviceRequest(budget_min=30.0)).work_list
    assert sum(note.startswith(said) for note in work_list.notes) == 1


def test_patterns_that_the_navigator_tells_need_no_such_note(tmp_path):
    navigator(tmp_path, item(1, acquire=0), item(2))
    images(tmp_path, 1, [f"{name}-0" for name in ROW_BY_ROW], 2)
    made = assemble([read_source(tmp_path)])
    assert not any("that no item of the navigator tells" in note for note in made.notes)
