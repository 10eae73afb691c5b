"""Options that several commands take alike: the session's threshold, times, loaded grid and split."""

from __future__ import annotations

from typing import Annotated

import typer

Until = Annotated[
    str | None,
    typer.Option(
        help="In place of --budget-min: the hour when it ends, 09:00, or date and hour.", metavar="TIME"
    ),
]
ThresholdAngstrom = Annotated[
    float | None,
    typer.Option(help="Good means a CTF resolution at or below this. Default: the session's, 6."),
]
MinutesPerExposure = Annotated[
    float | None,
    typer.Option(help="Minutes of each exposure, in place of the time model's; moves stay its own."),
]
LoadedGrid = Annotated[
    str | None,
    typer.Option(
        "--loaded",
        help="Grid that is in the microscope. Default: that of the last imaged hole, or the only one.",
    ),
]
AlsoUnchosen = Annotated[
    bool,
    typer.Option(
        "--also-unchosen",
        help="Plan holes too that you did not choose: deselected in EPU, without Acquire in SerialEM.",
    ),
]
TimesOfMovesAndLooks = Annotated[
    str | None,
    typer.Option(
        "--time-model",
        help="cryorl, cryorl-printed, cryorl-code, y1-looks-as-sketched, fitted, or your own minutes of a hole in "
        "the same patch, a new patch, square, grid: 0.5,1,2,8, and of a look at a patch and at a square: "
        "0.5,1,2,8,0.5,2. Default: fitted where a tier has ten timed steps, else cryorl.",
    ),
]
Split = Annotated[str | None, typer.Option(help="Split of a built-in session: train, val. Default: val.")]
SeedOfDraws = Annotated[
    int, typer.Option("--seed", help="Seed of the starts and of every policy's draws.", min=0)
]
