"""`cryoscout predict`: predictions are added to a session and planned with; nothing else in it changes."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cryoscout.cli import report
from cryoscout.perception import Classifier, settings
from cryoscout.perception.from_session import fitted_holes, session_crops
from cryoscout.session.store import SessionStore
from cryoscout.session.tables import TABLES
from session_with_images import TINY, bright, hole_id, images_of, stored, tiny_session, truth


@pytest.fixture(autouse=True)
def tiny_profile(monkeypatch):
    monkeypatch.setitem(settings.PROFILES, "quick", {**TINY, "steps": 60})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A session and a classifier of it, with its ONNX file, to be copied."""
    from cryoscout.cli.main import main

    folder = tmp_path_factory.mktemp("made")
    ctf = np.where(truth(), 4.0, 9.0) + np.random.default_rng(0).normal(0.0, 0.5, 120)
    stored(folder / "tiny.session", tiny_session(ctf=ctf))
    learn = "train tiny.session --labels 0.5 -o mine --onnx mine.onnx --method supervised"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(settings.PROFILES, "quick", {**TINY, "steps": 60})
        patch.chdir(folder)
        assert main(shlex.split(learn)) == 0
        assert main(shlex.split("train tiny.session -o any --method regression")) == 0
    return folder


@pytest.fixture
def tiny(made, tmp_path):
    for name in ("tiny.session", "mine", "any"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "mine.onnx", tmp_path)
    return tmp_path / "tiny.session"


def load(folder):
    with SessionStore.open(folder) as store:
        return store.load()


def test_predictions_are_added_and_nothing_else_changes(cli, tiny):
    before = load(tiny)
    images = {path.name: path.read_bytes() for path in (tiny / "images").iterdir()}
    answer = cli("predict tiny.session mine --context none")
    assert answer.code == 0, answer.err
    assert "Added 120 predictions mine at 6 Å to tiny.session" in answer.out
    after = load(tiny)
    for table in TABLES:
        if table != "predictions":
            assert getattr(after, table).equals(getattr(before, table)), table
    assert {path.name: path.read_bytes() for path in (tiny / "images").iterdir()} == images
    assert after.models() == ["mine"]
    rows = after.predictions
    assert len(rows) == 120
    assert rows["predicted_at"].notna().all()
    assert (rows["threshold_angstrom"] == 6.0).all()
    p_good = after.prediction("mine", 6.0)
    assert ((p_good >= 0.5) == truth()).mean() > 0.9


def test_train_predict_and_plan_go_together(cli, tiny):
    line = cli("predict tiny.session mine --context none").out.splitlines()[-1]
    command = line.removeprefix("Plan with it: cryoscout ")
    assert command == "plan tiny.session --budget-min 240 --policy adaptive --prediction mine"
    plan = json.loads(cli(f"{command} --json").out)
    assert plan["prediction"] == "mine"
    assert len(plan["holes"]) == 40  # all holes without a result, in 240 min
    good = dict(zip(load(tiny).holes["hole_id"], truth(), strict=True))
    first = [
        good[visit["hole"]] for visit in json.loads(cli(f"{command} --budget-min 30 --json").out)["holes"]
    ]
    assert np.mean(first) > 0.8


def test_context_lets_results_correct_the_predictions(cli, tiny):
    alone = json.loads(cli("predict tiny.session mine --model-id alone --context none --json").out)
    told = json.loads(cli("predict tiny.session mine --json").out)
    assert (alone["context"], told["context"]) == ("none", "effects+stage")
    # Of 40 of the 80 the label was used: their results count, their scores do not.
    assert told["context_labels"] == 80
    assert "do not judge them by a replay" in " ".join(told["notes"])
    session = load(tiny)
    assert (session.prediction("alone", 6.0) != session.prediction("mine", 6.0)).any()
    answer = cli("predict tiny.session mine --context effects")
    assert "context effects, given 80 results" in answer.out
    assert "--policy expected --prediction mine" in answer.out
    assert cli("plan tiny.session --budget-min 60 --policy expected --prediction mine").code == 0
    assert cli("predict tiny.session mine --context stage").code == 0


def test_without_results_there_is_no_context(cli, tiny, tmp_path):
    stored(tmp_path / "new.session", tiny_session(results=np.zeros(120, dtype=bool)))
    told = json.loads(cli("predict new.session mine --json").out)
    assert told["context"] == "none"
    assert "No context: 0 results" in " ".join(told["notes"])
    answer = cli("predict new.session mine --context effects")
    assert answer.code == 2
    assert "A context must have 10 results" in answer.err


def test_holes_without_image_get_the_share_of_the_labels_and_it_is_said(cli, tiny, tmp_path):
    pixels = bright(truth())
    pixels[30] = 0
    imaged = np.ones(120, dtype=bool)
    imaged[[5, 7]] = False
    session = tiny_session(imaged=imaged)
    folder = stored(tmp_path / "gaps.session", session, images_of(session, pixels))
    (folder / "images" / "p9.npy").write_bytes(b"damaged")
    told = json.loads(cli("predict gaps.session mine --context none --json").out)
    assert (told["without_image"], told["set_aside"]) == (14, 13)
    notes = " ".join(told["notes"])
    assert "15 holes without a usable image: 0." in notes
    assert hole_id(0, 5) in notes
    assert "12 of these have an image that is damaged" in notes
    p_good = load(folder).prediction("mine", 6.0)
    assert len(set(p_good[[5, 7, 30, *range(108, 120)]])) == 1
    assert cli("plan gaps.session --budget-min 60 --prediction mine").code == 0


