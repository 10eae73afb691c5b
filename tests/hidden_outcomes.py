"""Sessions with their results taken away, as a session is before it is imaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cryoscout.session.model import Session
from cryoscout.session.overrides import Overrides
from cryoscout.session.tables import empty_table


def with_outcomes_hidden(session: Session) -> Session:
    """The session as new: nothing imaged, no CTF results, nothing overridden, of the vendor's fields only those of
    squares and holes; predictions kept."""
    hidden = session.exposures.assign(
        outcome="none", started_at=np.datetime64("NaT", "ns"), ctf_max_res_angstrom=np.nan
    )
    # Files may say a result of anything that is or names an exposure.
    ids = session.vendor_fields["record_id"]
    of_places = ids.isin(session.squares["square_id"]) | ids.isin(session.holes["hole_id"]) | (ids == "")
    of_places &= ~ids.isin(session.exposures["exposure_id"])
    return replace(
        session,
        exposures=hidden,
        ctf_runs=empty_table("ctf_runs"),
        vendor_fields=session.vendor_fields[of_places],
        overrides=Overrides(),
    )
