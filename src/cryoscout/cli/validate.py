"""`cryoscout validate`: every deviation of a vendor file from its format, for scripts and people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoscout.cli.output import print_json

EXIT_DEVIATIONS = 1


def validate(
    file: Annotated[Path, typer.Argument(help="A vendor file; its format is recognised by content.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List every deviation of a vendor file from its format, one per line.

    Leaves with 0 when the file is clean, 1 when it deviates, 2 when it cannot be read or its format is not
    known.

    \b
    Example:
      cryoscout validate CTF_val_by_hl.csv
    """
    from cryoscout.formats.leginon import detect, validate_file

    deviations = validate_file(file)
    if as_json:
        print_json(
            {
                "file": str(file),
                "kind": detect(file),
                "deviations": [
                    {"line": deviation.line, "message": deviation.message} for deviation in deviations
                ],
            }
        )
    else:
        for deviation in deviations:
            where = f"{file}" if deviation.line is None else f"{file}, line {deviation.line}"
            typer.echo(f"{where}: {deviation.message}")
        if not deviations:
            typer.echo(f"{file}: no deviation")
    if deviations:
        raise typer.Exit(EXIT_DEVIATIONS)
