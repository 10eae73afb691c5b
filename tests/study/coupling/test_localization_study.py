"""The toy examples: where the route's rule is right and the classifier is not, and where it is the other way round."""

import numpy as np
import pytest

from cryoscout.study.coupling.examples import EXAMPLES
from cryoscout.study.coupling.localization import COSTS_PER_LENGTH, DRAWN_AT, STUDY, page, run_one, trials
from cryoscout.study.engine.runner import TrialRow


def _result(example, cost):
    return run_one(
        next(t for t in trials("quick") if t.parameters == {"example": example, "cost_per_length": cost})
    )


@pytest.mark.parametrize("example", ["path planning", "localization"])
def test_the_route_is_right_where_the_classifier_is_wrong(example):
    result = _result(example, DRAWN_AT)
    assert result["classifier"] == 0.75
    assert result["accuracy"] == 1.0
    assert (result["mixed"], result["inconsistency"]) == (0, 0.0)


def test_where_labels_are_not_local_the_route_spoils_a_right_classifier():
    result = _result("labels that are not local", DRAWN_AT)
    assert result["classifier"] == 1.0
    assert result["accuracy"] < 1.0


def test_states_of_a_part_are_nearer_to_each_other_than_to_others():
    for example in EXAMPLES.values():
        away = np.hypot(*(example.xy[:, None] - example.xy[None]).transpose(2, 0, 1))
        for part in set(example.part.tolist()):
            inside = example.part == part
            assert away[np.ix_(inside, inside)].max() < away[np.ix_(inside, ~inside)].min()


def test_the_page_shows_every_row_and_what_is_missing():
    known = {"route": list(range(12)), "accuracy": 1.0, "classifier": 0.75, "inconsistency": 0.0, "switches": 2,
             "mixed": 0, "most_mixed": 1, "tight": False}  # fmt: skip
    made = trials("quick")
    assert len(made) == len(EXAMPLES) * len(COSTS_PER_LENGTH)
    rows = [
        TrialRow(trial, 1.0, known if at else None, None if at else "killed") for at, trial in enumerate(made)
    ]
    shown = page(rows, "quick")
    assert "| path planning | 0.05 | 75 % | 100 % | 0.00 | 2 | 0 of at most 1 |" in shown.markdown
    assert "| path planning | 0 | missing |" in shown.markdown
    assert len(shown.rows) == len(rows)
    assert shown.figure_png.startswith(b"\x89PNG")
    assert STUDY.trials is trials
