"""Drift: results that fall below what was predicted beyond chance, and at which level.

Chance is more than the toss of single results: predictions promise too much or too little for a whole session,
grids, squares and patches differ by more than their predictions say, and a route goes where predictions are high. All
of that is in the model of no drift: the logit of a result is that of the prediction, its slope and offset learned,
plus what the mean predictions around the hole say (learned), plus effects of grid, square and patch whose size is
learned.

Against it stands: from some result on a share of the good micrographs is lost, wherever the microscope is. For each
beginning the log likelihood ratio of that loss is approximated to second order at the mode of the model of no drift
(the efficient score test: what the effects can explain as well does not count), so it is at hand for all beginnings at
once. A great loss is far from that mode, where the effects explain a part of it: for the newest results, and for those
since the square or the grid was entered, the ratio of a great loss is that of two evidences, each at its own mode.

Where the largest passes LIMIT a drift is told. The results since then say the level: all of one square or of one
grid that was new then, else all at once. A grid that is only worse than others from its first result is within what
grids differ by: the belief learns it, and it is hardly ever told. A drift that lasts becomes what is usual.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.laplace import LabelledBlock, LaplacePosterior, laplace_posterior
from cryoscout.core.hole_tree import HoleTree

Level = Literal["this square", "this grid", "all at once"]
LEVELS: tuple[Level, ...] = get_args(Level)
Numbers = NDArray[np.float64]

LIMIT = 3.7
"""Log likelihood ratio at which a drift is told. Chosen so that about 3 % of simulated sessions of other seeds than the
study's warn within 400 results without a drift (`scripts/select_advice.py drift`)."""
LOSSES = (0.2, 0.3)
"""Shares of the good micrographs that a drift loses; equally likely. So small that second order tells them."""
GREAT_LOSSES = (0.45, 0.7, 0.95)
"""Shares whose ratio is computed in full; equally likely."""
RARER = 3.5
"""Nats by which a great loss is rarer: it is told by few results, and a few patches that differ do nearly as much."""
NEWEST = (10, 20, 30, 50, 100)
"""So many newest results may be those since a great loss began; so may those since the square or grid was entered."""
BEFORE = 10
"""At least so many results come before a great loss."""
SETTLED = 1e-3
"""Twice the nats that a great loss still gains where the search for its mode ends."""
FALLEN = 0.6
"""A great loss is computed where less than this share of the good micrographs came that promises and results before
let expect; elsewhere it would not be told anyway."""
SUREST = 8.0
"""A hole counts by 1 / (1 - chance), at most by this: a sure hole that fails says most, but no single one decides."""
SIZES = (1.0, 0.4, 0.1)
"""Factors of the variances of the effects; weighed by how well they explain the results."""
PATCH_VARIANCE, SQUARE_VARIANCE, GRID_VARIANCE = 1.4, 0.4, 0.8
"""Logit squared, at size 1: of results about predictions that say nothing of their surroundings."""
OFFSET_SD, SLOPE_SD, AROUND_SD = 1.0, 0.5, 1.5
"""How far, a priori, a prediction may be off (logits), too sure or not sure enough, and its surroundings count."""
CLIP = 0.005
"""Stated chances are kept so far from 0 and 1 before their logit is taken."""
KEPT = 400
"""Newest results that a drift is looked for in."""
EVERY = 10
"""Results between two looks."""
FEWEST = 20
"""With fewer results nothing is told."""
MOST = 0.8
"""Share of the results since a drift began that must lie in one place for it to be that place's."""
ENTERED = 0.2
"""Results of that place before the drift, over those since: with more, it was as predicted until something changed."""


@dataclass(frozen=True)
class Promise:
    """What was predicted of a hole before any result, and where it lies."""

    p_good: float
    logit: float
    """Of p_good, kept away from 0 and 1."""
    around: tuple[float, float, float]
    """Mean logits of its patch less its square's, of its square less its grid's, of its grid less the session's."""
    patch: str
    square: str
    grid: str


