"""Hand calculation: every quantity of every step of a method on a function that a person typed.

The method is not written here: its own body runs, and `recording` takes down what it computes.

>>> found = trace("w^2", "adam", start=10, steps=2, lr=0.1)
>>> [round(x, 6) for x in found.rows[0].quantities["m"] + found.rows[0].quantities["v_hat"]]
[2.0, 400.0]
>>> round(found.rows[1].next[0], 6)
9.800027
>>> found.rows[0].filled[2]
'm = 0.9*0 + 0.1*20 = 2'
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from thalweg.backends.reference import FloatArray, Reference
from thalweg.errors import InputError
from thalweg.functions.expression import Expression, parse
from thalweg.functions.outcome import outcome
from thalweg.functions.recording import Held, Notes, at, directed, element, forgotten, noted, remembered
from thalweg.hyper import Integer, Interval
from thalweg.rules import tail
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import preset
from thalweg.rules.wrap import Applied, wrapped
from thalweg.schedules import Schedule
from thalweg.schedules import parse as parse_schedule

MAX_STEPS: Final = 10_000
Numbers = tuple[float, ...]  # one a variable, in the order of `Expression.variables`
_ALL: Final = ""  # the name of the one parameter that all variables make up
_GIVEN: Final = Held(-1, np.zeros(0))  # of an array that nobody computed here


@dataclass(frozen=True)
class Row:
    """One step.

    `quantities` are the variables and states of the rule's body by their names in it, after the step: one
    number a variable, or a single one that all have in common. `clock` is what the body is given of the step
    alone, such as 1/(1 − βᵗ). A step that cannot be taken has no `direction` and no `next`.
    """

    step: int  # from 1
    parameters: Numbers  # before the step
    loss: float
    gradient: Numbers
    quantities: Mapping[str, Numbers]
    clock: Mapping[str, float]
    rate: float  # lr × the schedule's factor
    direction: Numbers
    next: Numbers  # the parameters after the step
    predicted_change: float  # gᵀΔ, of the loss; for plain descent −η‖g‖²
    change: float  # of the loss
    write: Callable[[], tuple[str, ...]] = field(repr=False, compare=False)

    @cached_property
    def filled(self) -> tuple[str, ...]:
        """Each formula with the numbers of this step in it, written when it is first asked for."""
        return self.write()


@dataclass(frozen=True)
class Trace:
    """A hand calculation; `rows` end early where the function is not defined, or the steps explode."""

    expression: Expression
    optimizer: str
    rule: Rule  # with its wrappers
    wrappers: tuple[Applied, ...]
    hyperparameters: Mapping[str, Any]
    schedule: Schedule | None
    rows: tuple[Row, ...]
    outcome: tuple[str, ...]  # sentences

    def names(self) -> list[str]:
        """Return the names of the quantities of all rows, in the order of the rule's body."""
        return list(dict.fromkeys(name for row in self.rows for name in row.quantities))

    def __str__(self) -> str:
        from thalweg.functions.trace_text import markdown  # which knows this class

        return markdown(self, self.rows, digits=7)


def trace(
    expression: Expression | str,
    optimizer: str = "sgd",
    start: float | Sequence[float] | Mapping[str, float] = 0.0,
    steps: int = 10,
    *,
    wrappers: Sequence[Applied] = (),
    schedule: Schedule | str | None = None,
    advance: Callable[[int], None] = lambda steps: None,
    **hyperparameters: Any,
) -> Trace:
    """Carry out a method step by step: θ ← θ − rate × direction, with all that leads to the direction.

    All variables together are one vector that the method moves.

    Args:
        expression: a function with one value.
        optimizer: a name of the catalogue.
        start: one number for all variables, one each in the order of `Expression.variables`, or by name.
        steps: how many, from 1 to 10,000.
        wrappers: what goes around the method, such as ``[CLIP_NORM(1.0)]``.
        schedule: what multiplies the rate; a length that it leaves open is that of the run.
        advance: is told, while it goes on, how many steps were taken since it was last told.
        hyperparameters: of the method, `lr` among them; the catalogue's values stand for the others.

    Raises:
        InputError: any of them cannot be used.

    >>> [round(row.next[0], 9) for row in trace("(w-3)^2", lr=0.1, steps=3).rows]
    [0.6, 1.08, 1.464]
    """
    f = parse(expression) if isinstance(expression, str) else expression
    if not f.is_scalar:
        raise InputError(
            "the function of a trace", "have one value", f"{len(f.parts)}: {f}", "Such as x^2 + y^2."
        )
    Integer(10, "", Interval(1, MAX_STEPS)).check("steps", "a trace", steps)
    entry = preset(optimizer)
    if entry.rule.least_axes:
        raise InputError(
            "the optimizer of a trace",
            "move a vector of variables",
            f"{optimizer}, which moves matrices",
            "Take another, such as adam.",
        )
    clash = sorted({w.wrapper.name for w in wrappers} & set(hyperparameters))
    if clash:
        raise InputError("the wrappers of a trace", "come in `wrappers`", clash[0])
    rule = wrapped(entry.rule, wrappers)
    values = rule.checked({**entry.fixed, **hyperparameters})
    shape = parse_schedule(schedule) if isinstance(schedule, str) else schedule
    shape = None if shape is None else shape.resolve(steps)
    path = Calculation(f, entry.rule, wrappers, values, _start(start, f.variables))
    with np.errstate(all="ignore"):
        rows = _rows(path, steps, shape, advance)
        said = outcome(f, rows, evaluates=rule.evaluated is not None)
    return Trace(f, optimizer, rule, tuple(wrappers), values, shape, tuple(rows), said)


