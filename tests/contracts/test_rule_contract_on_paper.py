"""The contract of rules carries what is not built yet: six methods, each against a straight NumPy loop.

The loops are written from the papers for one run; the rules run on NumPy and torch, alone and as replicas
with hyperparameters of their own.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paper_rules
from cases import Path as Walk
from cases import deviation, gradients, starts
from paper_rules import LAMB, MUON, PRODIGY, SCHEDULE_FREE, SOPHIA
from thalweg.backends import eager
from thalweg.hyper import Flag
from thalweg.optim import RuleOptimizer
from thalweg.rules import tail
from thalweg.rules.base import Rule, own_axes
from thalweg.rules.ops import gather, spread, sqrt, sum_over
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row

Arrays = dict[str, Any]
STEPS = 12
ALL = {"0-d": (), "vector": (3,), "tall": (4, 2), "wide": (2, 3), "filter": (2, 2, 1, 2)}
MATRICES = {name: ALL[name] for name in ("tall", "wide", "filter")}
# The same operations in another order: rounding, a few times over 12 steps.
CLOSE = 1e-12


def downhill(seed: int, shapes: dict[str, tuple[int, ...]], dtype: Any = np.float64) -> list[Arrays]:
    """Make gradients with a common direction, so that Prodigy's estimate of the distance grows."""
    noise: list[Arrays] = gradients(seed, shapes, STEPS, silent=0.0, dtype=dtype)
    return [{name: g + dtype(1) for name, g in at.items()} for at in noise]


class Machine:
    """Parameters with their states under one rule, on NumPy or torch, alone or with replicas on axis 0."""

    def __init__(self, rule: Rule, values: list[Arrays], begin: list[Arrays], torch_backend: bool) -> None:
        self.rule, self.torch, self.replicas = rule, torch_backend, len(begin) > 1
        self.h = rule.values({name: self._value(name, values) for name in rule.hyper})
        self.at = {name: self.stacked([b[name] for b in begin]) for name in begin[0]}
        self.states = {n: rule.initial(p, self.h, self.replicas) for n, p in self.at.items()}
        self.shared = rule.initial_shared(self.h) if rule.initial_shared else None
        self.t = 0

    def _value(self, name: str, values: list[Arrays]) -> Any:
        if not self.replicas or isinstance(self.rule.hyper[name], Flag):
            return values[0][name]
        if isinstance(values[0][name], tuple):
            return tuple(
                self.stacked(list(column)) for column in zip(*(v[name] for v in values), strict=True)
            )
        return self.stacked([v[name] for v in values])

    def stacked(self, arrays: list[Any]) -> Any:
        array = np.stack(arrays) if self.replicas else np.asarray(arrays[0])
        return torch.tensor(array) if self.torch else array

    def rows(self, slopes: Arrays) -> dict[str, Row]:
        return {
            n: Row(p, slopes[n], self.states[n], self.t + 1, self.h, self.replicas)
            for n, p in self.at.items()
        }

    def step(self, slopes: Arrays, factor: float = 1.0) -> None:
        rows = self.rows(slopes)
        if self.torch:
            self.shared = eager.advance(self.rule, rows.values(), self.shared, factor)
        else:
            step = tail.step(self.rule, rows.values(), self.shared, factor)
            self.shared = step.shared
            for name, row in zip(rows, step.rows, strict=True):
                self.at[name], self.states[name] = step.moved(row)
        self.t += 1

    def refresh(self, diagonals: Arrays) -> None:
        assert self.rule.refresh is not None
        for name, row in self.rows(diagonals).items():
            h, c, _ = tail.prepared(self.rule, row)
            self.states[name] = self.rule.refresh(row.state, diagonals[name], h, c)

    def evaluated(self) -> Arrays:
        if self.rule.evaluated is None:
            return self.at
        return {n: self.rule.evaluated(p, self.states[n], spread(self.h, p)) for n, p in self.at.items()}

    def positions(self, arrays: Arrays) -> list[dict[str, np.ndarray]]:
        plain = {n: p.numpy().copy() if self.torch else np.array(p) for n, p in arrays.items()}
        count = len(next(iter(plain.values()))) if self.replicas else 1
        return [{n: p[k] if self.replicas else p for n, p in plain.items()} for k in range(count)]


