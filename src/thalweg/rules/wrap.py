"""Wrappers: what goes around any rule. A rule with wrappers around it is a rule again.

Each wrapper acts at one stage of a step, so that their order is fixed, however they are listed:

    guard → transform (clip, centralise) → gradient (L2) → the rule's body → mask → decay → step
    → project (proximal) → after (averages)

Where several act at one stage, they do so in the order in which they are listed.

Calling a wrapper gives it values; `wrapped` puts it around a rule::

    >>> from thalweg.rules.cautious import CAUTIOUS
    >>> from thalweg.rules.adam import ADAM
    >>> wrapped(ADAM, [CAUTIOUS(floor=0.01)]).defaults()["cautious_floor"]
    0.01
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from thalweg.errors import InputError
from thalweg.hyper import Hyperparameter, check_all
from thalweg.rules.base import (
    Clock,
    Decay,
    Rule,
    Scope,
    State,
    Surroundings,
    Values,
    no_clock,
    no_conflict,
    refuse_together,
)
from thalweg.rules.ops import Array
from thalweg.rules.tail import Row, Transformed

Own = tuple[Array, ...]  # the buffers of one wrapper, in the order of its `fields`


@dataclass(frozen=True)
class Wrapper:
    """Something that goes around any rule; every function is pure, and reads its values from h.

    Its hyperparameters are declared by the names under which h and parameter groups hold them: the
    wrapper's name, an underscore, and the name by which a person gives it (`weight_decay` excepted).
    """

    name: str
    title: str
    formula: str
    source: str  # paper and year, and every departure from it
    use: str  # when to take it, in one line
    hyper: Mapping[str, Hyperparameter]
    # The gradients of all parameters at once, before sign and L2; guards see them as they were given.
    guard: Callable[[list[Row]], Transformed] | None = None
    transform: Callable[[list[Row]], Transformed] | None = None
    # Where each parameter moves for a second gradient, which is then the one that counts: SAM.
    offset: Callable[[list[Row]], list[Array]] | None = None
    clock: Callable[[Array, Values, Surroundings], Clock] = no_clock  # as a rule's; float64
    gradient: Callable[[Array, Array, Values, Clock], Array] | None = None  # (p, g, h, c) -> g
    mask: Callable[[Array, Array, Array, Values, Clock], Array] | None = None  # (p, g, d, h, c) -> d
    decay: Callable[[Array, Array, Values, Clock], Array] | None = None  # (p, d, h, c) -> p
    project: Callable[[Array, Values, Clock], Array] | None = None  # (p, h, c) -> p, after the step
    # after(p, own, h, c) -> (p, own)
    after: Callable[[Array, Own, Values, Clock], tuple[Array, Own]] | None = None
    fields: tuple[str, ...] = ()
    start: Callable[[Array, Values, tuple[int, ...]], Own] | None = None  # as a rule's
    evaluated: Callable[[Array, Own, Values], Array] | None = None
    scope: Scope = Scope.ELEMENT  # how much it must see at once
    conflict: Callable[[Rule], None] | None = None  # refuses rules that it cannot go around
    together: Callable[[Mapping[str, Any]], None] = no_conflict  # as a rule's `conflict`

    def __call__(self, *positional: Any, **named: Any) -> "Applied":
        """Give values, by position or name; raise `InputError` on a bad one."""
        short = {self.short(key): key for key in self.hyper}
        if len(positional) > len(short):
            raise InputError(self.name, f"take at most {len(short)} values", len(positional))
        given = dict(zip(short, positional, strict=False))
        if twice := sorted(given.keys() & named.keys()):
            raise InputError(f"{twice[0]} of {self.name}", "be given once", "two values", "Pass it by name.")
        given |= named
        check_all(self.name, {name: self.hyper[key] for name, key in short.items()}, given)
        return Applied(self, {short[name]: value for name, value in given.items()})

    def with_keys(self, values: Mapping[str, Any]) -> "Applied":
        """Give values by the names under which h holds them."""
        return self(**{self.short(key): value for key, value in values.items()})

    def short(self, key: str) -> str:
        """Return the name by which a person gives a hyperparameter."""
        return key.removeprefix(f"{self.name}_")


class Applied(NamedTuple):
    """A wrapper with values; those not given are its defaults."""

    wrapper: Wrapper
    values: Mapping[str, Any]

    def __repr__(self) -> str:
        values = ", ".join(f"{self.wrapper.short(key)}={value!r}" for key, value in self.values.items())
        return f"{self.wrapper.name}({values})"


class Clocks(NamedTuple):
    """The clock of a rule with wrappers: its own, theirs, and what its decoupled decay leaves."""

    rule: Clock
    wrappers: tuple[Clock, ...]
    kept: Array


def _record(names: tuple[str, ...]) -> Any:
    return namedtuple("State", names)


@cache
def _joined(inner: Any, names: tuple[str, ...]) -> Any:
    """Return the record of a rule's buffers followed by those of its wrappers; it remembers the former."""
    kind = _record(inner._fields + names)
    kind.inner = inner
    return kind


