"""The benchmark of rate finders judges as it says: regret, divergence, spread and cost by hand."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _finder_judge import TUNING, Curve, judged, summary
from _finder_methods import CENTRE, METHODS, OURS, PEERS
from _finder_peers import criterion, optimizer_of
from _finder_tables import percent, summary_table, table, verdicts
from _finder_tasks import OPTIMIZERS, PAIRS, WORKS, task_of

from thalweg import optim
from thalweg.rules.catalogue import preset
from thalweg.tasks import load_task

NAN = math.nan
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "finder.py"


def curve() -> Curve:
    """Rates a decade apart: too low, best, one of whose seeds diverges, one that ends above its start."""
    final = np.array([[3.0, 3.2], [1.0, 1.2], [2.0, NAN], [9.0, 3.0]])
    return Curve.of(np.array([1e-3, 1e-2, 1e-1, 1.0]), final, np.array([4.0, 4.2]))


# What is trained.


def test_there_are_twenty_four_pairs_whose_grids_climb_evenly() -> None:
    assert len(PAIRS) == len(WORKS) * len(OPTIMIZERS) == 24
    for pair in PAIRS.values():
        rates = pair.work.rates(pair.optimizer)
        low, high = pair.work.powers[pair.optimizer]

        assert rates[0] == pytest.approx(10**low)
        assert rates[-1] == pytest.approx(10**high)
        np.testing.assert_allclose(np.diff(np.log10(rates)), 1 / pair.work.per_decade, rtol=1e-9)


# The true curve.


def test_a_training_that_gained_nothing_counts_with_the_loss_it_began_with() -> None:
    found = curve()

    np.testing.assert_allclose(found.losses, [3.1, 1.1, (2.0 + 4.2) / 2, (4.0 + 3.0) / 2])
    assert (found.best_rate, found.best_loss, found.initial) == (1e-2, pytest.approx(1.1), 4.1)
    assert found.gain == pytest.approx(3.0)


def test_rates_are_bad_above_the_best_where_a_seed_gained_nothing() -> None:
    assert curve().bad.tolist() == [False, False, True, True]

    low = Curve.of(np.array([1e-3, 1e-2]), np.array([[4.1, 4.1], [1.0, 1.0]]), np.array([4.0, 4.0]))

    assert low.bad.tolist() == [False, False]


def test_the_deviation_is_pooled_over_the_best_rate_and_its_neighbours() -> None:
    variances = [0.2**2 / 2, 0.2**2 / 2, 2.2**2 / 2]  # of two numbers: half the square of what they differ by

    assert curve().deviation == pytest.approx(math.sqrt(sum(variances) / 3))


@pytest.mark.parametrize(
    ("rate", "regret"),
    [
        (1e-2, 0.0),
        (10**-2.5, 1.0),  # half-way in the log of the rate: (3.1 + 1.1) / 2 − 1.1
        (1e-9, 2.0),  # below the grid: its end
        (50.0, 2.4),
    ],
)
def test_regret_is_read_off_the_curve_along_the_log_of_the_rate(rate: float, regret: float) -> None:
    assert curve().regret(rate) == pytest.approx(regret)


@pytest.mark.parametrize(
    ("rate", "diverges"),
    [(1e-9, False), (1e-3, False), (1e-2, False), (1.1e-2, True), (0.09, True), (0.1, True), (30.0, True)],
)
def test_a_rate_diverges_if_a_neighbour_in_the_grid_does(rate: float, diverges: bool) -> None:
    assert curve().diverges(rate) is diverges


# Methods.


def test_a_method_is_judged_by_its_answers_alone() -> None:
    found = judged(curve(), [1e-3, 1e-2, None, 0.1], [10, 20, 30, 40], full=100)

    assert found["of_gain"] == pytest.approx([2 / 3, 0.0, 2 / 3])
    assert found["deviations"] == pytest.approx([x / curve().deviation for x in (2.0, 0.0, 2.0)])
    assert found["diverging"] == 1
    assert found["decades"] == pytest.approx(2.0)
    assert found["of_tuning"] == pytest.approx(40 / (TUNING * 100))


def test_a_summary_takes_medians_of_medians_and_the_worst_of_all() -> None:
    pairs = [
        judged(curve(), [1e-2, 1e-2, 1e-3], [10, 10, 10], full=100),  # shares of the gain 0, 0, ⅔
        judged(curve(), [1e-3, 1e-3, 1e-3], [30, 30, 30], full=100),  # ⅔, ⅔, ⅔
        judged(curve(), [1e-2, None, None], [10, 10, 10], full=100),  # 0
    ]

    found = summary(pairs)

    assert found is not None
    assert found["of_gain"] == 0.0
    assert found["worst"] == pytest.approx(2 / 3)
    assert (found["decades"], found["most_decades"]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert found["unanswered"] == pytest.approx(2 / 9)
    assert found["diverging"] == 0.0
    assert (found["steps"], found["of_tuning"]) == (10, pytest.approx(30 / 2700))


def test_a_method_that_never_answers_has_no_summary() -> None:
    assert summary([judged(curve(), [None], [5], full=100)]) is None


# What peers are given.


def test_the_peers_loss_is_the_tasks() -> None:
    task = load_task("digits", None, False)
    (batch,) = task.data(0).validation.batches(200)
    model = task.model(0)

    assert criterion(model(batch[0]), batch[1]).item() == task.loss(model, batch).item()


@pytest.mark.slow  # lion-pytorch is among the peers
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_peers_optimizers_move_as_ours_do(name: str) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(20), torch.randn(5, 20)
    moved = []
    for ours in (True, False):
        weights = torch.nn.Parameter(start.clone())
        chosen = preset(name)
        make: Any = optim.BY_RULE[chosen.rule.name] if ours else optimizer_of(name)
        optimizer = make([weights], lr=0.1, **(chosen.fixed if ours else {}))
        for gradient in gradients:
            weights.grad = gradient.clone()
            optimizer.step()
        moved.append(weights.detach())

    torch.testing.assert_close(*moved, rtol=1e-5, atol=1e-6)  # five updates of float32


# In words.


def results(shares: dict[str, float]) -> dict[str, Any]:
    """Results of one pair with one seed, of methods with these shares of the gain as regret."""
    rates = {name: 10 ** (-2 - share * 3 / 2) for name, share in shares.items()}  # along 1e-3 … 1e-2
    found = curve()
    methods = {name: judged(found, [rate], [27], full=100) | {"why": [""]} for name, rate in rates.items()}
    pair = {"best_rate": found.best_rate, "best_loss": found.best_loss, "initial": found.initial,
            "deviation": found.deviation, "methods": methods}  # fmt: skip
    return {"pairs": {"digits-sgd": pair}}


def test_tables_say_what_was_measured() -> None:
    made = results({OURS: 0.01, "valley": 0.05, CENTRE: 0.2})

    assert table(made)[0][3:] == ("thalweg", "fastai valley", "the centre")
    assert table(made)[1] == ("digits-sgd", "0.0100", "30", "1.0 / 1.0", "5.0 / 5.0", "20 / 20")
    assert summary_table(made)[1][:3] == ("thalweg", "1.0", "1.0")
    assert summary_table(made)[1][-2:] == ("27", "1.0")


def test_ours_is_held_against_the_best_of_the_peers_and_not_against_the_centre() -> None:
    good = verdicts(results({OURS: 0.01, "valley": 0.05, "slide": 0.04, CENTRE: 0.0}))
    poor = verdicts(results({OURS: 0.12, "valley": 0.05}))

    assert "fastai slide" in good[1].claim
    assert good[1].figures[0][1] == pytest.approx(0.25)
    assert [all(f[2] for f in v.figures) for v in good] == [True] * 6
    assert [all(f[2] for f in v.figures) for v in poor] == [False, False, False, True, True, True]


def test_shares_keep_a_digit_where_it_says_something() -> None:
    assert [percent(x) for x in (0.0, 0.0042, 0.0999, 0.42)] == ["0.0", "0.4", "10", "42"]


def test_every_method_has_a_title() -> None:
    assert set(METHODS) == {OURS, *PEERS, CENTRE}


def test_tasks_are_loaded_as_a_person_would() -> None:
    assert task_of(WORKS["digits"]) == "digits"
    assert task_of(WORKS["cifar"]).batch_size == WORKS["cifar"].batch_size


# As a person runs it.


@pytest.mark.slow  # some two hundred trainings, and three other packages
def test_the_command_measures_a_pair_and_prints_it_again(tmp_path: Path) -> None:
    out = tmp_path / "finder.json"
    command = [sys.executable, str(SCRIPT), "--json", str(out)]

    run = subprocess.run(
        [*command, "--pairs", "digits-momentum", "--seeds", "1"], capture_output=True, text=True, check=False
    )
    again = subprocess.run([*command, "--markdown"], capture_output=True, text=True, check=False)

    assert run.returncode == again.returncode == 0, run.stderr + again.stderr
    (pair,) = json.loads(out.read_text())["results"]["pairs"].values()
    assert set(pair["methods"]) == {OURS, *PEERS, CENTRE}
    assert pair["methods"][CENTRE]["suggestions"] == [preset("momentum").centre]
    assert pair["best_loss"] < pair["initial"]
    assert "| digits-momentum |" in again.stdout
