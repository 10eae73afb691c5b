import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.routing.problem import RoutingProblem
from cryoscout.session.model import Session, SessionInfo, outcome_of_ctf, session_from_holes
from cryoscout.session.tables import typed_table
from cryoscout.session.vendor_fields import packed
from hidden_outcomes import with_outcomes_hidden

NAN = float("nan")


def small_session(shots=1, **changes):
    """Two grids, three squares, three patches, five holes, given out of order on purpose."""
    tables = {
        "grids": pd.DataFrame({"grid_id": ["g1", "g2"]}),
        "squares": pd.DataFrame({"square_id": ["s3", "s1", "s2"], "grid_id": ["g2", "g1", "g1"]}),
        "patches": pd.DataFrame({"patch_id": ["p3", "p1", "p2"], "square_id": ["s3", "s1", "s2"]}),
        "holes": pd.DataFrame(
            {
                "hole_id": ["h5", "h1", "h2", "h3", "h4"],
                "patch_id": ["p3", "p1", "p1", "p2", "p2"],
                "x_px": [5.0, 1.0, 2.0, 3.0, NAN],
                "y_px": 0.0,
                "image_row": pd.array([0, 0, 1, None, None], dtype="Int64"),
            }
        ),
        "exposures": pd.DataFrame(
            {
                "exposure_id": ["e5", "e1", "e2", "e3"],
                "hole_id": ["h5", "h1", "h2", "h3"],
                "shot": 1,
                "started_at": pd.to_datetime(
                    ["2024-01-01 10:00", "2024-01-01 12:00", None, "2024-01-01 11:00"]
                ),
                "outcome": ["measured", "measured", "failed", "pending"],
                "ctf_max_res_angstrom": [6.0, 6.01, NAN, NAN],
            }
        ),
    }
    tables.update(changes)
    return Session("small", SessionInfo(format="hand-made", shots=shots), **tables)


def predictions(hole_id, p_good, model_id="m", threshold_angstrom=6.0, ctf=NAN, at=None):
    return pd.DataFrame(
        {
            "hole_id": hole_id,
            "model_id": model_id,
            "threshold_angstrom": threshold_angstrom,
            "p_good": p_good,
            "ctf_predicted_angstrom": ctf,
            "predicted_at": pd.to_datetime(at) if at else np.datetime64("NaT", "ns"),
        }
    )


def edited(table, **columns):
    return getattr(small_session(), table).assign(**columns)


def test_tables_are_sorted_by_their_parents_and_keep_the_vendors_order_inside():
    session = small_session()
    assert session.squares["square_id"].tolist() == ["s1", "s2", "s3"]
    assert session.holes["hole_id"].tolist() == ["h1", "h2", "h3", "h4", "h5"]
    assert session.exposures["exposure_id"].tolist() == ["e1", "e2", "e3", "e5"]


def test_the_tree_fits_a_routing_problem():
    tree = small_session().tree()
    assert tree.patch_of_hole.tolist() == [0, 0, 1, 1, 2]
    assert tree.square_of_patch.tolist() == [0, 1, 2]
    assert tree.grid_of_square.tolist() == [0, 0, 1]
    assert {array.dtype for array in (tree.patch_of_hole, tree.square_of_patch, tree.grid_of_square)} == {
        np.dtype(np.int32)
    }
    RoutingProblem(tree, np.full(5, 0.5), budget_min=60)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_any_flat_list_of_holes_gives_a_sorted_tree(places):
    holes = pd.DataFrame(
        {
            "hole_id": [f"h{index}" for index in range(len(places))],
            "patch_id": [f"g{g}s{s}p{p}" for g, s, p in places],
            "square_id": [f"g{g}s{s}" for g, s, _ in places],
            "grid_id": [f"g{g}" for g, _, _ in places],
            "x_px": 0.0,
            "y_px": 0.0,
        }
    )
    session = session_from_holes(
        "any", SessionInfo(format="hand-made"), holes, small_session().exposures.head(0)
    )
    tree = session.tree()
    for index in (tree.patch_of_hole, tree.square_of_patch, tree.grid_of_square):
        assert (np.diff(index) >= 0).all()
    given_patch = holes.set_index("hole_id")["patch_id"]
    assert (session.holes["patch_id"].to_numpy() == given_patch[session.holes["hole_id"]].to_numpy()).all()


def test_good_counts_at_or_below_the_threshold_failed_is_not_good_and_pending_is_unknown():
    np.testing.assert_array_equal(small_session().good_by_hole(6.0), [0, 0, np.nan, np.nan, 1])
    np.testing.assert_array_equal(small_session().good_by_hole(6.01), [1, 0, np.nan, np.nan, 1])


