"""Prodigy: Adam that estimates its own rate.

Source: K. Mishchenko, A. Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
arXiv:2306.06101, the Adam form.

One estimate d of the distance ‖θ_0 - θ*‖ for all parameters, d_1 = d_0 = ``d0``. With g the gradient, γ the
rate times the schedule's factor, λ the decay, k = 1, 2, ... the optimizer's steps and β₃ = √β₂ unless given:

    b_k = √(1-β₂^k) / (1-β₁^k) under ``use_bias_correction``, else 1
    r_k = γ_k b_k d_k                                                             (the rate of step k)
    a_k = d_k under ``safeguard_warmup``, else r_k
    N_k = Σ_{i=1..k} β₃^(k-i) (d_i / d_0) r_i ⟨g_i, θ_0 - θ_{i-1}⟩
    s_k = Σ_{i=1..k} β₃^(k-i) (d_i / d_0) a_i g_i
    d̂_k = d_coef N_k / ‖s_k‖₁
    D_k = max(d_0, d̂_1, ..., d̂_k)
    d_{k+1} = min(D_k, growth_rate · d_k), where d_k is first raised to d̂_k as long as it is still d_0
    m_k = Σ_{i=1..k} (1-β₁) β₁^(k-i) d_i g_i,    v_k = Σ_{i=1..k} (1-β₂) β₂^(k-i) d_i² g_i²
    θ_k = θ_{k-1} - r_k (m_k / (√v_k + d_{k+1} ε) + λ θ_{k-1})

⟨·,·⟩ and ‖·‖₁ run over all parameters that have a gradient in this step. s, m and v decay in their
parameter's own steps, N in those of the optimizer.

Where the authors' package (``prodigyopt`` 1.1) differs from the paper, this follows the package:
- ε is multiplied by the new d_{k+1} (the paper: d_k);
- N and s lack the paper's factor (1-β₃), and are divided by d_0: both cancel in d̂;
- ``d_coef`` (paper: 1), another β₃, ``safeguard_warmup``, ``growth_rate`` and bias correction are the
  package's own. growth_rate leaves the first rise free, and D remembers what it held back;
- a step of rate 0 changes nothing at all, not even m and v; nor does one with s = 0 change θ, N or k.

Where this differs from the package: decay is decoupled only; ``maximize`` turns the sign of g.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def run(
    theta0: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray | None]],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float = math.inf,
    maximize: bool = False,
) -> list[dict[str, np.ndarray]]:
    """Return all parameters after each step.

    With β = (0, 0) and ε = 0 every step has length d: first ½, and ½ again, as the second
    d̂ = ½·3·½ / (½·(3 + 3)) is too small to count:

    >>> steps = [{"w": np.array(3.0)}, {"w": np.array(3.0)}]
    >>> path = run({"w": np.array(8.0)}, steps, betas=(0.0, 0.0), beta3=1.0, eps=0.0, d0=0.5)
    >>> [float(theta["w"]) for theta in path]
    [7.5, 7.0]
    """
    beta1, beta2 = betas
    if beta3 is None:
        beta3 = math.sqrt(beta2)
    start = {name: np.array(value, dtype=np.float64) for name, value in theta0.items()}
    theta = dict(start)
    d = largest = d0
    products: list[float] = []  # the terms of N of the steps that counted
    # For each parameter and each of its own steps: g, d and a.
    history: dict[str, list[tuple[np.ndarray, float, float]]] = {name: [] for name in start}
    path = []
    for step, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        present = {name: np.asarray(g, dtype=np.float64) for name, g in step.items() if g is not None}
        k = len(products) + 1
        rate = lr * factor * d
        if use_bias_correction:
            rate *= math.sqrt(1 - beta2**k) / (1 - beta1**k)
        if rate > 0:
            product, length = 0.0, 0.0
            for name, raw in present.items():
                g = -raw if maximize else raw
                product += d / d0 * rate * float(np.sum(g * (start[name] - theta[name])))
                history[name].append((g, d, d if safeguard_warmup else rate))
                n = len(history[name])
                s = sum(
                    beta3 ** (n - i) * (d_i / d0) * a_i * g_i
                    for i, (g_i, d_i, a_i) in enumerate(history[name], start=1)
                )
                length += float(np.sum(np.abs(s)))
            if length > 0:
                products.append(product)
                numerator = sum(beta3 ** (k - i) * term for i, term in enumerate(products, start=1))
                estimate = d_coef * numerator / length
                largest = max(largest, estimate)
                d = min(largest, growth_rate * (max(d, estimate) if d == d0 else d))
                for name in present:
                    n = len(history[name])
                    m = sum(
                        (1 - beta1) * beta1 ** (n - i) * d_i * g_i
                        for i, (g_i, d_i, _) in enumerate(history[name], start=1)
                    )
                    v = sum(
                        (1 - beta2) * beta2 ** (n - i) * d_i**2 * g_i**2
                        for i, (g_i, d_i, _) in enumerate(history[name], start=1)
                    )
                    step_of_one = m / (np.sqrt(v) + d * eps)
                    theta[name] = theta[name] - rate * (step_of_one + weight_decay * theta[name])
        path.append({name: np.array(value) for name, value in theta.items()})
    return path
