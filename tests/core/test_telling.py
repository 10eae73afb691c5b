"""Steps that are told in shares: whole in the end, never more than whole, and nothing lost on the way."""

from __future__ import annotations

import pytest

from cryoscout.core import telling
from cryoscout.core.telling import in_shares, one_step


@pytest.mark.parametrize("shares", [[], [0.25, 0.25], [0.5, 0.5], [0.9, 0.9], [1.0], [0.1] * 10])
def test_a_step_told_in_shares_is_one_step_in_the_end(shares):
    told: list[float] = []
    with one_step(lambda share=1.0: told.append(share)) as step:
        for share in shares:
            step(share)
    assert sum(told) == pytest.approx(1.0)
    assert min(told) > 0.0


def test_what_fails_is_told_no_further():
    told: list[float] = []

    def work() -> None:
        with one_step(lambda share=1.0: told.append(share)) as step:
            step(0.25)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert told == [0.25]


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_items_come_as_they_are_and_are_told_some_at_a_time(count, monkeypatch):
    monkeypatch.setattr(telling, "ITEMS_AT_ONCE", 4)
    told: list[float] = []
    items = list(range(count))
    assert list(in_shares(items, lambda share=1.0: told.append(share), 0.5)) == items
    assert len(told) == -(-count // 4)
    assert sum(told) == pytest.approx(0.5 if count else 0.0)