def wrapped(rule: Rule, applied: Sequence[Applied]) -> Rule:
    """Return the rule with wrappers around it.

    Args:
        rule: any.
        applied: wrappers with their values, in the order in which those of one stage act.

    Raises:
        InputError: one comes twice, two do the same, or one cannot go around this rule.
    """
    if not applied:
        return rule
    _refuse_bare(rule, applied)
    wrappers = [a.wrapper for a in applied]
    _refuse_two_of_a_kind(rule, wrappers)
    for wrapper in wrappers:
        if wrapper.conflict is not None:
            wrapper.conflict(rule)
    hyper = dict(rule.hyper)
    for wrapper, values in applied:
        hyper |= {n: replace(h, default=values.get(n, h.default)) for n, h in wrapper.hyper.items()}
    acting = [w for w in wrappers if w.gradient or w.mask or w.decay or w.project or w.after]
    changed = replace(
        rule,
        hyper=hyper,
        conflict=_in_turn([rule.conflict, *(w.together for w in wrappers)]),
        transforms=(*(w.guard for w in wrappers if w.guard), *(w.transform for w in wrappers if w.transform)),
        offset=next((w.offset for w in wrappers if w.offset), None),
        scope=max([rule.scope, *(w.scope for w in wrappers)], key=list(Scope).index),
        # Averages and penalties of rows that no gradient touches would stand still.
        lazy=rule.lazy and not any(w.project or w.after for w in wrappers),
        decay=Decay.OWN if any("weight_decay" in w.hyper for w in wrappers) else rule.decay,
    )
    return _around(changed, acting) if acting else changed


def _in_turn(checks: Sequence[Callable[[Mapping[str, Any]], None]]) -> Callable[[Mapping[str, Any]], None]:
    def check(values: Mapping[str, Any]) -> None:
        for each in checks:
            each(values)

    return check


def _refuse_bare(rule: Rule, given: Sequence[object]) -> None:
    for each in given:
        if not isinstance(each, Applied):
            got = each.name if isinstance(each, Wrapper) else repr(each)
            do = (
                f"Call it: {got}()."
                if isinstance(each, Wrapper)
                else "Pass what a call such as ema() returns."
            )
            raise InputError(f"the wrappers around {rule.title}", "have values", got, do)


def _refuse_two_of_a_kind(rule: Rule, wrappers: Sequence[Wrapper]) -> None:
    who = f"the wrappers around {rule.title}"
    names = [w.name for w in wrappers]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        refuse_together(who, "come once each", f"{twice[0]} twice", "Drop one.")
    if len(decays := [w.name for w in wrappers if "weight_decay" in w.hyper]) > 1:
        refuse_together(who, "have one weight_decay", " and ".join(decays), "Keep one of them.")
    if len(offsets := [w.name for w in wrappers if w.offset]) > 1:
        refuse_together(who, "take one second gradient", " and ".join(offsets), "Keep one of them.")
    faces = [rule.title] * (rule.evaluated is not None) + [w.name for w in wrappers if w.evaluated]
    if len(faces) > 1:
        refuse_together(
            who, "leave one set of weights to evaluate with", " and ".join(faces), "Keep one of them."
        )


