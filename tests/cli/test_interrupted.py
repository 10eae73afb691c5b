"""Ctrl-C and SIGTERM: a command ends soon, cleans up what it began, and keeps what it had finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from cryoscout.cli.main import run; run()"
)
"""Ctrl-C ends it also where the tests themselves run in the background, whose children ignore it."""


def begun(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def waited_for(condition, seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never began"
        time.sleep(0.02)


def finished_rows(folder: Path) -> int:
    files = list(folder.glob(".study/*/trials.jsonl"))
    return sum(len(file.read_text().splitlines()) for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_study_stops_keeps_every_finished_trial_and_says_how_to_go_on(tmp_path, workers, number, code):
    output = tmp_path / "results"
    study = begun(tmp_path, "study", "delay", "--workers", workers, "-o", str(output))
    waited_for(lambda: finished_rows(output) >= 2, 400.0)  # the first run of a checkout compiles first
    stopped = time.monotonic()
    os.killpg(study.pid, number) if number == signal.SIGINT else study.send_signal(number)
    _, said = study.communicate(timeout=60)
    assert time.monotonic() - stopped < 10.0  # 5 s, and what a busy machine adds
    assert study.returncode == code
    assert f"cryoscout study delay --profile quick --workers {workers} --output {output} --resume" in said
    assert "Traceback" not in said
    kept = finished_rows(output)
    rows = [
        json.loads(line)
        for file in output.glob(".study/*/trials.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert kept >= 2
    assert sum(row["result"] is not None for row in rows) >= 2
    assert not (output / "delay.md").exists()


def test_sigterm_removes_the_partial_folder_of_an_import(tmp_path):
    simulation = begun(tmp_path, "simulate", "--preset", "y3", "-o", "run.session")
    waited_for(lambda: list(tmp_path.glob(".run.session.partial-*")))
    simulation.send_signal(signal.SIGTERM)
    _, said = simulation.communicate(timeout=60)
    assert simulation.returncode == 143
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_closed_standard_output_is_no_error(tmp_path):
    line = f"exec {sys.executable} -c '{SCRIPT}' plan y1 --budget-min 20 --policy random --json >&-"
    answer = subprocess.run(
        ["/bin/sh", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_plain_file_as_session_is_said_to_be_one(cli, tmp_path):
    (tmp_path / "f.session").write_text("no session")
    answer = cli("plan f.session --budget-min 30")
    assert answer.code == 2
    assert "Got the file f.session instead. Remedy: make a session of it with cryoscout import" in answer.err
