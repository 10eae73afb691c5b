"""The study `ssl2rl`: what it runs first, its aims, its rows, and cells that are missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoscout.study.coupling import ssl2rl
from cryoscout.study.coupling.ssl2rl import STUDY, TEN_PER_CENT, Found, page, rows_json, trials
from cryoscout.study.coupling.ssl2rl_cases import (
    BELIEF,
    EXACT,
    FIXMATCH,
    ITERATIVE,
    OWN,
    QUICK_BUDGET,
    ROUTE_120,
    ROUTE_480,
    SUPERVISED,
    Case,
    RunCase,
    Scenes,
    loop_settings,
)
from cryoscout.study.coupling.ssl2rl_page import figure, text_of
from cryoscout.study.engine.catalogue import run_study
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.images.cases import Y1_ICE_IN_Y3, scene_of
from examples import slow_but

POINTS = {SUPERVISED: 58.0, FIXMATCH: 58.5, OWN: 59.0, BELIEF: 60.5, EXACT: 61.5, ROUTE_480: 59.5}


def made_up(trial: Trial) -> dict[str, Any]:
    """A result of the right shape; the noise of a seed is the same for every method."""
    case = Case(**trial.parameters["case"])
    noise = np.random.default_rng(trial.seed).normal()
    accuracy = (POINTS.get(case.method, 59.0) + noise) / 100.0
    last = loop_settings(case, 0, "quick").rounds if case.method in (ROUTE_480, ROUTE_120) else 1

    def measured(number: int) -> dict[str, Any]:
        scores = {"accuracy": accuracy, "precision": 0.6, "recall": 0.6, "auc": 0.62, "brier_skill": 0.03}
        rewards = {judge: {"reward": 80.0 + number, "good": 100.0} for judge in trial.parameters["judges"]}
        unlabelled = {"accuracy": accuracy, "auc": 0.62} if case.labels < 1.0 else None
        return {"number": number, "scores": scores, "unlabelled": unlabelled, "rewards": rewards}

    one = case.method in (SUPERVISED, FIXMATCH, "full")
    report = (
        None
        if one
        else {
            "rounds": [
                {"number": n, "guesses_right": 0.7 if n else None, "held_out_accuracy": 0.6}
                for n in range(last + 1)
            ]
        }
    )
    rounds = [measured(0)] if one else [measured(number) for number in range(1, last + 1)]
    return {"chosen": 0 if one else 1, "rounds": rounds, "report": report, "labels": 649, "seconds": 1.0}


def rows(only: int | None = None) -> list[TrialRow]:
    return [TrialRow(trial, 1.0, made_up(trial), None) for trial in trials("quick")[:only]]


def test_what_decides_runs_first_and_seed_by_seed() -> None:
    made = [trial for trial in trials("quick") if trial.seed in ssl2rl.STUDY_SEEDS]
    first = [(trial.parameters["case"]["method"], trial.seed) for trial in made[:11]]
    others = (SUPERVISED, BELIEF, OWN, EXACT)
    assert first == [
        (FIXMATCH, 3000), (FIXMATCH, 3001), *[(method, 3000) for method in others],
        (FIXMATCH, 3002), *[(method, 3001) for method in others],
    ]  # fmt: skip
    assert all(trial.parameters["case"]["labels"] == 0.1 for trial in made[:50])


def test_the_augmentation_is_compared_on_development_seeds_before_all_else() -> None:
    first = trials("quick")[: 5 * len(ssl2rl.AUGMENTED)]
    seeds = Counter(trial.parameters["budget"]["augmentation"] for trial in first)
    assert {"hole", "square", "plain"} < set(seeds)
    assert set(seeds.values()) == {5}
    for trial in first:
        assert trial.parameters["case"]["method"] == FIXMATCH
        assert trial.seed in ssl2rl.DEVELOPMENT_SEEDS
        assert trial.parameters["judges"] == [], "nothing is chosen by rewards"
    others = {
        trial.parameters["budget"]["augmentation"]
        for trial in trials("quick")
        if not trial.parameters["case"]["augmentation"]
    }
    assert others == {QUICK_BUDGET["augmentation"]}, "one setting for every method"


def test_the_ice_of_y1_sim_lies_in_as_many_holes_as_y3_has() -> None:
    y1, y3, both = scene_of("y1-sim"), scene_of("y3"), scene_of(Y1_ICE_IN_Y3)
    counts = ("holes", "patches", "squares", "grids")
    assert [getattr(both, name) for name in counts] == [getattr(y3, name) for name in counts]
    assert both.model_copy(update={name: getattr(y1, name) for name in counts}) == y1


def test_study_seeds_and_development_seeds_are_apart() -> None:
    for trial in trials("quick"):
        variant = trial.parameters["case"]["variant"]
        is_sensitivity = trial.seed in ssl2rl.DEVELOPMENT_SEEDS
        assert is_sensitivity or trial.seed in ssl2rl.STUDY_SEEDS, trial.name
        assert not is_sensitivity or variant or trial.parameters["case"]["method"] in (BELIEF, ROUTE_480)


def test_the_page_says_which_aims_are_reached() -> None:
    text = text_of(Found(rows()), "quick")
    line = next(line for line in text.splitlines() if "`belief` − `fixmatch` |" in line)
    assert "+2.00 [+2.00, +2.00]" in line
    assert "| yes |" in line
    assert "0.60 [0.60, 0.60]" in text
    reward = next(line for line in text.splitlines() if "`belief` − `fixmatch`, reward by `index`" in line)
    assert "| no: less than 10 |" in reward


def test_no_aim_is_reached_on_fewer_seeds_than_it_asks_for() -> None:
    few = [row for row in rows() if row.trial.seed < 3004]
    lines = text_of(Found(few), "quick").splitlines()
    aims = [line for line in lines if "open: 4 of 10 seeds" in line]
    assert any("`belief` − `fixmatch` |" in line for line in aims)
    assert any("(belief − own)" in line for line in aims)
    assert not any(line.endswith("| yes |") for line in lines)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        (
            (2.0, 1.0),
            "On 2 seeds it has the best mean accuracy of all; to `{other}`, the best of the others, it is +1.50",
        ),
        ((2.0, -1.0), "it is +0.50 [-1.00, +2.00] points, which does not tell the two apart."),
        ((-2.0, -1.0), "it has not the best mean accuracy; to `{other}`"),
        ((), "has not been run"),
    ],
)
def test_the_page_says_how_sure_the_choice_of_the_augmentation_is(
    gains: tuple[float, ...], said: str
) -> None:
    chosen = QUICK_BUDGET["augmentation"]
    other = "square" if chosen == "hole" else "hole"
    found = []
    for trial in trials("quick"):
        case, at = trial.parameters["case"], trial.seed - ssl2rl.DEVELOPMENT_SEEDS[0]
        if case["augmentation"] and 0 <= at < len(gains):
            result = made_up(trial)
            gain = {chosen: gains[at], other: 0.0}.get(case["augmentation"], -9.0)
            result["rounds"][0]["scores"]["accuracy"] += gain / 100.0
            found.append(TrialRow(trial, 1.0, result, None))
    assert said.format(other=other) in text_of(Found(found), "quick")


def test_one_seed_has_no_deviation() -> None:
    one = Found([row for row in rows() if row.trial.seed == 3000])
    line = next(line for line in text_of(one, "quick").splitlines() if line.startswith("| 10%, `belief` | "))
    assert "(1)" in line
    assert "±" not in line
    row = next(row for row in rows_json(one) if row["method"] == BELIEF and row["labels"] == 0.1)
    assert (row["seeds"], row["accuracy_std"], row["reward_std"]) == (1, None, None)


def test_where_exact_gives_no_more_than_own_the_share_is_undefined() -> None:
    found = [row for row in rows() if row.trial.parameters["case"]["method"] != EXACT]
    exact = [
        TrialRow(row.trial, 1.0, made_up(replace(row.trial, parameters=_as(row.trial, OWN))), None)
        for row in rows()
        if row.trial.parameters["case"]["method"] == EXACT
    ]
    assert "undefined: exact − own is 0.00 points" in text_of(Found(found + exact), "quick")


def _as(trial: Trial, method: str) -> dict[str, Any]:
    return {**trial.parameters, "case": {**trial.parameters["case"], "method": method}}


@pytest.mark.parametrize("only", slow_but([5], [0, 5, 12]))
def test_cells_that_were_not_run_are_missing(only: int) -> None:
    found = Found(rows(only))
    assert "missing" in text_of(found, "quick")
    assert figure(found).startswith(b"\x89PNG")
    plain = rows_json(found)
    assert any(row["seeds"] == 0 and row["accuracy_mean"] is None for row in plain)


def test_rows_name_method_driver_labels_and_how_the_round_was_selected() -> None:
    plain = rows_json(Found(rows()))
    named = {(row["method"], row["driver"], row["labels"], row["selection"], row["variant"]) for row in plain}
    for wanted in (
        ("belief", "index", 0.1, "none", ""),
        ("belief", "adaptive", 0.05, "none", ""),
        ("ssl2rl-480", "index", 0.1, "held-out", ""),
        ("ssl2rl-480", "index", 0.1, "validation", ""),
        ("ssl2rl-480", "double", 0.1, "held-out", ""),
        ("ssl2rl-120", "double", 0.1, "held-out", ""),
        ("iterative-fixmatch", "adaptive", 0.2, "held-out", ""),
        ("full", "index", 1.0, "none", ""),
        ("ssl2rl-480", "index", 0.1, "held-out", "no movement cost"),
    ):
        assert wanted in named
    best = next(row for row in plain if row["selection"] == "validation" and row["driver"] == "index")
    assert best["reward_mean"] == 82.0


def test_what_stands_beside_a_reward_is_of_the_round_that_the_reward_chose() -> None:
    case = Case(ITERATIVE, TEN_PER_CENT)
    (trial,) = [each for each in trials("quick") if Case(**each.parameters["case"]) == case][:1]

    def measured(number: int, accuracy: float, index: float, adaptive: float) -> dict[str, Any]:
        scores = {"accuracy": accuracy, "auc": 0.5, "brier_skill": 0.1, "precision": 0.5}
        rewards = {"index": {"reward": index, "good": 1.0}, "adaptive": {"reward": adaptive, "good": 2.0}}
        return {"number": number, "scores": scores, "unlabelled": None, "rewards": rewards}

    result = {"chosen": 1, "rounds": [measured(1, 0.6, 5.0, 3.0), measured(2, 0.7, 4.0, 9.0)], "report": None}
    found = rows_json(Found([TrialRow(trial, 1.0, result, None)]))
    of_validation = [
        row
        for row in found
        if row["method"] == ITERATIVE and row["seeds"] and row["selection"] == "validation"
    ]
    assert [(row["driver"], row["accuracy_mean"], row["reward_mean"]) for row in of_validation] == [
        ("index", 60.0, 5.0), ("adaptive", 70.0, 9.0),
    ]  # fmt: skip
    # By held-out accuracy a round is chosen from the same run; it is a table of the page, and no row.
    assert {row["selection"] for row in found} <= {"held-out", "validation", "none"}
    told = {
        "rounds": [{"number": number, "held_out_accuracy": right} for number, right in ((1, 0.5), (2, 0.9))]
    }
    by_accuracy = Found([TrialRow(trial, 1.0, {**result, "report": told}, None)])
    assert by_accuracy.values(case, "accuracy", "accuracy").tolist() == [0.7]
    assert by_accuracy.values(case, "accuracy").tolist() == [0.6]


def test_everything_that_the_page_compares_stands_in_the_json_too() -> None:
    made = rows()
    more = page(made, "quick").more
    first = more["differences"][0]
    assert (first["first"]["method"], first["second"]["method"]) == (BELIEF, FIXMATCH)
    assert (first["mean"], first["seeds"], first["aim"]) == (2.0, 10, 1.0)
    assert more["belief_share_of_exact"]["mean"] == pytest.approx(0.6)
    against = [(each["first"]["method"], each["second"]["method"]) for each in more["differences"]]
    assert (ROUTE_480, ITERATIVE) in against
    assert {each["first"]["variant"] for each in more["augmentations"]} == {
        case.variant for case in ssl2rl.AUGMENTED[1:]
    }
    (several,) = [
        each
        for each in more["sensitivity"]
        if each["first"]["variant"] == "K 3" and each["score"] == "accuracy"
    ]
    assert several["second"]["variant"] == "not told the held-out labels"
    assert all(each["mean"] is not None for each in more["labels_right"] if each["seeds"])
    assert json.loads(json.dumps(more)) == more


def test_a_page_of_what_has_ended_runs_nothing(tmp_path: Path) -> None:
    few = replace(STUDY, trials=lambda profile: trials(profile)[:6], run_one=made_up)
    run_study(replace(few, trials=lambda profile: trials(profile)[:3]), "quick", tmp_path)
    rowless = replace(few, run_one=_never)
    found = run_study(rowless, "quick", tmp_path, finished_only=True)
    assert found.content["trials_run"] == 3
    assert not found.failed
    assert "3 of 6 trials have not been run" in found.markdown_file.read_text()


def _never(trial: Trial) -> dict[str, Any]:
    raise AssertionError(trial.name)


def test_a_part_of_whole_patches_is_numbered_anew() -> None:
    class Made:
        patch_of_hole = np.array([0, 0, 1, 2, 2, 3], dtype=np.int32)
        square_of_patch = np.array([0, 0, 1, 2], dtype=np.int32)
        grid_of_square = np.array([0, 1, 1], dtype=np.int32)

    class Crops:
        scene = Made()

    scenes = Scenes(Crops(), np.zeros(6, dtype=bool), np.zeros(6, dtype=bool))  # type: ignore[arg-type]
    tree = scenes.tree(np.array([False, False, True, True, True, False]))
    assert tree.patch_of_hole.tolist() == [0, 1, 1]
    assert tree.square_of_patch.tolist() == [0, 1]
    assert tree.grid_of_square.tolist() == [0, 1]
    assert RunCase().in_folder(Path("a")).folder == Path("a")
