"""Every wrapper against the contract of wrappers: an oracle, two backends, replicas, types, every rule."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cases import Path, deviation, given_gradients, gradients, shapes, starts
from oracles import wrappers as oracle
from thalweg import optim
from thalweg.backends import eager
from thalweg.backends.reference import Reference
from thalweg.errors import InputError, ThalwegError
from thalweg.hyper import Integer
from thalweg.optim import BY_RULE, RuleOptimizer
from thalweg.rules import tail
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row
from thalweg.rules.wrap import Applied, wrapped
from thalweg.rules.wrappers import WRAPPERS

SHAPES = {
    "matrix": (3, 4),
    "column": (4, 1),
    "filter": (2, 3, 2, 2),
    "vector": (5,),
    "0-d": (),
    "empty": (0,),
}
# SAM and ASAM change where gradients are taken, which given gradients cannot show: tests of their own.
NAMES = [name for name, wrapper in WRAPPERS.items() if wrapper.offset is None]
STEPS = 30
METHODS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9},
    "adam": {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3},
    "lion": {"lr": 0.01, "betas": (0.8, 0.95)},
}
FACTORS = [min(1.0, (step + 1) / 5) * (0.3 if step > 20 else 1.0) for step in range(STEPS)]
# What each wrapper is called with, several times where it has several structures. Limits that some steps
# exceed and others not.
CALLS: dict[str, list[dict[str, Any]]] = {
    "clip_value": [{"limit": 0.7}],
    "clip_norm": [{"limit": 6.0}],
    "clip_group_norm": [{"limit": 6.0}],
    "agc": [{"clipping": 0.9, "floor": 0.8}, {}],
    "centralise": [{}],
    "skip_nonfinite": [{}],
    "cautious": [{"floor": 0.4}, {}],
    "l2": [{"weight_decay": 0.2}],
    "decoupled_decay": [
        {"weight_decay": 0.2, "by": by} for by in ("rate", "schedule", "corrected", "cautious")
    ],
    "proximal": [
        {"penalty": "l1", "strength": 0.3},
        {"penalty": "elastic_net", "strength": 0.5, "l1_share": 0.3},
        {"penalty": "group", "strength": 0.5},
        {"penalty": "box", "low": -0.4, "high": 0.6},
        {"penalty": "nonnegative"},
    ],
    "lookahead": [{"every": 3, "alpha": 0.3}, {}],
    "ema": [{"memory": 0.7}, {"memory": 0.7, "corrected": True}, {"memory": 0.0, "corrected": True}],
    "swa": [{"start": 4, "every": 3}, {}],
}
# How the oracle names what is named otherwise here, and its defaults where it has none.
ORACLE_NAMES = {
    ("l2", "weight_decay"): "penalty",
    ("decoupled_decay", "weight_decay"): "rate_of_decay",
    ("proximal", "l1_share"): "ratio",
}
Listed = list[tuple[str, dict[str, Any]]]
SINGLE: list[Listed] = [[(name, values)] for name, calls in CALLS.items() for values in calls]
TOGETHER: list[Listed] = [
    [("clip_norm", {"limit": 6.0}), ("clip_value", {"limit": 0.7})],
    [("clip_value", {"limit": 0.7}), ("clip_norm", {"limit": 4.0})],
    [("l2", {"weight_decay": 0.2}), ("clip_norm", {"limit": 6.0})],
    [("decoupled_decay", {"weight_decay": 0.2, "by": "cautious"}), ("cautious", {})],
    [("ema", {"memory": 0.7}), ("proximal", {"penalty": "l1", "strength": 0.3})],
    [("lookahead", {"every": 3}), ("proximal", {"penalty": "group", "strength": 0.5}), ("cautious", {})],
    [("swa", {"start": 4}), ("centralise", {}), ("decoupled_decay", {"weight_decay": 0.2, "by": "schedule"})],
    [
        ("skip_nonfinite", {}),
        ("agc", {"clipping": 0.9}),
        ("l2", {"weight_decay": 0.2}),
        ("ema", {"memory": 0.9}),
    ],
]
EPS = 1e-12  # of the scale of a path: sums of thirty terms in other orders


def label(value: Any) -> str | None:
    if isinstance(value, list):
        return "+".join(f"{name}({','.join(str(x) for x in values.values())})" for name, values in value)
    return None


def applied(listed: Listed) -> list[Applied]:
    return [WRAPPERS[name](**values) for name, values in listed]


def for_oracle(listed: Listed, groups: list[list[str]]) -> Listed:
    given = []
    for name, values in listed:
        if name == "skip_nonfinite":
            continue
        known = {ORACLE_NAMES.get((name, n), n): x for n, x in values.items()}
        given.append((name, known | ({"groups": groups} if name == "clip_group_norm" else {})))
    return given


def in_numpy(rule: Rule, values: dict[str, Any], begin: Any, slopes: Any, factors: Any) -> tuple[Path, Path]:
    """Walk in NumPy; return the parameters that are trained and those to evaluate with, after each step."""
    work, at, path, faces = Reference(rule, values), begin, [], []
    h = rule.values(values)
    for given, factor in zip(slopes, factors, strict=True):
        at = work.step(at, given, factor)
        path.append(at)
        seen = {n: rule.evaluated(at[n], s, h) for n, s in work.states.items() if rule.evaluated}
        faces.append({**at, **seen})
    return path, faces


def in_torch(
    optimizer: RuleOptimizer, leaves: dict[str, Any], slopes: Any, factors: Any
) -> tuple[Path, Path]:
    """Walk with a class of `thalweg.optim`, whose rate is changed as PyTorch's schedulers do it."""
    path, faces = [], []
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    for given, factor in zip(slopes, factors, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        give(leaves, given)
        optimizer.step()
        path.append(now(leaves))
        with optimizer.evaluating():
            faces.append(now(leaves))
    return path, faces


def leaves_of(begin: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: torch.nn.Parameter(torch.tensor(x)) for name, x in begin.items()}


def give(leaves: dict[str, Any], slopes: dict[str, np.ndarray | None]) -> None:
    for name, leaf in leaves.items():
        leaf.grad = None if slopes[name] is None else torch.tensor(slopes[name], dtype=leaf.dtype)


def now(leaves: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: leaf.detach().numpy().copy() for name, leaf in leaves.items()}


# The oracle.


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


# Every wrapper around every rule.


def try_on(rule: Rule, name: str) -> Rule | None:
    try:
        return wrapped(rule, [WRAPPERS[name]()])
    except InputError:
        return None


def values_of(rule: Rule) -> dict[str, Any]:
    """Return what differs from the defaults: Newton–Schulz in float64, which both backends have."""
    return {"lr": 0.05} | ({"precision": "parameter"} if "precision" in rule.hyper else {})


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


# What a step changes; by the classes of thalweg.optim.


@pytest.mark.parametrize(
    ("listed", "key", "off"),
    [
        ([("decoupled_decay", {"weight_decay": 0.5})], "weight_decay", 0.0),
        ([("l2", {"weight_decay": 0.5})], "weight_decay", 0.0),
        ([("clip_norm", {"limit": 0.1})], "clip_norm_limit", 1e9),
        ([("clip_value", {"limit": 0.1})], "clip_value_limit", 1e9),
        ([("agc", {"clipping": 0.01})], "agc_clipping", 1e9),
        ([("proximal", {"penalty": "l1", "strength": 5.0})], "proximal_strength", 0.0),
    ],
    ids=label,
)
def test_a_group_may_have_a_value_of_its_own(listed: Listed, key: str, off: float) -> None:
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, 5, silent=0.0)
    leaves, bare = leaves_of(begin), leaves_of(begin)
    exempt = ["matrix", "vector"]
    groups = [
        {"params": [leaves[n] for n in exempt], key: off},
        {"params": [leaves[n] for n in SHAPES if n not in exempt]},
    ]

    ours, _ = in_torch(optim.SGD(groups, lr=0.1, wrappers=applied(listed)), leaves, slopes, [1.0] * 5)
    plain, _ = in_torch(optim.SGD(list(bare.values()), lr=0.1), bare, slopes, [1.0] * 5)

    assert all(np.array_equal(ours[-1][n], plain[-1][n]) for n in exempt)
    assert not any(np.allclose(ours[-1][n], plain[-1][n]) for n in ("column", "filter", "0-d"))


