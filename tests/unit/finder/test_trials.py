"""Searches as trials of a task: what runs, in which order it comes back, and every method."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from small_tasks import EXECUTION, linear, recipe, workload
from thalweg import schedules
from thalweg.api.rate import find_lr
from thalweg.executors import auto
from thalweg.finder import find, plan_finder
from thalweg.finder.search import POINTS
from thalweg.finder.trials import ABOVE, BELOW
from thalweg.records import Answer, Finding, Outcome, Stage, Trace
from thalweg.rules.catalogue import CATALOGUE
from thalweg.tasks import load_task
from thalweg.training.control import Control
from thalweg.training.loop import run_trial
from thalweg.training.recipe import Plateau, Recipe
from thalweg.training.trial import Trial, trial_key

STEPS = 200
WORK = workload(linear())


class Noted:
    """Runs trials one by one and notes them, round by round."""

    def __init__(self) -> None:
        self.rounds: list[list[Trial]] = []
        self.traces: list[list[Trace]] = []

    def __call__(self, trials: Sequence[Trial]) -> list[Trace]:
        self.rounds.append(list(trials))
        self.traces.append([run_trial(WORK, trial, EXECUTION) for trial in trials])
        return self.traces[-1]


def found(
    recipes: Mapping[str, Recipe], steps: int | Mapping[str, int] = STEPS
) -> tuple[Noted, list[Finding]]:
    noted = Noted()
    return noted, list(find(recipes, plan_finder(STEPS), steps, noted))


def test_a_sweep_trains_at_the_rates_that_it_is_read_by() -> None:
    noted, (finding,) = found({"adam": recipe("adam")})

    sweep = noted.rounds[0][0]
    centre = CATALOGUE["adam"].centre
    assert sweep.recipe.rate == pytest.approx(centre * 10**ABOVE)
    rates = Control(sweep.recipe, WORK.limits(sweep)).rates(sweep.steps)
    expected = np.geomspace(centre / 10**BELOW, centre * 10**ABOVE, sweep.steps)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    np.testing.assert_allclose(finding.rates, expected[:-1], rtol=1e-12)


def test_sweeps_are_evaluated_at_their_end_and_short_trainings_four_times() -> None:
    noted, _ = found({"sgd": recipe("sgd")})

    first, *later = noted.traces
    assert [len(trace.evaluations) for trace in first] == [1, 1, 1, POINTS]
    assert all(len(trace.losses) == trace.steps for trace in first)  # a loss of each update
    assert all(len(trace.evaluations) == POINTS for trace in later[0])
    assert all(len(trace.evaluations) >= POINTS for trace in later[-1])  # one an epoch, where that is sooner


def test_what_slows_or_stops_a_training_is_left_out_and_all_else_is_kept() -> None:
    given = recipe(
        "sgd",
        0.5,
        schedule=schedules.Cosine(),
        plateau=Plateau(patience=1),
        patience=3,
        wrappers={"clip_norm": 1.0},
        hyperparameters={"momentum": 0.5},
        sampling="in order",
    )

    noted, _ = found({"mine": given})

    for trial in (trial for trials in noted.rounds for trial in trials):
        trained = trial.recipe
        assert (trained.plateau, trained.patience) == (None, None)
        kept = replace(trained, rate=given.rate, schedule=given.schedule, plateau=given.plateau, patience=3)
        assert kept == given
        kind = schedules.Sweep if trial.stage is Stage.SWEEP else schedules.Constant
        assert type(trained.schedule) is kind
        assert trial.contender == "mine"


def test_all_searches_ask_together_until_each_is_over() -> None:
    recipes = {name: recipe(name) for name in ("sgd", "adam", "lion")}

    noted, findings = found(recipes)

    assert [finding.optimizer for finding in findings] == list(recipes)
    first = noted.rounds[0]
    assert [(trial.contender, trial.stage) for trial in first] == [
        (name, stage) for name in recipes for stage in [Stage.SWEEP] * 3 + [Stage.SHORT]
    ]
    assert len(noted.rounds) <= 5
    for name, finding in zip(recipes, findings, strict=True):
        alone, (same,) = found({name: recipe(name)})
        assert finding == same
        asked = [trial for trials in noted.rounds for trial in trials if trial.contender == name]
        assert asked == [trial for trials in alone.rounds for trial in trials]


def test_lengths_may_differ() -> None:
    noted, findings = found({"sgd": recipe("sgd"), "adam": recipe("adam")}, {"sgd": 200, "adam": 400})

    assert [finding.horizon for finding in findings] == [64, 132]
    lengths = {trial.contender: trial.steps for trial in noted.rounds[-1]}
    assert lengths.items() <= {"sgd": 64, "adam": 132}.items()


def test_a_training_that_is_lost_is_given_up_and_costs_what_it_did() -> None:
    given = {"sgd": Recipe("sgd", batch_size=22)}
    noted = Noted()

    # The rates climb so slowly that the loss stays above a thousand times the first for twenty updates.
    (finding,) = find(given, plan_finder(1000), 1000, noted)

    traces = [trace for of_round in noted.traces for trace in of_round]
    assert finding.steps == sum(trace.steps for trace in traces)
    assert any(trace.outcome is Outcome.DIVERGED and trace.steps < trace.budget_steps for trace in traces)
    assert finding.outcome is Answer.FOUND


@pytest.mark.parametrize("executor", ["serial", "fleet", pytest.param("processes", marks=pytest.mark.slow)])
def test_every_executor_answers(executor: str) -> None:
    recipes = {name: recipe(name, batch_size="all", wrappers={"clip_norm": 5.0}) for name in ("sgd", "adam")}
    how = replace(EXECUTION, executor=executor, wave=64 if executor == "fleet" else 0)

    def finish(trials: Sequence[Trial]) -> list[Trace]:
        left = auto.EXECUTORS[executor](WORK, trials, how, lambda trial: False)
        traces = {trace.key: trace for trace in left}
        return [traces[trial_key(WORK, trial, how)] for trial in trials]

    findings = find(recipes, plan_finder(STEPS), STEPS, finish)

    _, expected = found(recipes)
    for one, other in zip(findings, expected, strict=True):
        assert one.outcome is other.outcome is Answer.FOUND
        # But for the rounding of a fleet.
        assert one.suggestion == pytest.approx(other.suggestion, rel=0 if executor != "fleet" else 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_method_has_an_answer_that_trains_or_says_why(name: str) -> None:
    finding = find_lr("digits", name, steps=450, executor="fleet")

    if finding.suggestion is None:
        # Its own measure of the distance does not get going on mini-batches of a network.
        assert (name, finding.outcome) == ("dadapt-sgd", Answer.FLAT)
        return
    digits = workload(load_task("digits"))
    trained = run_trial(
        digits, Trial(name, Stage.TUNING, Recipe(name, finding.suggestion), 5, 450), EXECUTION
    )
    assert trained.outcome is Outcome.COMPLETED
    # A network that says nothing has log 10 = 2.3.
    assert trained.validation["loss"] is not None
    assert trained.validation["loss"] < 0.7
