"""A squad: those replicas of a stack that one rule moves together, each with hyperparameters of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.backends import compiled, eager
from thalweg.backends.kinds import structure
from thalweg.optim import RuleOptimizer
from thalweg.optim.rows import plain
from thalweg.rules.base import Rule, State, Values
from thalweg.rules.ops import spread
from thalweg.rules.tail import Row, refreshed
from thalweg.training.fleet.laid_out import LaidOut, Named
from thalweg.training.fleet.numbers import alike, at, chosen, in_torch, one_each, stacked


class Group(NamedTuple):
    """The parameters that one rule of a squad moves, and its hyperparameters: numbers, or (k,) in float64."""

    rule: Rule
    names: tuple[str, ...]
    values: Values


def likeness(optimizer: RuleOptimizer) -> Any:
    """Return what optimizers must have in common to move replicas together: all but how large numbers are."""
    groups = []
    for group in optimizer.param_groups:
        rule = optimizer.rule_of(group)
        shape = structure(rule, rule.values(plain(group)))
        groups.append((rule.name, shape, len(group["params"])))
    return type(optimizer), tuple(a.wrapper.name for a in optimizer.wrappers), tuple(groups)


class Squad:
    """Replicas of one structure, with their states.

    Args:
        optimizers: one a replica, alike by `likeness`, made of one model: they tell rules and values, and
            step nothing themselves.
        names: of that model's parameters, by their ids.
        where: the places of the replicas in the stack.
        weights: the stack, by name.
    """

    def __init__(
        self,
        optimizers: Sequence[RuleOptimizer],
        names: Mapping[int, str],
        where: np.ndarray,
        weights: Named,
    ) -> None:
        first = optimizers[0]
        self.where, self.rule = where, first.own
        self.groups = [
            Group(
                rule := first.rule_of(group),
                tuple(names[id(p)] for p in group["params"]),
                stacked(rule, [rule.values(plain(o.param_groups[place])) for o in optimizers]),
            )
            for place, group in enumerate(first.param_groups)
        ]
        self.states: dict[str, State] = {}
        self._shapes = {name: weights[name][:1].shape for name in weights}
        for rule, own, values in self.groups:
            for name in own:
                mine = self.mine(weights[name])
                self.states[name] = rule.initial(mine, in_torch(values, mine), replicas=True)
        self.counts = {name: np.zeros(len(where)) for name in self.states}
        self.shared = {
            rule.name: rule.initial_shared(values)
            for rule, _, values in self.groups
            if rule.initial_shared is not None
        }
        self.skipped, self.skipped_in_a_row = np.zeros(len(where), int), np.zeros(len(where), int)
        self._planned: dict[Any, LaidOut] = {}

    @property
    def size(self) -> int:
        """How many replicas there are."""
        return len(self.where)

    @property
    def skips(self) -> bool:
        """Whether steps are left out whose gradients are not finite."""
        return "skip_nonfinite_limit" in self.rule.hyper

    @property
    def every(self) -> int:
        """After how many steps curvature is measured anew."""
        return int(self.groups[0].values.update_every)

    @property
    def limit(self) -> int | None:
        """How many steps in a row may be left out; None: none ever is."""
        return int(self.groups[0].values.skip_nonfinite_limit) if self.skips else None

    @property
    def two_faced(self) -> bool:
        """Whether there are weights to evaluate with beside those that are trained."""
        return any(group.rule.evaluated is not None for group in self.groups)

    def mine(self, stack: Tensor) -> Tensor:
        """Return what a stack holds for these replicas: a view where they lie side by side, else a copy."""
        first, count = int(self.where[0]), self.size
        if int(self.where[-1]) == first + count - 1:  # they are in order
            return stack[first : first + count]
        return stack[torch.from_numpy(self.where).to(stack.device)]

    # The step.

    def step(
        self, weights: Named, gradients: Named, factors: np.ndarray, threads: int, own: bool = False
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Move the weights of these replicas by one step.

        Args:
            weights: the stack, by name.
            gradients: of the whole stack; those that are missing are of parameters that stay.
            factors: what the schedule multiplies each rate with, (k,).
            threads: how many to use.
            own: whether the gradients are of these replicas alone.

        Returns:
            whether gradients were clipped, and whether steps were left out, (k,); None: none.
        """
        if torch.device(next(iter(weights.values())).device).type != "cpu":
            return self._by_torch(weights, gradients, factors, own, list(gradients), compiled.advance)
        key = (*gradients, own)
        if key not in self._planned:
            self._planned[key] = LaidOut(self, weights, gradients)
        planned = self._planned[key]
        said: list[tuple[Any, Any]] = []
        if planned.rest:
            said.append(self._by_torch(weights, gradients, factors, own, planned.rest, eager.advance))
        if planned.plan is not None:
            said.append(self._by_kernels(planned, weights, gradients, factors, own, threads))
        clipped, skipped = said[-1]  # where they are asked for, one backend moves all
        if self.skips:
            missed = np.broadcast_to(False if skipped is None else np.asarray(skipped, bool), self.size)
            self.skipped_in_a_row = np.where(missed, self.skipped_in_a_row + 1, 0)
            self.skipped = self.skipped + missed
        return clipped, skipped

    def _by_torch(
        self, weights: Named, gradients: Named, factors: np.ndarray, own: bool, names: Sequence[str], how: Any
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        given = {n: self.mine(weights[n]) for n in names}
        slopes = {n: gradients[n] if own else self.mine(gradients[n]) for n in names}
        device = next(iter(given.values())).device
        shared = {n: type(x)(*(torch.as_tensor(y) for y in x)) for n, x in self.shared.items()}
        rows = list(self.rows(given, slopes))
        done = how(rows, shared, torch.as_tensor(factors, dtype=torch.float64, device=device))
        skipped = one_each(done.skipped, self.size) if done.skipped is not eager.NEVER else None
        for name in names:
            if not _within(given[name], weights[name]):  # a copy, as they do not lie side by side
                weights[name][torch.from_numpy(self.where).to(device)] = given[name]
            self.counts[name] += 1 if skipped is None else ~skipped
        self.shared = {n: type(x)(*(one_each(y, self.size) for y in x)) for n, x in done.shared.items()}
        return (None if done.clipped is False else one_each(done.clipped, self.size)), skipped

    def rows(self, weights: Named, gradients: Named) -> Iterator[Row]:
        """Return the rows of a step: weights and gradients are those of these replicas alone."""
        for place, (rule, names, values) in enumerate(self.groups):
            for name in names:
                if name in gradients:
                    own = in_torch(values, weights[name])
                    t = torch.as_tensor(self.counts[name] + 1)
                    yield Row(
                        rule, weights[name], gradients[name], self.states[name], t, own, True, 1.0, place
                    )

    def _by_kernels(
        self,
        planned: LaidOut,
        weights: Named,
        gradients: Named,
        factors: np.ndarray,
        own: bool,
        threads: int,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        planned.point(self, weights, gradients, own)
        done = planned.step(self, alike(factors), threads)
        if done.skipped is not None:
            skipped = one_each(done.skipped, self.size)
        else:
            skipped = None
        if skipped is None:
            planned.counts += 1
        else:
            planned.counts += ~skipped
        if done.shared:
            self.shared = dict(done.shared)
        clipped = None if done.clipped is False else one_each(done.clipped, self.size)
        return clipped, skipped

    # What surrounds it.

    def offsets(self, weights: Named, gradients: Named) -> dict[str, Tensor]:
        """Return where parameters move for a second gradient; all given is of these replicas alone."""
        assert self.rule.offset is not None
        rows = list(self.rows(weights, gradients))
        return dict(zip(self._in_turn(gradients), self.rule.offset(rows), strict=True))

    def refresh(self, weights: Named, diagonal: Named) -> None:
        """Let the states take in an estimate of the diagonal of the Hessian; none that is not finite."""
        finite = torch.ones(self.size, dtype=torch.bool)
        if self.skips:
            for x in diagonal.values():
                finite &= x.isfinite().flatten(1).all(1).cpu()
        for row, name in zip(self.rows(weights, diagonal), self._in_turn(diagonal), strict=True):
            for old, new in zip(row.state, refreshed(row, diagonal[name]), strict=True):
                chosen = finite.view(-1, *(1,) * (old.ndim - 1)).to(old.device)
                old.copy_(torch.where(chosen, new.reshape(old.shape), old))

    def _in_turn(self, named: Named) -> list[str]:
        return [name for group in self.groups for name in group.names if name in named]

    def evaluated(self, weights: Named) -> dict[str, Tensor]:
        """Return the weights to evaluate with, where they differ; weights of these replicas alone."""
        found = {}
        for rule, names, values in self.groups:
            if rule.evaluated is not None:
                for name in names:
                    mine = weights[name]
                    found[name] = rule.evaluated(
                        mine, self.states[name], spread(in_torch(values, mine), mine)
                    )
        return found

    def state_bytes(self, own: int) -> int:
        """Return how many bytes the optimizer of one replica remembers: none of what never moves."""
        kept = [
            x
            for rule, names, _ in self.groups
            for name in names
            if rule.state_at_once or self.counts[name][own]
            for x in self.states[name]
        ]
        return int(sum(x.nbytes for x in kept)) // self.size

    def state_of(self, own: int) -> list[tuple[str, Tensor]]:
        """Return the state of one replica as `state_dict` of its optimizer names it: place, dot, buffer."""
        found = []
        at_once = {name for rule, names, _ in self.groups if rule.state_at_once for name in names}
        for place, (name, state) in enumerate(self.states.items()):
            if not self.counts[name][own] and name not in at_once:
                continue
            found.append((f"{place}.step", torch.tensor(float(self.counts[name][own]))))
            for field, x in zip(state._fields, state, strict=True):
                single = x.shape[1:] != self._shapes[name][1:] and x[own].numel() == 1
                found.append((f"{place}.{field}", x[own].reshape(()) if single else x[own]))
        return found

    def scalars_of(self, own: int) -> list[tuple[str, Tensor]]:
        """Return the numbers of one replica that are not one a parameter, by name."""
        numbers = {
            name: np.broadcast_to(np.asarray(x, float), self.size)[own]
            for record in self.shared.values()
            for name, x in record._asdict().items()
        }
        if self.skips:
            numbers |= {"skipped_steps": self.skipped[own], "skipped_in_a_row": self.skipped_in_a_row[own]}
        return [(name, torch.tensor(float(x), dtype=torch.float64)) for name, x in numbers.items()]

    def restore(self, own: int, state: Named, scalars: Named) -> None:
        """Put back what `state_of` and `scalars_of` returned."""
        for place, name in enumerate(self.states):
            if f"{place}.step" in state:
                self.counts[name][own] = state[f"{place}.step"].item()
            for field, x in zip(self.states[name]._fields, self.states[name], strict=True):
                if f"{place}.{field}" in state:
                    x[own] = state[f"{place}.{field}"].reshape(x[own].shape)
        for rule, record in self.shared.items():
            columns = {n: np.array(np.broadcast_to(x, self.size), float) for n, x in record._asdict().items()}
            for name, column in columns.items():
                if name in scalars:
                    column[own] = scalars[name].item()
            self.shared[rule] = type(record)(**columns)
        if "skipped_steps" in scalars:
            self.skipped[own] = int(scalars["skipped_steps"].item())
            self.skipped_in_a_row[own] = int(scalars["skipped_in_a_row"].item())

    def drop(self, kept: np.ndarray, where: np.ndarray) -> None:
        """Keep only these of the replicas; they lie elsewhere now."""
        places = torch.from_numpy(kept)
        self.where = where
        self.groups = [g._replace(values=chosen(g.values, kept)) for g in self.groups]
        self.states = {
            n: type(s)(*(x.index_select(0, places.to(x.device)) for x in s)) for n, s in self.states.items()
        }
        self.counts = {n: x[kept] for n, x in self.counts.items()}
        self.shared = {n: type(x)(*(at(y, kept) for y in x)) for n, x in self.shared.items()}
        self.skipped, self.skipped_in_a_row = self.skipped[kept], self.skipped_in_a_row[kept]
        self._planned = {}


def _within(x: Tensor, stack: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == stack.untyped_storage().data_ptr()
