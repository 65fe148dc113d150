"""How the number of steps grows with the condition number κ: as κ for gradient descent, as √κ for momentum.

    python benchmarks/condition_number.py [--largest 10000]

For condition numbers from 1 to 10⁴, four to the decade, quadratics of two variables with eigenvalues 1 and κ
are minimised from (1, 1): by gradient descent at its best fixed rate, 2/(λmin + λmax), and by momentum at its
best setting. Counted are the steps until the distance to the minimum is a millionth of the first. The slope
of a line through the counts of κ ≥ 10, both logarithmic, is the exponent of κ.

Also draws the counts in the terminal and into benchmarks/results/condition_number.html.
"""

import math
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
from _common import RESULTS, conditions, markdown, save, show

from thalweg import reference
from thalweg.functions import parse
from thalweg.functions.prediction import count
from thalweg.functions.stability import (
    best_fixed_rate,
    best_momentum,
    contraction,
    steps_to_shrink,
)
from thalweg.progress import Bar
from thalweg.report.canvas import Canvas, framed, label_margin
from thalweg.report.drawing import COLOURS, DASHES, axis, decades, layout

A_DECADE = 4
METHODS = {"gradient descent": 1.0, "momentum": 0.5}  # and the exponent that theory gives each


def condition_numbers(largest: float) -> list[float]:
    """Return numbers from 1 to the largest, at equal ratios, four to the decade."""
    return [10 ** (i / A_DECADE) for i in range(math.floor(A_DECADE * math.log10(largest) + 1e-9) + 1)]


def counted(kappa: float) -> dict[str, Any]:
    """Count the steps of both methods on one quadratic, and predict them."""
    f = parse(f"0.5*x^2 + {kappa / 2!r}*y^2")
    hessian = np.diag([1.0, kappa])
    moving = best_momentum(1.0, kappa)
    rate, factor = best_fixed_rate(1.0, kappa), contraction(1.0, kappa)
    optimizers = {
        "gradient descent": (reference.SGD(lr=rate), factor),
        "momentum": (reference.SGD(lr=moving.rate, momentum=moving.momentum), moving.contraction),
    }
    found: dict[str, Any] = {"condition_number": kappa}
    for name, (optimizer, each_step) in optimizers.items():
        predicted = steps_to_shrink(each_step)
        assert predicted is not None
        steps = count(f, optimizer, (0.0, 0.0), np.ones(2), hessian, most=3 * predicted + 100)
        found[name] = {"predicted": predicted, "counted": steps.distance}
    return found


def exponent(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Return the slope of the counts of a method over condition numbers of 10 and more, both logarithmic."""
    far = [row for row in rows if row["condition_number"] >= 10]
    slope, _ = np.polyfit(
        np.log([row["condition_number"] for row in far]), np.log([row[name]["counted"] for row in far]), 1
    )
    return float(slope)


def table(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the counts, half of them, as rows with a head."""
    head = ("κ", *(f"{name}, {which}" for name in METHODS for which in ("counted", "predicted")))
    return [
        head,
        *(
            (
                f"{row['condition_number']:,.6g}",
                *(f"{row[name][which]:,}" for name in METHODS for which in ("counted", "predicted")),
            )
            for row in rows[::2]
        ),
    ]


def terminal(rows: Sequence[dict[str, Any]], columns: int = 60, height: int = 15) -> str:
    """Draw the counts in braille dots, both axes logarithmic."""
    x = np.log10([row["condition_number"] for row in rows])
    ys = {name: np.log10([row[name]["counted"] for row in rows]) for name in METHODS}
    low, high = (float(f([f(y) for y in ys.values()])) for f in (min, max))
    labels = [f"{10 ** (high - (high - low) * i / (height - 1)):,.0f}" for i in range(height)]
    canvas = Canvas((float(x[0]), float(x[-1])), (low, high), columns, height)
    for place, (name, y) in enumerate(ys.items()):
        canvas.line(x, y, place)
        middle = columns * 3 // 4
        at = float(x[0] + (middle + 0.5) / columns * (x[-1] - x[0]))
        canvas.put(canvas.row(float(np.interp(at, x, y))), middle, name[0], place)
    ends = (f"{10 ** x[0]:,.6g}", "condition number κ", f"{10 ** x[-1]:,.6g}")
    below = f"{'':>{label_margin(labels)}}  steps to a millionth of the distance: " + ", ".join(
        f"{name[0]} {name}" for name in METHODS
    )
    return "\n".join([*framed(canvas.lines(), labels, ends, columns), below])


def figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Return the counts as a Plotly figure."""
    import plotly.graph_objects as go

    lines = [
        go.Scatter(
            x=[row["condition_number"] for row in rows],
            y=[row[name]["counted"] for row in rows],
            name=f"{name}: exponent {exponent(rows, name):.3f}",
            mode="lines+markers",
            line={"color": COLOURS[i], "dash": DASHES[i]},
            hovertemplate="κ %{x:.6g}: %{y:,} steps",
        )
        for i, name in enumerate(METHODS)
    ]
    log = decades((1,))
    look = {
        "xaxis": {**axis("Condition number κ"), **log},
        "yaxis": {**axis("Steps to a millionth of the distance"), **log},
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.1},
    }
    return go.Figure(lines, {**layout(480), **look})


@click.command(help=__doc__)
@click.option("--largest", default=1e4, help="The largest condition number.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table as Markdown.")
def main(largest: float, as_markdown: bool) -> None:
    rows = []
    kappas = condition_numbers(largest)
    with Bar("condition numbers", len(kappas)) as bar:
        for kappa in kappas:
            rows.append(counted(kappa))
            bar.advance(1)
    exponents = {name: exponent(rows, name) for name in METHODS}
    print(markdown(table(rows)) if as_markdown else "", end="")
    if not as_markdown:
        show(table(rows))
    print()
    print(terminal(rows))
    for name, theory in METHODS.items():
        print(f"Steps of {name} grow as κ^{exponents[name]:.3f}; theory says κ^{theory:g} for large κ.")
    path = RESULTS / "condition_number.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure(rows).to_html(include_plotlyjs=True))
    save("condition_number", conditions(), {"rows": rows, "exponents": exponents})


if __name__ == "__main__":
    main()
