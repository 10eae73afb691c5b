"""Study `ssl2rl-y1`: the loop on the real Y1, without images: a small head on what two classifiers say of each hole.

Both classifiers saw the labels of the training holes, so only validation holes are in it: some patches are labelled,
the others are judged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.belief.calibration import clipped_logit
from cryoscout.belief.evaluation import evaluate_predictions
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.coupling.hole_routes import REWARD, HoleRoutes
from cryoscout.coupling.holes import BeliefTeacher
from cryoscout.coupling.lesson import UNLABELLED, Told
from cryoscout.coupling.linear_perception import LinearStates
from cryoscout.coupling.loop import Loop
from cryoscout.coupling.settings import CoupleSettings, couple_settings
from cryoscout.perception.teaching import Places
from cryoscout.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, png_bytes
from cryoscout.report.statistics import mean_and_std, paired_difference
from cryoscout.routing.policies import make_policy
from cryoscout.routing.replay import Truth, replay
from cryoscout.session.splits import HELD_OUT_STREAM, hold_out, split_by
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

CLASSIFIERS = ("res18", "res50")
SHARES, SEEDS = (0.05, 0.1, 0.2), range(10)
BUDGET_MIN, STARTS, COVERAGE = 480.0, 20, 0.9
HEAD, BELIEF_ALONE = "supervised", "the belief itself"
SINCE = "belief, told held-out labels"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "own": ("own", {}),
    "belief": ("belief", {"belief_knows_held_out": False}),
    SINCE: ("belief", {}),
    "ssl2rl-480": ("route", {}),
    "ssl2rl-480, no movement cost": ("route", {"movement_cost": False}),
}
"""Row -> teacher and settings that differ; fixed before anything was run, but SINCE."""


def trials(profile: Profile) -> list[Trial]:
    """One per share of labelled patches and seed; both profiles have the same."""
    del profile
    return [
        Trial(f"{share:.0%} of the patches, seed {seed}", {"share": share}, seed)
        for seed in SEEDS
        for share in SHARES
    ]


def features_of(scores: Sequence[NDArray[np.float64]], tree: HoleTree) -> NDArray[np.float64]:
    """(n, 3 k) of every classifier the logit of a hole, and its means over the hole's patch and square."""
    columns = []
    for score in scores:
        logit = clipped_logit(score)
        columns.append(logit)
        for level in (tree.patch_of_hole, tree.square_of_hole):
            mean = np.bincount(level, weights=logit) / np.maximum(np.bincount(level), 1)
            columns.append(mean[level])
    return np.stack(columns, axis=1)


def run_one(trial: Trial) -> Json:
    """Scores on the holes of unlabelled patches, by method: `{"holes", "labels", "methods": {name: {...}}}`."""
    from cryoscout.session.builtin import load_builtin

    session = load_builtin("y1", split="val")
    good = session.good_by_majority(GOOD_THRESHOLD_ANGSTROM).astype(np.int64)
    tree = session.tree()
    scores = [session.prediction(name, GOOD_THRESHOLD_ANGSTROM) for name in CLASSIFIERS]
    labelled = split_by(tree.patch_of_hole, trial.parameters["share"], np.random.default_rng([trial.seed, 2]))
    labels = np.where(labelled, good, UNLABELLED)
    rng = np.random.default_rng([trial.seed, HELD_OUT_STREAM])
    told = Told(labels, hold_out(labels, tree.patch_of_hole, 0.2, rng))
    perception = LinearStates(features_of(scores, tree))
    x_um, y_um = (session.holes[name].to_numpy(dtype=np.float64) for name in ("x_um", "y_um"))
    places = Places(tree.patch_of_hole, tree, x_um, y_um)
    found: dict[str, Json] = {}

    def keep(name: str, p: NDArray[np.float64], right: float | None = None) -> None:
        found[name] = {**judged(p, good, ~labelled, tree), "labels_right": right}

    for name, score in zip(CLASSIFIERS, scores, strict=True):
        keep(name, score)
    with tempfile.TemporaryDirectory() as folder:
        first = perception.p_positive(perception.pretrained(told, Path(folder)))
        keep(HEAD, first)
        keep(BELIEF_ALONE, BeliefTeacher(told, places)(first, 0, Path(folder)))
        for name, (teacher, changes) in METHODS.items():
            settings = couple_settings(teacher, seed=trial.seed, **changes)
            belief = BeliefTeacher(told, places, settings.belief_knows_held_out)
            said = belief if teacher == "belief" else None
            place = Path(folder) / name.replace(", ", "-").replace(" ", "-")
            coupled = Loop(
                told, perception, HoleRoutes(tree, settings), settings, place, "y1", said, good
            ).run()
            keep(name, perception.p_positive(coupled.model), coupled.rounds[1].guesses_right)
    return {"holes": int((~labelled).sum()), "labels": int(labelled.sum()), "methods": found}


def judged(
    p: NDArray[np.float64], good: NDArray[np.int64], others: NDArray[np.bool_], tree: HoleTree
) -> Json:
    """Of the holes of other patches: scores, and what `index` collects there."""
    scores = evaluate_predictions(
        p[others], good[others].astype(np.float64), np.random.default_rng(0), draws=1
    )
    settings: CoupleSettings = couple_settings()
    problem = HoleRoutes(tree, settings).problem(p, BUDGET_MIN, others)
    truth = Truth(np.where(others, good, 0).astype(np.float64), others)
    starts = np.random.default_rng(0).choice(np.flatnonzero(others), size=STARTS).tolist()
    routes = replay(problem, truth, make_policy("index"), starts, 0, reward=REWARD)
    return {
        "accuracy": scores.accuracy, "auc": scores.auc, "brier_skill": scores.brier_skill,
        "reward": float(np.mean([route.reward for route in routes])),
        "good": float(np.mean([route.good_found for route in routes])),
    }  # fmt: skip


