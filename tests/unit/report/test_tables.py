import dataclasses

import pytest

import made_up
from thalweg.records import FinderPlan
from thalweg.report import numbers, tables
from thalweg.report.curves import TargetTime, target_times
from thalweg.report.rates import score_by_rate

RACE = made_up.race()


def planned(race=RACE, **changes):
    return dataclasses.replace(race, plan=dataclasses.replace(race.plan, **changes))


def conditions(race) -> dict[str, str]:
    return dict(tables.conditions(race).rows)


@pytest.mark.parametrize(("vary", "heading"), [("", "Optimizer"), ("batch_size", "batch_size")])
def test_tables_say_what_the_contenders_differ_in(vary, heading):
    race = made_up.race(vary=vary, target=0.9, optimizers=["sgd", "adam"])
    measured = score_by_rate(race)

    for table in (
        tables.final(race),
        tables.ledger(race),
        numbers.to_target(target_times(race), race.plan),
        numbers.by_rate(measured, race.plan),
        numbers.sensitivity(measured, race.plan),
    ):
        assert table.columns[0].name == heading
    assert conditions(race).get("Contenders differ in", "") == vary


def test_the_finder_stands_in_the_ledger_where_it_ran():
    names = [c.name for c in tables.ledger(RACE).columns]
    table = tables.ledger(made_up.race(found={}))

    assert not any("Finder" in name for name in names)
    assert [c.name for c in table.columns][2:4] == ["Finder trials", "Finder updates"]
    assert table.rows[0][2:4] == ("13", "4,660")


def test_the_plan_is_told_in_full():
    plain = conditions(RACE)
    told = conditions(
        planned(
            finder=FinderPlan((1, 2, 3), 120, (4, 5), 430, 5),
            halving=True,
            looks=(6, 12),
            target=0.95,
            budget_seconds=90.0,
        )
    )

    assert plain["Rates"] == "7 for each, on 2 tuning seeds"
    assert plain["Final seeds"] == "12, none of them used in tuning"
    assert {"Target", "Rate finder", "Contenders differ in"}.isdisjoint(plain)
    assert told["Rates"] == (
        "7 for each, on up to 2 tuning seeds: only the better half of them on a second one, and so on"
    )
    assert told["Final seeds"] == (
        "12, none of them used in tuning; the race may end after 6 and 12, and ended after 12"
    )
    assert told["Rate finder"] == (
        "3 sweeps of 120 updates, then 5 rates for 430 updates on 2 seeds, the same for each"
    )
    assert told["Target"] == "accuracy 0.95"
    assert told["Budget of a trial"] == "10 epochs, 8,600 updates of 64: 1 min 30 s were asked for"


def test_budgets_that_differ_are_told_each():
    first, second = made_up.race(
        optimizers=["batch_size=64", "batch_size=32"], vary="batch_size"
    ).plan.contenders
    race = planned(contenders=(first, dataclasses.replace(second, steps=17_200, batch_size=32)))

    assert conditions(race)["Budget of a trial"] == (
        "10 epochs, 8,600 updates of 64; but batch_size=32 17,200 of 32"
    )


def test_the_table_of_the_target_has_the_fastest_first_and_misses_last():
    times = [
        TargetTime("sgd", 0, 8, None, None, None),
        TargetTime("lion", 3, 8, None, None, None),
        TargetTime("adam", 8, 8, 4300.0, 5.0, 1.2),
        TargetTime("muon", 8, 8, 2150.0, 2.5, None),
    ]

    assert numbers.to_target(times, planned(target=0.95).plan).rows == (
        ("muon", "8 of 8", "2,150", "2.5", "–"),
        ("adam", "8 of 8", "4,300", "5", "1.2 s"),
        ("lion", "3 of 8", "–", "–", "–"),
        ("sgd", "0 of 8", "–", "–", "–"),
    )


def test_a_basin_that_is_open_has_at_least_so_many_decades():
    race = made_up.with_scores(
        {
            "sgd": {0.01: [0.5, 0.9], 0.1: [0.5, 0.9]},
            "adam": {0.1: [0.5, 0.5], 1.0: [0.0, 0.2], 0.01: [0.1, 0.1]},
        }
    )
    open_, closed = numbers.sensitivity(score_by_rate(race), race.plan).rows

    assert open_[:4] == ("sgd", "0.01", "0.01 to 0.1", "≥ 1.00")
    assert closed[1] == "0.1"
    assert not closed[3].startswith("≥")


def test_best_of_k_has_a_row_for_every_k_and_dashes_where_there_is_no_number():
    race = made_up.with_scores(
        {"sgd": {0.1: [0.5], 1.0: [None]}, "adam": {0.1: [0.25], 1.0: [0.75], 2.0: [0.5]}}
    )
    table = numbers.best_of_k(score_by_rate(race), race.plan)

    assert [c.name for c in table.columns] == ["Rates tried", "sgd", "adam"]
    assert table.rows == (("1", "–", "0.5000"), ("2", "0.5000", "0.6667"), ("3", "–", "0.7500"))


def test_what_the_finder_tried_and_what_others_would_pick_is_told():
    finding = made_up.finding("adam")
    rows = numbers.swept(finding).rows
    sweeps, short = (
        [row for row in rows if row[0] == "sweeps"],
        [row for row in rows if row[0].startswith("short")],
    )

    assert 8 <= len(sweeps) <= 12
    assert sweeps[0] == ("sweeps", "1e-07", f"{finding.losses[0]:.4g}")
    assert short[0] == ("short race", "0.0001", "0.91")
    assert short[4] == ("short race, diverged", "0.01", "–")
    assert ("pick: valley", "0.00025", "–") in rows
    assert ("pick: slide", "–", "–") in rows
