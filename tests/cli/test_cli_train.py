"""`cryoscout train`: from a stored session to a classifier; goes on after a stop; wrong input is one clear line."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoscout.perception import Classifier, settings
from cryoscout.perception.training import Training
from session_with_images import TINY, bright, hole_id, images_of, run_once, stored, tiny_session, truth


@pytest.fixture(autouse=True)
def tiny_profile(monkeypatch):
    monkeypatch.setitem(settings.PROFILES, "quick", TINY)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Path:
    """A stored session, to be copied."""
    return stored(tmp_path_factory.mktemp("untouched") / "tiny.session")


@pytest.fixture(scope="module")
def trained_once(untouched, tmp_path_factory) -> Path:
    """The session and a finished training of it, to be copied."""
    return run_once(
        untouched, tmp_path_factory.mktemp("trained"), TINY, "train tiny.session --steps 10 -o mine"
    )


@pytest.fixture
def tiny(untouched, tmp_path) -> Path:
    return shutil.copytree(untouched, tmp_path / "tiny.session")


@pytest.fixture
def trained(trained_once, tmp_path) -> Path:
    """As `tiny`, with the training `mine` of `train tiny.session -o mine`."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tiny.session"


def metrics_of(folder: str) -> list[dict]:
    rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return rows


def test_a_training_writes_a_classifier_its_course_and_the_next_step(cli, tiny):
    answer = cli("train tiny.session --labels 0.5 --split patch -o mine")
    assert answer.code == 0, answer.err
    assert "Wrote mine/classifier.safetensors: fixmatch with" in answer.out
    assert "for 6 Å; ResNet-18 of width 8, 16 px" in answer.out
    assert "Trained in float32; it predicts in float32" in answer.out
    assert "Held-out accuracy:" in answer.out
    assert "Test accuracy:" in answer.out
    assert "holes of other patches" in answer.out
    assert answer.out.splitlines()[-1] == "Predict with it: cryoscout predict tiny.session mine"
    assert "fixmatch, step 30/30, held-out accuracy" in answer.err
    rows = metrics_of("mine")
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert all(0 <= row["mask_rate"] <= 1 for row in rows)
    assert {"held_out_accuracy", "pseudo_label_accuracy"} <= set(rows[0])
    classifier = Classifier.load(Path("mine/classifier.safetensors"))
    assert classifier.threshold_angstrom == 6.0
    assert classifier.notes["session"] == "tiny"
    assert 20 <= len(classifier.notes["trained_holes"]) <= 32


def test_the_json_says_what_was_learned_and_what_was_not(cli, tmp_path):
    pixels = bright(truth())
    pixels[3] = pixels[50] = 0
    imaged = np.ones(120, dtype=bool)
    imaged[[12, 13]] = False
    session = tiny_session(imaged=imaged)
    folder = stored(tmp_path / "tiny.session", session, images_of(session, pixels))
    (folder / "images" / "p9.npy").write_bytes(b"damaged")
    answer = cli("train tiny.session --method supervised --threshold-angstrom 7 --steps 10 -o mine --json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert (told["method"], told["threshold_angstrom"], told["classifier"]) == (
        "supervised", 7.0, "mine/classifier.safetensors",
    )  # fmt: skip
    assert told["images"] == 120 - 2 - 12 - 2
    assert told["precision"] == "float32"
    # Results: 80, without those of 2 holes without image, of 8 with a damaged one and of 2 that show nothing.
    assert told["labels"] == 68
    assert (told["set_aside"], told["results_without_image"]) == (14, 10)
    with Path("mine/set_aside.csv").open() as file:
        why = {row["hole_id"]: row["why"] for row in csv.DictReader(file)}
    assert why[hole_id(0, 3)] == why[hole_id(4, 2)] == "all its pixels are the same"
    assert "cannot be read" in why[hole_id(9, 11)]
    notes = " ".join(told["notes"])
    assert "14 images were set aside" in notes
    assert "mine/set_aside.csv" in notes
    assert f"Results of 10 holes without an image cannot be used (first: {hole_id(1, 0)}" in notes


