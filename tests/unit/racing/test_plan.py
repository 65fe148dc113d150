"""A plan gives every optimizer the same number of rates, and the verdict the seeds that it needs."""

from dataclasses import replace
from typing import Any

import pytest

from small_tasks import BATCH, EXECUTION, linear, logistic, recipe, workload
from thalweg.errors import InputError
from thalweg.racing import Entry, make_plan
from thalweg.racing.plan import SMALL_WORK, grid, start_of
from thalweg.records import Direction, Plan
from thalweg.rules.catalogue import CATALOGUE
from thalweg.training.recipe import Recipe


def entries(*names: str, **fields: Any) -> list[Entry]:
    return [Entry(name, recipe(name, **fields)) for name in names]


def plan(some: list[Entry], steps: int = 10, flops: float = 1e3, **options: Any) -> Plan:
    return make_plan(workload(logistic()), some, EXECUTION, steps, flops, **options)


def test_a_grid_by_hand() -> None:
    assert grid(0.1, 7) == (0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16)
    assert grid(0.03, 4) == (0.00949, 0.03, 0.0949, 0.3)
    assert grid(1e-3, 1) == (1e-3,)


@pytest.mark.parametrize(("quota", "start"), [(1, 1), (2, 2), (3, 3), (4, 3), (9, 7), (16, 12)])
def test_a_quarter_of_the_quota_is_left_to_extend_the_grid(quota: int, start: int) -> None:
    assert start_of(quota) == start


@pytest.mark.parametrize("quota", [2, 5, 9])
def test_every_optimizer_gets_the_same_quota_and_a_grid_around_its_own_centre(quota: int) -> None:
    contenders = plan(entries(*CATALOGUE), quota=quota).contenders

    assert {(c.quota, len(c.rates), c.tuned) for c in contenders} == {(quota, start_of(quota), True)}
    for contender in contenders:
        assert contender.rates == grid(CATALOGUE[contender.name].centre, start_of(quota))
        assert Recipe.from_data(contender.recipe) == recipe(contender.name)


def test_the_rest_of_a_plan_says_what_is_run() -> None:
    work = workload(logistic())
    one = make_plan(work, entries("sgd", "adam"), replace(EXECUTION, threads=2), 12, 1e3)

    assert (one.task, one.task_fingerprint) == ("logistic", work.fingerprint)
    assert (one.metric, one.direction) == ("accuracy", Direction.HIGHER)
    assert (one.steps, one.epochs, one.batch_size) == (12, 2.4, BATCH)
    assert (one.train_examples, one.validation_examples, one.test_examples) == (22, 6, 6)
    assert (one.seed, one.executor, one.threads, one.device) == (EXECUTION.root, "serial", 2, "cpu")
    assert one.versions == {"thalweg": "0"}


@pytest.mark.parametrize(("optimizers", "needed"), [(1, 6), (2, 6), (3, 7), (4, 8)])
def test_final_seeds_are_as_many_as_the_verdict_needs_and_twice_that_where_it_is_cheap(
    optimizers: int, needed: int
) -> None:
    some = entries(*list(CATALOGUE)[:optimizers])
    limit = SMALL_WORK / (2 * needed * optimizers * 10)  # operations an update, with 10 updates

    assert len(plan(some, flops=limit * 0.999).final_seeds) == 2 * needed
    assert len(plan(some, flops=limit * 1.001).final_seeds) == needed
    assert len(plan(some, seeds=3).final_seeds) == 3


def test_final_seeds_are_fresh() -> None:
    one = plan(entries("sgd", "adam"), seeds=4)

    assert one.tuning_seeds == (0, 1, 2)
    assert one.final_seeds == (3, 4, 5, 6)


def test_given_rates_are_not_tuned_and_several_given_ones_are_all_that_tuning_tries() -> None:
    some = [
        Entry("one", recipe("adam"), (0.5,)),
        Entry("two", recipe("adam"), (0.3, 0.1)),
        Entry("grid", recipe("adam")),
    ]
    contenders = plan(some).contenders

    assert [(c.rates, c.quota, c.tuned) for c in contenders[:2]] == [
        ((0.5,), 1, False),
        ((0.1, 0.3), 2, True),
    ]
    assert contenders[2].quota == 9
    # a race in which nothing is tuned has no tuning seeds
    assert plan(some[:1], seeds=2).tuning_seeds == ()
    assert plan(some[:1], seeds=2).final_seeds == (0, 1)


def test_trials_at_most_counts_every_rate_of_the_quota_and_every_final_seed() -> None:
    some = [Entry("given", recipe("adam"), (0.5,)), *entries("sgd", "momentum")]

    assert plan(some, quota=5, seeds=4).trials_at_most == 2 * 5 * 3 + 3 * 4


def test_a_batch_of_all_and_its_number_are_one_batch_size() -> None:
    some = [Entry("a", recipe(batch_size="all")), Entry("b", recipe(batch_size=22))]

    assert plan(some).batch_size == 22
    assert plan(some, steps=3).epochs == 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan([]), "the optimizers of a race must be one or more different names; got []."),
        (lambda: plan(entries("sgd", "sgd")), "one or more different names; got ['sgd', 'sgd']."),
        (lambda: plan(entries("sgd"), quota=0), "rates to try of the race must be a whole number"),
        (lambda: plan(entries("sgd"), seeds=0), "seeds of the race must be a whole number of at"),
        (lambda: plan([*entries("sgd"), *entries("adam", batch_size=7)]), "have one batch size; got [5, 7]."),
        (lambda: plan(entries("sgd", batch_size=23)), "be at most the 22 examples of the training part"),
        (lambda: Entry("a", recipe(), ()), "the rates of a must be one or more different numbers; got ()."),
        (lambda: Entry("a", recipe(), (0.1, 0.1)), "the rates of a must be one or more different numbers"),
        (lambda: Entry("a", recipe(), (0.1, -1.0)), "a rate of a must be a finite number above 0; got -1.0."),
        (lambda: Entry("a", recipe(), (float("nan"),)), "a rate of a must be a finite number above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_raced_is_refused_in_words(make: Any, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        make()
    assert message in str(refusal.value)


def test_equal_requests_make_equal_plans() -> None:
    assert plan(entries("sgd", "adam")) == plan(entries("sgd", "adam"))
    assert plan([Entry("a", recipe())]).contenders != plan([Entry("a", recipe("adam"))]).contenders
    assert replace(workload(linear())).direction is Direction.LOWER
