"""The studies by name, and the one way of running them: trials, then a page, a figure and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast, runtime_checkable

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.new_files import write_whole
from cryoscout.study.engine.runner import (
    Json,
    Trial,
    TrialRow,
    TrialStore,
    finished_rows,
    in_words,
    machine_in_words,
    rows_text,
    run_trials,
)
from cryoscout.study.engine.versions import result_version

Profile = Literal["quick", "paper"]
PROFILES: tuple[Profile, ...] = ("quick", "paper")

STUDIES: dict[str, str] = {
    "cryorl-table2": "cryoscout.study.routes.table2",
    "cryorl-figure5": "cryoscout.study.routes.figure5",
    "delay": "cryoscout.study.routes.delay",
    "looking": "cryoscout.study.routes.looking",
    "prediction": "cryoscout.study.routes.prediction",
    "coverage": "cryoscout.study.routes.coverage",
    "advice": "cryoscout.study.routes.advice",
    "adaptive-selection": "cryoscout.study.routes.selection",
    "cryorl-table3": "cryoscout.study.learned.table3",
    "cryorl-figure6": "cryoscout.study.learned.figure6",
    "cryorl-table4": "cryoscout.study.learned.table4",
    "cryorl-ablation-duration": "cryoscout.study.learned.ablation:DURATION",
    "cryorl-ablation-reward": "cryoscout.study.learned.ablation:REWARD",
    "cryorl-resnet18": "cryoscout.study.learned.resnet18",
    "learned-selection": "cryoscout.study.learned.selection",
    "beyond": "cryoscout.study.routes.beyond",
    "perception": "cryoscout.study.images.perception",
    "simulator": "cryoscout.study.images.simulator",
    "squares": "cryoscout.study.images.squares",
    "localization": "cryoscout.study.coupling.localization",
    "ssl2rl": "cryoscout.study.coupling.ssl2rl",
    "ssl2rl-y1": "cryoscout.study.coupling.ssl2rl_y1",
    "route-labels": "cryoscout.study.coupling.route_labels",
    "scavenger-hunt": "cryoscout.study.coupling.hunt",
}
"""Name -> module with a `STUDY`, or module:NAME where it holds several."""

KEPT_FOLDER = "kept"
"""Folder of what trials keep, beside the folders of the studies' trials."""

UNFINISHED_ENDING = ".trials.jsonl"
"""Of the file beside a page that holds the finished trials while others are missing."""

PACKAGES_BEHIND_RESULTS = ("core", "session", "belief", "routing", "simulate")
"""A trial is kept only while the declared versions of these are unchanged (`versions.py`)."""


@dataclass(frozen=True)
class Page:
    """What a study shows.

    markdown : the body of the page     figure_png : its figure     rows : the figures as JSON, one per cell
    more : further keys of NAME.json
    """

    markdown: str
    figure_png: bytes
    rows: list[Json]
    more: Json = field(default_factory=dict)


@runtime_checkable
class KeepsFiles(Protocol):
    """A `run_one` whose trials keep files that other trials and other studies use again."""

    def in_folder(self, folder: Path) -> Callable[[Trial], Json]:
        """The same, with its files in this folder."""
        ...


@dataclass(frozen=True)
class Study:
    """One table or figure: what to run, and how to show it.

    run_one : a function of a module, because worker processes import it, or an object that KeepsFiles
    page : of one row per trial, its result None where it failed or has not run
    packages : sub-packages whose results decide these     result_version : raised when the study itself gives others
    page_profile : the profile whose files are called NAME; those of the other are NAME-PROFILE
    options : what the command needs besides the name and the profile
    """

    name: str
    title: str
    trials: Callable[[Profile], list[Trial]]
    run_one: Callable[[Trial], Json]
    page: Callable[[Sequence[TrialRow], Profile], Page]
    packages: tuple[str, ...] = PACKAGES_BEHIND_RESULTS
    options: str = ""
    result_version: int = 1
    page_profile: Profile = "quick"

    def stem(self, profile: Profile) -> str:
        """What the files of this profile are called."""
        return self.name if profile == self.page_profile else f"{self.name}-{profile}"


@dataclass(frozen=True)
class StudyRun:
    """The files a study wrote, its rows, and how many of its trials failed."""

    markdown_file: Path
    figure_file: Path
    json_file: Path
    content: Json
    failed: Mapping[str, str]  # trial name -> error


def study_named(name: str, session: str | None = None) -> Study:
    """The study of that name.

    session : a session of the user's to be studied too, where the study takes one
    Raises UnknownNameError with the nearest name, InputError for a session that the study does not take.
    """
    try:
        place, _, attribute = STUDIES[name].partition(":")
    except KeyError:
        raise UnknownNameError("The study", name, STUDIES) from None
    module = import_module(place)
    if session is None:
        return cast("Study", getattr(module, attribute or "STUDY"))
    with_session: Callable[[str], Study] | None = getattr(module, "with_session", None)
    if with_session is None:
        raise InputError(f"Study {name} must be run on its own sessions. Got --session {session} instead.")
    return with_session(session)


def checked_profile(name: str) -> Profile:
    """The profile of that name. Raises UnknownNameError."""
    for profile in PROFILES:
        if profile == name:
            return profile
    raise UnknownNameError("The profile", name, PROFILES)