def walk(
    machine: Machine, slopes: list[list[Arrays]], before: Callable[..., None] = lambda m, t: None
) -> list[Walk]:
    """Return, for each replica, the parameters to evaluate with after each step."""
    paths: list[Walk] = [[] for _ in slopes]
    for t in range(len(slopes[0])):
        before(machine, t)
        machine.step({n: machine.stacked([s[t][n] for s in slopes]) for n in machine.at})
        for path, position in zip(paths, machine.positions(machine.evaluated()), strict=True):
            path.append(position)
    return paths


# The straight loops, for one run.


def lamb_loop(at: Arrays, slopes: list[Arrays], h: Arrays) -> Walk:
    (b1, b2), path = h["betas"], []
    m, v = ({n: 0 * p for n, p in at.items()} for _ in range(2))
    for t, g in enumerate(slopes, start=1):
        for n in at:
            m[n] = b1 * m[n] + (1 - b1) * g[n]
            v[n] = b2 * v[n] + (1 - b2) * g[n] ** 2
            r = (m[n] / (1 - b1**t)) / (np.sqrt(v[n] / (1 - b2**t)) + h["eps"]) + h["weight_decay"] * at[n]
            norms = np.linalg.norm(at[n]), np.linalg.norm(r)
            ratio = norms[0] / norms[1] if min(norms) > 0 else 1.0
            at = {**at, n: at[n] - h["lr"] * ratio * r}
        path.append(at)
    return path


def muon_loop(at: Arrays, slopes: list[Arrays], h: Arrays) -> Walk:
    m, path, mu = {n: 0 * p for n, p in at.items()}, [], h["momentum"]
    for g in slopes:
        for n, p in at.items():
            m[n] = mu * m[n] + (1 - mu) * g[n]
            x = (mu * m[n] + (1 - mu) * g[n]).reshape(len(p), -1)
            rows, columns = x.shape
            if rows > columns:
                x = x.T
            x = x / (np.linalg.norm(x) + h["eps"])
            # A polynomial of the singular values: here on these, there by matrix products.
            u, sizes, vt = np.linalg.svd(x, full_matrices=False)
            for _ in range(5):
                sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
            x = u * sizes @ vt
            if rows > columns:
                x = x.T
            x = x.reshape(p.shape) * max(1, rows / columns) ** 0.5
            at = {**at, n: p * (1 - h["lr"] * h["weight_decay"]) - h["lr"] * x}
        path.append(at)
    return path


def prodigy_loop(at: Arrays, slopes: list[Arrays], h: Arrays) -> Walk:
    (b1, b2), d, numerator, path = h["betas"], h["d0"], 0.0, []
    origin = at
    m, v, s = ({n: 0 * p for n, p in at.items()} for _ in range(3))
    for g in slopes:
        rate = d * h["lr"]
        numerator *= b2**0.5
        for n, p in at.items():
            m[n] = b1 * m[n] + (1 - b1) * d * g[n]
            v[n] = b2 * v[n] + (1 - b2) * d**2 * g[n] ** 2
            numerator += d / h["d0"] * rate * np.sum(g[n] * (origin[n] - p))
            s[n] = b2**0.5 * s[n] + d / h["d0"] * rate * g[n]
        d = max(d, numerator / sum(np.abs(x).sum() for x in s.values()))
        at = {
            n: p - rate * (m[n] / (np.sqrt(v[n]) + d * h["eps"]) + h["weight_decay"] * p)
            for n, p in at.items()
        }
        path.append(at)
    return path


def schedule_free_loop(at: Arrays, slopes: list[Arrays], h: Arrays) -> Walk:
    x, z, total, top, path = at, at, 0.0, 0.0, []
    for t, g in enumerate(slopes, start=1):
        y = {n: (1 - h["beta"]) * z[n] + h["beta"] * x[n] for n in at}
        rate = h["lr"] * min(1.0, t / h["warmup"])
        z = {n: z[n] - rate * (g[n] + h["weight_decay"] * y[n]) for n in at}
        top = max(top, rate)
        total += top**2
        x = {n: (1 - top**2 / total) * x[n] + top**2 / total * z[n] for n in at}
        path.append(x)
    return path


def sophia_loop(at: Arrays, slopes: list[Arrays], h: Arrays, diagonals: list[Arrays]) -> Walk:
    (b1, b2), path = h["betas"], []
    m, hessian = ({n: 0 * p for n, p in at.items()} for _ in range(2))
    for t, g in enumerate(slopes):
        for n, p in at.items():
            if t % 5 == 0:
                hessian[n] = b2 * hessian[n] + (1 - b2) * diagonals[t][n]
            m[n] = b1 * m[n] + (1 - b1) * g[n]
            step = np.clip(m[n] / np.maximum(h["rho"] * hessian[n], h["eps"]), -1, 1)
            at = {**at, n: p * (1 - h["lr"] * h["weight_decay"]) - h["lr"] * step}
        path.append(at)
    return path


