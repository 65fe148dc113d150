"""Run a rule on NumPy arrays: slow, plain, the yardstick of every other backend."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.rules.base import Rule, State
from thalweg.rules.tail import Row, step

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
        numbers = [x for value in self.values for x in (value if isinstance(value, tuple) else (value,))]
        self.replicas = any(np.ndim(x) > 0 for x in numbers)
        self.states: dict[str, State] = {}
        self.times: dict[str, int] = {}
        self.shared = rule.initial_shared(self.values) if rule.initial_shared else None

    def step(
        self,
        parameters: Mapping[str, FloatArray],
        gradients: Mapping[str, FloatArray | None],
        factor: float | FloatArray = 1.0,
    ) -> dict[str, FloatArray]:
        """Return the parameters after one step; one whose gradient is None stays, and its count too."""
        moving = [name for name in parameters if gradients[name] is not None]
        for name in moving:
            if name not in self.states:
                self.states[name] = self.rule.initial(parameters[name], self.values, self.replicas)
            self.times[name] = self.times.get(name, 0) + 1
        rows = [
            Row(parameters[n], gradients[n], self.states[n], self.times[n], self.values, self.replicas)
            for n in moving
        ]
        prepared = step(self.rule, rows, self.shared, factor)
        self.shared = prepared.shared
        moved = dict(parameters)
        for name, row in zip(moving, prepared.rows, strict=True):
            moved[name], self.states[name] = prepared.moved(row)
        return moved
