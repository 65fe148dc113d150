"""What may be written, what is refused and where, and that nothing runs, hangs or fills the memory."""

import random
import re
import resource
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.functions import parse
from thalweg.functions.grammar import MAX_DEPTH, MAX_LENGTH, MAX_NODES, MAX_VARIABLES, constant, read
from unit.functions.trees import texts


@pytest.mark.parametrize(
    ("text", "point", "value"),
    [
        ("(w-3)^2", [5], 4),
        ("(w-3)**2", [5], 4),
        ("-x^2", [3], -9),
        ("2^3^x", [2], 512),
        ("2^-x", [1], 0.5),
        ("x - 1 - 2", [0], -3),
        ("x / 2 / 2", [8], 2),
        ("1 - -x", [2], 3),
        ("+x", [2], 2),
        ("2w", [3], 6),
        ("2w^2", [3], 18),
        ("3(x + 1)", [1], 6),
        ("2 w", [3], 6),
        ("6/3*x", [2], 4),
        ("1e-3*x", [2], 0.002),
        (".5x", [2], 1),
        ("e^x", [1], np.e),
        ("ln(x) + log(x)", [np.e], 2),
        ("sin(pi*x) + cos(π*x)", [1], -1),
        ("max(x, 2, y)", [1, 3], 3),
        ("min(x, 2, y)", [1, 3], 1),
        ("sqrt(abs(x))", [-9], 3),
        ("sign(x)*x", [-9], 9),
        ("choose(x, 1, 5, 7)", [1], 5),
        ("choose(x, 1, 5, 7)", [0.9], 7),
        ("½·4·w²", [3], 18),
        ("w⁴−2w²", [2], 8),
        ("(w₁−3)²+(w₂+1)²", [3, 1], 4),
        ("x⁻¹ × 6 ÷ 2", [3], 1),
        ("w10 - w2", [2, 10], 8),  # w2 comes before w10
        ("μ_1^2", [3], 9),
    ],
)
def test_formulas_are_read_as_mathematics_means_them(text: str, point: list[float], value: float) -> None:
    # Two roundings of a number near 1, and of what a function of a library gives.
    assert parse(text)(point) == pytest.approx(value, rel=4e-16, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "must", "at"),
    [
        ("", "be complete", 0),
        ("(w-3", "have a ) for each (", 0),
        ("w)", "have a ( for each )", 1),
        ("w +", "be complete", 3),
        ("w * / 2", "be a formula", 4),
        ("x y", "have an operator between two parts", 2),
        ("x(y)", "call functions that there are", 0),
        ("(x)(y)", "have an operator between two parts", 3),
        ("1/2w", "have an operator between two parts", 3),
        ("x^2w", "have an operator between two parts", 3),
        ("sine(w)", "call functions that there are", 0),
        ("w + exp", "have arguments after a function's name", 4),
        ("atan(x, y)", "give atan one argument", 0),
        ("max(x)", "give max 2 arguments", 0),
        ("f = w^2", "be written in letters, digits and + - * / ^ ( )", 2),
        ("w.real", "be written in letters, digits and + - * / ^ ( )", 1),
        ("__import__('os')", "be written in letters, digits and + - * / ^ ( )", 0),
        ("w[0]", "be written in letters, digits and + - * / ^ ( )", 1),
        ("lambda: 0", "be written in letters, digits and + - * / ^ ( )", 6),
        ("w + 'a'", "be written in letters, digits and + - * / ^ ( )", 4),
        ("w\0", "be written in letters, digits and + - * / ^ ( )", 1),
        ("9^9^9^9", "have exponents between -100 and 100", 3),
        ("w^(9^9)", "have exponents between -100 and 100", 1),
        ("w^101", "have exponents between -100 and 100", 1),
        ("(7^100)^100*w", "have numbers of at most 1e+100", 7),
        ("w + 1e101", "have numbers of at most 1e+100", 4),
        ("(" * 60 + "w" + ")" * 60, f"have at most {MAX_DEPTH} parts within each other", 50),
    ],
)
def test_what_is_refused_is_refused_with_its_place(text: str, must: str, at: int) -> None:
    with pytest.raises(InputError) as error:
        parse(text)

    message = str(error.value)
    assert message.startswith(f"the expression must {must}; got ")
    where = "at the end" if at == len(text) else f"at character {at + 1}"
    assert where in message
    *_, shown, caret = message.split("\n")
    column = caret.index("^") - 2
    if at < len(text) and text[at].isprintable():
        assert shown[2 + column] == text[at]


