"""Read a formula as a person writes it. Nothing is ever evaluated as Python.

    expression = sum {("," | ";") sum}          several sums make a vector function
    sum        = product {("+" | "-") product}
    product    = signed {("*" | "/") signed}
    signed     = ("+" | "-") signed | power
    power      = atom [("^" | "**") signed]     -x^2 is -(x^2), x^y^z is x^(y^z)
               | number power                   2w and 3(x+1), but 1/2w is refused
    atom       = number | name | name "(" sum {"," sum} ")" | "(" sum ")"

What mathematics writes otherwise is read too: −, ·, ×, ÷, ½, x², w₁. What is refused is refused with the
place where it stands.
"""

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from thalweg.errors import InputError, nearest
from thalweg.functions.nodes import (
    ALIASES,
    CONSTANTS,
    FUNCTIONS,
    Call,
    Node,
    Number,
    Variable,
    fold,
    is_number,
)

MAX_LENGTH: Final = 2_000  # characters
MAX_NODES: Final = 600
MAX_DEPTH: Final = 50  # of one part in another
MAX_EXPONENT: Final = 100.0  # of an exponent that is a number
MAX_NUMBER: Final = 1e100
MAX_VARIABLES: Final = 20

_NUMBER: Final = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_IN_NAMES: Final = frozenset("0123456789_₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPT: Final = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_SIGNS: Final = {"−": "-", "–": "-", "·": "*", "×": "*", "⋅": "*", "÷": "/", "^": "**"}
_FRACTIONS: Final = {"½": 0.5, "¼": 0.25, "¾": 0.75}
_DIGITS: Final = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "+-01234567890123456789")
_INSTEAD: Final = {
    "=": "Write the function alone, (w-3)^2.",
    "[": "Write ( and ).",
    "{": "Write ( and ).",
    ".": "A number has digits: 0.5.",
}
_OPERATORS: Final = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}


class Token(NamedTuple):
    """A word of the text: a number, a name, a sign, a superscript, or the end."""

    kind: str
    text: str
    at: int


def read(text: str, who: str) -> tuple[Node, ...]:
    """Return the parts of an expression, one for a function with one value.

    Raises:
        InputError: it is no expression of the grammar, or too large; the message points at the character.
    """
    if not isinstance(text, str):
        raise InputError(who, "be a text", repr(text), "Such as (w-3)^2.")
    if len(text) > MAX_LENGTH:
        raise InputError(who, f"have at most {MAX_LENGTH} characters", len(text))
    return _Reader(text, who).parts()


