"""How many examples a property-based test gets: a share of what the profile gives, so that fuzzing reaches each."""

from __future__ import annotations

from hypothesis import settings


def share(per_cent: int) -> int:
    """That share of the examples of the profile, 25 of them or thorough 100; at least one. For `@settings(max_examples=share(25))`."""
    return max(1, settings.default.max_examples * per_cent // 100)
