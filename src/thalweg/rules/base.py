"""What a rule is: a method of gradient descent, written once.

A `Rule` is a value. Its heart is the *body*, a pure function

    direction(p, g, s, h, c) -> (d, s')

of the parameter p, the gradient g, the state s of that parameter, the hyperparameters h and the
scalars c of this step. It returns the direction d, which the tail turns into a step, and the new
state. The same text runs on NumPy arrays, on torch tensors (with or without a leading replica axis),
and is what the compiled backends compile: there is no second formula.

Hyperparameters reach the body as plain numbers or as arrays with one number a replica, already spread
so that they broadcast against p. Flags, choices, whole numbers, and whether a number is zero decide the
*structure* (which state there is, how often a loop runs): they are the same for all replicas of one call.

The names of a body's local variables (`m`, `v_hat`, …) are public: a hand trace shows them.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from thalweg.errors import InputError
from thalweg.hyper import Flag, Hyperparameter, check_all
from thalweg.rules.about import About
from thalweg.rules.ops import Array, zeros_like

State = Any  # a NamedTuple of arrays; the field names are PyTorch's where PyTorch has the method
Values = Any  # a NamedTuple with one field a hyperparameter
Clock = Any  # a NamedTuple of what depends on the step alone, or on `Surroundings`


class Scope(Enum):
    """How much a body must see at once."""

    ELEMENT = "element"  # every element on its own: Adam
    TENSOR = "tensor"  # one whole parameter: LAMB, Muon
    GLOBAL = "global"  # all parameters, through sums: Prodigy


class Decay(Enum):
    """What a rule does with its `weight_decay` λ."""

    L2 = "L2"  # g ← g + λθ before the body: part of the gradient
    DECOUPLED = "decoupled"  # θ ← (1 − γλ)θ in the tail, γ the scheduled rate: PyTorch's AdamW
    OWN = "own"  # the body or the rule's own tail deals with it: LAMB


class Curvature(Enum):
    """What a driver measures for a rule that has `refresh`."""

    HUTCHINSON = "u ⊙ Hu for random signs u"  # Sophia-H
    SAMPLED = "examples × ĝ², ĝ the gradient for labels drawn from the model"  # Sophia-G


class Surroundings(NamedTuple):
    """What a clock may pass on to the body beside the step count."""

    axes: tuple[int, ...]  # the parameter's own, see `own_axes`
    shared: Any  # the global scalars of a rule with global scope, else None
    rate: Array  # lr × the schedule's factor
    multiplier: Array  # the schedule's factor alone: 1 at the peak of a schedule that starts from lr


def own_axes(p: Array, replicas: bool) -> tuple[int, ...]:
    """Return the axes of one parameter, counted from the end: never the replica axis."""
    return tuple(range(-(p.ndim - replicas), 0))


class Nothing(NamedTuple):
    """The state or clock of a rule that has none."""


def no_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    """Return nothing: the body does not depend on the step."""
    del t, h, around
    return Nothing()


def whole_step(p: Array, d: Array, s: State, h: Values, c: Clock, rate: Array) -> tuple[Array, State]:
    """Subtract the direction as it is: the tail of a rule whose body has the rate in it."""
    del h, c, rate
    return p - d, s


def unit_axes(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the own axes of one unit of a parameter: all but the first, or all of a vector."""
    return axes[1:] if len(axes) > 1 else axes


def no_conflict(values: Mapping[str, Any]) -> None:
    """Accept any combination of valid values."""
    del values


@cache
def _values_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Values", names)


