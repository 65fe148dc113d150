"""An analysis in plain sentences, conclusions first, and as data for JSON."""

import math
from collections.abc import Sequence
from typing import Any, Final

from thalweg.functions.analysis import Analysis
from thalweg.functions.convexity import Decision
from thalweg.functions.prediction import MAX_STEPS, Ball, Rates, Steps
from thalweg.functions.scope import Point
from thalweg.functions.stability import DIVIDING

SHOWN: Final = 12  # critical points that are named


def data(found: Analysis) -> dict[str, Any]:
    """Return an analysis as JSON's kinds of values; what is not known, or infinite, is None.

    >>> from thalweg.functions.analysis import analyse
    >>> said = data(analyse("0.5*4*w^2"))
    >>> said["gradient"], said["hessian"], said["convex"], said["largest_stable_rate"]["sgd"]
    (['4*w'], [['4']], True, 0.5)
    """
    f = found.expression
    head: dict[str, Any] = {"expression": str(f), "variables": list(f.variables)}
    if found.jacobian is not None:
        at = found.jacobian_at_start
        head |= {"jacobian": [list(row) for row in found.jacobian], "jacobian_at_start": _finite(at)}
        return head
    rates, search, smooth = found.rates, found.search, found.smoothness
    assert search is not None
    assert found.convex is not None
    assert smooth is not None
    best = _best(found)
    made: dict[str, Any] = {
        **head,
        "gradient": list(found.gradient),
        "hessian": [list(row) for row in found.hessian],
        "critical_points": [_point(point) for point in found.points],
        "search": {
            "how": search.how,
            "complete": search.complete,
            "within": None if search.complete else list(found.within),
            "isolated": not search.endless,
            "flat_at": search.flat,
        },
        "convex": found.convex.holds,
        "convexity": {"why": found.convex.why, "witness": None, "strong": found.strength},
        "smoothness": {"value": smooth.value, "where": smooth.where, "exact": smooth.exact},
        "condition_number": None if best is None else best.condition_number,
        "largest_stable_rate": None if rates is None else rates.largest_stable,
        "in_units_of_the_divisor": list(DIVIDING),
        "conditions": [{"condition": name, "holds": x.holds, "why": x.why} for name, x in found.conditions],
        "rate": found.rate,
    }
    if found.witness is not None:
        made["convexity"]["witness"] = {
            "points": found.witness.points,
            "values": found.witness.values,
            "value_at_mean": found.witness.value_at_mean,
        }
    made |= _rates(rates)
    if found.arrival is not None:
        run = found.arrival
        made["from_start"] = {
            "start": run.start,
            "rate": run.rate,
            "end": run.end,
            "steps": run.steps,
            "outcome": run.outcome,
            "kind": found.arrived,
        }
    if found.noise is not None:
        made["noise"] = found.noise
        made["noise_ball"] = [
            {name: getattr(ball, name) for name in ("eigenvalue", "predicted", "measured", "low", "high")}
            for ball in found.balls
        ]
    return {name: _finite(value) for name, value in made.items()}


def sentences(found: Analysis) -> list[str]:
    """Return an analysis in sentences, the conclusions first."""
    if found.jacobian is not None:
        return _about_jacobian(found, found.jacobian)
    lines = [*_about_points(found), *_about_convexity(found)]
    if found.rates is not None:
        lines += _about_rates(found, found.rates)
    lines += ["", "Conditions for gradient descent with a fixed rate:"]
    lines += [f"  {name}: {_decided(x)}" for name, x in found.conditions]
    lines += _conclusion(found)
    if found.arrival is not None:
        lines += ["", _about_arrival(found)]
    if found.noise is not None:
        lines += ["", *_about_noise(found)]
    names = found.expression.variables
    lines += ["", "Gradient:", *(f"  ∂/∂{v}: {g}" for v, g in zip(names, found.gradient, strict=True))]
    return [*lines, "Hessian:", *(f"  [{', '.join(row)}]" for row in found.hessian)]


def _about_jacobian(found: Analysis, jacobian: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"A function with {len(jacobian)} values: only its Jacobian is analysed, a row for each value."]
    lines += [f"  [{', '.join(row)}]" for row in jacobian]
    if found.jacobian_at_start is not None:
        lines.append("At the start:")
        lines += [f"  [{', '.join(map(_n, row))}]" for row in found.jacobian_at_start]
    return lines


def _best(found: Analysis) -> Point | None:
    if found.rates is None:
        return None
    return next(point for point in found.points if point.at == found.rates.at)