class _Reader:
    """Reads from left to right, with one word of foresight."""

    def __init__(self, text: str, who: str) -> None:
        self.text, self.who = text, who
        self.tokens = list(self._words())
        self.place = 0
        self.nodes = 0

    def parts(self) -> tuple[Node, ...]:
        found = [self._sum(1)]
        while self._now.text in (",", ";"):
            self._advance()
            found.append(self._sum(1))
        if self._now.kind != "end":
            self._unexpected()
        return tuple(found)

    @property
    def _now(self) -> Token:
        return self.tokens[self.place]

    def _advance(self) -> Token:
        token = self._now
        self.place += token.kind != "end"
        return token

    def _refuse(self, must: str, got: str, at: int, do: str = "") -> NoReturn:
        """Refuse with the text and a caret below the place."""
        # One line, with what is no character of its own replaced, so that the caret stands below its place.
        shown = "".join(x if x.isprintable() else " " for x in self.text)
        start = max(0, at - 40)
        shown, caret = shown[start : at + 30], " " * _width(shown[start:at]) + "^"
        said = f"{got} at character {at + 1}" if at < len(self.text) else f"{got} at the end"
        raise InputError(self.who, must, said, f"{do} Here:\n  {shown}\n  {caret}".lstrip(" "))

    def _unexpected(self) -> NoReturn:
        token = self._now
        before = self.tokens[self.place - 1] if self.place else None
        if token.kind == "end":
            self._refuse("be complete", "nothing more", token.at, "A number, a variable or ( is missing.")
        ended = before and (before.kind in ("number", "name", "superscript") or before.text == ")")
        if ended and (token.kind in ("number", "name") or token.text == "("):
            self._refuse(
                "have an operator between two parts", repr(token.text), token.at, "Write * to multiply."
            )
        if token.text == ")":
            self._refuse("have a ( for each )", "')'", token.at)
        self._refuse("be a formula", repr(token.text), token.at)

    def _words(self) -> Iterator[Token]:
        at = 0
        while at < len(self.text):
            x = self.text[at]
            if x.isspace():
                at += 1
                continue
            if x in _FRACTIONS:
                word, kind, text = x, "number", str(_FRACTIONS[x])
            elif found := _SUPERSCRIPT.match(self.text, at):
                word, kind, text = found[0], "superscript", found[0].translate(_DIGITS)
            elif found := _NUMBER.match(self.text, at):
                word, kind, text = found[0], "number", found[0]
            elif x.isalpha():
                end = at
                while end < len(self.text) and (self.text[end].isalpha() or self.text[end] in _IN_NAMES):
                    end += 1
                word, kind, text = self.text[at:end], "name", self.text[at:end].translate(_DIGITS)
            elif self.text.startswith("**", at):
                word, kind, text = "**", "sign", "**"
            elif (text := _SIGNS.get(x, x)) in ("+", "-", "*", "/", "**", "(", ")", ",", ";"):
                word, kind = x, "sign"
            else:
                name = unicodedata.name(x, "a control character").lower()
                known = x.isprintable() and x.isascii()
                self._refuse(
                    "be written in letters, digits and + - * / ^ ( )",
                    repr(x) if known else name,
                    at,
                    _INSTEAD.get(x, ""),
                )
            yield Token(kind, text, at)
            at += len(word)
        yield Token("end", "", len(self.text))

    def _made(self, node: Node) -> Node:
        """Count a part."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._refuse(f"have at most {MAX_NODES} parts", "more", node.at)
        return node

    def _sum(self, depth: int) -> Node:
        left = self._product(depth)
        while self._now.text in ("+", "-"):
            sign = self._advance()
            left = self._made(Call(sign.at, _OPERATORS[sign.text], (left, self._product(depth))))
        return left

    def _product(self, depth: int) -> Node:
        left = self._signed(depth)
        while self._now.text in ("*", "/"):
            sign = self._advance()
            left = self._made(Call(sign.at, _OPERATORS[sign.text], (left, self._signed(depth))))
        return left

    def _signed(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._refuse(f"have at most {MAX_DEPTH} parts within each other", "more", self._now.at)
        if self._now.text not in ("+", "-"):
            return self._power(depth)
        sign = self._advance()
        inner = self._signed(depth + 1)
        return inner if sign.text == "+" else self._made(Call(sign.at, "negative", (inner,)))

    def _power(self, depth: int) -> Node:
        first = self.place
        base = self._atom(depth)
        if isinstance(base, Number) and self.tokens[first].kind == "number" and self._may_follow(first):
            return self._made(Call(base.at, "multiply", (base, self._power(depth + 1))))
        if self._now.kind == "superscript":
            token = self._advance()
            return self._raised(base, self._made(Number(token.at, float(token.text))), token.at)
        if self._now.text != "**":
            return base
        sign = self._advance()
        return self._raised(base, self._signed(depth + 1), sign.at)

    def _may_follow(self, first: int) -> bool:
        """Tell whether a factor without a sign comes after the number in this place: 2w, 3(x + 1)."""
        ambiguous = first > 0 and self.tokens[first - 1].text in ("/", "**")  # 1/2w
        return not ambiguous and (self._now.kind == "name" or self._now.text == "(")

    def _raised(self, base: Node, exponent: Node, at: int) -> Node:
        value = constant(exponent)
        if value is not None and not abs(value) <= MAX_EXPONENT:
            self._refuse(f"have exponents between -{MAX_EXPONENT:g} and {MAX_EXPONENT:g}", f"{value:g}", at)
        if is_number(base, math.e):
            return self._made(Call(at, "exp", (exponent,)))
        node = self._made(Call(at, "power", (base, exponent)))
        value = constant(node)
        if value is not None and not abs(value) <= MAX_NUMBER:
            self._refuse(f"have numbers of at most {MAX_NUMBER:g}", f"{value:g}", at)
        return node

    def _atom(self, depth: int) -> Node:
        token = self._advance()
        if token.kind == "number":
            if not float(token.text) <= MAX_NUMBER:
                self._refuse(f"have numbers of at most {MAX_NUMBER:g}", token.text[:20], token.at)
            return self._made(Number(token.at, float(token.text)))
        if token.text == "(":
            inner = self._sum(depth + 1)
            self._close(token)
            return inner
        if token.kind == "name" and self._now.text == "(":
            return self._call(token, depth)
        if token.kind == "name":
            return self._name(token)
        self.place -= token.kind != "end"
        return self._unexpected()

    def _close(self, opened: Token) -> None:
        if self._now.text != ")":
            if self._now.kind != "end":
                self._unexpected()
            self._refuse("have a ) for each (", "'('", opened.at)
        self._advance()

    def _name(self, token: Token) -> Node:
        if token.text in CONSTANTS:
            return self._made(Number(token.at, CONSTANTS[token.text]))
        if token.text in _CALLED or token.text in ALIASES:
            self._refuse(
                "have arguments after a function's name",
                repr(token.text),
                token.at,
                f"Such as {token.text}(x).",
            )
        return self._made(Variable(token.at, unicodedata.normalize("NFKC", token.text)))

    def _call(self, token: Token, depth: int) -> Node:
        name = ALIASES.get(token.text, token.text)
        if name not in _CALLED:
            known = "Write * to multiply." if len(name) < 3 else nearest(name, [*_CALLED, *ALIASES])
            self._refuse("call functions that there are", repr(token.text), token.at, known)
        opened = self._advance()
        arguments = [self._sum(depth + 1)]
        while self._now.text == ",":
            self._advance()
            arguments.append(self._sum(depth + 1))
        self._close(opened)
        wanted = len(FUNCTIONS[name].partials) or FUNCTIONS[name].arity
        if name in ("max", "min") and len(arguments) > 1:
            left, *others = arguments
            for other in others:
                left = self._made(Call(token.at, name, (left, other)))
            return left
        if len(arguments) != wanted:
            words = "one argument" if wanted == 1 else f"{wanted} arguments"
            self._refuse(f"give {token.text} {words}", f"{len(arguments)}", token.at)
        return self._made(Call(token.at, name, tuple(arguments)))


_CALLED: Final = [name for name, meaning in FUNCTIONS.items() if meaning.public]


def constant(node: Node) -> float | None:
    """Return the value of a part without variables, None of another one.

    >>> constant(read("2^3 - 1", "f")[0]), constant(read("w^3", "f")[0])
    (7.0, None)
    """

    def value(here: Node, below: list[Any]) -> Any:
        if isinstance(here, Number):
            return np.float64(here.value)
        if not isinstance(here, Call) or any(x is None for x in below):
            return None
        return FUNCTIONS[here.name].compute(np, *below)

    with np.errstate(all="ignore"):
        found = fold(node, value)
    return None if found is None else float(found)


def _width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(x) in "WF" for x in text)
    return len(text) + wide - sum(unicodedata.combining(x) > 0 for x in text)
