"""One step of any rule, put together from its parts: what every backend runs.

Order: sign and L2 → body → decay → step. Clipping, masking and averaging are wrapped around it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from thalweg.rules.base import Clock, Decay, Rule, State, Surroundings, Values, nonzero, own_axes
from thalweg.rules.ops import Array, gather, in_float64, spread


class Row(NamedTuple):
    """One parameter that is about to move."""

    parameter: Array
    gradient: Array
    state: State
    t: Array  # the number of this step of this parameter, from 1; (K,) where replicas differ
    values: Values  # hyperparameters: numbers, or (K,) in float64
    replicas: bool = False  # whether axis 0 of the parameter counts replicas


def step(rule: Rule, rows: Iterable[Row], shared: Any = None, factor: Array = 1.0) -> "Step":
    """Return the step of all rows of one rule, ready to be asked row by row; its rows are in their order.

    Args:
        rule: the method.
        rows: all parameters that have a gradient.
        shared: the global scalars of a rule with global scope, as the step before left them.
        factor: what the schedule multiplies the rate with; a number or (K,).
    """
    kept = list(rows)
    if rule.partial is None or not kept:
        return Step(rule, kept, shared, factor)
    assert rule.combine is not None
    sums, states = [], []
    for row in kept:
        h, c, g = prepared(rule, row, shared, factor)
        part, state = rule.partial(row.parameter, g, row.state, h, c)
        sums.append(type(part)(*(gather(x, row.replicas) for x in part)))
        states.append(state)
    total = type(sums[0])(*(sum(column[1:], column[0]) for column in zip(*sums, strict=True)))
    shared = rule.combine(shared, total, kept[0].values)
    return Step(rule, [r._replace(state=s) for r, s in zip(kept, states, strict=True)], shared, factor)


class Step(NamedTuple):
    """A step of one rule over all its rows. `moved(row)` is pure: nothing happens in place."""

    rule: Rule
    rows: list[Row]
    shared: Any
    factor: Array

    def moved(self, row: Row) -> tuple[Array, State]:
        """Return the new parameter and the new state of one row."""
        rule, p = self.rule, row.parameter
        h, c, g = prepared(rule, row, self.shared, self.factor)
        d, s = rule.direction(p, g, row.state, h, c)
        rate = row.values.lr * self.factor
        if rule.tail is not None:
            return rule.tail(p, d, s, h, c, spread(rate, p))
        if rule.decay is Decay.DECOUPLED and nonzero(row.values.weight_decay):
            p = p * spread(1 - rate * row.values.weight_decay, p)
        return p - spread(rate, p) * d, s


def prepared(rule: Rule, row: Row, shared: Any = None, factor: Array = 1.0) -> tuple[Values, Clock, Array]:
    """Return what a body receives: hyperparameters, clock, and the gradient with its sign and L2."""
    p, g, h = row.parameter, row.gradient, row.values
    around = Surroundings(own_axes(p, row.replicas), shared, h.lr * factor)
    c = spread(rule.clock(in_float64(row.t), h, around), p)
    h = spread(h, p)
    if h.maximize:
        g = -g
    if rule.decay is Decay.L2 and nonzero(row.values.weight_decay):
        g = g + h.weight_decay * p
    return h, c, g
