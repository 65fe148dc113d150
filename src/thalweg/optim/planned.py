"""A step that was planned once: which tensors the kernels move, checked anew before every step.

Nothing that may have changed is remembered unchecked: every step looks at the tensors that are there, at
their types, sizes, layouts and addresses, and at the hyperparameters of the groups. What no longer fits is
planned anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np
import torch
import torch.optim.optimizer as torch_hooks
from torch import Tensor

from thalweg.backends import eager, kernels, machine
from thalweg.backends.kinds import TYPES, Kind, kind_of, structure
from thalweg.backends.plan import Plan
from thalweg.backends.symbols import Untraceable
from thalweg.backends.tensors import Likeness, Places
from thalweg.errors import InputError, ThalwegError
from thalweg.optim import scalars
from thalweg.optim.rows import multiplier_of, plain, rows_of
from thalweg.rules.tail import Row

_gradient: Any = attrgetter("grad")
_profiled: Any = getattr(torch.autograd, "_profiler_enabled")  # noqa: B009


def watched(optimizer: Any) -> bool:
    """Tell whether hooks or a profiler want to know of a step."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_hooks._global_optimizer_pre_hooks
        or torch_hooks._global_optimizer_post_hooks
        or _profiled()
    )


def advanced(optimizer: Any) -> eager.Advanced:
    """Move all parameters of an optimizer by one step, as it was planned or is to be planned now."""
    done = None if optimizer.planned is None else optimizer.planned.moved()
    if done is None:
        optimizer.planned = Planned(optimizer)
        done = optimizer.planned.moved()
    if done is None:
        raise ThalwegError(
            f"{optimizer.rule.title} must find its parameters at rest in a step; got other ones meanwhile. "
            "Do not change them from another thread."
        )
    return done  # type: ignore[no-any-return]


