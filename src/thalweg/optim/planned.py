"""A step that was planned once: which tensors the kernels move, checked anew before every step.

Nothing that may have changed is remembered unchecked: every step looks at the tensors that are there, at
their types, sizes, layouts and addresses, and at the hyperparameters of the groups. What no longer fits is
planned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, is_
from typing import Any

import numpy as np
import torch
import torch.optim.optimizer as torch_hooks
from torch import Tensor

from thalweg.backends import eager, kernels, machine
from thalweg.backends.kinds import Kind, kind_of, structure
from thalweg.backends.plan import QUIET, Plan
from thalweg.backends.rounding import salts
from thalweg.backends.symbols import Untraceable
from thalweg.backends.tensors import Likeness
from thalweg.errors import ThalwegError
from thalweg.optim import scalars
from thalweg.optim.overlap import place_of, refuse_overlap
from thalweg.optim.places import Tensors, places_of, with_layout
from thalweg.optim.rows import multiplier_of, plain, rows_of
from thalweg.rules.tail import Row

_gradient: Any = attrgetter("grad")
_profiled: Any = getattr(torch.autograd, "_profiler_enabled")  # noqa: B009
MOST = 4  # plans that are kept
FRUITLESS, PAUSE = 8, 64  # plans in a row, each for one step, before steps are eager, and until plans again
UNREMARKED = eager.Advanced({}, False, eager.NEVER)


def watched(optimizer: Any) -> bool:
    """Tell whether hooks or a profiler want to know of a step."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_hooks._global_optimizer_pre_hooks
        or torch_hooks._global_optimizer_post_hooks
        or _profiled()
    )


def nothing() -> tuple[Planned | None, list[Planned]]:
    """Return what an optimizer has planned before its first step: the step, and earlier ones."""
    return None, []


def advanced(optimizer: Any) -> eager.Advanced:
    """Move all parameters of an optimizer by one step, as one was planned, or is to be planned now."""
    latest, others = optimizer.planned, optimizer.planned_before
    done: eager.Advanced | None = None if latest is None else latest.moved(optimizer)
    if done is not None:
        latest.new_in_a_row = -1
        if latest.makeshift:
            optimizer.planned = None
        return done
    for plan in others:
        done = plan.moved(optimizer)
        if done is not None:
            plan.new_in_a_row = -1
            others.remove(plan)
            if not plan.makeshift:
                _put_first(optimizer, plan)
            return done
    return _planned_anew(optimizer)


def _put_first(optimizer: Any, plan: Planned) -> None:
    """Keep the plans used last: of parameters that have gradients in turns, each turn has its own."""
    before = [optimizer.planned, *optimizer.planned_before]
    optimizer.planned_before = [x for x in before if x is not None and not x.stale][: MOST - 1]
    optimizer.planned = plan


def _planned_anew(optimizer: Any) -> eager.Advanced:
    # A plan that lives for one step costs more than it saves.
    in_a_row = optimizer.planned.new_in_a_row + 1 if optimizer.planned else 0
    plan = Planned(optimizer, compiled=in_a_row < FRUITLESS)
    plan.new_in_a_row = in_a_row % PAUSE
    _put_first(optimizer, plan)
    done = plan.moved(optimizer)
    if done is None:
        raise ThalwegError(
            f"{optimizer.rule.title} must find its parameters at rest in a step; got other ones meanwhile. "
            "Do not change them from another thread."
        )
    return done


