"""Run rules compiled for the CPU: one parallel region over chunks of all parameters, in place.

The text of a rule is traced once for rows of one kind (`program`), every pass becomes machine code (`llvm`,
`machine`), and a `Plan` has it work through a table of chunks. Chunks depend on the sizes of the rows alone,
and sums are added up in their order: results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from thalweg.backends.eager import NEVER, Advanced
from thalweg.backends.kinds import Kind
from thalweg.backends.plan import Plan
from thalweg.backends.program import trace
from thalweg.backends.symbols import Untraceable
from thalweg.rules.base import Values
from thalweg.rules.ops import Array
from thalweg.rules.tail import Row


def traceable(kind: Kind, values: Values, shared: Mapping[str, Any]) -> bool:
    """Tell whether the text of a rule can be compiled for rows of a kind."""
    try:
        trace([kind.family], [values], shared)
    except Untraceable:
        return False
    return True


@torch.no_grad()
def advance(rows: Iterable[Row], shared: Mapping[str, Any] | None = None, factor: Array = 1.0) -> Advanced:
    """Move parameters and states in place by one step, as `eager.advance` does, by compiled code.

    The step is planned anew at each call; who takes many steps keeps a `Plan`.

    Raises:
        Untraceable: there are no kernels for these rows.
    """
    given, before = [_in_numpy(row) for row in rows], dict(shared or {})
    if not given:
        return Advanced(before, False, NEVER)
    before = {name: type(numbers)(*map(_number, numbers)) for name, numbers in before.items()}
    plan = Plan(given, before)
    _point(plan, given)
    for index, part in enumerate(plan.parts):
        plan.value(index, given[part.places[0]].values)
    singles = {
        (index, field): np.stack(
            [given[place].state[field].double().numpy().reshape(part.shape[1]) for place in part.places]
        )
        for index, part in enumerate(plan.parts)
        for field, number in enumerate(part.kind.family.numbers)
        if number
    }
    done = plan.step(
        [_ts([given[place].t for place in part.places]) for part in plan.parts],
        [given[part.places[0]].multiplier for part in plan.parts],
        singles,
        before,
        _number(factor),
        torch.get_num_threads(),
    )
    for (index, field), numbers in done.singles.items():
        part = plan.parts[index]
        spread = np.broadcast_to(np.asarray(numbers, float), part.shape).tolist()
        for place, number in zip(part.places, spread, strict=True):
            buffer = given[place].state[field]
            buffer.copy_(torch.tensor(number, dtype=torch.float64).reshape(buffer.shape))
    torch.autograd.graph.increment_version(
        [row.parameter for row in given if not row.parameter.is_inference()]
    )
    skipped = NEVER if done.skipped is None else torch.as_tensor(done.skipped)
    return Advanced(done.shared, done.clipped, skipped)


def _in_numpy(row: Row) -> Row:
    """Return a row whose numbers are Python's or NumPy's."""

    def entry(x: Any) -> Any:
        return tuple(map(_number, x)) if isinstance(x, tuple | list) else _number(x)

    values = row.values
    if any(
        isinstance(x, torch.Tensor)
        for value in values
        for x in (value if isinstance(value, tuple) else (value,))
    ):
        values = type(values)(*map(entry, values))
    return row._replace(values=values, t=_number(row.t), multiplier=_number(row.multiplier))


def _number(x: Any) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    return x.double().numpy() if x.ndim else x.item()


def _ts(ts: Sequence[Any]) -> Any:
    if all(isinstance(t, int) for t in ts):
        return ts[0] if len(set(ts)) == 1 else np.array(ts, float)[:, None]
    return np.stack([np.asarray(t, float) for t in ts])


def _point(plan: Plan, rows: Sequence[Row]) -> None:
    fixed, gradients, at = [], [], 0
    ordered = [rows[place] for place in plan.order]
    for part in plan.parts:
        for row in ordered[at : at + part.count]:
            fixed += [row.parameter, *(row.state[field] for field in part.kind.fields)]
            gradients.append(row.gradient)
        at += part.count
    plan.point(
        np.array([x.data_ptr() for x in fixed], np.int64),
        np.array([x.data_ptr() for x in gradients], np.int64),
    )
