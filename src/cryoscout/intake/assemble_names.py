"""To which exposure of a session a name in another source belongs, and an account of what found none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.formats.ctf.names import exposure_name, folder_of, name_without_dots
from cryoscout.formats.epu.names import parse_exposure
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.serialem.mdoc import MOVIE_PATH
from cryoscout.session.joins import NAMES_SHOWN, JoinReport, leginon_stem
from cryoscout.session.vendor_fields import unpacked

_NUMBERED = re.compile(r"#\d+$")


def joined_by_name(
    names: list[str],
    other_ids: list[str] | None,
    exposure_ids: list[str],
    what: str,
    also_called: Mapping[str, str] | None = None,
    *,
    folders: Sequence[str] | None = None,
    movie_folders: Mapping[str, str] | None = None,
    own_ids: Collection[str] = (),
    of_holes: Collection[str] = (),
) -> tuple[NDArray[np.int64], JoinReport]:
    """Place of each name among the exposures, (len(names),), -1 where it has none, and the report.

    A name joins as it is written, as a pipeline's name, as EPU's, as Leginon's image or as RELION's, without dots,
    but never without dots to an exposure that another name is of.
    EPU's name of an exposure that is not there joins to the one of the same hole and acquisition area: the shot was
    taken again.
    Where exposures of several folders have one name, and the others are called FOLDER/NAME, the folder of a result
    tells which of them it is of; without that it joins none, and neither do results of one name in several folders.
    other_ids : a second name of each, tried last; "" for none     what : for the report
    also_called : further ids of exposures -> the id
    folders : of each name, "" unknown; None: as the names say     movie_folders : id -> folder of its movie
    own_ids : ids that the source of the names gives itself: these names are meant as they are
    of_holes : those of them whose hole the source says, whatever their folder
    """
    row = {exposure_id: place for place, exposure_id in enumerate(exposure_ids)}
    further = {each: row[of] for each, of in (also_called or {}).items() if of in row and each not in row}
    rows = np.array([*range(len(exposure_ids)), *further.values()], dtype=np.int64)
    place = _joined(names, other_ids, [*exposure_ids, *further])
    place = np.where(place < 0, -1, rows[place]) if len(rows) else place
    says_folders = folders is None
    folders = [folder_of(name) for name in names] if folders is None else folders
    by_folder = _by_folder(names, folders, exposure_ids, movie_folders or {})
    meant = by_folder >= 0
    for each, name in enumerate(names):
        is_exact = name in own_ids and place[each] >= 0 and exposure_ids[place[each]] == name
        if meant[each] and not (is_exact and name in of_holes):
            place[each] = by_folder[each]
        meant[each] |= is_exact
    shared = {each.rpartition("/")[2] for each in exposure_ids if "/" in each}
    of_several = (
        np.array([at >= 0 and exposure_ids[at] in shared for at in place.tolist()], dtype=bool) & ~meant
    )
    if says_folders:
        meant |= _places(names, exposure_ids) >= 0
    torn = _in_several_folders(names, folders) & (place >= 0) & ~meant & ~of_several
    place[of_several | torn] = -1
    lost = np.flatnonzero(place < 0)
    reasons = []
    if of_several.any():
        reasons.append(f"{of_several.sum()} name images that several folders have")
    if torn.any():
        reasons.append(f"{torn.sum()} stand in several folders under one name")
    if len(lost) > (of_several | torn).sum():
        reasons.append("no exposure of a hole has the name")
    first = [*np.flatnonzero(of_several), *np.flatnonzero(torn), *lost]
    report = JoinReport(
        what=what,
        found=len(names),
        joined=len(names) - len(lost),
        first_not_joined=tuple(names[each] for each in list(dict.fromkeys(first))[:NAMES_SHOWN]),
        why="; ".join(reasons),
        without=len(exposure_ids) - len(np.unique(place[place >= 0])),
        target="exposures",
    )
    return place, report


def movie_folders(
    exposure_ids: Sequence[str], stored: pd.DataFrame, sources: Sequence[SourceRecords] = ()
) -> dict[str, str]:
    """Into which folder the movie of an exposure was written (SerialEM's SubFramePath), where names are shared.

    stored : `vendor_fields`     sources : that are being read
    """
    shared = {each.rpartition("/")[2] for each in exposure_ids if "/" in each}
    wanted = [each for each in exposure_ids if each.rpartition("/")[2] in shared]
    if not wanted:
        return {}
    said = [(record, fields) for (_, record), fields in unpacked(stored, wanted).items()]
    for source in sources:
        said += [(each, dict(source.extra[each])) for each in wanted if each in source.extra]
    folders = ((each, folder_of(fields.get(MOVIE_PATH, ""))) for each, fields in said)
    return {each: folder for each, folder in folders if folder}


def _joined(names: list[str], other_ids: list[str] | None, exposure_ids: list[str]) -> NDArray[np.int64]:
    """Place of each name, whatever its folder."""
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
    return place


def _by_folder(
    names: Sequence[str],
    folders: Sequence[str],
    exposure_ids: Sequence[str],
    movie_folders: Mapping[str, str],
) -> NDArray[np.int64]:
    """Place of each name whose folder tells the exposure of a shared name, -1 where it does not."""
    shared = {name_without_dots(each) for each in exposure_ids if "/" in each}
    shared |= {name_without_dots(each) for each in movie_folders}
    of: dict[tuple[str, str], int] = {}
    for place, exposure_id in enumerate(exposure_ids):
        bare = name_without_dots(exposure_id)
        if bare in shared:
            # FOLDER#2/NAME is of a second folder of the name.
            own = _NUMBERED.sub("", exposure_id.rpartition("/")[0])
            for folder in {
                each.replace(".", "_") for each in (own, movie_folders.get(exposure_id, "")) if each
            }:
                of[folder, bare] = place if of.get((folder, bare), place) == place else -1
    found = [
        of.get((folder.replace(".", "_"), name_without_dots(name)), -1) if folder else -1
        for name, folder in zip(names, folders if shared else [""] * len(names), strict=True)
    ]
    return np.array(found, dtype=np.int64)


def _in_several_folders(names: Sequence[str], folders: Sequence[str]) -> NDArray[np.bool_]:
    """Which names stand in several folders of their source."""
    if not any(folders):
        return np.zeros(len(names), dtype=bool)
    bare = [exposure_name(name) for name in names]
    folders_of: dict[str, set[str]] = {}
    for name, folder in zip(bare, folders, strict=True):
        folders_of.setdefault(name, set()).add(folder)
    return np.array([len(folders_of[name]) > 1 for name in bare], dtype=bool)


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
