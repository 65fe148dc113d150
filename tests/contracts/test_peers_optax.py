"""Our rules against optax: same gradients, same path in float64.

Where conventions differ, the difference has a test of its own, with the setting that undoes it or with
numbers that can be checked by hand. docs/proofs.md has them all. optax is in the extra `peers`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import Path, deviation
from peers import CLOSE, FACTORS, PRODIGY, SHAPES, STEPS, given, ours
from thalweg.backends.reference import Reference
from thalweg.rules.catalogue import RULES

pytestmark = pytest.mark.slow


def theirs(
    make: Callable[[Any, Any], Any],
    begin: Any,
    slopes: Any,
    factors: Any = FACTORS,
    more: Any = None,
) -> Path:
    """Walk with the method that `make` returns for optax and a factor of the rate; `more` goes to updates."""
    jax = pytest.importorskip("jax", reason="jax is not installed: make test-slow installs it")
    optax = pytest.importorskip("optax", reason="optax is not installed: make test-slow installs it")
    jax.config.update("jax_enable_x64", True)

    @jax.jit
    def step(factor: Any, state: Any, at: Any, slope: Any, more: Any) -> Any:
        updates, state = make(optax, factor).update(slope, state, at, **more)
        return optax.apply_updates(at, updates), state

    at, path = begin, []
    state = make(optax, 1.0).init(jax.tree.map(jax.numpy.asarray, begin))
    for factor, slope, extra in zip(factors, slopes, more or [{}] * len(slopes), strict=False):
        at, state = step(factor, state, at, slope, extra)
        path.append({name: np.asarray(x) for name, x in at.items()})
    return path


BETAS = {"b1": 0.8, "b2": 0.95}
ADAM = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}
L2 = {"weight_decay": 0.02}


MATRICES: dict[str, tuple[int, ...]] = {"wide": (3, 4), "tall": (5, 2)}


def with_l2(make: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Put an L2 penalty before a method, which in optax has none of its own."""
    return lambda o, f: o.chain(o.add_decayed_weights(0.02), make(o, f))


