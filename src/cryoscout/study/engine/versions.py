"""Which results a trial belongs to: a version declared by hand, because a docstring changes no figure.

Whoever changes what a sub-package computes raises its number here in the same commit. Where a change reaches few
trials, these get a parameter more, or their study another number, and the rows of all others stay. A test holds
reference figures of the packages that compute quickly, and is red while figures and numbers disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

RESULT_VERSIONS: dict[str, int] = {
    "core": 1,
    "session": 1,
    "belief": 1,
    "routing": 1,
    "simulate": 1,
    "learning": 1,
    "perception": 2,
    "coupling": 1,
    "advice": 2,
}
"""Sub-package -> number of its results; only ever raised."""


def result_version(packages: Sequence[str], study: int = 1) -> str:
    """The version of a study's rows, as text: `study1-belief1-core1-...`.

    packages : sub-packages behind the rows     study : the study's own number
    """
    return "-".join([f"study{study}", *(f"{name}{RESULT_VERSIONS[name]}" for name in sorted(packages))])
