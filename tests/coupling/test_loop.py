"""Algorithm 1 on a tiny problem: what each part is told, which round is kept, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coupling_samples import PART, KilledError, Linear, PartByPart, features, told, truth

from cryoscout.core.errors import InputError
from cryoscout.core.telling import Telling, no_progress
from cryoscout.coupling.lesson import Told
from cryoscout.coupling.loop import RUN_FILE, Coupled, Loop, settings_of_run
from cryoscout.coupling.ranks import mean_ranks
from cryoscout.coupling.settings import LEAST_CHANGE_OF_BELIEF, couple_settings


def loop(folder: Path, teacher: str = "route", **given: Any) -> Loop[Any]:
    of_loop = {
        name: given.pop(name)
        for name in ("told", "perception", "driver", "teacher_p", "truth", "data", "each_round")
        if name in given
    }
    settings = couple_settings(teacher, **given)
    said = of_loop.pop("teacher_p", None)
    parts = {"told": told(), "perception": Linear(), "driver": PartByPart(), "data": "d", **of_loop}
    return Loop(
        settings=settings, folder=folder, teacher=None if said is None else lambda p, number, place: said, **parts
    )  # fmt: skip


def test_the_policy_is_told_shown_labels_and_predictions_and_no_held_out_label(tmp_path: Path) -> None:
    driver, perception = PartByPart(), Linear()
    loop(tmp_path, driver=driver, perception=perception, rounds=1).run()
    known, p = told(), perception.p_positive(perception.pretrained(told(), tmp_path))
    shown = known.shown
    np.testing.assert_array_equal(driver.rewards[0][shown >= 0], shown[shown >= 0])
    np.testing.assert_allclose(driver.rewards[0][shown < 0], p[shown < 0])
    flipped = np.where(known.held_out, 1 - known.labels, known.labels)
    other_driver, other = PartByPart(), Linear()
    lied = Told(flipped, known.held_out)
    loop(tmp_path / "b", driver=other_driver, perception=other, told=lied, rounds=1).run()
    np.testing.assert_array_equal(driver.rewards[0], other_driver.rewards[0])


def test_only_unlabelled_states_get_a_pseudo_label(tmp_path: Path) -> None:
    perception = Linear()
    loop(tmp_path, perception=perception, rounds=2).run()
    for lesson in perception.lessons:
        np.testing.assert_array_equal(lesson.guessed, told().unlabelled)
        assert (lesson.weight[~lesson.guessed] == 0.0).all()


def test_n_c_is_the_sum_of_the_pseudo_rewards_unless_it_is_said(tmp_path: Path) -> None:
    driver = PartByPart()
    found = loop(tmp_path / "a", driver=driver, rounds=1).run()
    assert found.rounds[1].n_positive == round(float(driver.rewards[0].sum()))
    assert loop(tmp_path / "b", rounds=1, n_positive=7).run().rounds[1].n_positive == 7


@pytest.mark.parametrize("n_positive", [0, -3, 60, 61])
def test_a_cut_that_labels_all_or_none_is_refused_before_anything_is_written(
    tmp_path: Path, n_positive: int
) -> None:
    with pytest.raises(InputError, match="at least 1 and below 60"):
        loop(tmp_path / "new", n_positive=n_positive).run()
    assert not (tmp_path / "new").exists()


def test_no_route_is_refused() -> None:
    with pytest.raises(InputError, match="M, must be 1 or more"):
        couple_settings("route", starts=0)


@pytest.mark.parametrize(
    ("selection", "returns", "chosen"),
    [
        ("held-out", [9.0, 1.0, 3.0, 2.0], 2),
        ("last", [9.0, 1.0, 3.0, 2.0], 3),
        ("held-out", [0.0, 2.0, 2.0, 2.0], 1),
    ],
)
def test_the_round_with_the_best_return_is_kept_and_never_the_pretraining(
    tmp_path: Path, selection: str, returns: list[float], chosen: int
) -> None:
    driver = PartByPart(returns=list(returns))
    assert loop(tmp_path, driver=driver, rounds=3, selection=selection).run().chosen == chosen


def test_by_accuracy_the_held_out_labels_count(tmp_path: Path) -> None:
    found = loop(tmp_path, rounds=3, selection="accuracy").run()
    best = max(each.held_out_accuracy for each in found.rounds[1:])
    assert found.rounds[found.chosen].held_out_accuracy == best


@pytest.mark.parametrize("teacher", ["belief", "exact"])
def test_other_teachers_teach_what_they_say_and_own_what_perception_says(
    tmp_path: Path, teacher: str
) -> None:
    said, perception = np.linspace(0.1, 0.9, len(truth())), Linear()
    loop(tmp_path / "a", teacher, teacher_p=said, perception=perception).run()
    lesson = perception.lessons[0]
    np.testing.assert_allclose(lesson.p_positive[lesson.guessed], said[lesson.guessed])
    own = Linear()
    loop(tmp_path / "b", "own", perception=own).run()
    p = own.p_positive(own.pretrained(told(), tmp_path))
    np.testing.assert_allclose(own.lessons[0].p_positive[own.lessons[0].guessed], p[own.lessons[0].guessed])


def test_the_loop_ends_where_guesses_stop_changing(tmp_path: Path) -> None:
    said = np.linspace(0.1, 0.9, len(truth()))
    for name, least in (("default", None), ("few", 0.01)):
        found = loop(tmp_path / name, "belief", teacher_p=said, rounds=4, least_change=least).run()
        assert found.stopped_early
        assert len(found.rounds) == 2


def test_a_belief_of_several_rounds_is_not_told_the_labels_that_choose_among_them() -> None:
    assert couple_settings("belief").belief_knows_held_out
    assert not couple_settings("belief", rounds=3).belief_knows_held_out
    assert couple_settings("belief", rounds=3, belief_knows_held_out=True).belief_knows_held_out
    assert couple_settings("belief", rounds=3).least_change == LEAST_CHANGE_OF_BELIEF
    assert couple_settings("route").least_change == 0.0


def test_ranks_of_routes_teach_a_probability_that_falls_with_the_rank(tmp_path: Path) -> None:
    routes: list[Any] = []

    class Kept(PartByPart):
        def routes(self, *known: Any) -> Any:
            routes.append(super().routes(*known))
            return routes[-1]

    driver, perception = Kept(), Linear()
    found = loop(tmp_path, "ranks", driver=driver, perception=perception, truth=truth()).run()
    (lesson,) = perception.lessons
    np.testing.assert_array_equal(lesson.guessed, told().unlabelled)
    assert len(routes) == 1
    late = np.argsort(-mean_ranks(routes[0]), kind="stable")
    assert (np.diff(lesson.p_positive[late][lesson.guessed[late]]) >= -1e-12).all()
    assert found.rounds[1].n_positive is None
    assert found.rounds[1].guesses_right > 0.8


def test_from_the_second_round_on_a_driver_is_told_where_its_policy_of_the_round_before_is(
    tmp_path: Path,
) -> None:
    driver = PartByPart()
    loop(tmp_path, "route", driver=driver, rounds=3).run()
    assert driver.before == [None, tmp_path / "round-01" / "policy", tmp_path / "round-02" / "policy"]


def test_a_run_whose_settings_are_none_is_refused(tmp_path: Path) -> None:
    loop(tmp_path).run()
    (tmp_path / RUN_FILE).write_text('{"settings": 3, "data": "d"}')
    with pytest.raises(InputError, match=r"must have settings by name\. Got 3 instead"):
        loop(tmp_path).run(resume=True)
    assert settings_of_run(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("round.json", "{}"),
        ("round.json", '{"n_positive": null, "colour": 3}'),
        ("round.json", "half a rep"),
        ("lesson.safetensors", "half a les"),
        ("model.safetensors", "half a mod"),
    ],
)
def test_a_damaged_file_of_a_round_is_one_clear_error_and_can_be_made_again(
    tmp_path: Path, name: str, content: str
) -> None:
    whole = loop(tmp_path, rounds=1).run()
    file = tmp_path / "round-01" / name
    file.write_text(content)
    with pytest.raises(InputError, match=rf"{name}.*Or remove {name} there: --resume makes it again\."):
        loop(tmp_path, rounds=1).run(resume=True)
    file.unlink()
    again = loop(tmp_path, rounds=1).run(resume=True)
    np.testing.assert_array_equal(again.model.weights, whole.model.weights)


def test_on_the_belief_the_policy_is_told_what_the_belief_says(tmp_path: Path) -> None:
    said, shown = np.linspace(0.1, 0.9, len(truth())), told().shown
    for teacher in ("route", "ranks"):
        driver = PartByPart()
        loop(tmp_path / teacher, teacher, driver=driver, teacher_p=said, on_belief=True, rounds=1).run()
        np.testing.assert_allclose(driver.rewards[0][shown < 0], said[shown < 0])
        np.testing.assert_array_equal(driver.rewards[0][shown >= 0], shown[shown >= 0])
        # Otherwise it goes by perception, whatever else is handed in.
        other = PartByPart()
        loop(tmp_path / f"{teacher}-p", teacher, driver=other, teacher_p=said, rounds=1).run()
        assert not np.allclose(other.rewards[0][shown < 0], said[shown < 0])


def test_a_belief_that_a_policy_goes_by_is_not_told_held_out_labels() -> None:
    for teacher in ("route", "ranks"):
        assert not couple_settings(teacher, on_belief=True, rounds=1).belief_knows_held_out
    with pytest.raises(InputError, match="must not know held-out labels"):
        couple_settings("ranks", on_belief=True, belief_knows_held_out=True)


@pytest.mark.parametrize("teacher", ["ranks", "values"])
def test_where_held_out_labels_are_of_one_kind_ranks_are_refused_before_anything_is_written(
    tmp_path: Path, teacher: str
) -> None:
    known = told()
    one_kind = Told(known.labels, known.held_out & (known.labels == 0))
    settings = couple_settings(teacher, "double" if teacher == "values" else "index")
    with pytest.raises(InputError, match="Got 1, all of one kind, instead"):
        Loop(one_kind, Linear(), PartByPart(), settings, tmp_path / "run", "d").run()
    assert not (tmp_path / "run").exists()


def test_learned_values_teach_a_probability_that_rises_with_the_value(tmp_path: Path) -> None:
    class Values(PartByPart):
        def learned_values(self, p: Any, known: Told, starts: Any, seed: int, folder: Path) -> Any:
            assert len(set(starts.tolist())) == len(starts) >= 2
            assert folder == tmp_path / "round-01" / "policy"
            return np.bincount(PART, weights=np.where(known.shown < 0, p, known.shown))[PART]

    perception = Linear()
    settings = couple_settings("values", "double", starts=1)
    Loop(told(), perception, Values(), settings, tmp_path, "d").run()
    (lesson,) = perception.lessons
    np.testing.assert_array_equal(lesson.guessed, told().unlabelled)
    assert lesson.share_right(truth()) > 0.8
    with pytest.raises(InputError, match="Learned values must be those of an agent"):
        couple_settings("values")


def test_only_routes_go_by_the_belief_and_it_must_be_handed_in(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Got on_belief with the teacher own instead"):
        couple_settings("own", on_belief=True)
    with pytest.raises(InputError, match="teacher belief must be handed to the loop"):
        loop(tmp_path / "run", "ranks", on_belief=True).run()
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_begun_before_there_was_a_choice_goes_on_with_its_default(tmp_path: Path) -> None:
    then = {"whole_batches": False, "belief_knows_held_out": False}
    whole = loop(tmp_path, rounds=1, **then).run()
    file = tmp_path / RUN_FILE
    stored = json.loads(file.read_text())
    for name in ("on_belief", *then):
        del stored["settings"][name]
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="Got whole_batches False there and True here"):
        loop(tmp_path, rounds=1).run(resume=True)
    assert loop(tmp_path, rounds=1, **then).run(resume=True).report == whole.report
    with pytest.raises(InputError, match="Got on_belief False there and True here"):
        loop(tmp_path, rounds=1, on_belief=True, teacher_p=np.full(60, 0.5), **then).run(resume=True)


@pytest.mark.parametrize("teacher", ["belief", "own", "exact", "ranks"])
def test_an_agent_of_a_teacher_that_trains_none_is_refused(teacher: str) -> None:
    with pytest.raises(
        InputError, match=f"Got the driver double with the teacher {teacher}, which trains none"
    ):
        couple_settings(teacher, "double")


@pytest.mark.parametrize("teacher", ["belief", "exact"])
def test_a_teacher_that_is_not_handed_in_is_refused_before_anything_is_written(
    tmp_path: Path, teacher: str
) -> None:
    with pytest.raises(InputError, match=f"teacher {teacher} must be handed to the loop. Got none instead"):
        loop(tmp_path / "run", teacher).run()
    assert not (tmp_path / "run").exists()


def test_a_return_that_is_not_known_is_not_told(tmp_path: Path) -> None:
    class Unjudged(PartByPart):
        def held_out_return(self, *known: Any) -> float:
            return float("nan")

    said: list[str] = []
    telling = Telling(said.append, no_progress)
    replace(loop(tmp_path, driver=Unjudged(), rounds=1), telling=telling).run()
    assert any("held-out accuracy" in line for line in said)
    assert not any("nan" in line for line in said)


def test_the_truth_changes_the_report_alone(tmp_path: Path) -> None:
    with_truth = loop(tmp_path / "a", truth=truth(), rounds=2).run()
    without = loop(tmp_path / "b", rounds=2).run()
    np.testing.assert_array_equal(with_truth.model.weights, without.model.weights)
    assert with_truth.rounds[1].guesses_right > 0.8
    assert np.isnan(without.rounds[1].guesses_right)


def test_the_routes_of_parts_that_hold_together_teach_better_labels_than_perception_has(
    tmp_path: Path,
) -> None:
    perception = Linear()
    found = loop(tmp_path, perception=perception, truth=truth(), rounds=1).run()
    model = perception.pretrained(told(), tmp_path)
    unlabelled = told().unlabelled
    own = (perception.p_positive(model)[unlabelled] > 0.5) == (truth()[unlabelled] == 1)
    assert found.rounds[1].guesses_right > own.mean() + 0.1


@pytest.mark.parametrize("trainings", [0, 1, 2])
def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_result(tmp_path: Path, trainings: int) -> None:
    whole = loop(tmp_path / "whole", rounds=3, truth=truth()).run()
    with pytest.raises(KilledError):
        loop(tmp_path / "part", rounds=3, truth=truth(), perception=Linear(dies_in=trainings)).run()
    on = loop(tmp_path / "part", rounds=3, truth=truth()).run(resume=True)
    assert without_seconds(on) == without_seconds(whole)
    np.testing.assert_array_equal(on.model.weights, whole.model.weights)
    again = loop(tmp_path / "part", rounds=3, perception=Linear(dies_in=0)).run(resume=True)
    np.testing.assert_array_equal(again.model.weights, whole.model.weights)


def without_seconds(found: Coupled[Any]) -> str:
    report = found.report
    for each in report["rounds"]:
        del each["seconds"]
    return json.dumps(report)


def test_a_folder_with_a_run_is_neither_overwritten_nor_mixed_with_other_settings(tmp_path: Path) -> None:
    loop(tmp_path, rounds=1).run()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    with pytest.raises(InputError, match="must be a new one"):
        loop(tmp_path, rounds=1).run()
    with pytest.raises(InputError, match=r"same settings.*Got seed 0 there and 1 here"):
        loop(tmp_path, rounds=1, seed=1).run(resume=True)
    with pytest.raises(InputError, match="same states, places, labels and features"):
        loop(tmp_path, rounds=1, data="other").run(resume=True)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(4, -1), "must have labelled states"),
        (np.array([1, 1, -1, -1]), "must be of both kinds"),
        (np.array([1, 0, 1, 0]), "must have unlabelled states"),
    ],
)
def test_nothing_to_learn_from_or_to_label_is_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Told(labels.astype(np.int64), np.zeros(4, dtype=np.bool_)).check()


def test_features_of_the_sample_do_not_say_everything() -> None:
    assert 0.55 < ((features()[:, 0] > 0.5) == (truth() == 1)).mean() < 0.9