AGREE: dict[str, tuple[str, dict[str, Any], Callable[[Any, Any], Any]]] = {
    "sgd, momentum": (
        "sgd",
        {"lr": 0.05, "momentum": 0.8, **L2},
        with_l2(lambda o, f: o.sgd(0.05 * f, momentum=0.8)),
    ),
    "sgd, nesterov": (
        "sgd",
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, **L2},
        with_l2(lambda o, f: o.sgd(0.05 * f, momentum=0.8, nesterov=True)),
    ),
    "adagrad, ε = 0": (
        "adagrad",
        {"lr": 0.05, "initial_accumulator_value": 0.3, "eps": 0.0, **L2},
        with_l2(lambda o, f: o.adagrad(0.05 * f, initial_accumulator_value=0.3, eps=0.0)),
    ),
    "adadelta": (
        "adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, **L2},
        lambda o, f: o.adadelta(0.5 * f, rho=0.8, eps=1e-3, weight_decay=0.02),
    ),
    "rmsprop": (
        "rmsprop",
        {"lr": 0.05, "alpha": 0.8, "eps": 1e-3, **L2},
        with_l2(lambda o, f: o.rmsprop(0.05 * f, decay=0.8, eps=1e-3, eps_in_sqrt=False)),
    ),
    "rmsprop, centred": (
        "rmsprop",
        {"lr": 0.05, "alpha": 0.8, "eps": 1e-3, "centered": True, **L2},
        with_l2(lambda o, f: o.rmsprop(0.05 * f, decay=0.8, eps=1e-3, eps_in_sqrt=False, centered=True)),
    ),
    "adam": ("adam", ADAM | L2, with_l2(lambda o, f: o.adam(0.05 * f, **BETAS, eps=1e-3))),
    "adam, ε inside the root": (
        "adam",
        ADAM | L2 | {"epsilon": "inside"},
        with_l2(lambda o, f: o.adam(0.05 * f, **BETAS, eps=0.0, eps_root=1e-3)),
    ),
    "adamw": (
        "adamw",
        ADAM | {"weight_decay": 0.3},
        lambda o, f: o.adamw(0.05 * f, **BETAS, eps=1e-3, weight_decay=0.3),
    ),
    "adamax": ("adamax", ADAM | L2, with_l2(lambda o, f: o.adamax(0.05 * f, **BETAS, eps=1e-3))),
    # With ψ → ∞, μ is β₁ at all steps.
    "nadam, ψ = 10⁵": (
        "nadam",
        ADAM | L2 | {"momentum_decay": 1e5},
        with_l2(lambda o, f: o.nadam(0.05 * f, **BETAS, eps=1e-3)),
    ),
    "nadamw, ψ = 10⁵": (
        "nadam",
        ADAM | {"weight_decay": 0.3, "momentum_decay": 1e5, "decoupled_weight_decay": True},
        lambda o, f: o.nadamw(0.05 * f, **BETAS, eps=1e-3, weight_decay=0.3),
    ),
    "radam, ε = 0": (
        "radam",
        ADAM | L2 | {"eps": 0.0},
        with_l2(lambda o, f: o.radam(0.05 * f, **BETAS, eps=0.0)),
    ),
    "lion": (
        "lion",
        {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.3},
        lambda o, f: o.lion(0.01 * f, **BETAS, weight_decay=0.3),
    ),
    "lamb": (
        "lamb",
        ADAM | {"weight_decay": 0.3},
        lambda o, f: o.lamb(0.05 * f, **BETAS, eps=1e-3, weight_decay=0.3),
    ),
    "lars, λ = 0": (
        "lars",
        {"lr": 0.5, "momentum": 0.8, "trust_coefficient": 0.1, "eps": 1e-3},
        lambda o, f: o.lars(0.5 * f, momentum=0.8, trust_coefficient=0.1, eps=1e-3),
    ),
    "lars, nesterov": (
        "lars",
        {"lr": 0.5, "momentum": 0.8, "trust_coefficient": 0.1, "eps": 1e-3, "nesterov": True},
        lambda o, f: o.lars(0.5 * f, momentum=0.8, trust_coefficient=0.1, eps=1e-3, nesterov=True),
    ),
    "schedule-free sgd": (
        "schedule-free-sgd",
        {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.02, "weight_lr_power": 1.5},
        lambda o, f: o.contrib.schedule_free_sgd(0.05 * f, b1=0.8, weight_decay=0.02, weight_lr_power=1.5),
    ),
    "schedule-free adamw": (
        "schedule-free-adamw",
        ADAM | {"weight_decay": 0.02, "weight_lr_power": 1.5},
        lambda o, f: o.contrib.schedule_free_adamw(
            0.05 * f, **BETAS, eps=1e-3, weight_decay=0.02, weight_lr_power=1.5
        ),
    ),
    "prodigy": (
        "prodigy",
        PRODIGY | {"use_bias_correction": True},
        lambda o, f: o.contrib.prodigy(
            0.8 * f, betas=(0.8, 0.95), eps=1e-3, estim_lr0=1e-3, estim_lr_coef=1.5, weight_decay=0.02
        ),
    ),
}


@pytest.mark.parametrize("case", AGREE)
def test_optax_takes_the_same_path(case: str) -> None:
    name, values, make = AGREE[case]
    begin, slopes = given(slope=0.5 if name == "prodigy" else 0.0)

    assert deviation(ours(name, begin, slopes, **values), theirs(make, begin, slopes), begin) <= CLOSE


def test_optax_agrees_on_rmsprop_with_momentum_while_the_rate_stays() -> None:
    """Its buffer collects steps, ours and PyTorch's directions."""
    begin, slopes = given()
    values = {"lr": 0.05, "alpha": 0.8, "eps": 1e-3, "momentum": 0.7}
    make: Any = lambda o, f: o.rmsprop(0.05 * f, decay=0.8, eps=1e-3, eps_in_sqrt=False, momentum=0.7)  # noqa: E731
    constant, changing = [1.0] * STEPS, FACTORS

    def difference(factors: list[float]) -> float:
        return deviation(
            ours("rmsprop", begin, slopes, factors, **values), theirs(make, begin, slopes, factors), begin
        )

    assert difference(constant) <= CLOSE
    assert difference(changing) > 1e-2


