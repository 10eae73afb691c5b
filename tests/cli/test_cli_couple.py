"""`cryoscout couple`: from a stored session to predictions that plan takes; goes on after a stop; refuses bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cryoscout.cli.couple import REQUEST_FILE, CoupleRequest, _request
from cryoscout.coupling.loop import RUN_FILE
from cryoscout.coupling.settings import LATER_EPOCHS, couple_settings
from cryoscout.perception import settings
from cryoscout.perception.training import Training
from cryoscout.routing import times
from cryoscout.routing.time_model import PRESETS
from cryoscout.session.store import SessionStore
from session_with_images import PATCHES, TINY, run_once, stored, tiny_session, truth

QUICK = {**TINY, "steps": 20}


@pytest.fixture(autouse=True)
def tiny_profile(monkeypatch):
    monkeypatch.setitem(settings.PROFILES, "quick", QUICK)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Path:
    """A stored session, to be copied."""
    return stored(tmp_path_factory.mktemp("untouched") / "tiny.session")


@pytest.fixture(scope="module")
def coupled_once(untouched, tmp_path_factory) -> Path:
    """The session after a run with 0.6 of the labels, and the folder of the run, to be copied."""
    return run_once(
        untouched, tmp_path_factory.mktemp("coupled"), QUICK, "couple tiny.session --labels 0.6 -o mine"
    )


@pytest.fixture
def tiny(untouched, tmp_path) -> Path:
    return shutil.copytree(untouched, tmp_path / "tiny.session")


@pytest.fixture
def coupled(coupled_once, tmp_path) -> Path:
    """As `tiny`, with the run `mine` of `couple tiny.session --labels 0.6 -o mine`."""
    shutil.copytree(coupled_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tiny.session"


def test_it_ends_in_predictions_of_the_session_that_plan_takes(cli, tiny):
    answer = cli("couple tiny.session --labels 0.6 -o mine")
    assert answer.code == 0, answer.err
    assert "Wrote mine/classifier.safetensors: taught by belief with" in answer.out
    assert "1 *" in answer.out
    assert "The belief that taught was told the held-out results too" in answer.out + answer.err
    last = answer.out.splitlines()[-1]
    assert last.startswith("Plan with it: cryoscout plan tiny.session")
    assert "round 1: belief labels what has no label" in answer.err
    planned = cli(last.removeprefix("Plan with it: cryoscout "))
    assert planned.code == 0, planned.err
    with SessionStore.open_for_reading(tiny) as store:
        p = store.load().prediction("mine", 6.0)
    good = truth()
    assert p[good].mean() > p[~good].mean()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("--teacher route --rounds 2 --starts 3", marks=pytest.mark.slow),
        "--teacher own --rounds 1",
        pytest.param("--teacher ranks --starts 1", marks=pytest.mark.slow),
        pytest.param("--teacher ranks --driver adaptive --minutes 240", marks=pytest.mark.slow),
        pytest.param("--teacher values --epochs 1 --minutes 60", marks=pytest.mark.slow),
    ],
)
def test_the_json_says_what_every_round_did(cli, tiny, options):
    answer = cli(f"couple tiny.session --labels 0.6 -o mine --model-id run7 {options} --json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["model_id"] == "run7"
    assert found["labels"] + found["unlabelled"] == found["holes"] == 120
    teacher = options.split()[1]
    assert [each["teacher"] for each in found["rounds"]] == ["labels"] + [teacher] * (
        len(found["rounds"]) - 1
    )
    for each in found["rounds"][1:]:
        assert each["guesses"] == found["unlabelled"]
        assert 0.0 <= each["held_out_accuracy"] <= 1.0
        assert (each["n_positive"] is not None) == (teacher == "route")
    assert not any("told the held-out results" in note for note in found["notes"])
    assert found["chosen_round"] in range(1, len(found["rounds"]))
    assert json.loads(Path("mine/report.json").read_text()) == found
    assert Path("mine/rounds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_rounds_end_where_too_few_guesses_change_and_the_belief_is_not_told_what_chooses(cli, tiny):
    answer = cli("couple tiny.session --labels 0.6 -o mine --rounds 4 --least-change 1 --json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["stopped_early"]
    assert len(found["rounds"]) == 2
    assert not found["settings"]["belief_knows_held_out"]
    assert not any("told the held-out results" in note for note in found["notes"])


def test_results_of_holes_that_it_learned_from_are_not_counted_twice(cli, coupled):
    answer = cli("predict tiny.session mine --json --model-id again")
    assert answer.code == 0, answer.err
    with SessionStore.open_for_reading(coupled) as store:
        session = store.load()
    np.testing.assert_allclose(session.prediction("mine", 6.0), session.prediction("again", 6.0))


@pytest.mark.slow
def test_a_run_with_routes_that_was_stopped_goes_on_to_the_same_predictions(cli, tiny, monkeypatch):
    assert cli("couple tiny.session --labels 0.6 --teacher route -o mine").code == 0
    stopped_and_gone_on_with(cli, tiny, monkeypatch, "--teacher route")


def test_a_run_that_was_stopped_goes_on_to_the_same_predictions(cli, coupled, monkeypatch):
    stopped_and_gone_on_with(cli, coupled, monkeypatch, "")


def stopped_and_gone_on_with(cli, place, monkeypatch, options):
    """A run `part` that is stopped ends as the run `mine` beside it, which was not."""
    step, done = Training._one_step, []

    def dies(self, sums):
        if len(done) == 35:
            raise KeyboardInterrupt
        done.append(1)
        step(self, sums)

    monkeypatch.setattr(Training, "_one_step", dies)
    answer = cli(f"couple tiny.session --labels 0.6 {options} -o part")
    assert answer.code == 130
    assert "cryoscout couple tiny.session -o part --resume" in answer.err
    monkeypatch.setattr(Training, "_one_step", step)
    assert cli("couple tiny.session -o part --resume").code == 0
    with SessionStore.open_for_reading(place) as store:
        session = store.load()
    np.testing.assert_array_equal(session.prediction("mine", 6.0), session.prediction("part", 6.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--teacher bilief", "--teacher must be one of belief, own, ranks, route, values.*belief"),
        ("--teacher exact", "--teacher must be one of belief, own, ranks, route, values"),
        ("--starts 3", "--starts must go with .*Got it with the teacher belief and the driver index"),
        ("--n-positive 50", "--n-positive must go with .*Remedy: the teacher route; or leave"),
        ("--teacher ranks --n-positive 50", "--n-positive must go with .*the teacher ranks"),
        ("--minutes 120", "--minutes must go with .*such as adaptive or double"),
        ("--teacher route --minutes 120", "--minutes must go with .*and the driver index"),
        ("--teacher route --epochs 3", "--epochs must go with .*an agent as driver"),
        ("--teacher values --driver index", "Learned values must be those of an agent"),
        ("--on-belief", "Got on_belief with the teacher belief instead"),
        ("--driver greedy", "The driver must be one of"),
        ("--teacher route --n-positive 0", "N_C.*at least 1 and below 120"),
        ("--teacher route --n-positive -3", "N_C.*at least 1 and below 120.*Got -3"),
        ("--teacher route --n-positive 120", "N_C.*at least 1 and below 120"),
        ("--teacher route --starts 0", "M, must be 1 or more"),
        ("--labels 0", "share of labels must be above 0"),
        ("--threshold-angstrom 1", "both good and other holes"),
        ("--selection best", "Settings of the loop"),
        ("--teacher route --driver adaptive --minutes 0", "Settings of the loop.*Remedy: a value like that"),
        (
            "--teacher route --driver adaptive --minutes 3",
            r"A window must hold the longest move with its exposure: \d+ minutes or more\. Got 3 minutes instead",
        ),
        (
            "--teacher ranks --driver adaptive --minutes 16",
            r"A window must hold the longest move.*Got 4 minutes, the shortest window of 16 instead",
        ),
        (
            "--teacher route --driver double --minutes 1",
            r"An episode must hold a visit: 2 minutes or more\. Got 1 minutes instead\. Remedy: more --minutes",
        ),
        ("--rounds 2 --least-change 2", "Settings of the loop.*Got least_change 2"),
        ("--driver double", "Got the driver double with the teacher belief, which trains none"),
        ("--model-id a@b", "name of predictions"),
        ("--context much", "--context must be one of"),
    ],
)
def test_wrong_options_are_one_clear_line_and_leave_nothing(cli, tiny, options, message):
    answer = cli(f"couple tiny.session -o mine {options}")
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1
    import re

    assert re.search(message, answer.err), answer.err
    assert not Path("mine").exists()


def test_a_session_in_which_every_hole_has_a_result_is_refused(cli, tmp_path):
    every = np.ones(120, dtype=bool)
    stored(tmp_path / "all.session", tiny_session(results=every))
    answer = cli("couple all.session -o mine")
    assert answer.code == 2
    assert "must have unlabelled states" in answer.err
    assert not Path("mine").exists()


def test_a_session_without_any_result_is_refused(cli, tmp_path):
    stored(tmp_path / "none.session", tiny_session(results=np.zeros(120, dtype=bool)))
    answer = cli("couple none.session -o mine")
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1
    assert "result" in answer.err
    assert "Remedy" in answer.err
    assert not Path("mine").exists()


def test_a_session_without_images_is_refused(cli):
    answer = cli("couple y1 -o mine")
    assert answer.code == 2
    assert "hole images" in answer.err


def test_a_folder_with_a_run_is_not_overwritten(cli, coupled):
    again = cli("couple tiny.session --labels 0.6 -o mine")
    assert again.code == 2
    assert "--resume" in again.err
    other = cli("couple tiny.session -o mine --resume --seed 1")
    assert other.code == 2
    assert "same settings" in other.err


@pytest.mark.parametrize(("asked", "later"), [({}, None), ({"later_epochs": 3}, 3)])
def test_a_run_goes_on_with_the_settings_it_was_begun_with(tmp_path, asked, later):
    """A run that was begun before agents went on from round to round names no `later_epochs`."""
    begun = couple_settings("route", "double", rounds=3).model_dump(mode="json")
    del begun["later_epochs"]
    (tmp_path / RUN_FILE).write_text(json.dumps({"settings": begun, "data": "d"}))
    request = CoupleRequest("tiny.session", "route", "double", of_loop={"rounds": 3})
    (tmp_path / REQUEST_FILE).write_text(json.dumps(asdict(request)))
    found = _request("tiny.session", tmp_path, True, {}, asked, {})
    assert found.settings().model_dump(mode="json") == {**begun, "later_epochs": later}
    assert request.settings().later_epochs == LATER_EPOCHS


def test_a_run_does_not_go_on_where_holes_lie_elsewhere(cli, tmp_path, coupled):
    session = tiny_session()
    moved = replace(session, holes=session.holes.assign(x_um=session.holes["x_um"] * 2.0))
    stored(tmp_path / "moved.session", moved)
    answer = cli("couple moved.session --labels 0.6 -o mine --resume")
    assert answer.code == 2
    assert "the same states, places, labels and features" in answer.err


@pytest.mark.parametrize(("teacher", "code"), [("route", 2), pytest.param("own", 0, marks=pytest.mark.slow)])
def test_what_moves_cost_decides_whether_a_run_with_routes_goes_on(cli, tiny, monkeypatch, teacher, code):
    starts = " --starts 1" if teacher == "route" else ""
    command = f"couple tiny.session --labels 0.6 --teacher {teacher} --rounds 1{starts} -o mine"
    assert cli(command).code == 0
    monkeypatch.setattr(times, "time_model_for", lambda *given: (PRESETS["y1-looks-as-sketched"], ()))
    answer = cli(f"{command} --resume")
    assert answer.code == code, answer.err
    assert ("minutes of moves" in answer.err) == (code == 2)


def test_a_hole_without_an_image_gets_a_guess_from_what_lies_around(cli, tmp_path):
    imaged = np.arange(120) % 7 != 0
    place = stored(tmp_path / "some.session", tiny_session(imaged=imaged))
    answer = cli("couple some.session --rounds 1 -o mine --json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert any("without a usable image" in note for note in found["notes"])
    assert found["labels"] == 80  # the results of holes without an image are known to the belief
    with SessionStore.open_for_reading(place) as store:
        assert np.isfinite(store.load().prediction("mine", 6.0)).all()
    assert PATCHES == 10


def test_a_teacher_that_misleads_is_told():
    from cryoscout.cli.couple import _clearly_worse
    from cryoscout.coupling.loop import Coupled, Round

    def after(kept: float) -> list[str]:
        rounds = (Round(0, "labels", 1.0, 0.9), Round(1, "belief", 1.0, kept))
        return _clearly_worse(Coupled(None, 1, rounds, False), 100)

    assert after(0.87) == []
    assert "right on 70.0 % of the held-out results, the pretraining on 90.0 %" in after(0.7)[0]
