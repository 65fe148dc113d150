"""The engine with many rows: its snapshots, the numbers that it draws, what leaves it, what it measures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_tasks import (
    EXECUTION,
    ROOT,
    batch_norm,
    cross_entropy,
    dropout,
    frozen,
    linear,
    network,
    overflowing,
    recipe,
    share_right,
    three_layers,
    trial,
    workload,
)
from thalweg.executors.fleet import run_wave
from thalweg.tasks import Task
from thalweg.tasks.metrics import f1
from thalweg.tasks.user_code import isolated_random
from thalweg.training import snapshot
from thalweg.training.control import Progress
from thalweg.training.engine import ModelEngine, Snapshot, Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.loop import run_trial
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial, Workload

FLEET = replace(EXECUTION, executor="fleet", wave=4)
DONE = 7  # updates, one of them on a short batch


@pytest.fixture(autouse=True)
def _fenced() -> Any:
    """Engines seed torch's generator; here nothing around them restores it."""
    with isolated_random(0):
        yield


def four(how: Recipe) -> list[Trial]:
    """Two rates on two seeds, the seeds not in order."""
    assert how.rate is not None
    return [trial(how.with_rate(r), 100, seed) for r in (how.rate, how.rate / 3) for seed in (1, 0)]


def advance(engines: Sequence[ModelEngine] | FleetEngine, asked: Sequence[Trial], *steps: int) -> None:
    """Do these updates of all trials, with rates that fall."""
    for step in steps:
        rates = [[one.recipe.rate * (1 - step / 100)] for one in asked]  # type: ignore[operator]
        if isinstance(engines, FleetEngine):
            engines.update([Updates(row, step, rates[row]) for row in range(len(asked))])
        else:
            for row, engine in enumerate(engines):
                engine.update([Updates(0, step, rates[row])])


def assert_close(fleet: Snapshot, alone: Snapshot) -> None:
    """Compare names, kinds and, to the rounding of float64 in a few updates, values."""
    assert sorted(fleet) == sorted(alone)
    for name, expected in alone.items():
        found = fleet[name]
        assert (name, found.dtype, found.shape) == (name, expected.dtype, expected.shape)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def assert_equal(one: Snapshot, other: Snapshot) -> None:
    assert sorted(one) == sorted(other)
    for name, x in one.items():
        assert x.dtype == other[name].dtype
        assert torch.equal(x, other[name]), name


