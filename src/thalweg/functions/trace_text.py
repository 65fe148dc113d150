"""A trace as data, as columns of a table, and in Markdown and LaTeX."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.errors import InputError
from thalweg.functions.correction import Uncorrected
from thalweg.functions.expression import parse
from thalweg.functions.symbols import latex as letter
from thalweg.functions.symbols import symbol
from thalweg.functions.trace import Row, Trace

UNDEFINED: Final = "undefined"


def data(trace: Trace, uncorrected: Uncorrected | None = None) -> dict[str, Any]:
    """Return all of a trace as what JSON can hold, at full precision; None for what is no finite number.

    Every quantity is a list over the variables, also one that all of them have in common.
    """
    count, names = len(trace.expression.variables), trace.names()
    rows = [_row(row, names, count) for row in trace.rows]
    answer: dict[str, Any] = {
        "expression": str(trace.expression),
        "variables": list(trace.expression.variables),
        "optimizer": trace.optimizer,
        "hyperparameters": dict(trace.hyperparameters),
        "wrappers": {w.wrapper.name: dict(w.values) for w in trace.wrappers},
        "schedule": None if trace.schedule is None else str(trace.schedule),
        "formula": trace.rule.formula.strip(),
        "quantities": names,
        "rows": rows,
        "outcome": list(trace.outcome),
    }
    if uncorrected is not None:
        for row, ratio in zip(rows, uncorrected.ratios, strict=True):
            row["uncorrected_ratio"] = list(ratio)
        answer["uncorrected"] = {
            "corrections": list(uncorrected.corrections),
            "rows": [_row(row, names, count) for row in uncorrected.rows],
            "outcome": list(uncorrected.outcome),
        }
    return _finite(answer)  # type: ignore[no-any-return]


def _row(row: Row, names: Sequence[str], count: int) -> dict[str, Any]:
    wide = {name: list(row.quantities.get(name, [math.nan])) for name in names}
    return {
        "step": row.step,
        "parameters": list(row.parameters),
        "loss": row.loss,
        "gradient": list(row.gradient),
        **{name: x * count if len(x) == 1 else x for name, x in wide.items()},
        "rate": row.rate,
        "direction": list(row.direction) or [math.nan] * count,
        "next": list(row.next) or [math.nan] * count,
        "predicted_change": row.predicted_change,
        "change": row.change,
        "clock": dict(row.clock),
        "filled": list(row.filled),
    }


def _finite(x: Any) -> Any:
    """Replace numbers that are not finite by None."""
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_finite(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


@dataclass(frozen=True)
class Column:
    """One column of the table: heading, heading in LaTeX, and the number of a row, which may be None."""

    title: str
    latex: str
    value: Callable[[Row], float | None]


def columns(trace: Trace, uncorrected: Uncorrected | None = None) -> list[Column]:
    """Return the columns of a trace but the number of the step, in the order of the calculation."""
    variables = trace.expression.variables
    found = [Column(v, letter(v), _entry(lambda row: row.parameters, i)) for i, v in enumerate(variables)]
    found.append(Column(symbol("loss"), letter("loss"), lambda row: row.loss))
    found += _each("gradient", lambda row: row.gradient, variables)
    for name in trace.names():
        values = _quantity(name)
        single = all(len(values(row)) <= 1 for row in trace.rows)
        found += _each(name, values, ("",) if single else variables)
    found.append(Column(symbol("rate"), letter("rate"), lambda row: row.rate))
    found += _each("direction", lambda row: row.direction, variables)
    found += [
        Column(f"next {v}", rf"\text{{next }}{letter(v)}", _entry(lambda row: row.next, i))
        for i, v in enumerate(variables)
    ]
    found.append(_change("predicted_change", lambda row: row.predicted_change))
    found.append(_change("change", lambda row: row.change))
    if uncorrected is not None:
        ratios, apart = uncorrected.ratios, {row.step: row for row in uncorrected.rows}
        found += _each("uncorrected_ratio", lambda row: ratios[row.step - 1], variables)
        found += [
            Column(
                f"next {v} without",
                rf"\text{{next }}{letter(v)}\text{{ without}}",
                _entry(lambda row: apart[row.step].next if row.step in apart else (), i),
            )
            for i, v in enumerate(variables)
        ]
    return found


def _quantity(name: str) -> Callable[[Row], Sequence[float]]:
    return lambda row: row.quantities.get(name, ())


def _change(name: str, value: Callable[[Row], float]) -> Column:
    """Return a column that is empty where no step was taken."""
    return Column(symbol(name), letter(name), lambda row: value(row) if row.next else None)


def _entry(values: Callable[[Row], Sequence[float]], place: int) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        found = values(row)
        return found[place] if place < len(found) else None

    return value


def _each(name: str, values: Callable[[Row], Sequence[float]], variables: Sequence[str]) -> list[Column]:
    """Return a column for each variable, which it names where there are several."""
    if len(variables) == 1:
        return [Column(symbol(name), letter(name), _entry(values, 0))]
    return [
        Column(f"{symbol(name)} {v}", rf"{letter(name)}\,({letter(v)})", _entry(values, i))
        for i, v in enumerate(variables)
    ]


def written(x: float | None, digits: int) -> str:
    """Return a number with so many significant digits; nothing for None.

    >>> written(9.80002745, 7), written(-0.0, 3), written(float("nan"), 3)
    ('9.800027', '0', 'undefined')
    """
    if x is None:
        return ""
    return UNDEFINED if math.isnan(x) else f"{x + 0.0:.{digits}g}"


def line(filled: str) -> str:
    """Return a formula with numbers with the letter of the field for its name.

    >>> line("m_hat[w1] = 2*10 = 20")
    'm̂[w1] = 2*10 = 20'
    """
    name, equals, rest = filled.partition(" = ")
    name, bracket, variable = name.partition("[")
    return symbol(name) + bracket + variable + equals + rest


def markdown(trace: Trace, rows: Iterable[Row], digits: int, uncorrected: Uncorrected | None = None) -> str:
    """Return a table in Markdown, below it the formulas with their numbers, and the outcome."""
    shown, found = list(rows), columns(trace, uncorrected)
    lines = [
        f"`{trace.expression}`, {trace.optimizer}",
        "",
        "| step | " + " | ".join(column.title for column in found) + " |",
        "|" + "---:|" * (len(found) + 1),
    ]
    lines += [
        f"| {row.step} | " + " | ".join(written(column.value(row), digits) for column in found) + " |"
        for row in shown
    ]
    for row in shown:
        lines += ["", f"Step {row.step}:", "", "```text", *map(line, row.filled), "```"]
    return "\n".join([*lines, "", *trace.outcome])


def latex(trace: Trace, rows: Iterable[Row], digits: int, uncorrected: Uncorrected | None = None) -> str:
    """Return a table and the formulas with their numbers in LaTeX, for amsmath."""
    shown, found = list(rows), columns(trace, uncorrected)
    heads = r"\text{step} & " + " & ".join(column.latex for column in found) + r" \\ \hline"
    body = [
        f"{row.step} & " + " & ".join(_latex_number(written(c.value(row), digits)) for c in found) + r" \\"
        for row in shown
    ]
    lines = [r"\[", rf"\begin{{array}}{{{'r' * (len(found) + 1)}}}", heads, *body, r"\end{array}", r"\]"]
    for row in shown:
        lines += [rf"\paragraph{{Step {row.step}}}", r"\begin{align*}"]
        lines += [" \\\\\n".join(_latex_line(x, trace) for x in row.filled), r"\end{align*}"]
    return "\n".join(lines)


def _latex_line(line: str, trace: Trace) -> str:
    """Return name = formula = number in LaTeX."""
    name, *parts = line.split(" = ")
    name, _, variable = name.removesuffix("]").partition("[")
    shown = letter(name) + (rf"\,({letter(variable)})" if variable else "")
    return rf"{shown} &= " + " = ".join(_latex_part(part, trace) for part in parts)


def _latex_part(text: str, trace: Trace) -> str:
    try:
        return parse(text, trace.expression.variables).latex()
    except InputError:  # inf, nan, or more than the grammar takes
        return rf"\text{{{text}}}"


def _latex_number(text: str) -> str:
    if text.lstrip("-").isalpha():  # undefined, inf
        return rf"\text{{{text}}}"
    mantissa, exponent, power = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{int(power)}}}" if exponent else text
