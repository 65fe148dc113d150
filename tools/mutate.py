"""Change every rule in small ways, one at a time, and report the changes that no test notices.

    .venv/bin/python tools/mutate.py [RULE ...]

A mutant is one change in a function that a rule runs: a sign, an operator, a factor or term that is left
out, a constant one larger, an ε inside the root instead of outside, another field of the same record, a
condition turned round. They are made mechanically, from the syntax tree; the code of the function is
exchanged in memory, and no file is written. Then the rule's rows of the tests in `tests/contracts` run
until one fails, comparisons with the oracle first: the mutant is noticed. A branch that only another rule
takes is left to the tests of that rule. The exit status is 0 if all mutants are noticed.

`equivalent.toml` beside this file has the changes that cannot matter, each with the reason; one that matches
no mutant is an error.
"""

import argparse
import ast
import functools
import multiprocessing
import os
import signal
import sys
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # one process a core

import pytest

from thalweg.rules import base, ops, products, tail
from thalweg.rules.catalogue import RULES

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "contracts"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
PATIENCE = 60  # seconds for one test; a mutant that takes longer has changed something
STEP = (
    "start", "clock", "direction", "tail", "evaluated", "initial_shared", "partial", "combine", "refresh",
)  # fmt: skip
# What all rules run is nobody's own.
SHARED = {module.__name__ for module in (base, ops, products, tail)}
SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
TURNED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPPOSITE = {"maximum": "minimum", "minimum": "maximum"}
RECORDS = {"s", "h", "c", "around", "shared", "sums"}  # whose fields can be mistaken for one another
Check = functools.partial[None]  # a row of a test


@dataclass(frozen=True)
class Mutant:
    """One change in one function that a rule runs."""

    rule: str
    function: FunctionType
    line: int
    before: str  # the statement, or the argument with a name
    after: str
    code: CodeType

    @property
    def key(self) -> str:
        """What `equivalent.toml` knows it by."""
        return f"{Path(self.function.__code__.co_filename).name} {self.function.__name__}: {self.after}"


# The functions of a rule.


def functions(rule: base.Rule) -> list[FunctionType]:
    """Return the functions that a rule runs while it steps, and what they call in the files of rules."""
    found: dict[CodeType, FunctionType] = {}
    waiting = [getattr(rule, field) for field in STEP]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, FunctionType) or one.__code__ in found or not _of_a_rule(one):
            continue
        found[one.__code__] = one
        waiting += [one.__globals__[name] for name in _names(one.__code__) if name in one.__globals__]
    return sorted(found.values(), key=lambda one: (one.__module__, one.__code__.co_firstlineno))


def _of_a_rule(function: FunctionType) -> bool:
    return function.__module__.startswith("thalweg.rules.") and function.__module__ not in SHARED


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


# The changes.


def changes(node: ast.AST, siblings: dict[str, list[str]]) -> Iterator[ast.AST]:
    """Yield what one node of a syntax tree may become."""
    match node:
        # Which only make a copy, or give a number the type of another.
        case (
            ast.BinOp(_, ast.Add(), ast.Constant(0))
            | ast.BinOp(_, ast.Mult(), ast.Constant(1.0))
            | ast.BinOp(ast.Constant(0), ast.Mult(), _)
        ):
            return
        case ast.BinOp(left, operator, right):
            if type(operator) in SWAPPED:
                yield ast.BinOp(left, SWAPPED[type(operator)](), right)
            if isinstance(operator, ast.Add | ast.Sub | ast.Mult | ast.Div):
                yield left
            if isinstance(operator, ast.Add | ast.Mult | ast.MatMult):
                yield right
            if isinstance(operator, ast.MatMult):
                yield ast.BinOp(right, operator, left)
            match node:
                case ast.BinOp(ast.Call(ast.Name("sqrt") as root, [inner]), ast.Add(), epsilon):
                    yield ast.Call(root, [ast.BinOp(inner, ast.Add(), epsilon)], [])
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield operand
        case ast.Compare(left, [operator], [right]):
            for turned in TURNED.get(type(operator), ()):
                yield ast.Compare(left, [turned()], [right])
        case ast.BoolOp(operator, operands):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), operands)
        case ast.IfExp(test, body, other):
            yield ast.IfExp(test, other, body)
        case ast.If(test, body, other) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, other)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Subscript(value, ast.Constant(0 | 1 as place), context):
            yield ast.Subscript(value, ast.Constant(1 - place), context)
        case ast.Attribute(ast.Name(record) as name, field, ast.Load()) if record in RECORDS:
            names = siblings[record]
            if len(names) > 1:
                yield ast.Attribute(name, names[(names.index(field) + 1) % len(names)], ast.Load())
        case ast.Call(ast.Name(name), arguments, keywords) if arguments and hasattr(ops, name):
            if name in OPPOSITE:
                yield ast.Call(ast.Name(OPPOSITE[name], ast.Load()), arguments, keywords)
            yield from (
                arguments[1:] if name == "where" else arguments[: 2 if name in (*OPPOSITE, "lerp") else 1]
            )
            match arguments:
                case [ast.BinOp(inner, ast.Add(), right)] if name == "sqrt" and "eps" in ast.unparse(right):
                    yield ast.BinOp(ast.Call(node.func, [inner], []), ast.Add(), right)  # type: ignore[attr-defined]


