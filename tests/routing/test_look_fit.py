"""Looks and moves told apart, on the public session and on times that are known."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.core.errors import DataError
from cryoscout.routing.look_fit import fit_parted_times
from cryoscout.routing.times import fitted_times, parted_times, time_model_for
from cryoscout.session.builtin import builtin_looks, load_builtin


def test_the_public_session_parts_moves_from_looks():
    session = load_builtin("y1", "val")
    raw, parted = fitted_times(session), parted_times(session)
    assert raw.seconds.tolist() == [91.0, 185.0, 185.0, 193.0]
    assert parted.tiers.seconds.tolist() == [91.0, 100.0, 100.0, 108.0]
    assert parted.tiers.events.tolist() == raw.events.tolist() == [3817, 171, 6, 22]
    assert parted.with_looks.tolist() == [0, 171, 6, 22]  # a step within a patch holds no look
    assert parted.looks.tolist() == [437, 78, 64]
    assert parted.look_s[:2].tolist() == [85.0, 192.0]
    assert parted.look_events[:2].tolist() == [201, 42]
    model, notes = time_model_for(session, "fitted", parts_looks=True)
    assert (model.patch_look_min, model.square_look_min) == (85 / 60, 192 / 60)
    assert any(
        "Looks take 85 s at a patch (201 steps), 192 s at a square (42 steps)" in note for note in notes
    )
    unparted, _ = time_model_for(session, "fitted")
    assert unparted == raw.time_model


def test_the_looks_of_the_public_session_are_those_of_its_places():
    looks = builtin_looks()
    assert looks["level"].value_counts().to_dict() == {"patch": 437, "square": 78, "grid": 64}
    session = load_builtin("y1", "all")
    assert session.patches["looked"].all()
    assert session.squares["looked"].all()
    first = session.exposures["started_at"].min()
    assert session.squares["looked_at"].min() < first


def made(looks=True, patches=12, look_s=80.0):
    """Exposures of 60 s; before each patch an optional look, then a move of 30 s."""
    started, patch, looked, now = [], [], [], 0.0
    for number in range(patches):
        if looks:
            looked += [now, now + look_s]
            now += 2 * look_s
        for _ in range(5):
            started.append(now)
            patch.append(number)
            now += 60.0
        now += 30.0
    ids = np.array(patch)
    one = np.zeros(len(ids), dtype=int)
    holes = np.arange(len(ids))
    return np.array(started), ids, one, one, holes, np.array(looked), np.zeros(len(looked), dtype=np.int64)


def test_a_tier_is_what_a_step_takes_less_its_looks():
    parted = fit_parted_times(*made())
    assert parted.look_s[0] == 80.0
    assert parted.tiers.seconds[:2].tolist() == [60.0, 90.0]
    assert any("No look at a square has a time" in warning for warning in parted.warnings)
    assert parted.look_s[1] == pytest.approx(60.0 * 3.3 / 1.52)  # filled


def in_ordinary_order(squares=12, patches=4, exposures=5):
    """A square's look of 120 s, then of each patch its look of 80 s and exposures of 60 s; no move takes time."""
    started, patch, square, looked, level, now = [], [], [], [], [], 0.0
    for at_square in range(squares):
        looked.append(now)
        level.append(1)
        now += 120.0
        for at_patch in range(patches):
            looked.append(now)
            level.append(0)
            now += 80.0
            for _ in range(exposures):
                started.append(now)
                patch.append(at_square * patches + at_patch)
                square.append(at_square)
                now += 60.0
    holes = np.arange(len(started))
    ids = np.array(patch), np.array(square), np.zeros(len(started), dtype=int), holes
    return np.array(started), *ids, np.array(looked), np.array(level, dtype=np.int64)


def test_looks_of_which_none_follows_another_of_its_level_are_taken_off_the_tiers():
    parted = fit_parted_times(*in_ordinary_order())
    assert parted.tiers.seconds[:3].tolist() == [60.0, 60.0, 60.0]
    assert parted.look_s[:2].tolist() == [80.0, 120.0]
    assert parted.look_events[:2].tolist() == [48, 12]
    assert (parted.time_model.patch_look_min, parted.time_model.square_look_min) == (80 / 60, 2.0)
    said = " ".join(parted.warnings)
    assert "a look is the time to the exposure after it: 80 s" in said
    assert "a look is the time to the next look of another level: 120 s" in said


def test_a_filled_look_is_in_no_tier_because_its_step_is_a_gap():
    started, *ids, looked, level = in_ordinary_order(squares=12, patches=1)
    # A night follows every square's look: no step measures it.
    night_s = 4 * 3600.0
    nights = np.cumsum(level == 1)
    square_of_exposure = ids[1] + 1
    parted = fit_parted_times(
        started + night_s * square_of_exposure, *ids, looked + night_s * (nights - (level == 1)), level
    )
    assert parted.look_s[1] == pytest.approx(60.0 * 3.3 / 1.52)
    assert parted.tiers.events.tolist() == [48, 0, 11, 0]
    assert len(parted.tiers.gaps_s) == 11  # every step that holds such a look
    assert any("No look at a square has a step after it" in warning for warning in parted.warnings)


def test_what_is_left_out_of_the_times_is_said_with_looks_parted_too():
    session = load_builtin("y1", "val")
    _, raw = time_model_for(session, "fitted")
    _, parted = time_model_for(session, "fitted", parts_looks=True)
    left_out = [note for note in raw if "left out" in note]
    assert left_out
    assert all(note in parted for note in left_out)


def test_looks_that_overlap_never_make_a_step_negative():
    started, patch, square, grid, hole, looked, level = made()
    parted = fit_parted_times(started, patch, square, grid, hole, np.repeat(looked, 4), np.repeat(level, 4))
    assert (parted.tiers.seconds > 0).all()


def test_looks_without_times_are_said():
    with pytest.raises(DataError, match="Looks must have a time"):
        fit_parted_times(*made(looks=False))
