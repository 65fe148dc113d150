"""What the comparisons with other packages have in common: gradients, a schedule, and our own path."""

from typing import Any

from cases import Path, gradients, starts
from thalweg.backends.reference import Reference
from thalweg.rules.catalogue import RULES

SHAPES: dict[str, tuple[int, ...]] = {"matrix": (3, 4), "vector": (5,), "number": ()}
STEPS = 100
CLOSE = 1e-10  # of the scale of a path, after 100 steps in float64
# A warm-up, and a rate that falls in the middle of the run.
FACTORS = [min(1.0, (k + 1) / 5) * (1.0 if k < 50 else 0.3) for k in range(STEPS)]
PRODIGY = {"lr": 0.8, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02, "d0": 1e-3, "d_coef": 1.5}


def given(shapes: dict[str, tuple[int, ...]] = SHAPES, slope: float = 0.0) -> Any:
    return starts(3, shapes), gradients(3, shapes, STEPS, silent=0.0, slope=slope)


def ours(name: str, begin: Any, slopes: Any, factors: Any = FACTORS, **values: Any) -> Path:
    work, at, path = Reference(RULES[name], RULES[name].checked(values)), begin, []
    for factor, slope in zip(factors, slopes, strict=False):
        at = work.step(at, slope, factor)
        path.append(at)
    return path