class Promises:
    """The promises of all holes of a problem."""

    def __init__(self, p_good: Numbers, tree: HoleTree) -> None:
        """p_good : (n,) predictions."""
        self._p_good = p_good
        clipped = np.clip(p_good, CLIP, 1.0 - CLIP)
        self._logit = np.log(clipped) - np.log1p(-clipped)
        square, grid = tree.square_of_patch[tree.patch_of_hole], tree.grid_of_hole
        means = [self._means(each) for each in (tree.patch_of_hole, square, grid, np.zeros_like(grid))]
        self._around = np.column_stack([means[i] - means[i + 1] for i in range(3)])

    def _means(self, place: NDArray[np.int32]) -> Numbers:
        """(n,) mean logit of the holes of each hole's place."""
        counts = np.maximum(np.bincount(place), 1)
        return np.asarray((np.bincount(place, weights=self._logit) / counts)[place])

    def of(self, hole: int, patch: str, square: str, grid: str) -> Promise:
        """The promise of one hole, with the names of its places."""
        first, second, third = self._around[hole].tolist()
        p_good, logit = float(self._p_good[hole]), float(self._logit[hole])
        return Promise(p_good, logit, (first, second, third), patch, square, grid)


@dataclass(frozen=True)
class DriftWarning:
    """Results have fallen below prediction."""

    level: Level
    place: str
    since_result: int  # index of the first result since when they have
    results: int
    good: float
    expected: float
    sentence: str


