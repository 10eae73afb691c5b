"""SmartScope's export of a grid, and the selection that is written for it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.smartscope.record_reader import STATUSES
from cryoscout.formats.smartscope.records import detect, read_source, validate
from cryoscout.formats.smartscope.selection import read_selection, write_selection

DATA = Path(__file__).parents[1] / "data"
MADE = DATA / "smartscope" / "made_by_hand_grid.yaml"


def test_squares_holes_exposures_and_results_of_an_export():
    assert detect(MADE)
    assert validate(MADE) == []
    source = read_source(MADE)
    assert (source.format, source.session_name) == ("smartscope", "made_by_hand")
    squares = source.squares
    assert squares["looked"].fillna(False).tolist() == [True, True]
    assert squares["area_um2"].iloc[0] == pytest.approx(2500 * 0.064**2)  # px of the atlas
    assert squares.iloc[:, :4].to_numpy().tolist() == [
        ["grid1_square1", "grid1", 100.0, -250.0],
        ["grid1_square2", "grid1", 228.5, -120.25],
    ]
    holes = source.holes
    assert len(holes) == 18
    assert holes.iloc[1].tolist() == [
        "grid1_square1_hole2", "grid1_square1/1_2", "grid1_square1", "grid1", 100.0, -252.0, 540.0, 600.0, True,
    ]  # fmt: skip
    assert holes["patch_id"].tolist().count("") == 6
    exposures = source.exposures
    assert exposures["exposure_id"].tolist() == [f"grid1_square1_hole{n}_{n}_hm" for n in range(1, 7)]
    assert set(exposures["stage_x_um"]) == {100.0}
    assert set(exposures["stage_y_um"]) == {-252.0}
    assert exposures["shift_x_um"].tolist() == [2.0, 0.0, -2.0] * 2
    assert exposures["started_at"].isna().all()
    assert source.extra["grid1_square1_hole1_1_hm"]["completion_time"].startswith("2024-01-05")
    assert source.ctf["ctf_max_res_angstrom"].tolist() == [3.8, 4.2, 11.5, 5.1, 7.7]
    assert source.ctf["defocus_um"].tolist()[0] == pytest.approx(1.21)
    assert source.ctf["ice_thickness_nm"].tolist()[0] == 21.0
    assert source.ctf["line"].notna().all()
    assert source.extra["grid1_square1_hole1"]["selectors/Graylevel selector"] == "1 0.6"
    assert any("no ids" in note for note in source.notes)
    assert any("does not write when an exposure was started" in note for note in source.notes)


def grid_of(*holes, **more):
    square = {"name": "s", "status": None, "targets": list(holes), **more}
    return {"name": "g", "params_id": {}, "atlas": [{"name": "a", "targets": [square]}]}


def written(tmp_path, grid):
    path = tmp_path / "grid.yaml"
    path.write_text(grid if isinstance(grid, str) else yaml.safe_dump(grid, sort_keys=False))
    return path


def image(**changes):
    return {"name": "m", "number": 1, "status": "completed", "ctffit": 4.0, **changes}


@pytest.mark.parametrize(
    "values", [(4.0, 2.9, 5.0), (2.9, 4.0, ".inf"), (".inf", 2.9, None), (None, 2.9, 4.0)]
)
def test_a_shot_taken_again_under_its_name_is_one_whose_best_result_counts(tmp_path, values):
    images = [
        image(ctffit=value, completion_time=f"2024-01-05T12:0{n}:00Z") for n, value in enumerate(values)
    ]
    source = read_source(written(tmp_path, grid_of({"name": "h", "targets": images})))
    assert source.exposures["exposure_id"].tolist() == ["m"]
    assert source.ctf["ctf_max_res_angstrom"].tolist() == [2.9]
    kept = [float(str(value).removeprefix(".")) for value in values if value not in (2.9, None)]
    assert sorted(source.further_ctf["ctf_max_res_angstrom"]) == sorted(kept)
    assert source.extra["m"]["completion_time (taken again, 2)"] == "2024-01-05T12:02:00Z"
    assert (
        "1 exposure was taken again under the same name (first: m): each is one shot, of its results the best counts, "
        "the others are kept"
    ) in source.notes


def test_two_shots_of_one_name_are_refused_with_a_way_on(tmp_path):
    path = written(tmp_path, grid_of({"name": "h", "targets": [image(number=1), image(number=2)]}))
    with pytest.raises(FileFormatError, match=r"Got 'm' as shots 1 and 2 of hole h instead\. Remedy: --perm"):
        read_source(path)
    assert len(read_source(path, permissive=True).exposures) == 1


def test_an_image_that_stands_at_two_holes_is_refused_with_a_way_on(tmp_path):
    path = written(tmp_path, grid_of(*({"name": name, "targets": [image()]} for name in ("h", "k"))))
    with pytest.raises(
        FileFormatError, match=r"Got 'm' of hole h and of k instead\. Remedy: --permissive leaves"
    ):
        read_source(path)
    assert read_source(path, permissive=True).exposures["hole_id"].tolist() == ["h"]


@pytest.mark.parametrize(
    ("hole", "message", "left"),
    [
        ({"number": 1}, "a record must have hole_id or a name. Got none instead.", 0),
        (
            {"name": "h", "status": "done"},
            f"status must be null or one of {', '.join(STATUSES)}. Got 'done' instead.",
            0,
        ),
        ({"name": "h", "selected": "perhaps"}, "selected must be true or false. Got 'perhaps' instead.", 1),
        (
            {"name": "h", "finders": [{"stage_x": "left", "stage_y": 1, "x": 1, "y": 1}]},
            "stage_x must be a finite number. Got 'left' instead.",
            1,
        ),
        ({"name": "h", "finders": "x"}, "finders must be a list of records. Got something else instead.", 1),
        (
            {"name": "h", "targets": [image(ctffit="good")]},
            "the CTF resolution must be a number. Got 'good' instead.",
            1,
        ),
        (
            {"name": "h", "targets": [image(ctffit=-4.0)]},
            "the CTF resolution must be above 0 angstrom. Got '-4.0' instead.",
            1,
        ),
        (
            {"name": "h", "targets": [image(name=None)]},
            "a highmag record must have a name. Got none instead.",
            1,
        ),
        ({"name": "h", "targets": ["x"]}, "targets must hold records. Got 'x' instead.", 1),
        ({"name": "h", "targets": "x"}, "targets must be a list. Got 'x' instead.", 1),
    ],
)
def test_a_deviation_has_its_line_and_is_left_out_permissively(tmp_path, hole, message, left):
    path = written(tmp_path, grid_of(hole))
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert error.value.detail.endswith(message)
    assert error.value.line is not None
    (found,) = validate(path)
    assert found.message == message
    assert found.line is not None
    assert len(read_source(path, permissive=True).holes) == left


def test_what_is_not_acquired_is_no_exposure_and_what_has_no_fit_has_no_result(tmp_path):
    targets = [image(name=f"m{n}", status=status, ctffit=None) for n, status in enumerate((None, *STATUSES))]
    source = read_source(written(tmp_path, grid_of({"name": "h", "targets": targets})))
    assert source.exposures["exposure_id"].tolist() == ["m3", "m4", "m8"]
    assert source.ctf.empty
    assert math.isnan(source.exposures["stage_x_um"].iloc[0])


@pytest.mark.parametrize("value", ["inf", ".inf", "'inf'", "nan", ".nan"])
def test_an_infinite_fit_is_a_failed_one(tmp_path, value):
    text = yaml.safe_dump(grid_of({"name": "h", "targets": [image()]})).replace(
        "ctffit: 4.0", f"ctffit: {value}"
    )
    source = read_source(written(tmp_path, text))
    assert source.ctf["ctf_max_res_angstrom"].tolist() == [math.inf]


def test_names_that_look_like_numbers_stay_names(tmp_path):
    source = read_source(written(tmp_path, "name: 0010\nparams_id: {}\natlas: [{targets: [{name: 1e5}]}]\n"))
    assert source.squares[["square_id", "grid_id"]].to_numpy().tolist() == [["1e5", "0010"]]


LAUGHS = "name: g\nparams_id: {}\na: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "line 4: must have no alias. Got '*a' instead."),
        ("atlas: " + "[" * 90 + "]" * 90, "line 1: must be at most 64 levels deep. Got deeper instead."),
        ("atlas: " + "x" * 10_000_000, "line 1: a line must have at most 100,000 characters."),
        ("atlas: []\natlas: []\n", "line 2: a key must stand once. Got 'atlas' again instead."),
        ("atlas: [\n", "must be YAML. Got text that is not ("),
        ("[a, b]: 1\n", "line 1: a key must be a text. Got a list or mapping instead."),
        ("a: 1\n---\nb: 1\n", "must hold one document. Got 2 instead."),
        ("atlas: \0", "line 1: must be text. Got a NUL byte instead."),
        ("atlas: \x01", "must be YAML. Got text that is not ("),
        ("", "line 1: must be the export of a grid: a mapping with `atlas`. Got something else instead."),
        ("atlas: []\n", "line 1: a grid must have a name. Got none instead."),
        ("!!python/object/apply:os.system ['true']\n", "must be the export of a grid"),
    ],
)
def test_hostile_yaml_is_refused_at_once(tmp_path, text, message):
    with pytest.raises(FileFormatError) as error:
        read_source(written(tmp_path, text))
    assert message in str(error.value)
    assert [found.message in str(error.value) for found in validate(tmp_path / "grid.yaml")] == [True]


def test_other_files_are_not_detected(tmp_path):
    for text in ("", "a: 1\n", '{"atlas": 1, "targets": 1}', "name,ctf\na,4\n"):
        assert not detect(written(tmp_path, text))
    assert not detect(tmp_path)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=12, unique=True
    ),
    st.integers(1, 4),
)
def test_a_written_selection_is_read_back_equal(tmp_path_factory, holes, size):
    path = tmp_path_factory.mktemp("selection") / "selection.json"
    patches = [holes[start : start + size] for start in range(0, len(holes), size)]
    write_selection(path, patches, [holes])
    assert read_selection(path) == patches
    assert read_selection(path, "squares") == [holes]


def test_a_selection_that_is_none_is_refused(tmp_path):
    path = tmp_path / "selection.json"
    for patches in ([], [[]], [["a"], ["a"]]):
        with pytest.raises(InputError, match=r"each hole and square once"):
            write_selection(path, patches)
    with pytest.raises(InputError, match=r"each hole and square once"):
        write_selection(path, [["a"]], [["s", "s"]])
    for text in ("[5]", '[{"type": "grids", "key": "selected", "new_value": "1", "ids": ["a"]}]'):
        path.write_text(text)
        with pytest.raises(FileFormatError, match=r"request 1: must be "):
            read_selection(path)


def test_what_a_failed_fit_leaves_as_nan_is_missing(tmp_path):
    text = yaml.safe_dump(grid_of({"name": "h", "targets": [image(defocus=math.nan, astig=math.nan)]}))
    source = read_source(written(tmp_path, text))
    assert source.ctf["ctf_max_res_angstrom"].tolist() == [4.0]
    assert source.ctf["defocus_um"].isna().tolist() == [True]


def test_looks_at_squares_are_of_the_zone_of_the_first(tmp_path):
    grid = grid_of({"name": "h"})
    square = grid["atlas"][0]["targets"][0]
    times = ("2024-10-27T02:59:00+02:00", "2024-10-27T02:00:00+01:00")
    grid["atlas"][0]["targets"] = [
        {
            **square,
            "name": f"s{n}",
            "square_id": f"s{n}",
            "status": "completed",
            "completion_time": time,
            "targets": [],
        }
        for n, time in enumerate(times)
    ]
    source = read_source(written(tmp_path, grid))
    assert source.squares["looked_at"].dt.strftime("%H:%M").tolist() == ["02:59", "03:00"]
    assert "1 time has another time zone; all times are given in that of the first, +0200" in source.notes
