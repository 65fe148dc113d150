"""Independent NumPy oracles: each optimizer written once more, slowly, from its paper.

An oracle is ``run(theta0, gradients, **hyper)``: given the parameter and the gradient of each step (``None``
where the parameter had no gradient), it returns the parameter after each step. Averages are written out as
weighted sums over the stored history instead of recursions, so that an oracle and a recursive
implementation agree only where both are right. Cost grows with the square of the number of steps.

Nothing here imports anything but NumPy and the standard library. Argument names, defaults and conventions
are PyTorch's.
"""

from collections.abc import Callable

from oracles import adagrad, adam, adamw, rmsprop, sgd

ORACLES: dict[str, Callable] = {
    "sgd": sgd.run,
    "adagrad": adagrad.run,
    "rmsprop": rmsprop.run,
    "adam": adam.run,
    "adamw": adamw.run,
}
