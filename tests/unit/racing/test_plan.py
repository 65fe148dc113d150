"""A plan gives every optimizer the same number of rates, and the verdict the seeds that it needs."""

from dataclasses import replace
from typing import Any

import pytest

from small_tasks import BATCH, EXECUTION, linear, logistic, network, recipe, workload
from thalweg.errors import InputError
from thalweg.evidence.looks import levels
from thalweg.racing import Entry, make_plan
from thalweg.racing.plan import SMALL_WORK, finder_rates, first_look, rates_of, start_of
from thalweg.racing.rates import HALF, Grid
from thalweg.records import Direction, FinderPlan, Plan
from thalweg.rules.catalogue import CATALOGUE
from thalweg.training.recipe import Recipe


def entries(*names: str, **fields: Any) -> list[Entry]:
    return [Entry(name, recipe(name, **fields)) for name in names]


def plan(some: list[Entry], steps: int = 10, flops: float = 1e3, **options: Any) -> Plan:
    return make_plan(workload(logistic()), some, EXECUTION, steps, flops, **options)


FINDER = FinderPlan((0, 1), 4, (2,), 3, 4)  # 2 · 4 + 4 · 3 = 20 updates: of 3 · 10, one rate


@pytest.mark.parametrize(("quota", "start"), [(1, 1), (2, 2), (3, 3), (4, 3), (9, 7), (16, 12)])
def test_a_quarter_of_the_quota_is_left_to_extend_the_grid(quota: int, start: int) -> None:
    assert start_of(quota, found=False) == start


@pytest.mark.parametrize(("rates", "start"), [(1, 1), (2, 1), (3, 2), (4, 3), (6, 4), (8, 5), (15, 10)])
def test_around_a_rate_that_was_found_a_third_is_left(rates: int, start: int) -> None:
    assert start_of(rates, found=True) == start


@pytest.mark.parametrize("quota", [2, 5, 9])
def test_every_optimizer_gets_the_same_quota_and_a_grid_around_its_own_centre(quota: int) -> None:
    contenders = plan(entries(*CATALOGUE), quota=quota).contenders

    start = start_of(quota, found=False)
    assert {(c.quota, len(c.rates), c.tuned) for c in contenders} == {(quota, start, True)}
    for contender in contenders:
        assert contender.rates == Grid(CATALOGUE[contender.name].centre, HALF).around(start)
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


@pytest.mark.parametrize(
    ("optimizers", "needed", "looks"),
    [(1, 6, ()), (2, 6, (8, 16)), (3, 7, (9, 18)), (4, 8, (10, 20)), (10, 11, (13, 26))],
)
def test_where_it_is_cheap_seeds_are_twice_what_the_verdict_needs_else_there_are_two_looks(
    optimizers: int, needed: int, looks: tuple[int, ...]
) -> None:
    some = entries(*list(CATALOGUE)[:optimizers])
    limit = SMALL_WORK / (2 * needed * optimizers * 10)  # operations an update, with 10 updates
    cheap, dear = (plan(some, flops=limit * factor) for factor in (0.999, 1.001))

    assert (len(cheap.final_seeds), cheap.looks) == (2 * needed, ())
    assert (len(dear.final_seeds), dear.looks) == (looks[-1] if looks else needed, looks)
    assert len(plan(some, seeds=3).final_seeds) == 3


@pytest.mark.parametrize("optimizers", range(2, 12))
def test_the_first_look_is_the_smallest_that_can_decide(optimizers: int) -> None:
    pairs = optimizers * (optimizers - 1) / 2
    decides = [2.0 ** (1 - n) <= levels((n, 2 * n))[0] / pairs for n in range(2, 40)]

    assert first_look(optimizers) == decides.index(True) + 2


def test_looks_that_are_asked_for_stand_in_the_plan_and_one_number_is_no_look() -> None:
    some = entries("sgd", "adam")

    assert (plan(some, seeds=(6, 9, 14)).looks, len(plan(some, seeds=[6, 9, 14]).final_seeds)) == (
        (6, 9, 14),
        14,
    )
    assert (plan(some, seeds=(6,)).looks, len(plan(some, seeds=(6,)).final_seeds)) == ((), 6)
    assert plan(some, seeds=6) == plan(some, seeds=(6,))


def test_final_seeds_are_fresh() -> None:
    one = plan(entries("sgd", "adam"), seeds=4)

    assert one.tuning_seeds == (0, 1, 2)
    assert one.final_seeds == (3, 4, 5, 6)
    found = plan(entries("sgd", "adam"), seeds=4, finder=replace(FINDER, short_seeds=(4,)))
    assert found.final_seeds == (3, 5, 6, 7)


