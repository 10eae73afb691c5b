"""What the operator said of how files are read, kept with the session: `--update` and `serve` read later ones alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryoscout.formats.own import table as own_table
from cryoscout.formats.own.cells import header_of, plain_header
from cryoscout.formats.own.columns import PREDICTED, ColumnMap, map_of
from cryoscout.session.model import Reading

if TYPE_CHECKING:
    from cryoscout.intake.read import ReadOptions


def reading_after(options: ReadOptions, before: Reading) -> Reading:
    """What holds from now on: what is said now, and what was said before and is not said otherwise.

    Columns of predictions are said with each table of them. Raises the errors of `read_column_map`.
    """
    now = map_of(options.column_map)
    meant = {plain_header(header) for header in now.columns.values()}
    earlier = {role: header for role, header in before.columns.items() if plain_header(header) not in meant}
    columns = {**earlier, **{role: header for role, header in now.columns.items() if role not in PREDICTED}}
    return Reading(
        columns=columns,
        position_unit=now.position_unit or before.position_unit,
        presets=before.presets if options.presets is None else options.presets,
        patch_radius_um=(
            before.patch_radius_um if options.cluster_radius_um is None else options.cluster_radius_um
        ),
    )


def says_otherwise(reading: Reading, before: Reading) -> bool:
    """Whether files that were read as it was said before say something else now."""
    return (reading.columns, reading.position_unit, reading.presets) != (
        before.columns, before.position_unit, before.presets,
    )  # fmt: skip


def options_of(options: ReadOptions, before: Reading) -> ReadOptions:
    """The options with what was said before, where they say nothing. Raises the errors of `reading_after`."""
    reading = reading_after(options, before)
    return replace(
        options, reading=reading, presets=reading.presets, cluster_radius_um=reading.patch_radius_um
    )


def map_for(path: Path, options: ReadOptions) -> ColumnMap | Path | None:
    """What the columns of a file mean, None where nothing is said of them.

    Of what was said before counts what names a column of this file: tables of one session differ.
    """
    reading, given = options.reading, options.column_map
    if not (reading.columns or reading.position_unit) or not path.is_file():
        return given
    now = map_of(given)
    plain = {plain_header(cell) for cell in header_of(path)}
    kept = {role: header for role, header in reading.columns.items() if plain_header(header) in plain}
    if given is None and not kept and not own_table.detect(path):
        return None
    return ColumnMap({**kept, **now.columns}, now.position_unit or reading.position_unit)
