"""Joining sources into one session: what is joined, what is left out is said, and steps give what one import does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import DataError
from cryoscout.formats.records import (
    CTF_COLUMNS,
    EXPOSURE_COLUMNS,
    HOLE_COLUMNS,
    SQUARE_COLUMNS,
    SourceRecords,
)
from cryoscout.intake.assemble import assemble, earlier_exposures
from cryoscout.session.store import SessionStore
from cryoscout.session.store_update import changes_between, counts_of_changes
from examples import share

NAN = float("nan")
START = pd.Timestamp("2024-01-01 10:00:00")


def frame(rows, columns, **kinds):
    made = pd.DataFrame([[row.get(column, kinds.get(column, "")) for column in columns] for row in rows])
    made = made if len(made) else pd.DataFrame(columns=range(len(columns)))
    made.columns = list(columns)
    numbers = [column for column in columns if column.endswith(("_um", "_px"))]
    made[numbers] = made[numbers].astype("float64")
    if "started_at" in made:
        made["started_at"] = made["started_at"].astype("datetime64[ns]")
    return made


def places(holes=(), exposures=(), squares=(), results=None, format_name="epu", name="run", **more):
    """Records of one source; rows are dictionaries, what is missing is unknown."""
    unknown = dict.fromkeys(("x_um", "y_um", "x_px", "y_px", "stage_x_um", "stage_y_um"), NAN)
    unknown |= dict.fromkeys(("shift_x_um", "shift_y_um"), NAN) | {"chosen": pd.NA, "started_at": pd.NaT}
    return SourceRecords(
        format=format_name,
        path=Path(f"/data/{name}"),
        squares=frame(squares, SQUARE_COLUMNS, **unknown),
        holes=frame(holes, HOLE_COLUMNS, **unknown),
        exposures=frame(exposures, EXPOSURE_COLUMNS, **unknown),
        ctf=results_table(results or {}),
        **more,
    )


def results_table(values):
    table = pd.DataFrame([(name, value, 1) for name, value in values.items()], columns=list(CTF_COLUMNS))
    return table.astype({"name": "str", "ctf_max_res_angstrom": "float64", "line": "Int64"})


def results(values, name="micrographs_ctf.star", format_name="relion"):
    return SourceRecords(format=format_name, path=Path(f"/data/{name}"), ctf=results_table(values))


def hole(hole_id, square="s1", patch="p1", **more):
    return {"hole_id": hole_id, "square_id": square, "patch_id": patch, "grid_id": "g1", **more}


def exposure(exposure_id, hole_id, minute=0, **more):
    at = START + pd.Timedelta(minutes=minute)
    return {"exposure_id": exposure_id, "hole_id": hole_id, "square_id": "s1", "started_at": at, **more}


def patches(session):
    return dict(zip(session.holes["hole_id"], session.holes["patch_id"], strict=True))


def outcomes(session):
    return dict(zip(session.exposures["exposure_id"], session.exposures["outcome"], strict=True))


def test_places_and_results_become_a_session_with_positions():
    source = places(
        [hole("h1", x_um=1.5, y_um=-2.5), hole("h2", x_px=7.0, y_px=8.0)],
        [exposure("e1", "h1", 1, stage_x_um=1.0, stage_y_um=-2.0), exposure("e2", "h2", 2)],
        [{"square_id": "s1", "grid_id": "g1", "x_um": 100.0, "y_um": -50.0}],
        session_name="my run",
    )
    made = assemble([source, results({"e1": 3.5, "e9": 4.0})])
    session = made.session
    assert (session.name, session.info.format, session.info.default_time_model) == ("my_run", "epu", "fitted")
    assert session.squares[["square_id", "grid_id", "x_um", "y_um"]].iloc[0].tolist() == [
        "s1",
        "g1",
        100.0,
        -50.0,
    ]
    assert session.holes[["x_um", "y_um"]].iloc[0].tolist() == [1.5, -2.5]
    assert session.holes[["x_px", "y_px"]].iloc[1].tolist() == [7.0, 8.0]
    assert session.exposures[["stage_x_um", "stage_y_um"]].iloc[0].tolist() == [1.0, -2.0]
    assert outcomes(session) == {"e1": "measured", "e2": "pending"}
    assert [str(report) for report in made.reports] == [
        "exposures of run: 2 of 2 joined",
        "CTF results of micrographs_ctf.star (relion): 1 of 2 joined; 1 not (no exposure of a hole has the name; "
        "first: e9); 1 exposure received none",
    ]


def test_of_several_runs_the_best_counts_and_a_failed_one_only_where_all_failed():
    source = places([hole(f"h{i}") for i in range(4)], [exposure(f"e{i}", f"h{i}") for i in range(4)])
    first = results({"e0": 5.0, "e1": float("inf"), "e2": 100000.0, "e3": 25.0})
    second = results({"e0": 4.0, "e1": 6.0, "e2": float("inf")}, "run2.star")
    session = assemble([source, first, second]).session
    assert outcomes(session) == {"e0": "measured", "e1": "measured", "e2": "failed", "e3": "measured"}
    np.testing.assert_array_equal(session.exposures["ctf_max_res_angstrom"], [4.0, 6.0, NAN, 25.0])


@pytest.mark.parametrize(
    ("own", "written"),
    [
        ("FoilHole_1_Data_2_3_20240101_100000", "000123_FoilHole_1_Data_2_3_20240101_100000_Fractions"),
        ("FoilHole_1_Data_2_3_20240101_100000", "FoilHole_1_Data_2_3_20240101_100000_mc2"),
        ("m1_fractions", "m1"),
        ("21jan01a_00001gr_00002sq_00003hl_00001en-a", "21jan01a_00001gr_00002sq_00003hl_00001en-a-DW"),
    ],
)
def test_names_join_whatever_a_pipeline_put_around_them(own, written):
    session = assemble([places([hole("1")], [exposure(own, "1")]), results({written: 3.0})]).session
    assert outcomes(session) == {own: "measured"}


def test_a_name_that_two_exposures_share_joins_to_none():
    source = places([hole("h1"), hole("h2")], [exposure("m_EER", "h1"), exposure("m_Fractions", "h2")])
    made = assemble([source, results({"m": 3.0})])
    assert made.reports[1].first_not_joined == ("m",)


def test_holes_without_patch_are_clusters_of_positions_or_their_square():
    holes = [hole(f"h{i}", patch="", x_um=x, y_um=0.0) for i, x in enumerate((0.0, 1.0, 50.0, NAN))]
    by_radius = assemble([places(holes)], cluster_radius_um=5.0)
    assert patches(by_radius.session) == {
        "h0": "s1_cluster_h0",
        "h1": "s1_cluster_h0",
        "h2": "s1_cluster_h2",
        "h3": "s1_unplaced",
    }
    assert by_radius.notes == [
        "--patch-radius-um does not act on every hole: not on 1 without a position",
        "3 holes without a patch were put into patches of radius 5 um",
    ]
    by_source = assemble([places(holes, cluster_radius_um=5.0)])
    assert patches(by_source.session) == patches(by_radius.session)
    by_default = assemble([places(holes)])
    assert patches(by_default.session) == patches(by_radius.session)
    assert by_default.notes == [
        "3 holes without a patch were put into patches of radius 5 um, which no file says: --patch-radius-um says "
        "another"
    ]
    whole = assemble([places([each | {"x_um": NAN, "y_um": NAN} for each in holes])])
    assert set(patches(whole.session).values()) == {"s1_square"}
    assert whole.notes == ["4 holes without a patch and without a position in um: the square is one patch"]


def test_a_patch_name_of_several_squares_is_told_apart():
    session = assemble([places([hole("h1"), hole("h2", square="s2"), hole("h3")])]).session
    assert patches(session) == {"h1": "p1", "h3": "p1", "h2": "s2/p1"}


def test_shots_are_what_is_declared_or_the_most_and_incomplete_holes_are_open():
    holes = [hole("h1"), hole("h2"), hole("h3")]
    exposures = [exposure(f"e{h}{s}", f"h{h}", h + s / 10) for h in (1, 2) for s in (1, 2)]
    exposures.append(exposure("e31", "h3", 9))
    usual = assemble([places(holes, exposures)]).session
    assert usual.info.shots == 2
    assert usual.counts()["outcomes"] == {"measured": 0, "failed": 0, "pending": 5, "none": 1}
    assert usual.exposures["shot"].tolist() == [1, 2, 1, 2, 1]
    declared = assemble([places(holes, exposures, shots=4)]).session
    assert (declared.info.shots, declared.counts()["outcomes"]["none"]) == (4, 7)


def test_no_shot_is_dropped_and_every_hole_has_as_many_as_the_one_with_most():
    holes = [hole("h1"), hole("h2"), hole("h3")]
    exposures = [exposure(f"e{i}", f"h{max(i - 1, 1)}", i) for i in range(5)]
    made = assemble([places(holes, exposures)])
    assert (made.session.info.shots, made.session.counts()["exposures"]) == (3, 5)
    assert made.notes == [
        "hole h1 has 3 exposures, most imaged holes have 1: the plan reckons with 3 shots for every hole"
    ]


def test_a_shot_that_was_taken_again_is_one_shot_of_whose_results_the_best_counts():
    first, second, other = (f"FoilHole_{h}_Data_7_8_20240101_10000{s}" for h, s in ((1, 1), (1, 3), (2, 2)))
    holes = [hole("h1"), hole("h2")]
    again = places(holes, [exposure(first, "h1", 1), exposure(second, "h1", 3), exposure(other, "h2", 2)])
    note = (
        f"1 image is of a shot that was taken before, such as {second} (of {first}): each is one shot, and of the "
        "results of both the best counts"
    )
    values = results({first: 9.0, second: 3.5, other: np.inf})
    made = assemble([again, values])
    assert made.session.info.shots == 1
    assert outcomes(made.session) == {first: "measured", other: "failed"}
    assert note in made.notes
    ctf = made.session.exposures.set_index("exposure_id")["ctf_max_res_angstrom"]
    assert ctf[first] == 3.5
    runs = made.session.ctf_runs
    assert runs.loc[runs["exposure_id"] == first, "ctf_max_res_angstrom"].tolist() == [9.0, 3.5]
    # Results that come later, and the same again, give the same.
    later = assemble([values], assemble([again]).session).session
    assert changes_between(made.session, later) == []
    assert changes_between(made.session, assemble([again, values], made.session).session) == []


@pytest.mark.parametrize("vendor", ["smartscope", "serialem"])
def test_a_shot_that_was_taken_again_under_another_name_is_known_later_too(vendor):
    shots = [
        exposure("a", "h1", 1, shot_key="1"),
        exposure("b", "h1", 2, shot_key="2"),
        exposure("c", "h1", 3, shot_key="1"),
    ]
    source = places([hole("h1")], shots, format_name=vendor)
    stored = assemble([source]).session
    assert stored.exposures["exposure_id"].tolist() == ["a", "b"]
    assert stored.fields_of("c")["same_shot_as"] == "a"
    session = assemble([results({"c": 3.25, "b": 5.0})], stored).session
    assert session.exposures["ctf_max_res_angstrom"].tolist() == [3.25, 5.0]
    # Another image of the shot, of which the sources of this import say nothing else.
    more = places([hole("h1")], [exposure("d", "h1", 9, shot_key="2")], format_name=vendor)
    made = assemble([more, results({"d": 4.5})], session).session
    assert made.exposures["ctf_max_res_angstrom"].tolist() == [3.25, 4.5]


def test_exposures_of_no_hole_are_reported_by_name():
    made = assemble([places([hole("h1")], [exposure("e1", "h1"), exposure("e2", "")])])
    assert made.reports[0].first_not_joined == ("e2",)
    assert outcomes(made.session) == {"e1": "pending"}


def test_holes_that_only_exposures_name_are_made_from_them():
    made = assemble(
        [places([], [exposure("e1", "7", stage_x_um=3.0, stage_y_um=4.0)], format_name="serialem")]
    )
    assert made.session.holes[["hole_id", "x_um", "y_um"]].iloc[0].tolist() == ["7", 3.0, 4.0]


def test_a_table_without_holes_makes_every_exposure_its_own_hole():
    made = assemble([places([], [exposure("e1", ""), exposure("e2", "")], format_name="generic")])
    assert patches(made.session) == {"e1": "s1_square", "e2": "s1_square"}
    assert "no source names holes: every exposure is its own hole" in made.notes


def test_holes_without_square_and_grid_are_in_one_of_each_by_the_sessions_name():
    made = assemble([places([{"hole_id": "h1"}], session_name="run7")])
    assert made.session.squares.iloc[0, :2].tolist() == ["run7_square", "run7"]


def test_squares_without_holes_are_known_of_and_counted():
    made = assemble([places([hole("h1")], squares=[{"square_id": "s1"}, {"square_id": "s2"}])])
    assert made.session.squares["square_id"].tolist() == ["s1", "s2"]
    assert made.session.squares["grid_id"].nunique() == 1
    assert made.notes == ["1 square is known of, without holes yet"]


def test_an_atlas_alone_gives_its_squares():
    made = assemble([places([], squares=[{"square_id": "s1", "x_um": 5.0}, {"square_id": "s2"}])])
    assert made.session.squares["square_id"].tolist() == ["s1", "s2"]
    assert made.session.n_holes == 0
    assert not made.session.squares["looked"].fillna(False).any()


def test_beside_a_session_a_sites_table_gives_results_and_times_alone():
    table = places(
        [hole("other")],
        [exposure("e1", "other", 5), exposure("e2", "other", 6), exposure("e3", "other", 7)],
        results={"e1": 3.0},
        format_name="generic",
        name="site.csv",
    )
    source = places(
        [hole("h1"), hole("h2")], [exposure("e1", "h1", 1), exposure("e2", "h2") | {"started_at": pd.NaT}]
    )
    for order in ([source, table], [table, source]):
        made = assemble(order)
        assert made.session.info.format == "epu"
        assert outcomes(made.session) == {"e1": "measured", "e2": "pending"}
        started = dict(
            zip(made.session.exposures["exposure_id"], made.session.exposures["started_at"], strict=True)
        )
        assert [at.minute for at in started.values()] == [1, 6]
        assert "site.csv: its holes were not taken; results and times join by name" in made.notes
        assert made.reports[1].first_not_joined == ("e3",)


def test_ids_of_the_database_join_where_names_do_not():
    source = places([hole("h1")], [exposure("4711", "h1")], format_name="leginon-export")
    ctf = results_table({"21jan01a_00005en": 3.0}).assign(image_id="4711")
    session = assemble([source, SourceRecords("leginon-export", Path("/data/ctf.dat"), ctf=ctf)]).session
    assert outcomes(session) == {"4711": "measured"}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([results({"e1": 3.0})], r"must have squares, holes or exposures\. Got only results instead: "
         r"micrographs_ctf\.star \(relion\)\. Remedy: add the folder.*--update -o NAME\.session"),
        ([places(name="holes.csv", format_name="generic")],
         r"must have squares, holes or exposures\. Got none of them instead: holes\.csv \(generic\)"),
        ([places([hole("h1")]), places([hole("h1")], format_name="serialem")],
         r"must come from one format\. Got epu, serialem instead"),
        ([places([hole("h1")]), places([hole("h1", square="s2")])],
         r"A hole_id must stand for one place\. Got 'h1' with several square_id instead"),
    ],
)  # fmt: skip
def test_what_is_no_one_session_is_refused(sources, message):
    with pytest.raises(DataError, match=message):
        assemble(sources)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b\\c", "..", "\0", "x" * 500, "", " . "])
def test_a_name_in_a_file_never_becomes_a_path(name):
    made = assemble([places([hole("h1")], session_name=name)]).session.name
    assert made
    assert Path(made).name == made
    assert len(made) <= 100


def test_a_later_import_of_another_session_is_refused():
    stored = assemble([places([hole("h1")])]).session
    other = places([hole("x1", square="t1")])
    with pytest.raises(DataError, match=r"must be of the same session\. Got 1 holes and none.*-o\.$"):
        assemble([other], stored)
    assert assemble([other], stored, same_source=True).session.n_holes == 2
    with pytest.raises(DataError, match=r"must come from one format\. Got epu, serialem instead"):
        assemble([places([hole("h1")], format_name="serialem")], stored)


def test_results_alone_can_be_added_later_and_change_nothing_else():
    stored = assemble(
        [places([hole("h1"), hole("h2")], [exposure("e1", "h1"), exposure("e2", "h2")])]
    ).session
    once = assemble([results({"e1": 3.0})], stored).session
    twice = assemble([results({"e1": 9.0, "e2": float("inf")}, "again.star")], once).session
    assert outcomes(twice) == {"e1": "measured", "e2": "failed"}
    assert twice.exposures["ctf_max_res_angstrom"].iloc[0] == 3.0
    changes = changes_between(once, twice)
    assert [(each["part"], each.get("table")) for each in changes] == [
        ("rows", "ctf_runs"),
        ("rows", "provenance"),
        ("outcomes", None),
    ]


def test_a_hole_that_is_imaged_later_comes_into_the_patch_it_was_imaged_in():
    before = places([hole("h1", patch="cluster"), hole("h2", patch="cluster"), hole("h3", patch="run1")],
                    [exposure("e3", "h3")])  # fmt: skip
    after = places([hole("h1", patch="run2"), hole("h2", patch="elsewhere"), hole("h3", patch="other")],
                   [exposure("e1", "h1", 1)])  # fmt: skip
    stored = assemble([before]).session
    session = assemble([after], stored).session
    assert patches(session) == {"h1": "run2", "h2": "cluster", "h3": "run1"}
    assert session.patches["patch_id"].tolist() == ["run1", "run2", "cluster"]


def test_what_was_missing_is_filled_and_what_was_known_stays():
    first = places(
        [hole("h1", patch="p1"), hole("h2", patch="p1", x_um=5.0, y_um=6.0)],
        [
            exposure("e1", "h1") | {"started_at": pd.NaT},
            exposure("e2", "h2", 2, stage_x_um=1.0, stage_y_um=1.0),
        ],
    )
    second = places(
        [hole("h1", patch="run", x_um=1.0, y_um=2.0, x_px=3.0), hole("h2", patch="run", x_um=7.0, y_um=8.0)],
        [exposure("e1", "h1", 1, stage_x_um=3.0, stage_y_um=4.0), exposure("e2", "h2", 3, stage_x_um=9.0)],
        [{"square_id": "s1", "x_um": 10.0, "y_um": 20.0}],
    )
    stored = assemble([first]).session
    session = assemble([second], stored).session
    holes, exposures = session.holes.set_index("hole_id"), session.exposures.set_index("exposure_id")
    assert holes.loc["h1", ["x_um", "y_um", "x_px"]].tolist() == [1.0, 2.0, 3.0]
    assert holes.loc["h2", ["x_um", "y_um"]].tolist() == [5.0, 6.0]
    assert session.squares["x_um"].tolist() == [10.0]
    assert exposures.loc[["e1", "e2"], "stage_x_um"].tolist() == [3.0, 1.0]
    assert exposures.loc[["e1", "e2"], "started_at"].dt.minute.tolist() == [1, 2]
    assert patches(session) == {"h1": "run", "h2": "p1"}
    parts = [(each["part"], each.get("table")) for each in changes_between(stored, session)]
    assert parts[-3:] == [("filled", "squares"), ("filled", "holes"), ("filled", "exposures")]


def test_positions_of_squares_alone_can_be_added_later():
    stored = assemble([places([hole("h1")])]).session
    atlas = places(squares=[{"square_id": "s1", "x_um": 10.0}, {"square_id": "s2"}], name="Atlas.dm")
    squares = assemble([atlas], stored).session.squares
    assert squares["square_id"].tolist() == ["s1", "s2"]
    assert squares["x_um"].iloc[0] == 10.0
    assert squares["grid_id"].nunique() == 1


def test_times_that_come_later_make_the_time_model_a_fitted_one():
    stored = assemble([places([hole("h1"), hole("h2")])]).session
    assert stored.info.default_time_model == "cryorl"
    later = places([], [exposure("e1", "h1", 1), exposure("e2", "h2", 2)])
    assert assemble([later], stored).session.info.default_time_model == "fitted"


def whole_session(n_holes, shots, imaged, seed):
    """Records of a session imaged hole by hole, patches as a reader gives them: runs of what is imaged."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_holes)[:imaged]
    run = {int(number): f"run{place // 3}" for place, number in enumerate(order)}
    holes = [hole(f"h{i}", f"s{i % 2}", f"s{i % 2}_{run.get(i, 'cluster')}") for i in range(n_holes)]
    exposures = [
        exposure(f"e{number}.{shot}", f"h{number}", shots * place + shot, shot_key=str(shot))
        for place, number in enumerate(order)
        for shot in range(shots)
    ]
    values = rng.uniform(2, 120, len(exposures))
    return holes, exposures, {row["exposure_id"]: value for row, value in zip(exposures, values, strict=True)}


