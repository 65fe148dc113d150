"""Adam and AMSGrad.

Sources: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, algorithm 1;
S. J. Reddi, S. Kale, S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018, arXiv:1904.09237.

With g the gradient, γ the rate and t = 1, 2, ... the parameter's own steps:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    v_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i²,    v̂_t = v_t / (1-β₂^t)
    θ_t = θ_{t-1} - γ u_t,    u_t = m̂_t / (√v̂_t + ε)
    AMSGrad:  max(v_1, ..., v_t) in the place of v_t

``epsilon`` says where ε stands:

    "outside":      u_t = m̂_t / (√v̂_t + ε)
    "inside":       u_t = m̂_t / √(v̂_t + ε)
    "uncorrected":  u_t = √(1-β₂^t) / (1-β₁^t) · m_t / (√v_t + ε)      m_t, v_t without their corrections

"inside" is optax's ``eps_root`` with its outer ε at 0; "uncorrected" is the ε̂ of the paper's section 2, and
TensorFlow's.

Where PyTorch differs from the papers:
- AMSGrad takes the maximum of the raw averages v and then corrects the bias (the paper corrects nothing);
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}; under ``maximize`` only the raw gradient
  changes its sign.
"""

from collections.abc import Sequence

import numpy as np


def direction(
    first: np.ndarray, second: np.ndarray, t: int, betas: tuple[float, float], eps: float, epsilon: str
) -> np.ndarray:
    """Return u from the averages of step t, not yet corrected.

    With β₁ = ½, β₂ = ¾ and t = 1, m̂ = 6 and v̂ = 16 whereas √v = 2, so that u = 6/(4 + 9), 6/√(16 + 9) and
    ½/½ · 3/(2 + 9):

    >>> averages = np.array(3.0), np.array(4.0)
    >>> kinds = ["outside", "inside", "uncorrected"]
    >>> [round(float(direction(*averages, 1, (0.5, 0.75), 9.0, kind)), 4) for kind in kinds]
    [0.4615, 1.2, 0.2727]
    """
    beta1, beta2 = betas
    m_hat = first / (1 - beta1**t)
    v_hat = second / (1 - beta2**t)
    if epsilon == "outside":
        return m_hat / (np.sqrt(v_hat) + eps)
    if epsilon == "inside":
        return m_hat / np.sqrt(v_hat + eps)
    if epsilon == "uncorrected":
        return np.sqrt(1 - beta2**t) / (1 - beta1**t) * first / (np.sqrt(second) + eps)
    raise ValueError(f"no epsilon {epsilon!r}")


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    epsilon: str = "outside",
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    The first step has length γ whatever the gradient:

    >>> [float(theta) for theta in run(np.array(10.0), [np.array(7.0)], lr=0.5, betas=(0.5, 0.75), eps=0.0)]
    [9.5]
    """
    beta1, beta2 = betas
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_t
    seconds: list[np.ndarray] = []  # v_1 ... v_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append((-raw if maximize else raw) + weight_decay * theta)
            t = len(history)
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            seconds.append(sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1)))
            second = np.max(seconds, axis=0) if amsgrad else seconds[-1]
            theta = theta - lr * factor * direction(first, second, t, betas, eps, epsilon)
        path.append(np.array(theta))
    return path
