"""Our classes against the packages for PyTorch that people take a method from: same gradients, same path.

Where conventions differ, the difference has a test of its own, with numbers that can be checked by hand.
docs/proofs.md has them all. The packages are in the extra `peers`.
"""

from typing import Any

import numpy as np
import pytest
import torch

from cases import Path, deviation
from peers import CLOSE, FACTORS, PRODIGY, given, ours
from thalweg.optim import BY_RULE
from walks import give, now, parameters, walk

pytestmark = pytest.mark.slow


def missing(slopes: Any) -> Any:
    """Take away gradients: one parameter comes late, one misses every third step, one none."""
    return [
        {**at, "number": at["number"] if k > 2 else None, "matrix": at["matrix"] if k % 3 else None}
        for k, at in enumerate(slopes)
    ]


SCHEDULE_FREE = {"lr": 0.05, "weight_decay": 0.02, "warmup_steps": 8, "r": 0.5, "weight_lr_power": 1.5}
ADAPTED = {"lr": 0.8, "weight_decay": 0.02, "d0": 1e-3}
FOR_TORCH: list[tuple[str, str, str, dict[str, Any]]] = [
    ("schedule-free-sgd", "schedulefree", "SGDScheduleFree", {**SCHEDULE_FREE, "momentum": 0.8}),
    (
        "schedule-free-adamw",
        "schedulefree",
        "AdamWScheduleFree",
        {**SCHEDULE_FREE, "betas": (0.8, 0.95), "eps": 1e-3},
    ),
    ("prodigy", "prodigyopt", "Prodigy", PRODIGY),
    ("prodigy", "prodigyopt", "Prodigy", PRODIGY | {"use_bias_correction": True, "beta3": 0.9}),
    ("prodigy", "prodigyopt", "Prodigy", PRODIGY | {"safeguard_warmup": True, "growth_rate": 1.05}),
    ("dadapt-adam", "dadaptation", "DAdaptAdam", {**ADAPTED, "betas": (0.8, 0.95), "eps": 1e-3}),
    (
        "dadapt-adam",
        "dadaptation",
        "DAdaptAdam",
        {**ADAPTED, "decouple": True, "use_bias_correction": True, "growth_rate": 1.05},
    ),
    ("dadapt-sgd", "dadaptation", "DAdaptSGD", {**ADAPTED, "momentum": 0.8}),
    ("dadapt-sgd", "dadaptation", "DAdaptSGD", {**ADAPTED, "growth_rate": 1.05}),
    ("lion", "lion_pytorch", "Lion", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
]


def both(name: str, package: str, cls: str, values: dict[str, Any], begin: Any) -> list[tuple[Any, Any]]:
    """Make our optimizer and theirs, each with parameters of its own."""
    module = pytest.importorskip(package, reason=f"{package} is not installed: make test-slow installs it")
    made = []
    for kind in (BY_RULE[name], getattr(module, cls)):
        leaves = parameters(begin)
        optimizer = kind(leaves.values(), **values)
        if hasattr(optimizer, "train"):
            optimizer.train()
        made.append((optimizer, leaves))
    return made


@pytest.mark.parametrize(("name", "package", "cls", "values"), FOR_TORCH)
def test_a_package_for_pytorch_takes_the_same_path(
    name: str, package: str, cls: str, values: dict[str, Any]
) -> None:
    begin, slopes = given(slope=0.5)
    made = both(name, package, cls, values, begin)

    mine, theirs = (walk(optimizer, leaves, slopes, factors=FACTORS) for optimizer, leaves in made)

    assert deviation(mine, theirs, begin) <= CLOSE
    for own, other in zip(*(leaves.values() for _, leaves in made), strict=True):
        kept, known = made[0][0].state[own], made[1][0].state[other]
        shared = (kept.keys() & known.keys()) - {"step"}
        assert shared
        for buffer in shared:
            assert kept[buffer].flatten().numpy() == pytest.approx(
                known[buffer].flatten(), rel=1e-9, abs=1e-12
            )


@pytest.mark.parametrize(("name", "package", "cls", "values"), FOR_TORCH[:2])
def test_schedule_free_evaluates_with_the_weights_of_its_authors(
    name: str, package: str, cls: str, values: dict[str, Any]
) -> None:
    begin, slopes = given()
    faces: list[Path] = []
    for optimizer, leaves in both(name, package, cls, values, begin):
        seen = []
        for slope in slopes:
            give(leaves, slope)
            optimizer.step()
            optimizer.eval()
            seen.append(now(leaves))
            optimizer.train()
        faces.append(seen)

    assert deviation(*faces, begin) <= CLOSE


@pytest.mark.parametrize(("name", "package", "cls", "values"), FOR_TORCH)
def test_parameters_that_miss_gradients(name: str, package: str, cls: str, values: dict[str, Any]) -> None:
    """Schedule-Free counts steps and weights for each parameter, its authors for the group."""
    begin, slopes = given(slope=0.5)

    mine, theirs = (
        walk(optimizer, leaves, missing(slopes), factors=FACTORS)
        for optimizer, leaves in both(name, package, cls, values, begin)
    )

    if name.startswith("schedule-free"):
        assert 1e-3 < deviation(mine, theirs, begin) < 0.5
    else:
        assert deviation(mine, theirs, begin) <= CLOSE


def one_number(package: str, cls: str, slopes: list[float], rates: list[float], **values: Any) -> list[float]:
    """Let an optimizer of a package move one number that starts at 1."""
    module = pytest.importorskip(package, reason=f"{package} is not installed: make test-slow installs it")
    leaf = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = getattr(module, cls)([leaf], lr=rates[0], **values)
    path = []
    for slope, rate in zip(slopes, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        leaf.grad = torch.tensor(slope, dtype=torch.float64)
        optimizer.step()
        path.append(leaf.item())
    return path


def test_prodigy_counts_a_step_at_rate_0_where_its_package_leaves_everything() -> None:
    slopes, rates = [1.0, 5.0, 1.0], [1.0, 0.0, 1.0]
    values = {"betas": (0.5, 0.5), "d0": 0.1}

    theirs = one_number("prodigyopt", "Prodigy", slopes, rates, **values)
    without = one_number("prodigyopt", "Prodigy", slopes[::2], rates[::2], **values)
    begin = {"": np.ones(())}
    mine = ours("prodigy", begin, [{"": np.array(g)} for g in slopes], rates, **values)

    assert theirs == [without[0], without[0], without[1]]
    assert abs(mine[2][""] - theirs[2]) > 0.01


def test_prodigy_without_momentum_steps_with_the_old_d_where_its_package_has_the_new_one() -> None:
    slopes = [1.0, 1.0]
    values = {"betas": (0.0, 0.75), "beta3": 0.5, "d0": 0.1, "eps": 1e-30}

    theirs = one_number("prodigyopt", "Prodigy", slopes, [1.0, 1.0], **values)
    mine = ours("prodigy", {"": np.ones(())}, [{"": np.array(1.0)}] * 2, [1.0, 1.0], **values)

    # First v = ¼d², d = 0.1: θ = 1 − d·d/(½d) = 0.8. Then r = 0.1·0.2 = 0.02, s = 0.05 + 0.1 = 0.15, so that
    # d' = 0.02/0.15, and √v = √0.4375·d. The step is d·g·d/√v here and d·g·d'/√v there.
    root = 0.4375**0.5
    assert [float(at[""]) for at in mine] == pytest.approx([0.8, 0.8 - 0.1 / root], rel=1e-12)
    assert theirs == pytest.approx([0.8, 0.8 - 0.02 / 0.15 / root], rel=1e-12)