class Planned:
    """The next steps of an optimizer, for as long as `moved` finds everything as it was.

    Args:
        optimizer: whose parameters have gradients.

    Raises:
        InputError: parameters overlap, or a gradient is of a kind that a rule cannot take.
    """

    @torch.no_grad()
    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        rows, _, parameters = rows_of(optimizer)
        refuse_overlap(optimizer, parameters)
        self.idle = [p for group in optimizer.param_groups for p in group["params"] if p.grad is None]
        self.known = [list(group["params"]) for group in optimizer.param_groups]
        chosen = self._chosen(rows) if optimizer.execution.backend in ("auto", "kernels") else []
        taken = set(chosen)
        self.rest = {id(p) for place, p in enumerate(parameters) if place not in taken}
        self.plan: Plan | None = None
        if chosen:
            self._lay_out([rows[place] for place in chosen], [parameters[place] for place in chosen])

    def _chosen(self, rows: Sequence[Row]) -> list[int]:
        """Return the places of rows that kernels can move: all or none where a wrapper sees all at once."""
        found: dict[Any, list[int]] = {}
        kinds: dict[Any, Kind] = {}
        for place, row in enumerate(rows):
            try:
                kind = kind_of(_with_layout(row), self.optimizer.execution.state_dtype)
            except Untraceable:
                key = None
            else:
                key = kind.key
                kinds.setdefault(key, kind)
            found.setdefault(key, []).append(place)
        together = any(row.rule.transforms for row in rows)
        if (together and None in found) or not machine.available():
            return []
        chosen = []
        for key, kind in kinds.items():
            row = rows[found[key][0]]
            if kernels.traceable(kind, row.values, scalars.shared(self.optimizer)):
                chosen += found[key]
            elif together or row.rule.partial is not None:
                return []
        for row in rows:  # what adds up over all parameters must see all of them
            if row.rule.partial is not None and len(chosen) < len(rows):
                return []
        return sorted(chosen)

    def _lay_out(self, rows: list[Row], parameters: list[Tensor]) -> None:
        optimizer = self.optimizer
        self.plan = plan = Plan(
            [_with_layout(row) for row in rows], scalars.shared(optimizer), *optimizer.execution[:2]
        )
        ordered = [rows[place] for place in plan.order]
        self.parameters = [parameters[place] for place in plan.order]
        states = [optimizer.state[p] for p in self.parameters]
        self.states = list(optimizer.state.values())
        self.kept = list(_entries(self.states))
        fixed, single = [], []
        at = 0
        for index, part in enumerate(plan.parts):
            names = ordered[at].state._fields
            here = slice(at, at + part.count)
            for p, state in zip(self.parameters[here], states[here], strict=True):
                fixed += [p, *(state[names[field]] for field in part.kind.fields)]
            for field, number in enumerate(part.kind.family.numbers):
                if number:
                    single.append(((index, field), _Singles([state[names[field]] for state in states[here]])))
            at += part.count
        self.fixed, self.singles = Places(fixed), single
        self.fixed_kinds = Likeness(fixed)
        self.steps = _Singles([state["step"] for state in states])
        self.gradients = Places([_gradient(p) for p in self.parameters])
        self.gradient_kinds = Likeness(self.gradients.tensors)
        self.relaid = [
            (place, p)
            for place, (p, g) in enumerate(zip(self.parameters, self.gradients.tensors, strict=True))
            if _laid_out_otherwise(p, g)
        ]
        self.ends = np.cumsum([part.count for part in plan.parts]).tolist()
        self.groups = [
            _Group(
                optimizer, plan, place, [i for i, p in enumerate(plan.parts) if p.kind.family.group == place]
            )
            for place in dict.fromkeys(part.kind.family.group for part in plan.parts)
        ]
        self.multipliers = [1.0] * len(plan.parts)
        self.pointers = np.zeros(0, np.int64)

    @property
    def words(self) -> str:
        """Which backend moves which parameters, in words."""
        by_kernels = 0 if self.plan is None else len(self.parameters)
        parts = [f"{by_kernels} by compiled kernels"] * bool(by_kernels)
        parts += [f"{len(self.rest)} by eager operations"] * bool(self.rest)
        return f"Parameters moved: {', '.join(parts) or 'none'}."

    def moved(self) -> eager.Advanced | None:
        """Move everything by one step; return None, with nothing touched, if it must be planned anew."""
        optimizer = self.optimizer
        groups = optimizer.param_groups
        if len(groups) != len(self.known):
            return None
        for group, known in zip(groups, self.known, strict=True):
            now = group["params"]
            if len(now) != len(known) or not all(map(is_, now, known)):
                return None
        for p in self.idle:
            if p.grad is not None:
                return None
        if self.plan is None:
            return self._moved_eagerly()
        if not self._fits():
            return None
        for group in self.groups:
            if not group.fits(self.multipliers):
                return None
        if self.rest:
            self._moved_eagerly()
        return self._stepped(self.plan)

    def _fits(self) -> bool:
        """Tell whether all tensors are of the kinds that were planned, and note where they are."""
        states = self.optimizer.state
        if len(states) != len(self.states) or not all(map(is_, states.values(), self.states)):
            return False
        if not all(map(is_, _entries(self.states), self.kept)):
            return False
        if not self.fixed_kinds.holds(self.fixed.tensors):
            return False
        gradients = list(map(_gradient, self.parameters))
        if not self.gradient_kinds.holds(gradients):
            return False
        for place, p in self.relaid:
            gradients[place] = _as_laid_out(p, gradients[place])
        if not self.gradients.holds(gradients):
            self.gradients = Places(gradients)  # which holds them until the step is done
        places = self.fixed.read()
        if not np.array_equal(places, self.pointers):
            refuse_overlap(self.optimizer, self.fixed.tensors)
            self.pointers = places.copy()
        return True

    def _stepped(self, plan: Plan) -> eager.Advanced:
        plan.point(self.pointers, self.gradients.read())
        counts = self.steps.read()
        if plan.stochastic:
            plan.salt(counts)
        ts: list[Any] = []
        start = 0
        for end in self.ends:
            mine = counts[start:end]
            first = mine[0]
            ts.append(int(first) + 1 if end - start == 1 or (mine == first).all() else mine[:, None] + 1)
            start = end
        done = plan.step(
            ts,
            self.multipliers,
            {key: single.read()[:, None] for key, single in self.singles},
            scalars.shared(self.optimizer) if self.optimizer.shares else {},
            1.0,
            torch.get_num_threads(),
        )
        if done.skipped:
            return eager.Advanced(done.shared, done.clipped, torch.tensor(True))
        counts += 1
        self.steps.writer(*self.steps.given)
        for key, single in self.singles:
            if key in done.singles:
                single.write(done.singles[key])
        return eager.Advanced(done.shared, done.clipped, eager.NEVER)

    @torch.no_grad()
    def _moved_eagerly(self) -> eager.Advanced:
        rows, counts, _ = rows_of(self.optimizer, self.rest)
        if (dtype := self.optimizer.execution.state_dtype) is not None:
            rows = [row._replace(gradient=row.gradient.to(dtype)) for row in rows]
        done = eager.advance(rows, scalars.shared(self.optimizer))
        if not done.skipped:
            for count in counts:
                count += 1
        return done


