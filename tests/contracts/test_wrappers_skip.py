"""Steps that are skipped for a gradient that is not finite: nothing changes, and the run recovers."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from cases import Path, deviation, given_gradients, shapes, starts
from thalweg import optim
from thalweg.backends import eager
from thalweg.errors import ThalwegError
from thalweg.optim import BY_RULE, RuleOptimizer
from thalweg.rules import tail
from thalweg.rules.catalogue import RULES
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from walks import give, now
from wrapping import in_torch, leaves_of, values_of

K = 3  # replicas


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