def by_id(session):
    tables = {}
    for table, key in (
        ("squares", "square_id"),
        ("patches", "patch_id"),
        ("holes", "hole_id"),
        ("exposures", "exposure_id"),
    ):
        tables[table] = getattr(session, table).sort_values(key).reset_index(drop=True)
    return tables


@settings(max_examples=share(12, otherwise=25))
@given(
    st.integers(2, 12), st.integers(1, 3), st.integers(1, 12), st.lists(st.integers(0, 30), max_size=3),
    st.integers(0, 99),
)  # fmt: skip
def test_importing_in_steps_gives_what_importing_at_once_does(n_holes, shots, imaged, cuts, seed):
    imaged = min(imaged, n_holes)
    holes, exposures, values = whole_session(n_holes, shots, imaged, seed)
    at_once = assemble([places(holes, exposures, shots=shots), results(values)]).session
    stored = None
    for end in [*sorted(cut for cut in cuts if cut < len(exposures)), len(exposures)]:
        until = exposures[:end]
        begun = {row["hole_id"] for row in until}
        known = [
            row if row["hole_id"] in begun else row | {"patch_id": f"{row['square_id']}_cluster"}
            for row in holes
        ]
        # Results lag behind by one exposure until the end.
        measured = dict(list(values.items())[: end if end == len(exposures) else max(end - 1, 0)])
        step = [places(known, until, shots=shots), results(measured)]
        session = assemble(step, stored).session
        if stored is not None:
            added = counts_of_changes(changes_between(stored, session))
            assert added["exposures"] == end - len(stored.exposures)
        assert changes_between(session, assemble(step, session).session) == []
        stored = session
    for table, expected in by_id(at_once).items():
        pd.testing.assert_frame_equal(by_id(stored)[table], expected)


