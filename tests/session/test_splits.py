import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.session.splits import folds_by, hold_out, label_fraction, split_by, split_by_class

LEVELS = st.lists(st.integers(0, 8), min_size=2, max_size=60).filter(lambda ids: len(set(ids)) > 1)


@given(LEVELS, st.floats(0.01, 0.99), st.integers(0, 1000))
def test_a_split_keeps_members_together_and_leaves_neither_part_empty(ids, fraction, seed):
    part = split_by(ids, fraction, np.random.default_rng(seed))
    assert {part[np.array(ids) == member].mean() for member in set(ids)} == {0.0, 1.0}
    members = len(set(ids))
    inside = len({member for member, chosen in zip(ids, part, strict=True) if chosen})
    assert inside == min(max(1, round(fraction * members)), members - 1)


@given(LEVELS, st.floats(0.01, 0.99), st.integers(0, 1000))
def test_a_split_among_some_holes_is_that_of_them_alone(ids, fraction, seed):
    rng = np.random.default_rng(seed)
    level, among = np.array(ids), rng.random(len(ids)) < 0.7
    if len(set(level[among])) < 2:
        return
    part = split_by(level, fraction, np.random.default_rng(seed), among=among)
    assert not part[~among].any()
    alone = split_by(level[among], fraction, np.random.default_rng(seed))
    np.testing.assert_array_equal(part[among], alone)


@given(LEVELS, st.floats(0.01, 0.99), st.integers(0, 1000))
def test_the_members_chosen_are_the_first_of_a_shuffle_of_their_names(ids, fraction, seed):
    """So that which holes an earlier training held out can still be told."""
    part = split_by(ids, fraction, np.random.default_rng(seed))
    shuffled = np.random.default_rng(seed).permutation(np.unique(ids))
    count = min(max(1, round(fraction * len(shuffled))), len(shuffled) - 1)
    np.testing.assert_array_equal(part, np.isin(ids, shuffled[:count]))


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.floats(0.0, 0.99), st.integers(0, 1000))
def test_a_split_by_class_leaves_every_class_something(labels, share, seed):
    whole = np.array(labels)
    part = split_by_class(whole, share, np.random.default_rng(seed))
    assert not part[whole == -1].any()
    for label in set(labels) - {-1}:
        n = int((whole == label).sum())
        assert int(part[whole == label].sum()) == min(round(share * n), n - 1)


def test_a_split_by_class_does_not_change_with_what_is_unlabelled():
    labels = np.arange(60) % 3 - 1
    part = split_by_class(labels, 0.4, np.random.default_rng(0))
    alone = split_by_class(labels[labels >= 0], 0.4, np.random.default_rng(0))
    np.testing.assert_array_equal(part[labels >= 0], alone)


@given(LEVELS, st.integers(0, 1000))
def test_folds_keep_members_together_and_are_even(ids, seed):
    fold = folds_by(ids, 2, np.random.default_rng(seed))
    fold_of_member = {member: set(fold[np.array(ids) == member]) for member in set(ids)}
    assert all(len(folds) == 1 for folds in fold_of_member.values())
    sizes = np.bincount([folds.pop() for folds in fold_of_member.values()], minlength=2)
    assert abs(sizes[0] - sizes[1]) <= 1


def test_the_same_seed_gives_the_same_part():
    ids = np.arange(100) // 7
    first, second = (split_by(ids, 0.3, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != split_by(ids, 0.3, np.random.default_rng(6))).any()


def test_whole_fractions_take_all_or_nothing():
    rng = np.random.default_rng(0)
    assert split_by([1, 2, 3], 1.0, rng).all()
    assert not split_by([1, 2, 3], 0.0, rng).any()


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(0, 100))
def test_fewer_labels_of_one_seed_are_among_the_more(one, other, seed):
    candidates = np.random.default_rng(seed + 1).random(50) < 0.6
    few, many = (
        label_fraction(candidates, share, np.random.default_rng(seed)) for share in sorted((one, other))
    )
    assert not (few & ~many).any()
    assert not (many & ~candidates).any()


def test_a_tiny_fraction_still_labels_one_hole():
    assert label_fraction(np.ones(10, dtype=bool), 0.001, np.random.default_rng(0)).sum() == 1
    assert label_fraction(np.ones(10, dtype=bool), 0.0, np.random.default_rng(0)).sum() == 0


def test_fractions_and_folds_out_of_range_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"fraction must be between 0 and 1\. Got 1\.5"):
        split_by([1, 2], 1.5, rng)
    with pytest.raises(InputError, match=r"at least 2 members to be split\. Got 1"):
        split_by([1, 1], 0.5, rng)
    with pytest.raises(InputError, match=r"fraction must be between 0 and 1\. Got -0\.1"):
        label_fraction(np.ones(3, dtype=bool), -0.1, rng)
    with pytest.raises(InputError, match=r"between 2 and 3, the members\. Got 4"):
        folds_by([1, 2, 3], 4, rng)


def test_labels_are_held_out_by_whole_patches_where_every_class_keeps_some():
    labels = np.tile([0, 1, -1], 40)
    patch = np.repeat(np.arange(12), 10)
    held = hold_out(labels, patch, 0.25, np.random.default_rng(0))
    assert not held[labels == -1].any()
    for each in np.unique(patch):
        told = (patch == each) & (labels != -1)
        assert held[told].all() or not held[told].any()
    assert len(np.unique(patch[held])) == 3


def test_where_whole_patches_would_take_a_class_single_labels_are_held_out():
    labels, patch = np.repeat([0, 1], 20), np.repeat([0, 1], 20)
    held = hold_out(labels, patch, 0.25, np.random.default_rng(0))
    assert held[:20].sum() == held[20:].sum() == 5
