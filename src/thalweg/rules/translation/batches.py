"""From one batch size to another: the linear rule of SGD, the square-root rule of Adam."""

import math
from collections.abc import Mapping
from typing import Any, Final

from thalweg.rules.translation.answer import Because, Translated, Trust, number, unknown

_LINEAR = Because(
    Trust.RULE_OF_THUMB,
    "linear rule: γ × κ, with a warm-up of the rate; it held up to batches of 8192 on ImageNet",
    "Goyal et al. 2017 (arXiv 1706.02677)",
)
_LINEAR_KEPT = Because(Trust.RULE_OF_THUMB, "the linear rule leaves it as it is", _LINEAR.source)
_ROOT = "Malladi et al. 2022 (arXiv 2205.10287)"
_WHERE = "where the noise of the gradient outweighs its mean"
_ALONE = Because(
    Trust.RULE_OF_THUMB, "the rule holds for all values together, and a memory cannot follow", _ROOT
)
_TIMESCALE = Because(
    Trust.DERIVED, "λ × √κ: with γ × √κ an epoch takes the same share away",
    "Wang and Aitchison 2024 (arXiv 2405.13698), who keep that share",
)  # fmt: skip
_LAMB = Because(
    Trust.RULE_OF_THUMB, "γ × √κ, with warm-up steps in proportion to κ; used from 512 to 32768",
    "You et al. 2019 (arXiv 1904.00962)",
)  # fmt: skip
_LAMB_KEPT = Because(Trust.RULE_OF_THUMB, "the authors leave it as it is", _LAMB.source)
_RATE_FREE = Because(
    Trust.RULE_OF_THUMB, "it multiplies a rate that the method estimates anew from the new batches",
    "by its formula; no source on batch sizes known",
)  # fmt: skip

NOTES: Final = (
    "Keep the number of epochs: steps, and the lengths of the schedule in steps, are divided by κ. Both "
    "rules raise the rate with the batch, and end at a batch that only measuring shows.",
    "They are about batches whose gradients are averaged before a step. Workers that step each for itself "
    "are another matter.",
)


def across(name: str, values: Mapping[str, Any], apart: bool, kappa: float) -> list[Translated]:
    """Return what is known about the values of a method at κ times the batch size.

    Args:
        name: of the rule.
        values: its hyperparameters.
        apart: whether its decay is apart from the gradient.
        kappa: new batch size / old one, κ.

    >>> adam = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    >>> lr, betas, eps, _ = across("adam", adam, False, 4)
    >>> round(lr.value, 9), [round(beta, 9) for beta in betas.value], round(eps.value * 1e8, 9)
    (0.002, [0.6, 0.996], 0.5)
    """
    given = {
        n: number(n, values[n])
        for n in ("lr", "momentum", "betas", "alpha", "eps", "weight_decay")
        if n in values
    }
    if name == "sgd":
        lr = given.pop("lr").times(kappa, kappa, _LINEAR)
        return [lr, *(given[n].further(_LINEAR_KEPT) for n in ("momentum", "weight_decay"))]
    if name in ("adam", "adamw", "rmsprop") and not values.get("amsgrad") and not values.get("momentum"):
        return _square_root(values, given, apart, kappa)
    if name == "lamb":
        lr = given.pop("lr").times(math.sqrt(kappa), math.sqrt(kappa), _LAMB)
        return [lr, *(item.further(_LAMB_KEPT) for item in given.values())]
    if name in ("prodigy", "dadapt-adam", "dadapt-sgd"):
        return [given["lr"].further(_RATE_FREE)]
    why = "it compares signs from step to step, and is for the full batch" if name == "rprop" else (
        "the linear rule is for SGD, the square-root rule for Adam and RMSprop; none is known for this"
    )  # fmt: skip
    return [unknown("lr", why)]


def _square_root(
    values: Mapping[str, Any], given: Mapping[str, Translated], apart: bool, kappa: float
) -> list[Translated]:
    root = math.sqrt(kappa)
    found = [
        given["lr"].times(root, root, Because(Trust.DERIVED, f"square-root rule: γ × √κ, {_WHERE}", _ROOT))
    ]
    for name in ("betas", "alpha"):
        if name in values:
            found.append(_memory(name, values[name], kappa))
    found.append(given["eps"].times(1 / root, 1 / root, Because(Trust.DERIVED, f"ε / √κ, {_WHERE}", _ROOT)))
    if any(item.value is None for item in found):
        found = [item.further(_ALONE) for item in found]
    if "weight_decay" in given:
        kept = Because(Trust.DERIVED, "λ is part of the gradient: unchanged")
        decay = given["weight_decay"]
        found.append(decay.times(root, root, _TIMESCALE) if apart else decay.further(kept))
    return found


def _memory(name: str, old: Any, kappa: float) -> Translated:
    """Return 1 − κ(1 − β), for one memory or several."""
    several = isinstance(old, tuple | list)
    new = tuple(1 - kappa * (1 - beta) for beta in (old if several else (old,)))
    if min(new) < 0:
        least = min(old) if several else old
        end = f"1 − κ(1 − β) is below 0: the rule ends at κ = {1 / (1 - least):.4g}, here κ = {kappa:.4g}"
        return unknown(name, end, _ROOT)
    because = Because(Trust.DERIVED, f"1 − β is multiplied by κ, {_WHERE}", _ROOT)
    return number(name, new if several else new[0]).further(because)
