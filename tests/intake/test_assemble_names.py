"""Names find their exposures, whatever a pipeline put around them; what finds none is said."""

from __future__ import annotations

from cryoscout.intake.assemble_names import joined_by_name


def test_names_join_as_written_first_then_as_other_programs_write_them():
    ids = ["m1", "m1_Fractions", "FoilHole_1_Data_2_3_20240101_100000"]
    names = ["m1", "m1_Fractions", "FoilHole_1_Data_2_3_20240101_100000_mc2", "m9", "m8"]
    place, report = joined_by_name(names, ["", "", "", "", "m1"], ids, "times of a.csv")
    assert place.tolist() == [0, 1, 2, -1, 0]
    assert str(report) == (
        "times of a.csv: 4 of 5 joined; 1 not (no exposure of a hole has the name; first: m9)"
    )


def test_names_join_that_lost_their_dots_in_motion_correction():
    ids = ["2025-01-02_10.11.12_g1_0001", "2025-01-02_10.11.12_g1_0002"]
    names = [
        "MotionCorr/job002/raw/2025-01-02_10_11_12_g1_0001.mrc",
        "2025-01-02_10_11_12_g1_0002_PS",
        "renamed",
    ]
    place, _ = joined_by_name(names, ["", "", "2025-01-02_10_11_12_g1_0002.mrc"], ids, "results")
    assert place.tolist() == [0, 1, 1]
    # Two exposures that differ in dots alone are not guessed between.
    place, _ = joined_by_name(["a_1_2"], None, ["a.1.2", "a.1_2"], "results")
    assert place.tolist() == [-1]


def test_a_name_without_dots_is_not_that_of_an_exposure_whose_own_name_is_there():
    place, report = joined_by_name(["a_b_0001.mrc", "a.b_0001.mrc"], None, ["a.b_0001"], "results")
    assert place.tolist() == [-1, 0]
    assert report.first_not_joined == ("a_b_0001.mrc",)
    place, _ = joined_by_name(["a_b_0001", "a.b_0001"], None, ["a.b_0001", "a_b_0001"], "results")
    assert place.tolist() == [1, 0]
