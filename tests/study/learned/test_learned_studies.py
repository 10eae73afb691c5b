"""Learning studies: one training per settings, seed and data, replayed from the starts of the other studies."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.learning.settings import AGENTS
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.study.engine.catalogue import run_study, study_named
from cryoscout.study.engine.published import BUDGETS_MIN, TABLE2
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.engine.sessions import session_of, simulated
from cryoscout.study.learned import ablation, figure6, table3, table4
from cryoscout.study.learned import trainings as learned
from cryoscout.study.learned.trainings import (
    TrainAndReplay,
    TrainingSpec,
    all_cells,
    learned_rows,
    other_rows,
    rows_json,
    trained_policy,
    trials_of_rows,
)
from cryoscout.study.routes.replays import BOUND, starts_of
from examples import slow_but

ROW_KEYS = {
    "policy",
    "kind",
    "prediction",
    "elimination",
    "starts_from",
    "budget_min",
    "good_mean",
    "good_std",
    "visited_mean",
    "starts",
    "training_seeds",
}
STUDIES = (
    "cryorl-table3",
    "cryorl-resnet18",
    "cryorl-ablation-duration",
    "cryorl-ablation-reward",
    "cryorl-table4",
    "cryorl-figure6",
)
SMALL = simulated(
    SimulationSettings(holes=200, holes_per_patch=10, patches_per_square=5, squares_per_grid=2), 1
)


@pytest.fixture
def tiny(monkeypatch):
    """Trainings of seconds, three starts, two budgets."""
    monkeypatch.setattr(learned, "QUICK_EPOCHS", 1)
    monkeypatch.setattr(learned, "STEPS_PER_EPOCH", 80)
    monkeypatch.setattr(learned, "STARTS", 3)
    monkeypatch.setattr(learned, "TRAINING_SEEDS", 2)


def spec_of(**changes) -> TrainingSpec:
    whole = {"agent": "dqn", "epochs": 1, "prediction": "simulated", "session": SMALL, "split": None}
    return TrainingSpec(**{**whole, "changes": {"budget_min": 60.0}, **changes})


def made_up(trial: Trial) -> dict[str, object]:
    """A result of the right shape; the second training seed of `dqn` without elimination fails."""
    training = trial.parameters.get("training")
    if training is None:
        count = trial.parameters["last"] - trial.parameters["first"]
        return {
            "starts": list(range(count)),
            "good": [trial.parameters["budget_min"] / 3] * count,
            **others(count),
        }
    if training["agent"] == "dqn" and not training["elimination"] and trial.seed == 1:
        raise RuntimeError("diverged")
    found = []
    for spec in trial.parameters["replays"]:
        for budget in trial.parameters["budgets_min"]:
            good = [budget / 4 + trial.seed + start % 3 for start in range(spec["starts"])]
            found.append(
                {
                    "key": spec["key"],
                    "budget_min": budget,
                    "seconds": 0.5,
                    "starts": list(range(spec["starts"])),
                    "good": good,
                    **others(spec["starts"]),
                }
            )
    record = {"seconds": 12.0, "best_epoch": 3, "held_out_share_of_bound": 0.9}
    return {"training": record, "cells": found}


def others(count: int) -> dict[str, object]:
    return {
        "visited": [60] * count,
        "reward": [20.0] * count,
        "good_course": [[1.0, 2.0]] * count,
        "visited_course": [[2.0, 4.0]] * count,
    }


def test_a_policy_is_trained_once_per_settings_seed_and_data(tiny, tmp_path):
    first, record = trained_policy(spec_of(), 0, tmp_path)
    made = first.stat().st_mtime_ns
    assert record["seconds"] > 0
    assert record["best_epoch"] == 1
    again, same = trained_policy(spec_of(), 0, tmp_path)
    assert (again, same, again.stat().st_mtime_ns) == (first, record, made)
    others = [
        trained_policy(spec_of(), 1, tmp_path)[0],
        trained_policy(spec_of(elimination=False), 0, tmp_path)[0],
        trained_policy(spec_of(prediction="flat"), 0, tmp_path)[0],
        trained_policy(spec_of(changes={"budget_min": 90.0}), 0, tmp_path)[0],
    ]
    assert len({first, *others}) == 5


def test_a_training_that_was_stopped_goes_on_and_gives_the_same_file(tiny, tmp_path, monkeypatch):
    from cryoscout.learning.training import Training

    whole, _ = trained_policy(spec_of(epochs=2), 0, tmp_path / "whole")
    judge = Training._judge

    def stopped(self):
        if self.epoch == 2:
            raise RuntimeError("killed")
        return judge(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_judge", stopped)
        with pytest.raises(RuntimeError):
            trained_policy(spec_of(epochs=2), 0, tmp_path / "part")
    began: list[int] = []

    def watched(self):
        began.append(self.epoch)
        return judge(self)

    monkeypatch.setattr(Training, "_judge", watched)
    part, _ = trained_policy(spec_of(epochs=2), 0, tmp_path / "part")
    assert began == [2]
    assert part.read_bytes() == whole.read_bytes()


def test_without_torch_a_trial_says_what_to_install(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r'pip install "cryoscout\[learn\]"'):
        trained_policy(spec_of(), 0, tmp_path)


def test_a_trial_trains_and_replays_from_the_starts_of_the_other_studies(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "BUDGETS_MIN", (40, 60))
    training = spec_of()
    of_replay = {"session": SMALL, "split": None}
    chosen = learned_rows("dqn", training, **of_replay)
    chosen += other_rows([("greedy", "simulated"), (BOUND, "simulated")], **of_replay)
    trials = trials_of_rows(chosen)
    assert [trial.name for trial in trials[:2]] == [
        "dqn, eliminated, training seed 0",
        "dqn, eliminated, training seed 1",
    ]
    run_one = TrainAndReplay().in_folder(tmp_path)
    pickle.dumps(run_one)  # as worker processes need it
    done = [TrialRow(trial, 0.0, json.loads(json.dumps(run_one(trial))), None) for trial in trials]
    found = all_cells(done)
    for rule in ("all", "eliminated"):
        cell = found[f"dqn, eliminated, from {rule}", 60.0]
        greedy = next(row.spec for row in chosen if row.key == f"greedy, from {rule}")
        assert cell.starts.tolist() == 2 * starts_of(greedy, 60.0, 0).tolist()
        assert cell.repeat.tolist() == [0, 0, 0, 1, 1, 1]
        bound = found[f"bound, from {rule}", 60.0]
        assert bound.starts.tolist() == cell.starts[:3].tolist()
        assert (cell.good.reshape(2, 3) <= bound.good).all()


def test_rows_have_exactly_the_agreed_keys_and_say_what_is_missing(tiny, monkeypatch):
    chosen = table3.rows("quick")
    done = []
    for trial in table3.trials("quick"):
        try:
            done.append(TrialRow(trial, 0.0, made_up(trial), None))
        except RuntimeError as error:
            done.append(TrialRow(trial, 0.0, None, str(error)))
    rows = rows_json(chosen, all_cells(done))
    assert all(set(row) == ROW_KEYS for row in rows)
    assert not any("@" in row["policy"] for row in rows)
    learned_ones = [row for row in rows if row["kind"] == "learned"]
    assert {
        (row["policy"], row["elimination"], row["starts_from"], row["budget_min"]) for row in learned_ones
    } == {
        (agent, elimination, rule, budget)
        for agent in (*AGENTS, "dqn-hard")
        for elimination in (False, True)
        for rule in ("all", "eliminated")
        for budget in BUDGETS_MIN
    }
    for row in learned_ones:
        # Whatever trains `dqn` without elimination fails here, `dqn-hard` too.
        missing = row["policy"] in ("dqn", "dqn-hard") and not row["elimination"]
        assert (row["good_mean"] is None) == missing
        assert (row["starts"], row["training_seeds"]) == ((0, 0) if missing else (3, 2))
        if not missing:
            # Two seeds, three starts: budget / 4 + seed + 0, 1, 2.
            assert row["good_mean"] == row["budget_min"] / 4 + 1.5
            assert row["good_std"] == pytest.approx(np.std([0, 1, 2, 1, 2, 3]), abs=1e-3)
    kinds = {row["policy"]: row["kind"] for row in rows if row["kind"] != "learned"}
    assert kinds == {
        "adaptive": "planner",
        "expected": "planner",
        "index": "planner",
        "greedy": "baseline",
        "random": "baseline",
        "bound": "baseline",
    }
    assert all(
        row["training_seeds"] == 0 and not row["elimination"] for row in rows if row["kind"] != "learned"
    )


@pytest.mark.parametrize("name", slow_but(["cryorl-table3", "cryorl-figure6"], STUDIES))
def test_a_learning_study_writes_its_page_and_shows_what_failed(name, tiny, tmp_path):
    monkey_free = replace(study_named(name), run_one=made_up)
    run = run_study(monkey_free, "quick", tmp_path)
    text = run.markdown_file.read_text(encoding="utf-8")
    numbers = json.loads(run.json_file.read_text(encoding="utf-8"))
    assert run.figure_file.read_bytes().startswith(b"\x89PNG")
    assert all(set(row) == ROW_KEYS for row in numbers["rows"])
    assert f"cryoscout study {name} --profile quick" in text
    assert "torch" in numbers["machine"]
    assert ("missing" in text) == bool(run.failed)
    # No row of a table is shorter than its header.
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_a_study_keeps_policies_beside_the_folders_of_trials_by_code(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "BUDGETS_MIN", (40,))
    seen: list[object] = []

    class Watched(TrainAndReplay):
        def in_folder(self, folder):
            seen.append(folder)
            return super().in_folder(folder)

    def trials(profile):
        return trials_of_rows(learned_rows("dqn", spec_of(), session=SMALL, split=None))[:1]

    def page(done, profile):
        from cryoscout.study.engine.catalogue import Page

        return Page("text", b"png", [])

    study = replace(table3.STUDY, trials=trials, page=page, run_one=Watched())
    run_study(study, "quick", tmp_path / "out")
    (kept,) = (tmp_path / "out" / ".study" / "kept").iterdir()
    assert seen == [kept]
    assert len(list(kept.glob("dqn-*/policy.safetensors"))) == 1


def test_the_paper_profile_trains_as_long_as_the_paper():
    for name in STUDIES:
        if name != "cryorl-figure6":
            epochs = {
                trial.parameters["training"]["epochs"]
                for trial in study_named(name).trials("paper")
                if "training" in trial.parameters
            }
            assert epochs == {20}


def test_settings_of_every_training_are_allowed():
    for name in STUDIES:
        for trial in study_named(name).trials("paper"):
            if "training" in trial.parameters:
                settings = TrainingSpec(**trial.parameters["training"]).settings(trial.seed)
                assert settings.seed == trial.seed
    double = [
        TrainingSpec(**trial.parameters["training"]).settings(0)
        for trial in ablation.REWARD.trials("quick")
        if trial.parameters.get("training", {}).get("changes")
    ]
    assert {(each.reward_square_factor, each.reward_grid_factor) for each in double} == {
        (2.0, 1.0),
        (1.0, 2.0),
        (2.0, 2.0),
    }


def test_the_default_variants_of_the_ablations_are_the_dqn_of_table_3():
    def trainings(study):
        return [
            trial.parameters["training"] for trial in study.trials("paper") if "training" in trial.parameters
        ]

    plain = [each for each in trainings(table3.STUDY) if each["agent"] == "dqn" and not each["changes"]]
    for study in (ablation.DURATION, ablation.REWARD):
        assert sum(each in plain for each in trainings(study)) == len(plain)


def test_table_3_puts_each_published_row_above_its_like(tiny):
    done = [
        TrialRow(trial, 0.0, made_up(trial), None)
        for trial in table3.trials("quick")
        if trial.parameters.get("training", {}).get("agent") != "dqn"
    ]
    text = table3.page(done, "quick").markdown
    anywhere, kept = text.split("## Routes that start in kept patches")
    assert "| CryoRL-A2C | without | published | 35.5 ± 7.8 |" in anywhere
    assert "| CryoRL-A2C † | with | published | 47.0 ± 1.3 |" in kept
    assert "| CryoRL-DQN † | with | published | 47.4 ± 0.5 |" in kept
    assert "CryoRL-DQN † (prioritized)" in kept
    assert table3.published("dqn", "all") is TABLE2["dqn"]
    assert table3.published("rainbow", "all") is None
    assert text.count("published | ") == 10


def test_a_timed_trial_is_a_trial_after_a_warm_up(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "BUDGETS_MIN", (40,))
    training = spec_of(changes={"budget_min": 60.0, "view": {"candidates": "holes"}})
    (trial,) = trials_of_rows(learned_rows("dqn-holes", training, ["all"], session=SMALL, split=None), 1)
    result = figure6.TimedTrainAndReplay().in_folder(tmp_path)(trial)
    assert result["training"]["seconds"] > 0
    assert result["cells"][0]["seconds"] > 0
    assert len(list(tmp_path.glob("dqn-*"))) == 1


def test_runtimes_are_per_visit_and_a_failed_seed_makes_them_missing(tiny):
    done = [TrialRow(trial, 0.0, made_up(trial), None) for trial in figure6.trials("quick")]
    for each in figure6.runtimes(done, "quick"):
        assert each.training_s == pytest.approx(12.0 * 1000 / learned.STEPS_PER_EPOCH)
        assert each.deciding_ms[0] == pytest.approx(1000 * 0.5 / (3 * 60))
    failed = [replace(done[0], result=None, error="no"), *done[1:]]
    assert [each.training_s is None for each in figure6.runtimes(failed, "quick")] == [
        True,
        False,
        False,
        False,
    ]


def test_table_4_tests_every_policy_elsewhere_and_no_simulated_test_hole_was_trained_on():
    chosen = table4.rows("quick")
    assert len([row for row in chosen if row.training is not None]) == len(table4.PLACES) ** 2
    for row in chosen:
        if row.training is not None:
            assert (row.training.session, row.training.split) != (row.spec.session, row.spec.split)


def test_a_session_of_the_user_joins_table_4_and_is_never_tested_on_its_own_training(cli_session):
    study = table4.with_session(cli_session)
    rows = study.page([], "quick").rows
    own = [row for row in rows if row["policy"] == "dqn of mine on mine"]
    assert own == []
    assert {row["policy"] for row in rows} >= {"dqn of mine on y1", "dqn of y1 on mine", "adaptive on mine"}


@pytest.fixture
def cli_session(tmp_path, monkeypatch):
    from cryoscout.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--preset", "small", "--holes", "200", "-o", "mine.session"]) == 0
    return "mine.session"


@pytest.mark.parametrize("name", slow_but(["y1"], ["y1", "y1-2022"]))
def test_the_two_splits_of_y1_never_meet_in_table_4(name, tmp_path, monkeypatch):
    from cryoscout.cli.main import main

    with pytest.raises(InputError, match="must be another one than y1 and y1-2022"):
        study_named("cryorl-table4", name)
    monkeypatch.chdir(tmp_path)
    assert main(["import", name, "-o", "copy.session"]) == 0
    with pytest.raises(InputError, match="must be another one than y1 and y1-2022"):
        study_named("cryorl-table4", "copy.session")


def test_only_table_4_takes_a_session():
    with pytest.raises(InputError, match="Study cryorl-table3 must be run on its own sessions"):
        study_named("cryorl-table3", "mine.session")


def test_a_simulated_session_is_its_text():
    settings = SimulationSettings(holes=90, holes_per_patch=9, classifier_accuracy=0.7)
    text = simulated(settings, 3)
    first, again, other = session_of(text), session_of(text), session_of(simulated(settings, 4))
    assert first.n_holes == 90
    assert first.good_by_hole(6.0).tolist() == again.good_by_hole(6.0).tolist()
    assert first.good_by_hole(6.0).tolist() != other.good_by_hole(6.0).tolist()
    with pytest.raises(InputError, match="A split must belong to a built-in session"):
        session_of(text, "val")


def test_another_classifier_leaves_the_truth_of_a_place_as_it_is():
    own, transferred = (
        session_of(next(place for place in table4.PLACES if place.name == name).test[0])
        for name in ("sim-fine-own", "sim-fine-transferred")
    )
    assert own.good_by_hole(6.0).tolist() == transferred.good_by_hole(6.0).tolist()
    good = own.good_by_hole(6.0) > 0
    for session, right in ((own, 0.885), (transferred, 0.735)):
        p_good = session.prediction("simulated", 6.0)
        assert ((p_good >= 0.5) == good).mean() == pytest.approx(right, abs=0.02)
