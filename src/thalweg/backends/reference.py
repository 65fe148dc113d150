"""Run a rule on NumPy arrays: slow, plain, the yardstick of every other backend."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.rules.base import Rule, State
from thalweg.rules.tail import Row, refreshed, step

FloatArray = NDArray[np.floating[Any]]


class Reference:
    """A rule at work on named NumPy arrays.

    Args:
        rule: the method.
        values: its hyperparameters, all of them; a number, or an array (K,) with one a replica, in
            which case axis 0 of every parameter counts the K replicas.
    """

    def __init__(self, rule: Rule, values: Mapping[str, Any]) -> None:
        self.rule = rule
        self.values = rule.values(values)
        numbers = [
            x for value in self.values for x in (value if isinstance(value, tuple | list) else (value,))
        ]
        self.replicas = any(np.ndim(x) > 0 for x in numbers)
        self.states: dict[str, State] = {}
        self.times: dict[str, int] = {}
        self.shared: Mapping[str, Any] = (
            {rule.name: rule.initial_shared(self.values)} if rule.initial_shared else {}
        )
        self.clipped: Any = False  # whether the last step shortened a gradient
        self.skipped: Any = False  # whether it did not happen, because gradients were not finite

    def step(
        self,
        parameters: Mapping[str, FloatArray],
        gradients: Mapping[str, FloatArray | None],
        factor: float | FloatArray = 1.0,
    ) -> dict[str, FloatArray]:
        """Return the parameters after one step; one whose gradient is None stays, and its count too."""
        moving = [name for name in parameters if gradients[name] is not None]
        rows = [self._row(name, parameters[name], gradients[name]) for name in moving]
        done = step(rows, self.shared, factor)
        self.clipped, self.skipped = done.clipped, done.skipped
        if np.any(self.skipped) and not self.replicas:
            return dict(parameters)
        self.shared = done.shared
        moved = dict(parameters)
        for name, row in zip(moving, done.rows, strict=True):
            moved[name], self.states[name] = done.moved(row)
            self.times[name] = np.where(self.skipped, row.t - 1, row.t) if self.replicas else row.t
        return moved

    def refresh(self, parameters: Mapping[str, FloatArray], diagonals: Mapping[str, FloatArray]) -> None:
        """Take in the diagonal of the Hessian, for rules that are handed one every few steps."""
        for name, diagonal in diagonals.items():
            row = self._row(name, parameters[name], diagonal)
            self.states[name] = refreshed(row, diagonal)

    def _row(self, name: str, parameter: FloatArray, gradient: FloatArray | None) -> Row:
        if name not in self.states:
            self.states[name] = self.rule.initial(parameter, self.values, self.replicas)
        t = self.times.get(name, 0) + 1
        return Row(self.rule, parameter, gradient, self.states[name], t, self.values, self.replicas)
