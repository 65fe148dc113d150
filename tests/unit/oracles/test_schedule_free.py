"""Schedule-free against its recursion, numbers by hand, and where schedulefree ends in double precision."""

import numpy as np
import pytest

from noise import FALLING, SILENT, STEPS, distance, global_problem, start_and_gradients
from oracles import schedule_free, sgd


def test_schedule_free_with_beta_0_is_gradient_descent_and_its_mean() -> None:
    theta0, gradients = start_and_gradients()

    trained = schedule_free.sgd(theta0, gradients, lr=0.1, momentum=0.0)
    evaluated = schedule_free.sgd_evaluated(theta0, gradients, lr=0.1, momentum=0.0)
    plain = np.array(sgd.run(theta0, gradients, lr=0.1))

    assert distance(trained, plain, theta0) < 1e-13
    assert distance(evaluated, [plain[: k + 1].mean(axis=0) for k in range(STEPS)], theta0) < 1e-13


def test_schedule_free_weights_by_hand() -> None:
    """Warm-up over 2 steps: rates ½, 1, so z = 9½, 8½; weights 1·½ and 2·1 (r = 1, power 1)."""
    hyper = {"momentum": 0.5, "warmup_steps": 2, "r": 1.0, "weight_lr_power": 1.0}
    gradients = [np.array(1.0)] * 2

    evaluated = schedule_free.sgd_evaluated(np.array(10.0), gradients, **hyper)
    trained = schedule_free.sgd(np.array(10.0), gradients, **hyper)

    assert [float(x) for x in evaluated] == pytest.approx([9.5, 8.7], abs=1e-14)
    assert [float(y) for y in trained] == pytest.approx([9.5, 8.6], abs=1e-14)


def test_schedule_free_decay_is_taken_where_the_gradient_is() -> None:
    """z: 10 - 1 - ½·10 = 4 = x = y, then 4 - 1 - ½·4 = 1; x = 2½; y = ¾·1 + ¼·2½."""
    path = schedule_free.sgd(np.array(10.0), [np.array(1.0)] * 2, momentum=0.25, weight_decay=0.5)

    assert [float(y) for y in path] == pytest.approx([4.0, 1.375], abs=1e-14)


def test_schedule_free_stays_while_all_weights_are_0() -> None:
    path = schedule_free.sgd(np.array(10.0), [np.array(1.0)] * 2, factors=[0.0, 1.0], momentum=0.5)

    assert [float(y) for y in path] == [10.0, 9.0]


@pytest.mark.parametrize("silent", [(), SILENT])
def test_schedule_free_equals_the_form_that_keeps_no_average(silent: tuple[int, ...]) -> None:
    """Only y and z are kept: y moves a part c of the way to the old z, then by γ(β(1-c) - 1)u."""
    theta0, gradients = start_and_gradients(silent=silent)
    beta, lr, decay, warmup, r, power = 0.9, 0.3, 0.1, 12, 0.5, 2.0

    y, z, v = theta0.copy(), theta0.copy(), np.zeros_like(theta0)
    total, largest, t = 0.0, 0.0, 0
    trained, evaluated = [], []
    for g, factor in zip(gradients, FALLING, strict=True):
        if g is not None:
            t += 1
            v = 0.95 * v + 0.05 * g * g
            u = g / (np.sqrt(v / (1 - 0.95**t)) + 1e-6) + decay * y
            rate = lr * factor * min(1.0, t / warmup)
            largest = max(largest, rate)
            weight = t**r * largest**power
            total += weight
            c = weight / total
            y = y + c * (z - y) + rate * (beta * (1 - c) - 1) * u
            z = z - rate * u
        trained.append(y)
        evaluated.append(y + (1 - 1 / beta) * (z - y))

    hyper = {
        "factors": FALLING,
        "lr": lr,
        "betas": (beta, 0.95),
        "eps": 1e-6,
        "weight_decay": decay,
        "warmup_steps": warmup,
        "r": r,
        "weight_lr_power": power,
    }
    assert distance(schedule_free.adamw(theta0, gradients, **hyper), trained, theta0) < 1e-12
    assert distance(schedule_free.adamw_evaluated(theta0, gradients, **hyper), evaluated, theta0) < 1e-12


OTHERS = {"momentum": 0.5, "weight_decay": 0.1, "warmup_steps": 10, "r": 1.0, "weight_lr_power": 1.0}
OTHERS_ADAMW = {key: value for key, value in OTHERS.items() if key != "momentum"}


@pytest.mark.parametrize(
    ("trained", "evaluated", "hyper", "y", "x"),
    [
        (
            schedule_free.sgd,
            schedule_free.sgd_evaluated,
            {},
            [-2.2478397215833392, -0.45841495735597076],
            [-2.1215735054309524, -0.5201823179778731],
        ),
        (
            schedule_free.sgd,
            schedule_free.sgd_evaluated,
            OTHERS,
            [-2.1017511399473654, -0.25362800167298355],
            [-1.8540986367283523, -0.3910763681865353],
        ),
        (
            schedule_free.adamw,
            schedule_free.adamw_evaluated,
            {},
            [-0.42608712016834427, -0.6930534899890012],
            [-0.36772090742770835, -0.7440587510209463],
        ),
        (
            schedule_free.adamw,
            schedule_free.adamw_evaluated,
            OTHERS_ADAMW | {"betas": (0.5, 0.9), "eps": 1e-3},
            [-0.5120624927147837, -0.5250351659808448],
            [-0.3898232707843331, -0.6401214042723855],
        ),
    ],
)
def test_schedule_free_ends_where_schedulefree_1_4_1_does(trained, evaluated, hyper, y, x) -> None:
    theta0, steps, factors = global_problem()
    gradients = [step["w"] for step in steps]

    # The package moves y in place and recovers x from it, which costs digits.
    assert trained(theta0["w"], gradients, factors=factors, lr=0.1, **hyper)[-1] == pytest.approx(
        y, rel=1e-11
    )
    assert evaluated(theta0["w"], gradients, factors=factors, lr=0.1, **hyper)[-1] == pytest.approx(
        x, rel=1e-11
    )
