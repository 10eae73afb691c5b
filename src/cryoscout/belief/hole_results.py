"""What the results of holes of one patch say of its effect: one exact integral for any number of shots, in numba.

The likelihood of the results is a log-concave function of the patch's effect. Its product with a Gaussian is summed
over equal steps around its highest point: for smooth functions that fall off on both sides this rule gains digits with
every halving of the step (Trefethen & Weideman, SIAM Rev. 56, 385, 2014), however narrow the likelihood is and however
far it lies from the Gaussian. Nodes that are fixed to the Gaussian miss a narrow one.
"""

from __future__ import annotations

import math

from numba import njit

_STEP = 0.5
"""Step in units of the standard deviation at the highest point, and at most this in logits: a logistic function
changes over one unit. The mean of an effect is then right to 1e-6 of its standard deviation (tests)."""

_FAINT = 25.0
"""Where the density is below exp(-25) of its highest value the sum ends."""

_HIGHEST_POINT = 1e-2
"""How near to the highest point the sum is centred, in standard deviations there: it only sets where the points lie."""

_MOST_STEPS = 200


@njit(cache=True)
def _log_likelihood(effect, location, good, bad):  # type: ignore[no-untyped-def]
    """Log probability of the results, told apart shot by shot."""
    total = 0.0
    for i in range(len(location)):
        logit = location[i] + effect
        # log sigmoid(f) and log sigmoid(-f), stable at both ends.
        log_good = -math.log1p(math.exp(-logit)) if logit > 0 else logit - math.log1p(math.exp(logit))
        total += good[i] * log_good + bad[i] * (log_good - logit)
    return total


@njit(cache=True)
def _highest_point(mean, variance, location, good, bad):  # type: ignore[no-untyped-def]
    """Where N(mean, variance) times the likelihood is highest, and its standard deviation there."""
    low, high = mean - variance * bad.sum(), mean + variance * good.sum()
    effect, curvature, stride = mean, 1.0 / variance, high - low
    for _ in range(_MOST_STEPS):
        slope, curvature = (mean - effect) / variance, 1.0 / variance
        for i in range(len(location)):
            logit, shots = location[i] + effect, good[i] + bad[i]
            p = 1.0 / (1.0 + math.exp(-logit)) if logit > 0 else 1.0 - 1.0 / (1.0 + math.exp(logit))
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
def tilted(mean, variance, location, good, bad):  # type: ignore[no-untyped-def]
    """Log mass (nats), mean, variance and third central moment of N(mean, variance) times the likelihood of results.

    mean, variance : of the effect without these results
    location, good, bad : (k,) logits of holes of one patch without effects, and their shots with such a result; the
        likelihood is the product of sigmoid(location + e)^good sigmoid(-location - e)^bad
    """
    if variance <= 0.0:
        return _log_likelihood(mean, location, good, bad), mean, 0.0, 0.0
    centre, deviation = _highest_point(mean, variance, location, good, bad)
    step = _STEP * min(deviation, 1.0)
    highest = _log_likelihood(centre, location, good, bad) - 0.5 * (centre - mean) ** 2 / variance
    mass, first, second, third = 1.0, 0.0, 0.0, 0.0
    for direction in (-step, step):
        x = direction
        while True:
            effect = centre + x
            height = _log_likelihood(effect, location, good, bad) - 0.5 * (effect - mean) ** 2 / variance
            if not height - highest > -_FAINT:
                break
            weight = math.exp(height - highest)
            mass += weight
            first += weight * x
            second += weight * x * x
            third += weight * x * x * x
            x += direction
    first, second, third = first / mass, second / mass, third / mass
    log_mass = highest + math.log(mass * step) - 0.5 * math.log(2.0 * math.pi * variance)
    about_mean = third - 3.0 * first * second + 2.0 * first**3
    return log_mass, centre + first, second - first * first, about_mean


@njit(cache=True)
def site_of(mean, variance, tilted_mean, tilted_variance):  # type: ignore[no-untyped-def]
    """(precision, precision times mean) that turns N(mean, variance) into the tilted mean and variance."""
    # The likelihood is log-concave: it never takes precision away.
    precision = max(1.0 / tilted_variance - 1.0 / variance, 0.0)
    return precision, tilted_mean * (precision + 1.0 / variance) - mean / variance
