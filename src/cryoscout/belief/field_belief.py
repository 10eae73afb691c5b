"""Effects of patch, square and grid and a smooth field over the stage on the logit scale, given outcomes.

As `effects.py`, with e_h = grid + square + patch effect + field within the square + field over the grid: both fields
zero-mean Gaussian processes with a Matern 3/2 kernel, constant on a leaf (`stage_pieces.py`), given by their values at
inducing positions; what these leave of a field's variance is independent between leaves (FITC; Snelson & Ghahramani
2006). Squares are apart from each other: film ends at the bars. Expectation propagation with one site per leaf is
exact over all results of a leaf, and refined until nothing moves, so the posterior is a function of the outcomes, not
of their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import cdist

from cryoscout.belief.effects import EffectVariances, Variance, p_good_given_effects
from cryoscout.belief.field_posterior import marginals, posterior, settle_leaf_sites
from cryoscout.belief.stage_field import FieldBasis, inducing_positions
from cryoscout.belief.stage_pieces import StagePieces
from cryoscout.core.settings import Settings

MOST_IN_SQUARE = 16
"""Inducing positions of the field within a square."""
MOST_IN_GRID = 48
"""Inducing positions of the field over a grid, among the middles of its squares: it is longer than they are wide."""

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]
Length = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class FieldVariances(Settings):
    """Prior variances (logit squared) of all terms, and lengths of the fields (`stage_field.matern`)."""

    effects: EffectVariances
    """Independent effects; `session` is taken as part of each grid's."""
    within_square: Variance
    length_within_square_um: Length
    over_grid: Variance
    length_over_grid_um: Length

    @property
    def total(self) -> float:
        """Prior variance of e_h."""
        return self.effects.total + self.within_square + self.over_grid


@dataclass(frozen=True)
class GridPlaces:
    """The leaves of one grid and the distances from its inducing positions; shared by beliefs of other variances."""

    leaves: Indices  # (m,) ascending
    block: Indices  # (m,) 0..b-1, sorted
    in_grid_um: tuple[
        Numbers, Numbers
    ]  # (i, i) between inducing positions, (m', i) of leaves with a position
    in_blocks_um: list[tuple[Numbers, Numbers]]  # the same in each block
    placed: NDArray[np.bool_]  # (m,) leaves with a position

    @classmethod
    def of(cls, pieces: StagePieces, grid: int) -> GridPlaces:
        """The places of the leaves of this grid."""
        first, last = np.searchsorted(pieces.grid_of_leaf, [grid, grid + 1])
        leaves = np.arange(first, last)
        block = pieces.block_of_leaf[first:last] - pieces.block_of_leaf[first]
        leaf_um = pieces.leaf_um[first:last]
        placed = ~np.isnan(leaf_um[:, 0])
        starts = np.searchsorted(block, np.arange(block[-1] + 2))
        of_blocks = [leaf_um[a:b][placed[a:b]] for a, b in itertools.pairwise(starts)]
        middles = [inside.mean(axis=0) for inside in of_blocks if len(inside)]
        in_blocks = [_distances(inside, MOST_IN_SQUARE) for inside in of_blocks]
        over_grid = _distances(leaf_um[placed], MOST_IN_GRID, np.array(middles).reshape(-1, 2))
        return cls(leaves, block, over_grid, in_blocks, placed)

    def columns(self, variances: FieldVariances) -> tuple[Numbers, Numbers, Numbers]:
        """U (m, r), Psi (m, s) and own variance d (m,) of the leaves; see `field_posterior.py`."""
        most_in_block = max(len(between) for between, _ in self.in_blocks_um)
        u = np.zeros((len(self.leaves), 1 + len(self.in_grid_um[0])))
        psi = np.zeros((len(self.leaves), 1 + most_in_block))
        effects = variances.effects
        u[:, 0], psi[:, 0] = np.sqrt(effects.grid + effects.session), np.sqrt(effects.square)
        own = np.full(len(self.leaves), effects.patch + variances.over_grid + variances.within_square)
        between, away = self.in_grid_um
        if variances.over_grid > 0:
            rows = FieldBasis(between, variances.length_over_grid_um).rows(away)
            _put(u, own, np.flatnonzero(self.placed), rows, variances.over_grid)
        if variances.within_square > 0:
            starts = np.searchsorted(self.block, np.arange(len(self.in_blocks_um) + 1))
            for b, (between, away) in enumerate(self.in_blocks_um):
                inside = starts[b] + np.flatnonzero(self.placed[starts[b] : starts[b + 1]])
                rows = FieldBasis(between, variances.length_within_square_um).rows(away)
                _put(psi, own, inside, rows, variances.within_square)
        return u, psi, own


