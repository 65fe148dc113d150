"""The step of a squad laid out for kernels, and what of it is left to torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from thalweg.backends import kernels, machine
from thalweg.backends.kinds import kind_of
from thalweg.backends.plan import Moved, Plan
from thalweg.backends.symbols import Untraceable
from thalweg.rules.tail import Row
from thalweg.training.fleet.numbers import alike

if TYPE_CHECKING:
    from thalweg.training.fleet.squad import Squad

Named = Mapping[str, Tensor]


class LaidOut:
    """A step of a squad as it was laid out for kernels, and what is left to torch."""

    def __init__(self, squad: Squad, weights: Named, gradients: Named) -> None:
        names, rows = [], []
        count = squad.size
        for place, (rule, own, values) in enumerate(squad.groups):
            for name in own:
                if name in gradients:  # the first replicas of a stack are of the kind of any
                    p, g = weights[name][:count], gradients[name][:count]
                    rows.append(Row(rule, p, g, squad.states[name], 1, values, True, 1.0, place))
                    names.append(name)
        chosen = _traceable(rows, squad.shared)
        self.plan: Plan | None = None
        if chosen:
            self.plan = Plan([rows[place] for place in chosen], squad.shared)
            self.names = [names[chosen[place]] for place in self.plan.order]
            # One array for all, of which the counts of each parameter are a row from now on.
            self.counts = np.stack([squad.counts[name] for name in self.names])
            squad.counts |= dict(zip(self.names, self.counts, strict=True))
            self.fields: list[tuple[str, tuple[int, ...]]] = []
            at = 0
            for index, part in enumerate(self.plan.parts):
                self.plan.value(index, rows[chosen[part.places[0]]].values)
                self.fields += [(name, part.kind.fields) for name in self.names[at : at + part.count]]
                at += part.count
        taken = set(chosen)
        self.rest = [name for place, name in enumerate(names) if place not in taken]
        self._known: list[int] = []

    def point(self, squad: Squad, weights: Named, gradients: Named, own: bool) -> None:
        """Tell the plan where everything lies now."""
        assert self.plan is not None
        slopes = [gradients[name] for name in self.names]
        fixed = [
            x
            for name, fields in self.fields
            for x in (weights[name], *(squad.states[name][field] for field in fields))
        ]
        addresses = [x.data_ptr() for x in (*fixed, *slopes)]
        if addresses != self._known:
            self._known = addresses
            count = len(fixed)
            given = np.array(addresses[:count]), np.array(addresses[count:])
            self.plan.point(*given, squad.where, None if own else squad.where)

    def step(self, squad: Squad, factor: Any, threads: int) -> Moved:
        """Have the plan take a step; numbers of which there is one a replica are read and written back."""
        assert self.plan is not None
        plan, singles, at = self.plan, {}, 0
        t = alike(self.counts + 1)
        if isinstance(t, np.ndarray):
            ts = np.split(t, np.cumsum([part.count for part in plan.parts])[:-1])
        else:
            ts = [t] * len(plan.parts)
        for index, part in enumerate(plan.parts):
            names = self.names[at : at + part.count]
            for field, number in enumerate(part.kind.family.numbers):
                if number:
                    kept = [squad.states[n][field].double().numpy().reshape(-1) for n in names]
                    singles[index, field] = np.stack(kept)
            at += part.count
        done = plan.step(ts, [1.0] * len(plan.parts), singles, squad.shared, factor, threads)
        at = 0
        for index, part in enumerate(plan.parts):
            names = self.names[at : at + part.count]
            at += part.count
            for field, number in enumerate(part.kind.family.numbers):
                if number and (index, field) in done.singles:
                    new = np.broadcast_to(np.asarray(done.singles[index, field], float), part.shape)
                    for name, numbers in zip(names, new, strict=True):
                        buffer = squad.states[name][field]
                        buffer.copy_(torch.from_numpy(numbers.copy()).view(buffer.shape))
        return done


def _traceable(rows: Sequence[Row], shared: Mapping[str, Any]) -> list[int]:
    """Return the places of rows that kernels can move: all or none where something sees all at once."""
    if not machine.available():
        return []
    found = []
    for place, row in enumerate(rows):
        try:
            kind = kind_of(row)
        except Untraceable:
            continue
        if kernels.traceable(kind, row.values, shared):
            found.append(place)
    together = any(row.rule.transforms or row.rule.partial for row in rows)
    return [] if together and len(found) < len(rows) else found