class Planned:
    """The next steps of an optimizer, for as long as `moved` finds everything as it was.

    Args:
        optimizer: whose parameters have gradients. It is not held, and neither are gradients.
        compiled: whether kernels may be used.

    Raises:
        InputError: parameters overlap, or a gradient is of a kind that a rule cannot take.
    """

    @torch.no_grad()
    def __init__(self, optimizer: Any, compiled: bool = True) -> None:
        self.stale = False  # whether it will not fit again
        self.makeshift = not compiled  # if it serves twice, the next step is planned in earnest
        self.new_in_a_row = 0  # how many plans before it served one step each; −1: it has served two itself
        rows, _, parameters = rows_of(optimizer)
        refuse_overlap(optimizer, parameters)
        self.idle = [p for group in optimizer.param_groups for p in group["params"] if p.grad is None]
        self.known = [list(group["params"]) for group in optimizer.param_groups]
        compiled = compiled and optimizer.execution.backend in ("auto", "kernels")
        chosen = _chosen(optimizer, rows) if compiled else []
        self.tensors: Tensors | None = None
        if chosen:
            try:
                self._lay_out(
                    optimizer, [rows[place] for place in chosen], [parameters[place] for place in chosen]
                )
            except Untraceable:  # by the compiler
                chosen = []
        taken = set(chosen)
        rest = [p for place, p in enumerate(parameters) if place not in taken]
        self.rest = set(map(id, rest))
        self.rest_parameters = rest
        self.rest_kinds = Likeness(_with_gradients(rest))
        self.where: list[int] = []
        self.other = _other(optimizer.execution.backend, optimizer.execution.stochastic_rounding, rest)

    def _lay_out(self, optimizer: Any, rows: list[Row], parameters: list[Tensor]) -> None:
        ready = [with_layout(row) for row in rows]
        self.plan = plan = Plan(ready, scalars.shared(optimizer), *optimizer.execution[:2])
        self.tensors = Tensors(
            optimizer,
            plan,
            [rows[place] for place in plan.order],
            [parameters[place] for place in plan.order],
        )
        self.ends = np.cumsum([part.count for part in plan.parts])[:-1].tolist()
        self.groups = [
            _Group(optimizer, plan, place) for place in dict.fromkeys(p.kind.family.group for p in plan.parts)
        ]
        self.multipliers = [1.0] * len(plan.parts)

    @property
    def words(self) -> str:
        """Which backend moves which parameters, in words."""
        by_kernels = 0 if self.tensors is None else len(self.tensors.parameters)
        how = "eager operations" if self.other is eager.advance else "one compiled graph"
        parts = [f"{by_kernels} by compiled kernels"] * bool(by_kernels)
        parts += [f"{len(self.rest)} by {how}"] * bool(self.rest)
        return f"Parameters moved: {', '.join(parts) or 'none'}."

    def moved(self, optimizer: Any) -> eager.Advanced | None:
        """Move everything by one step; return None, with nothing touched, if it must be planned anew."""
        groups = optimizer.param_groups
        self.stale = True  # unless it is merely other parameters' turn
        if len(groups) != len(self.known):
            return None
        for group, known in zip(groups, self.known, strict=True):
            now = group["params"]
            if len(now) != len(known) or not all(map(is_, now, known)):
                return None
        turn = not any(p.grad is not None for p in self.idle)
        turn = turn and self.rest_kinds.holds(_with_gradients(self.rest_parameters))
        if self.tensors is None:
            self.stale = False
            return self._rest_moved(optimizer) if turn else None
        if not self.tensors.fit(optimizer):
            return None
        gradients = self.tensors.gradients()
        if gradients is None or not turn:
            self.stale = False
            return None
        for group in self.groups:
            if not group.fits(groups, self.multipliers):
                return None
        self.stale = False
        if self.rest:
            self._rest_moved(optimizer)
        self.plan.point(self.tensors.places.places, self.tensors.gradient_places.read(gradients))
        done = self._stepped(optimizer, self.tensors)
        if done.skipped is eager.NEVER or not done.skipped:
            torch.autograd.graph.increment_version(self.tensors.versioned)
        return done

    def _stepped(self, optimizer: Any, tensors: Tensors) -> eager.Advanced:
        plan, counts = self.plan, tensors.steps.read()
        if plan.stochastic:
            plan.salt(counts, tensors.order)
        if tensors.steps.alike:
            ts: list[Any] = [int(counts[0]) + 1] * len(plan.parts)
        else:
            ts = [part[:, None] + 1 for part in np.split(counts, self.ends)]
        done = plan.step(
            ts,
            self.multipliers,
            {key: single.read()[:, None] for key, single in tensors.singles},
            scalars.shared(optimizer) if optimizer.shares else {},
            1.0,
            torch.get_num_threads(),
        )
        if done.skipped:
            return eager.Advanced(done.shared, done.clipped, torch.tensor(True))
        counts += 1
        tensors.steps.write(counts)
        if done is QUIET:
            return UNREMARKED
        for key, single in tensors.singles:
            if key in done.singles:
                single.write(done.singles[key])
        return eager.Advanced(done.shared, done.clipped, eager.NEVER)

    @torch.no_grad()
    def _rest_moved(self, optimizer: Any) -> eager.Advanced:
        rows, counts, parameters = rows_of(optimizer, self.rest)
        written = [x for row in rows for x in (row.parameter, *row.state)]
        if self.tensors is not None:
            written += self.tensors.fixed
        where = [place_of(x) for x in written]
        if where != self.where:
            refuse_overlap(optimizer, written)
            self.where = where
        if (dtype := optimizer.execution.state_dtype) is not None:
            rows = [row._replace(gradient=row.gradient.to(dtype)) for row in rows]
        more: dict[str, Any] = {}
        if optimizer.execution.stochastic_rounding:  # which eager operations alone can do beside kernels
            steps = np.array([count.item() for count in counts])
            more["salts"] = salts(steps, places_of(optimizer, parameters)).tolist()
        done = self.other(rows, scalars.shared(optimizer), **more)
        if done.skipped is eager.NEVER or not done.skipped:
            for count in counts:
                count += 1
        return done


