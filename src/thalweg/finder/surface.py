"""The loss over rates and time, fitted to short trainings: what each rate would reach in a long one.

The rate that is best after few updates is not the one that is best after many. Three things are seen in
trainings at a fixed rate: the loss falls as a function of the distance travelled, about η·t; it does not fall
below a floor that grows with η, the noise of the steps; and from some rate on nothing is learnt, as at a
wall. In units of the gain (0 the best that was seen, 1 the start), with τ = t/T and T the longest time
observed:

    L(η, τ) = c + A·(1 + η·τʳ/u)⁻ᵖ + F·η^q·τˢ + (η/w)⁴

A floor alone would make the best rate fall with time, a long descent makes it stay: the data decide, by
evaluations along every short training. Nine numbers are fitted to about thirty; each has a weak prior, which
matters only where the data say little. The form is our own.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PRIOR: Final = 0.5  # how much the priors count
NEAR: Final = 0.03  # of the gain: errors are measured relative to the distance from the best, and this
WORST: Final = 1.5  # of the gain: what is higher counts as this
BAD: Final = 0.5  # of the gain: a higher rate that ends above this bounds the search
MANY: Final = 0.75  # of the rates
WALL: Final = 4.0  # power of the wall: steep, where a floor is about linear
EQUAL: Final = 0.01  # of the gain: rates that lose less weigh about alike when the best is placed among them
LOWER: Final = 1.0  # decades below the lowest rate tried, which may still be suggested
HIGHER: Final = 0.15  # and above the highest


class Surface(NamedTuple):
    """A fitted surface."""

    parameters: Array
    horizon: float  # T, the longest time observed
    best: float  # the lowest loss that was seen
    gain: float  # from the start to there
    low: float  # rates, log₁₀, between which it may be asked
    high: float
    error: float  # of the fit near the best, in units of the gain: root mean square

    def losses(self, rates: Array, steps: float) -> Array:
        """Return the predicted losses of rates after so many updates."""
        tau = np.full(len(rates), math.log10(steps / self.horizon))
        return self.best + self.gain * _model(self.parameters, np.log10(rates), tau)

    def grid(self) -> Array:
        """Return rates, a hundred to the decade, between which a best one is looked for."""
        return np.logspace(self.low, self.high, max(2, round(100 * (self.high - self.low))))

    def best_rate(self, steps: float) -> float:
        """Return the rate that is best after so many updates: the middle of those that are nearly so.

        Mean of log η with weights e^(−(L − min L)/(0.01 gain)): a flat minimum has no sharp place, and its
        lowest point moves with every grain of noise.
        """
        rates = self.grid()
        losses = self.losses(rates, steps)
        weights = np.exp(-(losses - losses.min()) / (EQUAL * self.gain))
        return float(10 ** np.average(np.log10(rates), weights=weights))

    def equal(self, steps: float, share: float) -> tuple[float, float]:
        """Return from where to where rates lose at most this share of the gain, or the error of the fit."""
        rates = self.grid()
        losses = self.losses(rates, steps)
        good = np.flatnonzero(losses <= losses.min() + max(share, self.error) * self.gain)
        return float(rates[good[0]]), float(rates[good[-1]])


def _model(p: Array, x: Array, tau: Array) -> Array:
    """The surface at x = log₁₀ η and tau = log₁₀ τ. p: c, ln A, log₁₀ u, ln p, log₁₀ F, q, s, r, log₁₀ w."""
    c, amount, unit, power, floor, q, s, r, wall = p
    falling = np.exp(amount - np.exp(power) * np.log1p(10 ** np.clip(x + r * tau - unit, -30, 30)))
    noise = 10 ** np.clip(floor + q * x + s * tau, -30, 3)
    return np.asarray(c + falling + noise + np.minimum(10 ** np.clip(WALL * (x - wall), -30, 3), WORST))


def fit(rates: Array, steps: Array, losses: Array, start: float) -> Surface | None:
    """Fit the surface to losses of trainings.

    Args:
        rates: of the points.
        steps: updates after which each was measured.
        losses: measured; NaN where the training diverged.
        start: the loss before training.

    Returns:
        The surface; None where no point is below the start.

    >>> rates = np.repeat([0.01, 0.03, 0.1, 0.3, 1.0], 4)
    >>> steps = np.tile([25.0, 50.0, 75.0, 100.0], 5)
    >>> losses = 1 / (1 + rates * steps / 2) + 0.5 * rates  # the noise of a step: 0.5 η
    >>> surface = fit(rates, steps, losses, start=1.0)
    >>> [round(surface.best_rate(t), 1) for t in (100, 1000)]  # truly 2(√t − 1)/t: 0.18 and 0.06
    [0.2, 0.1]
    """
    from scipy.optimize import least_squares  # takes longer to import than most races of digits to run

    known = np.isfinite(losses)
    if not known.any() or not start > losses[known].min():
        return None
    horizon, best = float(steps.max()), float(losses[known].min())
    # Where nearly every training gets far below the start, as with inputs of large numbers, what there is to
    # gain is what they differ in.
    ends = [losses[rates == rate][np.argmax(steps[rates == rate])] for rate in np.unique(rates)]
    gain = min(start, float(np.nanquantile(ends, MANY))) - best if np.isfinite(ends).any() else 0.0
    if not gain > 0:
        gain = start - best
    units = np.where(known, np.minimum((np.where(known, losses, 0.0) - best) / gain, WORST), math.inf)
    x, tau = np.log10(rates), np.log10(steps / horizon)
    low, high, wall = _range(x, tau, units)
    place = int(np.argmin(units))
    distance = x[place] + tau[place]  # of the best point, log₁₀
    weight = 1 / (NEAR + np.maximum(units[known], 0.0))

    def residuals(p: Array) -> Array:
        wrong = (_model(p, x[known], tau[known]) - units[known]) * weight
        c, amount, unit, power, _, q, s, r, stop = p
        beliefs = (
            (c + 0.05) / 0.1,
            (math.exp(min(amount, 50.0)) + c - 1.0) / 0.1,
            (unit - (distance - 0.7)) / 1.0,
            power / 0.7,
            (q - 1.0) / 0.3,
            (s + 0.2) / 0.8,
            (r - 1.0) / 0.15,
            (stop - wall) / 0.5,
        )
        return np.concatenate([wrong, PRIOR * np.array(beliefs)])

    fits: list[Any] = []
    for unit in (distance - 1.2, distance - 0.4):
        for floor in (-2.0, -4.0):
            for s in (-0.2, 1.0):
                guess = np.array([-0.02, 0.0, unit, 0.0, floor - x[place], 1.0, s, 1.0, wall])
                fits.append(least_squares(residuals, guess, loss="soft_l1", max_nfev=60))
    found = min(fits, key=lambda f: float(f.cost))
    near = units[known] < BAD
    wrong = (_model(found.x, x[known], tau[known]) - units[known])[near]
    return Surface(found.x, horizon, best, gain, low, high, float(np.sqrt(np.mean(wrong**2))))


def _range(x: Array, tau: Array, units: Array) -> tuple[float, float, float]:
    """Return between which rates a suggestion may lie, and where a wall is expected; all log₁₀."""
    place = int(np.argmin(units))
    last = np.array([tau[i] >= tau[x == x[i]].max() - 1e-9 for i in range(len(x))])
    bad = last & (x > x[place]) & (units > BAD)
    # A rate that diverged bounds the search too, even below the best, unless a higher one went on as long.
    alive = np.isfinite(units)
    for i in np.flatnonzero(~alive):
        bad[i] |= not (alive & (x > x[i]) & (tau >= tau[i] - 1e-9)).any()
    low, highest = float(x.min()) - LOWER, float(x.max())
    if not bad.any():
        return low, highest + HIGHER, highest + 0.5
    return low, float(x[bad].min()), float(x[bad].min())
