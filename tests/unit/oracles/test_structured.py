"""The oracles with sequences, estimates of the rate, matrices or curvature.

What holds for all of them; each has tests of its own beside this file.
"""

import numpy as np
import pytest

from noise import FALLING, SILENT, STEPS, distance, global_problem, start_and_gradients
from oracles import dadaptation, muon, prodigy, schedule_free, shampoo, soap, sophia

SINGLE = {
    "schedule_free.sgd": schedule_free.sgd,
    "schedule_free.sgd_evaluated": schedule_free.sgd_evaluated,
    "schedule_free.adamw": schedule_free.adamw,
    "schedule_free.adamw_evaluated": schedule_free.adamw_evaluated,
    "muon": muon.run,
    "shampoo": shampoo.run,
    "soap": soap.run,
    "sophia": lambda theta0, gradients, **hyper: sophia.run(
        theta0, gradients, hessians=[None if g is None else g**2 for g in gradients], **hyper
    ),
}
GLOBAL = {"prodigy": prodigy.run, "dadaptation.adam": dadaptation.adam, "dadaptation.sgd": dadaptation.sgd}


@pytest.mark.parametrize("name", SINGLE)
def test_a_silent_step_leaves_no_trace(name: str) -> None:
    theta0, gradients = start_and_gradients(silent=SILENT)
    heard = [k for k in range(STEPS) if k not in SILENT]

    path = SINGLE[name](theta0, gradients, weight_decay=0.1, factors=FALLING)
    alone = SINGLE[name](
        theta0, [gradients[k] for k in heard], weight_decay=0.1, factors=[FALLING[k] for k in heard]
    )

    assert np.array_equal(path[0], theta0)
    assert np.array_equal(path[6], path[4])
    assert np.array_equal(np.array([path[k] for k in heard]), np.array(alone))
    assert np.abs(path[-1] - theta0).max() > 0


@pytest.mark.parametrize("name", SINGLE)
def test_maximize_turns_the_gradient_and_not_the_decay(name: str) -> None:
    theta0, gradients = start_and_gradients(steps=30)

    up = SINGLE[name](theta0, gradients, weight_decay=0.1, maximize=True)
    down = SINGLE[name](theta0, [-g for g in gradients], weight_decay=0.1)

    assert np.array_equal(np.array(up), np.array(down))


@pytest.mark.parametrize("name", SINGLE)
def test_a_factor_multiplies_the_rate(name: str) -> None:
    theta0, gradients = start_and_gradients(steps=30)

    by_factor = SINGLE[name](theta0, gradients, lr=0.5, factors=[0.25] * 30)
    by_rate = SINGLE[name](theta0, gradients, lr=0.125)

    assert np.array_equal(np.array(by_factor), np.array(by_rate))


@pytest.mark.parametrize("name", SINGLE)
def test_inputs_are_left_alone_and_results_share_no_memory(name: str) -> None:
    theta0, gradients = start_and_gradients(silent=SILENT, steps=10)
    copies = theta0.copy(), [None if g is None else g.copy() for g in gradients]

    path = SINGLE[name](theta0, gradients)
    later = path[5].copy()
    path[0][...] = path[4][...] = 1e9

    assert np.array_equal(theta0, copies[0])
    assert all(a is b is None or np.array_equal(a, b) for a, b in zip(gradients, copies[1], strict=True))
    assert np.array_equal(path[5], later)


@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_more_than_two_axes_are_a_matrix_of_the_first_axis_and_the_rest(name: str) -> None:
    theta0, gradients = start_and_gradients((2, 3, 2), steps=30)

    path = SINGLE[name](theta0, gradients)
    flat = SINGLE[name](theta0.reshape(2, 6), [g.reshape(2, 6) for g in gradients])

    assert np.array_equal(np.array(path), np.array(flat).reshape(-1, 2, 3, 2))


@pytest.mark.parametrize("name", ["muon", "shampoo"])
def test_a_vector_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"two axes or more; got shape \(3,\)"):
        SINGLE[name](np.zeros(3), [np.ones(3)])