def test_decay_by_the_schedule_leaves_the_rate_out() -> None:
    """θ ← θ − fλθ with f = 1/2, λ = 0.4; a rate of 1000 does not matter without gradient."""
    w = torch.nn.Parameter(torch.tensor([10.0]))
    optimizer = optim.AdamW([w], lr=1000.0, wrappers=[optim.decoupled_decay(0.4, by="schedule")])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    w.grad = torch.zeros(1)

    optimizer.step()
    scheduler.step()

    assert w.item() == 8.0


def test_the_default_of_a_decay_wrapper_takes_the_place_of_the_methods_own() -> None:
    optimizer = optim.AdamW([torch.zeros(1)], wrappers=[optim.decoupled_decay(0.3)])

    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert optim.NAdam is not None
    nadam = [torch.nn.Parameter(torch.ones(1))]
    again = optim.NAdam(nadam, lr=0.1, decoupled_weight_decay=True, wrappers=[optim.decoupled_decay(0.5)])
    nadam[0].grad = torch.zeros(1)
    again.step()
    assert nadam[0].item() == pytest.approx(0.95)  # once, not twice


def test_copied_and_pickled_optimizers_keep_their_wrappers() -> None:
    listed: Listed = [
        ("clip_norm", {"limit": 2.0}), ("skip_nonfinite", {"limit": 4}), ("cautious", {}),
        ("decoupled_decay", {"weight_decay": 0.2, "by": "cautious"}), ("ema", {"memory": 0.7}),
    ]  # fmt: skip
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, 20, silent=0.0)
    leaves = leaves_of(begin)
    optimizer = optim.Adam(list(leaves.values()), lr=0.03, wrappers=applied(listed))
    in_torch(optimizer, leaves, slopes[:10], FACTORS[:10])

    for copied in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        other, theirs = copied((optimizer, leaves))
        fresh, mine = copied((optimizer, leaves))
        assert repr(other.wrappers) == repr(optimizer.wrappers)
        assert "clip_norm(limit=2.0)" in repr(other.wrappers)
        a, b = (in_torch(o, p, slopes[10:], FACTORS[10:20]) for o, p in ((other, theirs), (fresh, mine)))
        straight = leaves_of(begin)
        whole = in_torch(
            optim.Adam(list(straight.values()), lr=0.03, wrappers=applied(listed)),
            straight,
            slopes,
            FACTORS[:20],
        )
        assert deviation(a[0], whole[0][10:], begin) == deviation(b[1], whole[1][10:], begin) == 0


