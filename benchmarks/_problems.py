"""Forty standard problems of unconstrained minimisation, with their starts and the values of their minima.

Numbers 1 to 35 are those of Moré, Garbow and Hillstrom, "Testing unconstrained optimization software", ACM
TOMS 7(1), 1981: f is the sum of the squares of residuals, written here from their formulas, with their
starts. The other five are test functions that books draw. Derivatives are PyTorch's, to rounding.

A minimum is a value that the paper lists, or that follows from the formula; some problems have several. One
that the paper lists is left out: 5.65565e-3 of Biggs EXP6 is the value at a saddle (the Hessian there has an
eigenvalue of -0.0098, and along it the function falls to its minimum, zero).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Residuals = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """A function to minimise from a standard start."""

    number: int
    name: str
    residuals: Residuals  # f is the sum of their squares
    start: tuple[float, ...]
    minima: tuple[float, ...]  # known values, the lowest first; also those at infinity

    def value(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        r = self.residuals(x)
        return r @ r

    def reached(self, value: float) -> bool:
        """Tell whether a value is one of the known minima, to six digits: of itself, or of 1."""
        return any(value - least <= 1e-6 * max(1.0, abs(least)) and value - least >= -1e-3 * max(1e-2, least)
                   for least in self.minima)  # fmt: skip


def _numbers(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _count(n: int, first: int = 1) -> Tensor:
    return torch.arange(first, n + first, dtype=torch.float64)


def rosenbrock(x: Tensor) -> Tensor:
    return torch.cat([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


def freudenstein_roth(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x[0]) + torch.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: Tensor) -> Tensor:
    return _numbers(1.5, 2.25, 2.625) - x[0] * (1 - x[1] ** _count(3))


def jennrich_sampson(x: Tensor) -> Tensor:
    i = _count(10)
    return 2 + 2 * i - torch.exp(i * x[0]) - torch.exp(i * x[1])


def helical_valley(x: Tensor) -> Tensor:
    angle = torch.atan(x[1] / x[0]) / (2 * math.pi) + (0.5 if float(x[0].detach()) < 0 else 0.0)
    return torch.stack([10 * (x[2] - 10 * angle), 10 * (torch.hypot(x[0], x[1]) - 1), x[2]])


BARD = _numbers(0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


def bard(x: Tensor) -> Tensor:
    u = _count(15)
    v = 16 - u
    return BARD - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


GAUSSIAN = _numbers(
    0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989,
    0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009,
)  # fmt: skip


def gaussian(x: Tensor) -> Tensor:
    t = (8 - _count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - GAUSSIAN


MEYER = _numbers(
    34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872
)  # fmt: skip


def meyer(x: Tensor) -> Tensor:
    return x[0] * torch.exp(x[1] / (45 + 5 * _count(16) + x[2])) - MEYER


def gulf(x: Tensor) -> Tensor:
    # The formula has a misprint in the paper; this one has its minimum at (50, 25, 1.5).
    t = _count(99) / 100
    y = 25 + (-50 * torch.log(t)) ** (2 / 3)
    return torch.exp(-(torch.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x: Tensor) -> Tensor:
    t = _count(10) / 10
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x[::4], x[1::4], x[2::4], x[3::4]
    return torch.cat([a + 10 * b, math.sqrt(5) * (c - d), (b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2])


def wood(x: Tensor) -> Tensor:
    a, b, c, d = x
    return torch.stack(
        [10 * (b - a**2), 1 - a, math.sqrt(90) * (d - c**2), 1 - c,
         math.sqrt(10) * (b + d - 2), (b - d) / math.sqrt(10)]
    )  # fmt: skip


KOWALIK = _numbers(0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
DOSES = _numbers(4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x: Tensor) -> Tensor:
    return KOWALIK - x[0] * (DOSES**2 + DOSES * x[1]) / (DOSES**2 + DOSES * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    t = _count(20) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


OSBORNE_1 = _numbers(
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751,
    0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490,
    0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406,
)  # fmt: skip


def osborne_1(x: Tensor) -> Tensor:
    t = 10 * _count(33, 0)
    return OSBORNE_1 - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


def biggs(x: Tensor) -> Tensor:
    t = _count(13) / 10
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


OSBORNE_2 = _numbers(
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608,
    0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661,
    0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428,
    0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559,
    0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054,
)  # fmt: skip


def osborne_2(x: Tensor) -> Tensor:
    t = _count(65, 0) / 10
    peaks = [x[1 + i] * torch.exp(-((t - x[8 + i]) ** 2) * x[5 + i]) for i in range(3)]
    return OSBORNE_2 - (x[0] * torch.exp(-t * x[4]) + sum(peaks))


def watson(x: Tensor) -> Tensor:
    t, j = _count(29) / 29, _count(len(x), 0)
    powers = t[:, None] ** j
    slopes = torch.zeros_like(powers)
    slopes[:, 1:] = j[1:] * t[:, None] ** (j[1:] - 1)
    r = slopes @ x - (powers @ x) ** 2 - 1
    return torch.cat([r, x[:1], (x[1] - x[0] ** 2 - 1)[None]])


def penalty_1(x: Tensor) -> Tensor:
    return torch.cat([math.sqrt(1e-5) * (x - 1), (x @ x - 0.25)[None]])


def penalty_2(x: Tensor) -> Tensor:
    n, root = len(x), math.sqrt(1e-5)
    i = _count(n - 1, 2)
    y = torch.exp(i / 10) + torch.exp((i - 1) / 10)
    return torch.cat(
        [
            (x[0] - 0.2)[None],
            root * (torch.exp(x[1:] / 10) + torch.exp(x[:-1] / 10) - y),
            root * (torch.exp(x[1:] / 10) - math.exp(-0.1)),
            ((n - _count(n) + 1) @ x**2 - 1)[None],
        ]
    )


def variably_dimensioned(x: Tensor) -> Tensor:
    total = _count(len(x)) @ (x - 1)
    return torch.cat([x - 1, torch.stack([total, total**2])])


def trigonometric(x: Tensor) -> Tensor:
    return len(x) - torch.cos(x).sum() + _count(len(x)) * (1 - torch.cos(x)) - torch.sin(x)


def brown_almost_linear(x: Tensor) -> Tensor:
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1), (x.prod() - 1)[None]])


def _padded(x: Tensor) -> Tensor:
    edge = torch.zeros(1, dtype=x.dtype)
    return torch.cat([edge, x, edge])


def discrete_boundary(x: Tensor) -> Tensor:
    h = 1 / (len(x) + 1)
    y = _padded(x)
    return 2 * x - y[:-2] - y[2:] + h**2 * (x + h * _count(len(x)) + 1) ** 3 / 2


def discrete_integral(x: Tensor) -> Tensor:
    h = 1 / (len(x) + 1)
    t = h * _count(len(x))
    cubes = (x + t + 1) ** 3
    below = torch.tril(torch.ones(len(x), len(x), dtype=torch.float64))
    return x + h / 2 * ((1 - t) * (below @ (t * cubes)) + t * ((1 - below) @ ((1 - t) * cubes)))


def broyden_tridiagonal(x: Tensor) -> Tensor:
    y = _padded(x)
    return (3 - 2 * x) * x - y[:-2] - 2 * y[2:] + 1


def broyden_banded(x: Tensor) -> Tensor:
    i = torch.arange(len(x))
    lag = i[:, None] - i
    band = ((lag != 0) & (lag <= 5) & (lag >= -1)).to(torch.float64)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


def linear_full_rank(x: Tensor) -> Tensor:
    m, mean = 20, 2 * x.sum() / 20
    return torch.cat([x - mean - 1, (-mean - 1).repeat(m - len(x))])


def linear_rank_1(x: Tensor) -> Tensor:
    return _count(20) * (_count(len(x)) @ x) - 1


def linear_rank_1_zeros(x: Tensor) -> Tensor:
    inner = _count(18) * (_count(len(x) - 2, 2) @ x[1:-1]) - 1
    ends = -torch.ones(1, dtype=torch.float64)
    return torch.cat([ends, inner, ends])


def chebyquad(x: Tensor) -> Tensor:
    y = 2 * x - 1
    before, here, found = torch.ones_like(y), y, []
    for i in range(1, len(x) + 1):
        found.append(here.mean() + (1 / (i**2 - 1) if i % 2 == 0 else 0.0))
        before, here = here, 2 * y * here - before
    return torch.stack(found)


def himmelblau(x: Tensor) -> Tensor:
    return torch.stack([x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7])


def booth(x: Tensor) -> Tensor:
    return torch.stack([x[0] + 2 * x[1] - 7, 2 * x[0] + x[1] - 5])


def matyas(x: Tensor) -> Tensor:
    # 0.26(x² + y²) − 0.48xy as squares along its axes.
    return torch.stack([math.sqrt(0.01) * (x[0] + x[1]), math.sqrt(0.25) * (x[0] - x[1])])


def quadratic(condition: float) -> Residuals:
    """Return the residuals of ½Σλᵢxᵢ², λ from 1 to κ in equal ratios."""

    def residuals(x: Tensor) -> Tensor:
        return torch.sqrt(condition ** (_count(len(x), 0) / (len(x) - 1)) / 2) * x

    return residuals


def _interior(n: int) -> tuple[float, ...]:
    return tuple(i / (n + 1) * (i / (n + 1) - 1) for i in range(1, n + 1))


_ONES: tuple[float, ...] = (1.0,) * 10
PROBLEMS: tuple[Problem, ...] = (
    Problem(1, "Rosenbrock", rosenbrock, (-1.2, 1.0), (0.0,)),
    Problem(2, "Freudenstein and Roth", freudenstein_roth, (0.5, -2.0), (0.0, 48.98425368)),
    Problem(3, "Powell badly scaled", powell_badly_scaled, (0.0, 1.0), (0.0,)),
    Problem(4, "Brown badly scaled", brown_badly_scaled, (1.0, 1.0), (0.0,)),
    Problem(5, "Beale", beale, (1.0, 1.0), (0.0,)),
    Problem(6, "Jennrich and Sampson", jennrich_sampson, (0.3, 0.4), (124.3621824,)),
    Problem(7, "Helical valley", helical_valley, (-1.0, 0.0, 0.0), (0.0,)),
    Problem(8, "Bard", bard, (1.0, 1.0, 1.0), (8.214877e-3, 17.42869)),
    Problem(9, "Gaussian", gaussian, (0.4, 1.0, 0.0), (1.127933e-8,)),
    Problem(10, "Meyer", meyer, (0.02, 4000.0, 250.0), (87.94586,)),
    Problem(11, "Gulf research", gulf, (5.0, 2.5, 0.15), (0.0,)),
    Problem(12, "Box three-dimensional", box, (0.0, 10.0, 20.0), (0.0,)),
    Problem(13, "Powell singular", powell_singular, (3.0, -1.0, 0.0, 1.0), (0.0,)),
    Problem(14, "Wood", wood, (-3.0, -1.0, -3.0, -1.0), (0.0,)),
    Problem(15, "Kowalik and Osborne", kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.07506e-4, 1.027345e-3)),
    Problem(16, "Brown and Dennis", brown_dennis, (25.0, 5.0, -5.0, -1.0), (85822.20163,)),
    Problem(17, "Osborne 1", osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), (5.46489e-5,)),
    Problem(18, "Biggs EXP6", biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0.0,)),
    Problem(19, "Osborne 2", osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
            (4.0137736e-2,)),
    Problem(20, "Watson, n = 6", watson, (0.0,) * 6, (2.287670e-3,)),
    Problem(21, "Extended Rosenbrock, n = 20", rosenbrock, (-1.2, 1.0) * 10, (0.0,)),
    Problem(22, "Extended Powell, n = 20", powell_singular, (3.0, -1.0, 0.0, 1.0) * 5, (0.0,)),
    Problem(23, "Penalty I, n = 10", penalty_1, tuple(map(float, range(1, 11))), (7.08765e-5,)),
    Problem(24, "Penalty II, n = 10", penalty_2, (0.5,) * 10, (2.93661e-4,)),
    Problem(25, "Variably dimensioned, n = 10", variably_dimensioned,
            tuple(1 - i / 10 for i in range(1, 11)), (0.0,)),
    Problem(26, "Trigonometric, n = 10", trigonometric, (0.1,) * 10, (0.0, 2.795056e-5)),
    Problem(27, "Brown almost linear, n = 10", brown_almost_linear, (0.5,) * 10, (0.0, 1.0)),
    Problem(28, "Discrete boundary, n = 10", discrete_boundary, _interior(10), (0.0,)),
    Problem(29, "Discrete integral, n = 10", discrete_integral, _interior(10), (0.0,)),
    Problem(30, "Broyden tridiagonal, n = 10", broyden_tridiagonal, (-1.0,) * 10, (0.0,)),
    Problem(31, "Broyden banded, n = 10", broyden_banded, (-1.0,) * 10, (0.0,)),
    Problem(32, "Linear, full rank, n = 10", linear_full_rank, _ONES, (10.0,)),
    Problem(33, "Linear, rank 1, n = 10", linear_rank_1, _ONES, (20 * 19 / (2 * 41),)),
    Problem(34, "Linear, rank 1, zeros, n = 10", linear_rank_1_zeros, _ONES, ((400 + 60 - 6) / (2 * 37),)),
    Problem(35, "Chebyquad, n = 8", chebyquad, tuple(i / 9 for i in range(1, 9)), (3.516874e-3,)),
    Problem(36, "Himmelblau", himmelblau, (0.0, 0.0), (0.0,)),
    Problem(37, "Booth", booth, (-5.0, 5.0), (0.0,)),
    Problem(38, "Matyas", matyas, (-5.0, 8.0), (0.0,)),
    Problem(39, "Quadratic, κ = 100, n = 10", quadratic(1e2), _ONES, (0.0,)),
    Problem(40, "Quadratic, κ = 10 000, n = 20", quadratic(1e4), (1.0,) * 20, (0.0,)),
)  # fmt: skip


class CountedProblem:
    """A problem as both libraries see it: values, gradients and Hessians on NumPy vectors, each counted."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.counts = {"value": 0, "gradient": 0, "hessian": 0}

    def __call__(self, x: Any) -> float:
        self.counts["value"] += 1
        with torch.no_grad():
            return float(self.problem.value(_tensor(x)))

    def slope(self, x: Any) -> Any:
        self.counts["gradient"] += 1
        return self.exact_slope(x)

    def curvature(self, x: Any) -> Any:
        self.counts["hessian"] += 1
        return torch.autograd.functional.hessian(self.problem.value, _tensor(x)).numpy()

    def exact_slope(self, x: Any) -> Any:
        """Return the gradient without counting it."""
        point = _tensor(x).requires_grad_()
        (slope,) = torch.autograd.grad(self.problem.value(point), point)
        return slope.numpy()


def _tensor(x: Any) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)