def _start(start: Any, variables: Sequence[str]) -> FloatArray:
    who = "start of a trace"
    if isinstance(start, Mapping):
        if set(start) != set(variables):
            raise InputError(who, f"have a number for each of {', '.join(variables)}", ", ".join(start))
        start = [start[name] for name in variables]
    try:
        numbers = np.array(start, np.float64)
    except (TypeError, ValueError):
        raise InputError(who, "be numbers", repr(start)) from None
    if numbers.ndim == 0:
        numbers = np.full(len(variables), float(numbers))
    if numbers.shape != (len(variables),):
        raise InputError(
            who, f"be one number, or one for each of {', '.join(variables)}", f"{numbers.size} numbers"
        )
    if not np.isfinite(numbers).all():
        raise InputError(who, "be finite", start)
    return numbers


def _rows(
    path: "Calculation", steps: int, schedule: Schedule | None, advance: Callable[[int], None]
) -> list[Row]:
    rows: list[Row] = []
    while len(rows) < steps and (not rows or _finite(rows[-1].next)):
        factor = 1.0 if schedule is None else float(schedule(len(rows)))
        rows.append(path.step(factor))
        advance(1)
    # What the method received is the gradient itself, unless something changed it on the way.
    if all(row.quantities.get("g", row.gradient) == row.gradient for row in rows):
        rows = [replace(r, quantities={n: x for n, x in r.quantities.items() if n != "g"}) for r in rows]
    return rows


def _finite(numbers: Sequence[float]) -> bool:
    return bool(numbers) and all(map(math.isfinite, numbers))


