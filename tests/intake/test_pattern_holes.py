"""Holes of MultiShot patterns are the same ones whatever the order in which navigator and images are imported."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from cryoscout.intake.assemble import assemble
from cryoscout.intake.read import read_sources
from cryoscout.session.vendor_fields import packed, unpacked

ROW = ("X-1Y+0", "X+0Y+0", "X+1Y+0")
NINE = tuple(f"X{column:+d}Y{row:+d}" for row in (-1, 0, 1) for column in (-1, 0, 1))


def navigator(path, n_items, *, array=None, x_um=0.0, map_id=900_000, n_done=0):
    """Items 1, 2, ... 15 um apart; the first ones were imaged, so that SerialEM took their mark off."""
    lines = ["AdocVersion = 2.00", ""]
    for n in range(n_items):
        x = x_um + 15 * n
        lines += [
            f"[Item = {n + 1}]", "Color = 0", f"StageXYZ = {x} 0 0", "NumPts = 1", "Regis = 1", "Type = 0",
            f"Acquire = {int(n >= n_done)}", f"MapID = {map_id + n}", f"PtsX = {x}", "PtsY = 0",
            *([f"HoleArray = {array}"] if array else []), "",
        ]  # fmt: skip
    path.write_text("\n".join(lines))
    return path


class Microscope:
    """Writes images, 6 s apart, each with a number of its own."""

    def __init__(self):
        self.taken = 0

    def images(self, folder, item, shots, x_um=0.0):
        """shots : what MultishotHoleAndPosition says, "" without it"""
        folder.mkdir(exist_ok=True)
        for shot in shots:
            self.taken += 1
            at = f"05-Jan-2024  10:{self.taken // 10:02}:{self.taken % 10 * 6:02}"
            (folder / f"m_{self.taken:04}.tif.mdoc").write_text(
                f"[FrameSet = 0]\nStagePosition = {x_um + 15 * (item - 1) + 0.1} 0\n"
                f"SubFramePath = X:\\m_{self.taken:04}.tif\nDateTime = {at}\nNavigatorLabel = {item}\n"
                + (f"MultishotHoleAndPosition = {shot}\n" if shot else "")
            )
        return folder


def shots_of(holes, n_shots=1):
    return [f"{hole}-{shot}" for hole in holes for shot in range(1, n_shots + 1)]


def session_of(*imports):
    """What one import after the other gives."""
    session = None
    for paths in imports:
        session = assemble(read_sources(paths).records, session, same_source=True).session
    return session


def images_of_holes(session):
    """The images of each hole, whatever it is called."""
    images = session.exposures.groupby("hole_id")["exposure_id"].agg(tuple)
    return sorted(sorted(each) for each in images)


def chosen_to_come(session):
    holes = session.holes
    return set(holes.loc[holes["chosen"].eq(True).fillna(False), "hole_id"]) - set(
        session.exposures["hole_id"]
    )


def patches_and_grids(session):
    tables = session.holes.merge(session.patches).merge(session.squares[["square_id", "grid_id"]])
    by_item = tables.assign(item=tables["hole_id"].str.partition("@")[0]).groupby("item")
    return by_item["patch_id"].nunique().max(), tables["grid_id"].nunique()


@pytest.fixture
def in_batches(tmp_path):
    """A navigator of 6 items, and images of 3 holes with 2 shots each: of item 1 in two folders, and again."""
    microscope = Microscope()
    shots = shots_of(ROW, 2)
    first = microscope.images(tmp_path / "m1", 1, shots[:3])
    second = microscope.images(tmp_path / "m2", 1, shots[3:])
    microscope.images(second, 2, shots)
    again = microscope.images(tmp_path / "m3", 1, shots)
    return navigator(tmp_path / "g.nav", 6), first, second, again


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_batches_of_images_and_their_navigator_may_come_in_any_order(in_batches, order):
    nav, first, second, _ = in_batches
    at_once = session_of([nav, first, second])
    in_steps = session_of(*([(nav, first, second)[place]] for place in order))
    assert len(in_steps.holes) == len(at_once.holes) == 10
    assert len(in_steps.exposures) == 12
    assert in_steps.info.shots == 2
    assert images_of_holes(in_steps) == images_of_holes(at_once)
    assert chosen_to_come(in_steps) == {"3", "4", "5", "6"}
    assert patches_and_grids(in_steps) == (1, 1)


def test_an_item_that_is_imaged_again_later_gives_the_same_holes(in_batches):
    nav, first, second, again = in_batches
    before = session_of([nav], [first], [second])
    made = assemble(read_sources([again]).records, before)
    assert len(made.session.holes) == 10
    assert len(made.session.exposures) == 12
    said = "6 images are of a shot that was taken before, such as m_0013 (of m_0001)"
    assert any(note.startswith(said) for note in made.notes)


def test_images_without_a_navigator_in_two_folders_are_of_one_grid(in_batches):
    _, first, second, _ = in_batches
    session = session_of([first], [second])
    assert session.grids["grid_id"].tolist() == ["m1"]
    assert len(session.holes) == 6


def test_exposed_holes_of_a_pattern_are_not_planned_where_images_come_before_the_navigator(tmp_path):
    microscope = Microscope()
    for item, holes in ((1, NINE), (2, NINE), (3, NINE[:6])):
        microscope.images(tmp_path / "images", item, shots_of(holes))
    nav = navigator(tmp_path / "g.nav", 8, array="3 3", n_done=3)
    session = session_of([tmp_path / "images"], [nav])
    assert len(session.holes) == 72
    assert images_of_holes(session) == images_of_holes(session_of([nav, tmp_path / "images"]))
    left = set(session.holes["hole_id"]) - set(session.exposures["hole_id"])
    assert {hole for hole in left if hole[0] in "123"} == {f"3@{hole}" for hole in NINE[6:]}
    assert len(left) == 45 + 3
    assert patches_and_grids(session) == (1, 1)
    # The same again changes nothing.
    assert len(session_of([tmp_path / "images"], [nav], [nav], [tmp_path / "images"]).holes) == 72


def test_images_without_multishot_before_the_navigator_are_of_its_grid(tmp_path):
    microscope = Microscope()
    microscope.images(tmp_path / "images", 1, [""])
    microscope.images(tmp_path / "images", 2, [""])
    nav = navigator(tmp_path / "g.nav", 4, array="3 3", n_done=2)
    made = assemble(read_sources([nav]).records, session_of([tmp_path / "images"]))
    assert made.session.holes["hole_id"].tolist() == ["3", "4", "1", "2"]
    assert patches_and_grids(made.session) == (1, 1)
    assert any("its items are those of grid images" in note for note in made.notes)


def test_patterns_that_turn_out_to_be_imaged_otherwise_are_not_to_come(tmp_path):
    microscope = Microscope()
    single = microscope.images(tmp_path / "single", 1, [""])
    other = microscope.images(tmp_path / "other", 1, shots_of(["X+3Y+0", "X-1Y-1"]))
    nav = navigator(tmp_path / "g.nav", 3, array="3 3")
    made = assemble(read_sources([single]).records, session_of([nav]))
    assert chosen_to_come(made.session) == {"2", "3"}
    assert any("24 holes of patterns (HoleArray) are not to come" in note for note in made.notes)
    # One image without MultiShot was a test only.
    nine = microscope.images(tmp_path / "nine", 2, shots_of(NINE))
    again = assemble(read_sources([nine]).records, made.session).session
    assert {hole.partition("@")[0] for hole in chosen_to_come(again)} == {"3"}
    assert len(chosen_to_come(again)) == 9
    session = session_of([nav], [other])
    assert images_of_holes(session) == [["m_0002"], ["m_0003"]]
    assert set(session.exposures["hole_id"]) == {"1", "1@X-1Y-1"}
    assert {hole.partition("@")[0] for hole in chosen_to_come(session)} == {"2", "3"}
    assert len(chosen_to_come(session)) == 18


def test_a_navigator_of_another_grid_has_no_part_in_images_that_some_of_its_items_stand_near(tmp_path):
    """Of the second grid, item 1 stands where the first one's was imaged, the others elsewhere."""
    microscope = Microscope()
    for item in (1, 2, 3):
        microscope.images(tmp_path / "images", item, [""])
    moved = navigator(tmp_path / "b.nav", 1)
    text = navigator(tmp_path / "far.nav", 3, x_um=500).read_text()
    moved.write_text(moved.read_text() + "\n" + text.partition("\n\n")[2].partition("\n\n")[2])
    session = session_of([tmp_path / "images"], [moved])
    assert session.grids["grid_id"].tolist() == ["b", "images"]
    assert chosen_to_come(session) == {"b/1", "b/2", "b/3"}


def test_a_session_that_does_not_say_which_hole_has_the_items_name_mixes_no_shots(in_batches):
    """As stored before the field was kept: the images again say it, others get holes of their own."""
    nav, first, second, _ = in_batches
    now = session_of([nav, first])
    fields = {
        record: {name: text for name, text in said.items() if name != "MultishotHoleAndPosition"}
        for (_, record), said in unpacked(now.vendor_fields).items()
    }
    before = replace(now, vendor_fields=packed(fields, "", "serialem"))
    alone = assemble(read_sources([second]).records, before)
    assert len(alone.session.exposures) == 12
    assert any(
        "the session does not say at which hole of the pattern (first: 1)" in note for note in alone.notes
    )
    together = assemble(read_sources([first, second]).records, before).session
    assert images_of_holes(together) == images_of_holes(session_of([nav, first, second]))
