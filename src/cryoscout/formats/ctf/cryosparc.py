"""CryoSPARC's tables of exposures (.cs, .csg) with CTF results, and the tables passed through that hold their paths.

A .cs file is a NumPy structured array (magic 0x93 "NUMPY") or a CSDAT stream (magic 0x95 "CSDAT", see `csdat`); rows
are known by `uid` (unsigned 64-bit).

    field                                       unit       becomes
    micrograph_blob/path, movie_blob/path ...   path       name (folder, uid and suffixes off, see `ctf_names`)
    ctf_stats/ctf_fit_to_A, ctf/ctf_fit_to_A    angstrom   ctf_max_res_angstrom; the first that is not 0
    ctf/df1_A, ctf/df2_A                        angstrom   defocus_u_um, defocus_v_um
    ctf/df_angle_rad, ctf/phase_shift_rad       radians    defocus_angle_deg, phase_shift_deg
    ctf/cross_corr_ctffind4                                figure_of_merit
    ctf_stats/ice_thickness_rel                 relative   ice_thickness_rel

A job writes its exposures and `*passthrough*.cs` beside them, and either may have the paths or the results: what one
lacks is taken from the other by uid, whichever is named; or both are named. A field that an exposure does not have is 0
(cryosparc-tools allocates fields as zeros): a resolution of 0 is no result, and the exposure stays pending;
one of nan is a failed fit.
A .csg file names the .cs files of one result; only files of its own folder are opened, whatever it says.
Sources: cryosparc-tools (`cryosparc/dataset`), guide.cryosparc.com. Doubt: which of the two fields holds the result
differs by job; of an exposure the first one that is not 0 counts. The export of a Live session is read as a generic
table.
"""

from __future__ import annotations

import io
import math
import re
import sys
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step, one_step
from cryoscout.formats.ctf import csdat
from cryoscout.formats.ctf.csdat import read_csdat
from cryoscout.formats.ctf.records import UM_PER_ANGSTROM, CtfRows, deviations_of, files_in, head_text, shown
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.text.findings import Deviation, Findings, read_bytes, read_text

NUMPY_MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 100_000
LARGEST_GROUP_BYTES = 1024 * 1024
MOST_VALUES = 10_000_000
"""Of all fields with one value per exposure; a compressed file of a few MB can hold far more."""
NAME_FIELDS = (
    "micrograph_blob/path",
    "micrograph_blob_non_dw/path",
    "movie_blob/path",
    "background_blob/path",
)
RESOLUTION_FIELDS = ("ctf_stats/ctf_fit_to_A", "ctf/ctf_fit_to_A")
FIELDS: dict[str, tuple[str, float]] = {
    "ctf/df1_A": ("defocus_u_um", UM_PER_ANGSTROM),
    "ctf/df2_A": ("defocus_v_um", UM_PER_ANGSTROM),
    "ctf/df_angle_rad": ("defocus_angle_deg", 180.0 / math.pi),
    "ctf/phase_shift_rad": ("phase_shift_deg", 180.0 / math.pi),
    "ctf/cross_corr_ctffind4": ("figure_of_merit", 1.0),
    "ctf_stats/ice_thickness_rel": ("ice_thickness_rel", 1.0),
}
_NOT_READ = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
    EOFError,
    tokenize.TokenError,
)
_METAFILE = re.compile(r"\s+metafile:\s*'?>?(?P<name>[^'\s]+)'?\s*")


