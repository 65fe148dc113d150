"""Results of `finder.py` in words: one table of all pairs, a line a method, what holds of the claims.

The results are {"pairs": {name: {"best_rate", "best_loss", "initial", "deviation", "steps", "curve",
"methods": {method: what `judged` returns, and "why" there was no answer}}}}.
"""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from _finder_judge import summary
from _finder_methods import METHODS, OURS, PEERS
from _tables import Rows, Verdict, number

Results = Mapping[str, Any]
CAPTION = (
    "regret in % of the gain: median over the seeds / worst; ✗ so many suggestions that diverge; – no answer"
)
HEAD = ("", "regret, %", "worst, %", "in deviations", "spread", "widest", "diverging, %", "no answer, %",
        "updates", "of a tuning, %")  # fmt: skip


def methods(results: Results) -> list[str]:
    """Return the methods of which there is anything."""
    return [name for name in METHODS if any(name in pair["methods"] for pair in results["pairs"].values())]


def table(results: Results) -> Rows:
    """Return a line a pair, a column a method."""
    names = methods(results)
    rows: Rows = [("", "best rate", "deviation, %", *(METHODS[name].title for name in names))]
    for pair, found in results["pairs"].items():
        gain = found["initial"] - found["best_loss"]
        cells = (_cell(found["methods"].get(name)) for name in names)
        rows.append((pair, number(found["best_rate"]), percent(found["deviation"] / gain), *cells))
    return rows


def _cell(judged: Mapping[str, Any] | None) -> str:
    if judged is None:
        return ""
    shares, unanswered = judged["of_gain"], judged["suggestions"].count(None)
    said = f"{percent(median(shares))} / {percent(max(shares))}" if shares else ""
    said += f" ✗{judged['diverging']}" if judged["diverging"] else ""
    return (said + (f" –{unanswered}" if unanswered else "")).strip()


def percent(share: float) -> str:
    """Return a share in percent: a digit after the point below ten.

    >>> percent(0.0042), percent(0.42)
    ('0.4', '42')
    """
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def summaries(results: Results) -> dict[str, dict[str, Any]]:
    """Return what there is to say of each method over all pairs."""
    found = {}
    for name in methods(results):
        pairs = [pair["methods"][name] for pair in results["pairs"].values() if name in pair["methods"]]
        if (said := summary(pairs)) is not None:
            found[name] = said
    return found


def summary_table(results: Results) -> Rows:
    """Return a line a method, over all pairs."""
    rows: Rows = [HEAD]
    for name, said in summaries(results).items():
        spread = ["–" if x is None else f"{x:.2f}" for x in (said["decades"], said["most_decades"])]
        shares = [percent(said[what]) for what in ("diverging", "unanswered")]
        rows.append(
            (
                METHODS[name].title,
                *(percent(said["of_gain"]), percent(said["worst"]), f"{said['deviations']:.2f}"),
                *spread,
                *shares,
                *(f"{said['steps']:.0f}", percent(said["of_tuning"])),
            )
        )
    return rows


def own_table(results: Results) -> Rows:
    """Return a line a pair: what ours suggests, how steadily, at what cost."""
    rows: Rows = [
        ("thalweg", "best rate", "suggestions", "spread", "in deviations", "updates", "of a tuning, %")
    ]
    for pair, found in results["pairs"].items():
        judged = found["methods"][OURS]
        rates = [rate for rate in judged["suggestions"] if rate is not None]
        spread = "–" if judged["decades"] is None else f"{judged['decades']:.2f}"
        rows.append(
            (
                pair,
                number(found["best_rate"]),
                f"{min(rates):.3g} … {max(rates):.3g}" if rates else "–",
                spread,
                f"{median(judged['deviations']):.2f}" if rates else "–",
                *(f"{max(judged['steps'])}", percent(judged["of_tuning"])),
            )
        )
    return rows


def remarks(results: Results) -> Iterator[str]:
    """Yield what the truth is made of, what was not measured, and why there was no answer."""
    curves = [pair["curve"] for pair in results["pairs"].values()]
    trainings = sum(len(curve["rates"]) * curve["seeds"] for curve in curves)
    seconds = sum(curve["seconds"] for curve in curves)
    yield f"true curves: {trainings} full trainings in {seconds / 60:.0f} minutes, when they were trained"
    for name in METHODS:
        if name not in methods(results):
            yield f"{METHODS[name].title}: not measured: {METHODS[name].package} is not installed here"
    for pair, found in results["pairs"].items():
        for name, judged in found["methods"].items():
            for why in dict.fromkeys(filter(None, judged["why"])):
                yield f"{METHODS[name].title}, {pair}: no answer: {why}"


def verdicts(results: Results) -> list[Verdict]:
    """Return what holds of what a finder is to show."""
    found = summaries(results)
    ours: Mapping[str, Any] = found.get(OURS, {})
    regrets = {name: found[name]["of_gain"] for name in PEERS if name in found}
    best = min(regrets, key=lambda name: regrets[name], default=None)
    beside = None if best is None or not ours or not regrets[best] else ours["of_gain"] / regrets[best]
    peer = METHODS[best].title if best is not None else "the best peer"
    claims = (
        ("regret at the median at most 2 % of the gain", _percents(ours.get("of_gain")), 2.0),
        (f"regret at the median at most a third of the best peer's ({peer})", beside, 1 / 3),
        ("regret at the worst at most 10 % of the gain", _percents(ours.get("worst")), 10.0),
        ("at most 1 % of suggestions diverge", _percents(ours.get("diverging")), 1.0),
        ("spread over seeds at most 0.4 decade", ours.get("decades"), 0.4),
        ("cost at most 5 % of one full tuning", _percents(ours.get("of_tuning")), 5.0),
    )
    return [
        Verdict(claim, [] if x is None else [("ours", x, x <= bound)], [] if x is not None else ["ours"])
        for claim, x, bound in claims
    ]


def _percents(share: float | None) -> float | None:
    return None if share is None else 100 * share
