"""The gate of `make fuzz` is red for what crashes, hangs or eats memory, and green for what does none of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings

from examples import share

TESTS = Path(__file__).parent
PLANTED = """
import re
import pytest
from hypothesis import given, strategies as st

@pytest.mark.parametrize("kind", ["one"])
@given(st.integers(0, 3))
def test_planted(kind, number):
    {fault}
"""
FAULTS = {
    "nothing": ("assert number < 4", 0, "fuzz: "),
    "crash": ("assert number < 3 or {}['gone']", 1, "KeyError: 'gone'"),
    # No Python runs in here, so that nothing inside the process could end it.
    "hang": ("number < 3 or re.match('(a+)+$', 'a' * 50 + 'b')", 1, "fuzz: an example took more than 1 s"),
    "memory": ("number < 3 or b'x' * 600_000_000", 1, "at most 400 are allowed (FUZZ_MEMORY_MB)"),
}


def fuzz(*tests, **settings_of_it):
    environment = os.environ | {name: str(value) for name, value in settings_of_it.items()}
    command = [sys.executable, str(TESTS / "fuzz.py"), *map(str, tests)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_makes_the_gate_red_and_names_its_example(tmp_path, fault):
    code, left_with, told = FAULTS[fault]
    file = tmp_path / "test_planted.py"
    file.write_text(PLANTED.format(fault=code))
    began = time.monotonic()
    answer = fuzz(file, FUZZ_SECONDS=4, FUZZ_MEMORY_MB=400, FUZZ_HANG_SECONDS=1)
    said = answer.stdout + answer.stderr
    assert answer.returncode == left_with, said
    assert told in said
    if fault in ("hang", "memory"):
        assert "test_planted.py::test_planted[one]\n{'kind': 'one', 'number': 3}" in said
        assert "Fatal Python error: Aborted" in said
    if fault == "nothing":
        # Over and over: more than one run of the test has examples.
        assert int(re.search(r"([0-9,]+) examples tried", said)[1].replace(",", "")) > 8
        assert time.monotonic() - began < 60
    else:
        assert "left with 0" not in said


@pytest.mark.slow
def test_a_place_without_properties_is_not_green(tmp_path):
    file = tmp_path / "test_none.py"
    file.write_text("def test_none():\n    pass\n")
    assert fuzz(file, FUZZ_SECONDS=1).returncode == 1


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_time_that_is_none_is_refused(text):
    answer = fuzz(FUZZ_SECONDS=text)
    assert answer.returncode == 2
    assert answer.stderr == f"FUZZ_SECONDS must be a number above 0. Got {text!r} instead.\n"


def test_no_reader_has_a_number_of_examples_that_fuzzing_cannot_change():
    fixed = [
        f"{path.name}: {found}"
        for path in sorted((TESTS / "formats").glob("test_*.py"))
        for found in re.findall(r"max_examples\s*=\s*[0-9]+", path.read_text())
    ]
    assert fixed == []


def test_a_share_of_the_examples_is_at_least_one():
    assert share(100) == settings.default.max_examples
    assert share(25) == max(1, settings.default.max_examples // 4)
    assert share(0) == 1