def test_a_race_after_another_uses_its_tuning_seeds_again_and_no_final_ones() -> None:
    first = plan(entries("sgd", "adam"), seeds=4)
    second = plan(entries("sgd"), seeds=2, after=first)
    assert (second.tuning_seeds, second.final_seeds) == ((0, 1, 2), (7, 8))

    given = plan([Entry("sgd", recipe(), (0.1,))], seeds=4)  # no tuning: seeds 0 to 3 are final ones
    tuned = plan(entries("sgd"), seeds=2, after=given)
    assert (tuned.tuning_seeds, tuned.final_seeds) == ((4, 5, 6), (7, 8))


def test_a_finder_is_paid_for_with_rates_and_leaves_the_rates_open() -> None:
    one = plan([*entries("sgd", "adam"), Entry("given", recipe("adam"), (0.1, 0.2))], finder=FINDER)

    assert one.finder == FINDER
    assert [(c.rates, c.quota, c.tuned, rates_of(one, c)) for c in one.contenders] == [
        ((), 9, True, 8),
        ((), 9, True, 8),
        ((0.1, 0.2), 2, True, 2),
    ]


@pytest.mark.parametrize(("steps", "rates"), [(10, 1), (7, 1), (6, 2), (1, 7)])  # 20 updates of 3 · steps
def test_the_price_of_a_finder_is_rounded_up(steps: int, rates: int) -> None:
    assert finder_rates(FINDER, steps, 3) == rates


def test_a_finder_that_would_take_more_than_a_third_of_the_quota_or_finds_nothing_open_is_left_out() -> None:
    some = entries("sgd", "adam")

    assert plan(some, steps=3, finder=FINDER).finder == FINDER  # 3 rates of 9
    assert plan(some, steps=2, finder=FINDER) == plan(some, steps=2)  # 4 of 9
    assert plan(some, quota=2, finder=FINDER) == plan(some, quota=2)
    given = [Entry("sgd", recipe(), (0.1,))]
    assert plan(given, finder=FINDER) == plan(given)


def test_where_batches_differ_the_contenders_say_so() -> None:
    small, large = recipe(batch_size=5), recipe(batch_size=11)
    one = plan([Entry("small", small), Entry("large", large, steps=4)], steps=10)

    assert (one.batch_size, one.steps, one.epochs) == (5, 10, 2.0)
    assert [(c.batch_size, c.steps) for c in one.contenders] == [(None, None), (11, 4)]


def test_a_finder_costs_all_as_many_rates_also_where_batches_differ() -> None:
    small, large = recipe(batch_size=5), recipe(batch_size=11)
    one = plan([Entry("small", small), Entry("large", large, steps=4)], steps=10, finder=FINDER)

    assert [rates_of(one, c) for c in one.contenders] == [7, 7]  # 20 of 3 · 4: two


def test_tasks_of_one_race_are_named_and_told_apart() -> None:
    works = {"a": workload(logistic()), "b": workload(network())}
    one = make_plan(works, [Entry("a", recipe()), Entry("b", recipe())], EXECUTION, 10, 1.0)

    assert one.task == "logistic and network"
    assert one.task_fingerprint not in {w.fingerprint for w in works.values()}
    swapped = make_plan(works, [Entry("b", recipe()), Entry("a", recipe())], EXECUTION, 10, 1.0)
    assert swapped.task_fingerprint != one.task_fingerprint


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

    # The better half of five rates has a second seed, the better quarter a third.
    assert plan(some, quota=5, seeds=4).trials_at_most == 2 * (5 + 3 + 2) + 3 * 4


def test_a_batch_of_all_and_its_number_are_one_batch_size() -> None:
    some = [Entry("a", recipe(batch_size="all")), Entry("b", recipe(batch_size=22))]

    assert plan(some).batch_size == 22
    assert plan(some, steps=3).epochs == 3.0
    assert {c.batch_size for c in plan(some).contenders} == {None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan([]), "the optimizers of a race must be one or more different names; got []."),
        (lambda: plan(entries("sgd", "sgd")), "one or more different names; got ['sgd', 'sgd']."),
        (lambda: plan(entries("sgd"), quota=0), "rates to try of the race must be a whole number"),
        (lambda: plan(entries("sgd"), seeds=0), "seeds of the race must be a whole number of at"),
        (lambda: plan(entries("sgd"), seeds=(6, 0)), "seeds of the race must be a whole number of at"),
        (lambda: plan(entries("sgd"), seeds=(8, 8)),
         "the looks of a race must be one or more numbers of seeds that increase; got [8, 8]."),
        (lambda: plan(entries("sgd"), seeds=()), "be one or more numbers of seeds that increase; got []."),
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
