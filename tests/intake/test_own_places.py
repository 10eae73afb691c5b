"""Own tables of which numbers begin anew: in whatever order they come, every result is that of its own hole.

Positions (um) say which hole is which: no two of a session are alike.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import DataError
from cryoscout.formats.own.table import read_source
from cryoscout.intake.assemble import assemble
from cryoscout.intake.holes_by_name import MOST_PARTS, HolesByName, may_be, names_of
from examples import share


def written(folder: Path, name: str, text: str):
    path = folder / name
    path.write_text(text)
    return read_source(path)


def steps(folder: Path, *tables: str, names: str = "abcdefgh"):
    """The session after the tables came one after the other."""
    session = None
    for name, text in zip(names, tables, strict=False):
        session = assemble([written(folder, f"{name}.csv", text)], session).session
    return session


def results(session) -> dict[str, float]:
    """Hole -> result, of those that have one."""
    rows = session.exposures[session.exposures["outcome"] == "measured"]
    assert rows["hole_id"].is_unique
    return dict(zip(rows["hole_id"], rows["ctf_max_res_angstrom"], strict=True))


SQUARES = "square,hole,x_um,y_um\nS1,1,0,0\nS1,2,2,0\nS2,1,100,0\nS2,2,102,0\n"
GRIDS = "grid,square,hole,x_um,y_um\nA,S1,h1,0,0\nA,S1,h2,2,0\nB,S1,h1,0,0\nB,S1,h2,2,0\nC,S1,h1,0,0\n"


def test_squares_and_holes_numbered_anew_in_each_grid_have_their_own_results(tmp_path):
    table = "grid,square,hole,x_um,y_um,ctf\nG1,1,1,0,0,3\nG1,2,1,100,0,4\nG2,1,1,0,0,5\nG2,2,1,100,0,9\n"
    session = steps(tmp_path, table)
    assert results(session) == {"1": 3.0, "2/1": 4.0, "G2/1/1": 5.0, "G2/2/1": 9.0}
    assert session.ctf_runs["run"].tolist() == [1] * 4


@pytest.mark.parametrize(
    ("holes", "later", "expected"),
    [
        (GRIDS, "grid,square,hole,ctf\nB,S1,h1,8\nB,S1,h2,9\n", {"B/S1/h1": 8, "B/S1/h2": 9}),
        (
            GRIDS,
            "GRID,SQUARE,HOLE,CTF\nC,S1,h1,7\nB,S1,h1,8\nA,S1,h1,3\n",
            {"C/S1/h1": 7, "B/S1/h1": 8, "h1": 3},
        ),
        (GRIDS, "grid,hole,ctf\nC,h1,7\nB,h2,9\n", {"C/S1/h1": 7, "B/S1/h2": 9}),
        (GRIDS, "hole,ctf\nB/S1/h1,8\nh2,4\n", {"B/S1/h1": 8, "h2": 4}),
        (GRIDS, "grid,square,hole,ctf\nB,B/S1,B/S1/h1,8\nA,S1,h1,3\n", {"B/S1/h1": 8, "h1": 3}),
        (SQUARES, "square,hole,ctf\nS2,1,8\n", {"S2/1": 8}),
        (SQUARES, "square,hole,ctf\nS2,1,8\nS2,2,9\nS1,1,3\n", {"S2/1": 8, "S2/2": 9, "1": 3}),
        (SQUARES, "hole,ctf\nS2/1,8\n1,3\nS2/2,9\n2,4\n", {"S2/1": 8, "1": 3, "S2/2": 9, "2": 4}),
        (SQUARES, "hole,x_um,y_um,ctf\n1,100,0,8\n2,2,0,4\n", {"S2/1": 8, "2": 4}),
        # A new hole of a known square, whose number another square has.
        (SQUARES + "S1,3,4,0\n", "square,hole,ctf\nS2,3,7\n", {"S2/3": 7}),
        # Numbers anew in each patch, too.
        (
            "square,patch,hole\nS,1,1\nS,2,1\nT,1,1\nT,2,1\n",
            "square,patch,hole,ctf\nT,2,1,9\nS,2,1,6\nT,1,1,7\nS,1,1,5\n",
            {"1": 5, "S/1": 6, "T/1": 7, "T/2/1": 9},
        ),
        # No grid and no square was named before.
        ("hole,x_um,y_um\n1,0,0\n2,9,0\n", "grid,square,hole,ctf\nG,S,2,5\n", {"2": 5}),
        ("grid,hole\nA,1\nB,1\n", "grid,hole,ctf\nB,1,5\n", {"B/1": 5}),
    ],
)
def test_results_that_come_later_go_to_the_hole_of_the_place_that_they_say(tmp_path, holes, later, expected):
    session = steps(tmp_path, holes, later)
    assert results(session) == expected
    before = steps(tmp_path, holes)
    again = assemble([written(tmp_path, "b.csv", later)], session).session
    assert results(again) == expected
    assert len(again.ctf_runs) == len(expected)
    assert set(again.squares["square_id"]) == set(before.squares["square_id"])
    assert again.grids.equals(before.grids)


@pytest.mark.parametrize(
    ("holes", "later", "message"),
    [
        (
            SQUARES,
            "hole,ctf\n1,3\n",
            "b.csv, line 2: a line must say which hole it is of, where several have its name. Got hole '1', which may "
            "be hole '1' (square S1), hole 'S2/1' (square S2) instead. Remedy: name the square in a column square.",
        ),
        (GRIDS, "square,hole,ctf\nS1,h1,3\n", "Remedy: name the grid and square in columns grid and square."),
        (
            GRIDS,
            "square,hole,ctf\nS1,h9,3\n",
            "which may be in S1 of grid A, B/S1 of grid B, C/S1 of grid C instead.",
        ),
        (
            GRIDS,
            "grid,square,hole,ctf\nD,S1,h1,3\n",
            "line 2: a hole_id must stand for one place. Got 'h1' in grid 'D' and, in the session, in 'A' instead",
        ),
        (
            GRIDS,
            "grid,hole,ctf\nD,h1,3\n",
            "Got 'h1' in grid 'D' and, in the session, in 'A' instead (1 such holes).",
        ),
        (
            SQUARES,
            "square,hole,ctf\nS2,1,3\nS2,S2/1,4\n",
            "line 3: a hole must be of one place and name. Got hole '1' of square S2 (line 2) and hole 'S2/1' of "
            "square S2, which are both hole 'S2/1' (square S2) instead.",
        ),
        ("hole\n1\n", "square,hole\nA,1\nB,1\n", "which are both hole '1' instead."),
        (
            "square,hole\nS,1\n",
            "grid,square,hole,ctf\nB,S,1,8\nA,S,1,3\n",
            "Remedy: the session names no grid, so it can be neither: import its holes anew",
        ),
    ],
)
def test_what_may_be_of_several_holes_is_refused(tmp_path, holes, later, message):
    session = steps(tmp_path, holes)
    with pytest.raises(DataError) as error:
        assemble([written(tmp_path, "b.csv", later)], session)
    assert message in str(error.value)


def test_where_grids_are_named_the_remedy_for_a_hole_of_none_is_not_that_the_session_names_none(tmp_path):
    holes = written(tmp_path, "a.csv", "grid,square,hole\nA,T,1\n,S,2\n")
    results = written(tmp_path, "b.csv", "grid,square,hole,ctf\nA,S,2,3\nB,S,2,4\n")
    with pytest.raises(DataError, match="Remedy: keep one line of it; where they are two holes"):
        assemble([holes, results])


@settings(max_examples=share(60), deadline=None)
@given(
    st.lists(st.tuples(*(st.sampled_from("12") for _ in range(3))), min_size=2, max_size=8, unique=True),
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_holes_then_results_in_any_order_are_each_of_its_own(
    tmp_path_factory, places, cut, has_grid, at_once, seed
):
    folder = tmp_path_factory.mktemp("own")
    places = [place for place in places if has_grid or place[0] == "1"]
    rng = random.Random(seed)
    x = {place: 10.0 * number for number, place in enumerate(places)}

    def table(name, some, says, header):
        lines = [
            ",".join(
                [*([f"g{grid}"] if has_grid else []), square, hole, *map(str, says(x[grid, square, hole]))]
            )
            for grid, square, hole in some
        ]
        level = "grid," if has_grid else ""
        return written(folder, name, "\n".join([f"{level}square,hole,{header}", *lines]) + "\n")

    holes = table("holes.csv", places, lambda x_um: (x_um, 0), "x_um,y_um")
    some = rng.sample(places, min(cut, len(places)))
    sources = [holes, table("some.csv", some, lambda x_um: (3 + x_um / 100,), "ctf")]
    sources.append(table("all.csv", rng.sample(places, len(places)), lambda x_um: (3 + x_um / 100,), "ctf"))
    if at_once:
        session = assemble(sources).session
    else:
        session = None
        for source in sources:
            session = assemble([source], session).session
    assert sorted(session.holes["x_um"]) == sorted(x.values())
    found = results(session)
    assert {
        x_um: found[hole] for hole, x_um in zip(session.holes["hole_id"], session.holes["x_um"], strict=True)
    } == {x_um: pytest.approx(3 + x_um / 100) for x_um in x.values()}
    assert len(session.squares) == len({place[:2] for place in places})


IMAGES = "grid,square,hole,x_um,y_um,micrograph,ctf\nA,S1,h1,0,0,raw/A/img_001.tif,3\nB,S1,h1,0,0,raw/B/img_001.tif,8\n"


def test_images_of_one_name_in_two_folders_are_each_of_its_hole(tmp_path):
    session = steps(tmp_path, IMAGES)
    assert results(session) == {"h1": 3.0, "B/S1/h1": 8.0}
    assert sorted(session.exposures["exposure_id"]) == ["B/img_001", "img_001"]
    # Also where they come one by one, or in another order.
    header, first, second = IMAGES.splitlines()
    whole = "\n".join([header, second, first]) + "\n"
    for tables in ((f"{header}\n{first}\n", whole), (IMAGES, whole)):
        assert results(steps(tmp_path, *tables)) == {"h1": 3.0, "B/S1/h1": 8.0}
    assert results(steps(tmp_path, whole, IMAGES)) == {"h1": 8.0, "A/S1/h1": 3.0}


def test_an_image_of_another_hole_is_not_that_of_its_name(tmp_path):
    first = "square,hole,micrograph,ctf\nS,1,raw/a/i.tif,3\nS,2,raw/a/k.tif,\n"
    session = steps(tmp_path, first, "square,hole,micrograph,ctf\nS,2,raw/b/i.tif,9\n")
    assert results(session) == {"1": 3.0, "2": 9.0}
    with pytest.raises(
        DataError, match=r"b\.csv, line 2: an exposure must be of one hole\. Got 'i' of hole '2', which"
    ):
        steps(tmp_path, first, "square,hole,micrograph,ctf\nS,2,i.tif,9\n")


def test_images_without_holes_in_two_grids_are_not_one(tmp_path):
    first = "grid,micrograph,ctf\nA,raw/A/i.tif,3\n"
    session = steps(tmp_path, first, "grid,micrograph,ctf\nA,raw/A/i.tif,3\nB,raw/B/i.tif,9\n")
    assert results(session) == {"i": 3.0, "B/i": 9.0}
    with pytest.raises(
        DataError, match=r"Got 'i' of another place, which is an exposure of hole 'i', instead"
    ):
        steps(tmp_path, first, "grid,micrograph,ctf\nB,i.tif,9\n")


def test_an_exposure_that_is_called_as_another_hole_is_not_that_holes(tmp_path):
    first = "hole,image\nA,1\n1,\n"
    with pytest.raises(
        DataError, match=r"Got '1' of the hole of that name, which is an exposure of hole 'A', instead"
    ):
        steps(tmp_path, first, "hole,ctf\n1,5\n")
    assert results(steps(tmp_path, first, "hole,image,ctf\n1,own,5\n")) == {"1": 5.0}


def test_a_result_that_names_a_hole_alone_is_that_of_its_one_exposure(tmp_path):
    images = "hole,micrograph\n1,a.tif\n2,b.tif\n2,c.tif\n"
    session = steps(tmp_path, images, "hole,ctf\n1,5\n")
    assert session.exposures[["exposure_id", "outcome"]].to_numpy().tolist() == [
        ["a", "measured"],
        ["b", "pending"],
        ["c", "pending"],
    ]
    with pytest.raises(
        DataError, match=r"a line must name its exposure where the hole has several\. Got hole '2' with b, c"
    ):
        steps(tmp_path, images, "hole,ctf\n2,5\n")


def test_a_table_that_is_read_again_means_the_exposure_that_it_meant_before(tmp_path):
    tables = (
        SQUARES,
        "square,hole,exposure,ctf\nS2,1,imgA.mrc,3.1\n",
        "square,hole,ctf\nS2,1,3.0\n",
        "square,hole,exposure,ctf\nS2,1,imgC.mrc,3.9\n",
    )
    before = steps(tmp_path, *tables)
    again = steps(tmp_path, *tables, tables[2], names="abcdc")
    assert again.ctf_runs.equals(before.ctf_runs)
    assert again.exposures.equals(before.exposures)
    with pytest.raises(DataError, match=r"e\.csv, line 2: a line must name its exposure.*imgA, imgC"):
        steps(tmp_path, *tables, tables[2])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=share(50))
def test_holes_called_in_a_square_are_those_of_the_name_that_may_be_in_it(seed):
    rng, holes = random.Random(seed), HolesByName()
    for number in range(30):
        square = rng.choice(["", "S1", "S2", "A/S1", "B/S1"])
        holes.add(f"{rng.choice(['', 'A/', 'S1/', 'B/S1/'])}{number % 5}-{number}", "", square, "")
    for name in {name for hole_id in holes.ids for name in names_of(hole_id)}:
        for said in ("", "S1", "S2", "A/S1", "T"):
            expected = [row for row in holes.called(name) if may_be(holes.squares[row], said)]
            assert list(holes.called(name, said)) == expected


def test_notes_of_a_later_table_are_of_what_is_new_in_it(tmp_path):
    first = assemble([written(tmp_path, "a.csv", SQUARES)], None)
    assert (
        "2 holes have the id of a hole of another place: told apart by the place, such as S2/1"
        in "\n".join(first.notes)
    )
    later = assemble([written(tmp_path, "b.csv", "square,hole,ctf\nS2,1,8\nS1,1,3\n")], first.session)
    assert not [note for note in later.notes if "told apart" in note or "without a patch" in note]
    third = assemble(
        [written(tmp_path, "c.csv", "square,hole,x_um,y_um\nS1,1,0,0\nS3,1,300,0\n")], later.session
    )
    told = "\n".join(third.notes)
    assert "1 hole has the id of a hole of another place: told apart by the place, such as S3/1" in told
    assert "1 hole without a patch was put into patches of radius 5 um" in told


def test_an_id_of_thousands_of_slashes_has_few_names():
    assert names_of("A/S1/h") == ("A/S1/h", "S1/h", "h")
    many = names_of("a/" * 40_000 + "h")
    assert len(many) == MOST_PARTS + 1
    assert many[0] == "a/" * 40_000 + "h"
    assert many[-2:] == ("a/h", "h")
