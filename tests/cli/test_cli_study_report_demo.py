"""The commands study, report and demo, called as a user calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cryoscout.study.engine import catalogue
from cryoscout.study.engine.catalogue import STUDIES, Page, Study
from cryoscout.study.engine.runner import Trial


def flaky(trial: Trial) -> dict[str, object]:
    if trial.parameters["number"] == 1 and not Path("repaired").exists():
        raise RuntimeError("broke")
    return {"number": trial.parameters["number"]}


TINY = Study(
    "tiny",
    "A tiny study",
    lambda profile: [Trial(f"number {i}", {"number": i}, 0) for i in range(3)],
    flaky,
    lambda rows, profile: Page("body", b"\x89PNG", [{"result": row.result} for row in rows]),
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(catalogue, "study_named", lambda name, session: TINY)


def test_an_unknown_study_leaves_with_2_and_the_nearest_name(cli):
    answer = cli("study cryorl-tabel2")
    assert answer.code == 2
    assert "Did you mean 'cryorl-table2'" in answer.err
    assert answer.out == ""


def test_a_failed_trial_leaves_with_1_and_resume_repairs_it(cli, tiny):
    answer = cli("study tiny -o results --json")
    assert answer.code == 1
    assert json.loads(answer.out)["failed"] == {"number 1": "RuntimeError: broke"}
    assert "--resume" in answer.err
    Path("repaired").touch()
    answer = cli("study tiny -o results --json --resume")
    assert answer.code == 0
    assert "2 of 3 trials were on disk already" in answer.err
    assert json.loads(answer.out)["rows"] == [{"result": {"number": i}} for i in range(3)]


def test_without_a_folder_results_go_beside_the_user(cli, tiny):
    Path("repaired").touch()
    answer = cli("study tiny")
    assert answer.code == 0
    assert "# A tiny study" in answer.out
    assert Path("study-results/tiny.json").is_file()


def test_in_a_checkout_results_go_to_its_docs(cli, tiny):
    Path("repaired").touch()
    Path("src/cryoscout/study").mkdir(parents=True)
    Path("docs").mkdir()
    assert cli("study tiny").code == 0
    assert Path("docs/results/tiny.md").is_file()


def test_a_report_is_written_once_and_says_its_command(cli, sim):
    answer = cli("report sim.session -o page.html --budget-min 60 --policies random,greedy --starts 3 --json")
    assert answer.code == 0
    figures = json.loads(answer.out)
    assert list(figures["policies"])[:2] == ["as recorded", "random@simulated"]
    assert list(figures["policies"])[2].startswith("greedy@")
    assert figures["policies"]["as recorded"]["minutes_recorded_mean"] > 0
    assert figures["bound_mean"] >= max(each["good_mean"] for each in figures["policies"].values())
    html = Path("page.html").read_text(encoding="utf-8")
    assert (
        "cryoscout report sim.session -o page.html --budget-min 60 --policies random,greedy --starts 3"
        in html
    )
    again = cli("report sim.session -o page.html --policies random")
    assert again.code == 2
    assert "--force" in again.err


def test_a_report_that_cannot_read_the_events_says_that_it_is_without_the_night(cli, sim, monkeypatch, capfd):
    from cryoscout.cli.report import _night_of
    from cryoscout.core.errors import StoreHeldError

    assert _night_of("sim.session") is not None

    def held(events):
        raise StoreHeldError("The database must be free. Got one that another program holds instead.")

    monkeypatch.setattr("cryoscout.advice.night.night_of", held)
    assert _night_of("sim.session") is None
    said = " ".join(capfd.readouterr().err.split())
    assert "The report is without the night" in said
    assert "another program holds" in said


@pytest.mark.slow
def test_the_report_shows_what_results_add_to_predictions(cli):
    assert cli("simulate --preset small --holes 300 --seed 1 -o some.session").code == 0
    assert cli("report some.session -o page.html --budget-min 60 --policies greedy --starts 1").code == 0
    assert "What results add to the predictions" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("report y1 --policies ,", "at least one"),
        ("report y1 --policies gready", "Did you mean 'greedy'"),
        ("report y1 --budget-min 0", "positive number of minutes"),
        ("report y1 --budget-min 60 --until 09:00", "by --budget-min or by --until. Got both instead"),
        ("report y1 --until noon", "noon"),
        ("report y1 --policies random -o no/such/page.html", "folder must exist"),
        ("report nothing.session", "The session must be one of"),
    ],
)
def test_a_wrong_report_leaves_with_2_and_writes_nothing(cli, line, said):
    answer = cli(line)
    assert answer.code == 2
    assert said in answer.err
    assert not Path("report.html").exists()


def test_the_demo_imports_plans_replays_and_reports(cli, monkeypatch):
    from cryoscout.cli import demo

    monkeypatch.setattr(demo, "BUDGET_MIN", 120.0)
    monkeypatch.setattr(demo, "STARTS", 2)
    monkeypatch.setattr(demo, "POLICIES", ("random", "greedy"))
    answer = cli("demo --json")
    assert answer.code == 0
    figures = json.loads(answer.out)
    assert list(figures["policies"]) == ["as recorded", "random@res50", "greedy@res50"]
    folder = Path("cryoscout-demo")
    assert {path.name for path in folder.iterdir()} >= {"y1.session", "plan.csv", "plan.html", "report.html"}
    assert cli("demo").code == 0


def test_the_demo_does_not_touch_a_folder_that_is_not_its_own(cli):
    Path("cryoscout-demo").mkdir()
    Path("cryoscout-demo/thesis.txt").write_text("mine")
    answer = cli("demo")
    assert answer.code == 2
    assert "made by the demo" in answer.err
    assert [path.name for path in Path("cryoscout-demo").iterdir()] == ["thesis.txt"]


def test_the_help_of_study_names_every_study(cli):
    answer = cli("study --help")
    # Lines may break after a hyphen.
    words = re.sub(r"-\s*\n[\s│]*", "-", answer.out.replace("│", " ")).split()
    assert [name for name in STUDIES if name not in [word.strip(",;.") for word in words]] == []
