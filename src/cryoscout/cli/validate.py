"""`cryoscout validate`: every deviation of a vendor file from its format, for scripts and people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoscout.cli.output import print_json

EXIT_DEVIATIONS = 1


def validate(
    file: Annotated[
        Path, typer.Argument(help="A vendor file or folder; its format is recognised by content.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List every deviation of a vendor file or folder from its format, one per line.

    Leaves with 0 when the file is clean, 1 when it deviates, 2 when it cannot be read or its format is not
    known.

    \b
    Example:
      cryoscout validate CTF_val_by_hl.csv
    """
    from cryoscout.formats import registry

    found, deviations = registry.validate(file)
    if as_json:
        print_json(
            {
                "file": str(file),
                "format": found.name,
                "kind": _kind(found.name, file),
                "deviations": [
                    {"line": each.line, "element": each.element, "message": each.message}
                    for each in deviations
                ],
            }
        )
    else:
        for each in deviations:
            element = f", {each.element}" if each.element else ""
            line = "" if each.line is None else f", line {each.line}"
            typer.echo(f"{file}{element}{line}: {each.message}")
        if not deviations:
            typer.echo(f"{file}: no deviation")
    if deviations:
        raise typer.Exit(EXIT_DEVIATIONS)


def _kind(format_name: str, file: Path) -> str:
    """Which of Leginon's tables it is; for other formats the format's name."""
    if format_name != "leginon":
        return format_name
    from cryoscout.formats.leginon_source import kind_of

    return kind_of(file) or format_name
