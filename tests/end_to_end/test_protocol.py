"""The protocol of a race in Python: its stages, what follows it, what varies, and what is refused."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg
from end_to_end.program import contents
from small_tasks import batch_norm, linear, logistic, network, numbers
from thalweg import Recipe, schedules
from thalweg.api.race import Showdown
from thalweg.errors import InputError
from thalweg.racing.plan import finder_rates, finder_steps, start_of
from thalweg.racing.rates import QUARTER, Grid
from thalweg.records import Race, Stage, Trace
from thalweg.store import Store
from thalweg.tasks import Task

GIVEN: dict[str, Any] = {"rates": {"sgd": 0.1, "adam": 0.01}, "steps": 10, "batch_size": 5, "seeds": 2}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def raced(task: Task, **more: Any) -> Showdown:
    return thalweg.showdown(task, ["sgd", "adam"], **{"steps": 60, "batch_size": 5, "seeds": 6, **more})


def numbers_of(race: Race | None) -> Any:
    assert race is not None
    return {t.key: numbers(t) for t in race.traces}, race.findings, race.verdict


# The stages.


def test_the_finder_is_paid_for_and_rates_lie_around_what_it_found() -> None:
    race = thalweg.showdown("digits", ["sgd", "adam"], epochs=5, seeds=2, executor="fleet", schedules=()).race
    plan = race.plan

    assert plan.finder is not None
    left = 9 - finder_rates(plan.finder, plan.steps, 3)
    assert [(c.rates, c.quota) for c in plan.contenders] == [((), 9)] * 2
    assert [f.optimizer for f in race.findings] == ["sgd", "adam"]
    assert race.ledger is not None
    for finding, row in zip(race.findings, race.ledger.rows, strict=True):
        own = [t for t in race.traces if t.contender == finding.optimizer]
        rates = list(dict.fromkeys(t.rate for t in own if t.stage is Stage.TUNING))
        assert finding.suggestion is not None
        start = start_of(left, found=True)
        assert rates[:start] == list(Grid(finding.suggestion, QUARTER).around(start))
        assert start < len(rates) <= left
        seeds = Counter(t.rate for t in own if t.stage is Stage.TUNING)
        assert sum(n > 1 for n in seeds.values()) >= math.ceil(len(rates) / 2)
        assert sum(n > 2 for n in seeds.values()) >= math.ceil(len(rates) / 4)
        assert row.finder_trials == sum(t.stage in (Stage.SWEEP, Stage.SHORT) for t in own) > 0
        assert row.finder_steps == finding.steps <= finder_steps(plan.finder)
    assert {t.seed for t in race.traces if t.stage is Stage.FINAL} == set(plan.final_seeds)


def test_where_trainings_are_too_short_for_a_finder_there_are_plain_grids() -> None:
    race = raced(network(), steps=5, schedules=()).race

    assert race.plan.finder is None
    assert [c.rates[3] for c in race.plan.contenders] == [0.1, 0.001]
    assert race.findings == ()


class Stop(Exception):
    """The machine loses its power, say."""


@contextmanager
def stopping(at: Callable[[Trace], bool]) -> Iterator[None]:
    """Let the store fail right after it has kept the first trace of a kind."""
    keep = Store.keep

    def some(store: Store, race: str, traces: Sequence[Trace], known: Container[str] = ()) -> None:
        place = next((i for i, trace in enumerate(traces) if at(trace)), None)
        keep(store, race, traces[: None if place is None else place + 1], known)
        if place is not None:
            raise Stop

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "keep", some)
        with pytest.raises(Stop):
            yield


STAGES: dict[str, Callable[[Trace], bool]] = {
    "sweep": lambda t: t.stage is Stage.SWEEP,
    "short": lambda t: t.stage is Stage.SHORT,
    "tuning": lambda t: t.stage is Stage.TUNING,
    "halving": lambda t: t.stage is Stage.TUNING and t.seed == 1,
    "final": lambda t: t.stage is Stage.FINAL,
    "second look": lambda t: t.stage is Stage.FINAL and t.seed == 9,
    "schedules, tuning": lambda t: t.contender == "cosine" and t.stage is Stage.TUNING,
    "schedules, final": lambda t: t.contender == "cosine" and t.stage is Stage.FINAL,
}


IN_STAGES: dict[str, Any] = {"steps": 30, "threads": 1, "seeds": (6, 7)}


@pytest.fixture(scope="module", params=[pytest.param("serial", marks=pytest.mark.slow), "fleet"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Showdown]:
    """A race that nothing disturbed; it is a tie, so that both looks are taken."""
    out = tmp_path_factory.mktemp("whole")
    return request.param, raced(network(), **IN_STAGES, executor=request.param, out=out)


@pytest.mark.parametrize("stage", STAGES)
def test_a_race_that_is_broken_off_in_any_stage_goes_on_to_the_same_bits(
    stage: str, whole: tuple[str, Showdown]
) -> None:
    executor, expected = whole
    more: dict[str, Any] = {**IN_STAGES, "executor": executor, "out": "broken"}
    with stopping(STAGES[stage]):
        raced(network(), **more)
    with Store.open("broken") as store:
        summaries = store.races()
    ended = raced(network(), **more)

    assert len(summaries) == (2 if stage.startswith("schedules") else 1)
    assert summaries[0].finished_at is None
    assert numbers_of(ended.race) == numbers_of(expected.race)
    assert numbers_of(ended.schedules) == numbers_of(expected.schedules)


# Schedules under the winner.


def test_schedules_race_under_the_winner_at_rates_around_its_own_on_seeds_of_their_own() -> None:
    result = raced(network(), steps=30, executor="fleet")
    race, after = result.race, result.schedules

    assert after is not None
    assert after.follows == race.key
    plan = after.plan
    assert (plan.vary, plan.steps, plan.looks, plan.finder) == ("schedule", 30, (), None)
    assert [c.name for c in plan.contenders] == ["constant", "cosine", "step", "warmup-cosine"]
    assert [c.recipe["schedule"]["name"] for c in plan.contenders] == [c.name for c in plan.contenders]
    used = {t.seed for t in race.traces}
    assert used.isdisjoint(plan.final_seeds)
    assert plan.tuning_seeds == race.plan.tuning_seeds
    (optimizer,) = {c.recipe["optimizer"] for c in plan.contenders}
    (chosen,) = {t.rate for t in race.traces if t.contender == optimizer and t.stage is Stage.FINAL}
    for contender in plan.contenders:
        assert contender.rates == pytest.approx((chosen / 10**0.5, chosen, chosen * 10**0.5), rel=0.005)
        tuning = [t for t in after.traces if t.contender == contender.name and t.stage is Stage.TUNING]
        assert sorted(Counter(t.rate for t in tuning).values()) == [1, 2, 3]
    assert result.to_json()["recommendation"]["recipe"]["schedule"]["name"] in {
        c.name for c in plan.contenders
    }


def test_after_given_rates_schedules_are_tuned_on_seeds_that_no_stage_has_used() -> None:
    result = thalweg.showdown(network(), ["sgd", "adam"], **GIVEN)

    assert result.race.plan.final_seeds == (0, 1)
    assert result.schedules is not None
    assert result.schedules.plan.tuning_seeds == (2, 3, 4)
    assert result.schedules.plan.final_seeds == (5, 6)


def test_schedules_are_those_that_are_asked_for_and_fields_of_them_may_be_set() -> None:
    asked = ("constant", schedules.Cosine(floor=0.1), "step:every=3,ratio=0.5")
    listed = thalweg.showdown(network(), ["sgd", "adam"], **GIVEN, schedules=asked).schedules
    typed = "constant,cosine:floor=0.1,step:every=3,ratio=0.5"
    again = thalweg.showdown(network(), ["sgd", "adam"], **GIVEN, schedules=typed).schedules

    assert listed is not None
    assert [c.name for c in listed.plan.contenders] == [
        "constant",
        "cosine:floor=0.1",
        "step:every=3,ratio=0.5",
    ]
    assert again == listed


@pytest.mark.parametrize(
    "more",
    [
        {"schedules": ()},
        {"schedules": "none"},
        {"recipe": {"schedule": {"name": "cosine"}}},
    ],
    ids=str,
)
def test_where_schedules_are_not_wanted_or_set_already_none_race(more: dict[str, Any]) -> None:
    result = thalweg.showdown(network(), ["sgd", "adam"], **{**GIVEN, **more})

    assert result.schedules is None


def test_where_every_rate_diverges_nothing_follows() -> None:
    result = thalweg.showdown(linear(), ["sgd"], rates={"sgd": 1e30}, steps=5, batch_size=5, seeds=2)

    assert result.verdict.ranking[0].diverged == 2
    assert result.schedules is None


# Looks.


def test_a_race_with_looks_ends_at_the_first_that_decides() -> None:
    given = {**GIVEN, "rates": {"sgd": 0.3, "adam": 1e-7}, "seeds": (8, 16), "schedules": ()}
    race = thalweg.showdown(linear(), ["sgd", "adam"], **given).race

    assert race.plan.looks == (8, 16)
    assert race.verdict is not None
    assert (race.verdict.winner, race.verdict.seeds) == ("sgd", 8)
    assert len(race.traces) == 16


# What varies.


@pytest.mark.parametrize("executor", ["serial", "fleet", pytest.param("processes", marks=pytest.mark.slow)])
def test_batch_sizes_race_for_equally_many_examples_under_every_executor(executor: str) -> None:
    result = thalweg.showdown(
        network(), "adam", vary={"batch_size": [5, 11, "all"]}, epochs=6, seeds=6, executor=executor
    )
    race = result.race

    assert race.plan.vary == "batch_size"
    assert [c.name for c in race.plan.contenders] == ["batch_size=5", "batch_size=11", "batch_size=all"]
    assert [(c.batch_size, c.steps) for c in race.plan.contenders] == [(None, None), (11, 12), (22, 6)]
    assert (race.plan.batch_size, race.plan.steps) == (5, 30)
    finals = [t for t in race.traces if t.stage is Stage.FINAL]
    assert {t.evaluations[-1].epoch for t in finals} == {6.0}
    assert race.ledger is not None
    assert [row.final_trials for row in race.ledger.rows] == [6, 6, 6]
    # each is tuned by itself, with equally many rates
    tried = {row.optimizer: len(row.rates_tried) for row in race.ledger.rows}
    assert len(set(tried.values())) == 1
    assert result.schedules is None
    assert race.verdict is not None
    assert not any("Tuning was not equal" in sentence for sentence in race.verdict.sentences)


def test_recipes_with_batches_of_several_sizes_race_for_equally_many_examples() -> None:
    recipes = {"small": Recipe("sgd", batch_size=5), "large": Recipe("adam", batch_size=11)}
    race = thalweg.showdown(network(), recipes, rates=dict.fromkeys(recipes, 0.1), epochs=2, seeds=2).race

    assert {(t.contender, t.steps) for t in race.traces} == {("small", 10), ("large", 4)}


@pytest.mark.parametrize(
    ("vary", "names", "field"),
    [
        ({"betas.1": [0.95, 0.999]}, ["betas.1=0.95", "betas.1=0.999"], ("hyperparameters", "betas")),
        ({"clip_norm": [0.5, 2]}, ["clip_norm=0.5", "clip_norm=2"], ("wrappers", "clip_norm")),
        (
            {"schedule": ["constant", schedules.Cosine()]},
            ["schedule=constant", "schedule=cosine"],
            ("schedule", "name"),
        ),
    ],
    ids=str,
)
def test_a_field_of_a_recipe_races(vary: Mapping[str, Any], names: list[str], field: tuple[str, str]) -> None:
    result = thalweg.showdown(
        network(), ["adam"], vary=vary, rates={"adam": 0.01}, steps=10, batch_size=5, seeds=6
    )
    plan = result.race.plan

    assert plan.vary == next(iter(vary))
    assert [c.name for c in plan.contenders] == names
    assert len({str(c.recipe[field[0]][field[1]]) for c in plan.contenders}) == 2
    assert [(c.rates, c.tuned) for c in plan.contenders] == [((0.01,), False)] * 2
    assert result.schedules is None  # unless they are asked for


def test_rates_that_vary_are_not_tuned() -> None:
    plan = thalweg.showdown(
        network(), "sgd", vary={"rate": [0.1, 0.2]}, steps=5, batch_size=5, seeds=2
    ).race.plan

    assert [(c.name, c.rates) for c in plan.contenders] == [("rate=0.1", (0.1,)), ("rate=0.2", (0.2,))]


def test_tasks_race_with_models_of_their_own() -> None:
    plain, normalised = network(name="plain"), dataclasses.replace(batch_norm(), name="normalised")
    result = thalweg.showdown(
        optimizers="adam", vary={"task": [plain, normalised]}, steps=30, batch_size=5, seeds=6
    )
    race = result.race

    assert (race.plan.task, race.plan.vary) == ("plain and normalised", "task")
    assert [c.name for c in race.plan.contenders] == ["task=plain", "task=normalised"]
    assert {(t.contender, t.task, t.parameters) for t in race.traces} == {
        ("task=plain", "plain", 32 + 27),
        ("task=normalised", "normalised", 32 + 16 + 27),
    }
    assert [f.optimizer for f in race.findings] == ["task=plain", "task=normalised"]


VARIANTS = """\
import torch
from torch import nn
from thalweg import Task

