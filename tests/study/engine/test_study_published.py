"""The published figures are those the paper prints."""

from __future__ import annotations

import pytest

from cryoscout.study.engine.published import BUDGETS_MIN, TABLE2, TABLE3_VARIANTS, best_published


def test_table_2_as_printed():
    assert TABLE2["random"].good_mean == (2.6, 5.1, 7.3, 9.8)
    assert TABLE2["greedy"].good_mean == (41.8, 69.3, 104.9, 147.9)
    assert TABLE2["offline"].good_std == (0.9, 6.1, 6.7, 4.9)
    assert TABLE2["dqn"].good_mean == (41.7, 86.6, 132.0, 171.4)
    assert TABLE2["dqn-eliminated"].starts_from == "eliminated"
    assert TABLE2["people"].good_mean == (31.9, 77.4, None, None)


def test_the_best_rows_are_taken_among_rows_of_one_start_rule():
    assert best_published("all") == (44.6, 89.3, 132.0, 172.0)
    assert best_published("eliminated") == (47.4, 90.8, 132.9, 174.0)


@pytest.mark.parametrize("row", [*TABLE2.values(), *TABLE3_VARIANTS], ids=lambda row: row.name)
def test_every_row_has_a_mean_and_a_deviation_per_budget_and_a_dagger_says_its_starts(row):
    assert len(row.good_mean) == len(row.good_std) == len(BUDGETS_MIN)
    assert [mean is None for mean in row.good_mean] == [std is None for std in row.good_std]
    assert ("†" in row.name) == (row.starts_from == "eliminated")
