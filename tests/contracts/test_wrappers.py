"""Every wrapper against the contract of wrappers: an oracle, two backends, replicas, types."""

from typing import Any

import numpy as np
import pytest
import torch

from cases import Path, deviation, gradients, starts
from oracles import wrappers as oracle
from thalweg import optim
from thalweg.backends import eager
from thalweg.hyper import Integer
from thalweg.optim import BY_RULE
from thalweg.rules import tail
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from wrapping import (
    CALLS,
    EPS,
    FACTORS,
    METHODS,
    NAMES,
    SHAPES,
    SINGLE,
    STEPS,
    TOGETHER,
    Listed,
    applied,
    in_numpy,
    in_torch,
    label,
    leaves_of,
)

# The oracle.

# How the oracle names what is named otherwise here, and its defaults where it has none.
ORACLE_NAMES = {
    ("l2", "weight_decay"): "penalty",
    ("decoupled_decay", "weight_decay"): "rate_of_decay",
    ("proximal", "l1_share"): "ratio",
}


def for_oracle(listed: Listed, groups: list[list[str]]) -> Listed:
    given = []
    for name, values in listed:
        if name == "skip_nonfinite":
            continue
        known = {ORACLE_NAMES.get((name, n), n): x for n, x in values.items()}
        given.append((name, known | ({"groups": groups} if name == "clip_group_norm" else {})))
    return given


@pytest.mark.parametrize("listed", SINGLE + TOGETHER, ids=label)
@pytest.mark.parametrize("method", METHODS)
def test_both_backends_take_the_oracles_path_and_evaluate_with_its_weights(
    method: str, listed: Listed
) -> None:
    shaped = {n: s for n, s in SHAPES.items() if n != "empty"}  # of which the oracle has no mean
    begin, slopes = starts(3, shaped), gradients(3, shaped, STEPS)
    settings = {
        "method": method,
        "method_values": METHODS[method],
        "wrappers": for_oracle(listed, [list(shaped)]),
        "factors": FACTORS,
    }
    trained, shown = (run(begin, slopes, **settings) for run in (oracle.run, oracle.evaluated))
    rule = wrapped(RULES[method], applied(listed))
    # AdamW's and Lion's own decay, where the wrapper has not taken its place.
    values = rule.checked(METHODS[method])
    leaves = leaves_of(begin)
    optimizer = BY_RULE[method](list(leaves.values()), wrappers=applied(listed), **METHODS[method])

    plain = in_numpy(rule, values, begin, slopes, FACTORS)
    torches = in_torch(optimizer, leaves, slopes, FACTORS)

    for ours in (plain, torches):
        assert deviation(ours[0], trained, begin) <= EPS
        assert deviation(ours[1], shown, begin) <= EPS


@pytest.mark.parametrize("listed", SINGLE, ids=label)
def test_each_wrapper_changes_the_path_or_the_weights_to_evaluate_with(listed: Listed) -> None:
    """Else the comparison with the oracle would be blind."""
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, STEPS)
    values = METHODS["sgd"]

    _, bare = in_numpy(SGD, SGD.checked(values), begin, slopes, FACTORS)
    rule = wrapped(SGD, applied(listed))
    _, ours = in_numpy(rule, rule.checked(values), begin, slopes, FACTORS)

    same = ("skip_nonfinite", "ema")  # one has nothing to skip; the average without memory is the weights
    if listed[0][0] == same[0] or listed == [("ema", CALLS["ema"][2])]:
        assert deviation(ours, bare, begin) <= EPS
    else:
        assert deviation(ours, bare, begin) > 1e-3


@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
def test_group_norms_are_each_groups_own_and_each_has_its_limit(torch_backend: bool) -> None:
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, STEPS, silent=0.0)
    groups = [["matrix", "0-d", "empty"], ["filter", "vector", "column"]]
    limits = [1.0, 5.0]
    expected: Path = [{} for _ in slopes]
    for group, limit in zip(groups, limits, strict=True):
        path = oracle.run(
            {n: begin[n] for n in group},
            [{n: at[n] for n in group} for at in slopes],
            method="sgd",
            method_values={"lr": 0.1},
            wrappers=[("clip_norm", {"limit": limit})],
        )
        for at, part in zip(expected, path, strict=True):
            at.update(part)

    if torch_backend:
        leaves = leaves_of(begin)
        given = [
            {"params": [leaves[n] for n in g], "clip_group_norm_limit": x}
            for g, x in zip(groups, limits, strict=True)
        ]
        optimizer = optim.SGD(given, lr=0.1, wrappers=[optim.clip_group_norm()])
        ours, _ = in_torch(optimizer, leaves, slopes, [1.0] * STEPS)
    else:
        rule = wrapped(SGD, [WRAPPERS["clip_group_norm"]()])
        at, ours = dict(begin), []
        for given in slopes:
            rows = []
            for place, (group, limit) in enumerate(zip(groups, limits, strict=True)):
                h = rule.values(rule.checked({"lr": 0.1, "clip_group_norm_limit": limit}))
                rows += [Row(rule, at[n], given[n], rule.initial(at[n], h), 1, h, group=place) for n in group]
            step = tail.step(rows)
            moved = [step.moved(row)[0] for row in step.rows]
            at = dict(zip([n for g in groups for n in g], moved, strict=True))
            ours.append(at)

    assert deviation(ours, expected, begin) <= EPS


