"""A traced step in passes: how many there are, what each reads and writes, and what cannot be traced."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernel_walks import COMPILED, plain
from thalweg.backends.program import NUMBERS, Family, Program, trace
from thalweg.backends.symbols import Untraceable
from thalweg.rules import ops
from thalweg.rules.adam import ADAM
from thalweg.rules.base import Nothing, Rule, Scope
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS

GIVEN: dict[str, dict[str, Any]] = {"proximal": {"penalty": "l1"}, "decoupled_decay": {"by": "cautious"}}


def around(name: str, *wrappers: str) -> Rule:
    return wrapped(RULES[name], [WRAPPERS[w](**GIVEN.get(w, {})) for w in wrappers])


def traced(*rules: Rule, axes: int = 2, **given: Any) -> Program:
    """Trace a step of one family of each rule."""
    families, values, shared = [], [], {}
    for place, rule in enumerate(rules):
        h = rule.values(rule.checked({n: x for n, x in given.items() if n in rule.hyper}))
        state = rule.initial(np.zeros((2,) * axes), h)
        families.append(Family(rule, type(state), tuple(x.size == 1 for x in state), axes, place))
        values.append(h)
        if rule.initial_shared is not None:
            shared[rule.name] = rule.initial_shared(h)
    return trace(families, values, shared)


def made(body: Callable[..., Any], scope: Scope = Scope.TENSOR) -> Rule:
    """Make a rule of a body (p, g, h) -> d."""
    return replace(
        SGD,
        direction=lambda p, g, s, h, c: (body(p, g, h), s),
        state=lambda h, shape: Nothing,
        scope=scope,
    )


# Passes.

ONE_PASS = [name for name in COMPILED if RULES[name].scope is Scope.ELEMENT]
PASSES = {
    **{(name,): 1 for name in ONE_PASS},
    ("lamb",): 2,
    ("lars",): 2,
    ("prodigy",): 2,
    ("dadapt-adam",): 1,  # its sums are for the next step
    ("dadapt-sgd",): 2,
    ("adam", "clip_norm"): 2,
    ("adam", "clip_group_norm"): 2,
    ("adam", "clip_value"): 1,
    ("adam", "skip_nonfinite"): 2,
    ("adam", "skip_nonfinite", "clip_norm"): 3,
    ("adam", "cautious"): 2,
    ("adam", "clip_norm", "cautious"): 3,
    ("adam", "l2"): 1,
    ("adam", "decoupled_decay"): 1,
    ("adam", "ema", "proximal"): 1,
    ("adam", "lookahead"): 1,
    ("lamb", "clip_norm"): 3,
    ("prodigy", "clip_norm"): 3,
}  # fmt: skip


@pytest.mark.parametrize("names", PASSES, ids="+".join)
def test_elements_are_passed_over_as_often_as_sums_must_be_known_first(names: tuple[str, ...]) -> None:
    assert len(traced(around(*names)).passes) == PASSES[names]


def test_there_are_rules_of_one_pass() -> None:
    assert {"sgd", "adam", "nadam", "schedule-free-adamw", "sophia-g", "asgd"} <= set(ONE_PASS)


@pytest.mark.parametrize("names", PASSES, ids="+".join)
def test_only_the_last_pass_writes(names: tuple[str, ...]) -> None:
    *before, last = (work for (work,) in traced(around(*names)).passes)

    assert 0 in last.stores  # the parameter
    assert all(not work.stores for work in before)
    assert all(work.sums for work in before)


def test_what_only_the_caller_is_told_is_added_up_beside_the_writing() -> None:
    (work,) = traced(around("adam", "clip_value")).passes[0]

    assert work.sums
    assert work.stores


def test_a_family_that_needs_no_sums_is_left_out_of_the_first_pass() -> None:
    program = traced(RULES["lamb"], RULES["adam"])

    assert [[work is not None for work in works] for works in program.passes] == [[True, False], [True, True]]


def test_what_does_not_change_is_not_written() -> None:
    """Sophia's curvature comes from outside, and Prodigy keeps where it began."""
    sophia = traced(RULES["sophia-h"]).passes[-1][0]
    prodigy = traced(RULES["prodigy"]).passes[-1][0]

    assert sophia is not None
    assert prodigy is not None
    assert sorted(sophia.stores) == [0, 2]  # the parameter and exp_avg
    assert sorted(prodigy.stores) == [0, 2, 3, 4]


def test_one_number_a_parameter_is_no_array() -> None:
    program = traced(RULES["nadam"])

    assert [(family, field) for family, field, _ in program.buffers] == [(0, 2)]
    assert sorted(program.passes[0][0].stores) == [0, 2, 3]  # type: ignore[union-attr]


