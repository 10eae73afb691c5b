import pytest

from cryoscout.core.errors import DataError
from cryoscout.session.joins import join_by_name, leginon_stem


def test_a_join_reports_what_joined_and_what_did_not():
    place, report = join_by_name(["b", "x", "a", "y"], ["a", "b", "c"], "times", "no such hole")
    assert place.tolist() == [1, -1, 0, -1]
    assert (report.found, report.joined, report.not_joined, report.without) == (4, 2, 2, 1)
    assert report.first_not_joined == ("x", "y")
    assert str(report) == "times: 2 of 4 joined; 2 not (no such hole; first: x, y); 1 hole received none"


def test_a_whole_join_gives_no_reason():
    _, report = join_by_name(["a"], ["a"], "times", "no such hole")
    assert (report.why, str(report)) == ("", "times: 1 of 1 joined")


def test_targets_that_stand_twice_are_refused():
    with pytest.raises(DataError, match=r"Names to join to must be unique\. Got 'a' more than once"):
        join_by_name(["a"], ["a", "a"], "times", "")


@pytest.mark.parametrize(
    "derived",
    [
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en",
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-a",
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-DW",
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-a-DW",
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-a-DW.mrc",
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en_crop.png",
        "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-a_crop.png",
    ],
)
def test_derived_images_have_the_name_of_the_raw_one(derived):
    assert leginon_stem(derived) == "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en"


def test_the_version_of_an_exposure_stays():
    assert leginon_stem("21mar02c_00002hl_00005en-a_v01") == "21mar02c_00002hl_00005en_v01"
