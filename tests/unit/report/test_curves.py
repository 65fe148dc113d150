import dataclasses

from hypothesis import given
from hypothesis import strategies as st

import made_up
from thalweg.records import Direction, Race, Stage
from thalweg.report import summary
from thalweg.report.curves import (
    caption,
    checkpoints,
    convergence,
    target_times,
    training_loss,
    validation_score,
)


def test_few_seeds_give_median_and_range():
    [curve] = training_loss(made_up.with_losses({"sgd": [[4, 3, 2, 1], [8, 6, 4, 2], [5, 5, 5, 5]]}))

    assert curve.steps == (1, 2, 3, 4)
    assert curve.epochs == (0.5, 1.0, 1.5, 2.0)
    assert curve.median == (5, 5, 4, 2)
    assert curve.low == (4, 3, 2, 1)
    assert curve.high == (8, 6, 5, 5)
    assert (curve.seeds, curve.diverged, curve.quartiles) == (3, 0, False)


def test_five_seeds_give_median_and_quartiles():
    [curve] = training_loss(made_up.with_losses({"sgd": [[x] * 4 for x in (1, 2, 3, 4, 50)]}))

    assert (curve.low[0], curve.median[0], curve.high[0]) == (2, 3, 4)
    assert curve.quartiles


def test_diverged_seeds_are_left_out_and_counted():
    [curve] = training_loss(made_up.with_losses({"sgd": [[4, 3, 2, 1], None, None]}))

    assert curve.median == (4, 3, 2, 1)
    assert (curve.seeds, curve.diverged) == (1, 2)


def test_seed_that_stopped_early_keeps_its_last_value():
    [curve] = training_loss(made_up.with_losses({"sgd": [[4, 3], [4, 3, 2, 1]]}))

    assert curve.median == (4, 3, 2.5, 2)


def test_curve_begins_where_all_seeds_have_begun():
    race = made_up.with_losses({"sgd": [[None, 3, 2, 1], [5, 4, 3, 2]]})

    assert training_loss(race)[0].steps == (2, 3, 4)


def test_validation_curve_takes_the_metric_that_ranks():
    race = made_up.with_losses({"sgd": [[4, 3, 2, 1]]}, scores={"sgd": [[0.25, 0.5, None, 0.75]]})
    by_loss = dataclasses.replace(race, plan=dataclasses.replace(race.plan, metric="loss"))

    assert validation_score(race)[0].median == (0.25, 0.5, 0.75)
    assert validation_score(by_loss) == ()  # these evaluations have no loss


def test_tuning_trials_are_no_part_of_a_curve():
    race = made_up.race(final_seeds=2)
    finals = tuple(t for t in race.traces if t.stage is Stage.FINAL)

    assert training_loss(race) == training_loss(dataclasses.replace(race, traces=finals))


def test_fastest_is_first_at_the_worst_of_the_final_losses():
    race = made_up.with_losses({"sgd": [[8, 6, 5, 4]], "momentum": [[6, 4, 3, 3]], "adam": [[4, 2, 1, 1]]})
    found = convergence(training_loss(race))

    assert found.level == 4
    assert [(a.optimizer, a.step, a.epoch) for a in found.arrivals] == [
        ("adam", 1, 0.5),
        ("momentum", 2, 1.0),
        ("sgd", 4, 2.0),
    ]
    assert summary.convergence_sentence(race) == (
        "Fastest to converge: adam reaches a training loss of 4, which all three reach, after 0.5 epochs; "
        "momentum needs 1.0 and sgd 2.0."
    )


@given(st.lists(st.lists(st.floats(0.01, 10), min_size=4, max_size=4), min_size=1, max_size=4))
def test_every_optimizer_arrives_and_none_before_its_loss_is_there(curves):
    names = ["sgd", "momentum", "rmsprop", "adam"][: len(curves)]
    drawn = training_loss(
        made_up.with_losses({name: [losses] for name, losses in zip(names, curves, strict=True)})
    )
    found = convergence(drawn)

    assert {a.optimizer for a in found.arrivals} == set(names)
    for arrival in found.arrivals:
        losses = curves[names.index(arrival.optimizer)]
        assert losses[arrival.step - 1] <= found.level
        assert all(loss > found.level for loss in losses[: arrival.step - 1])