@dataclass(frozen=True)
class CsTable:
    """One table by column."""

    path: Path
    columns: dict[str, NDArray[Any]]
    """Field -> (n, ...) values; text as written: bytes of a NumPy file, str of a CSDAT file."""

    @property
    def uid(self) -> NDArray[np.uint64]:
        """(n,) what rows are known by."""
        return self.columns["uid"].astype(np.uint64)

    def text(self, field: str) -> list[str]:
        """A text field. Raises FileFormatError for bytes that are not UTF-8 and for what is no character."""
        column = self.columns[field]
        try:
            if column.dtype.kind == "U" and column.size and column.dtype.itemsize:
                # NumPy does not look at the numbers of the characters; Python breaks on those that are none.
                codes = np.ascontiguousarray(column).view(np.dtype("u4").newbyteorder(column.dtype.byteorder))
                if codes.max() > sys.maxunicode:
                    raise ValueError("no character")
            values = column.tolist()
            texts = [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
            "".join(texts).encode()
        except ValueError:
            # UnicodeError is one.
            raise FileFormatError(
                self.path, None, f"{field} must be UTF-8. Got other bytes instead."
            ) from None
        return texts


def detect(path: Path) -> bool:
    """Whether a file is a .cs table or a .csg group, by its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    if start.startswith(NUMPY_MAGIC):
        return b"'uid'" in start
    return start.startswith(csdat.MAGIC) or _is_group(head_text(path, 4096))


def _is_group(head: str) -> bool:
    lines = head.splitlines()
    return any(line.startswith("results:") for line in lines) and any(_METAFILE.match(line) for line in lines)


def read_cs(path: Path) -> CsTable:
    """Read a .cs file of either kind. Raises FileFormatError when it is not one, is cut, or has no unique uid."""
    data = read_bytes(path, csdat.LARGEST_TABLE_BYTES)
    if data.startswith(csdat.MAGIC):
        columns = read_csdat(path, data)
    elif data.startswith(NUMPY_MAGIC):
        array = _numpy_array(path, data)
        columns = {name: array[name] for name in array.dtype.names or ()}
    else:
        raise FileFormatError(
            path, None, f"a .cs file must begin with \\x93NUMPY or \\x95CSDAT. Got {data[:6]!r} instead."
        )
    if not all(_is_text(name) for name in columns):
        raise FileFormatError(path, None, "the name of a field must be text. Got half a character instead.")
    uid = columns.get("uid")
    if uid is None or uid.ndim != 1 or uid.dtype.kind not in "ui":
        raise FileFormatError(
            path, None, "a .cs file must have the field uid, a whole number. Got none instead."
        )
    if len(np.unique(uid)) != len(uid):
        raise FileFormatError(path, None, "a uid must stand once. Got one again instead.")
    return CsTable(path, columns)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _numpy_array(path: Path, data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    try:
        # NumPy warns about headers of Python 2 and odd escapes; what it cannot read it raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(stream, max_header_size=LARGEST_HEADER)
            # Checked before loading: a header may promise more rows than any memory holds.
            promised = math.prod(shape) * dtype.itemsize
            present = len(data) - stream.tell()
            if dtype.hasobject or dtype.names is None or len(shape) != 1:
                raise ValueError("no structured array of plain values")
            if promised != present:
                raise FileFormatError(
                    path,
                    None,
                    f"the table must hold {promised:,} bytes, as its header says. Got {present:,} instead. "
                    "Remedy: the file was cut or is still being written.",
                )
            stream.seek(0)
            array: NDArray[Any] = np.load(stream, allow_pickle=False, max_header_size=LARGEST_HEADER)
    except _NOT_READ as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            path,
            None,
            f"a .cs file must be a NumPy structured array without objects. Got one that NumPy does not read "
            f"({shown(what)}) instead.",
        ) from None
    return array


def read_source(
    path: Path, permissive: bool = False, passthrough: Sequence[Path] = (), *, step: Step = no_step
) -> SourceRecords:
    """Read the CTF results of exposures from a .cs file, or from the .cs files of a .csg group.

    permissive : leave deviating rows out and list them, instead of raising at the first
    passthrough : tables with the paths, joined by uid; when none is given, `*passthrough*.cs` in the same folder are
        tried where the table itself has no paths
    Raises FileFormatError at the first deviation, and always when the tables have no CTF result or no path.
    """
    return _read(path, Findings(path, permissive, step=step), passthrough)


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file, by row; an empty list for a clean one."""
    return deviations_of(path, lambda file, findings: _read(file, findings, ()), step)


def read_together(
    paths: Sequence[Path], permissive: bool = False, *, step: Step = no_step
) -> list[SourceRecords]:
    """Read several files, those that complete each other (paths of one, results of the other) as one source.

    step : told of each path, also of one that completes another     Raises as `read_source`.
    """
    alone = {path: read_cs(path) for path in paths if len(paths) > 1 and not _is_group(head_text(path, 4096))}
    partner: dict[Path, Path] = {}
    for path, table in alone.items():
        if not _has(table, RESOLUTION_FIELDS) or _has(table, NAME_FIELDS):
            continue
        for other in alone.values():
            if other is not table and _has(other, NAME_FIELDS) and np.isin(table.uid, other.uid).any():
                partner.setdefault(path, other.path)
    completing = {each for each in partner.values() if not _has(alone[each], RESOLUTION_FIELDS)}
    del alone
    records = []
    for path in paths:
        with one_step(step) as part:
            if path not in completing:
                others = [partner[path]] if path in partner else ()
                records.append(read_source(path, permissive, others, step=part))
    return records


def _read(path: Path, findings: Findings, passthrough: Sequence[Path]) -> SourceRecords:
    tables, notes = _tables(path, passthrough)
    main_uid = tables[0].uid
    resolutions, fields, is_there = _resolutions(path, tables, main_uid)
    name_table, name_field = _name_field(path, tables)
    place = _places(name_table.uid, main_uid)
    names = name_table.text(name_field)
    further = _further(tables, main_uid)
    rows = CtfRows()
    without = absent = 0
    results = list(zip(main_uid.tolist(), resolutions.tolist(), strict=True))
    for row, (uid, resolution) in enumerate(findings.told(results, 0.7)):
        element = f"row {row + 1}, uid {uid}"
        if place[row] < 0:
            findings.deviates(
                f"an exposure must have its path. Got no row with this uid in {name_table.path.name} instead.",
                element=element,
            )
            continue
        if resolution == 0:
            without += bool(is_there[row])
            absent += not is_there[row]
            continue
        others: dict[str, float | str | None] = {column: values[row] for column, values in further.items()}
        written = names[place[row]]
        rows.add(
            findings, written, repr(resolution), {"uid": str(uid), **_without_zeros(others)}, element=element
        )
    several = sorted(
        {field for table in tables for field, values in table.columns.items() if values.ndim > 1}
    )
    if without:
        notes.append(f"{without} of {len(main_uid)} exposures have no CTF result (0 in the table)")
    if absent:
        notes.append(
            f"{absent} of {len(main_uid)} exposures have no CTF result (no row in the table of results)"
        )
    if several:
        notes.append(f"fields of several values per exposure are not in the table: {', '.join(several)}")
    notes += [f"resolutions are {' or '.join(fields)}, names are {name_field} of {name_table.path.name}"]
    return SourceRecords(
        format="cryosparc",
        path=path,
        ctf=rows.frame(["uid", *(column for column, _ in FIELDS.values())]),
        deviations=tuple(findings.deviations),
        notes=tuple(rows.notes() + notes),
    )


def _without_zeros(others: dict[str, float | str | None]) -> dict[str, float | str | None]:
    """The columns without the zeros that stand for what is not there; an angle or phase of a fit may be 0."""
    has_fit = bool(others.get("defocus_u_um"))
    known = {column for column, _ in FIELDS.values()}
    may_be_zero = {"defocus_angle_deg", "phase_shift_deg"} if has_fit else set()
    return {
        column: None if column in known - may_be_zero and value == 0 else value
        for column, value in others.items()
    }


def _tables(path: Path, passthrough: Sequence[Path]) -> tuple[list[CsTable], list[str]]:
    """The tables to join, the one that was named first."""
    own = group_files(path) if _is_group(head_text(path, 4096)) else [path]
    tables = [read_cs(file) for file in [*own, *passthrough]]
    notes = []
    for fields in (NAME_FIELDS, RESOLUTION_FIELDS):
        if passthrough or any(_has(table, fields) for table in tables):
            continue
        for file in _beside(path):
            table = read_cs(file)
            if _has(table, fields) and np.isin(tables[0].uid, table.uid).any():
                tables.append(table)
                notes.append(f"joined {file.name} by uid")
                break
    return tables, notes


def _beside(path: Path) -> list[Path]:
    """The tables that a job may have written beside this one: passed through, or beside what was passed through."""
    is_passthrough = "passthrough" in path.name.lower()
    return [
        file
        for file in files_in(path.parent, (".cs",))
        if ("passthrough" in file.name.lower()) != is_passthrough and file.resolve() != path.resolve()
    ]


def _has(table: CsTable, fields: Sequence[str]) -> bool:
    return any(field in table.columns for field in fields)


def group_files(path: Path) -> list[Path]:
    """The .cs files that a .csg group names, in its own folder. Raises FileFormatError for a name with a folder."""
    found: dict[str, Path] = {}
    for number, line in enumerate(read_text(path, LARGEST_GROUP_BYTES).splitlines(), start=1):
        match = _METAFILE.fullmatch(line)
        if match is None:
            continue
        name = match["name"]
        if "/" in name or "\\" in name or not name.endswith(".cs"):
            raise FileFormatError(
                path,
                number,
                f"a metafile must be a .cs file of the same folder. Got {shown(name)} instead. "
                "Remedy: put the .cs file beside the .csg file and name it without folder.",
            )
        found[name] = path.parent / name
    if not found:
        raise FileFormatError(
            path, None, "a .csg file must name .cs files (metafile: ...). Got none instead."
        )
    return list(found.values())


def _resolutions(
    path: Path, tables: Sequence[CsTable], uid: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], list[str], NDArray[np.bool_]]:
    """Resolution of each uid, (len(uid),) angstrom, 0 where there is none, the fields that they are of, and which uids
    a table of resolutions has."""
    present = [(table, field) for field in RESOLUTION_FIELDS for table in tables if _is_number(table, field)]
    if not present:
        prefixes = sorted({field.split("/")[0] for table in tables for field in table.columns})
        raise FileFormatError(
            path,
            None,
            f"a table of CTF results must have {' or '.join(RESOLUTION_FIELDS)}. Got {', '.join(prefixes)} instead: "
            "a table without CTF results. Remedy: give the exposures of the CTF estimation job.",
        )
    found = np.zeros(len(uid))
    is_there = np.zeros(len(uid), dtype=bool)
    fields = []
    for table, field in present:
        place = _places(table.uid, uid)
        is_there |= place >= 0
        values = np.where(
            place < 0, 0.0, table.columns[field].astype(np.float64)[place] if len(table.uid) else 0.0
        )
        takes = ((found == 0) & (values != 0)) | (np.isnan(found) & (values > 0))
        if takes.any() and field not in fields:
            fields.append(field)
        found = np.where(takes, values, found)
    if not ((found > 0) | np.isnan(found)).any() and len(uid):
        raise FileFormatError(
            path,
            None,
            f"{' or '.join(sorted({field for _, field in present}))} must hold results. Got no value above 0 instead. "
            "Remedy: give the exposures of the CTF estimation job.",
        )
    return found, fields or [present[0][1]], is_there


