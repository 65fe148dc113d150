"""What is done to gradients before a method receives them: clip, centralise, refuse what is not finite.

A gradient of length 5 around a limit of 2.5::

    >>> import numpy as np
    >>> from thalweg.rules.sgd import SGD
    >>> from thalweg.rules.tail import Row
    >>> from thalweg.rules.wrap import wrapped
    >>> rule = wrapped(SGD, [CLIP_NORM(2.5)])
    >>> h, p = rule.values(rule.defaults()), np.zeros(2)
    >>> row = Row(rule, p, np.array([3.0, 4.0]), rule.initial(p, h), 1, h)
    >>> clip_norm([row]).rows[0].gradient.round(4).tolist()
    [1.5, 2.0]
"""

import math
from typing import Any

from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.rules.base import Scope, own_axes, unit_axes
from thalweg.rules.ops import (
    Array,
    abs,
    any_of,
    cast,
    gather,
    in_float64,
    maximum,
    mean_over,
    minimum,
    norm_over,
    spread,
    sqrt,
    sum_over,
    total,
    where,
    zeros_like,
)
from thalweg.rules.tail import Row, Transformed
from thalweg.rules.wrap import Wrapper

TINY = 1e-6  # as PyTorch and the authors of AGC: keeps the division by a norm finite


def _axes(row: Row) -> tuple[int, ...]:
    return own_axes(row.gradient, row.replicas)


def _any(row: Row, condition: Array) -> Array:
    """Tell whether a condition holds anywhere in a row; (K,) where there are replicas."""
    return gather(sum_over(condition, _axes(row)), row.replicas) > 0


def _clipped(rows: list[Row], limit: str) -> Transformed:
    """Shorten the gradients of some rows together, to the length that the hyperparameter of each row says."""
    squares = [gather(sum_over(in_float64(r.gradient) ** 2, _axes(r)), r.replicas) for r in rows]
    norm = sqrt(total(squares))
    shares = [minimum(getattr(r.values, limit) / (norm + TINY), 1.0) for r in rows]
    shorter = [
        r._replace(gradient=r.gradient * spread(share, r.gradient))
        for r, share in zip(rows, shares, strict=True)
    ]
    return Transformed(shorter, any_of([share < 1 for share in shares]))


def clip_value(rows: list[Row]) -> Transformed:
    """Clip every entry of every gradient."""
    ready, clipped = [], []
    for row in rows:
        g, limit = row.gradient, spread(row.values.clip_value_limit, row.gradient)
        ready.append(row._replace(gradient=minimum(maximum(g, -limit), limit)))
        clipped.append(_any(row, abs(g) > limit))
    return Transformed(ready, any_of(clipped))


def clip_norm(rows: list[Row]) -> Transformed:
    """Shorten the gradients of all rows together."""
    return _clipped(rows, "clip_norm_limit")


def clip_group_norm(rows: list[Row]) -> Transformed:
    """Shorten the gradients of each parameter group together."""
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.group, []).append(place)
    ready, clipped = list(rows), []
    for places in groups.values():
        done = _clipped([rows[place] for place in places], "clip_group_norm_limit")
        clipped.append(done.clipped)
        for place, row in zip(places, done.rows, strict=True):
            ready[place] = row
    return Transformed(ready, any_of(clipped))


def agc(rows: list[Row]) -> Transformed:
    """Shorten the gradient of every unit by the norm of its weights."""
    ready, clipped = [], []
    for row in rows:
        p, g, axes = row.parameter, row.gradient, unit_axes(_axes(row))
        p_norm, g_norm = norm_over(in_float64(p), axes), norm_over(in_float64(g), axes)
        limit = spread(row.values.agc_clipping, p_norm) * maximum(
            p_norm, spread(row.values.agc_floor, p_norm)
        )
        share = minimum(limit / maximum(g_norm, TINY), 1.0)
        ready.append(row._replace(gradient=g * cast(share, g)))
        clipped.append(_any(row, share < 1))
    return Transformed(ready, any_of(clipped))


def centralise(rows: list[Row]) -> Transformed:
    """Subtract from the gradient of every unit its mean."""
    ready = []
    for row in rows:
        g, axes = row.gradient, _axes(row)[1:]
        ready.append(row._replace(gradient=g - mean_over(g, axes) if axes else g))
    return Transformed(ready)