def test_caption_says_what_the_band_is_and_who_is_missing():
    few, many = [[4, 3, 2, 1]] * 2, [[4, 3, 2, 1]] * 4

    def said(losses):
        return caption(training_loss(made_up.with_losses(losses)))

    assert said({"sgd": few}) == "Line: median over 2 seeds. Band: from the lowest to the highest."
    assert said({"sgd": many, "adam": [*many[:3], None]}) == (
        "Line: median over 3 to 4 seeds. Band: the middle half of them, with fewer than four from the "
        "lowest to the highest. Diverged and left out here: adam on 1 of 4 seeds."
    )
    assert "Band: the middle half of them." in said({"sgd": many})


def test_checkpoints_end_with_the_end():
    curves = training_loss(made_up.with_losses({"sgd": [[4, 3, 2, 1]], "adam": [[2, 1]]}))

    assert checkpoints(curves, count=2) == ((1.0, (3, 1)), (2.0, (1, 1)))


def timed(race, seconds) -> Race:
    """Give the final trials of each optimizer these times of a step."""
    traces = []
    for contender in race.plan.contenders:
        finals = [t for t in race.traces if t.contender == contender.name and t.stage is Stage.FINAL]
        pairs = zip(finals, seconds[contender.name], strict=True)
        traces += [dataclasses.replace(t, step_seconds=x) for t, x in pairs]
    return dataclasses.replace(race, traces=tuple(traces))


def test_seconds_are_steps_times_the_median_time_of_a_step():
    race = made_up.with_losses({"sgd": [[4, 3, 2, 1]] * 3, "adam": [[4, 3, 2, 1]] * 3})
    sgd, adam = training_loss(timed(race, {"sgd": [0.5, 0.25, 4.0], "adam": [None] * 3}))

    assert sgd.seconds == (0.5, 1.0, 1.5, 2.0)
    assert adam.seconds is None


def test_epochs_go_by_the_batch_size_of_each():
    race = made_up.with_losses({"batch_size=4": [[4, 3, 2, 1]], "batch_size=2": [[4, 3, 2, 1]]})
    first, second = race.plan.contenders
    contenders = (first, dataclasses.replace(second, batch_size=2, steps=8))
    plan = dataclasses.replace(race.plan, contenders=contenders, batch_size=4, train_examples=7)
    drawn = training_loss(dataclasses.replace(race, plan=plan))

    assert drawn[0].epochs == (0.5, 1.0, 1.5, 2.0)
    assert drawn[1].epochs == (0.25, 0.5, 0.75, 1.0)  # four updates an epoch


def reaching(scores, **changes) -> Race:
    """Make a race to an accuracy of 0.5 from the scores of each seed after 1, 2, 3 and 4 updates."""
    losses = {name: [[4, 3, 2, 1]] * len(seeds) for name, seeds in scores.items()}
    race = made_up.with_losses(losses, scores=scores)
    return dataclasses.replace(race, plan=dataclasses.replace(race.plan, target=0.5, **changes))


def test_time_to_target_is_the_median_over_the_seeds_a_miss_being_latest():
    never, late, soon = [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.5], [0.6, 0.2, 0.2, 0.9]
    race = reaching({"sgd": [never, never, soon], "adam": [late, never, soon]})
    sgd, adam = target_times(timed(race, {"sgd": [0.5] * 3, "adam": [0.25] * 3}))

    assert (sgd.reached, sgd.seeds, sgd.steps, sgd.epochs, sgd.seconds) == (1, 3, None, None, None)
    assert (adam.reached, adam.seeds, adam.steps, adam.epochs, adam.seconds) == (2, 3, 4, 2.0, 1.0)


def test_a_target_that_half_of_an_even_number_of_seeds_miss_has_no_median():
    never, soon = [0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]

    assert target_times(reaching({"sgd": [never, soon]}))[0].steps is None
    assert target_times(reaching({"sgd": [soon, soon]}))[0].steps == 1


def test_a_target_of_a_loss_is_reached_from_above():
    race = reaching({"sgd": [[0.9, 0.6, 0.4, 0.3]]}, direction=Direction.LOWER)

    assert target_times(race)[0].steps == 3


def test_a_race_without_a_target_has_no_time_to_it():
    assert target_times(made_up.race()) == ()