def test_the_weights_that_are_trained_come_back_after_evaluation() -> None:
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, 6, silent=0.0)
    leaves = leaves_of(begin)
    optimizer = optim.SGD(list(leaves.values()), lr=0.1, wrappers=[optim.ema(0.5)])
    path, faces = in_torch(optimizer, leaves, slopes, [1.0] * 6)

    assert np.array_equal(path[-1]["matrix"], leaves["matrix"].detach().numpy())
    assert not np.allclose(path[-1]["matrix"], faces[-1]["matrix"])


def test_the_optimizer_says_whether_a_gradient_was_shortened() -> None:
    w = torch.nn.Parameter(torch.zeros(2))
    for wrapper in (
        optim.clip_norm(1.0),
        optim.clip_value(1.0),
        optim.clip_group_norm(1.0),
        optim.agc(1.0, 1.0),
    ):
        optimizer = optim.SGD([w], lr=0.0, wrappers=[wrapper])
        seen = []
        for slope in (0.5, 3.0):
            w.grad = torch.tensor([slope, 0.0])
            optimizer.step()
            seen.append(optimizer.clipped)
        assert seen == [False, True]


def test_norms_are_taken_over_all_rules_of_an_optimizer() -> None:
    class MatrixSGD(RuleOptimizer, rule=replace(SGD, name="matrix-sgd", title="MatrixSGD", least_axes=2)):
        """SGD for matrices, AdamW for the rest."""

    matrix, vector = torch.nn.Parameter(torch.zeros(1, 1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = MatrixSGD([matrix, vector], lr=1.0, wrappers=[optim.clip_norm(0.5)])
    matrix.grad, vector.grad = torch.tensor([[3.0]]), torch.tensor([4.0])

    optimizer.step()

    assert matrix.item() == pytest.approx(-0.3)


# Sparse and complex gradients.


def test_sparse_gradients_are_clipped_as_dense_ones_are() -> None:
    moved = []
    for sparse in (True, False):
        torch.manual_seed(0)
        layer = torch.nn.Embedding(5, 3, sparse=sparse)
        bias = torch.nn.Parameter(torch.ones(3))
        optimizer = optim.SGD(
            [*layer.parameters(), bias], lr=0.5, wrappers=[optim.clip_norm(0.5), optim.skip_nonfinite()]
        )
        (layer(torch.tensor([1, 3, 3])) * bias).sum().backward()
        optimizer.step()
        moved.append((layer.weight.detach().clone(), bias.detach().clone()))
        assert optimizer.clipped

    assert torch.allclose(moved[0][0], moved[1][0], rtol=0, atol=1e-7)
    assert torch.allclose(moved[0][1], moved[1][1], rtol=0, atol=1e-7)


def test_a_nonfinite_sparse_gradient_is_found() -> None:
    layer = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = optim.Adam(layer.parameters(), wrappers=[optim.skip_nonfinite()])
    before = layer.weight.detach().clone()
    (layer(torch.tensor([1, 3])) * torch.tensor([1.0, float("inf"), 1.0])).sum().backward()

    optimizer.step()

    assert torch.equal(layer.weight, before)
    assert optimizer.skipped_steps == 1


@pytest.mark.parametrize("name", ["ema", "swa", "lookahead", "proximal"])
def test_averages_and_penalties_refuse_sparse_gradients(name: str) -> None:
    layer = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = optim.SGD(layer.parameters(), wrappers=[WRAPPERS[name]()])
    layer(torch.tensor([1, 3])).sum().backward()

    with pytest.raises(InputError, match="be dense"):
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_complex_parameters_move_as_pairs_of_numbers_or_are_refused(name: str) -> None:
    z = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))
    optimizer = optim.SGD([z], lr=0.1, wrappers=[WRAPPERS[name]()])
    z.grad = torch.tensor([3 + 4j, 0j])

    if name in ("agc", "centralise", "cautious", "proximal"):
        with pytest.raises(InputError, match="be real"):
            optimizer.step()
    else:
        optimizer.step()
        assert z[0].imag.item() < 2  # it moved


