"""`cryoscout validate`: every deviation of vendor files from their formats, for scripts and people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import print_json, progress, say

if TYPE_CHECKING:
    from cryoscout.formats.text.findings import Deviation

EXIT_DEVIATIONS = 1
EXIT_UNREADABLE = 2
STORED = "cryoscout session"
"""Format of a NAME.session folder."""


@dataclass(frozen=True)
class _Checked:
    """One path and what was found in it."""

    path: Path
    format: str | None  # None: of no known format
    kind: str | None  # which of Leginon's tables; for other formats as `format`
    deviations: list[Deviation]

    def lines(self) -> list[str]:
        """For people, one line for each deviation."""
        lines = []
        for each in self.deviations:
            element = f", {each.element}" if each.element else ""
            line = "" if each.line is None else f", line {each.line}"
            lines.append(f"{self.path}{element}{line}: {each.message}")
        return lines or [f"{self.path}: no deviation"]

    def to_json(self) -> dict[str, Any]:
        """Keys: file, format and kind (null for none that is known), deviations [{line, element, message}]."""
        return {
            "file": str(self.path),
            "format": self.format,
            "kind": self.kind,
            "deviations": [
                {"line": each.line, "element": each.element, "message": each.message}
                for each in self.deviations
            ],
        }


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Vendor files or folders, known by content; NAME.session folders."
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a column of your own table means, such as ctf=MyCtf; may be repeated."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="The same as a TOML file: [columns] ctf = 'MyCtf'.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List every deviation of vendor files or folders from their formats, one per line.

    Of a NAME.session folder it lists what is damaged: tables, events and images against their checksums.

    Leaves with 0 when there is none and 1 when there is any: a file of no known format or one that nothing can be
    read of deviates too. Leaves with 2 when a path is not there or may not be read, and for wrong options.

    \b
    Example:
      cryoscout validate CTF_val_by_hl.csv
      cryoscout validate /data/epu-session micrographs_ctf.star site.csv --column ctf=MyCtf
    """
    from cryoscout.cli.import_ import column_map_of
    from cryoscout.formats import registry
    from cryoscout.formats.own.columns import read_column_map
    from cryoscout.formats.text.findings import Deviation, UnreadableError
    from cryoscout.session.damage import damage_of, is_stored_session

    column_map = column_map_of(column, mapping)
    if isinstance(column_map, Path):
        # Read before anything else: a wrong map is a wrong option, not a deviation of a table.
        column_map = read_column_map(column_map)
    checked: list[_Checked] = []
    unreadable: list[UnreadableError] = []
    for path in dict.fromkeys(paths):
        if is_stored_session(path):
            damage = [Deviation(None, message, element) for element, message in damage_of(path, progress)]
            checked.append(_Checked(path, STORED, STORED, damage))
            continue
        try:
            found, deviations = registry.validate(path, column_map, progress)
        except UnreadableError as error:
            unreadable.append(error)
            continue
        name = None if found is None else found.name
        checked.append(_Checked(path, name, _kind(name, path), deviations))
    if as_json:
        missing = [{"file": str(each.path), "message": each.detail} for each in unreadable]
        print_json({"files": [one.to_json() for one in checked], "unreadable": missing})
    else:
        for line in (line for one in checked for line in one.lines()):
            typer.echo(line)
    for problem in unreadable:
        say(str(problem))
    if unreadable:
        raise typer.Exit(EXIT_UNREADABLE)
    if any(one.deviations for one in checked):
        raise typer.Exit(EXIT_DEVIATIONS)


def _kind(format_name: str | None, path: Path) -> str | None:
    """Which of Leginon's tables it is; for other formats the format's name."""
    if format_name != "leginon":
        return format_name
    from cryoscout.formats.leginon.source import kind_of

    return kind_of(path) or format_name
