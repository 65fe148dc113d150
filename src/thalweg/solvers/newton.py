"""Newton's method, by a line search or in a trust region, and Newton-CG, which needs products only."""

from collections.abc import Iterator

import numpy as np

from thalweg.hyper import ABOVE_0, Real
from thalweg.solvers.base import Iterate, Matrix, Objective, Solver, Vector
from thalweg.solvers.descent import STUCK, WOLFE, landed, until_rounding
from thalweg.solvers.line_search import Landing, strong_wolfe

ROUNDING = float(np.finfo(np.float64).eps)
SINGULAR = 1e-10  # no eigenvalue is taken for less than this share of the largest
NOTHING = 1e-10  # a decrease of less than this share of the value, or of 1, is none
ACCEPTED = 0.1  # the share of the promised decrease that a step has to bring
NOT_FINITE = "the Hessian is not finite"


@until_rounding
def newton(objective: Objective, x: Vector, *, decrease: float, curvature: float) -> Iterator[Iterate]:
    """Yield the iterates of Newton's method under the strong Wolfe conditions, from α = 1.

    The eigenvalues λ of the Hessian are taken as |λ|, which makes the step one of descent, and away from
    saddles. Where the gradient is all but zero and there is negative curvature, the step follows that. Where
    rounding stops the search, the plain gradient gets a try.
    """
    here = Iterate(x, objective.value(x), objective.gradient(x))
    while True:
        yield here
        hessian = objective.hessian(here.x)
        if not np.isfinite(hessian).all():
            yield here._replace(note=NOT_FINITE)
            return
        direction, lowest = downhill(hessian, here.slope)
        landing = None
        if -float(here.slope @ direction) <= NOTHING * max(1.0, abs(here.value)):
            landing = _along_curvature(objective, here, lowest, float(lowest @ hessian @ lowest))
        landing = landing or _searched(objective, here, direction, decrease, curvature)
        if landing is None:
            yield here._replace(note=STUCK)
            return
        here = landed(objective, landing)


def _searched(
    objective: Objective, here: Iterate, direction: Vector, decrease: float, curvature: float
) -> Landing | None:
    """Return where a search along the direction ends, or one along the gradient where rounding stops it."""
    for d in (direction, -here.slope):
        landing = strong_wolfe(
            objective, here.x, d, here.value, float(here.slope @ d), decrease=decrease, curvature=curvature
        )
        if landing is not None:
            return landing
    return None


def downhill(hessian: Matrix, gradient: Vector) -> tuple[Vector, Vector]:
    """Return Newton's direction with every eigenvalue |λ|, and the direction of the smallest λ.

    The Hessian is first scaled to a diagonal of ±1, so that the units of the coordinates do not matter.

    >>> direction, lowest = downhill(np.array([[2.0, 0.0], [0.0, -4.0]]), np.array([2.0, 4.0]))
    >>> direction.round(9).tolist(), np.abs(lowest).round(9).tolist()
    ([-1.0, -1.0], [0.0, 1.0])
    """
    scale = np.sqrt(np.abs(np.diag(hessian)))
    scale[scale <= ROUNDING * scale.max()] = scale.max() or 1.0
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    sizes = np.abs(values)
    sizes = np.maximum(sizes, SINGULAR * sizes.max()) if sizes.any() else np.ones_like(sizes)
    lowest = vectors[:, 0] / scale
    return -(vectors @ ((vectors.T @ (gradient / scale)) / sizes)) / scale, lowest / np.linalg.norm(lowest)


def _along_curvature(objective: Objective, here: Iterate, d: Vector, bend: float) -> Landing | None:
    """Return a point where f has fallen by a tenth of ½α²dᵀ∇²f d < 0; None without such curvature."""
    if not bend < 0:
        return None
    length = max(1.0, float(np.linalg.norm(here.x))) * (-1.0 if here.slope @ d > 0 else 1.0)
    for _ in range(40):
        point = here.x + length * d
        value = objective.value(point)
        if value <= here.value + 0.05 * bend * length**2:
            return Landing(abs(length), point, value, None)
        length /= 2
    return None


@until_rounding
def trust_region(
    objective: Objective, x: Vector, *, radius: float, largest_radius: float
) -> Iterator[Iterate]:
    """Yield the iterates of Newton's method in a trust region; only steps that lower the value count."""
    here = Iterate(x, objective.value(x), objective.gradient(x))
    while True:
        yield here
        hessian = objective.hessian(here.x)
        if not np.isfinite(hessian).all():
            yield here._replace(note=NOT_FINITE)
            return
        values, vectors = np.linalg.eigh(hessian)
        slope = vectors.T @ here.slope
        while True:
            step = within(values, slope, radius)
            promised = -float(slope @ step + 0.5 * step @ (values * step))
            point = here.x + vectors @ step
            if np.array_equal(point, here.x) or not np.isfinite(point).all():
                yield here._replace(note=STUCK)
                return
            value, length = objective.value(point), float(np.linalg.norm(step))
            gain = here.value - value
            # Rounding alone may make a good step look bad: Conn, Gould and Toint, section 17.4.2.
            noise = 10 * ROUNDING * abs(here.value)
            share = (gain + noise) / (promised + noise) if np.isfinite(value) and promised > 0 else -1.0
            if share < 0.25:
                radius = 0.25 * length
            elif share > 0.75 and length > 0.99 * radius:
                radius = min(2 * radius, largest_radius)
            if share > ACCEPTED:
                gradient = objective.gradient(point)
                if np.isfinite(gradient).all():
                    break
                radius = 0.25 * length
        here = Iterate(point, value, gradient)