CASES: dict[str, tuple[Rule, dict[str, tuple[int, ...]], Callable[..., Walk], list[Arrays]]] = {
    "LAMB": (LAMB, ALL, lamb_loop, [{"weight_decay": 0.1}, {"lr": 0.02, "betas": (0.5, 0.8)}, {"eps": 0.1}]),
    "Muon": (MUON, MATRICES, muon_loop, [{}, {"momentum": 0.5, "weight_decay": 0.2}, {"lr": 0.01}]),
    "Prodigy": (
        PRODIGY, ALL, prodigy_loop,
        [{"d0": 1e-3}, {"d0": 1e-2, "betas": (0.5, 0.9), "weight_decay": 0.1}, {"lr": 0.5, "d0": 1e-4}],
    ),
    "Schedule-Free": (
        SCHEDULE_FREE, ALL, schedule_free_loop,
        [{"warmup": 5.0}, {"lr": 0.1, "weight_decay": 0.2}, {"beta": 0.5}],
    ),
    "Sophia": (
        SOPHIA, ALL, sophia_loop, [{"rho": 5.0}, {"rho": 20.0, "weight_decay": 0.2}, {"betas": (0.5, 0.5)}]
    ),
}  # fmt: skip


@pytest.mark.parametrize("replicas", [False, True], ids=["alone", "replicas"])
@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_a_method_on_paper_runs_through_the_contract(name: str, torch_backend: bool, replicas: bool) -> None:
    rule, shapes, loop, changes = CASES[name]
    values = [rule.checked(change) for change in (changes if replicas else changes[:1])]
    begin = [starts(k, shapes) for k in range(len(values))]
    slopes: list[Any] = [downhill(k, shapes) for k in range(len(values))]
    diagonals: list[Any] = [downhill(9 + k, shapes) for k in range(len(values))]

    def refresh(machine: Machine, t: int) -> None:
        if rule.refresh and t % 5 == 0:
            machine.refresh({n: machine.stacked([x[t][n] for x in diagonals]) for n in shapes})

    paths = walk(Machine(rule, values, begin, torch_backend), slopes, refresh)

    for k, path in enumerate(paths):
        more = (diagonals[k],) if rule.refresh else ()
        expected = loop(begin[k], slopes[k], values[k], *more)
        assert deviation(path, expected, begin[k]) <= CLOSE
        assert deviation([begin[k]] * STEPS, expected, begin[k]) > 1e-3  # it moved


@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_a_method_on_paper_keeps_float32(name: str, torch_backend: bool) -> None:
    rule, shapes, loop, changes = CASES[name]
    values = [rule.checked(change) for change in changes]
    begin = [starts(k, shapes, np.float32) for k in range(3)]
    slopes: list[Any] = [downhill(k, shapes, np.float32) for k in range(3)]

    for count in (1, 3):
        machine = Machine(rule, values[:count], begin[:count], torch_backend)
        path = walk(machine, slopes[:count])[0]

        assert {x.dtype for at in path for x in at.values()} == {np.dtype(np.float32)}
        assert {str(x.dtype).removeprefix("torch.") for s in machine.states.values() for x in s} == {
            "float32"
        }
        if not rule.refresh:
            expected = loop(
                {n: p.astype(float) for n, p in begin[0].items()},
                [{n: g.astype(float) for n, g in at.items()} for at in slopes[0]],
                values[0],
            )
            # Muon's polynomial enlarges what is small by 3.4445 a turn: 500 × after five.
            assert deviation(path, expected, begin[0]) <= (1e-3 if name == "Muon" else 1e-5)


@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
def test_a_rule_with_global_scope_takes_the_schedule_into_its_sums_and_survives_a_step_without_rows(
    torch_backend: bool,
) -> None:
    """Prodigy's estimate uses the scheduled rate, so half the rate is not half the step alone."""
    begin, slopes = [starts(0, ALL)], downhill(0, ALL)
    whole = Machine(PRODIGY, [PRODIGY.checked({"d0": 1e-2, "lr": 0.5})], begin, torch_backend)
    scheduled = Machine(PRODIGY, [PRODIGY.checked({"d0": 1e-2})], begin, torch_backend)
    for at in slopes:
        whole.step({n: whole.stacked([at[n]]) for n in ALL})
        scheduled.step({n: scheduled.stacked([at[n]]) for n in ALL}, factor=0.5)

    assert deviation(scheduled.positions(scheduled.at), whole.positions(whole.at), begin[0]) == 0
    assert float(scheduled.shared.d) > 1e-2
    assert tail.step(PRODIGY, [], scheduled.shared).shared is scheduled.shared
    assert eager.advance(PRODIGY, [], scheduled.shared) is scheduled.shared