def mutants(rule: base.Rule, function: FunctionType) -> Iterator[Mutant]:
    """Yield every change of a function, each once."""
    path = function.__code__.co_filename
    tree = ast.parse(Path(path).read_text())
    place = _place(tree, function.__code__)
    seen, siblings = {ast.unparse(place)}, _fields(place)
    for part, node, put in list(_nodes(place)):
        before = _head(part)
        for new in list(changes(node, siblings)):
            put(ast.copy_location(new, node))
            ast.fix_missing_locations(tree)
            text = ast.unparse(place)
            if text not in seen:
                seen.add(text)
                code = _code_of(compile(tree, path, "exec"), function.__code__)
                after = _head(new if part is node else part)
                yield Mutant(rule.name, function, node.lineno, before, after, code)
            put(node)


def _head(part: ast.AST) -> str:
    """Return a statement, of a compound one its first line."""
    return ast.unparse(part).splitlines()[0]


def _place(tree: ast.Module, code: CodeType) -> Any:
    kind: Any = ast.Lambda if code.co_name == "<lambda>" else ast.FunctionDef
    (place,) = (
        node for node in ast.walk(tree) if isinstance(node, kind) and node.lineno == code.co_firstlineno
    )
    return place


def _nodes(tree: Any, part: Any = None) -> Iterator[tuple[Any, Any, Callable[[Any], None]]]:
    """Yield the nodes below a function, each with its statement or named argument, and how to replace it."""
    for name, value in ast.iter_fields(tree):
        if name in ("args", "returns", "decorator_list") and isinstance(tree, ast.FunctionDef | ast.Lambda):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            # Assertions and messages; functions within, which are found by themselves; strict= of zip.
            apart = isinstance(node, ast.Assert | ast.FunctionDef | ast.Lambda | ast.Delete | ast.Raise)
            if apart or not isinstance(node, ast.expr | ast.stmt | ast.keyword | ast.comprehension):
                continue
            if isinstance(node, ast.keyword) and node.arg == "strict":
                continue
            whole = isinstance(node, ast.stmt | ast.keyword) or part is None
            put = functools.partial(_put, tree, name, index if isinstance(value, list) else None)
            yield node if whole else part, node, put
            yield from _nodes(node, node if whole else part)


