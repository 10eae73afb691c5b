"""A session played as a growing folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryoscout.core.errors import InputError
from cryoscout.core.telling import Say

if TYPE_CHECKING:
    from cryoscout.live.serving import ServeRequest


@contextmanager
def played(request: ServeRequest, say: Say) -> Iterator[Path]:
    """The player's session."""
    raise InputError("--replay must be built. Got nothing yet instead.")
    yield Path()
