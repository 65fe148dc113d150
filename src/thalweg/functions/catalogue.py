"""Test functions of one or two variables, each a formula with what is known of it: minima, saddle, source.

>>> rosenbrock = surface("rosenbrock")
>>> rosenbrock.expression(rosenbrock.minima[0]).item()
0.0
>>> surface("quadratic:kappa=4").text
'(x^2 + 4*y^2)/2'
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from thalweg.errors import InputError, nearest
from thalweg.functions.expression import Expression, parse
from thalweg.hyper import Interval, Real

Point = tuple[float, ...]
Box = tuple[tuple[float, float], ...]  # the ends of the view, one pair a variable


@dataclass(frozen=True)
class Surface:
    """A function with what is known of it; points have one number a variable, in the order of the names."""

    name: str  # as it is asked for
    title: str
    text: str  # in the grammar of `thalweg.functions.grammar`
    start: Point
    minima: tuple[Point, ...] = ()  # the known ones, all with the lowest value; (): none is known
    box: Box | None = None  # what to look at; None: decided by the paths
    saddle: Point | None = None
    source: str = ""
    why: str = ""  # what makes it hard, or what it shows

    @cached_property
    def expression(self) -> Expression:
        """The formula, ready to be computed."""
        return parse(self.text, who="the function")


@dataclass(frozen=True)
class Family:
    """Functions that differ in one number, such as the condition number of a quadratic."""

    name: str
    field: str
    number: Real
    make: Callable[[float], Surface]


_SURVEY: Final = "as in Jamil and Yang 2013, arXiv:1308.4008"
_HIMMELBLAU: Final = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.283185991286170),
    (3.584428340330492, -1.848126526964404),
)

FUNCTIONS: Final[Mapping[str, Surface]] = {
    entry.name: entry
    for entry in (
        Surface(
            "rosenbrock",
            "Rosenbrock's valley",
            "(1 - x)^2 + 100*(y - x^2)^2",
            (-1.0, 2.0),
            ((1.0, 1.0),),
            ((-2.0, 2.0), (-1.0, 3.0)),
            source="Rosenbrock 1960, The Computer Journal 3(3), 175-184",
            why="The bottom of its curved valley is nearly flat (κ = 2508 at the minimum): a rate that is "
            "stable across the valley hardly moves along it.",
        ),
        Surface(
            "beale",
            "Beale's function",
            "(1.5 - x + x*y)^2 + (2.25 - x + x*y^2)^2 + (2.625 - x + x*y^3)^2",
            (1.0, 1.0),
            ((3.0, 0.5),),
            ((-4.5, 4.5), (-4.5, 4.5)),
            source="Beale 1958, Princeton; start of Moré, Garbow and Hillstrom 1981, ACM TOMS 7(1), 17-41",
            why="The gradient is over 200,000 at its corners and 28 at the start: a rate is right in one "
            "place alone.",
        ),
        Surface(
            "himmelblau",
            "Himmelblau's function",
            "(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
            (0.0, 0.0),
            _HIMMELBLAU,
            ((-5.0, 5.0), (-5.0, 5.0)),
            source="Himmelblau 1972, Applied Nonlinear Programming, McGraw-Hill",
            why="Four minima of the same value: which one is reached depends on method and rate.",
        ),
        Surface(
            "rastrigin",
            "Rastrigin's function",
            "20 + x^2 - 10*cos(2*pi*x) + y^2 - 10*cos(2*pi*y)",
            (2.3, -1.7),
            ((0.0, 0.0),),
            ((-3.5, 3.5), (-3.5, 3.5)),
            source="Rastrigin 1974, Systems of Extremal Control; in two variables " + _SURVEY,
            why="A local minimum near every pair of whole numbers: what only descends ends in the nearest.",
        ),
        Surface(
            "ackley",
            "Ackley's function",
            "20 + e - 20*exp(-0.2*sqrt((x^2 + y^2)/2)) - exp((cos(2*pi*x) + cos(2*pi*y))/2)",
            (2.6, -1.4),
            ((0.0, 0.0),),
            ((-4.0, 4.0), (-4.0, 4.0)),
            source="Ackley 1987, A Connectionist Machine for Genetic Hillclimbing, Kluwer",
            why="Ripples on a funnel whose tip is a kink: at the minimum itself there is no gradient, and "
            "near it the gradient does not fade, so a fixed rate cannot settle.",
        ),
        Surface(
            "booth",
            "Booth's function",
            "(x + 2*y - 7)^2 + (2*x + y - 5)^2",
            (-4.0, -3.0),
            ((1.0, 3.0),),
            ((-6.0, 6.0), (-5.0, 7.0)),
            source=f"Booth; {_SURVEY}",
            why="A rotated quadratic bowl with κ = 9: easy, and a check that a method works at all.",
        ),
        Surface(
            "matyas",
            "Matyas' function",
            "0.26*(x^2 + y^2) - 0.48*x*y",
            (-4.0, 3.0),
            ((0.0, 0.0),),
            ((-6.0, 6.0), (-6.0, 6.0)),
            source=f"Matyas; {_SURVEY}",
            why="A rotated quadratic with κ = 25 whose long axis is a diagonal.",
        ),
        Surface(
            "saddle",
            "A saddle between two minima",
            "x^2 - y^2 + y^4/2",
            (1.0, 0.0),
            ((0.0, 1.0), (0.0, -1.0)),
            ((-1.5, 1.5), (-1.5, 1.5)),
            (0.0, 0.0),
            "x² − y² with a term that bounds it below; its Hessian at the saddle is that of x² − y²",
            "Its start lies on the line from which descent without noise runs into the saddle and stays.",
        ),
        Surface(
            "monkey-saddle",
            "A monkey saddle",
            "x^3 - 3*x*y^2 + (x^2 + y^2)^2",
            (0.3, 0.0),
            ((-0.75, 0.0), (0.375, 3 * math.sqrt(3) / 8), (0.375, -3 * math.sqrt(3) / 8)),
            ((-1.2, 1.2), (-1.2, 1.2)),
            (0.0, 0.0),
            "x³ − 3xy², from Hilbert and Cohn-Vossen 1932, with a term that bounds it below",
            "Three ways lead down, but the Hessian at the saddle is zero: its curvature tells nothing.",
        ),
        Surface(
            "plateau",
            "A hole in a plateau",
            "1 - exp(-(x^2 + y^2)/2)",
            (3.0, 2.0),
            ((0.0, 0.0),),
            ((-4.0, 4.0), (-4.0, 4.0)),
            source="A Gaussian upside down",
            why="Far away the gradient is nearly zero: what steps in proportion to it hardly moves.",
        ),
    )
}


def _quadratic(kappa: float) -> Surface:
    return Surface(
        f"quadratic:kappa={kappa:g}",
        f"A quadratic with condition number {kappa:g}",
        f"(x^2 + {kappa!r}*y^2)/2".replace(".0*", "*"),
        (4.0, 1.0),
        ((0.0, 0.0),),
        ((-5.0, 5.0), (-2.5, 2.5)),
        source="Eigenvalues 1 and κ; Nocedal and Wright 2006, Numerical Optimization, section 3.3",
        why="Axes along the coordinates: methods with a rate for each coordinate do not feel κ.",
    )


def _ravine(kappa: float) -> Surface:
    return Surface(
        f"ravine:kappa={kappa:g}",
        f"A ravine along the diagonal with condition number {kappa:g}",
        f"((x + y)^2 + {kappa!r}*(x - y)^2)/4".replace(".0*", "*"),
        (-4.0, -2.0),
        ((0.0, 0.0),),
        ((-5.0, 5.0), (-5.0, 5.0)),
        source="`quadratic` turned by 45°; eigenvalues 1 and κ",
        why="What helps a method with a rate for each coordinate on `quadratic` is lost on a turned one.",
    )


_KAPPA: Final = Real(100.0, "condition number", Interval(1.0, 1e8))
FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family
    for family in (
        Family("quadratic", "kappa", _KAPPA, _quadratic),
        Family("ravine", "kappa", _KAPPA, _ravine),
    )
}
NAMES: Final = (*FUNCTIONS, *FAMILIES)


def surface(text: str) -> Surface:
    """Return a function of the catalogue, or the one that a formula of one or two variables describes.

    Of a formula no minimum is known, and its start is 1 in each variable.

    Args:
        text: a name, a name with a number (``quadratic:kappa=100`` or ``quadratic:100``), or a formula.

    Raises:
        InputError: it is neither a known name nor a formula with one value and one or two variables.

    >>> surface("rosenbrok")
    Traceback (most recent call last):
    thalweg.errors.InputError: the function must be a known name or a formula; got 'rosenbrok'. Did you mean
    rosenbrock?
    >>> surface("(w - 3)^2").start
    (1.0,)
    """
    written = text.strip()
    name, colon, rest = written.partition(":")
    name = name.strip().lower()
    if name in FAMILIES:
        return _member(FAMILIES[name], rest if colon else None)
    if name in FUNCTIONS:
        if colon:
            raise InputError(f"the function {name}", "be named alone", repr(written), f"Write {name}.")
        return FUNCTIONS[name]
    # Letters and hyphens alone would be read as a difference of variables: monkey-sadle.
    if colon or (re.fullmatch(r"[^\W\d_]+(-[^\W\d_]+)*", name) and max(map(len, name.split("-"))) > 2):
        raise InputError("the function", "be a known name or a formula", repr(written), nearest(name, NAMES))
    made = Surface(written, written, written, ())
    f = made.expression
    if not f.is_scalar:
        raise InputError("the function", "have one value", f"{len(f.parts)} between commas")
    if len(f.variables) > 2:
        raise InputError(
            "the function",
            "have one or two variables",
            f"{len(f.variables)}: {', '.join(f.variables)}",
            "There is nothing to draw otherwise.",
        )
    return Surface(written, written, written, (1.0,) * len(f.variables))


def _member(family: Family, text: str | None) -> Surface:
    """Return the function of a family that ``kappa=100`` or ``100`` names; None: that of the default."""
    if text is None:
        return family.make(float(family.number.default))
    field, equals, value = text.rpartition("=")
    if equals and field.strip() != family.field:
        raise InputError(f"the function {family.name}", f"be given {family.field}", repr(field.strip()))
    try:
        number = float(value)
    except ValueError:
        example = f"Such as {family.name}:{family.field}={family.number.default:g}."
        raise InputError(
            f"{family.field} of {family.name}", f"be {family.number.must}", repr(value), example
        ) from None
    family.number.check(family.field, family.name, number)
    return family.make(number)
