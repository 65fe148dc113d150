"""Adam and AMSGrad.

Sources: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, algorithm 1;
S. J. Reddi, S. Kale, S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018, arXiv:1904.09237.

With g the gradient, γ the rate and t = 1, 2, ... the parameter's own steps:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    v_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i²,    v̂_t = v_t / (1-β₂^t)
    θ_t = θ_{t-1} - γ m̂_t / (√v̂_t + ε)
    AMSGrad:  v̂_t = max(v_1, ..., v_t) / (1-β₂^t)

Where PyTorch differs from the papers:
- AMSGrad takes the maximum of the raw averages v and then corrects the bias (the paper corrects nothing);
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}; under ``maximize`` only the raw gradient
  changes its sign.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
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
    for gradient in gradients:
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append((-raw if maximize else raw) + weight_decay * theta)
            t = len(history)
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            seconds.append(sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1)))
            second = np.max(seconds, axis=0) if amsgrad else seconds[-1]
            m_hat = first / (1 - beta1**t)
            v_hat = second / (1 - beta2**t)
            theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
        path.append(np.array(theta))
    return path
