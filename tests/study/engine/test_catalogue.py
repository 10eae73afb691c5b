"""A study writes its page, figure and numbers, and shows what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from shutil import copy

import numpy as np
import pytest

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.study.engine.catalogue import PROFILES, STUDIES, Page, checked_profile, run_study, study_named
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.routes import delay, figure5, table2
from cryoscout.study.routes.replays import cells
from examples import slow_but

REPLAY_STUDIES = ("cryorl-table2", "cryorl-figure5", "delay")
"""Studies whose trials are replays of one policy; the others have tests of their own."""


def made_up(trial: Trial) -> dict[str, object]:
    """A result of the right shape, so that pages are tested without replays; `genetic` always fails."""
    parameters = trial.parameters
    if parameters["policy"] == "genetic":
        raise RuntimeError("search broke")
    count = parameters["last"] - parameters["first"]
    rng = np.random.default_rng([parameters["first"], len(parameters["key"])])
    good = (parameters["budget_min"] / 3 + rng.integers(0, 9, count)).tolist()
    starts = list(range(parameters["first"], parameters["last"]))
    if parameters["policy"] == "bound":
        return {"starts": starts, "good": good}
    steps = np.linspace(0.1, 1.0, 16)
    return {
        "starts": starts,
        "good": good,
        "visited": [2 * each for each in good],
        "reward": good,
        "good_course": [(each * steps).tolist() for each in good],
        "visited_course": [(2 * each * steps).tolist() for each in good],
    }


def rows_of(study) -> list[TrialRow]:
    return [
        TrialRow(trial, 0.0, None, "RuntimeError: search broke")
        if trial.parameters["policy"] == "genetic"
        else TrialRow(trial, 0.0, made_up(trial), None)
        for trial in study.trials("quick")
    ]


def test_an_unknown_study_or_profile_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'cryorl-table2'"):
        study_named("cryorl-tabel2")
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        checked_profile("quik")


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_study_has_its_name_and_trials_that_differ(name, profile, monkeypatch):
    study = study_named(name)
    assert study.name == name
    trials = study.trials(profile)
    assert len({trial.key for trial in trials}) == len(trials) > 0


@pytest.mark.parametrize("name", REPLAY_STUDIES)
def test_a_study_writes_three_files_and_names_what_is_missing(name, tmp_path):
    study = replace(study_named(name), run_one=made_up)
    run = run_study(study, "quick", tmp_path)
    text = run.markdown_file.read_text(encoding="utf-8")
    numbers = json.loads(run.json_file.read_text(encoding="utf-8"))
    assert run.figure_file.read_bytes().startswith(b"\x89PNG")
    assert {"command", "profile", "seeds", "machine", "rows"} <= set(numbers)
    assert f"cryoscout study {name} --profile quick" in text
    searched = [row for row in numbers["rows"] if row["policy"] == "genetic"]
    assert all(row["missing"] and row["good_mean"] is None for row in searched)
    assert ("missing" in text) == bool(searched) == bool(run.failed)


def test_the_same_trials_give_the_same_page_and_numbers(tmp_path):
    study = replace(study_named("cryorl-figure5"), run_one=made_up)
    first, second = (run_study(study, "quick", tmp_path / name) for name in ("a", "b"))
    assert first.content["rows"] == second.content["rows"]
    assert first.figure_file.read_bytes() == second.figure_file.read_bytes()


def test_table_2_puts_published_beside_ours_and_says_where_the_agents_are():
    text = table2.page(rows_of(table2.STUDY), "quick").markdown
    lines = [line for line in text.splitlines() if line.startswith("|")]
    greedy = next(i for i, line in enumerate(lines) if line.startswith("| Greedy"))
    assert "41.8 ± 2.5" in lines[greedy]
    assert "ours" in lines[greedy + 1]
    genetic = next(i for i, line in enumerate(lines) if line.startswith("| Genetic"))
    assert lines[genetic + 1].count("missing") == len(BUDGETS_MIN)
    assert text.count("ours (`dqn-y1`)") == 2
    assert "stand in `cryorl-table3`" in text
    assert "arXiv:2204.07543" in text
    assert "adaptive − index" in text


def test_figure_5_is_the_share_of_good_at_each_hour():
    text = figure5.page(rows_of(figure5.STUDY), "quick").markdown
    line = next(line for line in text.splitlines() if line.startswith("| `greedy@res50`"))
    assert line.count("50.0") == 8


def test_share_of_good_is_not_a_number_before_the_first_visit_and_the_mean_leaves_it_out():
    rows = [row for row in rows_of(figure5.STUDY) if row.trial.parameters["key"] == "greedy"]
    for row in rows:
        row.result["visited_course"][0][:2] = row.result["good_course"][0][:2] = [0.0, 0.0]
    cell = cells(rows)["greedy", 480.0]
    assert np.isnan(figure5.share_of_good(cell)[0, 0])
    assert "nan" not in figure5.page(rows, "quick").markdown


def test_the_delay_page_has_every_cell_of_the_sweep_and_its_gain():
    page = delay.page(rows_of(delay.STUDY), "quick")
    assert len(page.rows) == (2 + 9) * len(BUDGETS_MIN)
    assert page.markdown.count("| 15 min |") == 6


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(InputError, match="must be a folder"):
        run_study(study_named("delay"), "quick", tmp_path / "results")


def test_chosen_trials_alone_are_run_and_the_others_kept(tmp_path):
    ran: list[str] = []

    def recording(trial: Trial) -> dict[str, object]:
        ran.append(trial.name)
        return made_up(trial)

    study = replace(study_named("delay"), run_one=recording)
    trials = study.trials("quick")
    first = run_study(study, "quick", tmp_path, only="480 min")
    assert ran == [trial.name for trial in trials if "480 min" in trial.name]
    assert first.content["trials_run"] == len(ran) < len(trials)
    both = run_study(study, "quick", tmp_path, only=" min")
    assert sorted(ran) == sorted(trial.name for trial in trials if " min" in trial.name)
    assert both.content["trials_run"] == len(ran)
    with pytest.raises(InputError, match=r"in none of them\. Remedy: for example"):
        run_study(study, "quick", tmp_path, only="nothing like it")
    with pytest.raises(InputError, match=r"must stand without --only\. Got --only '480 min' too"):
        run_study(study, "quick", tmp_path, only="480 min", finished_only=True)
    assert run_study(study, "quick", tmp_path, finished_only=True).content["trials_run"] == len(ran)


def test_an_unfinished_study_goes_on_from_what_stands_beside_its_page(tmp_path):
    ran: list[str] = []

    def stopped_after_three(trial: Trial) -> dict[str, object]:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(trial.name)
        return made_up(trial)

    def recording(trial: Trial) -> dict[str, object]:
        ran.append(trial.name)
        return made_up(trial)

    study = study_named("delay")
    with pytest.raises(KeyboardInterrupt):
        run_study(replace(study, run_one=stopped_after_three), "quick", tmp_path / "here")
    stopped = run_study(study, "quick", tmp_path / "here", finished_only=True)
    assert "`delay.trials.jsonl`" in stopped.markdown_file.read_text(encoding="utf-8")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in (tmp_path / "here").glob("delay*"):
        copy(file, elsewhere)
    again = run_study(study, "quick", elsewhere, finished_only=True)
    assert again.content["rows"] == stopped.content["rows"]
    assert again.content["trials_run"] == 3

    ran.clear()
    whole = run_study(replace(study, run_one=recording), "quick", elsewhere, resume=True)
    assert len(ran) == len(study.trials("quick")) - 3
    assert not (elsewhere / "delay.trials.jsonl").exists()
    assert "trials.jsonl" not in whole.markdown_file.read_text(encoding="utf-8")
    assert (
        whole.content["rows"] == run_study(replace(study, run_one=made_up), "quick", tmp_path).content["rows"]
    )


def test_a_failed_trial_leaves_the_rows_of_the_others_beside_the_page(tmp_path):
    # What its page says of them stands above.
    study = replace(
        study_named("cryorl-table2"), run_one=made_up, page=lambda rows, profile: Page("text", b"png", [])
    )
    run = run_study(study, "quick", tmp_path)
    rows = (tmp_path / "cryorl-table2.trials.jsonl").read_text(encoding="utf-8").splitlines()
    assert run.failed
    assert len(rows) == len(study.trials("quick")) - len(run.failed)
    # Without --resume all of them run again.
    assert run_study(study, "quick", tmp_path).failed == run.failed


def test_a_page_names_every_machine_on_which_its_trials_ran(tmp_path):
    study = replace(study_named("delay"), run_one=made_up)
    run_study(study, "quick", tmp_path)
    file = tmp_path / ".study" / "delay-quick" / "trials.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    here = rows[0]["machine"]
    rows[0]["machine"] = "another machine"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert (
        run_study(study, "quick", tmp_path, finished_only=True).content["machine"]
        == f"another machine; {here}"
    )


# Of the others, tests of their own ask for a page whose trials are missing.
@pytest.mark.parametrize(
    "name",
    slow_but(
        [
            "cryorl-table2",
            "cryorl-figure5",
            "cryorl-figure6",
            "delay",
            "coverage",
            "scavenger-hunt",
            "beyond",
        ],
        STUDIES,
    ),
)
def test_every_study_has_a_page_before_its_first_trial(name, tmp_path):
    run = run_study(study_named(name), "quick", tmp_path, finished_only=True)
    assert run.content["trials_run"] == 0
    assert "missing" in run.markdown_file.read_text(encoding="utf-8")


def test_no_mean_is_of_a_part_of_the_starts_while_the_others_have_not_run(tmp_path):
    study = study_named("cryorl-table2")
    ran: list[str] = []

    def stopped_in_a_cell(trial: Trial) -> dict[str, object]:
        if len(ran) == 7:
            raise KeyboardInterrupt
        ran.append(trial.name)
        return made_up(trial)

    with pytest.raises(KeyboardInterrupt):
        run_study(replace(study, run_one=stopped_in_a_cell), "quick", tmp_path)
    content = run_study(study, "quick", tmp_path, finished_only=True).content
    cells_of_random = [row for row in content["rows"] if row["policy"] == "random"]
    assert [row["missing"] for row in cells_of_random] == [False, True, True, True]
    assert cells_of_random[0]["routes"] == 150