def test_numbers_have_places_each_but_once() -> None:
    """βᵗ of two groups are computed apart, the factor of the schedule is one."""
    program = traced(ADAM, ADAM)
    places = [leaf.place for leaf in program.leaves] + [
        x.result for each in program.instructions for x in each
    ]

    assert sorted(places) == list(range(program.size))
    assert [leaf.name for leaf in program.leaves].count("factor") == 1
    assert [leaf.name for leaf in program.leaves].count("t") == 2


@pytest.mark.parametrize("names", PASSES, ids="+".join)
def test_a_number_is_computed_after_those_that_it_is_made_of(names: tuple[str, ...]) -> None:
    program = traced(around(*names))
    known = {leaf.place for leaf in program.leaves if leaf.name != "sum"}
    for stage, segment in enumerate(program.instructions):
        for x in segment:
            assert set(x.operands) <= known
            known.add(x.result)
        for work in program.passes[stage] if stage < len(program.passes) else ():
            assert work is None or set(work.places) <= known
            known |= {place for _, place in work.sums} if work else set()


def test_a_structure_that_leaves_something_off_does_not_compute_it() -> None:
    decaying, plain_ = traced(ADAM, weight_decay=0.1), traced(ADAM, weight_decay=0.0)

    assert any("weight_decay" in leaf.detail for leaf in decaying.leaves)
    assert not any("weight_decay" in leaf.detail for leaf in plain_.leaves)


@pytest.mark.parametrize("name", COMPILED)
def test_what_is_traced_does_not_depend_on_how_large_numbers_are(name: str) -> None:
    rule = RULES[name]
    values = plain(rule)
    other = {n: x / 2 if isinstance(x, float) else x for n, x in values.items()}

    first, second = (traced(rule, **each) for each in (values, other))

    assert first.instructions == second.instructions
    assert [leaf.name for leaf in first.leaves] == [leaf.name for leaf in second.leaves]


# What cannot be traced.

UNTRACEABLE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a product of matrices": lambda p, g, h: g @ g,
    "a choice by what is computed": lambda p, g, h: g if ops.norm_over(g, (-2, -1)) > 1 else -g,
    "a choice by the size of a number": lambda p, g, h: g if h.lr > 0.5 else -g,
    "a sum over some axes": lambda p, g, h: g / ops.sum_over(g, (-1,)),
    "an element": lambda p, g, h: g * g[0],
    "a decomposition": lambda p, g, h: ops.eigh(g)[1],
    "an order": lambda p, g, h: ops.take(g, ops.falling(g), -1),
    "the type of an array": lambda p, g, h: g + ops.machine_epsilon(p),
    "a function of NumPy's": lambda p, g, h: np.exp(g),
    "a method of arrays": lambda p, g, h: g.cumsum(-1),
    "a sum without axes": lambda p, g, h: g / g.sum(),
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_a_body_that_asks_for_what_is_not_there_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(Untraceable, match=r"^A traced step must .*\.$"):
        traced(made(UNTRACEABLE[name]))


def test_an_array_where_one_number_a_parameter_is_kept_is_refused() -> None:
    rule = replace(
        RULES["nadam"], direction=lambda p, g, s, h, c: (g, s._replace(mu_product=s.mu_product * g))
    )
    with pytest.raises(Untraceable, match="an array where one number a parameter is kept"):
        traced(rule)


def test_mistakes_of_a_body_are_not_taken_for_something_untraceable() -> None:
    def body(p: Any, g: Any, h: Any) -> Any:
        raise ZeroDivisionError("a mistake")

    with pytest.raises(ZeroDivisionError, match="a mistake"):
        traced(made(body))


# Numbers, between passes: Python's, where all rows agree, or arrays.


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("divide", [0.0]),
        ("divide", [-3.0]),
        ("power", [2.0]),
        ("power", [-1.0]),
        ("sqrt", []),
        ("maximum", [np.nan]),
        ("maximum", [1.0]),
        ("where", [1.0, 2.0]),
        ("not", []),
        ("less", [0.0]),
        ("sign", []),
    ],
)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 0.0, -1.0, 2.0, 1e300])
def test_a_single_number_is_computed_as_an_array_of_it(name: str, rest: list[float], number: float) -> None:
    function, first = NUMBERS[name], number > 0 if name in ("where", "not") else number
    with np.errstate(all="ignore"):
        single = function(first, *rest)
        (of_array,) = function(np.array([first]), *rest)

    np.testing.assert_array_equal(float(single), float(of_array))