def _around(rule: Rule, wrappers: Sequence[Wrapper]) -> Rule:
    """Return a rule whose body and tail call those of the rule and of the wrappers in turn."""
    names = tuple(f"{w.name}_{field}" for w in wrappers for field in w.fields)
    averaging = next((w for w in wrappers if w.evaluated), None)

    def split(s: State) -> tuple[State, list[Own]]:
        inner, own = s.inner(*s[: len(s) - len(names)]), []
        place = len(s) - len(names)
        for w in wrappers:
            own.append(tuple(s[place : place + len(w.fields)]))
            place += len(w.fields)
        return inner, own

    def join(inner: State, own: Sequence[Own]) -> State:
        return _joined(inner.__class__, names)(*inner, *(x for each in own for x in each))

    def start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
        inner = rule.initial(p, h, replicas=p.ndim > len(axes))
        return join(inner, [w.start(p, h, axes) if w.start else () for w in wrappers])

    def clock(t: Array, h: Values, around: Surroundings) -> Clock:
        decoupled = rule.decay is not Decay.OWN and rule.decays(h) is Decay.DECOUPLED
        kept = 1 - around.rate * h.weight_decay if decoupled else 1.0
        return Clocks(rule.clock(t, h, around), tuple(w.clock(t, h, around) for w in wrappers), kept)

    def gradient(p: Array, g: Array, h: Values, c: Clock) -> Array:
        for w, own in zip(wrappers, c.wrappers, strict=True):
            g = w.gradient(p, g, h, own) if w.gradient else g
        return g

    def partial(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Any, State]:
        assert rule.partial is not None
        inner, own = split(s)
        sums, inner = rule.partial(p, gradient(p, g, h, c), inner, h, c.rule)
        return sums, join(inner, own)

    def direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
        g = gradient(p, g, h, c)
        inner, own = split(s)
        d, inner = rule.direction(p, g, inner, h, c.rule)
        for w, mine in zip(wrappers, c.wrappers, strict=True):
            d = w.mask(p, g, d, h, mine) if w.mask else d
        return d, join(inner, own)

    def tail(p: Array, d: Array, s: State, h: Values, c: Clock, rate: Array) -> tuple[Array, State]:
        inner, own = split(s)
        for w, mine in zip(wrappers, c.wrappers, strict=True):
            p = w.decay(p, d, h, mine) if w.decay else p
        if rule.tail is not None:
            p, inner = rule.tail(p, d, inner, h, c.rule, rate)
        else:
            p = p * c.kept - rate * d
        for w, mine in zip(wrappers, c.wrappers, strict=True):
            p = w.project(p, h, mine) if w.project else p
        for place, (w, mine) in enumerate(zip(wrappers, c.wrappers, strict=True)):
            if w.after is not None:
                p, own[place] = w.after(p, own[place], h, mine)
        return p, join(inner, own)

    def refresh(s: State, diagonal: Array, h: Values, c: Clock) -> State:
        assert rule.refresh is not None
        inner, own = split(s)
        return join(rule.refresh(inner, diagonal, h, c.rule), own)

    def evaluated(p: Array, s: State, h: Values) -> Array:
        inner, own = split(s)
        if averaging is None:
            assert rule.evaluated is not None
            return rule.evaluated(p, inner, h)
        assert averaging.evaluated is not None
        return averaging.evaluated(p, own[wrappers.index(averaging)], h)

    return replace(
        rule,
        state=lambda h, shape: _joined(rule.state(h, shape), names),
        start=start,
        clock=clock,
        direction=direction,
        tail=tail,
        partial=partial if rule.partial else None,
        refresh=refresh if rule.refresh else None,
        evaluated=evaluated if averaging or rule.evaluated else None,
    )