# Adam divides by the size of a gradient: that of a bias before BatchNorm is 0, to rounding. SOAP's bases are
# not unique here.
CASES: dict[str, tuple[Callable[[], Task], str, dict[str, Any]]] = {
    "sgd": (network, "sgd", {}),
    "momentum": (network, "momentum", {}),
    "adam": (network, "adam", {}),
    "amsgrad, frozen and unused parameters": (frozen, "adam", {"hyperparameters": {"amsgrad": True}}),
    "nadam": (network, "nadam", {}),
    "schedule-free-adamw": (network, "schedule-free-adamw", {}),
    "prodigy": (network, "prodigy", {}),
    "muon": (three_layers, "muon", {"hyperparameters": {"precision": "parameter"}}),
    "adagrad": (network, "adagrad", {}),
    "lars": (network, "lars", {}),
    "shampoo": (three_layers, "shampoo", {}),
    "sophia-h": (network, "sophia-h", {}),
    "ema, batch norm": (batch_norm, "momentum", {"wrappers": {"ema": {"memory": 0.5}}}),
    "swa, batch norm": (batch_norm, "momentum", {"wrappers": {"swa": 2}}),
    "lookahead": (network, "adam", {"wrappers": {"lookahead": 4}}),
    "skip_nonfinite": (overflowing, "momentum", {"wrappers": {"skip_nonfinite": 3}}),
    "schedule-free, batch norm": (batch_norm, "schedule-free-sgd", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_snapshots_are_those_of_models_alone_and_each_goes_on_from_the_other_s(case: str) -> None:
    task, optimizer, fields = CASES[case]
    work, asked = workload(task()), four(recipe(optimizer, precision="float64", **fields))
    fleet, alone = FleetEngine(work, asked, ROOT), [ModelEngine(work, one, ROOT) for one in asked]
    for engine, row in zip(alone, range(4), strict=True):
        assert_close(fleet.snapshot(row), engine.snapshot(0))
    advance(fleet, asked, *range(DONE))
    advance(alone, asked, *range(DONE))
    theirs, ours = [engine.snapshot(0) for engine in alone], [fleet.snapshot(row) for row in range(4)]
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)

    second = FleetEngine(work, asked, ROOT, snapshots=theirs)
    for row in range(4):
        assert_equal(second.snapshot(row), theirs[row])
    models = [ModelEngine(work, one, ROOT, snapshot=s) for one, s in zip(asked, ours, strict=True)]
    for row in range(4):
        assert_equal(models[row].snapshot(0), ours[row])
    for goes_on in (fleet, alone, second, models):
        advance(goes_on, asked, *range(DONE, 2 * DONE))
    for row in range(4):
        assert_close(second.snapshot(row), alone[row].snapshot(0))
        assert_close(fleet.snapshot(row), models[row].snapshot(0))


def test_kept_weights_are_part_of_a_snapshot_and_come_back() -> None:
    work = workload(batch_norm())
    asked = four(recipe("momentum", precision="float64", patience=2, wrappers={"ema": {"memory": 0.5}}))
    fleet, alone = FleetEngine(work, asked, ROOT), [ModelEngine(work, one, ROOT) for one in asked]
    for engines in (fleet, alone):
        advance(engines, asked, 0, 1, 2)
    for row in (0, 2):
        fleet.keep(row)
        alone[row].keep(0)
    for engines in (fleet, alone):
        advance(engines, asked, 3, 4)
    for row in range(4):
        assert_close(fleet.snapshot(row), alone[row].snapshot(0))
        assert any(name.startswith("kept.") for name in fleet.snapshot(row)) == (row in (0, 2))

    again = FleetEngine(work, asked, ROOT, snapshots=[e.snapshot(0) for e in alone])
    for engine in (fleet, again):
        for row in range(4):
            engine.finish(row)
    for row in range(4):
        alone[row].finish(0)
        (expected,) = alone[row].measure([0], work.data.test)
        for engine in (fleet, again):
            (found,) = engine.measure([row], work.data.test)
            assert found == pytest.approx(expected, rel=1e-12)


def test_a_snapshot_survives_a_file(tmp_path: Path) -> None:
    work, asked = workload(batch_norm()), four(recipe("schedule-free-adamw"))
    fleet = FleetEngine(work, asked, ROOT)
    advance(fleet, asked, *range(DONE))
    read = []
    for row in range(4):
        snapshot.write(tmp_path / str(row), fleet.snapshot(row), Progress(step=DONE), str(row))
        tensors, progress = snapshot.read(tmp_path / str(row), str(row))
        assert progress.step == DONE
        assert_equal(tensors, fleet.snapshot(row))
        read.append(tensors)

    again = FleetEngine(work, asked, ROOT, snapshots=read)
    for engine in (fleet, again):
        advance(engine, asked, *range(DONE, 2 * DONE))
    for row in range(4):
        assert_equal(fleet.snapshot(row), again.snapshot(row))  # float32, and the same program: to the bit


def test_a_snapshot_is_a_copy() -> None:
    work, asked = workload(batch_norm()), four(recipe("adam"))
    fleet = FleetEngine(work, asked, ROOT)
    advance(fleet, asked, 0)
    taken = fleet.snapshot(0)
    kept = {name: x.clone() for name, x in taken.items()}
    advance(fleet, asked, 1, 2)
    fleet.snapshot(1)

    assert_equal(taken, kept)


def test_rows_that_are_dropped_leave_when_they_are_an_eighth_and_all_others_go_on() -> None:
    work = workload(network())
    how = recipe("adam", 0.01, precision="float64")
    asked = [
        *(trial(how.with_rate(0.01 * (1 + place)), 100, place % 4) for place in range(16)),
        *(trial(recipe("sgd", 0.1, precision="float64"), 100, seed) for seed in range(2)),
    ]
    fleet = FleetEngine(work, asked, ROOT)
    alone = [ModelEngine(work, one, ROOT) for one in asked]

    def both(step: int, live: Sequence[int]) -> None:
        fleet.update([Updates(row, step, [0.01]) for row in live])
        for row in live:
            alone[row].update([Updates(0, step, [0.01])])

    live = list(range(18))
    for step, gone, held in ((0, [], 18), (1, [3, 12], 18), (2, [0], 15), (3, [16, 17], 13), (4, [5], 13)):
        fleet.drop(gone)
        live = [row for row in live if row not in gone]
        both(step, live)
        assert len(fleet.rows) == held
        assert {len(x) for x in fleet.stack.weights.values()} == {held}
    for row in live:
        assert_close(fleet.snapshot(row), alone[row].snapshot(0))
    assert len(fleet.squads) == 1  # the other rule has no rows left
    with pytest.raises(LookupError):
        fleet.size(16)


def test_size_is_that_of_the_model_alone() -> None:
    work = workload(frozen())
    asked = four(recipe("adam"))
    fleet, alone = FleetEngine(work, asked, ROOT), ModelEngine(work, asked[0], ROOT)
    advance(fleet, asked, 0)
    alone.update([Updates(0, 0, [0.1])])

    assert [fleet.size(row) for row in range(4)] == [alone.size(0)] * 4


# Dropout.


def fixed_dropout() -> Task:
    """One model whatever the seed, so that only masks differ."""

    def make_model() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.4), nn.Tanh(), nn.Linear(8, 3))
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).sin().view(p.shape))
        return model

    return replace(dropout(), make_model=make_model, source="fixed dropout")


