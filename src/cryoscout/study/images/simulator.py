"""Study `simulator`: how close simulated specimens come to the real Y1, and how hard each preset is."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.report.figures import BLACK, BLUE, ORANGE, SKY, VERMILLION, png_bytes
from cryoscout.simulate.bayes import bayes_accuracy
from cryoscout.simulate.presets import SCENE_PRESETS, scene_named
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.summary import (
    FAILED_AS_ANGSTROM,
    NEAR_THRESHOLD_ANGSTROM,
    summary_of_scene,
    summary_of_session,
    y1_in_split,
)
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

PRESET = "y1-sim"
FIRST_SEED = 0
SESSIONS = 100
SESSIONS_PER_TRIAL = 20
PRESET_SESSIONS = 20
HOLES_FOR_ACCURACY = 4_000_000
MILLION = 1_000_000

Y1, SIMULATED, OF_PRESET, TIMED = "y1", "simulated", "preset", "million"
WITHIN = 0.15
NOT_FITTED = ("share within", "correlation of ln CTF")
SET = ("holes per",)
"""Beginnings of figures that were no targets of the fit, and of those that follow from counts and spreads."""

GRID_ANGSTROM = np.arange(2.0, 30.5, 0.5)
"""Where distributions are compared."""

Numbers = NDArray[np.float64]


def trials(profile: Profile) -> list[Trial]:
    """Y1, blocks of simulated sessions, one trial per preset, and the time that a million holes take."""
    holes = HOLES_FOR_ACCURACY if profile == "quick" else 4 * HOLES_FOR_ACCURACY
    blocks = [
        Trial(
            f"simulated sessions {first + 1}-{first + SESSIONS_PER_TRIAL}",
            {"part": SIMULATED, "preset": PRESET, "first": first, "last": first + SESSIONS_PER_TRIAL},
            FIRST_SEED,
        )
        for first in range(0, SESSIONS, SESSIONS_PER_TRIAL)
    ]
    presets = [
        Trial(f"preset {name}", {"part": OF_PRESET, "preset": name, "holes": holes}, FIRST_SEED)
        for name in SCENE_PRESETS
    ]
    timed = Trial("a million holes", {"part": TIMED, "preset": "daily-images", "holes": MILLION}, FIRST_SEED)
    return [Trial("Y1", {"part": Y1}, FIRST_SEED), *blocks, *presets, timed]


def run_trial(trial: Trial) -> Json:
    """Figures of sessions (`figures`: one list each) and their distribution, or figures of a preset."""
    part = trial.parameters["part"]
    if part == Y1:
        session = y1_in_split()
        ctf = session.exposures["ctf_max_res_angstrom"].to_numpy(dtype=np.float64)
        return {
            "figures": {name: [value] for name, value in summary_of_session(session).by_name().items()},
            "distribution": [_distribution(ctf)],
        }
    settings = scene_named(trial.parameters["preset"])
    if part == TIMED:
        began = time.monotonic()
        simulate_scene(settings.with_holes(trial.parameters["holes"]), trial.seed)
        return {"seconds": time.monotonic() - began}
    first, last = trial.parameters.get("first", 0), trial.parameters.get("last", PRESET_SESSIONS)
    figures: dict[str, list[float]] = {}
    distribution, seconds = [], []
    for number in range(first, last):
        began = time.monotonic()
        scene = simulate_scene(settings, trial.seed + number)
        seconds.append(time.monotonic() - began)
        for name, value in summary_of_scene(scene).by_name().items():
            figures.setdefault(name, []).append(value)
        distribution.append(_distribution(scene.ctf_max_res_angstrom[scene.exposed, 0]))
    found: Json = {"figures": figures, "distribution": distribution, "seconds": float(np.median(seconds))}
    if part == OF_PRESET:
        found["counts"] = [settings.grids, settings.squares, settings.patches, settings.holes]
        found["accuracy"] = vars(bayes_accuracy(settings, holes=trial.parameters["holes"]))
    return found


def _distribution(ctf: Numbers) -> list[float]:
    """Share of exposures at or below each of GRID_ANGSTROM; failed fits (NaN or inf) are above all."""
    return [float((ctf <= at).mean()) for at in GRID_ANGSTROM]


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The comparison with Y1, the presets, and the figure."""
    del profile  # the accuracies alone are surer with the larger one
    y1 = next((row.result for row in rows if row.trial.parameters["part"] == Y1), None)
    blocks = [
        row.result for row in rows if row.trial.parameters["part"] == SIMULATED and row.result is not None
    ]
    presets = {
        row.trial.parameters["preset"]: row.result
        for row in rows
        if row.trial.parameters["part"] == OF_PRESET
    }
    timed = next((row.result for row in rows if row.trial.parameters["part"] == TIMED), None)
    compared = _compared(y1, blocks)
    markdown = "\n\n".join(
        [
            "How close simulated specimens come to the real Y1, and how hard each preset is "
            "([what is simulated](../simulator.md)). Seeds of this page were not used in the fit.",
            f"## `{PRESET}` against Y1",
            _verdict(compared),
            markdown_table(
                ["figure", "Y1", "mean", "90 % of sessions", "mean within 15 %", "Y1 inside", "from"],
                [_compared_line(row) for row in compared],
            ),
            f"{sum(len(block['distribution']) for block in blocks)} sessions; the range holds the middle 90 % of them. "
            f"CTF in angstrom, failed fits as {FAILED_AS_ANGSTROM:g}. Correlations are intra-class. "
            "*fitted*: a target of the fit; *set*: it follows from counts and spreads that were set to Y1's; "
            "*unseen*: neither, so that it tells how far the likeness goes.",
            "## The presets",
            _preset_table(presets),
            f"Means over {PRESET_SESSIONS} sessions, ± the standard deviation between sessions. *Near*: at most "
            f"{NEAR_THRESHOLD_ANGSTROM:g} angstrom from the threshold of {GOOD_THRESHOLD_ANGSTROM:g}. Accuracies are "
            "those of the best possible rule for one hole: *exact* knows kind, contamination and thickness, *relative* "
            "kind, contamination and the thickness less its patch's mean, which is what the level of a hole in a "
            "scaled image tells (in the images of y3 the contrast against the film tells more); *constant* always "
            "says the same. Tables in seconds, without images, one process.",
            "" if timed is None else f"A scene of {MILLION:,} holes as tables took {timed['seconds']:.1f} s.",
        ]
    )
    more = {"presets": presets, "million_seconds": None if timed is None else timed["seconds"]}
    return Page(markdown, _figure_png(y1, blocks, presets, compared), compared, more)