class _Group:
    """The hyperparameters of a group, as the parts of a plan were given them last."""

    def __init__(self, optimizer: Any, plan: Plan, place: int, parts: list[int]) -> None:
        self.group = optimizer.param_groups[place]
        self.rule = optimizer.rule_of(self.group)
        self.plan, self.parts = plan, parts
        self.structure = plan.parts[parts[0]].kind.structure
        self.names = tuple(self.rule.hyper)
        self.raw: tuple[Any, ...] = ()

    def fits(self, multipliers: list[float]) -> bool:
        """Give the plan what has changed; tell whether that is only the size of numbers."""
        group = self.group
        raw = (*map(group.__getitem__, self.names), group.get("initial_lr"))
        if len(raw) == len(self.raw) and all(map(is_, raw, self.raw)):
            return True
        numbers = plain(group)
        values = self.rule.values(numbers)
        if structure(self.rule, values) != self.structure:
            return False
        multiplier = multiplier_of(numbers)
        for part in self.parts:
            self.plan.value(part, values)
            multipliers[part] = multiplier
        # What a tensor holds may change while it stays the same.
        self.raw = () if any(isinstance(x, Tensor) for x in raw) else raw
        return True


class _Singles:
    """Tensors that hold one number each, read and written all at once."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        kind = TYPES[tensors[0].dtype]
        self.places = Places(tensors)
        self.numbers = np.zeros(len(tensors))
        self.given = self.places.places.ctypes.data, len(tensors), self.numbers.ctypes.data
        self.reader, self.writer = machine.reader(kind), machine.writer(kind)

    def read(self) -> np.ndarray:
        """Return the numbers, in float64, in an array of which the next call makes use again."""
        self.places.read()
        self.reader(*self.given)
        return self.numbers

    def write(self, numbers: Any) -> None:
        """Write a number to each, where `read` has found them."""
        self.numbers[:] = np.reshape(numbers, -1)
        self.writer(*self.given)


def _entries(states: Iterable[dict[str, Any]]) -> Iterator[Any]:
    return chain.from_iterable(map(dict.values, states))


def _laid_out_otherwise(p: Tensor, g: Tensor) -> bool:
    return g.stride() != p.stride() or g.is_neg() or g.is_conj()


@torch.no_grad()
def _as_laid_out(p: Tensor, g: Tensor) -> Tensor:
    return torch.empty_like(p, dtype=g.dtype).copy_(g)


def _with_layout(row: Row) -> Row:
    """Return a row whose gradient is laid out as its parameter."""
    p, g = row.parameter, row.gradient
    if g.layout is torch.strided and _laid_out_otherwise(p, g):
        return row._replace(gradient=_as_laid_out(p, g))
    return row


def refuse_overlap(optimizer: Any, tensors: Sequence[Tensor]) -> None:
    """Refuse parameters that share memory: each step would move it more than once.

    Raises:
        InputError: two tensors overlap.
    """
    if len(tensors) < 2:
        return
    starts = np.array([x.data_ptr() for x in tensors], np.int64)
    ends = starts + np.array([_extent(x) for x in tensors], np.int64)
    order = np.lexsort((ends, starts))
    starts, ends = starts[order], ends[order]
    known = starts != ends
    reached = np.maximum.accumulate(ends[known])[:-1]
    if (starts[known][1:] < reached).any():
        raise InputError(
            f"the parameters of {optimizer.rule.title}",
            "lie apart in memory",
            "parameters, or states, that overlap",
            "Pass a tensor that is used in several places once.",
        )


def _extent(x: Tensor) -> int:
    if x.is_contiguous():
        return x.numel() * x.element_size()
    if x.numel() == 0:
        return 0
    reach = 1 + sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return reach * x.element_size()