def run_study(
    study: Study,
    profile: Profile,
    output: Path,
    *,
    work: Path | None = None,
    resume: bool = False,
    finished_only: bool = False,
    only: str | None = None,
    workers: int = 1,
    ray: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> StudyRun:
    """Run a study and write NAME.md, NAME.png and NAME.json into the output folder (`Study.stem` is the NAME).

    work : folder of the trial rows; None for `.study/NAME-PROFILE` in the output folder
    resume : keep the finished trials of the work folder and of NAME.trials.jsonl in the output folder
    finished_only : run nothing; show the trials that are on disk, the cells of the others as missing
    only : run those missing trials alone whose names hold this text; finished ones are kept, as with `resume`
    A failed trial leaves its cell missing in all three files and stands in `failed`. While trials are missing, the rows
    of the finished ones stand in NAME.trials.jsonl beside the page, so that whoever has the page can go on.
    """
    if output.exists() and not output.is_dir():
        raise InputError(
            f"The output must be a folder. Got the file {output} instead. Remedy: give another -o DIR."
        )
    output.mkdir(parents=True, exist_ok=True)
    folder = work or output / ".study" / f"{study.name}-{profile}"
    version = result_version(study.packages, study.result_version)
    here = machine_in_words(study.packages)
    store = TrialStore(folder, version, here)
    trials = study.trials(profile)
    stem = output / study.stem(profile)
    unfinished = stem.with_name(f"{stem.name}{UNFINISHED_ENDING}")
    wanted = _with_text(trials, only, study.name)
    if finished_only and only is not None:
        raise InputError(
            f"--finished-only runs nothing, so it must stand without --only. Got --only {only!r} too. Remedy: leave "
            "one of them out."
        )
    resume = resume or only is not None
    if resume or finished_only:
        store.take(unfinished)
    run_one = study.run_one
    if isinstance(run_one, KeepsFiles):
        # Beside the folders of all studies, by version: no study takes a file of other results.
        run_one = run_one.in_folder(folder.parent / KEPT_FOLDER / result_version(study.packages))
    if finished_only:
        rows = finished_rows(trials, store)
    else:
        rows = run_trials(wanted, run_one, store, resume=resume, workers=workers, ray=ray, progress=progress)
        asked = {trial.key for trial in wanted}
        rows += finished_rows([trial for trial in trials if trial.key not in asked], store)
    # Those that have not run stand among them without a result, so that no mean is of a part without saying so.
    ended = {row.trial.key: row for row in rows}
    page = study.page([ended.get(trial.key, TrialRow(trial, 0.0, None, None)) for trial in trials], profile)
    failed = {row.trial.name: row.error for row in rows if row.error is not None}
    content: Json = {
        "command": f"cryoscout study {study.name} --profile {profile}{study.options and ' '}{study.options}",
        "profile": profile,
        "seeds": sorted({trial.seed for trial in trials}),
        "machine": "; ".join(dict.fromkeys(row.machine or here for row in rows)) or here,
        "result_version": version,
        "trials": len(trials),
        "trials_run": len(rows),
        "trial_seconds": round(sum(row.seconds for row in rows), 1),
        "failed": failed,
        "rows": page.rows,
        **page.more,
    }
    run = StudyRun(
        markdown_file=stem.with_name(f"{stem.name}.md"),
        figure_file=stem.with_name(f"{stem.name}.png"),
        json_file=stem.with_name(f"{stem.name}.json"),
        content=content,
        failed=failed,
    )
    write_whole(run.figure_file, page.figure_png)
    write_whole(run.json_file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_whole(run.markdown_file, _markdown(study, study.stem(profile), page, content, failed))
    kept = rows_text(trials, store)
    if kept and len(rows) - len(failed) < len(trials):
        write_whole(unfinished, kept)
    else:
        unfinished.unlink(missing_ok=True)
    return run


def _with_text(trials: Sequence[Trial], only: str | None, name: str) -> Sequence[Trial]:
    found = [trial for trial in trials if only is None or only in trial.name]
    if not found:
        raise InputError(
            f"--only must be a part of the names of trials of {name}. Got {only!r} instead, which is in none of them. "
            f"Remedy: for example {trials[0].name!r}, or leave it out."
        )
    return found


def _markdown(study: Study, stem: str, page: Page, content: Json, failed: Mapping[str, str]) -> str:
    parts = [f"# {study.title}", page.markdown, f"![{study.title}]({stem}.png)"]
    if failed:
        listed = "\n".join(f"- {name}: {error}" for name, error in failed.items())
        parts.append(
            f"## Missing\n\n{len(failed)} of {content['trials']} trials failed; their cells are missing.\n\n"
            f"{listed}"
        )
    not_run = content["trials"] - content["trials_run"]
    if not_run:
        parts.append(
            f"## Not run yet\n\n{not_run} of {content['trials']} trials have not been run; their cells are missing, or "
            "rest on fewer seeds, as each cell says."
            + (
                f" The finished ones stand in [`{stem}{UNFINISHED_ENDING}`]({stem}{UNFINISHED_ENDING}); "
                "the command below with `--resume` goes on from them."
                if content["trials_run"] > len(failed)
                else ""
            )
        )
    parts.append(
        "## How it was made\n\n"
        f"```\n{content['command']}\n```\n\n"
        f"Profile `{content['profile']}`, seed {', '.join(map(str, content['seeds']))}, "
        f"{content['trials_run']} trials, "
        f"{in_words(content['trial_seconds'])} of computing on {content['machine']}. "
        f"Version of the results: `{content['result_version']}`. "
        f"The figures of this page: [`{stem}.json`]({stem}.json)."
    )
    return "\n\n".join(parts) + "\n"