def _is_number(table: CsTable, field: str) -> bool:
    values = table.columns.get(field)
    return values is not None and values.ndim == 1 and values.dtype.kind in "fiu"


def _name_field(path: Path, tables: Sequence[CsTable]) -> tuple[CsTable, str]:
    for field in NAME_FIELDS:
        for table in tables:
            values = table.columns.get(field)
            if values is not None and values.ndim == 1 and values.dtype.kind in "SUO":
                return table, field
    raise FileFormatError(
        path,
        None,
        f"a table of exposures must have their paths ({', '.join(NAME_FIELDS)}). Got none in "
        f"{', '.join(table.path.name for table in tables)} instead. "
        "Remedy: give the passthrough table of the same job (*_passthrough_exposures*.cs), or put it beside.",
    )


def _places(found: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.int64]:
    """Row of each wanted uid among those found, (len(wanted),), -1 where it is not there."""
    order = np.argsort(found, kind="stable")
    at = np.searchsorted(found, wanted, sorter=order)
    place = np.full(len(wanted), -1, dtype=np.int64)
    inside = at < len(found)
    candidates = order[at[inside]]
    place[inside] = np.where(found[candidates] == wanted[inside], candidates, -1)
    return place


def _further(tables: Sequence[CsTable], uid: NDArray[Any]) -> dict[str, list[float | str | None]]:
    """Every other field of one value per row, by uid; known ones in our units, the others by their own name."""
    found: dict[str, list[float | str | None]] = {}
    # Most fields have few different values; one copy of each keeps a large table small.
    shared: dict[str, str] = {}
    for table in tables:
        place = _places(table.uid, uid)
        for field, values in table.columns.items():
            column, factor = FIELDS.get(field, (field, None))
            is_taken = field == "uid" or field in RESOLUTION_FIELDS or column in found
            if is_taken or values.ndim != 1 or values.dtype.kind not in "fiubSUO":
                continue
            if (len(found) + 1) * len(uid) > MOST_VALUES:
                raise FileFormatError(
                    table.path, None, f"must have at most {MOST_VALUES:,} values. Got more instead."
                )
            known = table.text(field) if values.dtype.kind in "SUO" else values.tolist()
            found[column] = [
                None
                if at < 0
                else known[at] * factor
                if factor is not None
                else shared.setdefault(text := str(known[at]), text)
                for at in place.tolist()
            ]
    return found
