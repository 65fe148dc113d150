"""The methods in plain NumPy: the place to read and to try them, without torch.

One class a method, made from the same rule that trains networks elsewhere in Thalweg::

    >>> import numpy as np
    >>> optimizer = Adam(lr=0.1)
    >>> w = np.array(10.0)
    >>> for _ in range(2):  # minimise w²
    ...     w = optimizer.step(w, 2 * w)
    >>> round(float(w), 6)
    9.800027
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from thalweg.backends.reference import FloatArray, Reference
from thalweg.errors import InputError
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES


class ReferenceOptimizer:
    """A method at work on NumPy arrays; use one of its subclasses.

    Args:
        hyperparameters: as the rule declares them; `help(Adam)` lists them. A bad one is an
            `InputError`.
    """

    rule: ClassVar[Rule]

    def __init_subclass__(cls, rule: Rule) -> None:
        cls.rule = rule
        rows = "\n".join(
            f"    {name} = {declared.default}: {declared.meaning}" for name, declared in rule.hyper.items()
        )
        cls.__doc__ = f"{cls.__doc__}\n{rule.formula}\n\n{rows}\n\n{rule.source}"

    def __init__(self, **hyperparameters: Any) -> None:
        self.hyperparameters = self.rule.checked(hyperparameters)
        self._work = Reference(self.rule, self.hyperparameters)
        self._shapes: dict[str, tuple[int, ...]] | None = None  # of the first step

    def step(self, parameters: Any, gradients: Any, factor: float = 1.0) -> Any:
        """Return the parameters after one step; what is passed in is not changed.

        Args:
            parameters: an array or a number, or a dict, list or tuple of them.
            gradients: the same shape of things; None for a parameter that has no gradient.
            factor: what a schedule multiplies the rate with at this step.

        Raises:
            InputError: something is no real number; names or shapes do not match, or are not those of the
                first step.

        >>> SGD(lr=0.1).step([3.0, 1.0], [2.0, None])
        [array(2.8), array(1.)]
        """
        who = f"the parameters and gradients of {self.rule.title}"
        slopes = {name: None if x is None else _real(who, x) for name, x in _named(gradients).items()}
        arrays = {name: _real(who, x) for name, x in _named(parameters).items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        if self._shapes is None:
            self._shapes = shapes
        small = {name: shape for name, shape in shapes.items() if len(shape) < self.rule.least_axes}
        if small:
            raise InputError(
                f"the parameters of {self.rule.title}",
                f"have {self.rule.least_axes} axes or more",
                _words(small),
                "Move the others by another method, such as AdamW.",
            )
        if shapes != self._shapes:
            raise InputError(
                f"the parameters of {self.rule.title}",
                f"be those of the first step, {_words(self._shapes)}",
                _words(shapes),
                "Make a new optimizer for other parameters.",
            )
        if slopes.keys() != arrays.keys():
            raise InputError(
                f"the gradients of {self.rule.title}",
                f"be one for each parameter, {list(arrays)}",
                list(slopes),
                "Pass None for a parameter that has no gradient.",
            )
        for name, slope in slopes.items():
            if slope is not None and slope.shape != shapes[name]:
                raise InputError(
                    f"the gradient of parameter {name}".rstrip(),
                    f"have the parameter's shape {shapes[name]}",
                    slope.shape,
                    "Pass one number for each number of the parameter.",
                )
            if slope is not None:
                slopes[name] = slope.astype(arrays[name].dtype)
        moved = {name: np.asarray(value) for name, value in self._work.step(arrays, slopes, factor).items()}
        return _like(parameters, moved)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters.items())
        return f"{type(self).__name__}({values})"


def _face(rule: Rule) -> type[ReferenceOptimizer]:
    """Return the class of a rule, importable under its name."""
    body = {
        "__doc__": f"{rule.title}, in plain NumPy.",
        "__module__": __name__,
        "__qualname__": rule.class_name,
    }
    return type(rule.class_name, (ReferenceOptimizer,), body, rule=rule)


_PUBLIC = {rule.class_name: _face(rule) for rule in RULES.values()}
globals().update(_PUBLIC)

__all__ = ["ReferenceOptimizer", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Tell type checkers that there are names which the catalogue decides."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _real(who: str, value: Any) -> FloatArray:
    """Return a copy as an array of floating numbers; a float type is kept."""
    array = np.array(value)
    if array.dtype.kind not in "fiub":
        raise InputError(who, "be real numbers or arrays of them", repr(value))
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _words(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} of shape {shape}".strip() for name, shape in shapes.items())


def _named(things: Any) -> dict[str, Any]:
    if isinstance(things, Mapping):
        return {str(name): value for name, value in things.items()}
    if isinstance(things, Sequence):
        return {str(place): value for place, value in enumerate(things)}
    return {"": things}


def _like(things: Any, moved: dict[str, Any]) -> Any:
    if isinstance(things, Mapping):
        return {name: moved[str(name)] for name in things}
    if isinstance(things, Sequence):
        kind: Any = type(things)
        return kind(*moved.values()) if hasattr(things, "_fields") else kind(moved.values())
    return moved[""]
