"""The wrappers' oracle against PyTorch, against SciPy, and against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from scipy import optimize

from oracles.wrappers import evaluated, proximal, run

SHAPES = {"weight": (3, 4), "filters": (2, 3, 2, 2), "bias": (3,), "scale": ()}
STEPS = 100
# float64 sums of up to a hundred terms in another order: a few hundred roundings of 1e-16.
TOLERANCE = {"rtol": 1e-12, "atol": 1e-14}


def start_values():
    random = np.random.default_rng(7)
    return {name: random.normal(size=shape) for name, shape in SHAPES.items()}


def gradient_values(steps=STEPS, missing=0.2):
    random = np.random.default_rng(8)
    return [
        {
            name: random.normal(size=shape) * 10 ** random.uniform(-1, 1)
            if random.uniform() >= missing
            else None
            for name, shape in SHAPES.items()
        }
        for _ in range(steps)
    ]


def factor_values(steps=STEPS):
    return [1.0 if step < steps // 2 else 0.3 for step in range(steps)]


def torch_walk(make_optimizer, before=lambda p: None, sign=1):
    """Return PyTorch's θ after each step; ``before`` is called with the gradients, times ``sign``, set."""
    parameters = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in start_values().items()}
    optimizer = make_optimizer(list(parameters.values()))
    peak = optimizer.param_groups[0]["lr"]
    path = []
    for gradient, factor in zip(gradient_values(), factor_values(), strict=True):
        for name, parameter in parameters.items():
            parameter.grad = None if gradient[name] is None else torch.tensor(sign * gradient[name])
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
        before(parameters)
        optimizer.step()
        path.append({name: x.detach().numpy().copy() for name, x in parameters.items()})
    return path


def numpy_walk(method, values, *around, maximize=False):
    return run(
        start_values(),
        gradient_values(),
        method=method,
        method_values=values,
        wrappers=list(around),
        factors=factor_values(),
        maximize=maximize,
    )


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for name in SHAPES:
            np.testing.assert_allclose(mine[name], other[name], **TOLERANCE, err_msg=f"{name}, {number}")


def one(theta, gradients, *around, values=None, method="sgd", factors=None, show=run):
    """Walk one parameter, by default by plain gradient descent at rate 1."""
    path = show(
        {"w": np.array(theta, dtype=float)},
        [{"w": None if g is None else np.array(g, dtype=float)} for g in gradients],
        method=method,
        method_values=values or {"lr": 1.0},
        wrappers=list(around),
        factors=factors,
    )
    return [thetas["w"].tolist() for thetas in path]


# Methods


@pytest.mark.parametrize(
    ("method", "values", "make"),
    [
        ("sgd", {"lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1, foreach=False)),
        (
            "sgd",
            {"lr": 0.1, "momentum": 0.9},
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False),
        ),
        ("adam", {"lr": 0.1}, lambda p: torch.optim.Adam(p, lr=0.1, foreach=False)),
        (
            "adam",
            {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1},
            lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.7), eps=0.1, foreach=False),
        ),
    ],
)
@pytest.mark.parametrize("maximize", [False, True])
def test_bare_methods_walk_as_in_torch(method, values, make, maximize):
    ours = numpy_walk(method, values, maximize=maximize)
    assert_same(ours, torch_walk(make, sign=-1 if maximize else 1))


def test_lion_steps_by_the_sign_of_its_short_average_and_keeps_the_long_one():
    # m = 0, then 0.5·4 = 2, then 0.5·2 - 0.5·1 = 0.5: signs of 0.25·4, 0.75·2 - 0.25·1, 0.75·0.5 - 0.25·2.
    walked = one(10.0, [4.0, -1.0, -2.0], method="lion", values={"lr": 1.0, "betas": (0.75, 0.5)})
    assert walked == [9.0, 8.0, 9.0]


def test_any_method_can_be_wrapped():
    class Away:
        def __init__(self, start, *, share):
            self.start, self.share = start, share

        def step(self, theta, gradient, factor):
            return self.share * factor * (theta - self.start) - gradient

    walked = one(1.0, [2.0, 2.0], method=Away, values={"lr": 1.0, "share": 0.5}, factors=[1.0, 0.5])
    assert walked == [3.0, 3.75]  # 1 + 2; then d = 0.5·0.5·2 - 2 = -1.5, and half a step


# Clipping