def test_what_is_stored_gives_back_the_exposures_to_go_on_from(tmp_path):
    source = places([hole("h1")], [exposure("e1", "h1", 1, stage_x_um=1.5, stage_y_um=2.5)])
    session = assemble([source]).session
    with SessionStore.create(tmp_path / "run.session") as store:
        store.save_import(session, "run")
        rows = earlier_exposures(store.load())
    assert list(rows.columns) == list(EXPOSURE_COLUMNS)
    told = rows.loc[
        0, ["exposure_id", "hole_id", "square_id", "grid_id", "stage_x_um", "stage_y_um"]
    ].tolist()
    assert told == ["e1", "h1", "s1", "g1", 1.5, 2.5]


def chosen_holes(session):
    known = session.holes[session.holes["chosen"].notna()]
    return dict(zip(known["hole_id"], known["chosen"].tolist(), strict=True))


def test_what_the_operator_had_chosen_is_kept_and_unknown_where_no_file_says_it():
    holes = [hole("h1", chosen=True), hole("h2", chosen=False), hole("h3")]
    session = assemble([places(holes)]).session
    assert chosen_holes(session) == {"h1": True, "h2": False}
    assert session.provenance[["table", "field"]].to_numpy().tolist()[-1] == ["holes", "chosen"]
    assert assemble([places([hole("h1")], [exposure("e1", "h9")])]).session.chosen_holes() is None