def test_optax_agrees_on_adafactor_once_its_memory_is_computed_in_float64() -> None:
    """Its t^−0.8 is a float32, its decay is not multiplied by the rate. Neither ε nor 1/√t is reached."""
    begin, slopes = given()
    values = {"lr": 0.05, "beta2_decay": -0.8, "eps": (0.0, 1e-3), "d": 1.0, "weight_decay": 0.3}

    def make(o: Any, f: Any) -> Any:
        return o.adafactor(0.05 * f, min_dim_size_to_factor=1, eps=0.0, weight_decay_rate=0.05 * f * 0.3)

    def exact(o: Any, f: Any) -> Any:
        return o.chain(
            o.scale_by_factored_rms(
                min_dim_size_to_factor=1, epsilon=0.0, decay_rate_fn=lambda i, rate: 1.0 - (i + 1.0) ** -rate
            ),
            o.transforms.clip_by_block_rms(1.0),
            o.scale_by_learning_rate(0.05 * f, flip_sign=False),
            o.scale_by_param_block_rms(),
            o.add_decayed_weights(0.05 * f * 0.3),
            o.scale(-1),
        )

    mine = ours("adafactor", begin, slopes, **values)

    assert 1e-10 < deviation(mine, theirs(make, begin, slopes), begin) < 1e-5
    assert deviation(mine, theirs(exact, begin, slopes), begin) <= CLOSE


@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_optax_agrees_on_muon_of_transposed_matrices_without_nesterov(adjust: str | None) -> None:
    """Its matrices are (in, out). It corrects m for starting at 0, which shows in Nesterov's mixture only."""
    begin, slopes = given(MATRICES)
    values = {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.3, "eps": 1e-30, "precision": "parameter"}
    values |= {"adjust_lr_fn": adjust}

    def make(nesterov: bool) -> Callable[[Any, Any], Any]:
        rms = {"consistent_rms": 0.2} if adjust else {}
        return lambda o, f: o.contrib.muon(
            0.05 * f, beta=0.8, weight_decay=0.3, eps=1e-30, nesterov=nesterov, **rms
        )

    def turned(at: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: x.T for name, x in at.items()}

    def difference(nesterov: bool) -> float:
        path = theirs(make(nesterov), turned(begin), [turned(at) for at in slopes])
        mine = ours("muon", begin, slopes, **values, nesterov=nesterov)
        return deviation(mine, [turned(at) for at in path], begin)

    assert difference(nesterov=False) <= CLOSE
    assert difference(nesterov=True) > 1e-3


@pytest.mark.parametrize("beta1", [0.0, 0.8])
def test_optax_agrees_on_sophia_without_momentum_when_curvature_comes_after_the_step(beta1: float) -> None:
    """It corrects m for starting at 0, which Sophia's authors do not; then clipping hides what it hides."""
    begin, slopes = given()
    rng = np.random.default_rng(5)
    curvature = [{n: rng.uniform(-0.5, 4.0, s) for n, s in SHAPES.items()} for _ in range(STEPS)]
    values = {"lr": 0.02, "betas": (beta1, 0.9), "rho": 1.0, "eps": 1e-3, "weight_decay": 0.3}
    work = Reference(RULES["sophia-h"], RULES["sophia-h"].checked(values))
    mine, at = [], begin
    for step, slope in enumerate(slopes):
        at = work.step(at, slope, FACTORS[step])
        mine.append(at)
        if step % 3 == 0:
            work.refresh(at, curvature[step])

    def make(o: Any, f: Any) -> Any:
        measure = o.GradientTransformationExtraArgs(lambda _: (), lambda *_, measured, **__: (measured, ()))
        return o.contrib.sophia(
            0.02 * f, b1=beta1, b2=0.9, gamma=1.0, eps=1e-3, weight_decay=0.3, update_interval=3,
            hessian_diagonal_fn=measure,
        )  # fmt: skip

    path = theirs(make, begin, slopes, more=[{"measured": x} for x in curvature])
    difference = deviation(mine, path, begin)

    assert difference <= CLOSE if beta1 == 0 else difference > 1e-3


# Named differences: one or two steps of a number that starts at 1 or of a vector, by hand.


def steps(make: Callable[[Any, Any], Any], slopes: list[Any], begin: Any = 1.0) -> list[list[float]]:
    path = theirs(make, {"": np.array(begin)}, [{"": np.array(g)} for g in slopes], [1.0] * len(slopes))
    return [np.ravel(at[""]).tolist() for at in path]


def own_steps(name: str, slopes: list[Any], begin: Any = 1.0, **values: Any) -> list[list[float]]:
    path = ours(
        name, {"": np.array(begin)}, [{"": np.array(g)} for g in slopes], [1.0] * len(slopes), **values
    )
    return [np.ravel(at[""]).tolist() for at in path]


