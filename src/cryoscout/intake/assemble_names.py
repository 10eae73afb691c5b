"""To which exposure of a session a name in another source belongs, and an account of what found none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.formats.ctf.names import exposure_name, name_without_dots
from cryoscout.formats.epu.names import parse_exposure
from cryoscout.session.joins import NAMES_SHOWN, JoinReport, leginon_stem


def joined_by_name(
    names: list[str],
    other_ids: list[str] | None,
    exposure_ids: list[str],
    what: str,
    also_called: Mapping[str, str] | None = None,
) -> tuple[NDArray[np.int64], JoinReport]:
    """Place of each name among the exposures, (len(names),), -1 where it has none, and the report.

    A name joins as it is written, as a pipeline's name, as EPU's, as Leginon's image or as RELION's, without dots,
    but never without dots to an exposure that another name is of.
    EPU's name of an exposure that is not there joins to the one of the same hole and acquisition area: the shot was
    taken again.
    other_ids : a second name of each, tried last; "" for none     what : for the report
    also_called : further ids of exposures -> the id
    """
    row = {exposure_id: place for place, exposure_id in enumerate(exposure_ids)}
    further = {each: row[of] for each, of in (also_called or {}).items() if of in row and each not in row}
    rows = np.array([*range(len(exposure_ids)), *further.values()], dtype=np.int64)
    place, report = _joined(names, other_ids, [*exposure_ids, *further], what)
    place = np.where(place < 0, -1, rows[place]) if len(rows) else place
    shared = {each.rpartition("/")[2] for each in exposure_ids if "/" in each}
    of_several = [row for row, at in enumerate(place.tolist()) if at >= 0 and exposure_ids[at] in shared]
    if of_several:
        place[of_several] = -1
        report = _with_shared_names(report, [names[each] for each in of_several])
    without = len(exposure_ids) - len(np.unique(place[place >= 0]))
    return place, replace(report, without=without)


def _with_shared_names(report: JoinReport, names: Sequence[str]) -> JoinReport:
    """The report, where these names are of several exposures and joined none."""
    why = f"{len(names)} name images that several folders have" + (f"; {report.why}" if report.why else "")
    return replace(
        report,
        joined=report.joined - len(names),
        first_not_joined=(*names, *report.first_not_joined)[:NAMES_SHOWN],
        why=why,
    )


def _joined(
    names: list[str], other_ids: list[str] | None, exposure_ids: list[str], what: str
) -> tuple[NDArray[np.int64], JoinReport]:
    place = _places(names, exposure_ids)
    attempts = [(names, exposure_name), (names, _epu_stem), (names, leginon_stem), (names, name_without_dots)]
    if other_ids is not None:
        attempts += [(other_ids, str), (other_ids, exposure_name), (other_ids, name_without_dots)]
    attempts.append((names, epu_shot))
    dotted = place.copy()  # where a name has its exposure's dots
    for written, plain in attempts:
        left = np.flatnonzero(place < 0)
        if not len(left):
            break
        found = _places([plain(written[row]) for row in left], [plain(each) for each in exposure_ids])
        if plain is name_without_dots:
            # a.b_1 and a_b_1 are two names: where one is there as it is, the other is of another exposure.
            found[np.isin(found, dotted[dotted >= 0])] = -1
        else:
            dotted[left] = found
        place[left] = found
    lost = np.flatnonzero(place < 0)
    return place, JoinReport(
        what=what,
        found=len(names),
        joined=len(names) - len(lost),
        first_not_joined=tuple(names[row] for row in lost[:NAMES_SHOWN]),
        why="no exposure of a hole has the name" if len(lost) else "",
        target="exposures",
    )


def _places(names: Sequence[str], targets: Sequence[str]) -> NDArray[np.int64]:
    """Place of each name among the targets; -1 for none, and for one that two targets share."""
    index = pd.Index(np.array(targets, dtype=object))
    unique = ~index.duplicated(keep=False)
    found = index[unique].get_indexer(pd.Index(np.array(names, dtype=object)))
    rows = np.flatnonzero(unique)
    return np.where(found < 0, -1, rows[found] if len(rows) else -1).astype(np.int64)


def _epu_stem(name: str) -> str:
    parsed = parse_exposure(name)
    return name if parsed is None else parsed.stem


def epu_shot(name: str) -> str:
    """What EPU's names of the images of one shot share, FoilHole_HOLE_Data_AREA; another name as it is."""
    parsed = parse_exposure(name)
    return name if parsed is None else f"FoilHole_{parsed.hole_id}_Data_{parsed.area_id}"