# Steps that are skipped.


def assert_same(a: Any, b: Any) -> None:
    """Compare what an optimizer keeps, bit for bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def uncounted(optimizer: RuleOptimizer) -> dict[str, Any]:
    """Return all that an optimizer saves but how many steps it has skipped."""
    saved = optimizer.state_dict()
    counts = ("skipped_steps", "skipped_in_a_row")
    groups = [{n: x for n, x in g.items() if n not in counts} for g in saved["param_groups"]]
    return {**saved, "param_groups": groups}


@pytest.mark.parametrize("name", RULES)
def test_a_nonfinite_gradient_leaves_everything_bit_identical_and_the_run_recovers(name: str) -> None:
    rule = RULES[name]
    around = [optim.clip_norm(1.0), optim.clip_value(0.5), optim.agc(), optim.skip_nonfinite(limit=3)]
    begin, slopes = starts(5, shapes(rule)), given_gradients(rule, 5, 6, silent=0.0)
    leaves, smooth = leaves_of(begin), leaves_of(begin)
    optimizer = BY_RULE[name](list(leaves.values()), wrappers=around, **values_of(rule))
    undisturbed = BY_RULE[name](list(smooth.values()), wrappers=around, **values_of(rule))
    last = next(n for n in reversed(begin) if slopes[0][n] is not None and begin[n].size)

    expected, _ = in_torch(undisturbed, smooth, slopes, [1.0] * 6)
    path: Path = []
    for step, given in enumerate(slopes):
        if step in (1, 4):  # after which there is a state, and global scalars
            kept = copy.deepcopy((now(leaves), uncounted(optimizer)))
            for bad in (np.nan, np.inf):
                spoilt = given[last].copy()
                spoilt.flat[0] = bad
                give(leaves, {**given, last: spoilt})
                optimizer.step()
            assert all(np.array_equal(x, kept[0][n]) for n, x in now(leaves).items())
            assert_same(uncounted(optimizer), kept[1])
        path += in_torch(optimizer, leaves, [given], [1.0])[0]

    assert optimizer.skipped_steps == 4
    assert deviation(path, expected, begin) == 0


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_too_many_skipped_steps_in_a_row_are_an_error_and_a_good_step_starts_the_count_anew(
    name: str,
) -> None:
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = BY_RULE[name]([w], lr=0.1, wrappers=[optim.skip_nonfinite(limit=2), optim.ema()])
    bad, good = torch.tensor([1.0, float("nan")]), torch.ones(2)

    for slope in (bad, good, bad):
        w.grad = slope
        optimizer.step()
    with pytest.raises(ThalwegError, match=r"at least one of 2 steps in a row; got 2 steps"):
        optimizer.step()
    assert torch.isfinite(w).all()
    w.grad = good
    optimizer.step()
    assert optimizer.skipped_steps == 3


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
def test_one_replica_is_skipped_and_the_others_go_on(name: str, torch_backend: bool) -> None:
    """Parameters, states and global scalars of the skipped one stay bit for bit; the others do not notice."""
    rule = wrapped(RULES[name], [WRAPPERS["skip_nonfinite"](), WRAPPERS["clip_norm"](3.0)])
    h = rule.values({**rule.checked(values_of(rule)), "lr": array_of(torch_backend, [0.05, 0.05, 0.02])})
    shaped = {n: s for n, s in shapes(rule).items() if n != "idle"}
    begin = {n: np.stack([starts(k, shaped)[n] for k in range(K)]) for n in shaped}
    slopes = [given_gradients(rule, k, 4, silent=0.0) for k in range(K)]
    last = list(shaped)[-1]

    def walk(spoil: bool) -> tuple[Any, Any, Any]:
        at = {n: array_of(torch_backend, x.copy()) for n, x in begin.items()}
        states = {n: rule.initial(p, h, replicas=True) for n, p in at.items()}
        shared = {rule.name: rule.initial_shared(h)} if rule.initial_shared else {}
        for past in range(4):
            given = {n: np.stack([s[past][n] for s in slopes]) for n in shaped}
            before = copy.deepcopy((at, states, shared))
            if spoil and past == 3:
                given[last].reshape(K, -1)[1, 0] = np.nan
            rows = [
                Row(rule, at[n], array_of(torch_backend, given[n]), states[n], past + 1, h, replicas=True)
                for n in shaped
            ]
            if torch_backend:
                done = eager.advance(rows, shared)
                shared = done.shared
            else:
                done = tail.step(rows, shared)
                shared = done.shared
                for n, row in zip(list(shaped), done.rows, strict=True):
                    at[n], states[n] = done.moved(row)
            assert np.asarray(done.skipped).tolist() == [False, spoil and past == 3, False]
        return (at, states, shared), before, done

    spoilt, before, _ = walk(spoil=True)
    whole, _, _ = walk(spoil=False)

    for n in shaped:
        for k, expected in ((0, whole), (1, before), (2, whole)):
            assert_equal(spoilt[0][n][k], expected[0][n][k])
            for x, y in zip(spoilt[1][n], expected[1][n], strict=True):
                assert_equal(x[k], y[k])
    for ours, undisturbed, old in zip(
        *(s.get(rule.name, ()) for s in (spoilt[2], whole[2], before[2])), strict=True
    ):
        for k, expected in ((0, undisturbed), (1, old), (2, undisturbed)):
            assert float(entry(ours, k)) == float(entry(expected, k))


def array_of(torch_backend: bool, x: Any) -> Any:
    return torch.as_tensor(np.asarray(x)) if torch_backend else np.asarray(x)


def entry(x: Any, k: int) -> Any:
    return x[k] if np.ndim(x) else x


def assert_equal(x: Any, y: Any) -> None:
    assert np.array_equal(np.asarray(x), np.asarray(y))


def test_whole_numbers_of_wrappers_are_structure() -> None:
    """Clocks divide by them, and a replica with another one would need another structure."""
    whole = {key for n in NAMES for key, h in WRAPPERS[n].hyper.items() if isinstance(h, Integer)}

    assert whole == {"lookahead_every", "swa_start", "swa_every", "skip_nonfinite_limit"}