# SAM (arXiv 2010.01412) is a driver around any rule: the gradient is taken a little uphill.


def sam_gradient(machine: Machine, gradient: Callable[[Arrays], Arrays], radius: Any) -> Arrays:
    slopes = gradient(machine.at)
    squares = [
        gather(sum_over(g * g, own_axes(g, machine.replicas)), machine.replicas) for g in slopes.values()
    ]
    stretch = radius / sqrt(sum(squares[1:], squares[0]))
    return gradient({n: p + spread(stretch, p) * slopes[n] for n, p in machine.at.items()})


@pytest.mark.parametrize("replicas", [False, True], ids=["alone", "replicas"])
@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
def test_sam_drives_any_rule(torch_backend: bool, replicas: bool) -> None:
    changes = [{"momentum": 0.9, "lr": 0.01}, {"momentum": 0.5, "lr": 0.1}][: 2 if replicas else 1]
    radii = [0.05, 0.2][: len(changes)]
    values = [SGD.checked(change) for change in changes]
    begin = [starts(k, ALL) for k in range(len(changes))]
    slope = {name: 1.0 + place for place, name in enumerate(ALL)}
    machine = Machine(SGD, values, begin, torch_backend)

    def gradient(at: Arrays) -> Arrays:  # of Σ a/4·θ⁴
        return {n: slope[n] * p**3 for n, p in at.items()}

    radius = machine.stacked(radii) if replicas else radii[0]
    for _ in range(STEPS):
        machine.step(sam_gradient(machine, gradient, radius))

    for k, position in enumerate(machine.positions(machine.at)):
        at, b = begin[k], {n: 0 * p for n, p in begin[k].items()}
        for _ in range(STEPS):
            g = gradient(at)
            norm = np.sqrt(sum(np.sum(x**2) for x in g.values()))
            uphill = gradient({n: p + radii[k] * g[n] / norm for n, p in at.items()})
            b = {n: changes[k]["momentum"] * b[n] + uphill[n] for n in at}
            at = {n: p - changes[k]["lr"] * b[n] for n, p in at.items()}
        assert deviation([position], [at], begin[k]) <= CLOSE


def test_the_documentation_shows_the_bodies_that_are_tested_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rule-contract.md").read_text()
    shown = set(re.findall(r"^def (\w+)", page, re.MULTILINE)) - {"sam_gradient"}

    assert shown == {
        name for name in vars(paper_rules) if re.match("[a-z_]+_(direction|partial|combine|tail)", name)
    }
    for name in shown:
        assert inspect.getsource(getattr(paper_rules, name)) in page
    assert inspect.getsource(sam_gradient) in page


def test_lamb_leaves_alone_what_has_no_norm_to_scale_by() -> None:
    machine = Machine(LAMB, [LAMB.checked({"eps": 1.0})], [{"p": np.zeros(2), "q": np.ones(2)}], False)

    machine.step({"p": np.array([1.0, -1.0]), "q": np.zeros(2)})

    assert machine.at["p"].tolist() == pytest.approx([-0.05, 0.05])  # the ratio is 1: 0.1 · 1/(1 + 1)
    assert machine.at["q"].tolist() == [1, 1]


def test_a_new_rule_becomes_an_optimizer_of_pytorch_in_one_line() -> None:
    class Lamb(RuleOptimizer, rule=LAMB):
        """LAMB."""

    begin, slopes = starts(0, ALL), downhill(0, ALL)
    leaves = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in begin.items()}
    optimizer = Lamb(list(leaves.values()), weight_decay=0.1)
    path = []
    for at in slopes:
        for n, leaf in leaves.items():
            leaf.grad = torch.tensor(at[n])
        optimizer.step()
        path.append({n: leaf.detach().numpy().copy() for n, leaf in leaves.items()})

    assert deviation(path, lamb_loop(begin, slopes, LAMB.checked({"weight_decay": 0.1})), begin) <= CLOSE
    fresh = Lamb(list(leaves.values()))
    fresh.load_state_dict(optimizer.state_dict())
    for mine, its in zip(fresh.state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[name], its[name]) for name in ("step", "exp_avg", "exp_avg_sq"))