def test_clip_value_is_torchs():
    ours = numpy_walk("adam", {"lr": 0.1}, ("clip_value", {"limit": 0.7}))
    theirs = torch_walk(
        lambda p: torch.optim.Adam(p, lr=0.1, foreach=False),
        before=lambda p: torch.nn.utils.clip_grad_value_(p.values(), 0.7, foreach=False),
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("groups", [None, [["weight", "bias"], ["filters"]]])
def test_clip_norm_is_torchs_over_all_and_over_groups(groups):
    def clip(parameters):
        for group in groups or [list(SHAPES)]:
            chosen = [parameters[name] for name in group]
            torch.nn.utils.clip_grad_norm_(chosen, 2.0, foreach=False)

    grouped = ("clip_group_norm", {"limit": 2.0, "groups": groups})
    around = grouped if groups else ("clip_norm", {"limit": 2.0})
    ours = numpy_walk("sgd", {"lr": 0.1, "momentum": 0.9}, around)
    theirs = torch_walk(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False), before=clip)
    assert_same(ours, theirs)


def test_a_parameter_in_no_group_is_not_clipped():
    settings = {"method": "sgd", "method_values": {"lr": 1.0}}
    around = [("clip_group_norm", {"limit": 1.0, "groups": [["a"]]})]
    (after,) = run({"a": 0.0, "b": 0.0}, [{"a": 4.0, "b": 4.0}], wrappers=around, **settings)
    assert float(after["a"]) == pytest.approx(-4 / (4 + 1e-6), rel=1e-12)
    assert float(after["b"]) == -4.0


def test_agc_cuts_each_row_of_a_matrix_on_its_own():
    # Row norms of θ 5 and 0: allowed 0.5 and 0.1·0.01. Row norms of g 5 and 0.0005: scales 0.1 and 1.
    theta, g = [[3.0, 4.0], [0.0, 0.0]], [[4.0, 3.0], [0.0, 0.0005]]
    (after,) = one(theta, [g], ("agc", {"clipping": 0.1, "floor": 0.01}))
    np.testing.assert_allclose(after, [[2.6, 3.7], [0.0, -0.0005]], **TOLERANCE)


def test_agc_takes_a_filter_as_one_unit():
    theta = np.ones((2, 1, 2, 2))  # unit norms 2
    g = np.stack([np.full((1, 2, 2), 4.0), np.full((1, 2, 2), 0.5)])  # unit norms 8 and 1
    (after,) = one(theta, [g], ("agc", {"clipping": 0.5}))
    np.testing.assert_allclose(after, [np.full((1, 2, 2), 0.5), np.full((1, 2, 2), 0.5)], **TOLERANCE)


@pytest.mark.parametrize(("theta", "g", "expected"), [([3.0, 4.0], [8.0, 6.0], [2.6, 3.7]), (5.0, 10.0, 4.5)])
def test_agc_takes_a_vector_or_a_number_as_one_unit(theta, g, expected):
    (after,) = one(theta, [g], ("agc", {"clipping": 0.1}))  # 0.1·5 of a gradient norm of 10
    np.testing.assert_allclose(after, expected, **TOLERANCE)


def test_agc_sees_a_column_as_many_units():
    (after,) = one([[3.0], [4.0]], [[[8.0], [6.0]]], ("agc", {"clipping": 0.1}))
    np.testing.assert_allclose(after, [[2.7], [3.6]], **TOLERANCE)


def test_agc_at_its_floors_lets_zero_weights_move_and_zero_gradients_pass():
    (after,) = one([0.0, 0.0], [[0.3, 0.4]], ("agc", {}))
    np.testing.assert_allclose(after, [-0.6e-5, -0.8e-5], **TOLERANCE)  # 0.01·0.001 in all
    assert one([1.0, 2.0], [[0.0, 0.0]], ("agc", {})) == [[1.0, 2.0]]


def test_centralise_takes_the_mean_from_each_row_and_leaves_vectors():
    assert one([[0.0, 0.0], [0.0, 0.0]], [[[1.0, 3.0], [4.0, 8.0]]], ("centralise", {})) == [
        [[1.0, -1.0], [2.0, -2.0]]
    ]
    assert one([0.0, 0.0], [[1.0, 3.0]], ("centralise", {})) == [[-1.0, -3.0]]


def test_gradient_wrappers_act_in_the_order_given():
    clip, centralise = ("clip_value", {"limit": 2.0}), ("centralise", {})
    assert one([[0.0, 0.0]], [[[2.0, 10.0]]], clip, centralise) == [[[0.0, 0.0]]]
    assert one([[0.0, 0.0]], [[[2.0, 10.0]]], centralise, clip) == [[[2.0, -2.0]]]


# Decay


@pytest.mark.parametrize(
    ("method", "make"),
    [
        (
            "sgd",
            lambda p: torch.optim.SGD(
                p, lr=0.1, momentum=0.9, weight_decay=0.3, maximize=True, foreach=False
            ),
        ),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.3, maximize=True, foreach=False)),
    ],
)
def test_l2_is_torchs_weight_decay(method, make):
    values = {"lr": 0.1, "momentum": 0.9} if method == "sgd" else {"lr": 0.1}
    ours = numpy_walk(method, values, ("l2", {"penalty": 0.3}), maximize=True)
    assert_same(ours, torch_walk(make))