@dataclass(frozen=True)
class Rule:
    """A method of gradient descent as a value.

    Only `name`, `title`, `formula`, `source`, `hyper`, `state` and `direction` are always there; every
    other field has the meaning that it leaves most rules as they are.
    """

    name: str
    title: str
    formula: str  # what the body and the tail compute, in the letters of the field
    source: str  # paper and year, and every departure from it
    # `lr` first, then as in PyTorch's signature; `maximize` always, `weight_decay` unless decay is OWN.
    hyper: Mapping[str, Hyperparameter]
    # The NamedTuple of buffers that these hyperparameters need for a parameter of this shape.
    state: Callable[[Values, tuple[int, ...]], type]
    direction: Callable[[Array, Array, State, Values, Clock], tuple[Array, State]]
    about: About
    # Scalars that depend on the step alone: computed once per step, in float64, array-valued and
    # without branches, because t and h may hold one number a replica.
    clock: Callable[[Array, Values, Surroundings], Clock] = no_clock
    # A combination of valid values that has no meaning is refused here, in words.
    conflict: Callable[[Mapping[str, Any]], None] = no_conflict
    # The state before the first step, where it is not zeros like p: start(p, h, axes) -> s. A field may
    # hold one number a parameter: as `sum_over(…, axes)` has it, with length 1 along the own axes.
    start: Callable[[Array, Values, tuple[int, ...]], State] | None = None
    scope: Scope = Scope.ELEMENT
    decay: Decay = Decay.L2
    # A tail of its own, for the few that do not step by −rate × direction:
    # tail(p, d, s, h, c, rate) -> (p', s'). Schedule-Free, Prodigy.
    tail: Callable[[Array, Array, State, Values, Clock, Array], tuple[Array, State]] | None = None
    # The parameters to evaluate with, where they differ from those trained: evaluated(p, s, h) -> p.
    evaluated: Callable[[Array, State, Values], Array] | None = None
    # Global scope. partial(p, g, s, h, c) -> (sums, s'), a NamedTuple of what `sum_over` gives; it is added
    # up over all parameters, in float64; combine(shared, sums, h) -> shared', which the clock then passes
    # to the body. What is shared is a number, or (K,) with one a replica.
    initial_shared: Callable[[Values], Any] | None = None
    partial: Callable[[Array, Array, State, Values, Clock], tuple[Any, State]] | None = None
    combine: Callable[[Any, Any, Values], Any] | None = None
    # The diagonal of the Hessian, as a driver measures it every `update_every` steps and hands it over:
    # refresh(s, diagonal, h, c) -> s', with h and c from `tail.prepared`.
    curvature: Curvature | None = None
    refresh: Callable[[State, Array, Values, Clock], State] | None = None
    # Parameters with fewer axes are moved by AdamW: Muon takes matrices. Its rate, as a share of the rule's.
    least_axes: int = 0
    rate_beside: Callable[[Values], float] = lambda h: 1.0
    # Whether rows of a parameter without a gradient may be left as they are: embeddings.
    lazy: bool = False
    # PyTorch's class makes the state before the first step, and relies on finding it.
    state_at_once: bool = False
    # What happens to the gradients of all parameters before anything else; `rules.wrap` puts it here.
    transforms: tuple[Any, ...] = ()
    # Where each parameter moves for a second gradient: offset(rows) -> arrays. `rules.wrap` puts it here.
    offset: Callable[[list[Any]], list[Array]] | None = None

    @property
    def class_name(self) -> str:
        """The name of its classes in `thalweg.optim` and `thalweg.reference`."""
        return "".join(letter for letter in self.title if letter.isalnum())

    def values(self, given: Mapping[str, Any]) -> Values:
        """Return the hyperparameters as the record that the body receives; others are left out."""
        return _values_type(tuple(self.hyper))(**{name: given[name] for name in self.hyper})

    def defaults(self) -> dict[str, Any]:
        """Return the default of every hyperparameter."""
        return {name: declared.default for name, declared in self.hyper.items()}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters, completed by the defaults; raise `InputError` on a bad one."""
        check_all(self.title, self.hyper, given)
        complete = self.defaults() | dict(given)
        self.conflict(complete)
        return complete

    def initial(self, p: Array, h: Values, replicas: bool = False) -> State:
        """Return the state before the first step; with replicas, axis 0 of p counts them."""
        if self.start is not None:
            return self.start(p, h, own_axes(p, replicas))
        kind = self.state(h, tuple(p.shape)[replicas:])
        return kind(*(zeros_like(p) for _ in kind._fields))  # type: ignore[attr-defined]

    def state_fields(self, h: Values, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Return the names of the buffers that these hyperparameters need for such a parameter."""
        return self.state(h, shape)._fields  # type: ignore[attr-defined, no-any-return]

    def decays(self, h: Values) -> Decay:
        """Return what these hyperparameters make of the decay: PyTorch has a flag for it in NAdam, RAdam."""
        return Decay.DECOUPLED if getattr(h, "decoupled_weight_decay", False) else self.decay


def nonzero(x: Array) -> bool:
    """Tell whether a number, or any of one number a replica, is not zero: a matter of structure."""
    return bool((x != 0).any()) if hasattr(x, "any") else bool(x != 0)


def refuse_together(owner: str, must: str, got: str, do: str) -> None:
    """Raise the error of a combination that has no meaning."""
    raise InputError(owner, must, got, do)


MAXIMIZE = Flag(False, "climb instead of descending: the gradient's sign is turned first")
