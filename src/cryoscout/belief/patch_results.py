"""What all results of one patch say of its effect: one exact integral per patch, in numba.

The results of a patch share one number, the patch's effect e, so their likelihood is a log-concave function of e
alone. Its product with a Gaussian is summed over equal steps around its highest point: for smooth functions that fall
off on both sides this rule gains digits with every halving of the step (Trefethen & Weideman, SIAM Rev. 56, 385, 2014),
however narrow the likelihood is or however far it lies from the Gaussian.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_STEP = 0.5
"""Step in units of the standard deviation at the highest point, and at most this in logits: a logistic function
changes over one unit. The mean of an effect is then right to 1e-6 of its standard deviation (tests)."""

_FAINT = 25.0
"""Where the density is below exp(-25) of its highest value the sum ends."""

_HIGHEST_POINT = 1e-2
"""How near to the highest point the sum must be centred, in standard deviations there: it only sets where it begins."""

_MOST_STEPS = 200
_LARGE = 1e100


@njit(cache=True)
def log_likelihood_at(effect, location, good, bad):  # type: ignore[no-untyped-def]
    """Log probability of the results, told apart shot by shot, at one effect."""
    total = 0.0
    for i in range(len(location)):
        f = location[i] + effect
        # log sigmoid(f) and log sigmoid(-f), stable at both ends.
        log_good = -math.log1p(math.exp(-f)) if f > 0 else f - math.log1p(math.exp(f))
        total += good[i] * log_good + bad[i] * (log_good - f)
    return total


@njit(cache=True)
def _highest_point(mean, variance, location, good, bad):  # type: ignore[no-untyped-def]
    """Where N(mean, variance) times the likelihood is highest, and its standard deviation there."""
    low, high = mean, mean
    for i in range(len(location)):
        low -= variance * bad[i]
        high += variance * good[i]
    effect, curvature, stride = mean, 1.0 / variance, high - low
    for _ in range(_MOST_STEPS):
        slope, curvature = (mean - effect) / variance, 1.0 / variance
        for i in range(len(location)):
            f = location[i] + effect
            p = 1.0 / (1.0 + math.exp(-f)) if f > 0 else 1.0 - 1.0 / (1.0 + math.exp(f))
            shots = good[i] + bad[i]
            slope += good[i] - shots * p
            curvature += shots * p * (1.0 - p)
        if slope > 0:
            low = effect
        else:
            high = effect
        newton = effect + slope / curvature
        if abs(newton - effect) * math.sqrt(curvature) < _HIGHEST_POINT:
            break
        # Newton's step where it stays inside and goes on getting shorter, else the middle: never round in circles.
        if not (low < newton < high and abs(newton - effect) < 0.5 * stride):
            newton = 0.5 * (low + high)
        stride = abs(newton - effect)
        effect = newton
    return effect, 1.0 / math.sqrt(curvature)


@njit(cache=True)
def _odds_at(centre, location, good, bad):  # type: ignore[no-untyped-def]
    """The log likelihood near `centre` as value + slope x - sum of shots log(1 + odds exp(+-x)), x = effect - centre.

    Returns odds (k,), towards (k,) True where exp(x) is in the term, value, slope. Odds are at most 1.
    """
    odds, towards = np.empty(len(location)), np.empty(len(location), dtype=np.bool_)
    value, slope = 0.0, 0.0
    for i in range(len(location)):
        f = location[i] + centre
        towards[i] = f <= 0.0
        odds[i] = math.exp(-abs(f))
        count = good[i] if f <= 0.0 else -bad[i]
        value += count * f
        slope += count
    return odds, towards, value, slope


@njit(cache=True)
def _log_terms(rise, fall, odds, towards, shots):  # type: ignore[no-untyped-def]
    """Sum of shots log(1 + odds rise) or shots log(1 + odds fall); one logarithm of a product for many holes."""
    total, product = 0.0, 1.0
    for i in range(len(odds)):
        factor = 1.0 + odds[i] * (rise if towards[i] else fall)
        if i > 0 and (shots[i] != shots[i - 1] or product > _LARGE or factor > _LARGE):
            total += shots[i - 1] * math.log(product)
            product = 1.0
        product *= factor
    return total + shots[-1] * math.log(product)


@njit(cache=True)
def points_of(mean, variance, location, good, bad):  # type: ignore[no-untyped-def]
    """N(mean, variance) times the likelihood of the results as points with weights, and the log of its mass.

    mean, variance : of the effect without these results     location, good, bad : (k,) of holes of one patch
    Returns effects (j,), the first of them the centre, weights (j,) that sum to 1, log mass (nats).
    """
    if variance <= 0.0:
        return np.full(1, mean), np.ones(1), log_likelihood_at(mean, location, good, bad)
    centre, deviation = _highest_point(mean, variance, location, good, bad)
    odds, towards, value, slope = _odds_at(centre, location, good, bad)
    shots = good + bad
    highest = value - _log_terms(1.0, 1.0, odds, towards, shots) - 0.5 * (centre - mean) ** 2 / variance
    step = _STEP * min(deviation, 1.0)
    effects, weights = np.empty(64), np.empty(64)
    effects[0], weights[0] = centre, 1.0
    count, total = 1, 1.0
    for direction in (-1.0, 1.0):
        k = 1
        ratio = math.exp(direction * step)
        rise = ratio
        while True:
            x = direction * step * k
            height = value + slope * x - _log_terms(rise, 1.0 / rise, odds, towards, shots)
            height -= 0.5 * (centre + x - mean) ** 2 / variance + highest
            if not height > -_FAINT:
                break
            if count == len(effects):
                effects = np.concatenate((effects, np.empty(count)))
                weights = np.concatenate((weights, np.empty(count)))
            effects[count], weights[count] = centre + x, math.exp(height)
            total += weights[count]
            count += 1
            k += 1
            rise *= ratio
    log_mass = highest + math.log(total * step) - 0.5 * math.log(2.0 * math.pi * variance)
    return effects[:count], weights[:count] / total, log_mass


@njit(cache=True)
def tilted(mean, variance, location, good, bad):  # type: ignore[no-untyped-def]
    """Log mass, mean and variance of N(mean, variance) times the likelihood of the results; see `points_of`."""
    effects, weights, log_mass = points_of(mean, variance, location, good, bad)
    first, second = 0.0, 0.0
    for j in range(len(effects)):
        first += weights[j] * (effects[j] - effects[0])
    for j in range(len(effects)):
        second += weights[j] * (effects[j] - effects[0] - first) ** 2
    return log_mass, effects[0] + first, second


@njit(cache=True)
def site_of(mean, variance, tilted_mean, tilted_variance):  # type: ignore[no-untyped-def]
    """(precision, precision times mean) that turns N(mean, variance) into the tilted mean and variance."""
    # The likelihood is log-concave: it never takes precision away.
    precision = max(1.0 / tilted_variance - 1.0 / variance, 0.0)
    return precision, tilted_mean * (precision + 1.0 / variance) - mean / variance


@njit(cache=True)
def slopes_by_location(mean, variance, location, good, bad, out):  # type: ignore[no-untyped-def]
    """Derivatives of the log mass by the location of each hole, written to out, (k,)."""
    effects, weights, _ = points_of(mean, variance, location, good, bad)
    for i in range(len(location)):
        share = 0.0
        for j in range(len(effects)):
            share += weights[j] / (1.0 + math.exp(-location[i] - effects[j]))
        out[i] = good[i] - (good[i] + bad[i]) * share
