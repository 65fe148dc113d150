"""Every wrapper around compiled kernels: the path of eager steps, and steps that are skipped."""

from typing import Any

import numpy as np
import pytest
import torch

from fleets import shared_at_first
from kernel_walks import (
    COMPILED,
    SHORT,
    Advance,
    Record,
    assert_same_path,
    plain,
    problem,
    record,
    stacked_states,
    tensor,
)
from thalweg.backends import eager, kernels
from thalweg.backends.symbols import Untraceable
from thalweg.rules.base import Scope
from thalweg.rules.catalogue import RULES
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from wrapping import METHODS, SINGLE, TOGETHER, Listed, applied
from wrapping import label as listed_label

# They add up over rows of matrices; "group" is a penalty of proximal.
NOT_COMPILED = ("agc", "centralise", "group")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "kernels"))


def compiled(listed: Listed) -> bool:
    return not any({name, values.get("penalty")} & set(NOT_COMPILED) for name, values in listed)


GUARDED: Listed = [("skip_nonfinite", {}), ("clip_norm", {"limit": 6.0}), ("cautious", {})]
WALKS: list[tuple[str, Listed]] = [("adam", listed) for listed in SINGLE + TOGETHER if compiled(listed)]
# Around methods with sums of their own, with a step of their own, and with one number a parameter.
WALKS += [
    (name, GUARDED)
    for name in ("lion", "lars", "lamb", "prodigy", "dadapt-sgd", "schedule-free-adamw", "nadam")
]
WALKS += [("lamb", [("clip_group_norm", {"limit": 6.0}), ("ema", {"memory": 0.7})])]
GROUPS = {"matrix": 0, "filter": 0, "vector": 0, "0-d": 1, "one": 1, "empty": 1, "long": 1}


def walk(name: str, listed: Listed, advance: Advance) -> tuple[list[Record], list[tuple[bool, bool]]]:
    """Walk with two groups of other numbers; where steps are guarded, two are not finite."""
    rule = wrapped(RULES[name], applied(listed))
    base = rule.checked(METHODS.get(name, {"lr": 0.05}))
    other = base if RULES[name].scope is Scope.GLOBAL else base | {"lr": base["lr"] / 2}
    if "clip_group_norm_limit" in rule.hyper:
        other = other | {"clip_group_norm_limit": 150.0}
    h = [rule.values(base), rule.values(other)]
    given = problem(RULES[name], silent=0.0)
    at = {n: tensor(x) for n, x in given.starts.items()}
    states = {n: rule.initial(p, h[GROUPS[n]]) for n, p in at.items()}
    shared, records, told = shared_at_first(rule, h[0]), [], []
    for step, slopes in enumerate(given.gradients):
        long: Any = slopes["long"]
        if listed[0][0] == "skip_nonfinite" and step in (1, 3):
            long[0 if step == 1 else -1] = np.nan if step == 1 else np.inf
        rows = [
            Row(rule, at[n], tensor(slopes[n]), states[n], step + 1, h[k], multiplier=0.5, group=k)
            for n, k in GROUPS.items()
        ]
        done = advance(rows, shared, given.factor(step))
        shared = done.shared
        told.append((bool(done.clipped), bool(done.skipped)))
        records.append(record(at, states, shared))
    return records, told


@pytest.mark.parametrize(("name", "listed"), WALKS, ids=listed_label)
def test_wrappers_around_kernels_are_those_around_eager_steps(name: str, listed: Listed) -> None:
    ours, told = walk(name, listed, kernels.advance)
    theirs, said = walk(name, listed, eager.advance)

    assert told == said
    # The same operations in float64: 20,000 terms are added up in another order.
    assert_same_path(ours, theirs, 1e-13)


def test_limits_of_these_walks_shorten_gradients_and_steps_are_skipped() -> None:
    """Else the comparison would be blind."""
    _, guarded = walk("lamb", GUARDED, kernels.advance)
    _, clipped = walk("adam", [("clip_group_norm", {"limit": 6.0})], kernels.advance)

    assert [skipped for _, skipped in guarded] == [False, True, False, True, False, False]
    assert any(shortened for shortened, _ in guarded)
    assert any(shortened for shortened, _ in clipped)


@pytest.mark.parametrize("listed", [x for x in SINGLE + TOGETHER if not compiled(x)], ids=listed_label)
def test_wrappers_that_see_rows_of_matrices_are_not_compiled(listed: Listed) -> None:
    with pytest.raises(Untraceable, match="must not need a sum over some axes of a parameter"):
        walk("adam", listed, kernels.advance)


# Steps that are skipped.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_number_that_is_not_finite_is_noticed_at_every_place_and_nothing_moves(
    dtype: torch.dtype, bad: float
) -> None:
    """Within vectors and behind the last one: what an optimizer of code may take for always true."""
    rule = wrapped(RULES["adam"], [WRAPPERS["skip_nonfinite"]()])
    h = rule.values(rule.checked({"lr": 0.5}))
    p, g = torch.linspace(-1, 1, 37).to(dtype), torch.ones(37, dtype=dtype)
    state = rule.initial(p.float(), h)
    kept = p.clone()
    for place in range(37):
        spoilt = g.clone()
        spoilt[place] = bad
        done = kernels.advance([Row(rule, p, spoilt, state, 1, h)])
        assert bool(done.skipped), place
    assert torch.equal(p, kept)
    assert all((x == 0).all() for x in state)
    done = kernels.advance([Row(rule, p, g, state, 1, h)])
    assert not bool(done.skipped)
    assert not (p == kept).any()


@pytest.mark.parametrize("name", COMPILED)
def test_one_replica_is_skipped_bit_for_bit_and_the_others_do_not_notice(name: str) -> None:
    rule = wrapped(RULES[name], [WRAPPERS["skip_nonfinite"](), WRAPPERS["clip_norm"](3.0)])
    h = rule.values({**rule.checked(plain(RULES[name])), "lr": np.array([0.05, 0.05, 0.02])})

    def walked(spoil: bool) -> tuple[list[Record], Any]:
        generator = np.random.default_rng(3)
        begin = {n: generator.standard_normal((3, *s)) for n, s in SHORT.items()}
        at, states = {n: tensor(x) for n, x in begin.items()}, stacked_states(rule, begin, h)
        shared, records = shared_at_first(rule, h), []
        for t in range(1, 4):
            slopes = {n: generator.standard_normal(x.shape) + 1 for n, x in begin.items()}
            if spoil and t == 3:
                slopes["vector"][1, -1] = np.nan
            rows = [Row(rule, at[n], tensor(slopes[n]), states[n], t, h, replicas=True) for n in at]
            done = kernels.advance(rows, shared)
            shared = done.shared
            known = {n: np.broadcast_to(x, 3) for n, x in record({}, {}, shared).items()}
            records.append(record(at, states, {}) | known)
        return records, done.skipped

    (*_, before, spoilt), skipped = walked(spoil=True)
    (*_, whole), _ = walked(spoil=False)

    assert skipped.tolist() == [False, True, False]
    for name_of, x in whole.items():
        for k, expected in ((0, x), (1, before[name_of]), (2, x)):
            assert np.array_equal(spoilt[name_of][k], expected[k]), name_of