def test_l2_comes_after_clipping_wherever_it_stands():
    clip, l2 = ("clip_value", {"limit": 1.0}), ("l2", {"penalty": 0.5})
    assert one(8.0, [3.0], clip, l2) == one(8.0, [3.0], l2, clip) == [3.0]  # 8 - (1 + 4)


def test_decay_by_the_rate_is_torchs_adamw():
    ours = numpy_walk("adam", {"lr": 0.1}, ("decoupled_decay", {"rate_of_decay": 0.3, "by": "rate"}))
    theirs = torch_walk(lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3, foreach=False))
    assert_same(ours, theirs)


@pytest.mark.parametrize(("by", "expected"), [("rate", 7.5), ("schedule", 7.0), ("corrected", 7.75)])
def test_decays_differ_in_what_multiplies_them(by, expected):
    # γ = 1/2, f = 1/2, λ = 1/4, θ = 8: γfλ = 1/16, fλ = 1/8, λ(γf)²/γ = 1/32. The gradient is 0.
    decay = ("decoupled_decay", {"rate_of_decay": 0.25, "by": by})
    assert one(8.0, [0.0], decay, values={"lr": 0.5}, factors=[0.5]) == [expected]


def test_cautious_decay_spares_what_the_step_moves_away_from_zero():
    decay = ("decoupled_decay", {"rate_of_decay": 0.25, "by": "cautious"})
    walked = one(
        [8.0, 8.0, -8.0, -8.0, 8.0, 0.0], [[2.0, -2.0, -2.0, 2.0, 0.0, 2.0]], decay, values={"lr": 0.5}
    )
    assert walked == [[6.0, 9.0, -6.0, -9.0, 7.0, -1.0]]


def test_cautious_decay_looks_at_the_masked_direction():
    # Momentum 1: the second d is [4 - 2, 4 + 4] = [2, 8]; its first entry opposes g = -2, and is masked.
    cautious, decay = ("cautious", {}), ("decoupled_decay", {"rate_of_decay": 0.25, "by": "cautious"})
    values = {"lr": 1.0, "momentum": 1.0}
    walked = one([16.0, 16.0], [[4.0, 4.0], [-2.0, 4.0]], cautious, decay, values=values)
    assert walked == [[8.0, 8.0], [6.0, -10.0]]  # 8 - 8/4, and 8 - 8/4 - 2·8


def test_an_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="no decay by 'hand'"):
        one(1.0, [1.0], ("decoupled_decay", {"rate_of_decay": 0.1, "by": "hand"}))


# The cautious mask


def test_cautious_mask_keeps_the_mean_weight_of_a_parameter():
    # The first d = g agrees in three of four. The second d = b = [3, 3, 3, 0]: in two of four, so times 2.
    values = {"lr": 1.0, "momentum": 1.0}
    gradients = [[2.0, 2.0, 4.0, 0.0], [1.0, 1.0, -1.0, 0.0]]
    first, second = one([0.0] * 4, gradients, ("cautious", {}), values=values)
    np.testing.assert_allclose(first, [-8 / 3, -8 / 3, -16 / 3, 0.0], **TOLERANCE)
    np.testing.assert_allclose(np.subtract(second, first), [-6.0, -6.0, 0.0, 0.0], **TOLERANCE)


def test_cautious_mask_is_never_divided_by_less_than_its_floor():
    g = np.zeros(8)
    g[0] = 1.0
    (after,) = one(np.zeros(8), [g], ("cautious", {"floor": 0.5}))
    assert after == [-2.0] + [0.0] * 7  # 1/0.5, not 1/0.125
    assert one([1.0, 2.0], [[0.0, 0.0]], ("cautious", {})) == [[1.0, 2.0]]


def test_cautious_mask_compares_with_the_gradient_that_the_method_got():
    # g = -1 + 0.5·8 = 3 with L2, so d·g > 0; with the raw -1 the step would be masked.
    assert one(8.0, [-1.0], ("cautious", {}), ("l2", {"penalty": 0.5})) == [5.0]


# Proximal steps


@pytest.mark.parametrize(
    ("values", "penalty"),
    [
        ({"penalty": "l1", "strength": 0.8}, lambda x: 0.8 * abs(x)),
        (
            {"penalty": "elastic_net", "strength": 0.8, "ratio": 0.25},
            lambda x: 0.8 * (0.25 * abs(x) + 0.375 * x**2),
        ),
        ({"penalty": "group", "strength": 0.8}, lambda x: 0.8 * abs(x)),
    ],
)
def test_proximal_step_minimises_what_it_says(values, penalty):
    for theta in np.linspace(-2.0, 2.0, 21):
        best = optimize.minimize_scalar(
            lambda x, theta=theta: 0.5 * (x - theta) ** 2 + 0.5 * penalty(x),
            bounds=(-3.0, 3.0),
            method="bounded",
            options={"xatol": 1e-10},
        )
        # A minimum is found to the root of a rounding: values near it differ by less than float64 tells.
        assert float(proximal(np.array(theta), 0.5, **values)) == pytest.approx(best.x, abs=1e-6)


