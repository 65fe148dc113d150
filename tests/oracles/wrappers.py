"""What goes around any method: clipping, decay, masks, proximal steps, averages; and SAM's gradient.

With θ the parameters, γ the rate, f the schedule's factor and ‖·‖ the Euclidean norm, one step is, whatever
the order in which the wrappers are given:

 1. gradient wrappers, in the order given:
    clip_value       g ← min(max(g, -c), c)
    clip_norm        g ← g min(1, c/(‖g‖ + 1e-6)), ‖g‖ over all parameters together (PyTorch)
    clip_group_norm  the same for each group of names; names in no group are left alone
    agc              g_i ← g_i min(1, c max(‖θ_i‖, floor) / max(‖g_i‖, 1e-6)), i the units (2102.06171)
    centralise       g ← g - mean over all axes but the first, for two axes or more (2004.01461)
 2. l2               g ← g + λθ
 3. the method:      d from g
 4. cautious         d ← d M / max(mean M, floor), M = [d g > 0], g as in 3 (2411.16085)
 5. decoupled_decay  θ ← θ - hθ with h = γfλ ("rate"), fλ ("schedule", 1711.05101), λ(γf)²/γ ("corrected",
                     2506.02285), or γfλ where dθ ≥ 0 and else 0 ("cautious", 2510.12402)
 6. the step         θ ← θ - γf d, where 5 and 6 both start from the θ that 1-4 have seen
 7. proximal         θ ← prox of γfλ times the penalty
 8. averages         lookahead, then ema or swa: see ``averages``

Methods: SGD b ← μb + g (b = g first), d = b; Adam (1412.6980) d = m̂/(√v̂ + ε); Lion (2302.06675)
d = sign(β₁m + (1-β₁)g), then m ← β₂m + (1-β₂)g. A parameter without gradient skips
everything, and counts in no norm; means and masks are taken over one parameter at a time.

Conventions and departures:
- units (agc, group): the slices along the first axis of an array with two axes or more, else the whole array.
  The paper on agc speaks of the rows of weight matrices only. For vectors its authors' code, optax and timm
  all take the norm over the whole vector, which is followed here: a bias is one unit. An array of shape
  (n, 1) has n units, as in timm; the authors' code and optax drop axes of length 1 first, and see one;
- agc: timm leaves g alone whenever ‖g_i‖ is below the limit. The formula agrees as long as c·floor ≥ 1e-6;
- cautious: the paper divides by mean M + ε (elsewhere by (ΣM + 1)/n); the floor is its authors' code;
- cautious decay also acts where d = 0, as in the paper, whose condition is dθ ≥ 0.
  Summaries ask for equal signs; that differs at entries that a mask or Lion has set to 0;
- corrected decay: the paper applies it to layers that a normalisation follows, and rate decay to others; here
  it applies to every parameter. γ, the rate at factor 1, is taken as the peak;
- decay with the schedule leaves γ out, as the paper: λ_rate = λ_schedule/γ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from oracles import averages

Arrays = dict[str, np.ndarray]
Wrapper = tuple[str, dict[str, Any]]


class Sgd:
    def __init__(self, start: np.ndarray, *, momentum: float = 0.0):
        self.momentum = momentum
        self.b: np.ndarray | None = None

    def step(self, theta: np.ndarray, gradient: np.ndarray, factor: float) -> np.ndarray:
        self.b = gradient if self.b is None else self.momentum * self.b + gradient
        return self.b


class Adam:
    def __init__(self, start: np.ndarray, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        self.betas, self.eps, self.t = betas, eps, 0
        self.m = np.zeros_like(start)
        self.v = np.zeros_like(start)

    def step(self, theta: np.ndarray, gradient: np.ndarray, factor: float) -> np.ndarray:
        beta1, beta2 = self.betas
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * gradient
        self.v = beta2 * self.v + (1 - beta2) * gradient**2
        m_hat = self.m / (1 - beta1**self.t)
        v_hat = self.v / (1 - beta2**self.t)
        return m_hat / (np.sqrt(v_hat) + self.eps)


class Lion:
    def __init__(self, start: np.ndarray, *, betas: tuple[float, float] = (0.9, 0.99)):
        self.betas = betas
        self.m = np.zeros_like(start)

    def step(self, theta: np.ndarray, gradient: np.ndarray, factor: float) -> np.ndarray:
        beta1, beta2 = self.betas
        direction = np.sign(beta1 * self.m + (1 - beta1) * gradient)
        self.m = beta2 * self.m + (1 - beta2) * gradient
        return direction


# A method is made once for each parameter, from its start; its ``step`` returns the direction d.
METHODS: dict[str, Callable[..., Any]] = {"sgd": Sgd, "adam": Adam, "lion": Lion}


def _unit_norm(x: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, x.ndim)) if x.ndim >= 2 else None
    return np.sqrt(np.sum(x**2, axis=axes, keepdims=True))


def _joint_norm(arrays: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(x**2) for x in arrays.values())))


def _clip_value(gradients: Arrays, thetas: Arrays, *, limit: float) -> Arrays:
    return {name: np.minimum(np.maximum(g, -limit), limit) for name, g in gradients.items()}


def _clip_norm(gradients: Arrays, thetas: Arrays, *, limit: float) -> Arrays:
    scale = min(1.0, limit / (_joint_norm(gradients) + 1e-6))
    return {name: g * scale for name, g in gradients.items()}


def _clip_group_norm(
    gradients: Arrays, thetas: Arrays, *, limit: float, groups: Sequence[Sequence[str]]
) -> Arrays:
    clipped = dict(gradients)
    for group in groups:
        members = {name: gradients[name] for name in group if name in gradients}
        clipped.update(_clip_norm(members, thetas, limit=limit))
    return clipped


def _agc(gradients: Arrays, thetas: Arrays, *, clipping: float = 0.01, floor: float = 1e-3) -> Arrays:
    clipped = {}
    for name, g in gradients.items():
        allowed = clipping * np.maximum(_unit_norm(thetas[name]), floor)
        scale = np.minimum(1.0, allowed / np.maximum(_unit_norm(g), 1e-6))
        clipped[name] = (g * scale).reshape(g.shape)
    return clipped


def _centralise(gradients: Arrays, thetas: Arrays) -> Arrays:
    return {
        name: g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True) if g.ndim >= 2 else g
        for name, g in gradients.items()
    }


GRADIENT_WRAPPERS: dict[str, Callable[..., Arrays]] = {
    "clip_value": _clip_value,
    "clip_norm": _clip_norm,
    "clip_group_norm": _clip_group_norm,
    "agc": _agc,
    "centralise": _centralise,
}
# The order of the others is fixed, so each may stand in the list once.
LATER_WRAPPERS = ("l2", "cautious", "decoupled_decay", "proximal", "lookahead", "ema", "swa")


def _l2(g: np.ndarray, theta: np.ndarray, *, penalty: float) -> np.ndarray:
    return g + penalty * theta


def _cautious(d: np.ndarray, g: np.ndarray, *, floor: float = 1e-3) -> np.ndarray:
    mask = np.where(d * g > 0, 1.0, 0.0)
    return d * mask / max(float(mask.mean()), floor)


def _decay(
    theta: np.ndarray, d: np.ndarray, rate: float, factor: float, *, rate_of_decay: float, by: str = "rate"
) -> np.ndarray:
    """Return what the decay takes from θ."""
    if by == "rate":
        return rate * factor * rate_of_decay * theta
    if by == "schedule":
        return factor * rate_of_decay * theta
    if by == "corrected":
        return rate_of_decay * (rate * factor) ** 2 / rate * theta
    if by == "cautious":
        return np.where(np.sign(d) * np.sign(theta) >= 0, rate * factor * rate_of_decay * theta, 0.0)
    raise ValueError(f"no decay by {by!r}")


def proximal(
    theta: np.ndarray,
    rate: float,
    *,
    penalty: str,
    strength: float = 0.0,
    ratio: float = 1.0,
    low: float = -np.inf,
    high: float = np.inf,
) -> np.ndarray:
    """Return argmin over x of ½‖x - θ‖² + γλ·penalty(x), with γ = ``rate`` and λ = ``strength``.

    Penalties: l1 Σ|x|; elastic_net Σ(ρ|x| + ½(1-ρ)x²), ρ = ``ratio``; group Σ_i ‖x_i‖ over the units; box and
    nonnegative: 0 inside, infinite outside.

    >>> proximal(np.array([3.0, -1.0]), 0.5, penalty="l1", strength=4.0).tolist()
    [1.0, 0.0]
    >>> proximal(np.array([3.0, 4.0]), 0.5, penalty="group", strength=5.0).tolist()
    [1.5, 2.0]
    """
    amount = rate * strength
    if penalty == "l1":
        return np.sign(theta) * np.maximum(np.abs(theta) - amount, 0.0) + 0.0  # no negative zeros
    if penalty == "elastic_net":
        softened = proximal(theta, rate, penalty="l1", strength=strength * ratio)
        return softened / (1 + amount * (1 - ratio))
    if penalty == "group":
        norm = _unit_norm(theta)
        keep = np.maximum(0.0, 1 - amount / np.where(norm > 0, norm, 1.0))  # a zero unit stays zero
        return (theta * keep).reshape(theta.shape)
    if penalty == "box":
        return np.minimum(np.maximum(theta, low), high)
    if penalty == "nonnegative":
        return np.maximum(theta, 0.0)
    raise ValueError(f"no penalty {penalty!r}")


def _sorted(wrappers: Sequence[Wrapper]) -> tuple[list[Wrapper], dict[str, dict[str, Any]]]:
    early = [(name, values) for name, values in wrappers if name in GRADIENT_WRAPPERS]
    late = [(name, values) for name, values in wrappers if name not in GRADIENT_WRAPPERS]
    for name, _ in late:
        if name not in LATER_WRAPPERS:
            raise ValueError(f"no wrapper {name!r}")
    later = dict(late)
    if len(later) < len(late) or {"ema", "swa"} <= later.keys():
        raise ValueError("each wrapper once, and one of ema and swa")
    return early, later


def _walk(
    starts: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray | None]],
    *,
    method: str | Callable[..., Any],
    method_values: Mapping[str, Any],
    wrappers: Sequence[Wrapper] = (),
    factors: Sequence[float] | None = None,
    maximize: bool = False,
) -> Iterator[tuple[Arrays, Arrays]]:
    """Yield the parameters to train and those to evaluate with, after each step."""
    early, later = _sorted(wrappers)
    values = dict(method_values)
    rate = values.pop("lr")
    make_step = METHODS[method] if isinstance(method, str) else method

    first = {name: np.array(start, dtype=np.float64) for name, start in starts.items()}
    thetas, slow = dict(first), dict(first)
    steps = {name: make_step(theta, **values) for name, theta in first.items()}
    history: dict[str, list[np.ndarray]] = {name: [] for name in first}  # θ_1 ... θ_t

    factors = [1.0] * len(gradients) if factors is None else factors
    for raw, factor in zip(gradients, factors, strict=True):
        present = {name: np.asarray(raw[name], dtype=np.float64) for name in first if raw[name] is not None}
        if maximize:
            present = {name: -g for name, g in present.items()}
        for wrapper, its_values in early:
            present = GRADIENT_WRAPPERS[wrapper](present, thetas, **its_values)

        after = dict(thetas)
        for name, g in present.items():
            theta = thetas[name]
            if "l2" in later:
                g = _l2(g, theta, **later["l2"])
            d = steps[name].step(theta, g, factor)
            if "cautious" in later:
                d = _cautious(d, g, **later["cautious"])
            moved = theta - rate * factor * d
            if "decoupled_decay" in later:
                moved = moved - _decay(theta, d, rate, factor, **later["decoupled_decay"])
            if "proximal" in later:
                moved = proximal(moved, rate * factor, **later["proximal"])
            if "lookahead" in later:
                count = len(history[name]) + 1
                every = later["lookahead"].get("every", 5)
                slow[name] = averages.slow_weights(slow[name], moved, count, **later["lookahead"])
                moved = slow[name] if count % every == 0 else moved
            history[name].append(moved)
            after[name] = moved
        thetas = after

        shown = dict(slow if "lookahead" in later else thetas)
        if "ema" in later:
            shown = {name: averages.exponential(first[name], history[name], **later["ema"]) for name in first}
        if "swa" in later:
            shown = {name: averages.equal(first[name], history[name], **later["swa"]) for name in first}
        yield (
            {name: np.array(theta) for name, theta in thetas.items()},
            {name: np.array(theta) for name, theta in shown.items()},
        )


def run(
    starts: Mapping[str, np.ndarray], gradients: Sequence[Mapping[str, np.ndarray | None]], **settings: Any
) -> list[Arrays]:
    """Return the trained parameters after each step. Settings: those of ``_walk``; γ is method_values["lr"].

    The joint norm 5 is clipped to 2.5; then the momentum 1/2 enters:

    >>> gradients = [{"w": np.array(3.0), "b": np.array(4.0)}, {"w": np.array(0.0), "b": None}]
    >>> settings = dict(method="sgd", method_values={"lr": 1.0, "momentum": 0.5})
    >>> path = run({"w": 10.0, "b": 10.0}, gradients, wrappers=[("clip_norm", {"limit": 2.5})], **settings)
    >>> [{name: round(float(theta), 5) for name, theta in thetas.items()} for thetas in path]
    [{'w': 8.5, 'b': 8.0}, {'w': 7.75, 'b': 8.0}]
    """
    return [trained for trained, _ in _walk(starts, gradients, **settings)]


def evaluated(
    starts: Mapping[str, np.ndarray], gradients: Sequence[Mapping[str, np.ndarray | None]], **settings: Any
) -> list[Arrays]:
    """Return the parameters to evaluate with after each step: the average, else φ, else the trained ones.

    >>> settings = dict(method="sgd", method_values={"lr": 1.0}, wrappers=[("ema", {"memory": 0.5})])
    >>> path = evaluated({"w": 8.0}, [{"w": np.array(4.0)}, {"w": np.array(2.0)}], **settings)
    >>> [float(thetas["w"]) for thetas in path]
    [6.0, 4.0]
    """
    return [shown for _, shown in _walk(starts, gradients, **settings)]


def sam_gradient(
    gradient: Callable[[Arrays], Mapping[str, np.ndarray | None]],
    starts: Mapping[str, np.ndarray],
    rho: float,
    adaptive: bool = False,
    *,
    eta: float = 0.01,
) -> dict[str, np.ndarray | None]:
    """Return the gradient at θ + e with e = ρT²g/‖Tg‖, g the gradient at θ, ‖·‖ over all parameters together.

    SAM (P. Foret et al., arXiv:2010.01412): T = 1. ASAM (J. Kwon et al., arXiv:2102.11600, elementwise form):
    T = |θ| + η for every parameter; the paper defines T = |θ|, and adds η, 0.01, for stability. Its authors'
    code does so for parameters called "weight" only, and leaves biases at T = 1. Where ‖Tg‖ = 0, e = 0: the
    papers leave that open, and their code adds a tiny number to the norm. A parameter without gradient stays.

    For ½θ² at 3 the gradient is θ itself:

    >>> float(sam_gradient(lambda at: {"w": at["w"]}, {"w": np.array(3.0)}, 0.5)["w"])
    3.5
    """
    at = {name: np.array(theta, dtype=np.float64) for name, theta in starts.items()}
    g = {name: np.asarray(x, dtype=np.float64) for name, x in gradient(dict(at)).items() if x is not None}
    scale = {name: np.abs(at[name]) + eta if adaptive else np.ones_like(at[name]) for name in g}
    norm = _joint_norm({name: scale[name] * x for name, x in g.items()})
    for name, x in g.items():
        at[name] = at[name] + (rho * scale[name] ** 2 * x / norm if norm > 0 else 0.0)
    return dict(gradient(at))
