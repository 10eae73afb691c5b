"""`cryoscout study`: make a table or figure of the papers again, from trials that survive being stopped."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cryoscout.cli.output import print_json, say

EXIT_TRIALS_FAILED = 1


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="adaptive-selection, advice, beyond, coverage, cryorl-table2, cryorl-table3, cryorl-table4, "
            "cryorl-figure5, cryorl-figure6, cryorl-resnet18, cryorl-ablation-duration, "
            "cryorl-ablation-reward, delay, looking, prediction, learned-selection, perception, simulator, "
            "squares, localization, ssl2rl, ssl2rl-y1, route-labels, scavenger-hunt; what each shows is in "
            "docs/results.",
        ),
    ],
    profile: Annotated[
        str,
        typer.Option(help="quick (minutes to hours) or paper (every start and epoch)."),
    ] = "quick",
    session: Annotated[
        str | None,
        typer.Option(help="Of cryorl-table4: a NAME.session folder of your own to be studied too."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep finished trials of this version of the results, also those of NAME.trials.jsonl beside an "
            "unfinished page; run only what is missing.",
        ),
    ] = False,
    finished_only: Annotated[
        bool,
        typer.Option(
            "--finished-only", help="Run nothing: write the page of the trials that have ended so far."
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="Run missing trials alone whose names, as progress shows them, hold this text; others are kept.",
            metavar="TEXT",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that run trials; the results do not depend on it.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run the trials on Ray: HOST:PORT of one that runs, or local, which starts one here with --workers "
            'processes (pip install "cryoscout[scale]").'
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder of NAME.md, NAME.png, NAME.json. Default: docs/results in a checkout, else "
            "study-results.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the content of NAME.json and where the files are.")
    ] = False,
) -> None:
    """Make a table or figure of the papers: a page, a figure, and the numbers as JSON.

    A trial that fails is named, its cell is shown as missing, and the command leaves with 1.

    \b
    Example:
      cryoscout study cryorl-table2 --profile quick --workers 2
    """
    from cryoscout.study.engine.catalogue import checked_profile, run_study, study_named

    chosen, checked, folder = study_named(name, session), checked_profile(profile), output or default_output()
    try:
        run = run_study(
            chosen, checked, folder, resume=resume, finished_only=finished_only, only=only, workers=workers,
            ray=ray, progress=say,
        )  # fmt: skip
    except KeyboardInterrupt:
        more = "".join(
            f" {option} {shlex.quote(str(value))}"
            for option, value in (
                ("--session", session),
                ("--only", only),
                ("--ray", ray),
                ("--output", output),
            )
            if value is not None
        )
        say(
            "\nStopped. Every finished trial is kept. Go on with:\n"
            f"  cryoscout study {name} --profile {profile} --workers {workers}{more} --resume"
        )
        raise
    files = {"page": run.markdown_file, "figure": run.figure_file, "numbers": run.json_file}
    if as_json:
        print_json({**run.content, "files": {what: str(path) for what, path in files.items()}})
    else:
        typer.echo(run.markdown_file.read_text(encoding="utf-8"))
        for path in files.values():
            say(f"Wrote {path}")
    if run.failed:
        say(f"{len(run.failed)} trials failed. Remedy: run the same command with --resume.")
        raise typer.Exit(EXIT_TRIALS_FAILED)


def default_output() -> Path:
    """docs/results when the current folder is a checkout of cryoscout, else study-results in it."""
    checkout = Path("src/cryoscout/study").is_dir() and Path("docs").is_dir()
    return Path("docs/results") if checkout else Path("study-results")
