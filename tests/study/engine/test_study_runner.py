"""Trials survive being stopped, failing and being run by several processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from cryoscout.core.errors import InputError
from cryoscout.study.engine.runner import Trial, TrialStore, machine_in_words, run_trials


def square_of(trial: Trial) -> dict[str, object]:
    number = trial.parameters["number"]
    if number == 3:
        raise ValueError("three is refused")
    return {"square": number * number, "seed": trial.seed}


def well_behaved(trial: Trial) -> dict[str, object]:
    return {"square": trial.parameters["number"] ** 2}


def trials(count: int) -> list[Trial]:
    return [Trial(f"number {number}", {"number": number}, seed=5) for number in range(count)]


def test_rows_stand_in_the_order_of_the_trials_and_on_disk(tmp_path):
    rows = run_trials(trials(3), well_behaved, TrialStore(tmp_path))
    assert [row.result["square"] for row in rows] == [0, 1, 4]
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 3


def test_a_failing_trial_is_a_row_with_its_error_and_the_others_still_run(tmp_path):
    rows = run_trials(trials(5), square_of, TrialStore(tmp_path))
    assert [row.error for row in rows] == [None, None, None, "ValueError: three is refused", None]
    assert rows[3].result is None


def interrupted_in_compiled_code(trial: Trial) -> dict[str, object]:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as interruption:
        raise SystemError("CPUDispatcher(...) returned a result with an exception set") from interruption


def test_an_interruption_in_compiled_code_ends_the_study_and_is_no_failed_trial(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_trials(trials(2), interrupted_in_compiled_code, TrialStore(tmp_path))
    assert not (tmp_path / "trials.jsonl").exists()


def test_a_failing_trial_is_tried_once_more_when_the_others_have_run(tmp_path):
    ran, said = [], []

    def fails_at_first(trial: Trial) -> dict[str, object]:
        ran.append(trial.name)
        if trial.parameters["number"] == 1 and ran.count(trial.name) == 1:
            raise OSError("no room")
        return well_behaved(trial)

    rows = run_trials(trials(3), fails_at_first, TrialStore(tmp_path), progress=said.append)
    assert ran == ["number 0", "number 1", "number 2", "number 1"]
    assert [row.error for row in rows] == [None, None, None]
    assert any("FAILED: OSError: no room" in line for line in said)
    assert said[-1].startswith("once more: number 1")


def test_resume_runs_only_what_is_missing_and_failed(tmp_path):
    run_trials(trials(4), square_of, TrialStore(tmp_path))
    ran = []

    def recording(trial: Trial) -> dict[str, object]:
        ran.append(trial.name)
        return well_behaved(trial)

    rows = run_trials(trials(5), recording, TrialStore(tmp_path), resume=True)
    assert ran == ["number 3", "number 4"]
    assert [row.result["square"] for row in rows] == [0, 1, 4, 9, 16]


def test_a_half_written_row_is_run_again_and_does_not_spoil_the_next(tmp_path):
    store = TrialStore(tmp_path)
    run_trials(trials(3), well_behaved, store)
    text = store.path.read_text()
    store.path.write_text(text[:-25])
    assert len(store.finished()) == 2
    run_trials(trials(4), well_behaved, store, resume=True)
    assert len(store.finished()) == 4


def test_lines_that_are_no_rows_are_passed_over_and_said_and_their_trials_run_again(tmp_path):
    run_trials(trials(6), well_behaved, TrialStore(tmp_path))
    file = tmp_path / "trials.jsonl"
    rows = file.read_bytes().splitlines(keepends=True)
    without_seconds = {key: value for key, value in json.loads(rows[1]).items() if key != "seconds"}
    other_result = {**json.loads(rows[2]), "result": [1]}
    # Another's byte, a row of an editor, a merge's mark, a result that is none, and a last line that was cut off.
    broken = [rows[0].replace(b"number", b"num\xffber"), json.dumps(without_seconds).encode() + b"\n",
              json.dumps(other_result).encode() + b"\n", b"<<<<<<< ours\n", rows[3], rows[4], rows[5][:-9]]  # fmt: skip
    file.write_bytes(b"".join(broken))
    said: list[str] = []
    again = run_trials(trials(6), well_behaved, TrialStore(tmp_path), resume=True, progress=said.append)
    assert [row.result["square"] for row in again] == [0, 1, 4, 9, 16, 25]
    assert said[0] == "2 of 6 trials were on disk already"
    assert said[1].startswith(f"5 lines of {file} are no rows of trials")


def test_without_resume_everything_runs_again(tmp_path):
    store = TrialStore(tmp_path)
    run_trials(trials(3), well_behaved, store)
    run_trials(trials(2), well_behaved, store)
    assert len(store.finished()) == 2


def stopped(trial: Trial) -> dict[str, int]:
    raise KeyboardInterrupt


def broken(trial: Trial) -> dict[str, int]:
    raise OSError("nothing runs here")


def test_rows_of_an_earlier_run_go_when_there_is_a_new_result_and_not_before(tmp_path):
    store = TrialStore(tmp_path)
    run_trials(trials(3), well_behaved, store)
    rows = run_trials(trials(2), broken, store)
    assert [row.error for row in rows] == ["OSError: nothing runs here"] * 2
    assert len(store.finished()) == 3
    # Number 3 fails after others have ended, number 0 before: of a run that has a result all its rows are kept.
    run_trials([trials(4)[3], *trials(2)], square_of, store)
    assert len(store.finished()) == 2
    assert len(store.path.read_text().splitlines()) == 4


def test_a_run_that_is_stopped_before_its_first_row_does_not_go_on_with_those_of_another(tmp_path):
    store = TrialStore(tmp_path)
    run_trials(trials(3), well_behaved, store)
    with pytest.raises(KeyboardInterrupt):
        run_trials(trials(3), stopped, store)
    assert store.finished() == {}
    run_trials(trials(3), well_behaved, store)
    with pytest.raises(KeyboardInterrupt):
        run_trials(trials(4), stopped, store, resume=True)
    assert len(store.finished()) == 3


def test_a_changed_parameter_or_seed_is_another_trial():
    trial = Trial("a", {"x": 1}, 0)
    assert trial.key == Trial("a", {"x": 1}, 0).key
    assert (
        len(
            {trial.key, Trial("a", {"x": 2}, 0).key, Trial("a", {"x": 1}, 1).key, Trial("b", {"x": 1}, 0).key}
        )
        == 4
    )


def test_rows_of_another_version_are_run_again(tmp_path):
    run_trials(trials(3), well_behaved, TrialStore(tmp_path, version="old"))
    assert len(TrialStore(tmp_path, version="old").finished()) == 3
    assert TrialStore(tmp_path, version="new").finished() == {}


def test_worker_processes_give_the_same_rows_as_one(tmp_path):
    alone = run_trials(trials(5), square_of, TrialStore(tmp_path / "one"))
    together = run_trials(trials(5), square_of, TrialStore(tmp_path / "two"), workers=2)
    assert [(row.trial, row.result, row.error) for row in alone] == [
        (row.trial, row.result, row.error) for row in together
    ]


def test_progress_counts_names_failures_and_says_what_is_left(tmp_path):
    said = []
    run_trials(trials(4), square_of, TrialStore(tmp_path), progress=said.append)
    assert [line.split("]")[0] for line in said[:4]] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert said[4] == "once more: number 3: FAILED again: ValueError: three is refused"
    assert "FAILED: ValueError: three is refused" in said[3]
    assert "left" in said[0]


def test_a_result_that_json_cannot_hold_is_a_failed_trial(tmp_path):
    rows = run_trials(trials(1), lambda trial: {"set": {1, 2}}, TrialStore(tmp_path))
    assert rows[0].error.startswith("TypeError")


def test_repeated_trials_and_no_workers_are_refused(tmp_path):
    with pytest.raises(InputError, match="1 repeats"):
        run_trials([*trials(1), *trials(1)], well_behaved, TrialStore(tmp_path))
    with pytest.raises(InputError, match="workers must be 1 or more"):
        run_trials(trials(1), well_behaved, TrialStore(tmp_path), workers=0)


def test_the_machine_is_named_with_versions():
    words = machine_in_words()
    assert "cores" in words
    assert "numpy" in words
    assert json.dumps(words)


def test_a_store_takes_the_finished_rows_of_a_file_once_and_of_its_own_version_alone(tmp_path):
    run_trials(trials(4), square_of, TrialStore(tmp_path / "a", "1"))
    file, store = tmp_path / "a" / "trials.jsonl", TrialStore(tmp_path / "b", "1")
    assert (store.take(file), store.take(file), store.take(tmp_path / "none")) == (3, 0, 0)
    assert len(store.finished()) == 3
    assert TrialStore(tmp_path / "c", "2").take(file) == 0


STUDY_THAT_LASTS = """
import sys, time
from pathlib import Path
from filelock import FileLock
from cryoscout.study.engine.runner import Trial, TrialStore, run_trials

def lasts(trial):
    folder = Path(trial.parameters["folder"])
    with FileLock(folder / f"lock-{trial.seed}"):
        (folder / f"runs-{trial.seed}").touch()
        time.sleep(120)

if __name__ == "__main__":
    folder = sys.argv[1]
    trials = [Trial("lasts", {"folder": folder}, seed) for seed in (0, 1)]
    run_trials(trials, lasts, TrialStore(Path(folder)), workers=2)
"""


def test_workers_end_with_a_study_that_is_killed(tmp_path):
    script = tmp_path / "study.py"
    script.write_text(STUDY_THAT_LASTS, encoding="utf-8")
    study = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    try:
        give_up_at = time.monotonic() + 60
        while not all((tmp_path / f"runs-{seed}").exists() for seed in (0, 1)):
            assert study.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
    finally:
        study.kill()
        study.wait()
    for seed in (0, 1):  # held by a worker for as long as it lives
        with FileLock(tmp_path / f"lock-{seed}", timeout=30):
            pass
