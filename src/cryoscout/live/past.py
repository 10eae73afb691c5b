"""The state as of a moment of the past: the events up to it, folded into a database of their own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cryoscout.live.running import LiveSession, Moment
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore

if TYPE_CHECKING:
    from cryoscout.live.advisor import Advisor


def moment_as_of(advisor: Advisor, event: int, as_of: datetime) -> Moment:
    """What the advisor would have said after an event, at a time; also where no hole was known yet."""
    with TemporaryDirectory(prefix="cryoscout-") as folder:
        place = Path(folder) / "past.session"
        advisor.reading(lambda store: store.copy_as_of(place, event))
        live = LiveSession(
            FollowedSession(SessionStore.open(place)),
            advisor.settings,
            advisor.run_id_now,
            lambda: as_of.timestamp(),
        )
        try:
            return live.advise()
        finally:
            live.followed.store.close()
