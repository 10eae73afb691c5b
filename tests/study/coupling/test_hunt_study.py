"""The study `scavenger-hunt`: what a row holds, and cells that are missing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from cryoscout.coupling.scavenger_hunt import HuntSettings
from cryoscout.study.coupling import hunt
from cryoscout.study.coupling.hunt import FIRST, LOOPS, OWN, ROWS, RULE, SHARES, SPREADS, page, trials
from cryoscout.study.engine.runner import Trial, TrialRow


def made_up(trial: Trial) -> dict[str, Any]:
    labels = {row: None if row == FIRST else 0.6 + 0.01 * place for place, row in enumerate(ROWS)}
    return {
        "places": 100,
        "labels": labels,
        "perception": {row: 0.5 + 0.01 * at for at, row in enumerate(ROWS)},
    }


def test_a_row_has_the_labels_of_each_teacher_and_perception_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = partial(HuntSettings, floors=2, rooms_per_floor=4, places_per_room=5)
    monkeypatch.setattr(hunt, "HuntSettings", small)
    found = hunt.run_one(Trial("", {"room_spread": 4.0, "share": 0.4}, 1))
    assert found["places"] == 24
    assert set(found["labels"]) == set(found["perception"]) == set(ROWS)
    assert found["labels"][FIRST] is None
    assert all(0.0 <= found["labels"][row] <= 1.0 for row in LOOPS)
    assert all(0.0 <= right <= 1.0 for right in found["perception"].values())
    # A regression that is taught its own probabilities stays what it is.
    assert found["labels"][OWN] == found["perception"][FIRST]


def test_the_table_pairs_by_building_and_says_what_is_missing() -> None:
    rows = [TrialRow(trial, 1.0, made_up(trial), None) for trial in trials("quick")]
    found = page(rows, "quick")
    (line,) = [
        line
        for line in found.markdown.splitlines()
        if line.startswith(f"| {SPREADS[2]:g} | {SHARES[0]:.0%} | {RULE} |")
    ]
    assert line.endswith("| 62.0 ± 0.0 (10) | +12.0 [+12.0, +12.0] | 52.0 ± 0.0 (10) | +2.0 [+2.0, +2.0] |")
    assert len(found.rows) == len(SPREADS) * len(SHARES) * len(ROWS)
    assert found.figure_png.startswith(b"\x89PNG")
    assert "above it where rooms spread by 0 with 20% searched (+12.0 [+12.0, +12.0])" in found.markdown
    assert "below it" not in found.markdown
    nothing = page([], "quick")
    assert "has not been run" in nothing.markdown
    assert "missing" in nothing.markdown
    assert nothing.rows[0]["perception_right_mean"] is None
    assert nothing.figure_png.startswith(b"\x89PNG")