def data(seed):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed))
    return x, x.argmax(1)

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

narrow = Task(lambda: nn.Linear(3, 3), data, loss)
def wide():
    return Task(lambda: nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 3)), data, loss)
"""


def test_tasks_of_one_file_race_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "variants.py").write_text(VARIANTS)
    more: dict[str, Any] = {"rates": {"sgd": 0.1}, "steps": 3, "seeds": 2}
    named = thalweg.showdown("variants.py", "sgd", vary={"task": ["narrow", "wide"]}, **more).race
    spelt = thalweg.showdown(
        None, "sgd", vary={"task": ["variants.py:narrow", "variants.py:wide"]}, **more
    ).race

    assert [c.name for c in named.plan.contenders] == ["task=narrow", "task=wide"]
    assert spelt == named


# Source, target.


def test_the_plan_knows_how_its_task_is_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "variants.py").write_text(VARIANTS)
    more: dict[str, Any] = {"rates": {"sgd": 0.1}, "steps": 1, "seeds": 1, "schedules": ()}

    def source(task: Any) -> str:
        return thalweg.showdown(task, ["sgd"], **more).race.plan.source

    assert source("wine") == "wine"
    assert source("variants.py:wide") == f"{(tmp_path / 'variants.py').resolve()}:wide"
    assert source(Path("variants.py:narrow")) == f"{(tmp_path / 'variants.py').resolve()}:narrow"
    assert source(linear()) == ""
    assert source((np.arange(40.0).reshape(20, 2), np.arange(20.0))) == ""


def test_the_time_to_a_target_is_told() -> None:
    given = {**GIVEN, "steps": 30, "target": {"accuracy": 0.2}, "schedules": ()}
    result = thalweg.showdown(network(), ["sgd", "adam"], **given)

    assert result.race.plan.target == 0.2
    rows = result.to_json()["time_to_target"]
    assert sorted(row["optimizer"] for row in rows) == ["adam", "sgd"]
    assert all(row["seeds"] == 2 and 0 <= row["reached"] <= 2 for row in rows)


# Several tasks.


def test_several_tasks_are_raced_one_after_the_other_and_drawn_on_one_page() -> None:
    tasks = [network(), logistic()]
    both = thalweg.showdowns(tasks, ["sgd", "adam"], **GIVEN, schedules=())

    assert [r.race.plan.task for r in both.results] == ["network", "logistic"]
    assert both.report.is_file()
    page = both.report.read_text()
    assert "network" in page
    assert "logistic" in page
    answer = both.to_json()
    assert [a["metric"] for a in answer["races"]] == ["accuracy", "accuracy"]
    profile = answer["profile"]
    assert profile["tasks"] == ["network", "logistic"]
    assert sorted(profile["scores"]) == ["adam", "sgd"]
    assert all(0 <= score <= 1 for score in profile["scores"].values())
    # each is kept by itself, and is the race that it is alone
    alone = thalweg.showdown(network(), ["sgd", "adam"], **GIVEN, schedules=())
    assert alone.race == both.results[0].race


def test_a_task_that_cannot_work_is_refused_before_the_first_race_begins(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got 'wne'\. Did you mean wine"):
        thalweg.showdowns([network(), "wne"], ["sgd"], rates={"sgd": 0.1}, steps=1)
    assert contents(tmp_path) == {}


# A budget.


def test_a_budget_becomes_updates_and_a_race_goes_on_with_those_it_began_with() -> None:
    more: dict[str, Any] = {"rates": {"sgd": 0.1, "adam": 0.01}, "batch_size": 5, "executor": "serial"}
    more |= {"threads": 1, "budget": 3.0, "schedules": (), "out": "runs"}
    with stopping(lambda trace: trace.seed == 3):
        thalweg.showdown(network(), ["sgd", "adam"], **more)
    with Store.open("runs") as store:
        (summary,) = store.races()
        begun = store.race(summary.key)
    ended = thalweg.showdown(network(), ["sgd", "adam"], **more).race

    assert ended.plan == begun.plan
    assert (ended.plan.budget_seconds, ended.plan.looks, len(ended.plan.final_seeds)) == (3.0, (), 8)
    assert ended.plan.steps > 1
    assert {t.budget_steps for t in ended.traces} == {ended.plan.steps}
    assert ended.key == begun.key
    again = thalweg.showdown(network(), ["sgd", "adam"], **more).race
    assert again == ended


def test_a_budget_in_which_nothing_can_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        thalweg.showdown(network(), ["sgd", "adam"], batch_size=5, budget=0.01, executor="serial")

    assert "the budget must leave at least " in str(refusal.value)
    assert contents(tmp_path) == {}


# Refusals.


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"vary": {"batch_size": [5, 11]}}, "a race that varies a field must have one optimizer; got sgd, "),
        ({"optimizers": "adam", "vary": {}}, "a race must vary one field; got none."),
        (
            {"optimizers": "adam", "vary": {"rate": [1, 2], "batch_size": [5, 11]}},
            "a race must vary one field; got rate, batch_size.",
        ),
        ({"optimizers": "adam", "vary": {"betta": [1, 2]}}, "got 'betta'. Did you mean betas"),
        ({"optimizers": "adam", "vary": {"batch_size": [5]}}, "must be two or more different ones; got 5."),
        ({"optimizers": "adam", "vary": {"batch_size": [5, 23]}}, "at most the 22 examples of the training"),
        ({"optimizers": "adam", "vary": {"batch_size": "5,6"}}, "two or more different ones; got '5,6'."),
        (
            {"optimizers": "adam", "vary": {"batch_size": [5, 11]}, "steps": 9},
            "a budget in steps must be for batches of one size; got batches of 5 and 11.",
        ),
        (
            {"optimizers": "adam", "vary": {"task": [network(), linear()]}},
            "the tasks of a race must be ranked by one metric, accuracy; got loss of task=linear.",
        ),
        (
            {"optimizers": "adam", "vary": {"task": [network(), "wine"]}},
            "must have equally many examples of each part, 22 + 6 + 6; got 142 + 18 + 18 of task=wine.",
        ),
        (
            {"optimizers": "adam", "vary": {"task": [network(), network()]}},
            "the values of task must be two or more different ones; got network, network.",
        ),
        ({"seeds": (8, 8)}, "the looks of a race must be one or more numbers of seeds that increase"),
        ({"schedules": "cosine"}, "the schedules of a race must be two or more different ones, or none"),
        ({"schedules": "cosine,cosin"}, "got 'cosin'. Did you mean cosine"),
        ({"schedules": "cosine,cosine:clock=tokens"}, "must be steps or examples on this task; got tokens."),
        ({"schedules": "constant,warmup-cosine:warmup=99", "steps": 9}, "because the warm-up takes 99"),
        ({"target": {"f1": 0.9}}, "the target must be of the metric that ranks, accuracy; got f1."),
        ({"target": {}}, "the target must be of the metric that ranks, accuracy; got none."),
        ({"target": {"accuracy": float("nan")}}, "accuracy of the target must be a finite number; got nan."),
        ({"budget": 9.0, "epochs": 3}, "must be given in one of epochs, steps and a time; got a time and ep"),
        ({"budget": 9.0, "steps": 3}, "must be given in one of epochs, steps and a time; got a time and st"),
        ({"budget": 0.0}, "seconds of the budget must be a finite number above 0; got 0.0."),
    ],
)  # fmt: skip
def test_what_the_protocol_cannot_do_is_refused_and_leaves_no_folder(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    given = {"task": None if "task" in more.get("vary", ()) else network(), "optimizers": "sgd,adam"}
    given |= {} if "batch_size" in more.get("vary", ()) else {"batch_size": 5}
    with pytest.raises(InputError) as refusal:
        thalweg.showdown(**{**given, **more})

    assert message in str(refusal.value)
    assert contents(tmp_path) == {}
