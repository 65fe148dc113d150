"""Between the methods that divide by a size of the gradient: all are compared with AdamW."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from thalweg.rules.translation.answer import Because, Translated, Trust, number, unknown


class Link(NamedTuple):
    """How a method's values follow from AdamW's."""

    low: float  # its rate, as multiples of AdamW's
    high: float
    because: Because
    mean: bool = True  # whether β₁ means the same
    square: bool = True  # whether β₂ and ε mean the same
    decay: Because | None = None  # why λ stays as it is, where γλ is not what is kept
    decays: tuple[float, float] = (1.0, 1.0)  # multiples of AdamW's λ then


SAME = Because(Trust.EXACT, "the same step of the gradient")
_RATE_FREE = "lr multiplies an estimate of the rate"
_PRODIGY = Because(
    Trust.RULE_OF_THUMB, "the method estimates the rate; lr = 1 takes the estimate as it is",
    "Mishchenko and Defazio 2023 (arXiv 2306.06101)",
)  # fmt: skip
_DADAPT = _PRODIGY._replace(source="Defazio and Mishchenko 2023 (arXiv 2301.07733)")
_SOPHIA = Because(
    Trust.RULE_OF_THUMB,
    "slightly smaller than AdamW's; 0.6 is 3 times Lion's where Lion's is a fifth. Tune ρ so that 10 to 50 % "
    "of the entries are not clipped",
    "the authors' repository (Liu et al. 2023, arXiv 2305.14342)",
)
_SOPHIA_LINK = Link(
    0.6, 1.0, _SOPHIA, mean=False, square=False, decays=(2.0, 2.0),
    decay=Because(Trust.RULE_OF_THUMB, "about twice AdamW's λ", _SOPHIA.source),
)  # fmt: skip

LINKS: Final[Mapping[str, Link]] = {
    "adam": Link(1, 1, SAME),
    "adamw": Link(1, 1, SAME),
    "amsgrad": Link(1, 1, Because(
        Trust.DERIVED, "Adam's step, or a smaller one: the divisor is the largest so far",
        "Reddi et al. 2018",
    )),
    "sparse-adam": Link(1, 1, Because(Trust.DERIVED, "Adam's step, on the rows that have a gradient")),
    "nadam": Link(1, 1, Because(
        Trust.DERIVED, "once μₜ is near β₁, the weights of all gradients add up to 1 as Adam's do",
        "Dozat 2016",
    )),
    "radam": Link(1, 1, Because(
        Trust.DERIVED, "Adam's step in the end, where r → 1; its own warm-up takes the place of yours",
        "Liu et al. 2020 (arXiv 1908.03265)",
    )),
    "adamax": Link(2, 2, Because(
        Trust.RULE_OF_THUMB, "the paper's defaults are 0.002 and Adam's 0.001",
        "Kingma and Ba 2015 (arXiv 1412.6980)",
    ), square=False),
    "rmsprop": Link(1, 1, Because(
        Trust.DERIVED, "Adam's step with β₁ = 0 once 1 − αᵗ is near 1; before, 1/√(1 − αᵗ) times larger",
    ), mean=False),
    "lion": Link(1 / 10, 1 / 3, Because(
        Trust.RULE_OF_THUMB, "3 to 10 times smaller than AdamW's",
        "Chen et al. 2023 (arXiv 2302.06675), section 5",
    ), mean=False, square=False),
    "sophia-g": _SOPHIA_LINK,
    "sophia-h": _SOPHIA_LINK,
    "muon": Link(1, 1, Because(
        Trust.RULE_OF_THUMB, "match_rms_adamw gives steps of AdamW's size, a root mean square of 0.2",
        "Liu et al. 2025 (arXiv 2502.16982)",
    ), mean=False, square=False),
    "soap": Link(1, 1, Because(
        Trust.DERIVED, "Adam in a turned basis: turning changes no norm. The authors use betas 0.95,0.95",
        "Vyas et al. 2024 (arXiv 2409.11321)",
    )),
    "schedule-free-adamw": Link(1, 10, Because(
        Trust.RULE_OF_THUMB, "1 to 10 times the rate that a schedule starts from, constant, with a warm-up",
        "the authors' package schedulefree (Defazio et al. 2024, arXiv 2405.15682)",
    ), mean=False, decay=Because(
        Trust.UNKNOWN, "the authors say only that decay needs tuning anew",
        "the authors' package schedulefree",
    )),
    "prodigy": Link(1, 1, _PRODIGY, decay=Because(
        Trust.DERIVED, "λ is multiplied by the estimated rate as by AdamW's; equal where the estimate is",
    )),
    "dadapt-adam": Link(1, 1, _DADAPT, decay=Because(
        Trust.DERIVED, "λ is multiplied by the estimated rate as by AdamW's; equal where the estimate is",
    )),
}  # fmt: skip

RATE_FREE: Final = ("prodigy", "dadapt-adam")
APART: Final = ("prodigy", "schedule-free-adamw", "soap")  # decay of their own, apart from the gradient

# Lion and Sophia have a ratio of their own: no detour by way of AdamW.
_LION_TO_SOPHIA = Because(Trust.RULE_OF_THUMB, "3 to 5 times Lion's rate", _SOPHIA.source)

SCALE = Because(
    Trust.EXACT, "the scale for which the rate is meant; the default, original, wants a rate of its own"
)
_BUFFER = Because(Trust.DERIVED, "RMSprop's buffer is a sum: γ/(1 − μ) is the rate in the end")
_L2 = Because(Trust.DERIVED, "λ is part of the gradient in both")
_PRODUCT = Because(Trust.DERIVED, "γλ, what a step takes away, stays")
_NONE = Because(Trust.EXACT, "no decay")
_COUPLED: Final = (
    "an L2 penalty is divided by the size of the gradient, decay apart from it is not: "
    "no λ does for all parameters"
)
_SHAPE: Final = (
    "between the scales original and match_rms_adamw the factor is another in every layer: "
    "γ_original = 0.2·√columns·γ_match"
)

NO_RATE: Final[Mapping[str, str]] = {
    "adagrad": "its divisor grows with every step, so that the best rate depends on the length of the run",
    "adadelta": "it has no rate to translate: lr = 1 is the method",
    "adafactor": "its rate is a share of the parameter's own size, Adam's is not",
    "lamb": "its rate is a share of the parameter's own norm, AdamW's is not",
    "lars": "its rate is a share of the parameter's own norm, SGD's is not",
    "rprop": "its rate is the size of the first step only",
    "shampoo": "its steps have another size in every layer; only grafting (arXiv 2002.11803) "
    "would give them Adam's",
}


def member(rule: str, values: Mapping[str, Any]) -> str:
    """Return under which name a rule with these values has its link."""
    return "amsgrad" if values.get("amsgrad") else rule


def rate(
    of: str, source: Mapping[str, Any], to: str, target: Mapping[str, Any], lr: Translated
) -> Translated:
    """Return the rate of one method for another; both have a link."""
    one, other = LINKS[of], LINKS[to]
    if to in RATE_FREE and of != to:
        return number("lr", 1.0).further(other.because)
    if of in RATE_FREE and of != to:
        return unknown(
            "lr", "run it, and read the rate that it found from its state: d·lr", one.because.source
        )
    scales = [v["adjust_lr_fn"] for v in (source, target) if "adjust_lr_fn" in v]
    if scales and any(scale != "match_rms_adamw" for scale in scales) and len(set(scales)) + (of != to) > 1:
        return unknown("lr", _SHAPE, "by their formulas")
    if of == "lion" and to.startswith("sophia"):
        return lr.times(3, 5, _LION_TO_SOPHIA)
    if of.startswith("sophia") and to == "lion":
        return lr.times(1 / 5, 1 / 3, _LION_TO_SOPHIA)
    if of == to or {of, to} == {"adam", "adamw"}:
        lr = lr.further(SAME)
    else:
        for factors, link in (((1 / one.high, 1 / one.low), one), ((other.low, other.high), other)):
            lr = lr if link.because is SAME else lr.times(*factors, link.because)
    if max(source.get("momentum", 0.0), target.get("momentum", 0.0)) >= 1:
        return unknown("lr", "a buffer that keeps all it has grows without end")
    factor = _buffered(source) / _buffered(target)
    return lr if factor == 1 else lr.times(factor, factor, _BUFFER)


def memories(of: str, source: Mapping[str, Any], to: str, target: Mapping[str, Any]) -> list[Translated]:
    """Return the memories and ε of one method for another; the rest stays at its default."""
    alike = of == to or {of, to} == {"adam", "adamw"}
    same = Because(Trust.EXACT if alike else Trust.DERIVED, "means the same in both")
    own = Because(Trust.RULE_OF_THUMB, "", f"the default of {to}")
    mean = of == to or (LINKS[of].mean and LINKS[to].mean and "betas" in source)
    square = of == to or (LINKS[of].square and LINKS[to].square)
    second = source["betas"][1] if "betas" in source else source.get("alpha")
    found = []
    if "betas" in target:
        pair = (source["betas"][0] if mean else target["betas"][0], second if square else target["betas"][1])
        because = same if mean and square else own._replace(why=_which(mean, square))
        found.append(number("betas", pair).further(because))
    if "alpha" in target and square:
        found.append(number("alpha", second).further(same._replace(why="α is β₂")))
    if "eps" in target and "eps" in source and square:
        found.append(number("eps", source["eps"]).further(same))
    return found


def decay(pair: tuple[str, str], apart: tuple[bool, bool], old: Translated, new: Translated) -> Translated:
    """Return the decay λ of the target.

    Args:
        pair: source and target.
        apart: whether the decay of the source is apart from the gradient, and that of the target.
        old: λ of the source.
        new: rate of the target.
    """
    if old.value == 0 or pair[0] == pair[1]:
        return old.further(_NONE if old.value == 0 else SAME)
    if apart[0] != apart[1]:
        return unknown("weight_decay", _COUPLED, "Loshchilov and Hutter 2019 (arXiv 1711.05101)")
    if not apart[0]:
        return old.further(_L2)
    if new.value is None and not set(pair) & set(RATE_FREE):
        return unknown("weight_decay", "γλ should stay, and γ is not known")
    for name, turn in zip(pair, (-1, 1), strict=True):
        low, high, because = _decay_link(LINKS[name])
        if because.trust is Trust.UNKNOWN:
            return unknown("weight_decay", because.why, because.source)
        ends = sorted((low**turn, high**turn))
        old = old if LINKS[name].because is SAME else old.times(ends[0], ends[1], because)
    return old if old.why else old.further(SAME)


def _decay_link(link: Link) -> tuple[float, float, Because]:
    """Return λ of a method as multiples of AdamW's: as a rule, so that γλ stays."""
    if link.decay is not None:
        return (*link.decays, link.decay)
    return (
        1 / link.high,
        1 / link.low,
        _PRODUCT._replace(trust=link.because.trust, source=link.because.source),
    )


def _which(mean: bool, square: bool) -> str:
    if mean or square:
        return (
            "β₁ means the same, β₂ something else: its own stays"
            if mean
            else "β₂ means the same, β₁ something else: its own stays"
        )
    return "they mean something else: its own stay"


def _buffered(values: Mapping[str, Any]) -> float:
    """Return by what RMSprop's buffer multiplies the rate in the end; 1 for methods without one."""
    return 1 / (1 - values["momentum"]) if "alpha" in values else 1.0
