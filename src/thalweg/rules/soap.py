"""SOAP: Adam in the eigenbases of Shampoo's preconditioners."""

from collections import namedtuple
from functools import cache
from typing import Any, NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, UNIT, Integer, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values
from thalweg.rules.ops import (
    Array,
    as_matrix,
    due,
    eigh,
    falling,
    lerp,
    maximum,
    orthonormal,
    sqrt,
    sum_over,
    take,
    where,
    zeros_like,
)
from thalweg.rules.products import product, symmetric_addmm


class SOAPClock(NamedTuple):
    """Whether this is the first step, or bases are taken anew; the rest are weights of Adam's averages."""

    first: Array
    due: Array
    moving: Array  # 0 at the first step, else 1
    new1: Array
    new2: Array
    memory: Array  # of the preconditioners
    new: Array
    shrunk: Array  # √(1 − β₂ᵗ⁻¹)/(1 − β₁ᵗ⁻¹)·(1 − γλ): decay acts after the step
    axes: tuple[int, ...]


@cache
def _kind(rows: bool, columns: bool) -> Any:
    """Return the state: m, v in the bases; L, R and their eigenvectors, for sides that are not too long."""
    fields = ["exp_avg", "exp_avg_sq", *["L", "Q_L"] * rows, *["R", "Q_R"] * columns]
    return namedtuple("SOAPState", fields)


def _state(h: Values, shape: tuple[int, ...]) -> type:
    size = 1
    for length in shape[1:]:
        size *= length
    return _kind(shape[0] <= h.max_dimension, size <= h.max_dimension)  # type: ignore[no-any-return]


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    kind, none = _state(h, p.shape[p.ndim - len(axes) :]), as_matrix(zeros_like(p), axes)
    start: dict[str, Array] = {"exp_avg": zeros_like(p), "exp_avg_sq": zeros_like(p)}
    if "L" in kind._fields:  # type: ignore[attr-defined]
        start |= {"L": none @ none.mT, "Q_L": none @ none.mT}
    if "R" in kind._fields:  # type: ignore[attr-defined]
        start |= {"R": none.mT @ none, "Q_R": none.mT @ none}
    return kind(**start)


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    beta1, beta2 = h.betas
    memory = beta2 if h.shampoo_beta is None else h.shampoo_beta
    steps = maximum(t - 1, 1)  # the first makes the bases only
    return SOAPClock(
        first=t == 1,
        due=(t > 1) * ((t - 1) % h.update_every == 0),
        moving=(t > 1) * 1.0,
        new1=1 - beta1,
        new2=1 - beta2,
        memory=memory,
        new=1 - memory,
        shrunk=(1 - beta2**steps) ** 0.5 / (1 - beta1**steps) * (1 - around.rate * h.weight_decay),
        axes=around.axes,
    )


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    shape = p.shape
    p, g, m, v, h, c = as_matrix((p, g, s.exp_avg, s.exp_avg_sq, h, c), c.axes)
    g_turned = _turned(g, s)
    m = lerp(m, g_turned, c.moving * c.new1)
    v = lerp(v, g_turned * g_turned, c.moving * c.new2)
    n = _turned_back(m / (sqrt(v) + h.eps), s)
    d = c.shrunk * n + c.moving * h.weight_decay * p
    new = {}
    if hasattr(s, "L"):
        new["L"] = symmetric_addmm(s.L, g, g.mT, c.memory, c.new)
        new["Q_L"], v = _basis(new["L"], s.Q_L, v, c)
    if hasattr(s, "R"):
        new["R"] = symmetric_addmm(s.R, g.mT, g, c.memory, c.new)
        new["Q_R"], v_mirrored = _basis(new["R"], s.Q_R, v.mT, c)
        v = v_mirrored.mT
    kept = type(s)(**new, exp_avg=m, exp_avg_sq=v)
    if due(c.due):
        m = where(c.due > 0, _turned(_turned_back(m, s), kept), m)
    return d.reshape(shape), kept._replace(exp_avg=m.reshape(shape), exp_avg_sq=v.reshape(shape))


