"""One step of any rules, put together from their parts: what every backend runs.

Order: what wrappers do to the gradients → sign and L2 → body → decay → step. What wrappers do to direction
and parameters is part of the rule that they return.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from thalweg.rules.base import Clock, Decay, Rule, State, Surroundings, Values, nonzero, own_axes
from thalweg.rules.ops import Array, gather, in_float64, spread, total, where


class Row(NamedTuple):
    """One parameter that is about to move."""

    rule: Rule
    parameter: Array
    gradient: Array
    state: State
    t: Array  # the number of this step of this parameter, from 1; (K,) where replicas differ
    values: Values  # hyperparameters: numbers, or (K,) in float64
    replicas: bool = False  # whether axis 0 of the parameter counts replicas
    multiplier: Array = 1.0  # what of values.lr is a schedule's doing
    group: int = 0  # the parameter group, for what is done group by group


class Transformed(NamedTuple):
    """What a wrapper made of the gradients of all rows."""

    rows: list[Row]
    clipped: Array = False  # whether any was shortened; (K,) where replicas differ
    skipped: Array = False  # whether this step is not to happen at all; (K,) where replicas differ


class Step(NamedTuple):
    """A step of all rows. `moved(row)` is pure: nothing happens in place."""

    rows: list[Row]  # in the order in which they were given; a state may be newer
    shared: Mapping[str, Any]  # the global scalars of rules with global scope, by the rule's name
    clipped: Array
    skipped: Array
    factor: Array

    def moved(self, row: Row) -> tuple[Array, State]:
        """Return the new parameter and the new state of one of `rows`."""
        p, s = _moved(row, self.shared.get(row.rule.name), self.factor)
        return _held(self.skipped, row.parameter, p), _held_state(self.skipped, row.state, s)


def step(rows: Iterable[Row], shared: Mapping[str, Any] | None = None, factor: Array = 1.0) -> Step:
    """Return the step of all rows, ready to be asked row by row.

    Args:
        rows: all parameters that have a gradient, of one rule or several.
        shared: the global scalars of rules with global scope, as the step before left them.
        factor: what the schedule multiplies the rate with; a number or (K,).
    """
    ready, clipped, skipped = list(rows), False, False
    for transform in {id(x): x for row in ready for x in row.rule.transforms}.values():
        ready, shortened, refused = transform(ready)
        clipped, skipped = clipped | shortened, skipped | refused
    shared = dict(shared or {})
    for rule in {row.rule.name: row.rule for row in ready if row.rule.partial}.values():
        ready, shared[rule.name] = _reduced(rule, ready, shared[rule.name], factor, skipped)
    return Step(ready, shared, clipped, skipped, factor)


def _moved(row: Row, shared: Any, factor: Array) -> tuple[Array, State]:
    rule, p = row.rule, row.parameter
    h, c, g = prepared(row, shared, factor)
    d, s = rule.direction(p, g, row.state, h, c)
    rate = row.values.lr * factor
    if rule.tail is not None:
        return rule.tail(p, d, s, h, c, spread(rate, p))
    if rule.decays(h) is Decay.DECOUPLED and nonzero(row.values.weight_decay):
        p = p * spread(1 - rate * row.values.weight_decay, p)
    return p - spread(rate, p) * d, s


def _held(skipped: Array, old: Array, new: Array) -> Array:
    """Return the old where a step is not to happen, bit for bit, else the new."""
    if skipped is False:  # nobody asked
        return new
    return where(spread(skipped, old) > 0, old, new.reshape(old.shape))


def _held_state(skipped: Array, old: State, new: State) -> State:
    return type(new)(*(_held(skipped, x, y) for x, y in zip(old, new, strict=True)))


def _reduced(
    rule: Rule, rows: list[Row], shared: Any, factor: Array, skipped: Array
) -> tuple[list[Row], Any]:
    """Add up what a rule with global scope wants to know of all its rows; return them with new states."""
    assert rule.partial is not None
    assert rule.combine is not None
    ready, sums, values = list(rows), [], None
    for place, row in enumerate(rows):
        if row.rule.name != rule.name:
            continue
        h, c, g = prepared(row, shared, factor)
        part, state = rule.partial(row.parameter, g, row.state, h, c)
        sums.append(type(part)(*(gather(x, row.replicas) for x in part)))
        ready[place], values = row._replace(state=_held_state(skipped, row.state, state)), row.values
    added = type(sums[0])(*(total(list(column)) for column in zip(*sums, strict=True)))
    combined = rule.combine(shared, added, values)
    if skipped is False:
        return ready, combined
    return ready, type(combined)(*(where(skipped, x, y) for x, y in zip(shared, combined, strict=True)))


def prepared(row: Row, shared: Any = None, factor: Array = 1.0) -> tuple[Values, Clock, Array]:
    """Return what a body receives: hyperparameters, clock, and the gradient with its sign and L2."""
    rule, p, g, h = row.rule, row.parameter, row.gradient, row.values
    around = Surroundings(own_axes(p, row.replicas), shared, h.lr * factor, row.multiplier * factor)
    c = spread(rule.clock(in_float64(row.t), h, around), p)
    h = spread(h, p)
    if h.maximize:
        g = -g
    if rule.decays(h) is Decay.L2 and nonzero(row.values.weight_decay):
        g = g + h.weight_decay * p
    return h, c, g


def refreshed(row: Row, diagonal: Array) -> State:
    """Return the state of a row that takes in the diagonal of the Hessian, as a driver measured it."""
    assert row.rule.refresh is not None
    h, c, _ = prepared(row)
    return row.rule.refresh(row.state, diagonal, h, c)