def test_good_counts_every_shot_of_a_hole():
    exposures = pd.DataFrame(
        {
            "exposure_id": ["a", "b", "c"],
            "hole_id": ["h1", "h1", "h2"],
            "shot": [2, 1, 1],
            "started_at": pd.NaT,
            "outcome": ["measured", "measured", "pending"],
            "ctf_max_res_angstrom": [4.0, 5.0, NAN],
        }
    )
    session = small_session(shots=2, exposures=exposures)
    assert session.exposures["shot"].tolist() == [1, 2, 1]
    np.testing.assert_array_equal(session.good_by_hole(6.0), [2, np.nan, np.nan, np.nan, np.nan])
    assert session.counts()["outcomes"] == {"measured": 2, "failed": 0, "pending": 1, "none": 7}


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(2.0, 20.0)), max_size=4), min_size=5, max_size=5))
def test_a_hole_is_good_by_majority_where_the_median_of_its_results_is_good(shots_of_hole):
    """The slow reference: sort a hole's results, failed fits last, and look at the better of the two in the middle."""
    rows = [
        (f"e{hole}.{shot}", f"h{hole + 1}", shot + 1, "failed" if ctf is None else "measured", ctf)
        for hole, shots in enumerate(shots_of_hole)
        for shot, ctf in enumerate(shots)
    ]
    columns = ["exposure_id", "hole_id", "shot", "outcome", "ctf_max_res_angstrom"]
    exposures = pd.DataFrame(rows, columns=columns).assign(started_at=pd.NaT)
    exposures["ctf_max_res_angstrom"] = exposures["ctf_max_res_angstrom"].astype(float)
    session = small_session(shots=4, exposures=exposures)
    expected = []
    for shots in shots_of_hole:
        in_order = sorted(100.0 if ctf is None else ctf for ctf in shots)
        expected.append(float(in_order[(len(shots) - 1) // 2] <= 6.0) if shots else NAN)
    np.testing.assert_array_equal(session.good_by_majority(6.0), expected)


def test_of_one_result_per_hole_the_count_and_the_majority_agree():
    session = small_session()
    for threshold in (3.0, 6.0, 6.01, 50.0):
        np.testing.assert_array_equal(session.good_by_majority(threshold), session.good_by_hole(threshold))


def test_measured_and_imaged_differ_by_what_is_pending():
    session = small_session()
    assert session.measured_by_hole().tolist() == [True, True, False, False, True]
    assert session.imaged_by_hole().tolist() == [True, True, True, False, True]


def test_counts_name_every_level_and_outcome():
    assert small_session().counts() == {
        "grids": 2,
        "squares": 3,
        "patches": 3,
        "holes": 5,
        "exposures": 4,
        "outcomes": {"measured": 2, "failed": 1, "pending": 1, "none": 1},
    }


def test_the_last_imaged_hole_is_the_one_with_the_latest_start():
    assert small_session().last_imaged_hole() == 0
    assert with_outcomes_hidden(small_session()).last_imaged_hole() is None


def test_hidden_outcomes_leave_a_session_as_new():
    session = with_outcomes_hidden(small_session().with_p_good("m", 6.0, np.full(5, 0.3)))
    assert not session.imaged_by_hole().any()
    assert np.isnan(session.good_by_hole(6.0)).all()
    assert session.models() == ["m"]


def test_a_subset_drops_the_levels_it_empties():
    session = small_session().with_p_good("m", 6.0, np.linspace(0, 1, 5))
    part = session.subset(np.array([False, False, True, True, False]), "part")
    assert (part.name, part.holes["hole_id"].tolist()) == ("part", ["h3", "h4"])
    assert part.grids["grid_id"].tolist() == ["g1"]
    assert part.exposures["exposure_id"].tolist() == ["e3"]
    assert part.prediction("m", 6.0).tolist() == [0.5, 0.75]


def test_a_subset_by_a_mask_of_wrong_length_is_refused():
    with pytest.raises(InputError, match=r"hole_mask must be a boolean array of shape \(5,\)"):
        small_session().subset(np.ones(4, dtype=bool), "part")


def test_a_prediction_is_by_hole_order_and_reads_the_newest():
    ids = ["h5", "h4", "h3", "h2", "h1"]
    session = small_session().with_predictions(predictions(ids, [0.5, 0.4, 0.3, 0.2, 0.1], at="2024-01-02"))
    assert session.prediction("m", 6.0).tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    older = session.with_predictions(predictions(["h1"], [0.9], at="2024-01-01"))
    assert older.prediction("m", 6.0)[0] == 0.1
    newer = session.with_predictions(predictions(["h1"], [0.9], at="2024-01-03"))
    assert newer.prediction("m", 6.0)[0] == 0.9
    assert len(newer.predictions) == 6


def test_a_predicted_ctf_gives_hard_labels_at_any_threshold():
    rows = predictions(
        ["h1", "h2", "h3", "h4", "h5"], NAN, threshold_angstrom=NAN, ctf=[3.0, 4.0, 5.0, 6.0, 7.0]
    )
    session = small_session().with_predictions(rows)
    assert session.prediction("m", 4.0).tolist() == [1, 1, 0, 0, 0]
    assert session.prediction("m", 6.0).tolist() == [1, 1, 1, 1, 0]


def test_a_p_good_made_for_one_threshold_refuses_another():
    session = small_session().with_p_good("m", 6.0, np.full(5, 0.5))
    with pytest.raises(DataError, match=r"must be 6 angstrom, for which its p_good was made\. Got 4 instead"):
        session.prediction("m", 4.0)


def test_an_unknown_model_offers_the_nearest():
    session = small_session().with_p_good("res50", 6.0, np.full(5, 0.5))
    with pytest.raises(UnknownNameError, match="Did you mean 'res50'"):
        session.prediction("res5", 6.0)


def test_holes_without_a_prediction_are_counted_and_named():
    session = small_session().with_predictions(predictions(["h1", "h4"], [0.5, 0.5]))
    with pytest.raises(DataError, match=r"Got none for 3 of 5 holes instead \(first: h2, h3, h5\)"):
        session.prediction("m", 6.0)


def test_a_hole_is_found_by_id_and_a_wrong_one_offers_the_nearest():
    assert small_session().hole_index("h5") == 4
    with pytest.raises(InputError, match=r"Got 'hh5' instead\. Did you mean 'h5'"):
        small_session().hole_index("hh5")


def test_a_refused_model_never_enters_a_session():
    info = SessionInfo(format="x", dataset="d", refused_models={"other": "it saw the validation holes."})
    session = small_session()
    with pytest.raises(DataError, match=r"Got model 'other' instead: it saw the validation holes"):
        Session(
            "s",
            info,
            session.grids,
            session.squares,
            session.patches,
            session.holes,
            predictions=predictions(["h1"], [0.5], "other"),
        )


@pytest.mark.parametrize(
    ("table", "frame", "message"),
    [
        ("grids", pd.DataFrame({"grid_id": ["g1", "g1", "g2"]}), r"grids\.grid_id must be unique\. Got 'g1'"),
        ("holes", edited("holes", hole_id="h1"), r"holes\.hole_id must be unique.*4 repeats"),
        ("holes", edited("holes", patch_id="p9"), r"must name a row of its parent table\. Got 'p9'"),
        ("holes", edited("holes").drop(columns="x_px"), r"missing: x_px; unknown: none"),
        ("holes", edited("holes", ice=1.0), r"missing: none; unknown: ice"),
        ("holes", edited("holes", hole_id=None), r"holes\.hole_id must have a value in every row"),
        ("holes", edited("holes", x_px="left"), r"holes\.x_px must be of type float64"),
        (
            "exposures",
            edited("exposures", outcome="lost"),
            r"one of measured, failed, pending, none\. Got 'lost'",
        ),
        ("exposures", edited("exposures", shot=2), r"exposures\.shot must be between 1 and 1"),
        ("exposures", edited("exposures", hole_id="h1"), r"exposures\.shot must be given once per hole"),
        (
            "exposures",
            edited("exposures", outcome="measured", ctf_max_res_angstrom=[0.0, 5.0, 5.0, 5.0]),
            r"above 0 and below 100 angstrom where it is measured\. Got .*0\.0.* for 'e1'",
        ),
        (
            "exposures",
            edited("exposures", outcome="measured", ctf_max_res_angstrom=[5.0, 100.0, 5.0, 5.0]),
            r"below 100 angstrom",
        ),
        ("exposures", edited("exposures", outcome="measured"), r"where it is measured\. Got .*nan"),
        ("exposures", edited("exposures", outcome="pending"), r"NaN unless the outcome is 'measured'"),
        (
            "exposures",
            edited("exposures", started_at=pd.Timestamp("2024-01-01", tz="UTC")),
            r"naive microscope time\. Got times with a time zone",
        ),
        (
            "predictions",
            predictions(["h1"], [1.5]),
            r"predictions\.p_good must be between 0 and 1\. Got .*1\.5",
        ),
        ("predictions", predictions(["h1"], [NAN]), r"given where no CTF resolution is predicted"),
        (
            "predictions",
            predictions(["h1"], [0.5], threshold_angstrom=NAN),
            r"threshold_angstrom must be above 0",
        ),
        (
            "predictions",
            predictions(["h1"], NAN, ctf=-1.0),
            r"ctf_predicted_angstrom must be above 0 and finite",
        ),
        ("predictions", predictions(["h9"], [0.5]), r"must name a row of its parent table\. Got 'h9'"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(table, frame, message):
    with pytest.raises(DataError, match=message):
        small_session(**{table: frame})


def test_a_square_in_two_grids_is_refused():
    holes = pd.DataFrame(
        {
            "hole_id": ["h1", "h2"],
            "patch_id": ["p1", "p2"],
            "square_id": "s1",
            "grid_id": ["g1", "g2"],
            "x_px": 0.0,
            "y_px": 0.0,
        }
    )
    with pytest.raises(DataError, match=r"squares\.square_id must be unique"):
        session_from_holes("x", SessionInfo(format="x"), holes, small_session().exposures.head(0))


def test_p_good_of_wrong_length_is_refused():
    with pytest.raises(InputError, match=r"p_good must have shape \(5,\)\. Got \(4,\)"):
        small_session().with_p_good("m", 6.0, np.zeros(4))


@pytest.mark.parametrize(
    ("ctf", "outcome"),
    [
        (5.0, "measured"),
        (99.9, "measured"),
        (100.0, "failed"),
        (1e5, "failed"),
        (np.inf, "failed"),
        (NAN, "pending"),
    ],
)
def test_the_outcome_follows_from_the_ctf(ctf, outcome):
    assert outcome_of_ctf(ctf)[0] == outcome


def test_typed_tables_have_one_type_whatever_came_in():
    table = typed_table("exposures", small_session().exposures.assign(started_at="2024-01-01 10:00:00"))
    assert table["started_at"].dtype == np.dtype("datetime64[ns]")


def test_how_many_holes_were_chosen_and_nothing_where_no_file_says_it():
    assert small_session().chosen_holes() is None
    chosen = pd.array([True, None, False, True, None], dtype="boolean")
    session = small_session(holes=edited("holes", chosen=chosen))
    assert session.chosen_holes() == 2
    assert session.holes["chosen"].isna().sum() == 2
    none = pd.array([False, None, None, None, None], dtype="boolean")
    assert small_session(holes=edited("holes", chosen=none)).chosen_holes() == 0


def test_what_files_say_beyond_the_tables_goes_with_its_records():
    records = {key: {"Note": key} for key in ("s1", "h1", "h5", "e1", "e5", "an area")}
    session = small_session(vendor_fields=packed(records, "run", "epu"))
    assert session.fields_of("h1") == {"Note": "h1"}
    assert session.fields_of("h2") == {}
    part = session.subset(np.array([True, True, False, False, False]), "part")
    assert [key for key in records if part.fields_of(key)] == ["s1", "h1", "e1", "an area"]
    hidden = with_outcomes_hidden(session)
    assert [key for key in records if hidden.fields_of(key)] == ["s1", "h1", "h5"]


def test_of_several_readers_the_later_ones_word_counts():
    first = packed({"h1": {"Note": "old", "Label": "7"}}, "a.nav", "serialem")
    second = packed({"h1": {"Note": "new"}}, "site.csv", "generic", first)
    session = small_session(vendor_fields=pd.concat([first, second]))
    assert session.fields_of("h1") == {"Note": "new", "Label": "7"}


def test_a_table_that_is_typed_already_is_taken_as_it_is_but_shares_no_change():
    table = small_session().holes
    typed = typed_table("holes", table)
    pd.testing.assert_frame_equal(typed, table)
    typed.loc[0, "x_px"] = -1.0
    assert table.loc[0, "x_px"] != -1.0


@pytest.mark.parametrize(
    "kind", ["a gap in a text", "another index", "another order of columns", "another type"]
)
def test_a_table_that_only_looks_typed_is_checked_and_made_so(kind):
    table = small_session().holes
    if kind == "a gap in a text":
        table = table.assign(patch_id=table["patch_id"].where(table.index != 1))
        with pytest.raises(
            DataError, match=r"holes\.patch_id must have a value in every row. Got none in row 1"
        ):
            typed_table("holes", table)
        return
    changed = {
        "another index": table.set_axis(range(1, len(table) + 1)),
        "another order of columns": table[table.columns[::-1]],
        "another type": table.assign(x_px=table["x_px"].astype(object)),
    }[kind]
    pd.testing.assert_frame_equal(typed_table("holes", changed), typed_table("holes", table))
