import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.formats.epu.patches import image_shift_runs, patch_ids, runs_of_holes

START = np.datetime64("2025-01-08T12:00:00", "ns")


def _exposures(rows):
    """rows: hole, square, x_um, y_um; one every 10 s."""
    return pd.DataFrame(
        [
            {
                "exposure_id": f"e{index:03d}",
                "hole_id": hole,
                "square_id": square,
                "started_at": START + np.timedelta64(10 * index, "s"),
                "stage_x_um": x_um,
                "stage_y_um": y_um,
            }
            for index, (hole, square, x_um, y_um) in enumerate(rows)
        ],
        columns=["exposure_id", "hole_id", "square_id", "started_at", "stage_x_um", "stage_y_um"],
    )


def test_a_run_is_one_square_at_one_stage_position():
    rows = [("1", "s", 0.0, 0.0), ("2", "s", 0.3, 0.3), ("3", "s", 3.0, 0.0), ("4", "t", 3.0, 0.0)]
    labels = image_shift_runs(_exposures(rows))
    assert labels.tolist() == ["s_run_1", "s_run_1", "s_run_3", "t_run_4"]


def test_drift_is_measured_from_the_first_exposure_of_the_run():
    rows = [("1", "s", 0.4 * step, 0.0) for step in range(4)]
    assert image_shift_runs(_exposures(rows)).tolist() == ["s_run_1"] * 2 + ["s_run_1_2"] * 2
    assert image_shift_runs(_exposures(rows), tolerance_um=2.0).tolist() == ["s_run_1"] * 4


def test_coming_back_to_a_stage_position_is_another_run():
    rows = [("1", "s", 0.0, 0.0), ("2", "s", 9.0, 0.0), ("1", "s", 0.0, 0.0), ("3", "s", 0.0, 0.0)]
    exposures = _exposures(rows)
    labels = image_shift_runs(exposures)
    assert labels.tolist() == ["s_run_1", "s_run_2", "s_run_1_2", "s_run_1_2"]
    assert runs_of_holes(exposures, labels) == {"1": "s_run_1", "2": "s_run_2", "3": "s_run_1_2"}


def test_an_exposure_without_time_or_stage_has_no_run_and_ends_none():
    exposures = _exposures(
        [("1", "s", 0.0, 0.0), ("2", "s", np.nan, 0.0), ("3", "s", 0.0, 0.0), ("4", "s", 0, 0)]
    )
    exposures.loc[3, "started_at"] = pd.NaT
    labels = image_shift_runs(exposures)
    assert labels.tolist() == ["s_run_1", "", "s_run_1", ""]
    assert set(runs_of_holes(exposures, labels)) == {"1", "3"}


def test_far_positions_do_not_overflow():
    assert image_shift_runs(_exposures([("1", "s", 1e300, 0.0), ("2", "s", -1e300, 1e300)])).tolist() == [
        "s_run_1",
        "s_run_2",
    ]


stops = st.lists(
    st.tuples(st.sampled_from("123"), st.sampled_from("st"), st.sampled_from([0.0, 0.2, 5.0]), st.just(0.0)),
    max_size=12,
)


@given(stops, st.integers(0, 12), st.randoms(use_true_random=False))
def test_later_exposures_and_the_order_of_rows_change_no_label(rows, kept, random):
    exposures = _exposures(rows)
    labels = image_shift_runs(exposures)
    assert image_shift_runs(exposures.iloc[:kept]).tolist() == labels[:kept].tolist()
    order = list(range(len(rows)))
    random.shuffle(order)
    assert image_shift_runs(exposures.iloc[order]).tolist() == labels[order].tolist()


HOLES = pd.DataFrame(
    {
        "hole_id": ["101", "102", "99", "103", "200"],
        "square_id": ["s", "s", "s", "s", "t"],
        "x_um": [0.0, 3.0, 6.0, 40.0, 0.0],
        "y_um": 0.0,
    }
)


def test_holes_not_imaged_are_clustered_within_their_square():
    assert patch_ids(HOLES, {}, True, 12.0) == [
        "s_cluster_99",
        "s_cluster_99",
        "s_cluster_99",
        "s_cluster_103",
        "t_cluster_200",
    ]


def test_an_imaged_hole_has_its_run_and_changes_no_other():
    before = patch_ids(HOLES, {}, True, 12.0)
    after = patch_ids(HOLES, {"99": "s_run_99"}, True, 12.0)
    assert after == [*before[:2], "s_run_99", *before[3:]]


@pytest.mark.parametrize(
    ("clusters", "radius_um", "expected"), [(None, None, ""), (True, None, ""), (False, 12.0, "s_hole_101")]
)
def test_without_a_radius_no_patch_is_made_up(clusters, radius_um, expected):
    assert patch_ids(HOLES, {}, clusters, radius_um)[0] == expected


def test_a_hole_without_position_is_alone():
    holes = HOLES.assign(x_um=[np.nan, 0.0, 0.0, 0.0, 0.0])
    assert patch_ids(holes, {}, True, 12.0)[:2] == ["s_hole_101", "s_cluster_99"]
    assert patch_ids(holes.iloc[:0], {}, True, 12.0) == []