class DriftWatch:
    """Follows results in the order they came.

    What it says is a function of the newest KEPT results up to a multiple of EVERY, and is found out when it is asked.
    A look costs some 100 ms where results have fallen: who has no time for it goes on with `look_on` bit by bit, and
    asks for what is `told` meanwhile.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._rows: deque[tuple[Promise, bool]] = deque(maxlen=KEPT + EVERY)
        self._count = 0
        self._told_at = -1
        self._told: tuple[float, DriftWarning | None] = (0.0, None)
        self._looks: tuple[int, _Look] | None = None
        """The look that was begun: after how many results, and what is left of it."""

    def take(self, promise: Promise, good: bool) -> None:
        """Take one more result in."""
        self._rows.append((promise, good))
        self._count += 1

    @property
    def warning(self) -> DriftWarning | None:
        """The warning that holds now; None where there is none."""
        self.look_on(lambda: True)
        return self._told[1]

    @property
    def log_ratio(self) -> float:
        """Of the likeliest drift against none."""
        self.look_on(lambda: True)
        return self._told[0]

    @property
    def told(self) -> DriftWarning | None:
        """The warning of the last look that was finished."""
        return self._told[1]

    def look_on(self, has_time: Callable[[], bool]) -> bool:
        """Look on until the look is finished or there is no time for more, asked every few ms; whether it is finished.

        A look that was not finished before the next one is due is finished first: none is put off for ever.
        """
        newest = self._count % EVERY
        upto = self._count - newest
        while self._looks is not None and self._looks[0] != upto:
            self._go_on()
        while upto != self._told_at:
            if self._looks is None:
                rows = list(self._rows)[: len(self._rows) - newest][-KEPT:]
                self._looks = upto, self._look(rows, upto)
            if not has_time():
                return False
            self._go_on()
        return True

    def _go_on(self) -> None:
        """One fit more of the look that was begun; it is begun anew where that fails."""
        if self._looks is None:
            return
        (upto, look), self._looks = self._looks, None
        try:
            next(look)
        except StopIteration as end:
            self._told_at, self._told = upto, end.value
        else:
            self._looks = upto, look

    def _look(self, rows: Sequence[tuple[Promise, bool]], upto: int) -> _Look:
        if len(rows) < FEWEST:
            return 0.0, None
        ratios = yield from _ratios(rows)
        since = int(np.argmax(ratios))
        is_drift = ratios[since] >= self._limit
        return float(ratios[since]), _warning(rows, since, upto - len(rows)) if is_drift else None


_Look = Generator[None, None, tuple[float, DriftWarning | None]]


def log_ratios(rows: Sequence[tuple[Promise, bool]]) -> Numbers:
    """(m,) log likelihood ratio of a drift that began with each of the results against none."""
    steps = _ratios(rows)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return np.asarray(end.value)


def _ratios(rows: Sequence[tuple[Promise, bool]]) -> Generator[None, None, Numbers]:
    """`log_ratios`, a fit at a time."""
    results = _Results(rows)
    posteriors = []
    for size in SIZES:
        posteriors.append(laplace_posterior(results.block(size)))
        yield
    evidence = np.array([each.log_evidence for each in posteriors])
    weights = np.exp(evidence - np.logaddexp.reduce(evidence))
    ratios = np.zeros(len(rows))
    for weight, posterior in zip(weights, posteriors, strict=True):
        score, information = results.score(posterior)
        for loss in LOSSES:
            ratio = np.minimum(loss * score - 0.5 * loss**2 * information, 500.0)
            ratios += weight / len(LOSSES) * np.exp(ratio)
    ratios = np.log(ratios)
    for since in results.beginnings():
        if results.has_fallen(since):
            with_loss = []
            for size in SIZES:
                for loss in GREAT_LOSSES:
                    block = results.block(size, loss=loss, since=since)
                    with_loss.append(laplace_posterior(block, settled=SETTLED).log_evidence)
                    yield
            ratio = np.logaddexp.reduce(with_loss) - np.log(len(GREAT_LOSSES)) - np.logaddexp.reduce(evidence)
            ratios[since] = max(ratios[since], ratio - RARER)
    return np.asarray(ratios)


class _Results:
    """Results in the order they came, as the model of no drift takes them."""

    def __init__(self, rows: Sequence[tuple[Promise, bool]]) -> None:
        promises = [promise for promise, _ in rows]
        self.good = np.array([good for _, good in rows], dtype=np.float64)
        self.location = np.array([promise.logit for promise in promises])
        self.patch, self.square, self.grid = (
            np.unique(names, return_inverse=True)[1]
            for names in zip(*((each.patch, each.square, each.grid) for each in promises), strict=True)
        )
        self.common = np.column_stack(
            [
                np.full(len(rows), OFFSET_SD),
                SLOPE_SD * self.location,
                AROUND_SD * np.array([promise.around for promise in promises]),
            ]
        )
        self.by_patch = np.argsort(self.patch, kind="stable")

    def columns(self, size: float) -> Numbers:
        """(m, r) change of each logit with offset, slope, surroundings, squares and grids, per prior sd."""
        squares = np.sqrt(size * SQUARE_VARIANCE) * np.eye(int(self.square.max()) + 1)[self.square]
        grids = np.sqrt(size * GRID_VARIANCE) * np.eye(int(self.grid.max()) + 1)[self.grid]
        return np.hstack([self.common, squares, grids])

    def block(
        self, size: float, first: int | None = None, loss: float = 0.0, since: int = 0
    ) -> LabelledBlock:
        """The first so many of the results (None: all), sorted by patch; a share of the good since then is lost."""
        rows = self.by_patch if first is None else self.by_patch[self.by_patch < first]
        patch = np.unique(self.patch[rows], return_inverse=True)[1]
        columns = self.columns(size)[rows]
        kept = np.where(rows >= since, 1.0 - loss, 1.0) if loss else None
        return LabelledBlock(
            self.location[rows], columns, patch, size * PATCH_VARIANCE, self.good[rows], kept
        )

    def beginnings(self) -> list[int]:
        """Results with which a great loss may have begun: newest ones, and the entry into the square and grid."""
        m = len(self.good)
        found = {m - newest for newest in NEWEST}
        for place in (self.square, self.grid):
            elsewhere = np.flatnonzero(place != place[-1])
            if len(elsewhere) and m - elsewhere[-1] - 1 <= max(NEWEST):
                found.add(int(elsewhere[-1]) + 1)
        return sorted(since for since in found if since >= BEFORE)

    def has_fallen(self, since: int) -> bool:
        """Whether less than FALLEN of what was to be expected came since then."""
        chance = sigmoid(self.location)
        expected = chance[since:].sum() * self.good[:since].sum() / chance[:since].sum()
        return bool(self.good[since:].sum() < FALLEN * expected)

    def score(self, posterior: LaplacePosterior) -> tuple[Numbers, Numbers]:
        """Derivative of the log likelihood by the share lost since each result, and its information, (m,) each.

        What effects explain as well is taken off the information; at the mode nothing is to be taken off the score.
        """
        block, in_time = posterior.block, np.argsort(self.by_patch)
        p = sigmoid(block.logits(posterior.mean, posterior.patch_mean))[in_time]
        weight, patch = posterior.weight[in_time], self.patch
        fall = -1.0 / np.maximum(1.0 - p, 1.0 / SUREST)  # of the logit with the share lost
        pull = weight * fall
        of_shared = _from_here_on(pull[:, None] * (block.columns - posterior.pull[block.patch])[in_time])
        of_patch = _from_here_on(pull[:, None] * np.eye(len(posterior.patch_mean))[patch])
        explained = np.einsum("ij,ij->i", of_shared @ posterior.covariance, of_shared)
        explained += of_patch**2 @ posterior.patch_variance
        score = _from_here_on(fall * (self.good - p))
        return score, np.maximum(_from_here_on(pull * fall) - explained, 0.0)

    def expected_since(self, since: int) -> float:
        """Good results to be expected of those since then by all before."""
        size = SIZES[1]
        columns = self.columns(size)
        shared = np.zeros(len(self.good) - since)
        of_patch = np.zeros(int(self.patch.max()) + 1)
        if since > 0:
            posterior = laplace_posterior(self.block(size, since))
            shared = columns[since:] @ posterior.mean
            of_patch[np.unique(self.patch[:since])] = posterior.patch_mean
        logits = self.location[since:] + shared + of_patch[self.patch[since:]]
        return float(sigmoid(logits).sum())


def _from_here_on(values: Numbers) -> Numbers:
    """Sums from each row to the last one."""
    return np.cumsum(values[::-1], axis=0)[::-1]


def _warning(rows: Sequence[tuple[Promise, bool]], since: int, before: int) -> DriftWarning:
    """before : results that came before these rows"""
    promises = [promise for promise, _ in rows[since:]]
    square, in_square = _most([each.square for each in promises])
    grid, in_grid = _most([each.grid for each in promises])
    earlier = [promise for promise, _ in rows[:since]]
    new_square = sum(each.square == square for each in earlier) <= ENTERED * len(promises)
    new_grid = sum(each.grid == grid for each in earlier) <= ENTERED * len(promises)
    good = sum(good for _, good in rows[since:])
    expected = _Results(rows).expected_since(since)
    numbers = f"{good} of the last {len(promises)} results are good, {expected:.0f} were expected"
    level: Level
    if earlier and in_square >= MOST and new_square:
        level, place = "this square", square
        what = f"Square {place} is worse than predicted: {numbers}."
    elif earlier and in_grid >= MOST and new_grid:
        level, place = "this grid", grid
        what = f"Grid {place} is worse than predicted: {numbers}."
    else:
        level, place = "all at once", ""
        what = f"All at once: {numbers}. Look at focus and beam, not at the ice."
    return DriftWarning(level, place, before + since, len(promises), float(good), expected, what)


def _most(names: Sequence[str]) -> tuple[str, float]:
    """The most frequent name, and its share."""
    [(name, count)] = Counter(names).most_common(1)
    return name, count / len(names)
