"""A folder of EPU that is read on: the runs of what comes in any order, and which file counts of several."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.formats.epu.files import FoundFile, Listing
from cryoscout.formats.epu.followed import _StoredRuns
from cryoscout.formats.epu.patches import image_shift_runs, runs_of_holes
from cryoscout.formats.records import FileStamp, ReadExposure
from examples import share

COLUMNS = ["exposure_id", "hole_id", "square_id", "started_at", "stage_x_um", "stage_y_um"]

exposures = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3", "4"]),
        st.sampled_from(["7", "8"]),
        st.one_of(st.none(), st.integers(0, 12)),
        st.sampled_from([0.0, 0.3, 0.6, 5.0, float("nan")]),
    ),
    max_size=14,
)


def read_exposures(rows):
    return [
        ReadExposure(f"e{number}", hole, square, np.datetime64("NaT" if at is None else at, "ns"), x_um, 0.0)
        for number, (hole, square, at, x_um) in enumerate(rows)
    ]


def as_rows(read):
    return [
        (
            int(each.started_at.astype(np.int64)),
            each.exposure_id,
            each.hole_id,
            each.square_id,
            each.stage_x_um,
            0.0,
        )
        for each in read
    ]


def labels_of_everything(read):
    """Hole id -> label, by the labels of all exposures together."""
    table = pd.DataFrame(
        [tuple(getattr(each, name) for name in COLUMNS) for each in read], columns=COLUMNS
    ).astype({"started_at": "datetime64[ns]", "stage_x_um": "float64", "stage_y_um": "float64"})
    return runs_of_holes(table, image_shift_runs(table))


@settings(max_examples=share(200))
@given(
    rows=exposures, cuts=st.lists(st.integers(0, 14), max_size=3), random_=st.randoms(use_true_random=False)
)
def test_runs_that_go_on_are_those_of_everything_at_once(rows, cuts, random_):
    read = read_exposures(rows)
    random_.shuffle(read)
    stored, so_far = _StoredRuns([]), []
    borders = [0, *sorted(min(cut, len(read)) for cut in cuts), len(read)]
    for first, end in itertools.pairwise(borders):
        new = read[first:end]
        expected = labels_of_everything([*so_far, *new])
        holes = {each.hole_id for each in new}
        assert stored.labels_with(new) == {hole: label for hole, label in expected.items() if hole in holes}
        so_far += new
        stored.add(as_rows(new))
    again = _StoredRuns(as_rows(read))
    assert again.labels_with(read) == stored.labels_with(read) == labels_of_everything(read)


def found(key):
    return FoundFile(f"/epu/{key}", key, FileStamp(1, 1), "7")


EXPOSURE = "FoilHole_1_Data_2_3_20250303_100000.xml"


@given(
    order=st.permutations(["", "Data/", "Images-Disc1/GridSquare_7/Data/", "Images-Disc2/GridSquare_7/Data/"])
)
def test_of_copies_of_an_exposure_the_same_counts_in_whatever_order_they_come(order):
    listing = Listing()
    counted = [listing.take_image(found(folder + EXPOSURE), EXPOSURE) for folder in order]
    assert listing.files.exposures[EXPOSURE[:-4]][0].key == EXPOSURE
    assert counted[order.index("")]
    assert listing.left_out["copies of an exposure in another folder"] == 3


@given(order=st.permutations(["100000", "100001", "100002"]))
def test_of_images_of_a_hole_the_newest_counts_in_whatever_order_they_come(order):
    listing = Listing()
    names = [f"FoilHole_1_20250303_{time}.xml" for time in order]
    for name in names:
        listing.take_image(found(name), name)
    assert listing.files.hole_images["1"].key == "FoilHole_1_20250303_100002.xml"
    assert listing.left_out["older images of a hole imaged again"] == 2


def test_a_file_that_has_changed_replaces_what_was_known_of_it():
    listing = Listing()
    for name in (EXPOSURE, "FoilHole_1_20250303_100000.xml"):
        assert listing.take_image(found(name), name)
        changed = FoundFile(f"/epu/{name}", name, FileStamp(2, 2), "7")
        assert listing.take_image(changed, name)
    assert listing.files.exposures[EXPOSURE[:-4]][0].stamp == FileStamp(2, 2)
    assert listing.files.hole_images["1"].stamp == FileStamp(2, 2)
    assert not listing.left_out
