"""The recorded order is that of the times, else of names that count up, else it is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.session.builtin import load_builtin
from cryoscout.session.model import Session, SessionInfo, session_from_holes
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from hidden_outcomes import with_outcomes_hidden

MORNING = pd.Timestamp("2024-01-05 09:00:00")
NEVER = None


def session_of(
    exposures: list[tuple[str, int, float | None, str]],
    n_holes: int,
    session_format: str = "epu",
    shots: int = 1,
) -> Session:
    """exposures : (id, hole, minutes after nine o'clock or NEVER known, outcome); holes h00.. two to a patch"""
    hole = [f"h{index:02d}" for index in range(n_holes)]
    rows = pd.DataFrame(exposures, columns=["exposure_id", "hole", "minutes", "outcome"])
    seen: dict[int, int] = {}
    shot = []
    for index in rows["hole"]:
        seen[index] = seen.get(index, 0) + 1
        shot.append(seen[index])
    return session_from_holes(
        "hand-made",
        SessionInfo(format=session_format, shots=shots),
        pd.DataFrame(
            {
                "hole_id": hole,
                "patch_id": [f"p{index // 2:02d}" for index in range(n_holes)],
                "square_id": "s",
                "grid_id": "g",
                "x_px": 0.0,
                "y_px": 0.0,
            }
        ),
        pd.DataFrame(
            {
                "exposure_id": rows["exposure_id"],
                "hole_id": [hole[index] for index in rows["hole"]],
                "shot": shot,
                "started_at": [
                    pd.NaT
                    if minutes is None or np.isnan(minutes)
                    else MORNING + pd.Timedelta(minutes=minutes)
                    for minutes in rows["minutes"]
                ],
                "outcome": rows["outcome"],
                "ctf_max_res_angstrom": np.where(rows["outcome"] == "measured", 4.0, np.nan),
            }
        ),
    )


def test_holes_stand_in_the_order_of_their_times_and_only_those_with_a_result():
    session = session_of(
        [
            ("a", 0, 30.0, "measured"),
            ("b", 1, 10.0, "failed"),
            ("c", 2, 20.0, "pending"),
            ("d", 3, 15.5, "measured"),
        ],
        5,
    )
    order = session.recorded_order()
    assert (order.basis, order.holes.tolist(), order.untimed) == ("times", [1, 3, 0], 0)
    assert order.started_min.tolist() == pytest.approx([20.0, 0.0, np.nan, 5.5, np.nan], nan_ok=True)


def test_a_hole_was_reached_when_its_first_shot_was_taken_whatever_came_of_it():
    exposures = [
        ("a1", 0, 7.0, "pending"),
        ("a2", 0, 30.0, "measured"),
        ("b1", 1, 20.0, "measured"),
        ("b2", 1, 5.0, "none"),
    ]
    order = session_of(exposures, 2, shots=2).recorded_order()
    assert order.holes.tolist() == [0, 1]
    assert order.started_min.tolist() == pytest.approx([0.0, 13.0])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_equal_times_leave_the_tables_order(minutes: list[int]):
    session = session_of(
        [(f"e{hole}", hole, float(minute), "measured") for hole, minute in enumerate(minutes)], len(minutes)
    )
    slowly = sorted(range(len(minutes)), key=lambda hole: (minutes[hole], hole))
    assert session.recorded_order().holes.tolist() == slowly


def timed(n_holes: int, untimed: set[int], session_format: str = "epu") -> Session:
    """Imaged backwards."""
    return session_of(
        [
            (f"e{hole}", hole, NEVER if hole in untimed else float(n_holes - hole), "measured")
            for hole in range(n_holes)
        ],
        n_holes,
        session_format,
    )


def test_a_tenth_of_the_holes_may_lack_a_time_and_comes_last():
    order = timed(20, {3, 7}).recorded_order()
    assert (order.basis, order.untimed) == ("times", 2)
    assert order.holes.tolist() == [hole for hole in range(19, -1, -1) if hole not in (3, 7)] + [3, 7]


def test_with_fewer_times_the_order_is_not_known():
    assert timed(20, {3, 7, 8}).recorded_order() is None


def test_names_that_count_up_stand_in_for_times_and_ten_follows_nine():
    names = ["x_00002sq_9hl_2en", "x_00002sq_9hl_10en", "x_00002sq_10hl_1en", "x_00001sq_11hl_1en"]
    exposures = [(name, hole, NEVER, "measured") for hole, name in enumerate(names)]
    order = session_of(exposures, 4, "leginon").recorded_order()
    assert (order.basis, order.holes.tolist(), order.untimed) == ("names", [3, 0, 1, 2], 4)
    assert session_of(exposures, 4, "smartscope").recorded_order() is None


def test_without_a_result_there_is_no_order():
    assert session_of([("a", 0, 1.0, "pending")], 2).recorded_order() is None
    assert with_outcomes_hidden(load_builtin("y1")).recorded_order() is None


def test_the_order_of_a_simulated_session_is_that_of_its_visits():
    settings = simulation_named("small").model_copy(update={"holes": 60})
    session = to_session(simulate_tables(settings, seed=2), "sim")
    order = session.recorded_order()
    assert (order.basis, order.holes.tolist()) == ("times", list(range(60)))


def test_the_names_of_y1_count_up_as_its_times_do():
    """Why names may stand in: within every patch nothing changes places, and hardly a step to another patch does."""
    session = load_builtin("y1", split="all")
    by_time = session.recorded_order()
    untimed = session.exposures.assign(started_at=np.datetime64("NaT", "ns"))
    by_name = replace(session, exposures=untimed).recorded_order()
    assert (by_time.basis, by_name.basis) == ("times", "names")
    patch = session.tree().patch_of_hole
    for number in range(len(session.patches)):
        in_patch = patch == number
        assert (
            by_time.holes[in_patch[by_time.holes]].tolist() == by_name.holes[in_patch[by_name.holes]].tolist()
        )
    first_min = np.array([by_time.started_min[group[0]] for group in _runs(by_name.holes, patch)])
    assert (np.diff(first_min) > 0).mean() > 0.9


def _runs(holes: np.ndarray, patch: np.ndarray) -> list[np.ndarray]:
    return np.split(holes, np.flatnonzero(np.diff(patch[holes])) + 1)