def _put(holder: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(holder, name, node)
    else:
        getattr(holder, name)[index] = node


def _fields(function: Any) -> dict[str, list[str]]:
    """Return which fields of its records a function reads."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return {record: sorted(names) for record, names in found.items()}


def _code_of(module: CodeType, like: CodeType) -> CodeType:
    """Return the code of a function in a compiled module."""
    waiting = [module]
    while waiting:
        code = waiting.pop()
        if (code.co_qualname, code.co_firstlineno) == (like.co_qualname, like.co_firstlineno):
            return code
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    raise AssertionError(like.co_qualname)


# The tests.


class Collector:
    """A plugin of pytest's that takes the tests instead of running them."""

    def __init__(self) -> None:
        self.checks: dict[str, list[Check]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Keep the rows of every rule, comparisons with the oracle first."""
        from hypothesis import Phase, settings  # pytest wants to import it first

        # A mutant need not be made smaller once it is found.
        fast = settings(phases=[Phase.explicit, Phase.generate], database=None, print_blob=False)
        settings.register_profile("mutants", fast)
        settings.load_profile("mutants")
        for item in sorted(session.items, key=lambda item: "oracle" not in item.name):
            given = dict(item.callspec.params) if hasattr(item, "callspec") else {}
            file = item.path.stem.removeprefix("test_")  # test_muon is all about one rule
            name = file if file in RULES else given.get("name")
            if name in RULES and set(item.fixturenames) <= {*given, "_seeded"}:  # type: ignore[attr-defined]
                check = functools.partial(item.obj, **given)  # type: ignore[attr-defined]
                self.checks.setdefault(name, []).append(check)
        return True


def collected(names: list[str]) -> tuple[dict[str, list[Check]], int]:
    """Return the rows of each rule that hold without any change, and how many do not."""
    collector = Collector()
    options = ["-qq", "--no-header", "-m", "not slow", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    pytest.main([*options, "-c", str(ROOT / "pyproject.toml"), str(TESTS)], plugins=[collector])
    warnings.simplefilter("error")  # as pytest has it
    rows = [(name, check) for name in names for check in collector.checks[name]]
    sound: dict[str, list[Check]] = {name: [] for name in names}
    red = 0
    for (name, check), how in zip(
        rows, on_all_cores(lambda i: failure([rows[i][1]]), len(rows)), strict=True
    ):
        if how:
            red += 1
            print(f"red without any change: {name}: {check.func.__name__} {check.keywords}: {how}")
        else:
            sound[name].append(check)
    return sound, red


def noticed(mutant: Mutant, checks: list[Check]) -> str:
    """Return how a mutant is noticed, by a difference or an exception; nothing if it is not."""
    function, original = mutant.function, mutant.function.__code__
    function.__code__ = mutant.code
    try:
        return failure(checks)
    finally:
        function.__code__ = original


def failure(checks: list[Check]) -> str:
    """Run tests until one fails; return how."""
    signal.signal(signal.SIGALRM, _too_long)
    for check in checks:
        signal.alarm(PATIENCE)
        try:
            check()
        except AssertionError:
            return "difference"
        except Exception as error:
            return type(error).__name__
        finally:
            signal.alarm(0)
    return ""


def _too_long(*_: object) -> None:
    raise TimeoutError


_TASK: Callable[[int], str]


def _run(place: int) -> str:
    return _TASK(place)


def on_all_cores(task: Callable[[int], str], count: int) -> list[str]:
    """Return the answers of a task to 0, 1, …; forked processes know it, so that no code is sent."""
    global _TASK
    _TASK = task
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        return pool.map(_run, range(count), chunksize=1)


def main() -> int:
    """Make the mutants, try them on all cores, and print the survivors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rules", nargs="*", metavar="RULE", help="default: all")
    names = parser.parse_args().rules or list(RULES)
    unknown = sorted(set(names) - set(RULES))
    if unknown:
        parser.error(f"RULE must be one of {', '.join(RULES)}; got {', '.join(unknown)}")

    start = time.perf_counter()
    own = {name: functions(RULES[name]) for name in RULES}
    made = [mutant for name in names for one in own[name] for mutant in mutants(RULES[name], one)]
    groups = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    equivalent = {change for group in groups for change in group["changes"]}
    tried = [mutant for mutant in made if mutant.key not in equivalent]
    others = {m.function: [n for n in RULES if m.function in own[n]] for m in tried}
    checks, red = collected(sorted({name for group in others.values() for name in group} | set(names)))

    def ask(place: int) -> str:
        mutant = tried[place]
        how = noticed(mutant, checks[mutant.rule])
        elsewhere = [row for name in others[mutant.function] if name != mutant.rule for row in checks[name]]
        return how or ("elsewhere" if noticed(mutant, elsewhere) else "")

    answers = on_all_cores(ask, len(tried))
    unused = [] if len(names) < len(RULES) else sorted(equivalent - {mutant.key for mutant in made})
    report(tried, answers, unused)
    counts = Counter(a if a in ("", "difference", "elsewhere") else "exception" for a in answers)
    print(
        f"\n{len(names)} rules, {len(tried)} mutants: {counts['difference']} noticed by a difference, "
        f"{counts['exception']} by an exception, {counts['elsewhere']} by the tests of another rule that "
        f"takes the branch, {counts['']} by nothing; {len(made) - len(tried)} cannot matter. "
        f"{time.perf_counter() - start:.0f} s"
    )
    return int(bool(red or unused or counts[""]))


def report(tried: list[Mutant], answers: list[str], unused: list[str]) -> None:
    """Print how many mutants of each rule were noticed, and those that were not."""
    for name in dict.fromkeys(mutant.rule for mutant in tried):
        mine = [answer for mutant, answer in zip(tried, answers, strict=True) if mutant.rule == name]
        print(f"{name:20} {sum(map(bool, mine)):4} of {len(mine):4} noticed")
    for mutant, answer in zip(tried, answers, strict=True):
        if not answer:
            path = Path(mutant.function.__code__.co_filename).relative_to(ROOT)
            print(f"\n{path}:{mutant.line}: not noticed by the tests of {mutant.rule}")
            print(f"  - {mutant.before}\n  + {mutant.after}\n  {mutant.key}")
    for key in unused:
        print(f"\n{EQUIVALENT.name} matches no mutant: {key}")


if __name__ == "__main__":
    sys.exit(main())