def _compared(y1: Json | None, blocks: Sequence[Json]) -> list[Json]:
    """One row per figure of Y1; none without Y1."""
    rows = []
    for name, (real,) in ({} if y1 is None else y1["figures"]).items():
        values = np.array([value for block in blocks for value in block["figures"][name]])
        row: Json = {"figure": name, "y1": real, "from": _origin(name)}
        if len(values):
            low, high = np.quantile(values, [0.05, 0.95])
            mean = float(values.mean())
            row |= {"mean": mean, "low": float(low), "high": float(high)}
            row |= {"within": abs(mean / real - 1) <= WITHIN, "inside": bool(low <= real <= high)}
        rows.append(row)
    return rows


def _origin(figure: str) -> str:
    return "unseen" if figure.startswith(NOT_FITTED) else "set" if figure.startswith(SET) else "fitted"


def _verdict(compared: Sequence[Json]) -> str:
    known = [row for row in compared if "mean" in row]
    far = [row["figure"] for row in known if not row["within"]]
    outside = [row["figure"] for row in known if not row["inside"]]
    said = f"Of {len(known)} figures, the mean of {len(known) - len(far)} is within 15 % of Y1"
    said += f" (not: {', '.join(far)})" if far else ""
    said += f"; Y1 lies inside the range of {len(known) - len(outside)}"
    return said + (f" (not: {', '.join(outside)})." if outside else ".")