def _chosen(optimizer: Any, rows: Sequence[Row]) -> list[int]:
    """Return the places of rows that kernels can move: all or none where something sees all at once."""
    found: dict[Any, list[int]] = {}
    kinds: dict[Any, Kind] = {}
    for place, row in enumerate(rows):
        try:
            kind = kind_of(with_layout(row), optimizer.execution.state_dtype)
        except Untraceable:
            key = None
        else:
            key = kind.key
            kinds.setdefault(key, kind)
        found.setdefault(key, []).append(place)
    if not machine.available():
        return []
    shared = scalars.shared(optimizer)
    traceable = [k for k, kind in kinds.items() if kernels.traceable(kind, rows[found[k][0]].values, shared)]
    chosen = sorted(place for key in traceable for place in found[key])
    together = any(row.rule.transforms or row.rule.partial for row in rows)
    return [] if together and len(chosen) < len(rows) else chosen


def _other(backend: str, stochastic: bool, rest: Sequence[Tensor]) -> Callable[..., eager.Advanced]:
    """Return what moves the parameters that kernels do not."""
    if stochastic:
        return eager.advance
    if backend == "compiled" or (backend == "auto" and any(p.device.type == "cuda" for p in rest)):
        from thalweg.backends import compiled  # whose imports take half a second

        return compiled.advance
    return eager.advance


def _with_gradients(parameters: Sequence[Tensor]) -> list[Any]:
    return [x for p in parameters for x in (p, p.grad)]


class _Group:
    """The hyperparameters of a group, as the parts of a plan were given them last."""

    def __init__(self, optimizer: Any, plan: Plan, place: int) -> None:
        self.place = place
        self.rule = optimizer.rule_of(optimizer.param_groups[place])
        self.plan = plan
        self.parts = [i for i, part in enumerate(plan.parts) if part.kind.family.group == place]
        self.structure = plan.parts[self.parts[0]].kind.structure
        self.names = tuple(self.rule.hyper)
        self.raw: tuple[Any, ...] = ()

    def fits(self, groups: Sequence[Any], multipliers: list[float]) -> bool:
        """Give the plan what has changed; tell whether that is only the size of numbers."""
        group = groups[self.place]
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
        self.raw = () if any(isinstance(x, Tensor | list) for x in raw) else raw
        return True