def within(values: Vector, slope: Vector, radius: float) -> Vector:
    """Return the step p with ‖p‖ ≤ Δ that minimises gᵀp + ½pᵀΛp, for a diagonal Λ.

    p = −g/(λ + σ), with the least σ ≥ 0 that makes λ + σ ≥ 0 and ‖p‖ ≤ Δ, found by Newton's method on
    1/‖p‖ − 1/Δ. In the hard case, where no such p is as long as Δ, the direction of the smallest λ is added.

    Args:
        values: λ, the eigenvalues, in ascending order, (n,).
        slope: g in the basis of the eigenvectors, (n,).
        radius: Δ > 0.

    Source: Moré and Sorensen 1983, SIAM J. Sci. Stat. Comput. 4(3); Nocedal and Wright, section 4.3.

    >>> within(np.array([1.0, 2.0]), np.array([1.0, 2.0]), 10.0).tolist()
    [-1.0, -1.0]
    >>> np.abs(within(np.array([-1.0, 1.0]), np.array([0.0, 0.0]), 2.0)).tolist()
    [2.0, 0.0]
    """
    scale = float(np.abs(values).max())
    least = max(0.0, -float(values[0]))
    tiny = 10 * ROUNDING * max(scale, float(np.linalg.norm(slope)) / radius)
    shift = least + (tiny if values[0] <= 0 else 0.0)
    step = -slope / (values + shift) if shift or scale else np.zeros_like(slope)
    length = float(np.linalg.norm(step))
    if length <= radius:
        if values[0] < -tiny:
            step[0] += np.copysign(np.sqrt(radius**2 - length**2 + step[0] ** 2), step[0]) - step[0]
        return step
    for _ in range(100):
        bend = float(step @ (step / (values + shift)))
        shift += length**2 / bend * (length - radius) / radius
        step = -slope / (values + shift)
        length = float(np.linalg.norm(step))
        if abs(length - radius) <= 1e-10 * radius:
            break
    return step


@until_rounding
def newton_cg(objective: Objective, x: Vector, *, decrease: float, curvature: float) -> Iterator[Iterate]:
    """Yield the iterates of Newton-CG: the step is solved for as exactly as the gradient is small."""
    here = Iterate(x, objective.value(x), objective.gradient(x))
    while True:
        yield here
        direction = conjugate(objective, here.x, here.slope)
        landing = _searched(objective, here, direction, decrease, curvature)
        if landing is None:
            yield here._replace(note=STUCK)
            return
        here = landed(objective, landing)


def conjugate(objective: Objective, x: Vector, gradient: Vector) -> Vector:
    """Return a direction of descent by conjugate gradients on ∇²f d = −∇f.

    They end where the remainder is below min(½, √‖g‖)‖g‖, or at the first direction whose curvature is not
    positive: then the sum so far is returned, and if there is none, the steepest descent, as long as that
    curvature's size says.

    Source: Dembo and Steihaug 1983; Nocedal and Wright, algorithm 7.1.
    """
    d = np.zeros_like(gradient)
    r = gradient.copy()
    p = -r
    rr = float(r @ r)
    enough = min(0.5, rr**0.25) * rr**0.5
    for step in range(20 * len(x)):
        product = objective.hessian_product(x, p)
        bend = float(p @ product)
        if not bend > 3 * ROUNDING * float(p @ p):
            if step:
                return d
            return p * (rr / -bend) if bend < 0 and np.isfinite(bend) else p
        length = rr / bend
        d = d + length * p
        r = r + length * product
        before, rr = rr, float(r @ r)
        if rr**0.5 <= enough:
            break
        p = -r + rr / before * p
    return d


NEWTON: tuple[Solver, ...] = (
    Solver(
        "newton",
        "Newton",
        newton,
        "x ← x − αD⁻¹V|Λ|⁻¹VᵀD⁻¹∇f(x), ∇²f(x) = DVΛVᵀD, D² = |diag ∇²f(x)|; α strong Wolfe",
        "Nocedal and Wright, section 3.4; |Λ| as in Dauphin et al. 2014, arXiv:1406.2572",
        "Up to some hundred coordinates; leaves saddles.",
        WOLFE,
        leaves_saddles=True,
    ),
    Solver(
        "trust-region",
        "Newton in a trust region",
        trust_region,
        "x ← x + p, p the minimum of ∇fᵀp + ½pᵀ∇²f p under ‖p‖ ≤ Δ; Δ follows the share of the promised "
        "decrease that came",
        "Moré and Sorensen 1983; Nocedal and Wright, algorithms 4.1 and 4.3",
        "As newton; no step leaves the region where the quadratic model was good.",
        {
            "radius": Real(1.0, "the first Δ", ABOVE_0),
            "largest_radius": Real(1000.0, "the largest Δ", ABOVE_0),
        },
        leaves_saddles=True,
    ),
    Solver(
        "newton-cg",
        "Newton-CG",
        newton_cg,
        "x ← x + αd, ∇²f(x) d ≈ −∇f(x) by conjugate gradients, cut off at negative curvature; α strong Wolfe",
        "Dembo and Steihaug 1983; Nocedal and Wright, algorithm 7.1",
        "Many coordinates, where products with the Hessian are cheap.",
        WOLFE,
    ),
)
