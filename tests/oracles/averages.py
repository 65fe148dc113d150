"""Averages of the parameters, around any method: Lookahead, exponential average, equal average (SWA).

Sources:
- M. R. Zhang, J. Lucas, G. Hinton, J. Ba, "Lookahead Optimizer: k steps forward, 1 step back",
  arXiv:1907.08610, algorithm 1;
- B. T. Polyak, A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, for averaging
  as such; the exponential form as in PyTorch's ``get_ema_avg_fn``;
- P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson, "Averaging Weights Leads to Wider Optima
  and Better Generalization", arXiv:1803.05407, algorithm 1.

With θ_1 ... θ_t the parameter after each of its own t steps (those for which it had a gradient), and θ_0 its
start:

    Lookahead   φ_0 = θ_0; where t is a multiple of k:  φ ← φ + α(θ - φ), and θ ← φ
    EMA         e_t = μ^t θ_0 + Σ_{i=1..t} (1-μ) μ^(t-i) θ_i       (e_0 = θ_0, e_t = μ e_{t-1} + (1-μ) θ_t)
    corrected   e_t = Σ_{i=1..t} (1-μ) μ^(t-i) θ_i / (1-μ^t);  θ_0 before the first step
    SWA         the plain mean of the θ_i with i > s and (i-s) divisible by c;  θ_t while there is none

Departures:
- steps are counted for each parameter: a step without gradient enters no average. PyTorch's AveragedModel
  averages at each call, so an unchanged θ counts again there. The papers know no missing gradients;
- Lookahead's algorithm returns φ, so φ is what one evaluates with; between two synchronisations θ is not;
- EMA starts at θ_0. An AveragedModel copies θ at its first call, whenever that is: it agrees when that call
  comes before the first step. ``corrected`` is Adam's correction of the bias; PyTorch's averages have none;
- SWA in the paper starts from pretrained weights, which enter the average with the weight of one model
  (w_SWA ← ŵ, then (n w_SWA + w)/(n+1) with n = 1 at the first one): here θ_s, the point where averaging
  starts, does not enter. PyTorch's AveragedModel does not count it either.
"""

from collections.abc import Sequence

import numpy as np


def slow_weights(
    slow: np.ndarray, fast: np.ndarray, steps: int, *, every: int = 5, alpha: float = 0.5
) -> np.ndarray:
    """Return Lookahead's φ after the parameter's step number ``steps``, given φ before it.

    >>> float(slow_weights(np.array(0.0), np.array(8.0), 4, every=2, alpha=0.25))
    2.0
    >>> float(slow_weights(np.array(0.0), np.array(8.0), 5, every=2, alpha=0.25))
    0.0
    """
    return slow + alpha * (fast - slow) if steps % every == 0 else slow


def exponential(
    theta0: np.ndarray, history: Sequence[np.ndarray], *, memory: float = 0.999, corrected: bool = False
) -> np.ndarray:
    """Return the exponential average of ``history`` = [θ_1, ..., θ_t], which begins at θ_0.

    >>> float(exponential(np.array(8.0), [np.array(4.0), np.array(2.0)], memory=0.5))
    4.0
    >>> float(exponential(np.array(8.0), [np.array(4.0), np.array(1.0)], memory=0.5, corrected=True))
    2.0
    """
    t = len(history)
    if t == 0:
        return theta0
    total = sum((1 - memory) * memory ** (t - i) * theta for i, theta in enumerate(history, start=1))
    return total / (1 - memory**t) if corrected else memory**t * theta0 + total


def equal(theta0: np.ndarray, history: Sequence[np.ndarray], *, start: int = 0, every: int = 1) -> np.ndarray:
    """Return the mean of each ``every``-th of ``history`` = [θ_1, ..., θ_t] after the first ``start``.

    >>> float(equal(np.array(9.0), [np.array(x) for x in (8.0, 7.0, 4.0, 3.0, 2.0)], start=1, every=2))
    3.0
    >>> float(equal(np.array(9.0), [np.array(8.0)], start=1))
    8.0
    """
    chosen = [theta for i, theta in enumerate(history, start=1) if i > start and (i - start) % every == 0]
    if chosen:
        return sum(chosen) / len(chosen)
    return history[-1] if history else theta0
