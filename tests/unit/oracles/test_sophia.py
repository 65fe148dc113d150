"""Sophia against numbers worked out by hand, and where it takes steps of one length."""

import numpy as np
import pytest

from noise import STEPS, distance, start_and_gradients
from oracles import sophia


def test_sophia_without_curvature_takes_steps_of_length_gamma() -> None:
    theta0, gradients = start_and_gradients()

    path = sophia.run(theta0, gradients, hessians=[None] * STEPS, betas=(0.0, 0.99), weight_decay=0.0)

    expected = theta0 - 1e-4 * np.cumsum([np.sign(g) for g in gradients], axis=0)
    assert distance(path, expected, theta0) < 1e-11


def test_sophia_by_hand() -> None:
    """m = ½g, h = ½H: m/(ρh) = 1/(2·8), 1/(2·¼) > 1, -1/(2·8); then H < 0, a full step; then m = 0."""
    path = sophia.run(
        np.full(5, 8.0),
        [np.array([2.0, 2.0, -2.0, -2.0, 0.0])],
        hessians=[np.array([16.0, 0.5, 16.0, -16.0, 1.0])],
        lr=1.0,
        betas=(0.5, 0.5),
        rho=2.0,
        weight_decay=0.25,
    )

    assert path[0].tolist() == [6 - 1 / 16, 5.0, 6 + 1 / 16, 7.0, 6.0]


def test_sophia_averages_what_was_handed_over_and_keeps_it() -> None:
    """β₂ = ½: h = 0, 4, 4, 2 + 8; g = 1 throughout, the second estimate before a silent step too."""
    gradients = [np.array(1.0), np.array(1.0), None, np.array(1.0)]
    hessians = [None, np.array(8.0), None, np.array(16.0)]
    hyper = {"lr": 1.0, "betas": (0.0, 0.5), "rho": 1.0, "weight_decay": 0.0}

    path = sophia.run(np.array(0.0), gradients, hessians=hessians, **hyper)
    early = sophia.run(
        np.array(0.0), gradients, hessians=[None, np.array(8.0), np.array(16.0), None], **hyper
    )

    assert [-float(theta) for theta in path] == pytest.approx([1.0, 1.25, 1.25, 1.35], abs=1e-14)
    assert np.array_equal(path, early)


def test_sophia_bounds_the_denominator_by_eps() -> None:
    """ρh = 1 under ε = 4."""
    path = sophia.run(
        np.array(0.0),
        [np.array(2.0)],
        hessians=[np.array(1.0)],
        lr=1.0,
        betas=(0.0, 0.0),
        rho=1.0,
        eps=4.0,
        weight_decay=0.0,
    )

    assert float(path[0]) == -0.5