def test_proximal_group_step_minimises_over_the_rows_of_a_matrix():
    theta = np.array([[1.0, -2.0, 0.5], [0.2, 0.1, -0.2], [-1.5, 0.3, 0.8]])

    def objective(flat):
        x = flat.reshape(theta.shape)
        return 0.5 * np.sum((x - theta) ** 2) + 0.5 * np.sum(np.linalg.norm(x, axis=1))

    shrunk = proximal(theta, 0.5, penalty="group", strength=1.0)
    assert shrunk[1].tolist() == [0.0, 0.0, 0.0]  # its norm 0.3 is below 0.5
    best = optimize.minimize(objective, theta.ravel(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-14})
    np.testing.assert_allclose(shrunk.ravel(), best.x, atol=1e-5)


def test_proximal_group_step_takes_a_vector_as_one_unit_and_survives_zeros():
    assert proximal(np.array([3.0, 4.0]), 1.0, penalty="group", strength=2.5).tolist() == [1.5, 2.0]
    assert proximal(np.zeros((2, 2)), 1.0, penalty="group", strength=2.5).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_proximal_step_comes_after_decay_and_step_and_follows_the_schedule():
    # 8 - 0.25·2 (step) - 0.25·0.5·8 (decay) = 6.5; threshold γfλ = 0.5·0.5·4 = 1.
    around = (("proximal", {"penalty": "l1", "strength": 4.0}), ("decoupled_decay", {"rate_of_decay": 0.5}))
    assert one(8.0, [2.0], *around, values={"lr": 0.5}, factors=[0.5]) == [5.5]


def test_projections_ignore_the_rate():
    box = ("proximal", {"penalty": "box", "low": -1.0, "high": 2.0})
    assert one([5.0, -5.0, 0.0], [[1.0, 1.0, -0.5]], box) == [[2.0, -1.0, 0.5]]
    nonnegative = ("proximal", {"penalty": "nonnegative"})
    assert one([5.0, -5.0], [[1.0, 1.0]], nonnegative, values={"lr": 0.25}) == [[4.75, 0.0]]


def test_an_unknown_penalty_is_refused():
    with pytest.raises(ValueError, match="no penalty 'l3'"):
        proximal(np.array(1.0), 1.0, penalty="l3")


# The machine


@pytest.mark.parametrize("method", ["sgd", "adam", "lion"])
def test_the_order_of_the_later_wrappers_in_the_list_does_not_matter(method):
    around = [
        ("clip_norm", {"limit": 1.0}),
        ("l2", {"penalty": 0.1}),
        ("cautious", {}),
        ("decoupled_decay", {"rate_of_decay": 0.1, "by": "cautious"}),
        ("proximal", {"penalty": "l1", "strength": 0.01}),
        ("lookahead", {}),
        ("ema", {"memory": 0.9}),
    ]
    settings = {"method": method, "method_values": {"lr": 0.1}, "factors": factor_values(30)}
    for show in (run, evaluated):
        forth = show(start_values(), gradient_values(30), wrappers=around, **settings)
        back = show(start_values(), gradient_values(30), wrappers=around[::-1], **settings)
        assert_same(forth, back)


def test_a_parameter_without_gradient_stays_as_it_is():
    around = [
        ("l2", {"penalty": 0.5}),
        ("decoupled_decay", {"rate_of_decay": 0.5}),
        ("proximal", {"penalty": "l1", "strength": 1.0}),
    ]
    settings = {"method": "adam", "method_values": {"lr": 0.1}, "wrappers": around}
    first, second = run({"a": 1.0, "b": 2.0}, [{"a": 1.0, "b": None}, {"a": None, "b": 1.0}], **settings)
    assert float(first["b"]) == 2.0
    assert float(second["a"]) == float(first["a"]) != 1.0


@pytest.mark.parametrize(
    ("around", "complaint"),
    [
        ([("clip", {})], "no wrapper 'clip'"),
        ([("l2", {"penalty": 1.0})] * 2, "each wrapper once"),
        ([("ema", {}), ("swa", {})], "one of ema and swa"),
    ],
)
def test_unknown_and_contradictory_wrappers_are_refused(around, complaint):
    with pytest.raises(ValueError, match=complaint):
        one(1.0, [1.0], *around)