def _point(point: Point) -> dict[str, Any]:
    return {
        "at": list(point.at),
        "kind": point.kind,
        "value": point.value,
        "why": point.why,
        "scope": point.scope,
        "is_global": point.is_global,
        "scope_why": point.scope_why,
        "eigenvalues": list(point.eigenvalues),
        "condition_number": point.condition_number,
    }


def _rates(rates: Rates | None) -> dict[str, Any]:
    def steps(x: Steps | None) -> dict[str, Any] | None:
        return None if x is None else {"loss": x.loss, "distance": x.distance}

    known = rates is not None
    moving = rates.momentum if rates else None
    return {
        "safe_rate": rates.safe if rates else None,
        "best_fixed_rate": rates.best if rates else None,
        "contraction": rates.contraction if rates else None,
        "predicted_steps": steps(rates.predicted) if rates else None,
        "counted_steps": steps(rates.counted) if rates else None,
        "predicted_steps_at_safe_rate": steps(rates.predicted_at_safe) if rates else None,
        "best_momentum": None
        if moving is None or not known
        else {
            "rate": moving.rate,
            "momentum": moving.momentum,
            "contraction": moving.contraction,
            "predicted_steps": steps(rates.predicted_with_momentum) if rates else None,
            "counted_steps": steps(rates.counted_with_momentum) if rates else None,
        },
    }


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None."""
    if isinstance(value, dict):
        return {name: _finite(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _n(value: float | None) -> str:
    return "unknown" if value is None else f"{value + 0.0:.6g}"  # no -0


def _at(point: Sequence[float]) -> str:
    text = ", ".join(_n(x) for x in point)
    return text if len(point) == 1 else f"({text})"


def _about_points(found: Analysis) -> list[str]:
    search, names = found.search, ", ".join(found.expression.variables)
    assert search is not None
    box = f"between {found.within[0]:g} and {found.within[1]:g}"
    lines = []
    for point in found.points[:SHOWN]:
        reasons = point.why if not point.scope_why else f"{point.why}; {point.scope_why}"
        lines.append(f"{_kind(point)} at {names} = {_at(point.at)}, value {_n(point.value)}: {reasons}.")
        if point.eigenvalues and len(point.at) > 1:
            lines.append(f"  Eigenvalues of the Hessian: {', '.join(map(_n, point.eigenvalues))}.")
    if len(found.points) > SHOWN:
        lines.append(f"And {len(found.points) - SHOWN} other critical points (--json has them).")
    if not found.points:
        where = "at all" if search.complete else f"found {box}"
        lines.append(f"No critical point {where}. {search.how}")
    elif search.endless:
        lines.append("They are not isolated: there are lines of critical points, of which these are some.")
    if search.flat is not None:
        lines.append(f"Around {names} = {_at(search.flat)} the function is constant, to rounding.")
    if found.points and not search.complete and not found.strength > 0:
        lines.append(f"Searched {box}; there may be critical points that were not found.")
    if found.kinks:
        lines.append(
            "It has abs, max, min or sign in it: at their kinks there is no derivative, what is said of "
            "gradients holds elsewhere, and a fixed rate need not come to rest."
        )
    return lines


def _kind(point: Point) -> str:
    if point.scope is not None:
        return f"{point.scope.capitalize()} {point.kind}"
    if point.kind == "degenerate":
        return "Undecided point" if "undecided" in point.why else "Degenerate point"
    return point.kind.capitalize()


def _about_convexity(found: Analysis) -> list[str]:
    assert found.convex is not None
    word = {True: "Convex", False: "Not convex", None: "Convexity is undecided"}[found.convex.holds]
    lines = [f"{word}: {found.convex.why}."]
    if found.witness is not None:
        (a, b), (x, y) = found.witness.points, found.witness.values
        above = _n(found.witness.value_at_mean)
        lines.append(f"  f is {_n(x)} at {_at(a)} and {_n(y)} at {_at(b)}, but {above} at their mean.")
    return lines


def _about_rates(found: Analysis, rates: Rates) -> list[str]:
    point = _best(found)
    assert point is not None
    smallest, largest, stable = point.eigenvalues[0], point.eigenvalues[-1], rates.largest_stable
    lines = [
        "",
        f"Near the minimum at {_at(rates.at)}, where λmax of the Hessian is {_n(largest)}:",
    ]
    names = {"sgd": "gradient descent", "momentum": "momentum 0.9", "nesterov": "Nesterov 0.9"}
    lines.append(
        f"  Stable below η = {', '.join(f'{_n(stable[key])} ({name})' for key, name in names.items())}."
    )
    lines.append(
        f"  Adam below {_n(stable['adam'])}, NAdam below {_n(stable['nadam'])}, RMSprop below "
        f"{_n(stable['rmsprop'])}, times what they divide by, √v̂ + ε: that shrinks with the gradient, and so "
        "does the largest stable rate. With a fixed rate they hover at a distance that the rate decides."
    )
    if rates.best is None or rates.contraction is None or rates.predicted is None:
        lines.append(
            f"  An eigenvalue of 0 ({_n(smallest)}): along it no factor describes how descent slows down, "
            "and no fixed rate is best."
        )
        return lines
    close = "" if found.smoothness is not None and found.smoothness.exact else " close to the minimum"
    if rates.contraction == 0:
        return [*lines, f"  At η = 1/λ = {_n(rates.best)} a quadratic is at its minimum after one step."]
    kappa = "" if point.condition_number is None else f"Condition number κ = {_n(point.condition_number)}. "
    lines.append(
        f"  {kappa}Best fixed rate 2/(λmin + λmax) = {_n(rates.best)}: each step leaves at most "
        f"{_n(rates.contraction)} of the distance; 1/λmax = {_n(rates.safe)} is merely safe."
    )
    lines.append(
        f"  Steps to shrink by 10⁶: predicted {_steps(rates.predicted)}; counted by running it{close} "
        f"{_steps(rates.counted)}. At 1/λmax: {_steps(rates.predicted_at_safe)}."
    )
    if (moving := rates.momentum) is not None:
        foreseen, counted = _steps(rates.predicted_with_momentum), _steps(rates.counted_with_momentum)
        lines.append(
            f"  Best momentum: η = {_n(moving.rate)}, β = {_n(moving.momentum)}; in the long run each step "
            f"leaves {_n(moving.contraction)} of the distance: predicted {foreseen}; counted {counted}, with "
            "the slower beginning."
        )
    return lines


def _steps(steps: Steps | None) -> str:
    def word(x: int | None) -> str:
        return f"more than {MAX_STEPS:,}" if x is None else f"{x:,}"

    return "unknown" if steps is None else f"{word(steps.loss)} in loss, {word(steps.distance)} in distance"


def _decided(decision: Decision) -> str:
    return f"{ {True: 'yes', False: 'no', None: 'undecided'}[decision.holds] }, {decision.why}"


def _conclusion(found: Analysis) -> list[str]:
    holds = [x.holds for _, x in found.conditions]
    if all(x is True for x in holds):
        lines = [f"So gradient descent with η = {_n(found.rate)} finds a global minimum from any start."]
    elif False in holds:
        lines = ["Not all hold: a gradient near zero is no proof of a minimum here, nor is it promised."]
    else:
        lines = ["Not all were decided: nothing is promised, nor ruled out."]
    return [
        *lines,
        "With noisy gradients a fixed rate ends in a ball around a minimum; falling rates with Σηₜ = ∞ and "
        "Σηₜ² < ∞ go on to it.",
    ]


def _about_arrival(found: Analysis) -> str:
    run = found.arrival
    assert run is not None
    begin = f"From {_at(run.start)} with η = {_n(run.rate)}, gradient descent"
    if run.outcome == "diverged":
        return f"{begin} diverges within {_often(run.steps)}."
    if run.outcome == "moving":
        return f"{begin} still moves after {_often(run.steps)}, at {_at(run.end)}."
    kind = {"degenerate": "a degenerate point", None: "no critical point that is known"}.get(
        found.arrived, f"a {found.arrived}"
    )
    only = "" if found.arrived == "minimum" else " Converged does not mean minimum."
    return f"{begin} comes to rest after {_often(run.steps)} at {_at(run.end)}, {kind}.{only}"


def _often(steps: int) -> str:
    return f"{steps:,} step{'' if steps == 1 else 's'}"


def _about_noise(found: Analysis) -> list[str]:
    if not found.balls:
        return ["Noise ball: not predicted, because there is no minimum with a positive definite Hessian."]
    head = (
        f"With gradient noise of variance {_n(found.noise)} and η = {_n(found.rate)}, E w² = ηs/(a(2 − ηa)):"
    )
    return [head, *(f"  {_ball(ball)}" for ball in found.balls)]


def _ball(ball: Ball) -> str:
    where = f"along the eigenvalue {_n(ball.eigenvalue)}:"
    if ball.predicted is None:
        return f"{where} none, the rate is not stable."
    if ball.measured is None:
        return f"{where} {_n(ball.predicted)} predicted; not measured, it takes too many steps or diverges."
    between = f"{_n(ball.low)} to {_n(ball.high)}"
    return f"{where} {_n(ball.predicted)} predicted, {_n(ball.measured)} measured ({between})."