def _compared_line(row: Json) -> list[str]:
    start = [row["figure"], _number(row["y1"])]
    if "mean" not in row:
        return [*start, MISSING, MISSING, MISSING, MISSING, row["from"]]
    interval = f"{_number(row['low'])} to {_number(row['high'])}"
    words = ["yes" if row[key] else "**no**" for key in ("within", "inside")]
    return [*start, _number(row["mean"]), interval, *words, row["from"]]


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _preset_table(presets: dict[str, Json | None]) -> str:
    header = [
        "preset",
        "grids",
        "squares",
        "patches",
        "holes",
        "good",
        "near",
        "exact",
        "relative",
        "constant",
        "s",
    ]
    lines = []
    for name, found in presets.items():
        if found is None:
            lines.append([f"`{name}`", *[MISSING] * (len(header) - 1)])
            continue
        shares = [np.array(found["figures"][key]) for key in ("share of good", _near_name())]
        accuracy = [found["accuracy"][key] for key in ("exact", "relative", "largest_class")]
        lines.append(
            [
                f"`{name}`",
                *(f"{count:,}" for count in found["counts"]),
                *(f"{100 * share.mean():.1f} ± {100 * share.std():.1f} %" for share in shares),
                *(f"{100 * value:.1f} %" for value in accuracy),
                f"{found['seconds']:.2f}",
            ]
        )
    return markdown_table(header, lines)


def _near_name() -> str:
    return f"share within {NEAR_THRESHOLD_ANGSTROM:g} angstrom of the threshold"


def _figure_png(
    y1: Json | None, blocks: Sequence[Json], presets: dict[str, Json | None], compared: Sequence[Json]
) -> bytes:
    """Distributions and figures against Y1, and below them what the images look like."""
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    bands = np.array([each for block in blocks for each in block["distribution"]])
    if len(bands):
        low, high = np.quantile(bands, [0.05, 0.95], axis=0)
        left.fill_between(
            GRID_ANGSTROM, low, high, color=SKY, alpha=0.4, label=f"{PRESET}, 90 % of sessions", lw=0
        )
        left.plot(GRID_ANGSTROM, bands.mean(axis=0), color=BLUE, label=f"{PRESET}, mean")
    if y1 is not None:
        left.plot(GRID_ANGSTROM, y1["distribution"][0], color=VERMILLION, linestyle="--", label="Y1")
    left.set(title="Y1 and its simulation", xlabel="CTF resolution, angstrom", ylabel="share at or below")
    for (name, found), (colour, line) in zip(
        presets.items(), ((BLUE, "-"), (ORANGE, "--"), (BLACK, ":")), strict=False
    ):
        if found is not None:
            share = np.mean(found["distribution"], axis=0)
            middle.plot(GRID_ANGSTROM[1:], np.diff(share) / 0.5, color=colour, linestyle=line, label=name)
    middle.set(title="The presets", xlabel="CTF resolution, angstrom", ylabel="share per angstrom")
    for axes in (left, middle):
        axes.axvline(GOOD_THRESHOLD_ANGSTROM, color="#b4b4ae", lw=0.9)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    shown = [row for row in compared if "mean" in row]
    for y, row in enumerate(shown):
        right.plot([row["low"] / row["y1"], row["high"] / row["y1"]], [y, y], color=BLUE, lw=1.4)
        right.plot([row["mean"] / row["y1"]], [y], color=BLUE, marker="o", ms=5)
    right.axvspan(1 - WITHIN, 1 + WITHIN, color=SKY, alpha=0.25, lw=0)
    right.axvline(1, color=VERMILLION, linestyle="--", lw=1.0)
    right.set_yticks(range(len(shown)), [row["figure"] for row in shown], fontsize=6.5)
    right.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    right.set(title="Figures over Y1's: mean and 90 %")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    return _one_above_the_other(png_bytes(figure), _examples_png())


def _examples_png() -> bytes:
    from cryoscout.simulate.example_sheet import example_sheet

    return example_sheet(simulate_scene(scene_named(PRESET), FIRST_SEED))


def _one_above_the_other(*pictures: bytes) -> bytes:
    """One PNG of several, centred."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    whole = Image.new(
        "RGB", (max(each.width for each in opened), sum(each.height for each in opened)), "white"
    )
    top = 0
    for each in opened:
        whole.paste(each, ((whole.width - each.width) // 2, top))
        top += each.height
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    return buffer.getvalue()


STUDY = Study(
    name="simulator",
    title="Simulated specimens against Y1",
    trials=trials,
    run_one=run_trial,
    page=page,
    packages=("core", "session", "routing", "simulate"),
)