def test_a_caret_stands_below_its_place_in_long_texts_and_beside_wide_characters() -> None:
    with pytest.raises(InputError) as error:
        parse("x" + " + x" * 100 + " ? " + "+ x" * 100)
    *_, shown, caret = str(error.value).split("\n")
    assert shown[caret.index("^")] == "?"
    assert len(shown) < 80

    with pytest.raises(InputError) as error:
        parse("権 + ?")  # one character, two columns
    *_, shown, caret = str(error.value).split("\n")
    assert unicodedata.east_asian_width("権") == "W"
    assert caret.index("^") == shown.index("?") + 1


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("x" * (MAX_LENGTH + 1), f"have at most {MAX_LENGTH} characters"),
        ("+".join(["x"] * MAX_NODES), f"have at most {MAX_NODES} parts"),
        ("+".join(f"x{i}" for i in range(MAX_VARIABLES + 1)), f"have at most {MAX_VARIABLES} variables"),
        ("2 + 3", "have a variable"),
    ],
)
def test_size_has_limits(text: str, must: str) -> None:
    with pytest.raises(InputError, match=f"the expression must {must}"):
        parse(text)


def test_given_variables_are_the_only_ones_and_in_their_order() -> None:
    assert parse("y", ["y", "x"])([1.0, 2.0]) == 1.0
    with pytest.raises(InputError, match=r"the function must have no variable but x, y; got z\."):
        parse("x + z", ["x", "y"], who="the function")


def test_constants_are_known_and_everything_else_is_not_constant() -> None:
    assert constant(read("max(2, 3)*2 - 1", "f")[0]) == 5.0
    assert constant(read("0*w", "f")[0]) is None


@given(texts)
def test_what_is_written_down_is_read_back_as_the_same(text: str) -> None:
    expression = parse(text, ["x", "y"])
    again = parse(str(expression), ["x", "y"])
    points = np.random.default_rng(0).normal(size=(5, 2)) * 2

    assert str(again) == str(expression)
    np.testing.assert_array_equal(again(points), expression(points))


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_refused_in_a_sentence(text: str) -> None:
    _read(text)


@given(st.text("xyw12.e+-*/^(), ²½₁_'\"[]:=", max_size=60))
def test_any_text_of_the_alphabet_is_an_expression_or_refused_in_a_sentence(text: str) -> None:
    _read(text)


def _read(text: str) -> None:
    refused = None
    try:
        found = parse(text)
    except InputError as error:
        refused = str(error)
    if refused is not None:
        assert re.match(r"the expression must .*; got ", refused, re.DOTALL)
        return
    # Whatever was accepted can be computed, differentiated and written.
    values = () if found.is_scalar else (len(found.parts),)
    assert np.shape(found(np.ones(len(found.variables)))) == values
    assert len(found.gradient()) == len(found.variables)
    assert found.latex()


HOSTILE = [
    "9^9^9^9^9*x",
    "(((((x^100)^100)^100)^100)^100)^100",
    "exp(exp(exp(exp(exp(exp(x))))))",
    "x^x^x^x^x^x^x^x",
    "(1.0000001^100)^100*x",
    "*".join(["(x+y+z+a+b+c)"] * 40),
    "^".join(["(x+1.5)"] * 45),
    "/".join(["sin(x*y)"] * 90),
    "(" * 1990 + "x",
    "-" * 1990 + "x",
    "max(" * 400 + "x",
    "sin(" * 49 + "x" + ")" * 49,
    "+".join(f"x{i}*x{j}" for i in range(12) for j in range(12)),
    "__import__('os').system('touch ran')",
    'exec(\'open("ran", "w")\')',
    "().__class__.__bases__[0].__subclasses__()",
    "x" * 2000,
    "1" * 2000,
    "x.__class__",
    "{x!r}",
    "%s%n",
    "\N{COMBINING ACUTE ACCENT}" * 50 + "x",
    "\u202ex",
]
PROGRAM = """
import resource, sys
sys.path[:] = {path!r}
from thalweg.functions import parse
from thalweg.errors import InputError
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))  # seconds
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in {texts!r}:
    try:
        f = parse(text)
        point = [1.5] * len(f.variables)
        f(point), f.slope(point), f.curvature(point), str(f), f.latex()
        [str(slope) for slope in f.gradient()]
    except InputError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_hostile_texts_run_nothing_and_take_neither_long_nor_much_memory(
    tmp_path: Path,
) -> None:
    program = PROGRAM.format(path=sys.path, texts=HOSTILE)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 100 * 1024  # KiB
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_hundred_thousand_random_texts() -> None:
    parts = [
        *"xyzw0123456789.+-*/^()(), ²³½₁_e'[]=:;!\\\"",
        *("**", "sin(", "cos(", "exp(", "log(", "max(", "sqrt(", "1e9", "9^9", "pi", "__", "import "),
    ]
    draw = random.Random(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = 0
    for _ in range(100_000):
        text = "".join(draw.choices(parts, k=draw.randrange(1, 25)))
        begun = time.process_time()
        try:
            parse(text)
            accepted += 1
        except InputError:
            pass
        assert time.process_time() - begun < 5.0  # a text that hangs, not a slow machine
    assert accepted > 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB
