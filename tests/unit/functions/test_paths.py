"""Paths are those of the rules: by hand, beside torch, stacked or alone; arrivals and choices are as said."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.functions.catalogue import surface
from thalweg.functions.paths import GRID, _arrival, compare, newton, thinned
from thalweg.functions.view import view
from thalweg.functions.walks import method, noises, visited
from thalweg.rules.catalogue import CATALOGUE

MOVES_POINTS = [
    name for name, entry in CATALOGUE.items() if not entry.rule.least_axes and entry.rule.curvature is None
]


def run(text, names="sgd", steps=100, start=None, rates=None, **more):
    return compare(surface(text), [method(name) for name in names.split(",")], steps, start, rates, **more)


def test_gradient_descent_by_hand():
    (path,) = run("(w - 3)^2", steps=3, start=(0.0,), rates={"sgd": [0.1]}).paths

    assert path.points.ravel().tolist() == pytest.approx([0, 0.6, 1.08, 1.464], abs=1e-15)
    assert path.values.tolist() == pytest.approx([9 * 0.64**t for t in range(4)], rel=1e-14)
    assert path.distances.tolist() == pytest.approx([3 * 0.8**t for t in range(4)], rel=1e-14)
    assert (path.label, path.rate, path.tried, path.edge) == ("sgd", 0.1, (), None)


TORCH = {
    "sgd": lambda w: torch.optim.SGD([w], lr=1e-3),
    "momentum": lambda w: torch.optim.SGD([w], lr=1e-3, momentum=0.9),
    "nesterov": lambda w: torch.optim.SGD([w], lr=1e-3, momentum=0.9, nesterov=True),
    "rmsprop": lambda w: torch.optim.RMSprop([w], lr=1e-3),
    "adam": lambda w: torch.optim.Adam([w], lr=1e-3),
}


@pytest.mark.parametrize("name", TORCH)
def test_paths_are_those_of_torch_on_a_function_written_for_torch(name):
    w = torch.tensor([-1.0, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer = TORCH[name](w)
    expected = [w.tolist()]
    for _ in range(200):
        optimizer.zero_grad()
        ((1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2).backward()
        optimizer.step()
        expected.append(w.tolist())

    (path,) = run("rosenbrock", name, 200, rates={name: [1e-3]}).paths

    # 200 steps in a valley with κ = 2508 enlarge the rounding of each by less than a thousand.
    assert np.allclose(path.points, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", MOVES_POINTS)
def test_all_rates_at_once_are_each_rate_alone(name):
    using, f, rates = method(name), surface("rosenbrock").expression, np.array([1e-4, 1e-3, 1e-2])

    together = list(islice(visited(f, using, rates, (-1.0, 2.0), None), 30))
    for place, rate in enumerate(rates):
        alone = list(islice(visited(f, using, np.array([rate]), (-1.0, 2.0), None), 30))
        for a, b in zip(together, alone, strict=True):
            assert np.allclose(a[place], b[0], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_evaluation_points_are_shown_of_a_method_that_has_them():
    (path,) = run("quadratic:2", "schedule-free-sgd", 50, rates={"schedule-free-sgd": [0.5]}).paths
    rule = method("schedule-free-sgd").preset.rule

    assert rule.evaluated is not None
    assert path.distances[-1] < 0.05 * path.distances[0]


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo", "sophia-h", "sophia-g", "adan"])
def test_methods_that_do_not_move_points_are_refused(name):
    with pytest.raises(InputError, match=r"the optimizer( \S+)? must"):
        method(name)


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"alpha": 2.0}, {"beta": 0.9}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError):
        method("rmsprop", settings)


@given(st.lists(st.booleans(), min_size=1))
def test_arrival_is_the_first_step_of_the_last_stay(inside):
    found = _arrival(np.array(inside))

    expected = next((i for i in range(len(inside)) if all(inside[i:])), None)
    assert found == expected


def test_who_arrives_first_and_a_tie():
    # From 4 with factor 1 − 0.1·1 a step: 4 · 0.9ᵗ ≤ 0.01 from t = 57 on, with 1 − 0.5 from t = 9 on.
    rates = {"sgd": [0.1, 0.5], "momentum": [0.5]}
    found = run("quadratic:1", "sgd,momentum", 200, (4.0, 0.0), rates)
    slow, fast, heavy = found.paths

    assert [p.label for p in found.paths] == ["sgd at 0.1", "sgd at 0.5", "momentum"]
    assert (slow.arrived_at, fast.arrived_at) == (57, 9)
    assert found.first == (fast,)
    assert heavy.entered_at < heavy.arrived_at  # momentum runs through the minimum before it stays
    tie = run("quadratic:1", "sgd,adam", rates={"sgd": [0.1], "adam": [0.01, 0.1]}, within=5.0)
    assert tie.first == tie.paths  # all begin within 5 of the minimum
    assert {p.arrived_at for p in tie.first} == {0}


def test_nobody_arrives():
    found = run("rosenbrock", "sgd", rates={"sgd": [1e-6]})

    assert found.first == ()
    assert found.paths[0].arrived_at is found.paths[0].entered_at is None


def test_divergence_is_found_at_the_step_where_it_goes_too_far():
    # w ← −2w from 1: |w − 1| exceeds a million times 1 + 1 first at w = −2²¹.
    found = run("w^2/2", start=(1.0,), rates={"sgd": [3.0, 1.0]})
    wild, tame = found.paths

    assert wild.diverged_at == 21
    assert wild.points.ravel().tolist() == [(-2.0) ** t for t in range(21)]
    assert wild.arrived_at is None
    assert tame.diverged_at is None
    assert found.minima == ((0.0,),)
    assert found.first == (tame,)


def test_a_step_out_of_the_domain_is_divergence():
    (path,) = run("w - log(w)", start=(0.1,), rates={"sgd": [0.01]}, steps=50).paths
    (out,) = run("w + log(w)", start=(0.1,), rates={"sgd": [0.05]}, steps=50).paths

    assert path.diverged_at is None
    assert out.diverged_at == 1  # 0.1 − 0.05 · 11 is negative
    assert out.points.ravel().tolist() == [0.1]


def test_each_optimizer_has_the_same_grid_and_is_shown_at_its_best():
    found = run("rosenbrock", "sgd,momentum,adam", 300)

    for path in found.paths:
        assert tuple(one.rate for one in path.tried) == GRID
        shown = next(one for one in path.tried if one.rate == path.rate)
        assert (shown.distance, shown.value) == (path.distances[-1], path.values[-1])
        arrived = [one.arrived_at for one in path.tried if one.arrived_at is not None]
        if arrived:
            assert shown.arrived_at == path.arrived_at == min(arrived)
        else:
            assert shown.distance == min(one.distance for one in path.tried if one.distance is not None)
        # The row of the grid is what the rate gives when it runs alone.
        (alone,) = run("rosenbrock", path.optimizer, 300, rates={path.optimizer: [path.rate]}).paths
        assert np.allclose(alone.points, path.points, rtol=1e-9, atol=1e-12)


def test_the_edge_of_the_grid_is_noticed():
    # The gradient on the plateau is so small that the highest rate is the best.
    highest = run("1 - exp(-(x^2 + y^2)/2)", "sgd", 50, start=(4.5, 0.0)).paths[0]
    inside = run("booth", "sgd").paths[0]

    assert (highest.rate, highest.edge) == (10.0, "highest")
    assert inside.edge is None


def test_all_rates_diverge():
    (path,) = run("w^4 - 1e30*w", "sgd", 50, start=(1.0,)).paths

    assert path.rate == GRID[0]
    assert path.diverged_at is not None
    assert all(one.diverged_at is not None and one.distance is one.value is None for one in path.tried)


def test_a_minimum_that_nobody_knew_is_found_from_the_lowest_end():
    found = run("log(x)^2 + (y - 2)^2", "adam", 50)

    assert found.found
    assert found.minima[0] == pytest.approx((1.0, 2.0), abs=1e-15)


def test_of_several_minima_that_are_found_the_lowest_are_kept():
    twins = run("w^4 - 2w^2", "sgd", 60, start=(2.0,), rates={"sgd": [0.01, 0.1]})
    uneven = run("w^4 - 2w^2 + w/10", "sgd", 60, start=(2.0,), rates={"sgd": [0.01, 0.1]})

    assert sorted(twins.minima) == [(-1.0,), (1.0,)]
    assert [path.points[-1, 0] for path in twins.paths] == pytest.approx([1, -1], abs=0.01)
    ((lowest,),) = uneven.minima
    assert 4 * lowest**3 - 4 * lowest + 0.1 == pytest.approx(0, abs=1e-14)
    assert lowest < -1  # the other one, near 0.99, is higher


@pytest.mark.parametrize("text", ["x^2 - y^2", "x + y", "abs(x) + abs(y)", "x^4 + y^4"])
def test_no_minimum_is_made_up(text):
    found = run(text, "sgd,adam", 50)

    assert found.minima == ()
    assert not found.found
    for path in found.paths:
        assert path.distances is path.nearest is path.arrived_at is None
        assert path.values[-1] == min(one.value for one in path.tried if one.value is not None)


def test_newton_finds_critical_points_or_says_so():
    def f(text):
        return surface(text).expression

    assert newton(f("x^2 - y^2 + x"), np.array([1.0, 1.0])).tolist() == [-0.5, 0.0]
    assert newton(f("x + y"), np.array([1.0, 1.0])) is None  # no curvature at all
    assert newton(f("exp(x) + y^2"), np.array([1.0, 1.0])) is None  # a step of 1 to the left, for ever
    assert newton(f("log(x)^2"), np.array([5.0])) is None  # out of the domain


def test_noise_is_decided_by_its_seed_and_the_same_for_all():
    first, again, other = (
        run("matyas", "sgd,adam", 50, rates={"sgd": [0.1], "adam": [0.1]}, noise=0.1, seed=seed)
        for seed in (3, 3, 4)
    )

    assert np.array_equal(first.paths[0].points, again.paths[0].points)
    assert not np.array_equal(first.paths[0].points, other.paths[0].points)
    plain = run("w", "sgd", 50, rates={"sgd": [0.1, 0.2]}, noise=1.0)  # dw = −η(1 + ξ): the noise is seen
    slow, fast = (np.diff(p.points.ravel()) / -p.rate - 1 for p in plain.paths)
    assert slow == pytest.approx(fast, abs=1e-12)
    assert noises((2,), 0.0, 0) is None


def test_the_noise_ball_of_gradient_descent_has_the_predicted_size():
    # On ½aw² with gradient variance s: E w² = ηs/(a(2 − ηa)), here 0.5/(2 · (2 − 1)) = 0.25.
    a, eta, s, runs = 2.0, 0.5, 1.0, 20_000
    walk = visited(
        surface("w^2").expression, method("sgd"), np.full(runs, eta), (1.0,), noises((runs, 1), s, 0)
    )
    last = next(islice(walk, 60, None))

    expected = eta * s / (a * (2 - eta * a))
    # w is normal, so the mean of w² has a deviation of √2 E w²/√runs; four of them.
    assert np.mean(last**2) == pytest.approx(expected, abs=4 * math.sqrt(2 / runs) * expected)


@pytest.mark.parametrize(
    ("text", "start", "said"),
    [
        ("rosenbrock", (1.0,), "the start must have a number for each of x, y; got 1. Such as 1,1."),
        ("log(x) + y", (-1.0, 0.0), "where the value of the function is a finite number; got -1, 0, where"),
        ("sqrt(x) + y", (0.0, 0.0), "where the gradient of the function is a finite number; got 0, 0, where"),
        ("1/(x - 1)", None, "Name a start where it is."),
        ("rosenbrock", (math.inf, 0.0), "the start must be where the value"),
    ],
)
def test_a_start_that_cannot_be_used_is_refused(text, start, said):
    with pytest.raises(InputError) as refused:
        run(text, "sgd", start=start)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("names", "rates", "said"),
    [
        ("", {}, "the optimizers must be one or more different names"),
        ("sgd,sgd", {}, "the optimizers must be one or more different names"),
        ("sgd", {"adan": [1.0]}, "the rates must be of optimizers that run; got 'adan'"),
        ("sgd", {"sgd": []}, "the rates of sgd must be one or more different numbers"),
        ("sgd", {"sgd": [1.0, 1.0]}, "the rates of sgd must be one or more different numbers"),
        ("sgd", {"sgd": [-1.0]}, "lr of SGD must be a finite number of at least 0"),
        ("sgd,adam", {"sgd": [0.1 * k for k in range(1, 9)]}, "the paths must be at most 8"),
    ],
)
def test_rates_and_names_that_cannot_be_used_are_refused(names, rates, said):
    with pytest.raises(InputError) as refused:
        compare(surface("booth"), [method(name) for name in names.split(",") if name], 5, None, rates)
    assert said in str(refused.value)


@given(st.integers(1, 100_001))
def test_thinned_steps_keep_the_first_and_the_last(count):
    kept = thinned(count)

    assert (kept[0], kept[-1]) == (0, count - 1)
    assert len(kept) <= 500
    assert (np.diff(kept) > 0).all()


def test_progress_counts_all_steps():
    done = []
    run("booth", "sgd,adam", 20, advance=done.append)

    assert sum(done) == 40


def test_the_view_is_that_of_the_catalogue_and_holds_the_start():
    inside, outside = run("rosenbrock", steps=5), run("rosenbrock", steps=5, start=(-2.5, 4.0))

    assert view(inside).box == ((-2.0, 2.0), (-1.0, 3.0))
    assert view(outside).box == ((-2.5, 2.0), (-1.0, 4.0))
    assert view(inside, ((0.0, 1.0), (0.0, 1.0))).box == ((0.0, 1.0), (0.0, 1.0))


@pytest.mark.parametrize("text", ["x^2 - y^2", "(x - 1)^2 + y^2", "x + 0*y", "sqrt(x) + y^2"])
def test_the_view_of_a_formula_holds_start_and_minima_and_is_neither_flat_nor_endless(text):
    found = run(text, "sgd,adam", 200)
    seen = view(found)

    low, high = np.array(seen.box).T
    for point in (found.start, *(found.minima[p.nearest] for p in found.paths if p.nearest is not None)):
        assert (low < point).all()
        assert (point < high).all()
    assert (high - low).min() >= 0.3 * (high - low).max() > 0
    assert (high - low).max() < 10
    _, values = seen.grid(20, 20)
    heights = seen.heights(values)
    assert np.nanmin(heights) >= 0
    assert np.isfinite(heights[np.isfinite(values)]).all()