REPLICAS = 300


def losses_of_masks(engine_of: Callable[[Workload, list[Trial]], Any]) -> list[list[float]]:
    """The losses of two updates of replicas that differ by what they draw alone."""
    how = Recipe("sgd", 1.0, batch_size="all", sampling="in order", precision="float64")
    return engine_of(workload(fixed_dropout()), [trial(how, 10, seed) for seed in range(REPLICAS)])


def fleet_losses(work: Workload, asked: list[Trial]) -> list[list[float]]:
    fleet = FleetEngine(work, asked, ROOT)
    steps = [fleet.update([Updates(row, step, [1.0]) for row in range(len(asked))]) for step in (0, 1)]
    return [[done[row].losses[0] for done in steps] for row in range(len(asked))]


def lone_losses(work: Workload, asked: list[Trial]) -> list[list[float]]:
    found = []
    for one in asked:
        engine = ModelEngine(work, one, ROOT)
        found.append([engine.update([Updates(0, step, [1.0])])[0].losses[0] for step in (0, 1)])
    return found


def variance_and_its_error(x: np.ndarray) -> tuple[float, float]:
    """The variance of a sample, and the square of its standard error: (m₄ − s⁴(n − 3)/(n − 1)) / n."""
    n, s2 = len(x), float(x.var(ddof=1))
    fourth = float(((x - x.mean()) ** 4).mean())
    return s2, (fourth - s2**2 * (n - 3) / (n - 1)) / n


def test_masks_have_the_distribution_that_they_have_alone_and_are_each_replica_s_own() -> None:
    """The second loss follows an update, and so depends on the masks of its gradient too."""
    ours, theirs = np.array(losses_of_masks(fleet_losses)), np.array(losses_of_masks(lone_losses))

    for step in (0, 1):
        a, b = ours[:, step], theirs[:, step]
        assert len(set(a)) == len(set(b)) == REPLICAS  # no two masks are the same
        mean = (a.mean() - b.mean()) / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / REPLICAS)
        (own, own_error), (other, other_error) = variance_and_its_error(a), variance_and_its_error(b)
        spread = (own - other) / math.sqrt(own_error + other_error)
        # Masks of neighbours have nothing to do with each other: a correlation has the error 1/√n.
        neighbours = np.corrcoef(a[:-1], a[1:])[0, 1] * math.sqrt(REPLICAS)
        assert max(abs(mean), abs(spread), abs(neighbours)) < 4, (step, mean, spread, neighbours)
        assert other > 1e-4


def test_masks_are_a_closed_form_of_the_step_and_the_same_in_every_run() -> None:
    work = workload(fixed_dropout())
    how = Recipe("sgd", 0.1, batch_size="all", sampling="in order")
    asked = [trial(how, 10, seed) for seed in (0, 0, 1)]
    losses = []
    for program in (work, work, workload(fixed_dropout())):
        fleet = FleetEngine(program, asked, ROOT)
        for step in (3, 0, 3):
            losses.append([u.losses[0] for u in fleet.update([Updates(r, step, [0.0]) for r in range(3)])])

    assert losses[0] == losses[2] != losses[1]
    assert losses[0:3] == losses[3:6] == losses[6:9]
    assert len(set(losses[0])) == 3  # those of one seed too


def test_dropout_is_out_when_measuring() -> None:
    work, how = workload(dropout()), recipe("sgd", 0.1, precision="float64")
    asked = four(how)
    fleet = FleetEngine(work, asked, ROOT)
    found = fleet.measure(range(4), work.data.validation)

    for row, one in enumerate(asked):
        (expected,) = ModelEngine(work, one, ROOT).measure([0], work.data.validation)
        assert found[row] == pytest.approx(expected, rel=1e-12)


# What is measured.


def in_numbers(model: nn.Module, batch: Any) -> dict[str, float]:
    """Accuracy as a number of Python's, which vmap cannot have."""
    return {"accuracy": float((model(batch[0]).argmax(1) == batch[1]).double().mean().item())}


def by_numpy(model: nn.Module, batch: Any) -> dict[str, float]:
    return {"accuracy": float((model(batch[0]).numpy().argmax(1) == batch[1].numpy()).mean())}


