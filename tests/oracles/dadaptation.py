"""D-Adaptation: Adam and gradient descent that estimate their own rate.

Source: A. Defazio, K. Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", arXiv:2301.07733.

One lower bound d of the distance ‖θ_0 - θ*‖ for all parameters, d_1 = ``d0``. With g the gradient, γ the
rate times the schedule's factor, λ the decay, k = 1, 2, ... the optimizer's steps, β = √β₂, and
d_{k+1} = max(d_k, min(d̂_k, growth_rate · d_k)):

Adam:
    b_k = √(1-β₂^k) / (1-β₁^k) under ``use_bias_correction``, else 1
    r_k = γ_k b_k d_k                                                             (the rate of step k)
    v_k = Σ_{i=1..k} (1-β₂) β₂^(k-i) g_i²,    m_k = Σ_{i=1..k} (1-β₁) β₁^(k-i) r_i g_i
    s_k = Σ_{i=1..k} (1-β) β^(k-i) r_i g_i
    N_k = Σ_{i=1..k} (1-β) β^(k-i) r_i ⟨g_i, s_{i-1} / (√v_{i-1} + ε)⟩
    d̂_k = N_k / ((1-β) ‖s_k‖₁)
    θ_k = θ_{k-1} - m_k / (√v_k + ε)               (under ``decouple`` also - r_k λ θ_{k-1})

Gradient descent, with momentum μ and the first gradient's norm ‖g_1‖ over all parameters:
    r_k = γ_k d_k / ‖g_1‖,    s_k = Σ_{i=1..k} r_i g_i
    d̂_k = 2 Σ_{i=1..k} r_i ⟨g_i, s_{i-1}⟩ / ‖s_k‖₂
    θ_k = μ θ_{k-1} + (1-μ) (θ_0 - s_k)

⟨·,·⟩ and the norms run over all parameters that have a gradient in this step. s, m and v decay in their
parameter's own steps, N in those of the optimizer. Decay is L2 (g + λθ for g) unless ``decouple``.

Where the authors' package (``dadaptation`` 3.2) differs from the paper, this follows the package:
- Adam's N weighs g_i with the root *before* g_i entered it (v_{i-1}); the paper with the root after (v_i);
- ``growth_rate``, bias correction and decoupled decay are the package's own;
- ‖g_1‖ is that of the raw gradient, without L2 decay, although all later gradients contain it;
- Adam: a step of rate 0 changes nothing at all, not even m and v; nor does one with s = 0 change θ, N or k.

Where this differs from the package: gradient descent takes a step of rate 0, or one with s = 0, as Adam
does, where the package breaks off with an error; ``maximize`` turns the sign of the raw gradient.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def adam(
    theta0: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray | None]],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decouple: bool = False,
    use_bias_correction: bool = False,
    d0: float = 1e-6,
    growth_rate: float = math.inf,
    maximize: bool = False,
) -> list[dict[str, np.ndarray]]:
    """Return all parameters after each step.

    β₁ = β₂ = 0 and ε = 1: a gradient of 3 steps d0 · 3 / (3 + 1):

    >>> path = adam({"w": np.array(8.0)}, [{"w": np.array(3.0)}], betas=(0.0, 0.0), eps=1.0, d0=1.0)
    >>> float(path[0]["w"])
    7.25
    """
    beta1, beta2 = betas
    beta = math.sqrt(beta2)
    theta = {name: np.array(value, dtype=np.float64) for name, value in theta0.items()}
    d = d0
    products: list[float] = []  # the terms of N of the steps that counted
    # For each parameter and each of its own steps: g and r.
    history: dict[str, list[tuple[np.ndarray, float]]] = {name: [] for name in theta}

    def root(name: str) -> np.ndarray:
        own = history[name]
        v = sum((1 - beta2) * beta2 ** (len(own) - i) * g**2 for i, (g, _) in enumerate(own, start=1))
        return np.sqrt(v) + eps

    def average(name: str, decay: float) -> np.ndarray:
        own = history[name]
        return sum((1 - decay) * decay ** (len(own) - i) * r * g for i, (g, r) in enumerate(own, start=1))

    path = []
    for step, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        k = len(products) + 1
        rate = lr * factor * d
        if use_bias_correction:
            rate *= math.sqrt(1 - beta2**k) / (1 - beta1**k)
        if rate > 0:
            present = _with_l2(step, theta, 0.0 if decouple else weight_decay, maximize)
            product, length = 0.0, 0.0
            for name, g in present.items():
                if history[name]:
                    product += rate * float(np.sum(g * average(name, beta) / root(name)))
                history[name].append((g, rate))
                length += float(np.sum(np.abs(average(name, beta))))
            if length > 0:
                products.append(product)
                # Both sides of d̂ without (1-β), which cancels: β₂ = 1 has no d̂.
                numerator = sum(beta ** (k - i) * term for i, term in enumerate(products, start=1))
                d = max(d, min(numerator / length, growth_rate * d))
                for name in present:
                    shrunk = theta[name] * (1 - rate * weight_decay) if decouple else theta[name]
                    theta[name] = shrunk - average(name, beta1) / root(name)
        path.append({name: np.array(value) for name, value in theta.items()})
    return path


def sgd(
    theta0: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray | None]],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1.0,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    growth_rate: float = math.inf,
    maximize: bool = False,
) -> list[dict[str, np.ndarray]]:
    """Return all parameters after each step.

    Steps have length d. The second step finds d̂ = 2·1/2, the third 2·(1 + 2)/3, so that d is 1 until then
    and the fourth step has length 2:

    >>> path = sgd({"w": np.array(8.0)}, [{"w": np.array(2.0)}] * 4, d0=1.0)
    >>> [float(theta["w"]) for theta in path]
    [7.0, 6.0, 5.0, 3.0]
    """
    start = {name: np.array(value, dtype=np.float64) for name, value in theta0.items()}
    theta = dict(start)
    d = d0
    first_norm = 0.0
    products: list[float] = []  # r_i ⟨g_i, s_{i-1}⟩ of the steps that counted
    moved: dict[str, list[np.ndarray]] = {name: [] for name in start}  # r_i g_i of each parameter's own steps
    path = []
    for step, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        rate = lr * factor * d
        if not products:
            raw = [g for g in step.values() if g is not None]
            first_norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in raw))
        if rate > 0 and first_norm > 0:
            present = _with_l2(step, theta, weight_decay, maximize)
            product, square = 0.0, 0.0
            for name, g in present.items():
                product += rate / first_norm * float(np.sum(g * sum(moved[name])))
                moved[name].append(rate / first_norm * g)
                square += float(np.sum(np.square(sum(moved[name]))))
            if square > 0:
                products.append(product)
                d = max(d, min(2 * sum(products) / math.sqrt(square), growth_rate * d))
                for name in present:
                    theta[name] = momentum * theta[name] + (1 - momentum) * (start[name] - sum(moved[name]))
        path.append({name: np.array(value) for name, value in theta.items()})
    return path


def _with_l2(
    step: Mapping[str, np.ndarray | None], theta: dict[str, np.ndarray], weight_decay: float, maximize: bool
) -> dict[str, np.ndarray]:
    present = {name: np.asarray(g, dtype=np.float64) for name, g in step.items() if g is not None}
    return {name: (-g if maximize else g) + weight_decay * theta[name] for name, g in present.items()}