# Replicas and types.

K = 3


def stacked(wrapper: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of a wrapper for K replicas: real numbers differ, the rest is structure."""
    each = []
    for k in range(K):
        own = dict(WRAPPERS[wrapper](**values).values)
        for key, x in own.items():
            if isinstance(x, float):
                own[key] = x * (1 - 0.2 * k)
        each.append(own)
    return each


@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("method", ["sgd", "adam"])
@pytest.mark.parametrize("listed", SINGLE + TOGETHER[-1:], ids=label)
def test_stacked_replicas_equal_separate_runs(listed: Listed, method: str, torch_backend: bool) -> None:
    def array(x: Any) -> Any:
        return torch.as_tensor(np.asarray(x)) if torch_backend else np.asarray(x)

    rule = wrapped(RULES[method], applied(listed))
    each = [rule.checked({**METHODS[method], "lr": 0.05 / (k + 1)}) for k in range(K)]
    for name, values in listed:
        for whole, own in zip(each, stacked(name, values), strict=True):
            whole.update(own)
    begin = [starts(k, SHAPES) for k in range(K)]
    slopes = [gradients(k, SHAPES, 8, silent=0.0) for k in range(K)]
    ages, factors, multipliers = np.array([0, 2, 7]), np.array([1.0, 0.5, 0.1]), np.array([1.0, 0.7, 0.2])
    columns = {
        name: (
            tuple(array([e[name][i] for e in each]) for i in range(len(each[0][name])))
            if isinstance(each[0][name], tuple)
            else array([e[name] for e in each])
            if isinstance(each[0][name], float)
            else each[0][name]
        )
        for name in rule.hyper
    }

    def walk(h: Any, at: Any, given: Any, age: Any, factor: Any, multiplier: Any, replicas: bool) -> Path:
        states = {n: rule.initial(p, h, replicas) for n, p in at.items()}
        path = []
        for past, now_given in enumerate(given):
            rows = [
                Row(rule, at[n], now_given[n], states[n], age + past + 1, h, replicas, multiplier) for n in at
            ]
            if torch_backend:
                eager.advance(rows, {}, factor)
            else:
                step = tail.step(rows, {}, factor)
                for n, row in zip(list(at), step.rows, strict=True):
                    at[n], states[n] = step.moved(row)
            path.append({n: np.asarray(x).copy() for n, x in at.items()})
        return path

    together = walk(
        rule.values(columns),
        {n: array(np.stack([b[n] for b in begin])) for n in SHAPES},
        [{n: array(np.stack([s[i][n] for s in slopes])) for n in SHAPES} for i in range(8)],
        array(ages), array(factors), array(multipliers), True,
    )  # fmt: skip

    for k in range(K):
        alone = walk(
            rule.values(each[k]),
            {n: array(x.copy()) for n, x in begin[k].items()},
            [{n: array(x) for n, x in at.items()} for at in slopes[k]],
            int(ages[k]), float(factors[k]), float(multipliers[k]), False,
        )  # fmt: skip
        assert deviation([{n: x[k] for n, x in at.items()} for at in together], alone, begin[k]) <= EPS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("listed", SINGLE + TOGETHER, ids=label)
def test_float32_stays_float32(listed: Listed, method: str) -> None:
    begin, slopes = starts(3, SHAPES, np.float32), gradients(3, SHAPES, 4, dtype=np.float32)
    rule = wrapped(RULES[method], applied(listed))
    typed = {
        n: np.float64(x) if isinstance(x, float) else x for n, x in rule.checked(METHODS[method]).items()
    }
    leaves = leaves_of(begin)
    optimizer = BY_RULE[method](list(leaves.values()), wrappers=applied(listed), **METHODS[method])

    ours, faces = in_numpy(rule, typed, begin, slopes, FACTORS[:4])
    theirs, _ = in_torch(optimizer, leaves, slopes, FACTORS[:4])

    assert {np.asarray(x).dtype for at in (*ours, *faces, *theirs) for x in at.values()} == {
        np.dtype(np.float32)
    }
    kept = [x for state in optimizer.state.values() for name, x in state.items() if name != "step"]
    assert {x.dtype for x in kept} <= {torch.float32}
    assert deviation(ours, theirs, begin) <= 1e-5


def test_whole_numbers_of_wrappers_are_structure() -> None:
    """Clocks divide by them, and a replica with another one would need another structure."""
    whole = {key for n in NAMES for key, h in WRAPPERS[n].hyper.items() if isinstance(h, Integer)}

    assert whole == {"lookahead_every", "swa_start", "swa_every", "skip_nonfinite_limit"}