def if_any(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    right = model(batch[0]).argmax(1) == batch[1]
    return {"accuracy": right.double().mean() if right.any() else torch.tensor(0.0, dtype=torch.float64)}


@pytest.mark.parametrize("metrics", [in_numbers, by_numpy, if_any])
@pytest.mark.parametrize("task", [network, batch_norm], ids=lambda t: t.__name__)
def test_metrics_that_cannot_be_stacked_are_measured_row_by_row_and_are_the_same(
    task: Callable[[], Task], metrics: Any
) -> None:
    how = recipe("momentum", precision="float64", wrappers={"ema": {"memory": 0.5}})
    asked = [replace(one, steps=12) for one in four(how)]
    plain = run_wave(workload(replace(task(), metrics=share_right)), asked, FLEET)

    found = run_wave(workload(replace(task(), metrics=metrics)), asked, FLEET)

    for ours, theirs, one in zip(found, plain, asked, strict=True):
        alone = run_trial(workload(replace(task(), metrics=metrics)), one, EXECUTION)
        assert (ours.losses, ours.steps) == (theirs.losses, theirs.steps)
        assert [e.metrics for e in ours.evaluations] == [e.metrics for e in alone.evaluations]
        assert ours.validation == pytest.approx(alone.validation, rel=1e-12)
        assert ours.test == pytest.approx(alone.test, rel=1e-12)


def test_an_error_of_the_metrics_alone_is_still_said_as_theirs() -> None:
    def broken(model: nn.Module, batch: Any) -> dict[str, Any]:
        raise ZeroDivisionError("no metric today")

    work = workload(network())
    work = replace(work, task=replace(work.task, metrics=broken))
    fleet = FleetEngine(work, four(recipe("sgd")), ROOT)

    with pytest.raises(Exception, match="measuring of network must run without an error; got ZeroDivision"):
        fleet.measure(range(4), work.data.validation)


def test_pairs_weights_and_parts_of_a_measurement_add_up_as_alone() -> None:
    """1,100 examples are measured in three batches, of which the last is short, with a pair as a metric."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(1100, 3)), generator.integers(0, 3, 1100)

    def metrics(model: nn.Module, batch: Any) -> dict[str, Any]:
        logits = model(batch[0])
        return {"f1": f1(logits.argmax(1), batch[1]), "error": (logits[:, 0] - batch[1]).square().mean()}

    task = replace(
        network(),
        make_data=lambda seed: ((x, y), (x, y), (x, y)),
        metrics=metrics,
        directions={"f1": "higher", "error": "lower"},
        loss=cross_entropy,
    )
    work, asked = workload(task), four(recipe("sgd", 0.1, precision="float64"))
    found = FleetEngine(work, asked, ROOT).measure([2, 0], work.data.validation)

    for row, ours in zip((2, 0), found, strict=True):
        (alone,) = ModelEngine(work, asked[row], ROOT).measure([0], work.data.validation)
        assert ours == pytest.approx(alone, rel=1e-12)


def test_measuring_leaves_weights_buffers_and_the_next_update_as_they_are() -> None:
    work = workload(batch_norm())
    asked = four(recipe("momentum", wrappers={"ema": {"memory": 0.5}}))
    one, other = FleetEngine(work, asked, ROOT), FleetEngine(work, asked, ROOT)
    for fleet in (one, other):
        advance(fleet, asked, 0, 1)
    first, second = (one.measure(range(4), work.data.train) for _ in range(2))
    for row in range(4):
        assert_equal(one.snapshot(row), other.snapshot(row))
    for fleet in (one, other):
        advance(fleet, asked, 2, 3)

    assert first == second
    for row in range(4):
        assert_equal(one.snapshot(row), other.snapshot(row))


def test_a_stretch_is_the_same_as_its_updates_one_by_one() -> None:
    work, asked = workload(linear()), four(recipe("adam", wrappers={"clip_norm": 0.5}))
    one, other = FleetEngine(work, asked, ROOT), FleetEngine(work, asked, ROOT)
    rates = [[0.1, 0.05, 0.2, 0.1, 0.1, 0.02] for _ in asked]

    whole = one.update([Updates(row, 0, rates[row]) for row in range(4)])
    single = [other.update([Updates(r, s, [rates[r][s]]) for r in range(4)]) for s in range(6)]

    for row in range(4):
        assert list(whole[row].losses) == [done[row].losses[0] for done in single]
        assert list(whole[row].clipped) == [done[row].clipped[0] for done in single]
        assert_equal(one.snapshot(row), other.snapshot(row))
    assert any(whole[0].clipped)
