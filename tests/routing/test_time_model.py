"""Minutes of a visit: the published presets, overheads, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.routing.time_model import PRESETS, TimeModel, check_budget_min, time_model_named


def tiers(*minutes: float, **others: float) -> TimeModel:
    names = ("same_patch_min", "new_patch_min", "new_square_min", "new_grid_min")
    return TimeModel(name="own", **dict(zip(names, minutes, strict=True)), **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "minutes"),
    [
        ("cryorl", [2, 5, 10, 20]),
        ("cryorl-printed", [2, 3, 5, 10]),
        ("cryorl-code", [1, 2, 6, 8]),
    ],
)
def test_the_presets_are_the_published_minutes(name: str, minutes: list[float]) -> None:
    model = time_model_named(name)
    assert model.name == name
    assert model.tiers_min().tolist() == minutes
    assert model.tiers_min(shots=4).tolist() == minutes  # no published model charges for a shot
    assert model.setup_min == 0


def test_the_printed_minutes_add_up_to_those_of_the_first_release() -> None:
    increments = PRESETS["cryorl-printed"].tiers_min()
    assert PRESETS["cryorl"].tiers_min().tolist() == np.cumsum(increments).tolist()


def test_overheads_go_where_they_belong() -> None:
    model = tiers(2, 5, 10, 20, per_square_overhead_min=1.5, extra_shot_min=0.25, setup_min=30)
    assert model.tiers_min().tolist() == [2, 5, 11.5, 21.5]  # the set-up is of the session, not of a visit
    assert model.tiers_min(shots=3).tolist() == [2.5, 5.5, 12, 22]


@given(
    minutes=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    overhead=st.floats(0, 10),
    extra=st.floats(0, 5),
    shots=st.integers(1, 6),
)
def test_tiers_are_taken_exactly_when_they_do_not_decrease(
    minutes: list[float], overhead: float, extra: float, shots: int
) -> None:
    if minutes == sorted(minutes):
        got = tiers(*minutes, per_square_overhead_min=overhead, extra_shot_min=extra).tiers_min(shots)
        assert got.dtype == np.float64
        assert np.all(np.diff(got) >= 0)
    else:
        with pytest.raises(ValidationError, match="tiers must not decrease from same patch to new grid"):
            tiers(*minutes)


def test_equal_tiers_are_allowed() -> None:
    assert tiers(2, 2, 2, 2).tiers_min().tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("minutes", [(5, 2, 10, 20), (2, 10, 5, 20), (2, 5, 20, 10)])
def test_each_decreasing_pair_is_refused_with_what_was_given(minutes: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match=rf"Got \({minutes[0]:.1f}, {minutes[1]:.1f}, .* instead"):
        tiers(*minutes)


@pytest.mark.parametrize(
    "minutes",
    [(0, 5, 10, 20), (-1, 5, 10, 20), (np.nan, 5, 10, 20), (2, 5, np.nan, 20), (2, 5, 10, np.inf)],
)
def test_minutes_must_be_finite_and_a_visit_must_take_time(minutes: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        tiers(*minutes)


@pytest.mark.parametrize("field", ["per_square_overhead_min", "extra_shot_min", "setup_min"])
@pytest.mark.parametrize("minutes", [-0.1, np.nan, np.inf])
def test_overheads_must_be_finite_and_not_negative(field: str, minutes: float) -> None:
    with pytest.raises(ValidationError, match=field):
        tiers(2, 5, 10, 20, **{field: minutes})


def test_an_unknown_name_offers_the_nearest() -> None:
    message = (
        r"The time model must be one of cryorl, cryorl-code, cryorl-printed, fitted, y1-looks-as-sketched\. "
        r"Got 'cryorl-coed' "
        r"instead\. Did you mean 'cryorl-code'\?"
    )
    with pytest.raises(UnknownNameError, match=message) as caught:
        time_model_named("cryorl-coed")
    assert caught.value.nearest == "cryorl-code"


@pytest.mark.parametrize("budget_min", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_a_budget_must_be_a_positive_number(budget_min: float) -> None:
    with pytest.raises(InputError, match=r"positive number of minutes\. Got .* Remedy: .*--budget-min 480"):
        check_budget_min(budget_min)


def test_a_budget_comes_back_as_a_float() -> None:
    assert isinstance(check_budget_min(480), float)
    assert check_budget_min(0.5) == 0.5