def test_a_second_prediction_of_one_name_counts_and_the_first_is_kept(cli, tiny):
    assert cli("predict tiny.session mine --context none").code == 0
    first = load(tiny).prediction("mine", 6.0)
    answer = cli("predict tiny.session mine.onnx --model-id mine --context effects")
    assert "they are kept, and the new ones count" in answer.out
    session = load(tiny)
    assert len(session.predictions) == 120  # the newest alone are read; both stand in the events
    with SessionStore.open(tiny) as store:
        assert sum(event.kind == "predicted" for event in store.events()) == 2
    assert (session.prediction("mine", 6.0) != first).any()


def test_a_regression_answers_any_threshold_and_a_classifier_its_own(cli, tiny):
    assert cli("predict tiny.session any --context none").code == 0
    assert cli("predict tiny.session any --context none --threshold-angstrom 4.5").code == 0
    session = load(tiny)
    assert (session.prediction("any", 4.5) <= session.prediction("any", 6.0)).all()
    answer = cli("predict tiny.session mine --threshold-angstrom 5")
    assert answer.code == 2
    assert "trained for, 6 Å. Got 5 Å instead" in answer.err
    assert "Got -1.0 instead" in cli("predict tiny.session any --threshold-angstrom -1").err


def test_an_onnx_file_predicts_the_same_without_torch(cli, tiny, tmp_path):
    assert cli("predict tiny.session mine --context none").code == 0
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from cryoscout.cli.main import main\n"
        "for named in ('mine.onnx --model-id light', 'mine --model-id x'):\n"
        "    print(main(f'predict tiny.session {named} --context none'.split()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    codes = [line for line in done.stdout.splitlines() if line in "02"]
    assert codes == ["0", "2"], done.stderr
    session = load(tiny)
    np.testing.assert_allclose(session.prediction("light", 6.0), session.prediction("mine", 6.0), atol=1e-4)
    assert "Or predict from an ONNX file: cryoscout train --onnx." in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("predict tiny.session nothing", "A classifier must be a folder of cryoscout train"),
        ("predict tiny.session nothing.onnx", "no such file"),
        ("predict tiny.session tiny.session", "Got tiny.session instead"),
        ("predict tiny.session mine/checkpoint.safetensors", "must be a perception classifier"),
        ("predict y1 mine", "Got the built-in session y1 instead"),
        ("predict no.session mine", "which is not one"),
        ("predict tiny.session mine --context effect", "Did you mean 'effects'?"),
        ("predict tiny.session mine --model-id flat", "none of combined and flat"),
        ("predict tiny.session mine --model-id a@b", "Got 'a@b' instead"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_added(cli, tiny, line, message):
    answer = cli(line)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert load(tiny).models() == []


def test_a_session_without_images_is_refused(cli, tiny, sim):
    assert "must have hole images" in cli(f"predict {sim} mine").err


def test_holes_of_another_session_with_the_same_ids_were_not_fitted_to(cli, tiny, tmp_path):
    classifier = Classifier.load(tmp_path / "mine" / "classifier.safetensors")
    with SessionStore.open(tiny) as store:
        crops = session_crops(store)
    notes = classifier.notes
    assert fitted_holes(classifier, crops).sum() == len(notes["trained_holes"])
    assert len(notes["trained_holes"]) == notes["labels"] - notes["held_out_labels"] > 0
    others = replace(crops, images=np.roll(crops.images, 3, axis=2))
    assert not fitted_holes(classifier, others).any()


@pytest.mark.slow
def test_the_report_judges_predictions_without_what_the_classifier_learned(cli, tiny, tmp_path):
    cli("predict tiny.session mine --context none")
    assert cli("report tiny.session -o a.html --policies index --starts 2 --classifier mine").code == 0
    page = (tmp_path / "a.html").read_text()
    fitted = len(Classifier.load(tmp_path / "mine" / "classifier.safetensors").notes["trained_holes"])
    assert f"{80 - fitted} holes with a result" in page
    assert f"{fitted} holes that a classifier was fitted to are left out" in page
    assert "What the holes look like" in page


def test_a_classifier_without_hole_images_is_refused(cli, tiny):
    answer = cli("report y1 -o b.html --classifier mine")
    assert answer.code == 2
    assert "--classifier must go with a session that has hole images. Got y1 instead" in answer.err


def test_damaged_images_do_not_stop_a_report(cli, tiny, tmp_path):
    cli("predict tiny.session mine --context none")
    files = sorted((tiny / "images").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:50])
    assert cli("report tiny.session -o a.html --policies index --starts 2").code == 0
    assert "12 holes have an image that cannot be used" in (tmp_path / "a.html").read_text()


def test_where_images_are_gone_a_report_has_none_and_says_so(tiny, capfd):
    for file in (tiny / "images").iterdir():
        file.unlink()
    assert report._images_of(str(tiny), load(tiny), []) == (None, None)
    assert "No hole images in the report" in capfd.readouterr().err


@pytest.mark.slow
def test_a_report_of_a_session_whose_images_are_gone_says_so(cli, tiny):
    cli("predict tiny.session mine --context none")
    for file in (tiny / "images").iterdir():
        file.unlink()
    answer = cli("report tiny.session -o b.html --policies index --starts 2")
    assert answer.code == 0
    assert "No hole images in the report" in answer.out + answer.err
    assert cli("report tiny.session -o c.html --policies index --starts 2 --classifier mine").code == 2
