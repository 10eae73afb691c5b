"""The command line as a whole: help at once, one-line errors, exit codes, pipes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import cryoscout
from cryoscout.cli import main as entry
from cryoscout.cli.main import COMMANDS, main
from cryoscout.core.errors import DataError
from cryoscout.core.new_files import finite

HEAVY = ("numpy", "pandas", "numba", "scipy", "sqlalchemy", "torch", "matplotlib", "fastapi", "rich")


@pytest.fixture(autouse=True)
def commands_of_its_own():
    """A command that one test puts in the place of another is none of the next one."""
    entry._command.cache_clear()
    yield
    entry._command.cache_clear()


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plan", "--help"], ["replay", "--help"]])
def test_help_imports_no_heavy_library(arguments):
    loaded = python(
        "import sys, contextlib, io\n"
        "from cryoscout.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = main({arguments!r})\n"
        "print(code, *sys.modules)"
    ).split()
    assert loaded[0] == "0"
    assert [name for name in HEAVY if name in loaded] == []
    # typer itself imports pydantic to read the options of a command, not for the overview.
    assert ("pydantic" in loaded) <= (arguments[0] in COMMANDS)


def test_the_overview_lists_every_command_and_its_summary(cli):
    answer = cli("--help")
    assert answer.code == 0
    for name, command in COMMANDS.items():
        assert name in answer.out
        assert command.summary.split()[0] in answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(cli, name):
    answer = cli(name, "--help")
    assert answer.code == 0
    assert f"cryoscout {name}" in answer.out.split("Example")[1]


def test_the_version_is_the_packages(cli):
    assert cli("--version") == (0, f"cryoscout {cryoscout.__version__}\n", "")


def test_an_unknown_command_offers_the_nearest(cli):
    answer = cli("pln y1")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("The command must be one of ")
    assert answer.err.endswith("Got 'pln' instead. Did you mean 'plan'?\n")


def test_a_missing_option_is_a_usage_error(cli):
    answer = cli("plan y1")
    assert answer.code == 2
    assert "--budget-min" in answer.err


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_an_error_of_cryoscout_is_its_message_alone(cli, monkeypatch):
    monkeypatch.setattr(entry, "_function_of", lambda command: raising(DataError("It must be so.")))
    assert cli("plan") == (2, "", "It must be so.\n")


def test_a_file_that_cannot_be_written_is_one_line_that_names_it(cli, monkeypatch):
    error = PermissionError(13, "Permission denied", "/somewhere/list.csv")
    monkeypatch.setattr(entry, "_function_of", lambda command: raising(error))
    answer = cli("plan")
    assert answer.code == 2
    assert answer.err.startswith(
        "/somewhere/list.csv must be readable and writable. Got Permission denied instead."
    )
    assert answer.err.count("\n") == 1


def test_what_does_not_fit_in_memory_is_one_line(cli, monkeypatch):
    error = MemoryError("Unable to allocate 7.28 TiB")
    monkeypatch.setattr(entry, "_function_of", lambda command: raising(error))
    answer = cli("replay")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(
        "What a command is asked must fit in the memory of this computer. Got more than"
    )
    assert "Unable to allocate 7.28 TiB" in answer.err
    assert answer.err.count("\n") == 1


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(entry, "_function_of", lambda command: raising(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        main(["plan"])


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("4", "4")])
def test_the_matrices_of_a_trained_policy_take_one_thread_unless_the_user_says_otherwise(before, after):
    loaded = python(
        "import os, sys\n"
        f"os.environ.pop('OPENBLAS_NUM_THREADS', None) if {before!r} is None else "
        f"os.environ.update(OPENBLAS_NUM_THREADS={before!r})\n"
        "from cryoscout.cli.main import run\n"
        "sys.argv = ['cryoscout', '--version']\n"
        "try: run()\n"
        "except SystemExit: print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    ).split()
    assert loaded[-2:] == [after, "False"]


def test_an_interrupt_leaves_with_130(cli, monkeypatch):
    monkeypatch.setattr(entry, "_function_of", lambda command: raising(KeyboardInterrupt()))
    assert cli("plan").code == 130

    def interrupted(command):
        raise KeyboardInterrupt

    # Also while the command is still being imported.
    monkeypatch.setattr(entry, "_function_of", interrupted)
    assert cli("plan").code == 130


def test_an_interrupt_in_compiled_code_leaves_with_130(cli, monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interruption:
            raise SystemError("returned a result with an exception set") from interruption

    monkeypatch.setattr(entry, "_function_of", interrupted)
    assert cli("plan").code == 130


def test_a_reader_that_goes_away_makes_no_noise():
    code = "import sys; from cryoscout.cli.main import run; sys.argv = ['cryoscout', '--help']; run()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    noise = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert noise == ""


def test_json_has_no_word_for_what_is_not_finite():
    value = {"a": [1.5, float("nan"), (float("inf"), "nan", None)], "b": {"c": -float("inf"), "d": True}}
    assert finite(value) == {"a": [1.5, None, [None, "nan", None]], "b": {"c": None, "d": True}}
    json.dumps(finite(value), allow_nan=False)
