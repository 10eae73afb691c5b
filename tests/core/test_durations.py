"""Lengths of time as people write them."""

from __future__ import annotations

from datetime import datetime

import pytest

from cryoscout.core.durations import minutes_of, minutes_until, moment_of
from cryoscout.core.errors import InputError

NOW = datetime(2026, 3, 5, 22, 30)


@pytest.mark.parametrize(
    "text",
    ["480", "480.0", "480min", "480 min", "480m", "8h", "8 h", "8:00", "8hours", "7h60min", "8h0", "7.5h30"],
)
def test_eight_hours_in_every_form(text):
    assert minutes_of(text) == 480.0


@pytest.mark.parametrize(
    ("text", "minutes"), [("8h30", 510), ("8h 30 min", 510), ("0:45", 45), ("1.5h", 90), ("-5", -5)]
)
def test_other_lengths(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "h", "eight", "8:60", "8;00", "8h30x", "1d", "8:00:00"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(
        InputError, match=r"A length of time must be minutes, or hours and minutes\. Got .* 8:00"
    ):
        minutes_of(text)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("23:00", 30),
        ("09:00", 630),
        ("9:00", 630),
        ("22:30", 1440),
        ("2026-03-06T09:00", 630),
        ("2026-03-06 09:00", 630),
    ],
)
def test_an_hour_is_the_next_one_to_come(text, minutes):
    assert minutes_until(text, NOW) == minutes


@pytest.mark.parametrize(
    ("now", "minutes"), [("2026-03-05T19:43:17.340", 796.7), ("2026-03-06T08:59:57", 0.05)]
)
def test_minutes_until_an_hour_have_one_digit_and_end_before_it(now, minutes):
    assert minutes_until("09:00", datetime.fromisoformat(now)) == minutes


@pytest.mark.parametrize("text", ["25:00", "nine", "2026-03-06", "9", "09:00:xx"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(InputError, match=r"The end must be an hour of the day, or a date and hour\. Got"):
        minutes_until(text, NOW)


def test_a_moment_that_has_passed_is_refused():
    with pytest.raises(
        InputError, match=r"The end must be later than now, 2026-03-05 22:30\. Got 2026-03-05T09:00"
    ):
        minutes_until("2026-03-05T09:00", NOW)


def test_the_hour_of_an_end_is_the_next_one_to_come():
    now = datetime(2026, 1, 31, 21, 30)
    assert moment_of("09:00", now) == datetime(2026, 2, 1, 9, 0)
    assert moment_of("2026-01-31T09:00", now) == datetime(2026, 1, 31, 9, 0)
    with pytest.raises(InputError, match="must be an hour of the day"):
        moment_of("tomorrow", now)