ROWS = (*CLASSIFIERS, HEAD, *METHODS, BELIEF_ALONE)


def _values(rows: Sequence[TrialRow], share: float, method: str, score: str) -> NDArray[np.float64]:
    """(k,) over the seeds that ended."""
    values = [
        row.result["methods"][method][score]
        for row in rows
        if row.result is not None and row.trial.parameters["share"] == share
    ]
    return np.array([value for value in values if value is not None], dtype=np.float64)


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The table, the differences, the figure, the rows."""
    del profile
    lines, plain = [], []
    for share in SHARES:
        head = 100.0 * _values(rows, share, HEAD, "accuracy")
        for method in ROWS:
            accuracy = 100.0 * _values(rows, share, method, "accuracy")
            cells = [_mean_std(accuracy)]
            cells.append(
                _mean_std(100.0 * _values(rows, share, method, "labels_right")) if method in METHODS else ""
            )
            cells += [
                _mean_std(_values(rows, share, method, "brier_skill"), 3),
                _mean_std(_values(rows, share, method, "reward"), 1),
            ]
            more = ""
            if method != HEAD and len(accuracy) > 1:
                gain = paired_difference(accuracy, head, seed=0, coverage=COVERAGE)
                more = f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
            lines.append([f"{share:.0%}, `{method}`", *cells, more])
            plain.append(_row(rows, share, method))
    header = [
        "labelled patches", "accuracy (%)", "labels of round 1 right (%)", "Brier skill",
        f"reward in {BUDGET_MIN:g} min, `index`", f"accuracy − `{HEAD}`",
    ]  # fmt: skip
    text = "\n\n".join(
        [
            "SSL2-RL's loop ([how it works](../coupling.md)) on the real Y1 session, without images: perception is a "
            "logistic regression of the logits of two published classifiers, ResNet-18 and ResNet-50, of each hole and "
            "their means over its patch and square. Both classifiers saw the labels of the training holes, so only the "
            "1,074 holes of the 52 validation patches are in it: a twentieth, a tenth or a fifth of these patches are "
            "labelled (ten draws), the holes of the others are judged. The settings were fixed before anything was "
            f"run, but for the two rows of a belief that is told the held-out labels, `{SINCE}` and `{BELIEF_ALONE}`.",
            markdown_table(header, lines),
            "`res18` and `res50` are the published classifiers as they are; "
            f"`{HEAD}` is the head alone, before any "
            f"round; `{BELIEF_ALONE}` is what the belief says of the holes with the head's scores, before any "
            "classifier learns from it. "
            f"Differences are paired by draw, in points, with a {COVERAGE:.0%} bootstrap interval.",
            "`belief` is the default as it was fixed before the first run, and it failed here. Where all holes of a "
            "patch are labelled, every labelled score is one that the head was fitted to, so nothing told the belief "
            "how far scores can be trusted. Since then the belief is told the held-out labels as well, which no score "
            f"repeats: `{SINCE}`, today's default. Found on these holes, its row is no independent check.",
            "The last column says what each teacher adds to the head. In the simulated y3 labels lie in all patches: "
            "[ssl2rl](ssl2rl.md).",
        ]
    )
    return Page(text, figure(rows), plain)


def _mean_std(values: NDArray[np.float64], digits: int = 2) -> str:
    if not len(values):
        return MISSING
    mean, std = mean_and_std(values)
    return f"{mean:.{digits}f} ± {std:.{digits}f}"


def _row(rows: Sequence[TrialRow], share: float, method: str) -> Json:
    found = {
        score: _values(rows, share, method, score) for score in ("accuracy", "brier_skill", "reward", "good")
    }
    means = {
        f"{score}_mean": round(float(values.mean()), 4) if len(values) else None
        for score, values in found.items()
    }
    return {"method": method, "driver": "index", "labels": share, **means, "seeds": len(found["accuracy"])}


def figure(rows: Sequence[TrialRow]) -> bytes:
    """PNG: accuracy against the share of labelled patches."""
    drawing = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = drawing.subplots()
    for method, colour, marker in zip(
        ROWS, (GREY, GREY, BLACK, ORANGE, GREEN, GREEN, BLUE, BLUE, PURPLE), "<>xs^PoDv", strict=True
    ):
        values = [100.0 * _values(rows, share, method, "accuracy") for share in SHARES]
        points = [float(each.mean()) if len(each) else np.nan for each in values]
        if not np.isnan(points).all():
            line = "--" if ", " in method else "-"
            axes.plot(
                [100.0 * share for share in SHARES], points, line, color=colour, marker=marker, label=method
            )
    axes.set_xlabel("labelled patches (%)")
    axes.set_ylabel("accuracy on holes of other patches (%)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
    return png_bytes(drawing)


STUDY = Study(
    "ssl2rl-y1",
    "SSL2-RL's loop on the real Y1, without images",
    trials,
    run_one,
    page,
    (*PACKAGES_BEHIND_RESULTS, "perception", "coupling"),
)
