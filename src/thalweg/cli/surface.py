"""`thalweg surface`: optimizers on a test function, who arrives first, and how long a saddle holds them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from thalweg.cli.formula import FormulaCommand
from thalweg.cli.options import NUMBER, WHOLE, json_option, measuring, number, print_json
from thalweg.cli.prose import say
from thalweg.errors import InputError, nearest
from thalweg.files import refuse_unwritable

OPTIMIZERS: Final = "sgd,momentum,rmsprop,adam"


@click.command(cls=FormulaCommand)
@click.argument(
    "function",
    required=False,
    help="A known function, such as rosenbrock or quadratic:kappa=100, or a formula of one or two variables, "
    "such as '(w1 - 3)^2 + 25*w2^2'; none: list those that are known.",
)
@click.option(
    "--optimizer",
    "--optimizers",
    "optimizers",
    default=OPTIMIZERS,
    show_default=True,
    metavar="NAMES",
    help="Between commas (see: thalweg optimizers).",
)
@click.option(
    "--rates",
    metavar="RATES",
    help="Given rates: 0.01, several for each optimizer 0.001,0.01,0.1, or by name sgd=1e-4,adam=1e-2; "
    "else each at the best of one grid.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="OPTIMIZER.NAME=VALUE",
    help="Another hyperparameter, such as rmsprop.alpha=0.9. Repeatable.",
)
@click.option("--start", metavar="X[,Y]", help="Where to begin; else as the function suggests, or 1 in each.")
@click.option(
    "--minimum",
    "minima",
    multiple=True,
    metavar="X[,Y]",
    help="A minimum that you know, to measure distances from. Repeatable; else those of the catalogue.",
)
@click.option(
    "--box", metavar="X0,X1[,Y0,Y1]", help="What to look at; else as the function suggests, or the paths do."
)
@click.option("--steps", type=WHOLE, default=1000, show_default=True, metavar="N", help="Length of a path.")
@click.option(
    "--within",
    type=NUMBER,
    default=0.01,
    show_default=True,
    metavar="DISTANCE",
    help="How near to a minimum counts as there.",
)
@click.option(
    "--noise",
    type=NUMBER,
    default=0.0,
    show_default=True,
    metavar="VARIANCE",
    help="Variance of normal noise in each coordinate of the gradient.",
)
@click.option(
    "--runs", type=WHOLE, metavar="N", help="With --noise: measure the time of escape from a saddle N times."
)
@click.option("--seed", type=WHOLE, default=0, show_default=True, metavar="N", help="Seed of the noise.")
@click.option("--out", metavar="FILE", help="Write a page with the animated paths, in 3-D too, as HTML.")
@json_option
def surface(function: str | None, as_json: bool, out: str | None, **given: Any) -> None:
    """Let optimizers descend on a test function or a formula: their paths, and who arrives first.

    Each optimizer is shown at the best rate of one grid, the same for all, or at rates that are given.

    \b
    thalweg surface rosenbrock --out valley.html
    thalweg surface rosenbrock --optimizers adam --rates 0.001,0.01,0.1
    thalweg surface saddle --noise 0.01 --runs 200
    """
    from thalweg.functions import catalogue

    if function is None:
        _list(as_json)
        return
    chosen = catalogue.surface(function)
    asked = _Asked(chosen, given, out)

    from thalweg.functions.view import view
    from thalweg.report import surface_words

    with measuring():
        found, saddle, escapes = asked.measured()
    seen = view(found, asked.box)
    page = None
    if out is not None:
        from thalweg.report.surface import write_surface

        page = write_surface(found, seen, saddle, escapes, Path(out))
    if as_json:
        answer = surface_words.as_json(found, saddle, escapes)
        print_json(answer | ({"page": str(page)} if page else {}))
        return
    from thalweg.cli.table import show
    from thalweg.report.surface_terminal import terminal

    click.echo(f"{chosen.title}: {chosen.text}" if chosen.title != chosen.text else chosen.text)
    click.echo(terminal(found, seen, colour=sys.stdout.isatty()))
    click.echo()
    results = surface_words.results(found)
    show([column.name for column in results.columns], results.rows, right=range(1, len(results.columns)))
    click.echo()
    for sentence in surface_words.sentences(found, saddle, escapes):
        say(sentence)
    click.echo(f"Page: {page}" if page else "Animated, in 3-D, as a page: add --out surface.html")


def _list(as_json: bool) -> None:
    from thalweg.functions.catalogue import FAMILIES, FUNCTIONS

    made = [*FUNCTIONS.values(), *(family.make(family.number.default) for family in FAMILIES.values())]
    if as_json:
        print_json(
            [
                {
                    "name": entry.name, "title": entry.title, "expression": entry.text,
                    "start": list(entry.start), "minima": [list(at) for at in entry.minima],
                    "source": entry.source, "why": entry.why,
                }
                for entry in made
            ]
        )  # fmt: skip
        return
    from thalweg.cli.table import show

    show(("function", "what it shows"), [(entry.name, entry.why) for entry in made])
    click.echo("\nLet optimizers run: thalweg surface rosenbrock")


class _Asked:
    """What was asked for, checked before any work begins."""

    def __init__(self, chosen: Any, given: dict[str, Any], out: str | None) -> None:
        from thalweg.functions import escape, paths, walks
        from thalweg.hyper import ABOVE_0, AT_LEAST_0, Integer, Interval, Real

        names = [name.strip() for name in given["optimizers"].split(",") if name.strip()]
        settings = _settings(given["settings"], names)
        self.surface = chosen = _with_minima(chosen, given["minima"])
        self.methods = [walks.method(name, settings.get(name)) for name in names]
        self.rates = _rates(given["rates"], names)
        self.steps, self.runs, self.seed = given["steps"], given["runs"], given["seed"]
        self.noise, self.within = given["noise"], given["within"]
        Integer(1000, "", Interval(1, paths.MAX_STEPS)).check("--steps", "the paths", self.steps)
        Integer(0, "", Interval(0)).check("--seed", "the noise", self.seed)
        Real(0.0, "", AT_LEAST_0).check("--noise", "the gradient", self.noise)
        Real(paths.WITHIN, "", ABOVE_0).check("--within", "a minimum", self.within)
        self.start = paths.checked_start(chosen, _numbers("--start", given["start"]))
        self.box = self._box(given["box"])
        self.saddle = None
        if self.runs is not None:
            Integer(200, "", Interval(10, escape.MAX_RUNS)).check("--runs", "the escape", self.runs)
            if not self.noise:
                raise InputError(
                    "--runs",
                    "be with --noise",
                    "no noise",
                    "Without noise every run is the same. Such as --noise 0.01.",
                )
            self.saddle = escape.saddle_of(chosen, self.start)
        elif chosen.saddle is not None:
            self.saddle = escape.saddle_of(chosen, self.start)
        if out is not None and Path(out).suffix != ".html":
            raise InputError("--out", "end in .html", repr(out))
        if out is not None:
            refuse_unwritable("--out", Path(out))

    def _box(self, text: str | None) -> Any:
        ends = _numbers("--box", text)
        if ends is None:
            return None
        variables = self.surface.expression.variables
        pairs = tuple(zip(ends[::2], ends[1::2], strict=False))
        if len(ends) != 2 * len(variables) or not all(low < high for low, high in pairs):
            raise InputError(
                "--box",
                f"be a lower and a higher number for each of {', '.join(variables)}",
                repr(text),
                f"Such as {','.join('-2,2' for _ in variables)}.",
            )
        return pairs

    def measured(self) -> Any:
        """Run all and return the comparison, the saddle, and the escapes from it."""
        from thalweg.functions import escape, paths
        from thalweg.progress import Bar

        each = self.steps * (2 if self.runs else 1)
        with Bar("paths", len(self.methods) * each) as bar:
            found = paths.compare(
                self.surface, self.methods, self.steps, self.start, self.rates, self.noise, self.seed,
                self.within, bar.advance,
            )  # fmt: skip
            if self.runs is None or self.saddle is None:
                return found, self.saddle, ()
            by_name = {using.name: using for using in self.methods}
            escapes = [
                escape.escapes(
                    self.surface, by_name[path.optimizer], path, self.start, self.saddle, self.runs,
                    self.steps, self.noise, self.seed, bar.advance,
                )
                for path in found.paths
            ]  # fmt: skip
        return found, self.saddle, escapes


def _with_minima(surface: Any, texts: tuple[str, ...]) -> Any:
    """Return a surface with minima that were given; refuse a point that has a lower one close by."""
    import numpy as np

    if not texts:
        return surface
    f, minima = surface.expression, []
    for text in texts:
        at = np.array(_numbers("--minimum", text))
        if len(at) != len(f.variables):
            raise InputError("--minimum", f"have a number for each of {', '.join(f.variables)}", repr(text))
        around = at + 1e-3 * np.array([*np.ndindex((3,) * len(at))]) - 1e-3
        value = f(at)
        if not np.isfinite(value) or (f(around) < value - 1e-12 * (1 + abs(value))).any():
            raise InputError("--minimum", "have no lower value close by", repr(text))
        minima.append(tuple(at.tolist()))
    return replace(surface, minima=tuple(minima))


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    return None if text is None else tuple(number(option, part) for part in text.split(","))


def _rates(text: str | None, names: list[str]) -> dict[str, list[float]]:
    """Read ``--rates``.

    >>> _rates("1e-3,0.01", ["sgd", "adam"]), _rates("sgd=1e-4,sgd=1e-3", ["sgd", "adam"])
    ({'sgd': [0.001, 0.01], 'adam': [0.001, 0.01]}, {'sgd': [0.0001, 0.001]})
    """
    if text is None:
        return {}
    parts = [part.partition("=") for part in text.split(",")]
    if any(equals for _, equals, _ in parts):
        found: dict[str, list[float]] = {}
        for name, equals, value in parts:
            if not equals:
                must = "name an optimizer for each rate or for none"
                raise InputError("--rates", must, repr(text), "Such as sgd=0.1,sgd=0.2,adam=0.01.")
            found.setdefault(name.strip(), []).append(number("--rates", value))
        return found
    return {name: [number("--rates", value) for value, _, _ in parts] for name in names}


def _settings(texts: tuple[str, ...], names: list[str]) -> dict[str, dict[str, Any]]:
    """Read ``--set``: hyperparameters by optimizer.

    >>> _settings(("rmsprop.alpha=0.9",), ["rmsprop"])
    {'rmsprop': {'alpha': 0.9}}
    """
    from thalweg.rules.catalogue import preset

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        where, equals, value = text.partition("=")
        name, dot, field = where.partition(".")
        if not (equals and dot):
            raise InputError("--set", "be OPTIMIZER.NAME=VALUE", repr(text), "Such as rmsprop.alpha=0.9.")
        if name not in names:
            raise InputError(
                f"--set {where}", "be of an optimizer that runs", repr(name), nearest(name, names)
            )
        declared = preset(name).rule.hyper
        if field not in declared or field == "lr":
            others = [key for key in declared if key != "lr"]
            do = "Rates are given by --rates." if field == "lr" else ""
            raise InputError(f"--set {where}", f"be among {', '.join(others)}", repr(field), do)
        try:
            found.setdefault(name, {})[field] = declared[field].parse(value)
        except ValueError:
            raise InputError(f"--set {where}", f"be {declared[field].must}", repr(value)) from None
    return found
