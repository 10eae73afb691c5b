"""How much of a test every run does: a share of the profile's examples, so that fuzzing reaches each; some values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import settings

T = TypeVar("T")


IS_USUAL_RUN = os.environ.get("CRYOSCOUT_HYPOTHESIS_PROFILE", "default") == "default"


def share(per_cent: int, otherwise: int | None = None) -> int:
    """That share of the examples of the profile (25, thorough 100); at least one.

    For `@settings(max_examples=share(25))`.     otherwise : the share in other profiles than the usual one
    """
    if otherwise is not None and not IS_USUAL_RUN:
        per_cent = otherwise
    return max(1, settings.default.max_examples * per_cent // 100)


def slow_but(fast: Iterable[T], values: Iterable[T]) -> list[Any]:
    """The values of a parametrised test: those of `fast` in every run, the others in `make test-slow`.

    Raises ValueError where one of `fast` is no value, so that a renamed one does not leave the usual run in silence.
    """
    kept, values = list(fast), list(values)
    missing = [each for each in kept if each not in values]
    if missing:
        raise ValueError(f"Values for every run must be among all of them. Got {missing} instead.")
    return [each if each in kept else pytest.param(each, marks=pytest.mark.slow) for each in values]