def skip_nonfinite(rows: list[Row]) -> Transformed:
    """Say whether a gradient is not finite; the others, which nobody will use, become zeros then."""
    skipped = any_of([_any(row, ~(abs(row.gradient) < math.inf)) for row in rows])

    def emptied(g: Array) -> Any:
        return where(spread(skipped, g) > 0, zeros_like(g), g)

    return Transformed([row._replace(gradient=emptied(row.gradient)) for row in rows], skipped=skipped)


CLIP_VALUE = Wrapper(
    name="clip_value",
    title="Clipping by value",
    formula="gᵢ ← min(max(gᵢ, −limit), limit)",
    source="As PyTorch's clip_grad_value_. It changes the direction of the gradient.",
    use="Where single entries explode; else prefer clip_norm, which keeps the direction.",
    hyper={"clip_value_limit": Real(1.0, "largest size of an entry", ABOVE_0)},
    transform=clip_value,
)

CLIP_NORM = Wrapper(
    name="clip_norm",
    title="Clipping by the norm of all gradients",
    formula="g ← g · min(1, limit / (‖g‖ + 10⁻⁶))        ‖g‖ over all parameters together",
    source=(
        "Pascanu, Mikolov and Bengio 2013 (arXiv 1211.5063). As PyTorch's clip_grad_norm_, from which the "
        "10⁻⁶ comes; optax has none. The norm is added up in float64. Parameters without a gradient do not "
        "count; a group may have a limit of its own, against which the norm of all gradients is held."
    ),
    use="Recurrent networks and transformers: single batches with very long gradients.",
    hyper={"clip_norm_limit": Real(1.0, "largest norm of all gradients together", ABOVE_0)},
    transform=clip_norm,
)

CLIP_GROUP_NORM = Wrapper(
    name="clip_group_norm",
    title="Clipping by the norm of each parameter group",
    formula="g ← g · min(1, limit / (‖g‖ + 10⁻⁶))        ‖g‖ over one parameter group",
    source="As clip_norm, for each parameter group by itself.",
    use="Parts of a model whose gradients differ in size: one group must not shorten the others.",
    hyper={"clip_group_norm_limit": Real(1.0, "largest norm of the gradients of a group", ABOVE_0)},
    transform=clip_group_norm,
)

AGC = Wrapper(
    name="agc",
    title="Adaptive gradient clipping",
    formula="gᵤ ← gᵤ · min(1, clipping · max(‖θᵤ‖, floor) / max(‖gᵤ‖, 10⁻⁶))        u: the units",
    source=(
        "Brock, De, Smith and Simonyan 2021 (arXiv 2102.06171). A unit is a slice along the first axis; a "
        "vector is one unit, as in the authors' code and in timm (the paper speaks of rows of matrices "
        "only). The authors do not clip the last layer: give it a group of its own with a large "
        "agc_clipping."
    ),
    use="Networks without normalisation, with large batches.",
    hyper={
        "agc_clipping": Real(
            0.01, "largest gradient norm of a unit, as a share of the norm of its weights", ABOVE_0
        ),
        "agc_floor": Real(1e-3, "least norm of weights that is reckoned with", ABOVE_0),
    },
    transform=agc,
    scope=Scope.TENSOR,
)

CENTRALISE = Wrapper(
    name="centralise",
    title="Gradient centralisation",
    formula="gᵤ ← gᵤ − mean(gᵤ)        u: the slices along the first axis; vectors are left alone",
    source=(
        "Yong, Huang, Hua and Zhang 2020 (arXiv 2004.01461). The first axis is the output's, as in PyTorch's "
        "linear and convolution layers."
    ),
    use="Convolution networks; adds no state.",
    hyper={},
    transform=centralise,
    scope=Scope.TENSOR,
)

SKIP_NONFINITE = Wrapper(
    name="skip_nonfinite",
    title="Skipping steps with gradients that are not finite",
    formula="g finite: the step; else: nothing changes, neither parameters nor states nor counts",
    source=(
        "Common practice, as in PyTorch's GradScaler, which skips the step of the optimizer. All gradients "
        "are looked at, before any other wrapper changes them."
    ),
    use="Long runs in which a rare batch overflows. A run that overflows often needs a smaller rate instead.",
    hyper={
        "skip_nonfinite_limit": Integer(
            10, "steps skipped in a row at which to give up", Interval(1, math.inf)
        )
    },
    guard=skip_nonfinite,
)
