"""Independent NumPy oracles: each optimizer written once more, slowly, from its paper.

An oracle is ``run(theta0, gradients, *, factors=None, **hyper)``: given the parameter and the gradient of
each step (``None`` where the parameter had no gradient), and what a schedule multiplies the rate with, it
returns the parameter after each step. Averages are written out as weighted sums over the stored history
instead of recursions, so that an oracle and a recursive implementation agree only where both are right. Cost
grows with the square of the number of steps. Where one number is estimated for all parameters, an oracle
takes dicts of them (``GLOBAL``).

Nothing here imports anything but NumPy, SciPy and the standard library. Argument names, defaults and
conventions are PyTorch's where PyTorch has the method.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from oracles import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    asgd,
    dadaptation,
    lamb,
    lars,
    lion,
    muon,
    nadam,
    prodigy,
    radam,
    rmsprop,
    rprop,
    schedule_free,
    sgd,
    shampoo,
    soap,
    sophia,
)


def _muon(*given: Any, adjust_lr_fn: str | None = None, **hyper: Any) -> list[Any]:
    return muon.run(*given, scale=adjust_lr_fn or "original", **hyper)


ORACLES: dict[str, Callable] = {
    "sgd": sgd.run,
    "adagrad": adagrad.run,
    "adadelta": adadelta.run,
    "rmsprop": rmsprop.run,
    "adam": adam.run,
    "adamw": adamw.run,
    "sparse-adam": partial(adam.run, epsilon="uncorrected"),
    "adamax": adamax.run,
    "nadam": nadam.run,
    "radam": radam.run,
    "rprop": rprop.run,
    "asgd": asgd.run,
    "adafactor": adafactor.run,
    "lion": lion.run,
    "lars": lars.run,
    "lamb": lamb.run,
    "muon": _muon,
    "shampoo": shampoo.run,
    "soap": soap.run,
    "sophia-h": sophia.run,
    "sophia-g": sophia.run,
    "schedule-free-sgd": schedule_free.sgd,
    "schedule-free-adamw": schedule_free.adamw,
}

# One number for all parameters.
GLOBAL: dict[str, Callable] = {
    "prodigy": prodigy.run,
    "dadapt-adam": dadaptation.adam,
    "dadapt-sgd": dadaptation.sgd,
}

# The parameters to evaluate with, where they are others than those that are trained.
EVALUATED: dict[str, Callable] = {
    "asgd": asgd.evaluated,
    "schedule-free-sgd": schedule_free.sgd_evaluated,
    "schedule-free-adamw": schedule_free.adamw_evaluated,
}
