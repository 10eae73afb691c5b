"""Held-out patches: whole, never trained on, and routes on them judged against the bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import even_session, quick, random_policy, random_session, state_by_state

from cryoscout.core.errors import InputError
from cryoscout.learning.batch_env import TrainingSession
from cryoscout.learning.held_out import (
    BUDGET_SHARES,
    STARTS,
    random_parts,
    share_of_bound,
    split_patches,
    trials_of,
)
from cryoscout.routing.elimination import eliminated_holes
from cryoscout.routing.replay import Truth
from examples import share


@settings(max_examples=share(40))
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 0.99))
def test_whole_patches_are_held_out_and_nothing_is_lost(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    session = random_session(rng, 30, share_imaged=0.2, share_allowed=0.8)
    free = session.problem.available()
    patches = np.unique(session.problem.patch_of_hole[free])
    if len(patches) < 2:
        return
    kept, held = split_patches(session, share, rng)
    assert held is not None
    a, b = kept.problem.available(), held.problem.available()
    assert not (a & b).any()
    np.testing.assert_array_equal(a | b, free)
    of_a, of_b = (set(session.problem.patch_of_hole[mask]) for mask in (a, b))
    assert of_a
    assert of_b
    assert not of_a & of_b
    assert len(of_b) == min(max(round(share * len(patches)), 1), len(patches) - 1)


def test_without_a_share_nothing_is_held_out() -> None:
    session = even_session()
    kept, held = split_patches(session, 0.0, np.random.default_rng(0))
    assert kept is session
    assert held is None


def test_one_patch_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"two patches or more, one of them held out\. Got 1 instead"):
        split_patches(even_session(1, 1, 1), 0.25, np.random.default_rng(0))


def test_random_parts_are_whole_patches_of_the_session_and_can_be_started_in() -> None:
    session = random_session(np.random.default_rng(3), 40, share_imaged=0.1, share_allowed=0.9)
    free = session.problem.available()
    parts = random_parts(session, 50, np.random.default_rng(0))
    assert len(parts) == 50
    sizes = set()
    for part in parts:
        mine = part.problem.available()
        assert not (mine & ~free).any()
        assert mine.sum() >= 2
        patches = set(session.problem.patch_of_hole[mine])
        np.testing.assert_array_equal(mine, free & np.isin(session.problem.patch_of_hole, list(patches)))
        sizes.add(len(patches))
    assert len(sizes) > 3
    assert random_parts(session, 0, np.random.default_rng(0)) == [session]
    lone_holes = random_parts(even_session(1, 1, 4, 1), 50, np.random.default_rng(0))
    assert min(part.problem.available().sum() for part in lone_holes) == 2


def test_trial_routes_have_four_budgets_and_a_bound_that_no_policy_exceeds() -> None:
    session = even_session(n_grids=4)
    for elimination in (True, False):
        made = quick(elimination=elimination, budget_min=80.0)
        trials = trials_of([session, session], made, np.random.default_rng(0))
        assert [trial.session.problem.budget_min for trial in trials] == [20.0, 40.0, 60.0, 80.0] * 2
        assert tuple(trial.session.problem.budget_min / 80.0 for trial in trials[:4]) == BUDGET_SHARES
        for trial in trials:
            assert len(trial.starts) == len(trial.bound) == STARTS
            assert trial.session.problem.available()[trial.starts].all()
            expected = eliminated_holes(session.problem.with_budget(trial.session.problem.budget_min))
            if not elimination:
                expected = session.problem.available()
            np.testing.assert_array_equal(trial.session.problem.available(), expected)
        for seed in range(4):
            share = share_of_bound(trials, made, state_by_state(random_policy(made, seed)._network))
            assert 0.0 < share <= 1.0


def test_a_bound_counts_the_visit_that_crosses_the_budget_as_the_routes_do() -> None:
    """Judged as dropped, a budget that holds one visit would give a bound of 1 and routes of 2."""
    session = even_session(1, 1, 2, 4)
    dropped = replace(session, problem=replace(session.problem, crossing="drop"))
    made = quick(elimination=False, budget_min=8.0)
    trials = trials_of([dropped], made, np.random.default_rng(0))
    assert trials[0].bound.max() == 2.0  # 2 minutes hold one visit to the minute, and one more crosses
    assert share_of_bound(trials, made, state_by_state(random_policy(made)._network)) <= 1.0


def test_sessions_that_draw_are_judged_by_their_outcomes_or_by_one_draw_where_some_lack() -> None:
    session = even_session()
    drawing = TrainingSession(session.problem, session.truth, draws=True)
    for trial in trials_of([drawing], quick(), np.random.default_rng(0)):
        assert not trial.session.draws
        np.testing.assert_array_equal(trial.session.truth.good, session.truth.good)
    nothing = Truth(np.zeros(32), np.zeros(32, dtype=bool))
    drawn = trials_of(
        [TrainingSession(session.problem, nothing, draws=True)], quick(), np.random.default_rng(0)
    )
    assert all(not trial.session.draws and trial.session.truth.measured.all() for trial in drawn)
    assert drawn[0].session.truth.good.sum() > 5
    made = quick()
    scores = state_by_state(random_policy(made)._network)
    assert share_of_bound(drawn, made, scores) == share_of_bound(drawn, made, scores) <= 1.0
