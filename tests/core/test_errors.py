"""The error tree: what a handler catches, and what the messages say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryoscout.core.errors import (
    CryoscoutError,
    DataError,
    FileFormatError,
    InputError,
    ServiceError,
    StoreError,
    UnknownNameError,
)
from cryoscout.routing.course import PolicyError
from cryoscout.testing import ConformanceError


@pytest.mark.parametrize(
    "error",
    [
        InputError,
        UnknownNameError,
        FileFormatError,
        StoreError,
        DataError,
        ServiceError,
        PolicyError,
        ConformanceError,
    ],
)
def test_one_handler_catches_everything_raised_on_purpose(error: type[Exception]) -> None:
    assert issubclass(error, CryoscoutError)
    assert not issubclass(error, (ValueError, OSError))  # nobody catches it by accident


def test_an_unknown_name_is_an_input_error() -> None:
    assert issubclass(UnknownNameError, InputError)
    assert not issubclass(FileFormatError, InputError)


def test_an_unknown_name_lists_the_known_ones_and_offers_the_nearest() -> None:
    error = UnknownNameError("The policy", "gredy", ["random", "greedy"])
    assert (
        str(error) == "The policy must be one of greedy, random. Got 'gredy' instead. Did you mean 'greedy'?"
    )
    assert error.nearest == "greedy"


def test_an_unknown_name_like_none_of_them_offers_nothing() -> None:
    error = UnknownNameError("The policy", "zzz", (name for name in ("random", "greedy")))
    assert str(error) == "The policy must be one of greedy, random. Got 'zzz' instead."
    assert error.nearest is None


@pytest.mark.parametrize(("line", "where"), [(None, "a/holes.csv"), (17, "a/holes.csv, line 17")])
def test_a_file_error_names_the_file_and_the_line(line: int | None, where: str) -> None:
    error = FileFormatError("a/holes.csv", line, "x must be a number. Got 'q' instead.")
    assert str(error) == f"{where}: x must be a number. Got 'q' instead."
    assert (error.path, error.line) == (Path("a/holes.csv"), line)
    assert error.detail == "x must be a number. Got 'q' instead."
