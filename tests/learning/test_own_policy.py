"""A policy of the user's own, named on the command line as module:Class or file.py:Class."""

from __future__ import annotations

import pytest

from cryoscout.advice.compare import ReplayRequest, replay_session
from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.learning.registry import policy_and_prediction, policy_named
from cryoscout.routing.policies.base import OwnPolicy
from cryoscout.session.named import load_session
from cryoscout.testing import check_policy

SUREST = """
import helper_beside
from cryoscout.core.ties import first_of_the_best
from cryoscout.routing.policies.base import STOP, OwnPolicy


class Surest(OwnPolicy):
    name = "surest"

    def next_hole(self, observation):
        holes = self.candidates(observation)
        return int(holes[first_of_the_best(self.problem.prior_p_good[holes])]) if len(holes) else STOP


class Bare:
    name = "bare"

    def next_hole(self, observation):
        return -1


class Needs(OwnPolicy):
    def __init__(self, what):
        self.what = what


NUMBER = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "my policies"
    place.mkdir()
    (place / "own_surest.py").write_text(SUREST, encoding="utf-8")
    (place / "helper_beside.py").write_text("", encoding="utf-8")
    (place / "own_broken.py").write_text("x = 1\ny = 1 / 0\n", encoding="utf-8")
    (place / "own_unwritten.py").write_text("def f(:\n", encoding="utf-8")
    (place / "own_needs.py").write_text("import no_such_package_at_all\n", encoding="utf-8")
    monkeypatch.chdir(place)
    return place


def test_a_class_in_a_file_keeps_the_contract_of_policies(folder):
    check_policy(lambda: policy_named("own_surest.py:Surest"))


@pytest.mark.parametrize("where", ["own_surest:Surest", "own_surest.py:Surest", "./own_surest.py:Surest"])
def test_a_class_in_a_module_or_file_is_a_policy_like_any_other(folder, where):
    outcome = replay_session(
        load_session("y1", "val"),
        ReplayRequest(budgets_min=(60.0,), policies=(f"{where}@res50", "greedy"), starts=2),
    )
    assert outcome.rows[f"{where}@res50"].prediction == "res50"
    assert outcome.rows[f"{where}@res50"].good_mean[0] > 0


def test_its_prediction_is_named_as_that_of_any_other():
    assert policy_and_prediction("mine.py:Mine@combined") == ("mine.py:Mine", "combined")
    assert policy_and_prediction("some/folder/mine.py:Mine@flat") == ("some/folder/mine.py:Mine", "flat")
    assert policy_and_prediction("package.module:Mine") == ("package.module:Mine", None)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("no_such_module:Mine", "no module 'no_such_module'"),
        ("no_such_file.py:Mine", "no file no_such_file.py"),
        ("own_broken:Mine", "ZeroDivisionError"),
        ("own_broken.py:Mine", "line 2 of "),
        ("own_unwritten.py:Mine", "line 1 of "),
        ("own_needs.py:Mine", "no_such_package_at_all"),
        ("own_needs:Mine", "no_such_package_at_all"),
        (
            "own_surest:Bare",
            "Missing: kind, default_prediction, drops_crossing, restarts, reset, plan",
        ),
        ("own_surest:Needs", "without arguments"),
        ("own_surest:NUMBER", "must be a class"),
    ],
)
def test_what_is_no_policy_says_what_it_lacks(folder, spec, said):
    with pytest.raises(InputError, match="must") as error:
        policy_named(spec)
    assert said in str(error.value)


def test_a_file_without_its_class_says_how_to_name_it(folder):
    (folder / "mine.py").write_text("class Mine: ...\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"named with its class. Got mine.py alone instead. Remedy: mine.py:Name"
    ):
        policy_named("mine.py")


def test_the_check_says_what_it_must_be_given(folder):
    class WithSettings(OwnPolicy):
        def __init__(self, step):
            self.step = step

    said = r"TypeError: .*'step' from WithSettings instead. Remedy: .* check_policy\(lambda: WithSettings\(\.\.\.\)\)"
    for wrong in (WithSettings, WithSettings(1)):
        with pytest.raises(
            InputError, match=said if wrong is WithSettings else "must be given what makes a policy"
        ):
            check_policy(wrong)


def test_a_name_that_is_nearly_right_gets_the_nearest(folder):
    with pytest.raises(UnknownNameError, match="Surest"):
        policy_named("own_surest:Surst")


def test_settings_are_not_for_own_policies(folder):
    with pytest.raises(InputError, match="without settings"):
        policy_named("own_surest:Surest", beta=1)
