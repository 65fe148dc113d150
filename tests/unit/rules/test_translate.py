"""Translation: exact where it says so, the sources' numbers where not, and an honest "none known"."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import reference
from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.rules.catalogue import CATALOGUE
from thalweg.rules.decays import DECOUPLED_DECAY
from thalweg.rules.translate import Trust, method, translate
from thalweg.rules.translation.answer import Translated
from thalweg.rules.translation.conventions import CONVENTIONS
from thalweg.rules.wrap import wrapped

GRADIENTS = np.random.default_rng(3).standard_normal((60, 4))
START = np.array([1.0, -2.0, 0.5, 3.0])


def path(name: str, values: dict[str, Any], factors: Any = None) -> Any:
    """The parameters after each step of a NumPy class, on a quadratic with given noise."""
    optimizer = getattr(reference, method(name).rule.class_name)(**{**method(name).fixed, **values})
    p, points = START, []
    for t, noise in enumerate(GRADIENTS):
        p = optimizer.step(p, 0.3 * p + noise, factor=1.0 if factors is None else factors[t])
        points.append(p)
    return np.array(points)


def item(found: Any, name: str) -> Translated:
    (one,) = (each for each in found.values if each.name == name)
    return one


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("turn", [False, True])
def test_momentum_as_a_sum_and_as_a_mean_is_the_same_path(nesterov: bool, turn: bool) -> None:
    one, other = ("mean", "sum") if turn else ("sum", "mean")
    values = {"lr": 0.02, "momentum": 0.8, "nesterov": nesterov, "weight_decay": 0.1, "buffer": one}
    wanted = {"momentum": 0.8, "nesterov": nesterov, "buffer": other}
    found = translate("sgd", "sgd", wanted=wanted, **values)

    assert {each.trust for each in found.values} == {Trust.EXACT}
    assert item(found, "lr").value == pytest.approx(0.02 * (0.2 if turn else 5), rel=1e-14)
    np.testing.assert_allclose(path("sgd", found.hyperparameters), path("sgd", values), rtol=0, atol=1e-13)


def test_the_effective_rate_of_momentum_holds_for_a_constant_gradient() -> None:
    found = translate("momentum", "sgd", lr=0.01)
    moved = []
    for name, values in (("momentum", {"lr": 0.01}), ("sgd", {"lr": found.hyperparameters["lr"]})):
        optimizer = reference.SGD(**{**CATALOGUE[name].fixed, **values})
        p = np.zeros(1)
        for _ in range(400):
            before, p = p, optimizer.step(p, np.ones(1))
        moved.append(float((p - before)[0]))

    assert item(found, "lr").trust is Trust.DERIVED
    assert moved[0] == pytest.approx(moved[1], rel=1e-12)


def test_the_momentum_of_the_source_is_kept_where_the_target_has_one_too() -> None:
    assert translate("momentum", "nesterov", momentum=0.95).hyperparameters["momentum"] == 0.95
    assert translate("momentum", "sgd", momentum=0.95).hyperparameters["momentum"] == 0.0
    assert translate("sgd", "momentum").hyperparameters["momentum"] == 0.9


def test_decay_by_the_rate_and_by_the_schedule_are_the_same_path_under_any_schedule() -> None:
    factors = np.linspace(1.0, 0.1, len(GRADIENTS))
    found = translate("adamw-by-schedule", "adamw", lr=0.02, weight_decay=0.03)
    plain = method("adamw").rule
    by_schedule = wrapped(plain, [DECOUPLED_DECAY(0.03, by="schedule")])
    work = Reference(by_schedule, by_schedule.checked({"lr": 0.02}))
    p, points = {"w": START}, []
    for factor, noise in zip(factors, GRADIENTS, strict=True):
        p = work.step(p, {"w": 0.3 * p["w"] + noise}, factor)
        points.append(p["w"])

    assert {each.trust for each in found.values} == {Trust.EXACT}
    assert found.hyperparameters["weight_decay"] == pytest.approx(1.5, rel=1e-14)
    np.testing.assert_allclose(path("adamw", found.hyperparameters, factors), points, rtol=0, atol=1e-13)


def test_rate_times_decay_of_the_source_is_the_decay_by_the_schedule() -> None:
    found = translate("lion", "adamw-by-schedule", lr=1e-4, weight_decay=0.5)
    decay = item(found, "weight_decay")

    assert decay.value == pytest.approx(5e-5)
    assert (decay.low, decay.high) == (pytest.approx(5e-5), pytest.approx(5e-5))
    assert decay.trust is Trust.RULE_OF_THUMB


def test_adam_without_decay_is_adamw_without_decay() -> None:
    values = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.0}
    found = translate("adam", "adamw", **values)

    assert {each.trust for each in found.values} == {Trust.EXACT}
    np.testing.assert_array_equal(path("adamw", found.hyperparameters), path("adam", values))


def test_an_l2_penalty_has_no_translation_into_decay_apart_from_the_gradient() -> None:
    decay = item(translate("adam", "adamw", weight_decay=0.1), "weight_decay")

    assert (decay.value, decay.trust) == (None, Trust.UNKNOWN)
    assert "Loshchilov" in decay.source
    kept = item(translate("nadam", "adamw", weight_decay=0.1, decoupled_weight_decay=True), "weight_decay")
    assert kept.value == pytest.approx(0.1)


def test_lion_takes_a_tenth_to_a_third_of_the_rate_and_keeps_rate_times_decay() -> None:
    found = translate("adamw", "lion", lr=3e-4, weight_decay=0.1)
    lr, decay = item(found, "lr"), item(found, "weight_decay")

    assert (lr.low, lr.high) == (pytest.approx(3e-5), pytest.approx(1e-4))
    assert (decay.low, decay.high) == (pytest.approx(0.3), pytest.approx(1.0))
    assert lr.value * decay.value == pytest.approx(3e-4 * 0.1)
    assert lr.value == pytest.approx(math.sqrt(3e-5 * 1e-4))
    assert {each.trust for each in found.values} == {Trust.RULE_OF_THUMB}
    assert found.hyperparameters["betas"] == (0.9, 0.99)


def test_there_and_back_the_middle_is_where_it_was() -> None:
    there = translate("adamw", "lion", lr=3e-4, weight_decay=0.1).hyperparameters
    back = translate("lion", "adamw", lr=there["lr"], weight_decay=there["weight_decay"]).hyperparameters

    assert (back["lr"], back["weight_decay"]) == (pytest.approx(3e-4), pytest.approx(0.1))


def test_muon_takes_the_rate_of_adamw_with_the_scale_that_matches_it() -> None:
    found = translate("adamw", "muon", lr=3e-4, weight_decay=0.1)

    expected = {"lr": 3e-4, "adjust_lr_fn": "match_rms_adamw", "weight_decay": pytest.approx(0.1)}
    assert found.hyperparameters == expected
    original = translate("adamw", "muon", wanted={"adjust_lr_fn": "original"}, lr=3e-4)
    assert item(original, "lr").value is None
    assert "0.2·√columns" in item(original, "lr").why


@pytest.mark.parametrize(
    ("of", "to", "factors"),
    [
        ("adamw", "schedule-free-adamw", (1, 10)),
        ("momentum", "schedule-free-sgd", (10, 50)),
        ("lion", "sophia-g", (3, 5)),
        ("adamw", "sophia-h", (0.6, 1)),
        ("adam", "adamax", (2, 2)),
        ("adam", "radam", (1, 1)),
        ("adamw", "soap", (1, 1)),
    ],
)
def test_rates_lie_in_the_range_of_their_sources(of: str, to: str, factors: tuple[float, float]) -> None:
    lr = item(translate(of, to, lr=1e-3), "lr")

    assert (lr.low, lr.high) == (pytest.approx(1e-3 * factors[0]), pytest.approx(1e-3 * factors[1]))
    assert lr.trust in (Trust.DERIVED, Trust.RULE_OF_THUMB)


def test_a_rate_free_method_starts_from_1_and_gives_no_rate_back() -> None:
    assert translate("adamw", "prodigy", lr=3e-4).hyperparameters["lr"] == 1.0
    assert translate("sgd", "dadapt-sgd", lr=0.3).hyperparameters["lr"] == 1.0
    back = item(translate("prodigy", "adamw"), "lr")
    assert (back.value, back.trust) == (None, Trust.UNKNOWN)
    assert "d·lr" in back.why


@given(beta=st.floats(0.0, 0.9999), t=st.integers(1, 5000))
def test_epsilon_hat_lies_in_the_range_that_is_given_for_it(beta: float, t: int) -> None:
    eps = item(translate("adam", "adam-epsilon-hat", betas=(0.9, beta), eps=1e-3), "eps")

    assert eps.low is not None
    assert eps.high is not None
    assert eps.low * (1 - 1e-12) <= 1e-3 * math.sqrt(1 - beta**t) <= eps.high
    assert (eps.value, eps.trust) == (1e-3, Trust.DERIVED)


NAMES = [*CATALOGUE, *CONVENTIONS]


@pytest.mark.parametrize("of", NAMES)
def test_every_target_has_an_answer_that_it_accepts(of: str) -> None:
    for to in NAMES:
        found = translate(of, to)
        target = method(to)

        target.rule.checked({**target.fixed, **found.hyperparameters})
        assert found.notes[0].startswith("Measure what is not exact: thalweg showdown TASK --optimizers ")
        assert "lr" in [each.name for each in found.values]
        for each in found.values:
            assert each.why
            assert each.source
            assert (each.value is None) == (each.trust is Trust.UNKNOWN)
            if each.low is not None and each.high is not None:
                rounding = 1e-12 * abs(each.value)
                assert each.low - rounding <= each.value <= each.high + rounding


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_method_is_itself_exactly(name: str) -> None:
    entry = CATALOGUE[name]
    values = {**entry.rule.defaults(), **entry.fixed}
    found = translate(name, name)

    assert {each.trust for each in found.values} == {Trust.EXACT}
    for hyperparameter, value in found.hyperparameters.items():
        assert value == values[hyperparameter]


def test_sgd_scales_its_rate_linearly_with_the_batch() -> None:
    found = translate("momentum", batch_size=256, to_batch_size=8192, lr=0.1, weight_decay=1e-4)

    assert found.hyperparameters == {"lr": pytest.approx(3.2), "momentum": 0.9, "weight_decay": 1e-4}
    assert "1706.02677" in item(found, "lr").source


def test_adam_scales_with_the_square_root_and_so_do_its_memories_and_epsilon() -> None:
    found = translate("adamw", batch_size=512, to_batch_size=2048, lr=1e-3, weight_decay=0.1, eps=1e-6)

    assert found.hyperparameters == {
        "lr": pytest.approx(2e-3),
        "betas": pytest.approx((0.6, 0.996)),
        "eps": pytest.approx(5e-7),
        "weight_decay": pytest.approx(0.2),
    }
    assert {each.trust for each in found.values} == {Trust.DERIVED}
    smaller = translate("rmsprop", batch_size=400, to_batch_size=100, lr=1e-2, alpha=0.9, weight_decay=0.3)
    assert smaller.hyperparameters == {
        "lr": pytest.approx(5e-3),
        "alpha": pytest.approx(0.975),
        "eps": pytest.approx(2e-8),
        "weight_decay": 0.3,
    }


def test_the_square_root_rule_ends_where_a_memory_would_be_negative() -> None:
    found = translate("adam", batch_size=100, to_batch_size=1100)
    betas = item(found, "betas")

    assert item(found, "lr").trust is Trust.RULE_OF_THUMB
    assert (betas.value, betas.trust) == (None, Trust.UNKNOWN)
    assert "ends at κ = 10, here κ = 11" in betas.why


@pytest.mark.parametrize("name", ["lion", "muon", "amsgrad", "rprop", "adafactor", "shampoo", "lars"])
def test_what_is_not_known_across_batch_sizes_is_said(name: str) -> None:
    (lr,) = translate(name, batch_size=64, to_batch_size=256).values

    assert (lr.name, lr.value, lr.trust) == ("lr", None, Trust.UNKNOWN)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_same_batch_size_changes_nothing(name: str) -> None:
    entry = CATALOGUE[name]
    values = {**entry.rule.defaults(), **entry.fixed}
    found = translate(name, batch_size=64, to_batch_size=64)

    for hyperparameter, value in found.hyperparameters.items():
        assert value == pytest.approx(values[hyperparameter], rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "values", "message"),
    [
        (("adamww", "lion"), {}, "the optimizer must be one that Thalweg knows; got 'adamww'."),
        (
            ("adamw", "lions"),
            {},
            "the optimizer must be one that Thalweg knows; got 'lions'. Did you mean lion",
        ),
        (("adamw",), {}, "a translation must be into another method or to another batch size; got neither."),
        (("adamw", "lion"), {"batch_size": 1, "to_batch_size": 2}, "another batch size; got both."),
        (("adamw",), {"batch_size": 1}, "a change of the batch size must name the old size and the new one;"),
        (("adamw",), {"batch_size": 0, "to_batch_size": 2}, "batch_size of a translation must be a whole"),
        (("adamw", "lion"), {"lr": -1.0}, "lr of AdamW must be a finite number of at least 0; got -1.0."),
        (("adamw", "lion"), {"momentum": 0.9}, "the hyperparameters of AdamW must be among lr,"),
        (("adamw", "lion"), {"wanted": {"lr": 1.0}}, "lr of the target must be left out; got 1.0."),
        (
            ("adamw",),
            {"batch_size": 1, "to_batch_size": 2, "wanted": {"eps": 1.0}},
            "wanted values must come",
        ),
        (
            ("momentum-inside",),
            {"batch_size": 1, "to_batch_size": 2},
            "a change of the batch size must start",
        ),
    ],
)
def test_what_cannot_be_translated_is_refused(
    arguments: tuple[str, ...], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        translate(*arguments, **values)
    assert message in str(refused.value)


def test_into_another_convention_of_the_same_method_the_momentum_stays() -> None:
    answer = translate("sgd", "sgd", wanted={"buffer": "mean"}, lr=0.1, momentum=0.75)

    assert answer.hyperparameters["momentum"] == 0.75
    assert answer.hyperparameters["lr"] == pytest.approx(0.4, rel=1e-15)
    assert answer.values[0].trust is Trust.EXACT


@pytest.mark.parametrize("names", [(3, "adam"), ("adam", 3)])
def test_a_method_is_named(names: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"^the optimizer must be a name; got 3\."):
        translate(*names)
