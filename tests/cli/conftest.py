"""How the tests of the command line call it: in this process, as the console script does."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cryoscout.cli.main import main


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call `cli("plan y1 --seed", 3)` in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(line: str, *more: object) -> Answer:
        code = main([*shlex.split(line), *(str(argument) for argument in more)])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def sim(cli: Cli) -> str:
    """The name of a stored session of 300 simulated holes, all imaged."""
    assert cli("simulate --preset small --holes 300 --seed 1 -o sim.session").code == 0
    return "sim.session"
