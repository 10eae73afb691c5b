"""The shipped conformance checker of policies, with small problems and the slow exhaustive judge of planners.

A policy of your own: `check_policy(MyPolicy)` raises ConformanceError naming the clause that it breaks.
"""

from cryoscout.testing.looks import SmallWorld, check_looks, looking_worlds
from cryoscout.testing.policies import (
    EXHAUSTIVE_HOLES,
    ConformanceError,
    check_policy,
    conformance_problems,
    exhaustive_best,
    random_problem,
)

__all__ = [
    "EXHAUSTIVE_HOLES",
    "ConformanceError",
    "SmallWorld",
    "check_looks",
    "check_policy",
    "conformance_problems",
    "exhaustive_best",
    "looking_worlds",
    "random_problem",
]
