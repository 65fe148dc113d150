"""The oracles of SGD, Adagrad, RMSprop, Adam and AdamW against numbers worked out by hand."""

import numpy as np
import pytest

from oracles import ORACLES


def _descend(name: str, start: float, slope, steps: int, **hyper: object) -> list[float]:
    """Close the loop: the gradient of each step is the slope at the last point."""
    gradients: list[np.ndarray] = []
    points = [start]
    for _ in range(steps):
        gradients.append(np.array(slope(points[-1])))
        points.append(float(ORACLES[name](np.array(start), gradients, **hyper)[-1]))
    return points[1:]


def test_sgd_on_shifted_square_by_hand() -> None:
    points = _descend("sgd", 0.0, lambda w: 2 * (w - 3), steps=3, lr=0.1)

    assert points == pytest.approx([0.6, 1.08, 1.464], abs=1e-14)


def test_momentum_on_square_by_hand() -> None:
    points = _descend("sgd", 10.0, lambda w: 2 * w, steps=2, lr=0.1, momentum=0.9)

    assert points == pytest.approx([8.0, 4.6], abs=1e-14)


def test_nesterov_and_dampening_by_hand() -> None:
    """b = 2, then .5·2 + 2 = 3; Nesterov adds half of b to g; dampening .5 spares the first step only."""
    gradients = [np.array(2.0)] * 2

    nesterov = ORACLES["sgd"](np.array(10.0), gradients, lr=1.0, momentum=0.5, nesterov=True)
    dampened = ORACLES["sgd"](np.array(10.0), gradients, lr=1.0, momentum=0.5, dampening=0.5)

    assert [float(theta) for theta in nesterov] == [7.0, 3.5]
    assert [float(theta) for theta in dampened] == [8.0, 6.0]


def test_adam_on_square_by_hand() -> None:
    """From 10 the gradients are 20 and 19.8: m̂ = (.9·20 + 19.8)/1.9, v̂ = (.999·20² + 19.8²)/1.999."""
    points = _descend("adam", 10.0, lambda w: 2 * w, steps=2, lr=0.1)

    assert points[0] == pytest.approx(9.9, abs=1e-9)
    assert round(points[1], 6) == 9.800027


def test_adagrad_by_hand() -> None:
    """Gradients 3 and 4 under roots 3 and 5, the second at half the rate."""
    gradients = [np.array(3.0), np.array(4.0)]

    path = ORACLES["adagrad"](np.array(10.0), gradients, lr=1.0, lr_decay=1.0, eps=0.0)

    assert [float(theta) for theta in path] == pytest.approx([9.0, 8.6], abs=1e-14)


def test_centred_rmsprop_by_hand() -> None:
    """g = 4, α = ½: v = 8, ḡ = 2, v - ḡ² = 4, so that the step is 4/2."""
    path = ORACLES["rmsprop"](np.array(10.0), [np.array(4.0)], lr=1.0, alpha=0.5, eps=0.0, centered=True)

    assert float(path[0]) == 8.0


def test_decoupled_and_l2_decay_by_hand() -> None:
    """From 8 with γ = ½, λ = ½ and g = -4: L2 cancels the gradient, decoupled decay gives 8·¾ + ½."""
    gradients = [np.array(-4.0)]

    l2 = ORACLES["adam"](np.array(8.0), gradients, lr=0.5, weight_decay=0.5)
    decoupled = ORACLES["adamw"](np.array(8.0), gradients, lr=0.5, weight_decay=0.5, eps=0.0)

    assert float(l2[0]) == 8.0
    assert float(decoupled[0]) == pytest.approx(6.5, abs=1e-14)


def test_averaged_momentum_by_hand() -> None:
    """μ = ½ from b = 0: b = 1, then ½·1 + ½·4 = 2.5; Nesterov takes ½g + ½b = 1.5 and 3.25."""
    gradients = [np.array(2.0), np.array(4.0)]
    hyper = {"lr": 1.0, "momentum": 0.5, "buffer": "mean"}

    plain = ORACLES["sgd"](np.array(10.0), gradients, **hyper)
    nesterov = ORACLES["sgd"](np.array(10.0), gradients, nesterov=True, **hyper)

    assert [float(theta) for theta in plain] == [9.0, 6.5]
    assert [float(theta) for theta in nesterov] == [8.5, 5.25]


def test_averaged_momentum_has_no_dampening() -> None:
    with pytest.raises(ValueError, match="no buffer 'mean' with dampening"):
        ORACLES["sgd"](np.array(10.0), [], dampening=0.5, buffer="mean")


@pytest.mark.parametrize(
    ("option", "name"),
    [("buffer", "sgd"), ("epsilon", "adam"), ("epsilon", "adamw"), ("decay_by", "adamw")],
)
def test_unknown_forms_are_refused(option: str, name: str) -> None:
    with pytest.raises(ValueError, match="'other'"):
        ORACLES[name](np.array(10.0), [np.array(1.0)], **{option: "other"})


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_places_of_epsilon_by_hand(name: str) -> None:
    """At t = 1 with g = 4 and β₂ = ¾: m̂ = √v̂ = 4 and √v = 2, so that ε = 2 or 9 leaves a fraction of γ."""
    hyper = {"lr": 1.0, "betas": (0.5, 0.75), "weight_decay": 0.0}

    def moved(epsilon: str, eps: float) -> float:
        return -float(ORACLES[name](np.array(0.0), [np.array(4.0)], eps=eps, epsilon=epsilon, **hyper)[0])

    assert moved("outside", 2.0) == pytest.approx(4 / 6, abs=1e-15)
    assert moved("inside", 9.0) == pytest.approx(4 / 5, abs=1e-15)
    assert moved("uncorrected", 2.0) == pytest.approx(2 / 4, abs=1e-15)


def test_adamw_decays_by_the_rate_or_by_the_schedule_alone() -> None:
    """From 8 without a pull (g = 0), λ = ½ and γ = ½: by the rate 8·¾·⅞, by the schedule 8·½·¾."""
    hyper = {"lr": 0.5, "weight_decay": 0.5, "factors": [1.0, 0.5]}

    rate = ORACLES["adamw"](np.array(8.0), [np.array(0.0)] * 2, **hyper)
    schedule = ORACLES["adamw"](np.array(8.0), [np.array(0.0)] * 2, decay_by="schedule", **hyper)

    assert [float(theta) for theta in rate] == [6.0, 5.25]
    assert [float(theta) for theta in schedule] == [4.0, 3.0]
