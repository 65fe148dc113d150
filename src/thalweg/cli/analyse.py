"""`thalweg analyse`: what is known about a function, and what that means for a rate."""

import click

from thalweg.cli.formula import FormulaCommand
from thalweg.cli.options import NUMBER, json_option, number, print_json, seed_option
from thalweg.cli.prose import say
from thalweg.errors import InputError


@click.command(cls=FormulaCommand)
@click.argument("expression", metavar="EXPR", help="The function, such as w1^2+25*w2^2.")
@click.option(
    "--start", metavar="NUMBERS", help="Search from here too, and run gradient descent, such as 2,-1."
)
@click.option("--lr", type=NUMBER, metavar="RATE", help="The rate in question, else the best fixed one.")
@click.option("--noise", type=NUMBER, metavar="S", help="Variance of the gradient: predict the noise ball.")
@click.option(
    "--within",
    default="-10,10",
    show_default=True,
    metavar="LOW,HIGH",
    help="Where to look for critical points, along each variable.",
)
@seed_option
@json_option
def analyse(
    expression: str,
    start: str | None,
    lr: float | None,
    noise: float | None,
    within: str,
    seed: int,
    as_json: bool,
) -> None:
    """Analyse a function: its critical points, convexity, stable and best rates, steps.

    Each claim is shown, or refuted with a witness, or said to be undecided. The predicted number of steps is
    checked by running gradient descent. Of several values between commas the Jacobian is shown.

    \b
    thalweg analyse "w1^2+25*w2^2"
    thalweg analyse "w^4-3*w^2+2" --start 2 --lr 0.1
    thalweg analyse --noise 1 -- "-x+x^2"
    """
    begin = None if start is None else _numbers("--start", start)
    ends = _numbers("--within", within)
    if len(ends) != 2:
        raise InputError("--within", "be two numbers", repr(within), "Such as -5,5.")

    from thalweg.functions import analysis, analysis_text

    found = analysis.analyse(expression, begin, noise, lr, (ends[0], ends[1]), seed)
    if as_json:
        print_json(analysis_text.data(found))
        return
    for sentence in analysis_text.sentences(found):
        say(sentence)


def _numbers(option: str, text: str) -> list[float]:
    """Read numbers between commas, in brackets or without."""
    inner = text.strip().removeprefix("(").removesuffix(")")
    return [number(option, part) for part in inner.split(",")]
