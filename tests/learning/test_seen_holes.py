"""A policy that is judged on holes it was trained on says so; on other holes it says nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learning_samples import quick, random_weights

from cryoscout.learning.policy import LearnedPolicy
from cryoscout.learning.registry import policy_named
from cryoscout.learning.seen_holes import note_on_seen_holes, trained_part
from cryoscout.learning.weights import PolicyFile
from cryoscout.session.builtin import load_builtin
from cryoscout.session.model import Session
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

NOTE = ("mine was trained on holes of this session: the figures flatter it.",)


def simulated(name: str, holes: int = 60) -> Session:
    settings = simulation_named("small").model_copy(update={"holes": holes})
    return to_session(simulate_tables(settings, seed=3), name)


def policy(**notes: object) -> LearnedPolicy:
    settings = quick("dqn")
    weights = random_weights(settings.network, np.random.default_rng(0))
    return LearnedPolicy("mine", PolicyFile(settings, weights, notes))


@pytest.mark.parametrize(
    ("trained", "judged", "is_seen"),
    [
        pytest.param(("y1", "train"), ("y1", "train"), True, marks=pytest.mark.slow),
        (("y1", "train"), ("y1", "val"), False),
        pytest.param(("y1", "train"), ("y1", "all"), True, marks=pytest.mark.slow),
        (("y1", "all"), ("y1", "val"), True),
        pytest.param(("y1", "train"), ("y1-2022", "val"), True, marks=pytest.mark.slow),
        (("y1-2022", "train"), ("y1", "val"), True),
        pytest.param(("y1-2022", "train"), ("y1-2022", "val"), False, marks=pytest.mark.slow),
    ],
)
def test_built_in_splits_overlap_by_the_holes_they_share(trained, judged, is_seen):
    session = load_builtin(judged[0], judged[1])
    part = trained_part(load_builtin(trained[0], trained[1]))
    assert note_on_seen_holes(policy(trained_on=[part]), session) == (NOTE if is_seen else ())
    # A file from before names the session as on the command line; without a split it was the training split.
    split = None if trained[1] == "train" else trained[1]
    assert note_on_seen_holes(policy(sessions=[trained[0]], split=split), session) == (
        NOTE if is_seen else ()
    )


def test_a_stored_session_is_the_same_by_its_name_and_holes():
    one = simulated("one")
    learned = policy(trained_on=[trained_part(simulated("other")), trained_part(one)])
    assert note_on_seen_holes(learned, one) == NOTE
    assert note_on_seen_holes(learned, simulated("third")) == ()
    assert note_on_seen_holes(learned, simulated("one", 80)) == ()
    assert note_on_seen_holes(learned, load_builtin("y1")) == ()


def test_a_copy_of_a_built_in_session_counts_as_it():
    copy = replace(load_builtin("y1", "train"), name="copy")
    assert note_on_seen_holes(policy(trained_on=[trained_part(copy)]), load_builtin("y1", "train")) == NOTE


def test_the_shipped_policy_is_new_to_the_validation_split_alone():
    shipped = policy_named("dqn-y1")
    assert note_on_seen_holes(shipped, load_builtin("y1", "val")) == ()
    assert note_on_seen_holes(shipped, simulated("one")) == ()
    assert "dqn-y1 was trained on" in note_on_seen_holes(shipped, load_builtin("y1", "train"))[0]


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"sessions": ["one.session"], "split": None},
        {"sessions": "y1"},
        {"trained_on": [3, {}, {"dataset": ["y1"], "split": "train"}, {"dataset": "y1", "split": "tran"}]},
        {"sessions": ["y1"], "draws": True},
    ],
    ids=["none", "older file", "no list", "not understood", "draws"],
)
def test_without_outcomes_known_to_be_seen_nothing_is_said(notes):
    assert note_on_seen_holes(policy(**notes), load_builtin("y1", "train")) == ()
    assert note_on_seen_holes(policy(**notes), simulated("one")) == ()


def test_a_planner_has_seen_nothing():
    assert note_on_seen_holes(policy_named("greedy"), load_builtin("y1", "train")) == ()