def test_optax_puts_the_epsilon_of_adagrad_inside_the_root() -> None:
    mine = own_steps("adagrad", [3.0], lr=1.0, eps=7.0)
    other = steps(lambda o, f: o.adagrad(1.0, initial_accumulator_value=0.0, eps=7.0), [3.0])

    assert mine == [[pytest.approx(1 - 3 / (3 + 7))]]
    assert other == [[pytest.approx(1 - 3 / (9 + 7) ** 0.5)]]


def test_optax_takes_the_maximum_of_the_corrected_v_in_amsgrad() -> None:
    """v is 0.5 and 0.25, corrected 1 and 0.25/0.75; m is 0.5 and 0.25, corrected 1 and 1/3."""
    mine = own_steps("adam", [1.0, 0.0], lr=1.0, betas=(0.5, 0.5), eps=0.0, amsgrad=True)
    other = steps(lambda o, f: o.amsgrad(1.0, b1=0.5, b2=0.5, eps=0.0), [1.0, 0.0])

    assert np.ravel(mine) == pytest.approx([0.0, -(1 / 3) / (0.5 / 0.75) ** 0.5])
    assert np.ravel(other) == pytest.approx([0.0, -1 / 3])


def test_optax_keeps_the_momentum_of_nadam_constant() -> None:
    """g = 1, m = ½, v̂ = 1. Here μ₁ = β₁(1 − ½·0.96^ψ) and μ₂ = β₁(1 − ½·0.96^2ψ), there both are β₁."""
    first, second = (0.5 * (1 - 0.5 * 0.96**t) for t in (1, 2))
    mine = own_steps("nadam", [1.0], lr=1.0, betas=(0.5, 0.5), eps=0.0, momentum_decay=1.0)
    other = steps(lambda o, f: o.nadam(1.0, b1=0.5, b2=0.5, eps=0.0), [1.0])

    assert mine == [[pytest.approx(1 - (second * 0.5 / (1 - first * second) + 1.0))]]
    assert other == [[pytest.approx(1 - (0.5 * 0.5 / 0.75 + 1.0))]]


def test_optax_adds_the_epsilon_of_radam_to_the_corrected_root() -> None:
    """Until ρ is above 5 nothing is divided, and the paths are the same."""
    begin, slopes = given()
    values = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 0.5}
    make: Any = lambda o, f: o.radam(0.05 * f, **BETAS, eps=0.5)  # noqa: E731
    mine, other = ours("radam", begin, slopes, **values), theirs(make, begin, slopes)
    early = next(t for t in range(1, 99) if 39 - 2 * t * 0.95**t / (1 - 0.95**t) > 5) - 1

    assert deviation(mine[:early], other[:early], begin) <= CLOSE
    assert deviation(mine, other, begin) > 1e-3


def test_optax_divides_by_the_norm_of_gradient_and_decay_together_in_lars() -> None:
    """θ = (0, 4), g = (3, 0), λ = 1: ‖g‖ + λ‖θ‖ = 7 here, ‖g + λθ‖ = 5 there."""
    mine = own_steps("lars", [[3.0, 0.0]], [0.0, 4.0], lr=1.0, momentum=0.0, weight_decay=1.0,
                     trust_coefficient=1.0, eps=0.0)  # fmt: skip
    other = steps(
        lambda o, f: o.lars(1.0, weight_decay=1.0, trust_coefficient=1.0, momentum=0.0),
        [[3.0, 0.0]],
        [0.0, 4.0],
    )

    assert mine == [pytest.approx([-3 * 4 / 7, 4 - 4 * 4 / 7])]
    assert other == [pytest.approx([-3 * 4 / 5, 4 - 4 * 4 / 5])]


def test_optax_starts_the_warm_up_of_schedule_free_at_0() -> None:
    mine = own_steps("schedule-free-sgd", [1.0], lr=1.0, momentum=0.5, warmup_steps=2)
    other = steps(lambda o, f: o.contrib.schedule_free_sgd(1.0, warmup_steps=2, b1=0.5), [1.0])

    assert mine == [[0.5]]
    assert other == [[1.0]]


def test_optax_takes_every_step_of_rprop_one_gradient_late() -> None:
    slopes = [1.0, 1.0, 1.0, -1.0]
    mine = own_steps("rprop", slopes, lr=0.1, etas=(0.5, 2.0))
    other = steps(lambda o, f: o.rprop(0.1, eta_minus=0.5, eta_plus=2.0), slopes)

    assert np.ravel(mine) == pytest.approx([0.9, 0.7, 0.3, 0.3])
    assert np.ravel(other) == pytest.approx([1.0, 0.9, 0.7, 0.7])