def _distances(places_um: Numbers, most: int, among_um: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """Between the inducing positions, at most so many of these or of the places, and of every place from them."""
    inducing = places_um if among_um is None else among_um
    if len(inducing):
        inducing = inducing_positions(inducing, most)
    return cdist(inducing, inducing), cdist(places_um, inducing)


def _put(columns: Numbers, own: Numbers, rows: Indices, basis: Numbers, variance: float) -> None:
    """Write a field's basis beside the effect's column; what it explains is no longer the leaf's own."""
    columns[rows, 1 : 1 + basis.shape[1]] = np.sqrt(variance) * basis
    own[rows] -= variance * np.minimum(np.square(basis).sum(axis=1), 1.0)


@dataclass
class _GridBelief:
    """One grid with results."""

    places: GridPlaces
    columns: tuple[Numbers, Numbers, Numbers]
    known: Indices = field(
        default_factory=lambda: np.zeros(0, dtype=np.int64)
    )  # (k,) rows of leaves with results
    sites: Numbers = field(default_factory=lambda: np.zeros((0, 2)))
    seen: Numbers = field(default_factory=lambda: np.zeros((0, 2)))
    moments: Numbers = field(default_factory=lambda: np.zeros((0, 2)))
    log_evidence: float = 0.0

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the grid."""
        return len(self.places.in_blocks_um)

    def keep(self, known: Indices, changed: NDArray[np.bool_]) -> None:
        """Make room for these leaves, (k,), with the sites of those that stay; changed : (k,) results are new."""
        sites, seen, moments = (
            np.zeros((len(known), 2)),
            np.full((len(known), 2), np.nan),
            np.zeros((len(known), 2)),
        )
        stays = np.isin(known, self.known)
        rows = np.searchsorted(self.known, known[stays])
        sites[stays], seen[stays], moments[stays] = self.sites[rows], self.seen[rows], self.moments[rows]
        seen[changed] = np.nan
        self.known, self.sites, self.seen, self.moments = known, sites, seen, moments

    def settle(self, first: Indices, location: Numbers, good: Numbers, bad: Numbers) -> None:
        """Let the sites follow the results; arguments as in `settle_leaf_sites`."""
        u, psi, own = (each[self.known] for each in self.columns)
        self.log_evidence = settle_leaf_sites(
            u, psi, own, self.places.block[self.known], self.n_blocks,
            (first, location, good, bad), self.sites, self.seen, self.moments,
        )  # fmt: skip

    def posterior(self) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers, float]:
        """See `field_posterior.posterior`."""
        u, psi, own = (each[self.known] for each in self.columns)
        found: tuple[Numbers, Numbers, Numbers, Numbers, Numbers, float] = posterior(
            u, psi, own, self.places.block[self.known], self.n_blocks, self.sites
        )
        return found

    def of_leaves(self) -> tuple[Numbers, Numbers, Numbers]:
        """Mean, variance and third central moment of every leaf's effect, (m,) each."""
        sites, third = np.zeros((len(self.places.leaves), 2)), np.zeros(len(self.places.leaves))
        sites[self.known], third[self.known] = self.sites, self.moments[:, 1]
        mean, variance = marginals(*self.columns, self.places.block, sites, self.posterior())
        return mean, variance, third

    def drawn(self, rows: Indices, draws: int, rng: np.random.Generator) -> Numbers:
        """Joint draws of the effects of these leaves, (w,) rows of the grid, from the posterior, (draws, w).

        A draw from the prior plus what its difference from the sites moves the posterior mean by (Papandreou & Yuille
        2010): as exact as the posterior itself, in time linear in leaves.
        """
        involved = np.union1d(rows, self.known)
        u, psi, own = (each[involved] for each in self.columns)
        block = self.places.block[involved]
        z = rng.standard_normal((u.shape[1], draws))
        y = rng.standard_normal((self.n_blocks, psi.shape[1], draws))
        effect = u @ z + np.sqrt(own)[:, None] * rng.standard_normal((len(involved), draws))
        for b in np.unique(block):
            effect[block == b] += psi[block == b] @ y[b]
        if len(self.known):
            at = np.searchsorted(involved, self.known)
            noise = rng.standard_normal((len(at), draws))
            precision, shift = self.sites[:, :1], self.sites[:, 1:]
            pseudo = np.zeros_like(effect)
            pseudo[at] = shift - precision * effect[at] + np.sqrt(precision) * noise
            of_involved = np.zeros(len(involved))
            of_involved[at] = self.sites[:, 0]
            effect += self._mean_given(u, psi, own, block, of_involved, pseudo)
        return np.asarray(effect[np.searchsorted(involved, rows)].T)

    def _mean_given(
        self, u: Numbers, psi: Numbers, own: Numbers, block: Indices, precision: Numbers, shift: Numbers
    ) -> Numbers:
        """(w, draws) posterior means of leaves with these sites, shift (w, draws)."""
        _, covariance_z, covariance_y, pull, _, _ = self.posterior()
        scale = (1.0 + own * precision)[:, None]
        given = shift / scale
        shift_z, mean_y = u.T @ given, {}
        for b in np.unique(block):
            inside = block == b
            shift_y = psi[inside].T @ given[inside]
            mean_y[b] = covariance_y[b] @ shift_y
            shift_z -= pull[b].T @ shift_y
        z = covariance_z @ shift_z
        mean = u @ z
        for b, of_block in mean_y.items():
            inside = block == b
            mean[inside] += psi[inside] @ (of_block - pull[b] @ z)
        return np.asarray((mean + own[:, None] * shift) / scale)


class StagePlaces:
    """The pieces of a session on the stage and the places of their grids; made when first needed, shared by beliefs."""

    def __init__(self, pieces: StagePieces) -> None:
        self.pieces = pieces
        self._grids: dict[int, GridPlaces] = {}

    @property
    def n_leaves(self) -> int:
        """Number of leaves."""
        return len(self.pieces.block_of_leaf)

    def grid(self, grid: int) -> GridPlaces:
        """The places of one grid."""
        if grid not in self._grids:
            self._grids[grid] = GridPlaces.of(self.pieces, grid)
        return self._grids[grid]

    @cached_property
    def grid_of_hole(self) -> Indices:
        """(n,)."""
        return np.asarray(self.pieces.grid_of_leaf[self.pieces.leaf_of_hole])


class FieldBelief:
    """EffectBelief's interface, with fields over the stage.

    One more result costs a few sweeps over the results of its grid: with k leaves that have results and b blocks
    k (49 + 17)^2 + b 17^3 + 49^3 operations each, and k exact integrals where something has moved. Other grids are not
    touched, and a grid without results costs nothing.
    """

    def __init__(self, location: Numbers, places: StagePlaces, variances: FieldVariances) -> None:
        """location : (n,) logit of each hole without effects."""
        self.location, self._places, self._variances = location, places, variances
        n_holes, n_leaves = len(location), places.n_leaves
        self._good, self._shots = np.zeros(n_holes), np.zeros(n_holes)
        self._known = np.zeros(0, dtype=np.int64)  # holes with a result, by leaf and within it by hole
        self._grids: dict[int, _GridBelief] = {}
        self.mean, self.variance = np.zeros(n_leaves), np.full(n_leaves, variances.total)
        self._third = np.zeros(n_leaves)

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.location)

    def observe_many(self, holes: Indices, good: Numbers, shots: int | Numbers = 1) -> None:
        """Take in many outcomes at once; each replaces an earlier one of its hole.

        holes : (m,) distinct     good : (m,) 0..shots     shots : with a result, one number or (m,); 0 for none
        """
        if len(holes) == 0:
            return
        self._good[holes], self._shots[holes] = good, shots
        leaf_of_hole = self._places.pieces.leaf_of_hole
        known = np.union1d(self._known, holes)
        known = known[self._shots[known] > 0]
        self._known = known[np.argsort(leaf_of_hole[known], kind="stable")]
        changed = np.unique(leaf_of_hole[holes])
        for grid in np.unique(self._places.pieces.grid_of_leaf[changed]):
            self._refresh(int(grid), changed)

    def p_good(self) -> Numbers:
        """(n,) probability that one exposure of each hole is good, given the outcomes so far."""
        leaf = self._places.pieces.leaf_of_hole
        return p_good_given_effects(self.location, leaf, self.mean, self.variance, self._third)

    def effect_variance(self) -> Numbers:
        """(n,) variance of each hole's effect, given the outcomes so far."""
        return np.asarray(self.variance[self._places.pieces.leaf_of_hole])

    def log_likelihood(self) -> float:
        """Approximate log marginal likelihood of the outcomes so far (nats), effects and fields integrated out."""
        return float(sum(self._grids[grid].log_evidence for grid in sorted(self._grids)))

    def draw_logits(
        self, draws: int, rng: np.random.Generator, holes: Indices, loadings: Numbers | None = None
    ) -> Numbers:
        """Joint draws of the logits of these holes, (m,), from the posterior, (draws, m); see `EffectBelief`."""
        logits = np.tile(self.location[holes], (draws, 1))
        for grid, columns, rows in self._by_grid(holes):
            leaves, of_column = np.unique(rows, return_inverse=True)
            logits[:, columns] += self._grid(grid).drawn(leaves, draws, rng)[:, of_column]
        if loadings is not None:
            logits += rng.standard_normal((draws, loadings.shape[1])) @ loadings[holes].T
        return logits

    def _by_grid(self, holes: Indices) -> Iterator[tuple[int, Indices, Indices]]:
        """Grid, which of these holes lie in it, and the rows of their leaves within it."""
        leaf = self._places.pieces.leaf_of_hole[holes]
        grid_of_column = self._places.pieces.grid_of_leaf[leaf]
        for grid in np.unique(grid_of_column):
            columns = np.flatnonzero(grid_of_column == grid)
            yield int(grid), columns, leaf[columns] - self._places.grid(int(grid)).leaves[0]

    def _grid(self, grid: int) -> _GridBelief:
        if grid not in self._grids:
            places = self._places.grid(grid)
            self._grids[grid] = _GridBelief(places, places.columns(self._variances))
        return self._grids[grid]

    def _refresh(self, grid: int, changed: Indices) -> None:
        """Let sites and posterior of one grid follow the outcomes. changed : leaves with other results."""
        belief, leaf_of_hole = self._grid(grid), self._places.pieces.leaf_of_hole
        inside = belief.places.leaves
        leaf_of_row = leaf_of_hole[self._known]
        begin, end = np.searchsorted(leaf_of_row, [inside[0], inside[-1] + 1])
        rows = self._known[begin:end]
        known, first = np.unique(leaf_of_row[begin:end], return_index=True)
        belief.keep(known - inside[0], np.isin(known, changed))
        good = self._good[rows]
        belief.settle(np.append(first, len(rows)), self.location[rows], good, self._shots[rows] - good)
        self.mean[inside], self.variance[inside], self._third[inside] = belief.of_leaves()
