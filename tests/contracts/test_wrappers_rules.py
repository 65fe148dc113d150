"""Every wrapper around every rule, on two backends or refused in words; values that are refused."""

import pytest
import torch

from cases import deviation, given_gradients, shapes, starts
from thalweg import optim
from thalweg.errors import InputError
from thalweg.optim import BY_RULE
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from wrapping import CALLS, EPS, METHODS, NAMES, Listed, applied, in_numpy, in_torch, leaves_of, values_of


def try_on(rule: Rule, name: str) -> Rule | None:
    try:
        return wrapped(rule, [WRAPPERS[name]()])
    except InputError:
        return None


@pytest.mark.parametrize("wrapper", NAMES)
@pytest.mark.parametrize("name", RULES)
def test_around_every_rule_it_works_alike_on_both_backends_or_is_refused_in_words(
    name: str, wrapper: str
) -> None:
    rule, begin = RULES[name], starts(5, shapes(RULES[name]))
    leaves = leaves_of(begin)
    around = try_on(rule, wrapper)
    if around is None:
        with pytest.raises(InputError, match=rule.title):
            BY_RULE[name](list(leaves.values()), wrappers=[WRAPPERS[wrapper]()])
        return
    slopes = given_gradients(rule, 5, 8)
    optimizer = BY_RULE[name](list(leaves.values()), wrappers=[WRAPPERS[wrapper]()], **values_of(rule))

    plain = in_numpy(around, around.checked(values_of(rule)), begin, slopes, [1.0] * 8)
    torches = in_torch(optimizer, leaves, slopes, [1.0] * 8)

    # The bases of a centralised gradient, whose rows sum to 0 so that a rank is missing, are not unique.
    close = 1e-6 if (name, wrapper) == ("soap", "centralise") else EPS
    assert deviation(plain[0], torches[0], begin) <= close
    assert deviation(plain[1], torches[1], begin) <= close
    moving = next(n for n in begin if any(at[n] is not None for at in slopes) and begin[n].size)
    fields = around.state_fields(around.values(around.defaults()), begin[moving].shape)
    own = tuple(f"{wrapper}_{field}" for field in WRAPPERS[wrapper].fields)
    assert fields[len(fields) - len(own) :] == own
    assert set(fields) <= set(optimizer.state[leaves[moving]])


def test_sgd_adam_and_lion_take_every_wrapper() -> None:
    assert all(try_on(RULES[name], wrapper) for name in METHODS for wrapper in NAMES)


@pytest.mark.parametrize(
    ("name", "wrapper", "complaint"),
    [
        ("lamb", "l2", "Use weight_decay of LAMB itself"),
        ("lars", "decoupled_decay", "find a decay that it can take the place of"),
        ("asgd", "ema", "ASGD and ema"),
        ("rprop", "proximal", "a step of its own"),
    ],
)
def test_what_cannot_go_around_a_rule_is_refused_in_words(name: str, wrapper: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        wrapped(RULES[name], [WRAPPERS[wrapper]()])


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        ([("ema", {}), ("swa", {})], "ema and swa"),
        ([("lookahead", {}), ("ema", {})], "lookahead and ema"),
        ([("l2", {}), ("decoupled_decay", {})], "l2 and decoupled_decay"),
        ([("agc", {}), ("agc", {"floor": 0.1})], "agc twice"),
    ],
)
def test_wrappers_that_contradict_each_other_are_refused(listed: Listed, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        wrapped(SGD, applied(listed))


# Values.


@pytest.mark.parametrize("name", WRAPPERS)
def test_invalid_values_are_refused_when_they_are_given_and_in_groups(name: str) -> None:
    wrapper = WRAPPERS[name]
    for key, declared in wrapper.hyper.items():
        assert declared.accepts(declared.default)
        for bad in declared.invalid():
            with pytest.raises(InputError, match=f"{wrapper.short(key)} of {name} must be "):
                wrapper(**{wrapper.short(key): bad})
            with pytest.raises(InputError, match=f"{key} of SGD must be "):
                optim.SGD([{"params": [torch.zeros(2)], key: bad}], wrappers=[wrapper()])
    with pytest.raises(InputError, match="nonsense"):
        wrapper(nonsense=1)
    with pytest.raises(InputError, match="values; got 9"):
        wrapper(*range(9))


def test_a_box_without_inside_is_refused() -> None:
    with pytest.raises(InputError, match="low of proximal must be at most high"):
        optim.SGD([torch.zeros(2)], wrappers=[optim.proximal("box", low=1.0, high=0.0)])


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_says_what_it_is(name: str) -> None:
    wrapper = WRAPPERS[name]

    assert wrapper.name == name
    assert getattr(optim, name) is wrapper
    assert all(len(x.split()) > 1 for x in (wrapper.formula, wrapper.source, wrapper.use))
    assert wrapper.title
    assert all(declared.meaning for declared in wrapper.hyper.values())
    assert set(CALLS) == set(NAMES)