def test_the_test_part_is_judged_and_nothing_of_it_is_learned(cli, tiny):
    told = json.loads(
        cli("train tiny.session --method supervised --steps 10 --split square -o mine --json").out
    )
    assert (told["images"], told["labels"]) == (
        96,
        64,
    )  # one square of five is away: 24 holes, 16 with a result
    assert (told["test"]["level"], told["test"]["holes"]) == ("square", 16)
    assert 0 <= told["test"]["accuracy"] <= 1
    trained = Classifier.load(Path("mine/classifier.safetensors")).notes["trained_holes"]
    assert len({int(hole[1]) // 2 for hole in trained}) == 4


@pytest.mark.parametrize(
    ("method", "stages"),
    [
        ("iterative-fixmatch", 2),
        pytest.param("barlow-twins", 2, marks=pytest.mark.slow),
        pytest.param("softmatch", 1, marks=pytest.mark.slow),
        ("regression", 1),
    ],
)
def test_methods_have_dashes(cli, tiny, method, stages):
    rng = np.random.default_rng(0)
    shutil.rmtree("tiny.session")
    stored(Path("tiny.session"), tiny_session(ctf=np.where(truth(), 4.0, 9.0) + rng.normal(0, 0.5, 120)))
    answer = cli(f"train tiny.session --method {method} --steps 10 -o mine --split square")
    assert answer.code == 0, answer.err
    assert {row["stage"] for row in metrics_of("mine")} == set(range(stages))
    assert metrics_of("mine")[-1]["step"] == 10
    if method == "regression":
        assert "for any threshold" in answer.out
        assert "Held-out right CTF bin" in answer.out
    assert "Test accuracy" in answer.out


def test_a_stopped_training_says_how_to_go_on_and_ends_as_if_it_had_not_been_stopped(cli, tiny, monkeypatch):
    line = "train tiny.session --labels 0.6 --seed 3 --split square --steps 20"
    assert cli(f"{line} -o whole").code == 0
    one_step = Training._one_step

    def interrupted(self, sums):
        if self.step == 15:
            raise KeyboardInterrupt
        one_step(self, sums)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_one_step", interrupted)
        answer = cli(f"{line} -o part")
    assert answer.code == 130
    assert (
        "The checkpoint is kept. Go on with:\n  cryoscout train tiny.session -o part --resume" in answer.err
    )
    assert not Path("part/classifier.safetensors").exists()
    other = cli("train tiny.session -o part --resume --width 9")
    assert other.code == 2
    assert "Got width 8 there and 9 here instead" in other.err
    assert cli("train tiny.session -o part --resume").code == 0
    assert metrics_of("part") == metrics_of("whole")
    first, second = (Classifier.load(Path(name, "classifier.safetensors")) for name in ("part", "whole"))
    assert all((first.weights[name] == second.weights[name]).all() for name in second.weights)


def test_a_stop_before_the_first_checkpoint_is_said(cli, tiny, monkeypatch):
    def interrupted(self, sums):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_one_step", interrupted)
    answer = cli("train tiny.session -o part")
    assert answer.code == 130
    assert "Stopped before the first checkpoint" in answer.err


def test_results_that_came_since_are_another_run(cli, trained):
    shutil.rmtree("tiny.session")
    stored(Path("tiny.session"), tiny_session(results=np.ones(120, dtype=bool)))
    answer = cli("train tiny.session -o mine --resume")
    assert answer.code == 2
    assert "same images and labels" in answer.err


def test_a_finished_training_is_exported_by_going_on(cli, trained):
    answer = cli("train tiny.session -o mine --resume --onnx mine.onnx")
    assert answer.code == 0
    assert "Wrote mine.onnx: the same without torch" in answer.out
    assert Path("mine.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--method fixmach", "--method must be one of align, barlow-twins"),
        ("--method fixmach", "Did you mean 'fixmatch'?"),
        ("--method iterative_fixmatch", "Did you mean 'iterative-fixmatch'?"),
        ("--method pseudo-label", "Remedy: --method iterative-fixmatch, which makes its own"),
        ("--profile quik", "Did you mean 'quick'?"),
        ("--labels 0", "above 0 and at most 1. Got 0 instead"),
        ("--labels 10", "Got 10 instead"),
        ("--labels 0.001", "Got 1 label, all"),
        ("--split hole", "--split must be one of patch, square. Got 'hole' instead"),
        ("--depth 34", "Got depth 34 instead"),
        ("--width 4", "Got width 4 instead: Value error, width must be 8 or more, because torch"),
        ("--precision half", "Got precision 'half' instead"),
        ("--threshold-angstrom 1", "Got 80 labels, all not good, instead"),
        ("--method regression --threshold-angstrom 5", "Remedy: give it to cryoscout predict"),
        ("--learning-rate 0", "Got learning_rate 0.0 instead"),
        ("--augmentation squares", "Did you mean 'square'?"),
        ("--learning-rate 90 --method supervised", "The loss of training must be a number"),
        ("--device abacus", "A device must be cpu or cuda. Got 'abacus' instead"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(cli, tiny, options, message):
    answer = cli(f"train tiny.session -o mine {options}")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(cli, tiny, monkeypatch):
    from cryoscout.perception.methods.fixmatch import FixMatch

    loss = FixMatch.loss

    def poisoned(self, seen):
        outcome = loss(self, seen)
        from dataclasses import replace

        return replace(outcome, supervised=outcome.supervised * float("nan")) if seen.step == 15 else outcome

    monkeypatch.setattr(FixMatch, "loss", poisoned)
    answer = cli("train tiny.session -o mine")
    assert answer.code == 2
    assert "Got nan in step 16 of fixmatch instead; the checkpoint of step" in answer.err
    assert Path("mine/checkpoint.safetensors").is_file()


def test_sessions_that_cannot_be_learned_from_are_refused(cli, tmp_path, sim):
    assert "Got none instead. Remedy: import it with --images" in cli(f"train {sim} -o a").err
    assert "Got the built-in session y1 instead" in cli("train y1 -o a").err
    assert "which is not one" in cli("train nothing.session -o a").err
    stored(tmp_path / "bad.session", tiny_session(ctf=np.full(120, 9.0)))
    assert "all not good" in cli("train bad.session -o a").err
    session = tiny_session()
    stored(tmp_path / "black.session", session, images_of(session, np.zeros((120, 16, 16), dtype=np.uint8)))
    assert "must show something. Got 120" in cli("train black.session -o a").err
    stored(tmp_path / "small.session", session, images_of(session, bright(truth(), side=4)))
    assert "at least 8 px" in cli("train small.session -o a").err
    assert not Path("a/classifier.safetensors").exists()


def test_a_folder_with_a_training_is_not_written_over(cli, trained, tmp_path):
    answer = cli("train tiny.session -o mine")
    assert answer.code == 2
    assert "Remedy: add --resume" in answer.err
    (tmp_path / "file").write_text("")
    assert "Got the file file instead" in cli("train tiny.session -o file").err
    Path("mine/train.json").write_text("{")
    assert "must hold the options of a training" in cli("train tiny.session -o mine --resume").err


def test_without_torch_the_remedy_is_said(tiny):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from cryoscout.cli.main import main\n"
        f"sys.exit(main(['train', {str(tiny)!r}, '-o', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'Remedy: pip install "cryoscout[learn]"' in done.stderr


def test_a_classifier_is_never_on_disk_without_the_holes_it_was_trained_on(cli, tiny, monkeypatch):
    written, save = [], Classifier.save

    def watched(classifier: Classifier, path: Path) -> None:
        written.append(set(classifier.notes))
        save(classifier, path)

    monkeypatch.setattr(Classifier, "save", watched)
    assert cli("train tiny.session --steps 10 -o mine").code == 0
    assert written
    assert all({"trained_holes", "session", "request"} <= notes for notes in written)
