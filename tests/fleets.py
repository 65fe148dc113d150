"""Stacked replicas of a rule for tests: values that differ, and walks together and alone."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from cases import Path, hyperparameters, structural
from thalweg.backends import eager
from thalweg.rules import tail
from thalweg.rules.base import Rule
from thalweg.rules.tail import Row

K = 4  # replicas


def shared_at_first(rule: Rule, h: Any) -> dict[str, Any]:
    return {rule.name: rule.initial_shared(h)} if rule.initial_shared else {}


def as_array(x: Any) -> np.ndarray:
    return x.numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


def in_fleet(
    rule: Rule,
    each: list[dict[str, Any]],
    begin: list[dict[str, np.ndarray]],
    slopes: list[list[dict[str, np.ndarray]]],
    ages: np.ndarray,
    factors: np.ndarray,
    torch_backend: bool,
) -> list[Path]:
    """Run stacked replicas, each with its own values, step count and factor."""

    def array(x: Any) -> Any:
        return torch.as_tensor(np.asarray(x)) if torch_backend else np.asarray(x)

    def column(name: str) -> Any:
        first = each[0][name]
        if structural(rule.hyper[name]) or first is None:
            return first
        if isinstance(first, tuple):
            return tuple(x if x is None else array([v[name][i] for v in each]) for i, x in enumerate(first))
        return array([v[name] for v in each])

    h = rule.values({name: column(name) for name in rule.hyper})
    at = {name: array(np.stack([b[name] for b in begin])) for name in begin[0]}
    states = {name: rule.initial(p, h, replicas=True) for name, p in at.items()}
    shared = shared_at_first(rule, h)
    paths: list[Path] = [[] for _ in each]
    for past in range(len(slopes[0])):
        rows = {
            name: Row(
                rule,
                at[name],
                array(np.stack([s[past][name] for s in slopes])),
                states[name],
                array(ages + past + 1),
                h,
                replicas=True,
            )
            for name in at
        }
        if torch_backend:
            shared = eager.advance(rows.values(), shared, array(factors)).shared
        else:
            step = tail.step(rows.values(), shared, factors)
            shared = step.shared
            for name, row in zip(rows, step.rows, strict=True):
                at[name], states[name] = step.moved(row)
        for k, path in enumerate(paths):
            path.append({name: as_array(x[k]) for name, x in at.items()})
    return paths


def alone(
    rule: Rule,
    values: dict[str, Any],
    begin: dict[str, np.ndarray],
    slopes: list[dict[str, np.ndarray]],
    age: int,
    factor: float,
    torch_backend: bool,
) -> Path:
    """Run one replica by itself."""
    h = rule.values(values)
    at: dict[str, Any] = {n: torch.tensor(x) if torch_backend else x for n, x in begin.items()}
    states = {name: rule.initial(p, h) for name, p in at.items()}
    shared = shared_at_first(rule, h)
    path = []
    for past, now in enumerate(slopes):
        rows = {
            n: Row(
                rule, at[n], torch.tensor(now[n]) if torch_backend else now[n], states[n], age + past + 1, h
            )
            for n in at
        }
        if torch_backend:
            shared = eager.advance(rows.values(), shared, factor).shared
        else:
            step = tail.step(rows.values(), shared, factor)
            shared = step.shared
            for name, row in zip(rows, step.rows, strict=True):
                at[name], states[name] = step.moved(row)
        path.append({name: as_array(x) for name, x in at.items()})
    return path


@st.composite
def fleets(draw: st.DrawFn, rule: Rule) -> tuple[list[dict[str, Any]], int]:
    """Draw values for K replicas: numbers differ, what decides the structure is the same."""
    each = [draw(hyperparameters(rule)) for _ in range(K)]
    same = {n: each[0][n] for n, h in rule.hyper.items() if structural(h) or _has_none(each, n)}
    if rule.name == "sgd" and same["nesterov"]:
        each = [{**v, "momentum": max(v["momentum"], 0.1), "dampening": 0.0} for v in each]
    if rule.name == "sgd" and same["buffer"] == "mean":
        each = [{**v, "dampening": 0.0} for v in each]
    return [{**v, **same} for v in each], draw(st.integers(0, 10**6))


def _has_none(each: list[dict[str, Any]], name: str) -> bool:
    return any(x is None or (isinstance(x, tuple) and None in x) for x in (v[name] for v in each))
