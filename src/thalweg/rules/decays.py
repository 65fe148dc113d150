"""Weight decay around any method, in place of its own: as an L2 penalty, or apart from the gradient.

>>> from thalweg.rules.base import Surroundings
>>> from thalweg.rules.sgd import SGD
>>> from thalweg.rules.wrap import wrapped
>>> rule = wrapped(SGD, [DECOUPLED_DECAY(0.1, by="schedule")])
>>> clock = rule.clock(1, rule.values(rule.defaults()), Surroundings((), None, 0.02, 0.5))
>>> clock.wrappers[0].kept  # 1 − 0.5 · 0.1, whatever the rate
0.95
"""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, Choice, Real
from thalweg.rules.base import Clock, Decay, Rule, Surroundings, Values, refuse_together
from thalweg.rules.ops import Array, sign, where
from thalweg.rules.wrap import Wrapper

BY = ("rate", "schedule", "corrected", "cautious")


class DecayClock(NamedTuple):
    """What a step leaves of a parameter: 1 − h."""

    kept: Array


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t
    shares = {"schedule": around.multiplier, "corrected": around.rate * around.multiplier}
    return DecayClock(1 - shares.get(h.decoupled_decay_by, around.rate) * h.weight_decay)


def _decay(p: Array, d: Array, h: Values, c: Clock) -> Array:
    if h.decoupled_decay_by == "cautious":
        return where(sign(d) * sign(p) >= 0, p * c.kept, p)
    return p * c.kept


def _l2(p: Array, g: Array, h: Values, c: Clock) -> Array:
    del c
    return g + h.weight_decay * p


def _refuse_own(rule: Rule) -> None:
    if rule.tail is not None or (rule.decay is Decay.OWN and "weight_decay" in rule.hyper):
        refuse_together(
            f"a wrapper for weight decay around {rule.title}",
            "find a decay that it can take the place of",
            "a method that works its decay into its own step",
            f"Use weight_decay of {rule.title} itself." if "weight_decay" in rule.hyper else "Leave it out.",
        )


L2 = Wrapper(
    name="l2",
    title="L2 penalty",
    formula="g ← g + λθ",
    source=(
        "Tikhonov; the penalty ½λ‖θ‖² as part of the gradient. It takes the place of the method's own decay, "
        "and is added after clipping and after the sign of maximize, as in PyTorch."
    ),
    use=(
        "Where the penalty is to be part of what is minimised; in adaptive methods it is divided as the "
        "gradient is."
    ),
    hyper={"weight_decay": Real(1e-4, "L2 penalty λ, added to the gradient", AT_LEAST_0)},
    gradient=_l2,
    conflict=_refuse_own,
)

DECOUPLED_DECAY = Wrapper(
    name="decoupled_decay",
    title="Decoupled weight decay",
    formula="""
θ ← (1 − h)θ before the step
h = γλ by rate, fλ by schedule (f the schedule's factor, γ = γ_peak f), λγ²/γ_peak corrected;
cautious: γλ where dθ ≥ 0, else 0""",
    source=(
        "By rate: PyTorch's AdamW. By schedule: Loshchilov and Hutter 2019 (arXiv 1711.05101), where h does "
        "not change with γ_peak. Corrected: Defazio 2025 (arXiv 2506.02285), who has it for layers that a "
        "normalisation follows, and by rate for others. Cautious: Chen et al. 2025 (arXiv 2510.12402), who "
        "decay where dθ ≥ 0: also where d = 0. γ_peak is the rate before any schedule; a rate that is "
        "changed by hand counts as a new peak."
    ),
    use="Adaptive methods, whose division would make an L2 penalty uneven.",
    hyper={
        "weight_decay": Real(1e-2, "decay λ, apart from the gradient", AT_LEAST_0),
        "decoupled_decay_by": Choice("rate", "what multiplies the decay", BY),
    },
    clock=_clock,
    decay=_decay,
    conflict=_refuse_own,
)