def _turned(x: Array, s: State) -> Array:
    x = product(s.Q_L.mT, x) if hasattr(s, "Q_L") else x
    return product(x, s.Q_R) if hasattr(s, "Q_R") else x


def _turned_back(x: Array, s: State) -> Array:
    x = product(s.Q_L, x) if hasattr(s, "Q_L") else x
    return product(x, s.Q_R.mT) if hasattr(s, "Q_R") else x


def _basis(outer: Array, q: Array, v: Array, c: Clock) -> tuple[Array, Array]:
    """Return the eigenvectors of a preconditioner, and v with its rows in their order."""
    if due(c.first):
        q = where(c.first > 0, eigh(outer)[1], q)
    if due(c.due):
        power = product(outer, q)
        order = falling(sum_over(q * power, (-2,)))  # by the eigenvalues that these vectors give
        q = where(c.due > 0, orthonormal(take(power, order, -1)), q)
        v = where(c.due > 0, take(v, order.mT, -2), v)
    return q, v


SOAP = Rule(
    name="soap",
    title="SOAP",
    formula="""
a filter is a matrix (out, everything else); the first step makes L, R, Q_L, Q_R and does not move
G' = Q_Lᵀ G Q_R
M ← β₁M + (1 − β₁)G'
V ← β₂V + (1 − β₂)G'²
N = Q_L [M / (√V + ε)] Q_Rᵀ
θ ← θ − γ·√(1 − β₂ᵗ⁻¹)/(1 − β₁ᵗ⁻¹)·N
θ ← (1 − γλ)θ
L ← βL + (1 − β)GGᵀ,  R ← βR + (1 − β)GᵀG,  β = shampoo_beta, else β₂
Q_L: eigenvectors of L at the first step; then every update_every steps its columns, and the rows of V, in the
order of diag(Q_LᵀLQ_L), largest first, and Q_L ← Q of the QR of L·Q_L; Q_R alike, with the columns of V;
and M is turned from the old bases to the new""",
    source=(
        "Vyas et al. 2024 (arXiv 2409.11321), Algorithm 3; bias correction, the first step that does not "
        "move, and decay after the step are those of the authors' code (AdamW's decay comes before it). "
        "Departure: a filter has two bases, there one an axis."
    ),
    hyper={
        "lr": Real(3e-3, "rate γ", AT_LEAST_0),
        "betas": Reals((0.95, 0.95), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "shampoo_beta": Real(None, "memory β of the preconditioners; None: β₂", UNIT, optional=True),
        "eps": Real(1e-8, "ε, keeps the division finite", ABOVE_0),
        "weight_decay": Real(0.01, "decay λ, apart from the gradient", AT_LEAST_0),
        "update_every": Integer(10, "steps from one turning of the bases to the next", Interval(1)),
        "max_dimension": Integer(10_000, "the longest side that gets a basis", Interval(1)),
        "maximize": MAXIMIZE,
    },
    state=_state,
    start=_start,
    clock=_clock,
    direction=_direction,
    scope=Scope.TENSOR,
    decay=Decay.OWN,
    least_axes=2,
    about=About(
        family="matrix",
        year=2024,
        paper="Vyas et al.: SOAP: Improving and Stabilizing Shampoo using Adam, arXiv 2409.11321",
        cost="6 products of matrices a step; a QR of each side every update_every steps; two buffers and two "
        "square matrices a side",
        take="The matrices of language models, where fewer steps are worth dearer ones.",
        avoid="Where steps are cheap or matrices very long: Adam makes more of the time then.",
        differs=(
            "The authors' code has a basis for each axis of a filter, unless axes are merged.",
            "HeavyBall has β = (0.9, 0.95), turns the bases every 2 steps and leaves out sides above 2048.",
        ),
        wrong=(
            "When the bases turn, only M turns with them: V, whose entries are squares, is merely reordered.",
        ),
    ),
)
