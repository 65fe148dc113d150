"""Schedule-free gradient descent and AdamW.

Source: A. Defazio, X. Yang, H. Mehta, K. Mishchenko, A. Khaled, A. Cutkosky, "The Road Less Scheduled",
arXiv:2405.15682 (algorithm 1 is the AdamW form).

Three sequences start at θ_0: z is stepped, x is its running average, gradients are taken between the two.
With g the gradient at y, γ the rate, f the schedule's factor, λ the decay, p = ``weight_lr_power``
and t = 1, 2, ... the parameter's own steps:

    γ_t = γ f_t min(1, t / warmup_steps)                (γ f_t where warmup_steps is 0)
    u_t = g_t + λ y_{t-1}                                                           (gradient descent)
    u_t = g_t / (√v̂_t + ε) + λ y_{t-1},  v̂_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i² / (1-β₂^t)      (AdamW)
    z_t = θ_0 - Σ_{i=1..t} γ_i u_i
    w_t = t^r (max(γ_1, ..., γ_t))^p
    x_t = Σ_{i=1..t} w_i z_i / Σ_{i=1..t} w_i           (θ_0 while all weights are 0)
    y_t = (1-β) z_t + β x_t                             (β: ``momentum``, or β₁)

which is x_t = (1-c_t) x_{t-1} + c_t z_t with c_t = w_t / Σ w, written out. y is what is trained, x what is to
be evaluated.

Where the authors' package (``schedulefree`` 1.4) differs from the paper, this follows the package:
- w_t holds the largest rate so far and t^r; in the paper w_t = γ_t², which is the same for r = 0, p = 2 and
  rates that never fall;
- the decay is taken at y and enters γ_t u_t, so that z loses γ_t λ y (the paper says the same of AdamW; for
  gradient descent the package calls it an L2 penalty, which here is the same thing).

Where this differs from the package:
- t and the weights are the parameter's own: a step without gradient counts for nothing. The package counts
  the steps of the group, and a parameter without gradient misses the averages of those steps;
- β = 0 is possible (y = z); ``maximize`` turns the sign of g and leaves the decay alone.
"""

from collections.abc import Callable, Sequence

import numpy as np


def sgd(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return y, where the gradients are taken, after each gradient.

    The first average is z itself; from there z = 9, 7 has the average 8, and y lies half-way:

    >>> [float(y) for y in sgd(np.array(10.0), [np.array(1.0), np.array(2.0)], momentum=0.5)]
    [9.0, 7.5]
    """
    schedule = (factors, lr, warmup_steps, r, weight_lr_power)
    return _sequences(theta0, gradients, _gradient, momentum, weight_decay, maximize, *schedule)[0]


def sgd_evaluated(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return x, the average, after each gradient.

    >>> [float(x) for x in sgd_evaluated(np.array(10.0), [np.array(1.0), np.array(2.0)], momentum=0.5)]
    [9.0, 8.0]
    """
    schedule = (factors, lr, warmup_steps, r, weight_lr_power)
    return _sequences(theta0, gradients, _gradient, momentum, weight_decay, maximize, *schedule)[1]


def adamw(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 0.0025,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return y, where the gradients are taken, after each gradient.

    The first step has length γ whatever the gradient:

    >>> [float(y) for y in adamw(np.array(10.0), [np.array(7.0)], lr=0.5, betas=(0.5, 0.75), eps=0.0)]
    [9.5]
    """
    schedule = (factors, lr, warmup_steps, r, weight_lr_power)
    direction = _scaled_gradient(betas[1], eps)
    return _sequences(theta0, gradients, direction, betas[0], weight_decay, maximize, *schedule)[0]


def adamw_evaluated(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 0.0025,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return x, the average, after each gradient.

    z steps by ½ each time:

    >>> hyper = dict(lr=0.5, betas=(0.5, 0.75), eps=0.0)
    >>> [float(x) for x in adamw_evaluated(np.array(10.0), [np.array(7.0), np.array(7.0)], **hyper)]
    [9.5, 9.25]
    """
    schedule = (factors, lr, warmup_steps, r, weight_lr_power)
    direction = _scaled_gradient(betas[1], eps)
    return _sequences(theta0, gradients, direction, betas[0], weight_decay, maximize, *schedule)[1]


def _gradient(history: list[np.ndarray]) -> np.ndarray:
    return history[-1]


def _scaled_gradient(beta2: float, eps: float) -> Callable[[list[np.ndarray]], np.ndarray]:
    def direction(history: list[np.ndarray]) -> np.ndarray:
        t = len(history)
        second = sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1))
        return history[-1] / (np.sqrt(second / (1 - beta2**t)) + eps)

    return direction


def _sequences(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    direction: Callable[[list[np.ndarray]], np.ndarray],
    beta: float,
    weight_decay: float,
    maximize: bool,
    factors: Sequence[float] | None,
    lr: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the y and the x after each gradient."""
    start = np.array(theta0, dtype=np.float64)
    x = y = start
    history: list[np.ndarray] = []  # g_1 ... g_t
    rates: list[float] = []  # γ_1 ... γ_t
    moves: list[np.ndarray] = []  # γ_1 u_1 ... γ_t u_t
    points: list[np.ndarray] = []  # z_1 ... z_t
    weights: list[float] = []  # w_1 ... w_t
    trained, evaluated = [], []
    for gradient, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append(-raw if maximize else raw)
            t = len(history)
            rates.append(lr * factor * (min(1.0, t / warmup_steps) if warmup_steps else 1.0))
            moves.append(rates[-1] * (direction(history) + weight_decay * y))
            points.append(start - sum(moves))
            weights.append(t**r * max(rates) ** weight_lr_power)
            if sum(weights) > 0:
                x = sum(w * z for w, z in zip(weights, points, strict=True)) / sum(weights)
            y = (1 - beta) * points[-1] + beta * x
        trained.append(np.array(y))
        evaluated.append(np.array(x))
    return trained, evaluated