@pytest.mark.parametrize("name", GLOBAL)
def test_a_step_without_any_gradient_or_of_rate_0_leaves_no_trace(name: str) -> None:
    theta0, gradients, factors = global_problem()
    nothing = {"w": None, "b": None}
    longer = [*gradients[:5], nothing, gradients[5], *gradients[5:]]

    path = GLOBAL[name](theta0, gradients, factors=factors, weight_decay=0.1, d0=1e-3, growth_rate=1.2)
    padded = GLOBAL[name](
        theta0,
        longer,
        factors=[*factors[:5], 1.0, 0.0, *factors[5:]],
        weight_decay=0.1,
        d0=1e-3,
        growth_rate=1.2,
    )

    for key in theta0:
        values = [theta[key] for theta in padded]
        assert np.array_equal(values[5], values[4])
        assert np.array_equal(values[6], values[4])
        assert np.array_equal([*values[:5], *values[7:]], [theta[key] for theta in path])


@pytest.mark.parametrize("name", GLOBAL)
def test_the_rate_is_one_for_all_parameters(name: str) -> None:
    """One parameter cut into two named pieces moves as before."""
    _, gradients, factors = global_problem()
    gradients = [step["w"] for step in gradients]
    start = np.array([1.0, -2.0])
    hyper = {"weight_decay": 0.1, "d0": 1e-3, "growth_rate": 1.5, "factors": factors}

    whole = GLOBAL[name]({"w": start}, [{"w": g} for g in gradients], **hyper)
    pieces = GLOBAL[name](
        {"x": start[:1], "y": start[1:]}, [{"x": g[:1], "y": g[1:]} for g in gradients], **hyper
    )

    joined = [np.concatenate([theta["x"], theta["y"]]) for theta in pieces]
    assert distance(joined, [theta["w"] for theta in whole], start) < 1e-11


@pytest.mark.parametrize("name", GLOBAL)
def test_a_parameter_without_gradient_neither_moves_nor_counts(name: str) -> None:
    theta0, gradients, _ = global_problem()
    mute = [{"w": step["w"], "b": None} for step in gradients]

    path = GLOBAL[name](theta0, mute, weight_decay=0.1, d0=1e-3, growth_rate=1.2)
    alone = GLOBAL[name](
        {"w": theta0["w"]}, [{"w": g["w"]} for g in mute], weight_decay=0.1, d0=1e-3, growth_rate=1.2
    )

    assert all(np.array_equal(theta["b"], theta0["b"]) for theta in path)
    assert np.array_equal([theta["w"] for theta in path], [theta["w"] for theta in alone])


@pytest.mark.parametrize("name", GLOBAL)
def test_maximize_turns_the_gradients_and_not_the_decay_of_global_methods(name: str) -> None:
    theta0, gradients, _ = global_problem()
    turned = [{key: None if g is None else -g for key, g in step.items()} for step in gradients]
    hyper = {"weight_decay": 0.1, "d0": 1e-3, "growth_rate": 1.2}

    up = GLOBAL[name](theta0, gradients, maximize=True, **hyper)
    down = GLOBAL[name](theta0, turned, **hyper)

    assert all(np.array_equal(a[key], b[key]) for a, b in zip(up, down, strict=True) for key in theta0)


@pytest.mark.parametrize("name", GLOBAL)
def test_the_path_comes_near_the_solution_from_a_rate_far_too_small(name: str) -> None:
    """On |θ - 3| from 0, θ comes near 3, although the first step is a ten-thousandth of that."""
    gradients: list[dict] = []
    theta = 0.0
    seen = []
    for _ in range(80):
        gradients.append({"w": np.array([np.sign(theta - 3.0)])})
        theta = float(GLOBAL[name]({"w": np.array([0.0])}, gradients, d0=3e-4)[-1]["w"][0])
        seen.append(theta)

    assert abs(seen[0]) < 1e-3
    assert min(abs(value - 3.0) for value in seen) < 1.0
