"""A route written as a navigator: order of visit, marks, groups, and nothing else."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.serialem.nav_writer import PlannedHole, PlannedSquare, write_nav, write_nav_of_squares
from cryoscout.formats.serialem.places import places_of

DATA = Path(__file__).parents[1] / "data" / "serialem"
MADE = DATA / "made_by_hand_two_squares.nav"
TOUCHED = ("Acquire", "GroupID", "UserValue1")

ROUTE = [
    PlannedHole("24", "b", 0.9),
    PlannedHole("22", "b", 0.81234567),
    PlannedHole("45#100046", "c", 0.5),
    PlannedHole("31", "c", 0.0),
    PlannedHole("8", "a", 1.0),
]


NOTED = "UserValue2 = chosen, left out of the plan"


def untouched(section):
    return [
        line
        for line in section.raw
        if line.strip() and line.partition(" = ")[0] not in TOUCHED and line.rstrip() != NOTED
    ]


def written(tmp_path, source=MADE, route=ROUTE):
    nav = read_nav(source)
    notes = write_nav(nav, route, tmp_path / "plan.nav")
    return nav, read_nav(tmp_path / "plan.nav"), notes


def test_chosen_holes_stand_in_order_of_visit_below_the_maps_and_above_the_others(tmp_path):
    before, after, _ = written(tmp_path)
    chosen = [hole.hole_id for hole in ROUTE]
    labels = [item.id for item in after.items]
    assert labels[:6] == ["1-A", "2", "3-A", "4-A", "5-V", "6"]
    assert labels[6:11] == chosen
    assert labels[11:] == [hole.id for hole in before.holes if hole.id not in chosen]


def test_only_chosen_holes_are_marked(tmp_path):
    _, after, notes = written(tmp_path)
    assert [item.id for item in after.items if item.acquire] == [hole.hole_id for hole in ROUTE]
    said = "9 items were marked for acquisition and not in the route: the marks are taken off, and UserValue2 keeps"
    assert any(note.startswith(said) for note in notes)


def test_p_good_is_the_user_value_and_registrations_stay(tmp_path):
    before, after, _ = written(tmp_path)
    assert [after.by_id[hole.hole_id].section.get("UserValue1") for hole in ROUTE] == [
        "0.9000", "0.8123", "0.5000", "0.0000", "1.0000",
    ]  # fmt: skip
    assert {item.id: item.regis for item in after.items} == {item.id: item.regis for item in before.items}


def test_each_patch_has_one_group_and_keeps_the_one_it_has(tmp_path):
    _, after, _ = written(tmp_path)
    group = {hole.hole_id: after.by_id[hole.hole_id].group_id for hole in ROUTE}
    assert group == {"24": 200004, "22": 200004, "45#100046": 50000, "31": 50000, "8": 200001}


def test_a_group_that_two_patches_share_becomes_two(tmp_path):
    route = [PlannedHole("7", "a", 0.5), PlannedHole("8", "b", 0.5)]
    _, after, _ = written(tmp_path, route=route)
    assert [after.by_id[name].group_id for name in "78"] == [50000, 50001]


def test_made_groups_have_no_id_of_the_file(tmp_path):
    source = tmp_path / "a.nav"
    source.write_text(MADE.read_bytes().decode().replace("MapID = 100006", "MapID = 50000"), newline="")
    _, after, _ = written(tmp_path, source, [PlannedHole("31", "c", 0.5)])
    assert after.by_id["31"].group_id == 50001


def test_everything_else_is_kept_byte_for_byte(tmp_path):
    before, after, _ = written(tmp_path)
    assert after.document.globals == before.document.globals
    later = {
        (section.kind, section.get("MapID"), section.name): section for section in after.document.sections
    }
    assert len(later) == len(before.document.sections) == len(after.document.sections)
    for section in before.document.sections:
        assert untouched(later[section.kind, section.get("MapID"), section.name]) == untouched(section)
    for item in before.maps:
        assert later["Item", str(item.map_id), item.label].raw == item.section.raw
    assert [section.kind for section in after.document.sections[-2:]] == ["FileOptions", "StateParam"]
    data = (tmp_path / "plan.nav").read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n")


def test_holes_that_are_not_chosen_keep_their_lines_but_the_mark(tmp_path):
    before, after, _ = written(tmp_path)
    for hole in before.holes:
        if hole.id not in {planned.hole_id for planned in ROUTE}:
            lines = after.by_id[hole.id].section.raw
            assert [line for line in hole.section.raw if not line.startswith("Acquire")] == [
                line for line in lines if line and line.rstrip() != NOTED
            ][: len(hole.section.raw) - hole.acquire]
            noted = NOTED in [line.rstrip() for line in lines]
            assert noted == (hole.acquire and hole.section.get("UserValue2") is None)


def test_a_file_that_ends_without_a_line_end_can_be_put_in_another_order(tmp_path):
    source = tmp_path / "a.nav"
    source.write_bytes((DATA / "semmatch_newNav.nav").read_bytes().rstrip())
    route = [PlannedHole("9011", "a", 0.5), PlannedHole("9000", "a", 0.25)]
    _, after, _ = written(tmp_path, source, route)
    assert [item.id for item in after.items][:3] == ["9011", "9000", "9001"]
    assert after.by_id["9011"].coords_in == ("CoordsInMap", (2897.0, 1120.0, 31.9355))


def test_sections_that_are_put_together_stay_apart(tmp_path):
    source = tmp_path / "a.nav"
    text = (DATA / "semmatch_newNav.nav").read_text().rstrip()
    source.write_text(text.replace("[Item = 9000]", "[FileOptions = 0]\nMode = 1\n[Item = 9000]"))
    _, after, _ = written(tmp_path, source, [PlannedHole("9003", "a", 0.5)])
    assert after.document.of_kind("FileOptions")[0].get("Mode") == "1"
    written_text = (tmp_path / "plan.nav").read_text()
    assert written_text.count("\n\n[") == written_text.count("[") == 13


@given(st.permutations([hole.id for hole in read_nav(MADE).holes]), st.integers(1, 40), st.data())
def test_any_route_is_read_back_and_written_again_without_change(tmp_path_factory, holes, length, data):
    folder = tmp_path_factory.mktemp("nav")
    patches = data.draw(st.lists(st.sampled_from("abc"), min_size=length, max_size=length))
    route = [PlannedHole(name, patch, 0.25) for name, patch in zip(holes, patches, strict=False)]
    nav = read_nav(MADE)
    write_nav(nav, route, folder / "1.nav")
    first = read_nav(folder / "1.nav")
    assert [item.id for item in first.items if item.acquire] == [hole.hole_id for hole in route]
    groups = {}
    for hole in route:
        groups.setdefault(hole.patch_id, set()).add(first.by_id[hole.hole_id].group_id)
    assert all(len(ids) == 1 for ids in groups.values())
    assert len(set.union(*groups.values())) == len(groups)
    write_nav(first, route, folder / "2.nav")
    assert (folder / "2.nav").read_bytes() == (folder / "1.nav").read_bytes()


def test_the_operators_file_is_never_overwritten(tmp_path):
    path = tmp_path / "grid1.nav"
    shutil.copy(MADE, path)
    with pytest.raises(InputError) as error:
        write_nav(read_nav(path), ROUTE, path)
    assert str(error.value) == (
        f"The navigator must be written to a new file. Got {path}, which exists, instead. "
        "Remedy: name another file; the operator's own is never overwritten."
    )
    assert path.read_bytes() == MADE.read_bytes()
    with pytest.raises(InputError, match="must be written to a file"):
        write_nav(read_nav(path), ROUTE, tmp_path / "no" / "folder.nav")


@pytest.mark.parametrize(
    ("route", "error", "message"),
    [
        ([], InputError, r"A route must have at least one hole\. Got none instead\."),
        (
            [PlannedHole("7", "a", 0.5)] * 2,
            InputError,
            r"A route must visit a hole once\. Got '7' again instead\.",
        ),
        (
            [PlannedHole("7", "a", 1.5)],
            InputError,
            r"p_good must be between 0 and 1\. Got 1\.5 for '7' instead\.",
        ),
        ([PlannedHole("7", "a", float("nan"))], InputError, r"p_good must be between 0 and 1\. Got nan"),
        (
            [PlannedHole("45", "a", 0.5)],
            InputError,
            r"Got '45' instead\. Did you mean 45#100045 or 45#100046\?",
        ),
        (
            [PlannedHole("3-A", "a", 0.5)],
            InputError,
            r"A route must name holes of made_by_hand.*Got '3-A' instead\..* "
            r"Remedy: give the navigator that the session was imported from\.",
        ),
    ],
)
def test_a_route_that_cannot_be_visited_is_refused_and_nothing_is_written(tmp_path, route, error, message):
    with pytest.raises(error, match=message):
        write_nav(read_nav(MADE), route, tmp_path / "plan.nav")
    assert not (tmp_path / "plan.nav").exists()


def test_a_section_without_a_readable_header_is_never_put_below_another_item(tmp_path):
    source = tmp_path / "a.nav"
    source.write_bytes(MADE.read_bytes().replace(b"[Item = 9]", b"[Item = 9"))
    nav = read_nav(source, permissive=True)
    with pytest.raises(
        InputError, match=r"The headers of a\.nav must be readable .* Got '\[Item = 9' on line \d+"
    ):
        write_nav(nav, ROUTE, tmp_path / "plan.nav")


def test_a_truncated_xml_navigator_is_not_written_without_the_items_that_are_missing(tmp_path):
    source = tmp_path / "a.xml"
    pairs = "<Color>0</Color><StageXYZ>1 2 3</StageXYZ><NumPts>1</NumPts><Regis>1</Regis><Type>0</Type>"
    item = f'<Item name="1">{pairs}<PtsX>1</PtsX><PtsY>2</PtsY></Item>'
    head = "<?xml version='1.0'?><navigator><PreData><AdocVersion>2.00</AdocVersion></PreData>"
    source.write_text(f'{head}{item}<Item name="2"><Color>')
    nav = read_nav(source, permissive=True)
    with pytest.raises(
        InputError, match=r"must be read without deviations before it is written\. Got 1 instead"
    ):
        write_nav(nav, [PlannedHole("1", "a", 0.5)], tmp_path / "plan.nav")
    assert not (tmp_path / "plan.nav").exists()


def test_items_that_cannot_be_read_are_kept_and_unmarked(tmp_path):
    source = tmp_path / "a.nav"
    source.write_bytes(MADE.read_bytes().replace(b"[Item = 12]\r\nColor = 0", b"[Item = 12]\r\nColor = blue"))
    nav = read_nav(source, permissive=True)
    notes = write_nav(nav, ROUTE, tmp_path / "plan.nav")
    data = (tmp_path / "plan.nav").read_bytes()
    assert b"Color = blue\r\n" in data
    assert data.count(b"Acquire = 1") == len(ROUTE)
    assert "1 place of the navigator could not be read, written as found." in notes


def test_the_operator_is_told_how_to_load_it_and_what_may_surprise(tmp_path):
    source = tmp_path / "a.nav"
    text = MADE.read_bytes().decode()
    start = text.index("[Item = 24]")
    changed = text[start:].replace("Regis = 1", "Regis = 2\r\nUserValue1 = mine", 1)
    source.write_text(text[:start] + changed, newline="")
    _, _, notes = written(tmp_path, source)
    assert notes[0] == (
        "Load plan.nav in SerialEM with Navigator > Read & Open. Do not merge it: a merge skips items that are in the "
        "table already, so marks and order would not change."
    )
    assert notes[1].startswith("4 chosen holes are not at registration 2, the highest of the file")
    assert notes[3].startswith("UserValue2 of 1 of them holds another value, which stays")
    assert notes[4] == "UserValue1 of 1 chosen holes held another value and now holds p_good."


def test_an_xml_navigator_is_written_in_the_autodoc_form(tmp_path):
    source = tmp_path / "a.xml"
    lines = ["<?xml version='1.0'?>", "<navigator><PreData><AdocVersion>2.00</AdocVersion></PreData>"]
    for section in read_nav(MADE).document.of_kind("Item"):
        pairs = "".join(f"<{entry.key}>{entry.value}</{entry.key}>" for entry in section.entries)
        lines.append(f'<Item name="{section.name}">{pairs}</Item>')
    source.write_text("\n".join([*lines, "</navigator>"]))
    _, after, notes = written(tmp_path, source)
    assert [item.id for item in after.items if item.acquire] == [hole.hole_id for hole in ROUTE]
    assert after.by_id["7"].section.get("FutureKey") == "kept = 1"
    assert "The navigator was XML and is written in the autodoc form." in notes


def with_points(tmp_path, n):
    """The navigator with n points on its grid map."""
    points = "".join(
        f"[Item = p{i}]\nColor = 0\nStageXYZ = {-900 + i % 100 * 9} {-900 + i // 100 * 6} 0\nNumPts = 1\nRegis = 1\n"
        f"Type = 0\nDrawnID = 100001\nMapID = {200_000 + i}\nPtsX = 0\nPtsY = 0\n\n"
        for i in range(n)
    )
    path = tmp_path / "grid.nav"
    path.write_text(MADE.read_text().rstrip() + "\n\n" + points)
    return read_nav(path)


def test_squares_stand_in_their_order_below_the_maps_each_once(tmp_path):
    nav = with_points(tmp_path, 3)
    squares = [PlannedSquare("p2", 0.5), PlannedSquare("p0", 0.25)]
    write_nav_of_squares(nav, squares, tmp_path / "plan.nav")
    items = read_nav(tmp_path / "plan.nav").items
    assert [item.id for item in items[:7]] == ["1-A", "3-A", "4-A", "5-V", "p2", "p0", "2"]
    assert [item.section.get("UserValue1") for item in items if item.acquire] == ["0.5000", "0.2500"]
    assert {item.id for item in items} == {item.id for item in nav.items}
    with pytest.raises(InputError, match=r"A square must be opened once\. Got 'p2' again instead"):
        write_nav_of_squares(nav, [squares[0], squares[0]], tmp_path / "twice.nav")


@pytest.mark.slow
def test_many_squares_are_gone_through_once(tmp_path):
    nav = with_points(tmp_path, 20_000)
    began = time.process_time()
    squares = [PlannedSquare(item.id, 0.5) for item in places_of(nav, 5.0).unopened]
    # Generous: 400 million comparisons take nine seconds.
    assert time.process_time() - began < 3
    assert len(squares) > 19_000
    began = time.process_time()
    write_nav_of_squares(nav, squares, tmp_path / "plan.nav")
    assert time.process_time() - began < 8


def test_an_empty_mark_is_none(tmp_path):
    source = tmp_path / "a.nav"
    text = MADE.read_bytes().replace(b"\r\n", b"\n").decode()
    first, rest = text.rsplit("Acquire = 1\n", 1)
    source.write_text(first + "Acquire = \n" + rest)
    nav = read_nav(source)
    empty = next(item for item in nav.holes if item.section.get("Acquire") == "")
    chosen = next(item for item in nav.holes if item.acquire)
    write_nav(nav, [PlannedHole(chosen.id, "p", 0.5)], tmp_path / "b.nav")
    written = read_nav(tmp_path / "b.nav")
    assert written.by_id[empty.id].section.get("UserValue2") is None
    left_out = [
        item for item in written.holes if item.section.get("UserValue2") == "chosen, left out of the plan"
    ]
    assert len(left_out) == sum(item.acquire for item in nav.holes) - 1
