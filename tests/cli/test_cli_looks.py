"""`--looks charged` of replay and report on the built-in session."""

from __future__ import annotations

import json

import pytest

COMMON = "replay y1 --budget-min 30 --starts 2 --crossing drop --time-model y1-looks-as-sketched --json"


def replayed(cli, options):
    answer = cli(f"{COMMON} {options}")
    assert answer.code == 0
    return json.loads(answer.out)


def test_looks_that_are_charged_hide_what_was_not_looked_at(cli):
    found = replayed(cli, "--looks charged")
    assert found["looks"] == "charged"
    assert list(found["policies"]) == [
        "as recorded",
        "look-first@combined",
        "look-greedy@combined",
        "explore@combined",
    ]
    first = found["policies"]["look-first@combined"]
    assert first["good_mean"] == [0.0]  # looking alone takes longer
    assert first["squares_looked_mean"][0] + first["patches_looked_mean"][0] > 5
    for row in found["policies"].values():
        assert row["good_mean"][0] <= row["bound_mean"][0]


def test_without_the_option_looks_are_free(cli):
    found = replayed(cli, "--policies index")
    assert found["looks"] == "free"
    assert "squares_looked_mean" not in found["policies"]["index"]
    charged = replayed(cli, "--policies index --looks charged")
    assert charged["policies"]["index"]["bound_mean"][0] <= found["policies"]["index"]["bound_mean"][0]
    assert charged["policies"]["index"]["squares_looked_mean"] == [0.0]  # it images what is seen


def test_other_words_for_looks_are_refused(cli):
    answer = cli(f"{COMMON} --looks paid")
    assert answer.code == 2
    assert "--looks must be one of charged, free. Got 'paid' instead" in answer.err


@pytest.mark.slow
def test_a_report_charges_looks_where_it_is_told_to(cli, tmp_path):
    common = f"report y1 -o {tmp_path / 'y1.html'} --budget-min 30 --starts 1 --time-model y1-looks-as-sketched --json"
    charged = cli(f"{common} --looks charged --policies look-greedy")
    assert charged.code == 0
    charged = json.loads(charged.out)
    assert charged["looks"] == "charged"
    (row,) = [each for name, each in charged["policies"].items() if name.startswith("look-greedy")]
    assert row["patches_looked_mean"] > 0
    assert row["good_mean"] <= charged["bound_mean"]
    assert "Looks are charged" in (tmp_path / "y1.html").read_text(encoding="utf-8")
    free = cli(f"{common} --force --policies index")
    assert free.code == 0
    free = json.loads(free.out)
    assert free["looks"] == "free"
    assert "patches_looked_mean" not in next(iter(free["policies"].values()))