def test_the_choice_of_today_counts_but_what_was_imaged_stays_chosen():
    first = [
        hole("h1", chosen=True),
        hole("h2", chosen=True),
        hole("h3", chosen=False),
        hole("h4"),
        hole("h5", chosen=True),
    ]
    stored = assemble([places(first)]).session
    # The program took its mark off h1, which is imaged now; the operator took it off h2.
    later = [
        hole("h1", chosen=False),
        hole("h2", chosen=False),
        hole("h3", chosen=True),
        hole("h4", chosen=True),
        hole("h5"),
    ]
    session = assemble([places(later, [exposure("e1", "h1")])], stored).session
    assert chosen_holes(session) == {"h1": True, "h2": False, "h3": True, "h4": True, "h5": True}
    parts = [(each["part"], each.get("table")) for each in changes_between(stored, session)]
    assert ("chosen", None) in parts
    assert changes_between(session, assemble([places(later)], session).session) == []
    done = assemble([places(later)], session).session
    assert chosen_holes(done)["h1"] is True


def test_a_note_that_several_sources_share_is_said_once_with_their_names():
    run = places([{"hole_id": "h1", "square_id": "s", "grid_id": "g"}], notes=("one of the run",))
    results = [
        places(format_name="gctf", name=f"{number}.log", results={"a": 3.5}, notes=("names no micrograph",))
        for number in range(7)
    ]
    notes = assemble([run, *results]).notes
    assert [note for note in notes if "names no micrograph" in note] == [
        "0.log, 1.log, 2.log, 3.log, 4.log and 2 more: names no micrograph"
    ]
    assert "run: one of the run" in notes
