"""SAM and ASAM: the gradient where the loss is worst nearby, applied where the parameters are.

A gradient of length 5 is scaled to length ρ::

    >>> import numpy as np
    >>> from thalweg.rules.sgd import SGD
    >>> from thalweg.rules.wrap import wrapped
    >>> rule = wrapped(SGD, [SAM(rho=0.5)])
    >>> h, p = rule.values(rule.defaults()), np.array([0.0, 0.0])
    >>> sam([Row(rule, p, np.array([3.0, 4.0]), rule.initial(p, h), 1, h)])[0].round(12).tolist()
    [0.3, 0.4]
"""

import math

from thalweg.hyper import AT_LEAST_0, Real
from thalweg.rules.base import own_axes
from thalweg.rules.ops import Array, abs, cast, gather, in_float64, spread, sqrt, sum_over, where
from thalweg.rules.tail import Row
from thalweg.rules.wrap import Wrapper


def sam(rows: list[Row]) -> list[Array]:
    """Return where each parameter moves for the second gradient: e = ρg/‖g‖."""
    return _offsets(rows, [1.0 for _ in rows], "sam_rho")


def asam(rows: list[Row]) -> list[Array]:
    """Return where each parameter moves for the second gradient: e = ρT²g/‖Tg‖."""
    return _offsets(
        rows, [abs(r.parameter) + spread(r.values.asam_eta, r.parameter) for r in rows], "asam_rho"
    )


def _offsets(rows: list[Row], scales: list[Array], rho: str) -> list[Array]:
    """Return ρT²g/‖Tg‖, ‖·‖ over all rows, in float64; zeros where ‖Tg‖ is 0 or not finite."""
    if not rows:
        return []
    scaled = [in_float64(r.gradient) * in_float64(t) for r, t in zip(rows, scales, strict=True)]
    squares = [
        gather(sum_over(x * x, own_axes(r.gradient, r.replicas)), r.replicas)
        for r, x in zip(rows, scaled, strict=True)
    ]
    norm = sqrt(sum(squares[1:], squares[0]))
    known = (norm > 0) & (norm < math.inf)
    offsets = []
    for row, x, t in zip(rows, scaled, scales, strict=True):
        length = where(known, getattr(row.values, rho) / where(known, norm, 1.0), 0.0)
        share = spread(length, x) * (-1.0 if row.values.maximize else 1.0)
        e = where(spread(known, x) > 0, share * in_float64(t) * x, 0.0)
        offsets.append(cast(e, row.parameter))
    return offsets


_BOTH = (
    " Under maximize e points the other way. It is taken from the gradient as it is, before clipping and "
    "without decay, and does not depend on its scale; method and other wrappers receive the second gradient. "
    "Where ‖Tg‖ = 0 or is not finite, e = 0; the papers leave that open, and their code adds a tiny number."
)

SAM = Wrapper(
    name="sam",
    title="SAM",
    formula="""
e = ρg/‖g‖        ‖g‖ over all parameters together, g the gradient at θ
the method receives the gradient at θ + e, and moves θ""",
    source="Foret, Kleiner, Mobahi and Neyshabur 2020 (arXiv 2010.01412)." + _BOTH,
    use="Where a wide minimum is worth two gradients a step: small data sets, noisy labels, vision.",
    hyper={"sam_rho": Real(0.05, "distance ρ at which the second gradient is taken", AT_LEAST_0)},
    offset=sam,
)

ASAM = Wrapper(
    name="asam",
    title="ASAM",
    formula="""
e = ρT²g/‖Tg‖,  T = |θ| + η        ‖Tg‖ over all parameters together, g the gradient at θ
the method receives the gradient at θ + e, and moves θ""",
    source=(
        "Kwon, Kim, Park and Choi 2021 (arXiv 2102.11600), elementwise. Their code has T = |θ| + η for "
        "parameters called weight, and T = 1 for biases; here it is the former for all." + _BOTH
    ),
    use="As SAM, for weights whose sizes differ much: the distance is measured relative to them.",
    hyper={
        "asam_rho": Real(0.5, "distance ρ at which the second gradient is taken, relative to T", AT_LEAST_0),
        "asam_eta": Real(0.01, "η, which is added to |θ|", AT_LEAST_0),
    },
    offset=asam,
)