class Calculation:
    """A method on its way over a function.

    Args:
        f: the function.
        rule: the method, without wrappers.
        wrappers: those around it.
        values: all hyperparameters.
        start: where it begins.
    """

    def __init__(
        self,
        f: Expression,
        rule: Rule,
        wrappers: Sequence[Applied],
        values: Mapping[str, Any],
        start: FloatArray,
    ) -> None:
        self.f, self.values, self.here, self.taken = f, values, start, 0
        self.notes = Notes()
        self.rule = directed(wrapped(noted(rule, self.notes), wrappers), self.notes)
        self.work = Reference(self.rule, values)
        self.work.states[_ALL] = self.rule.initial(start, self.work.values)

    def follow(self, other: "Calculation") -> None:
        """Go to where another one is, with its state, which must be of the same kind."""
        self.here, self.taken = other.here, other.taken
        self.work.states, self.work.times = dict(other.work.states), dict(other.work.times)

    def step(self, factor: float) -> Row:
        """Take a step and tell of it; where it cannot be taken, `next` is empty."""
        f, before = self.f, self.here
        loss, gradient = float(f(before)), f.slope(before)
        known = Row(
            self.taken + 1, _tuple(before), loss, _tuple(gradient), {}, {}, self.values["lr"] * factor,
            (), (), math.nan, math.nan, partial(_evaluated, f, before),
        )  # fmt: skip
        if not (math.isfinite(loss) and _finite(known.gradient)):
            return known
        self.notes.found.clear()
        # What came before this step is known by its numbers alone.
        states = self.work.states[_ALL]
        self.work.states[_ALL] = type(states)(*map(forgotten, states))
        there = self._second_point(gradient)
        received = gradient if there is None else f.slope(there)
        self._refresh()
        moved = self.work.step({_ALL: remembered(before)}, {_ALL: remembered(received)}, factor)[_ALL]
        self.here, self.taken = np.array(moved, np.float64), self.taken + 1
        beside = {} if there is None else {"second_point": there, "second_gradient": received}
        named, direction = beside | self._named(), self.notes.direction
        # What the method received may be the gradient itself, and needs no line of its own.
        computed = {n: x for n, x in named.items() if n != "g" or not np.array_equal(x, gradient)}
        change = self.here - before
        return replace(
            known,
            quantities={name: _tuple(np.asarray(x, np.float64)) for name, x in named.items()},
            clock=dict(self.notes.clock),
            direction=_tuple(direction),
            next=_tuple(self.here),
            predicted_change=float(gradient @ change),
            change=float(f(self.here)) - loss,
            write=lambda: _evaluated(f, before) + _filled(f, computed, direction, moved),
        )

    def _second_point(self, gradient: FloatArray) -> FloatArray | None:
        """Return where a second gradient is to be taken, which is then the one that counts (SAM)."""
        if self.rule.offset is None:
            return None
        state, h = self.work.states[_ALL], self.work.values
        row = tail.Row(self.rule, self.here, gradient, state, self.taken + 1, h)
        there: FloatArray = self.here + self.rule.offset([row])[0]
        return there

    def _refresh(self) -> None:
        """Hand over the diagonal of the Hessian, the exact one, where the method wants one now."""
        if self.rule.refresh is not None and self.taken % self.values["update_every"] == 0:
            diagonal = np.diagonal(self.f.curvature(self.here)).copy()
            self.work.refresh({_ALL: self.here}, {_ALL: remembered(diagonal)})

    def _named(self) -> dict[str, Any]:
        """Return all that has a name after a step: variables of the body, then the rest of the state."""
        found = {n: x for n, x in self.notes.found.items() if not (n == "d" and x is self.notes.direction)}
        for name, value in self.work.states[_ALL]._asdict().items():
            if self.notes.aliases.get(name) not in found:
                found[name] = value
        for shared in self.work.shared.values():
            found |= {name: np.array([float(x)]) for name, x in shared._asdict().items()}
        if self.rule.evaluated is not None:
            found["evaluated"] = self.rule.evaluated(self.here, self.work.states[_ALL], self.work.values)
        return found


def _filled(f: Expression, computed: Mapping[str, Any], direction: Any, moved: Any) -> tuple[str, ...]:
    """Write down what was computed, with its numbers: one line a quantity and variable."""
    if not any(direction is x for x in computed.values()):
        computed = {**computed, "direction": direction}
    computed = {n: x for n, x in computed.items() if not isinstance(getattr(x, "node", _GIVEN), Held)}
    lines = []
    for place, variable in enumerate(f.variables):
        known = {id(x.node): element(x, place) for x in [*computed.values(), direction]}
        for name, x in [*computed.items(), (variable, moved)]:
            own = len(f.variables) == np.size(x) > 1
            if place and not own:
                continue  # one number for all of them, written down already
            text = str(Expression((at(x.node, place, known),), f.variables))
            label = f"{name}[{variable}]" if own and x is not moved else name
            lines.append(f"{label} = {text} = {_value(np.asarray(x).reshape(-1)[place])}")
    return tuple(lines)


def _evaluated(f: Expression, here: FloatArray) -> tuple[str, ...]:
    """Write down loss and gradient with their numbers."""
    point = here.tolist()
    lines = [f"loss = {f} = {f.filled(point)} = {_value(f(here))}"]
    for name, slope in zip(f.variables, f.gradient(), strict=True):
        label = "gradient" if len(f.variables) == 1 else f"gradient[{name}]"
        text, filled = str(slope), slope.filled(point)
        middle = "" if text == filled else f" = {filled}"
        lines.append(f"{label} = {text}{middle} = {_value(slope(here))}")
    return tuple(lines)


def _value(x: Any) -> str:
    return "undefined" if np.isnan(x) else f"{float(x) + 0.0:.7g}"


def _tuple(x: Any) -> Numbers:
    return tuple(float(y) for y in x)
