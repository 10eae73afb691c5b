"""A slow look at every pair of positions judges what the tree search covers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.formats.clusters import check_radius_um, cluster_positions, notes_on_radius
from examples import share

positions = st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), max_size=60).map(
    lambda pairs: np.array(pairs, dtype=float).reshape(-1, 2)
)


def _distances(points):
    return np.hypot(*(points[:, None, :] - points[None, :, :]).transpose(2, 0, 1))


@settings(max_examples=share(60))
@given(positions, st.floats(0.1, 80))
def test_every_position_is_within_the_radius_of_one_member_of_its_cluster(points, radius_um):
    labels = cluster_positions(points[:, 0], points[:, 1], radius_um)
    assert sorted(set(labels)) == list(range(labels.max(initial=-1) + 1))
    for label in set(labels):
        members = points[labels == label]
        assert _distances(members).max(axis=1).min() <= radius_um * (1 + 1e-12)


@settings(max_examples=share(40))
@given(positions, st.floats(0.5, 40), st.randoms(use_true_random=False))
def test_the_order_of_the_positions_does_not_matter(points, radius_um, random):
    order = list(range(len(points)))
    random.shuffle(order)
    labels = cluster_positions(points[:, 0], points[:, 1], radius_um)
    shuffled = cluster_positions(points[order, 0], points[order, 1], radius_um)
    assert shuffled.tolist() == labels[order].tolist()


def test_a_lattice_takes_few_more_clusters_than_its_area_needs():
    x_um, y_um = (axis.ravel() * 2.6 for axis in np.meshgrid(np.arange(60), np.arange(60)))
    labels = cluster_positions(x_um, y_um, 12.0)
    fewest = (60 * 2.6) ** 2 / (np.pi * 12.0**2)
    assert fewest < labels.max() + 1 < 2 * fewest


def test_positions_far_apart_are_alone_and_equal_ones_together():
    assert cluster_positions([0, 100, 0, 1e9, -1e9], [0, 0, 0, 0, 1e9], 12.0).tolist() == [1, 2, 1, 3, 0]


def test_an_unknown_position_has_no_cluster():
    x_um, y_um = [0.0, np.nan, 1.0, 1e300], [0.0, 0.0, np.inf, 0.0]
    assert cluster_positions(x_um, y_um, 5.0).tolist() == [0, -1, -1, -1]
    assert cluster_positions([], [], 5.0).tolist() == []


@pytest.mark.parametrize("radius_um", [0.0, -1.0, np.nan, np.inf, 2e6])
def test_a_radius_must_be_a_length_in_um(radius_um):
    with pytest.raises(
        InputError,
        match=r"radius_um must be above 0 and at most 1e\+06\. Got .* instead\. Remedy: give it in um",
    ):
        cluster_positions([0.0], [0.0], radius_um)
    with pytest.raises(InputError, match="must be above 0"):
        check_radius_um(radius_um)


def test_positions_must_come_in_pairs():
    with pytest.raises(InputError, match=r"of equal length\. Got shapes \(2,\) and \(1,\) instead"):
        cluster_positions([0.0, 1.0], [0.0], 1.0)


def rows(*holes):
    return pd.DataFrame(list(holes), columns=["hole_id", "square_id", "patch_id", "x_um", "x_px"])


STORED = rows()
NAN = float("nan")


@pytest.mark.parametrize(
    ("format_name", "patch_id", "is_named"),
    [
        ("epu", "7_cluster_12", False),
        ("epu", "7_run_12", True),
        ("epu", "7_hole_12", True),
        ("serialem", "7/cluster3", False),
        ("serialem", "7/group3.1", False),
        ("serialem", "7/group3", True),
        ("generic", "7_cluster_12", True),
        ("smartscope", "7/3", True),
    ],
)
def test_a_note_tells_patches_of_the_format_from_those_that_the_radius_made(format_name, patch_id, is_named):
    notes = notes_on_radius(rows(("h", "7", patch_id, 1.0, NAN)), STORED, format_name)
    assert notes == ["--patch-radius-um does not act on every hole: not on 1 in patches that the format names or "
                     "exposures show"] * is_named  # fmt: skip


def test_a_note_counts_what_is_stored_and_what_has_no_stage_position():
    holes = rows(
        ("a", "s", "", 1.0, NAN),
        ("b", "s", "", NAN, 5.0),
        ("c", "s", "", NAN, NAN),
        ("d", "s", "p", 1.0, 1.0),
    )
    stored = rows(("d", "s", "p", 1.0, 1.0), ("e", "s", "p", 1.0, 1.0))
    assert notes_on_radius(holes, stored, "generic") == [
        "--patch-radius-um does not act on every hole: not on 2 stored with their patches before (--force imports "
        "them anew), 1 with positions in px alone, 1 without a position"
    ]
    assert notes_on_radius(holes.head(1), STORED, "generic") == []
