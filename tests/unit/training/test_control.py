"""Control decides from numbers alone: rates, when to evaluate, what to keep, when it is over."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg import schedules
from thalweg.errors import InputError
from thalweg.records import Direction, Outcome
from thalweg.training.control import Control, Limits, Progress, progress_from_data, progress_to_data
from thalweg.training.recipe import Plateau, Recipe


def limits(steps: int = 1000, batch_size: int = 5, **changed: Any) -> Limits:
    fields: dict[str, Any] = {
        "steps": steps,
        "steps_per_epoch": math.ceil(22 / batch_size),
        "train_examples": 22,
        "batch_size": batch_size,
        "metric": "loss",
        "direction": Direction.LOWER,
    }
    return Limits(**fields | changed)


def control(steps: int = 1000, batch_size: int = 5, recipe: Recipe | None = None, **changed: Any) -> Control:
    return Control(recipe or Recipe("sgd", 1.0), limits(steps, batch_size, **changed))


def feed(control: Control, losses: Sequence[float]) -> None:
    for loss in losses:
        control.after_updates([loss])


def evaluate(control: Control, *losses: float | None) -> list[bool]:
    """Report an update and an evaluation for each loss; return when the weights were to be kept."""
    kept = []
    for loss in losses:
        control.after_updates([1.0])
        kept.append(control.after_evaluation({"loss": loss}))
    return kept


def test_examples_and_epochs_count_the_short_last_batch_as_it_is() -> None:
    # 22 examples in batches of 5: 5, 10, 15, 20, 22
    assert [limits().examples(step) for step in range(8)] == [0, 5, 10, 15, 20, 22, 27, 32]
    assert [limits().epoch(step) for step in (0, 4, 5, 10)] == [0.0, 20 / 22, 1.0, 2.0]


@pytest.mark.parametrize(
    ("steps", "every"), [(1, 1), (20, 1), (21, 1), (41, 2), (80, 4), (100, 5), (1000, 5)]
)
def test_evaluations_come_every_epoch_or_every_twentieth_of_a_short_run(steps: int, every: int) -> None:
    assert limits(steps).evaluate_every == every


@pytest.mark.parametrize(("steps", "due"), [(7, [1, 2, 3, 4, 5, 6, 7]), (83, [*range(4, 83, 4), 83])])
def test_an_evaluation_is_due_at_these_steps_and_after_the_last(steps: int, due: list[int]) -> None:
    one = control(steps)
    seen = []
    for step in range(1, steps + 1):
        feed(one, [1.0])
        if one.evaluation_due():
            seen.append(step)

    assert seen == due


def test_evaluations_come_where_they_are_asked_for_and_after_the_last_update() -> None:
    one = control(50, looks=(0, 3, 4, 40))
    seen, stretches = [], []
    while not one.finished:
        stretches.append(one.stretch())
        one.after_updates([1.0] * stretches[-1])
        if one.evaluation_due():
            seen.append(one.progress.step)
            one.after_evaluation({"loss": 1.0})

    assert seen == [3, 4, 40, 50]
    assert stretches == [3, 1, 32, 4, 10]  # 32 at most: what one that is lost still costs


def test_the_curve_has_window_means_and_its_last_window_may_be_short() -> None:
    one = control(401)
    feed(one, [float(step) for step in range(1, 402)])

    steps, losses = one.progress.loss_steps, one.progress.losses
    assert steps == [*range(3, 400, 3), 401]  # ⌈401 / 200⌉ = 3 updates a window
    assert losses[:2] == [2.0, 5.0]
    assert losses[-1] == 400.5


def rates(recipe: Recipe, steps: int) -> list[float]:
    one = control(steps, recipe=recipe)
    seen = []
    for _ in range(steps):
        seen.append(one.rates(1)[0])
        feed(one, [1.0])
    return seen


def test_the_schedule_multiplies_the_rate_and_takes_the_length_of_the_run() -> None:
    recipe = Recipe("sgd", 0.5, schedule=schedules.Cosine())

    expected = [0.25 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
    assert rates(recipe, 8) == pytest.approx(expected, rel=1e-14)


def test_on_the_clock_of_examples_an_updates_tick_is_its_last_example() -> None:
    recipe = Recipe("sgd", 1.0, schedule=schedules.Linear(length=40, clock="examples"))

    ends = [5, 10, 15, 20, 22, 27, 32, 37, 42, 44]
    expected = [max(0.0, 1 - (end - 1) / 40) for end in ends]
    assert rates(recipe, 10) == pytest.approx(expected, rel=1e-14, abs=1e-15)


def test_a_clock_of_tokens_is_refused() -> None:
    recipe = Recipe(schedule=schedules.Linear(length=40, clock="tokens"))

    with pytest.raises(InputError, match="must be steps or examples on this task; got tokens"):
        control(recipe=recipe)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_trial_as_diverged(loss: float) -> None:
    one = control()
    feed(one, [1.0, loss])

    assert one.progress.outcome is Outcome.DIVERGED
    assert not one.evaluation_due()
    assert one.final_evaluation() is None
    assert (one.progress.loss_steps, one.progress.losses[1:]) == ([2], [])
    assert json.loads(json.dumps(progress_to_data(one.progress), allow_nan=False))["losses"] == [None]


def test_a_loss_a_thousand_times_above_the_first_ends_the_trial_after_twenty_updates_of_it() -> None:
    one = control()
    feed(one, [2.0, *[2002.1] * 19, 1.0, *[2002.1] * 19])
    assert not one.finished  # it came back once, so the count began again

    feed(one, [2002.1])
    assert one.progress.outcome is Outcome.DIVERGED
    assert one.progress.step == 41


def test_a_small_first_loss_does_not_make_an_ordinary_one_look_lost() -> None:
    one = control()
    feed(one, [1e-6, *[999.0] * 100])

    assert not one.finished


def test_a_metric_that_does_not_exist_yet_is_no_gain_and_no_end() -> None:
    one = control(metric="precision", direction=Direction.HIGHER, recipe=Recipe("sgd", 1.0, patience=3))
    kept = []
    for precision in (None, 0.2, None):
        feed(one, [1.0])
        kept.append(one.after_evaluation({"loss": 1.0, "precision": precision}))

    assert kept == [False, True, False]
    assert (one.progress.outcome, one.progress.best_score, one.progress.best_at) == (None, 0.2, 1)


def test_an_evaluation_whose_loss_is_no_number_ends_the_trial_as_diverged() -> None:
    one = control(metric="accuracy", direction=Direction.HIGHER, recipe=Recipe("sgd", 1.0, patience=3))
    feed(one, [1.0] * 5)

    assert not one.after_evaluation({"loss": None, "accuracy": 0.5})
    assert one.progress.outcome is Outcome.DIVERGED
    assert one.final_evaluation() is None


@pytest.mark.parametrize("last", [None, 9.0])
def test_a_trial_that_an_evaluation_ends_closes_the_window_of_its_curve(last: float | None) -> None:
    one = control(1000, batch_size=22, recipe=Recipe("sgd", 1.0, patience=1))  # windows of 5 updates
    for loss, validation in ((3.0, 1.0), (1.0, last)):
        feed(one, [loss])
        one.after_evaluation({"loss": validation})

    assert one.finished
    assert (one.progress.loss_steps, one.progress.losses) == ([2], [2.0])
    assert len(one.progress.window_seconds) == 1


def test_a_trial_ends_after_patience_evaluations_without_gain_and_the_best_one_counts() -> None:
    one = control(recipe=Recipe("sgd", 1.0, patience=2), batch_size=22)

    assert evaluate(one, 3.0, 2.0, 2.5) == [True, True, False]
    assert not one.finished
    assert evaluate(one, 2.0) == [False]  # equal is no gain
    assert one.progress.outcome is Outcome.STOPPED_EARLY
    final = one.final_evaluation()
    assert final is not None
    assert (final.step, final.loss) == (2, 2.0)


def test_patience_follows_the_direction_of_the_metric_that_ranks() -> None:
    one = control(
        recipe=Recipe("sgd", 1.0, patience=9),
        batch_size=22,
        metric="accuracy",
        direction=Direction.HIGHER,
    )
    kept = []
    for accuracy in (0.5, 0.7, 0.6, 0.8):
        feed(one, [1.0])
        kept.append(one.after_evaluation({"loss": 1.0, "accuracy": accuracy}))

    assert kept == [True, True, False, True]


def test_without_patience_no_weights_are_kept_and_the_last_evaluation_counts() -> None:
    one = control(4, batch_size=22)

    assert evaluate(one, 1.0, 2.0, 3.0, 4.0) == [False] * 4
    assert one.progress.outcome is Outcome.COMPLETED
    final = one.final_evaluation()
    assert final is not None
    assert final.loss == 4.0


# Multiples of 1/64 and thresholds that are powers of two: our best − threshold·|best| and torch's
# best·(1 − threshold) are then the same number, without rounding.
@given(
    losses=st.lists(st.integers(1, 256).map(lambda n: n / 64), min_size=1, max_size=40),
    patience=st.integers(1, 4),
    threshold=st.sampled_from([0.0, 2**-10, 0.125]),
)
def test_plateau_lowers_the_rate_exactly_as_torch_does_on_the_same_losses(
    losses: list[float], patience: int, threshold: float
) -> None:
    plateau = Plateau(factor=0.5, patience=patience, threshold=threshold)
    one = control(len(losses) + 1, batch_size=22, recipe=Recipe("sgd", 0.75, plateau=plateau))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.75)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min", factor=0.5, patience=patience, threshold=threshold, threshold_mode="rel", eps=0
    )
    ours, theirs = [], []
    for loss in losses:
        evaluate(one, loss)
        ours.append(one.rates(1)[0])
        torchs.step(loss)
        theirs.append(optimizer.param_groups[0]["lr"])

    assert ours == theirs


def test_plateau_lowers_the_rate_beside_a_schedule() -> None:
    plateau = Plateau(factor=0.1, patience=1)
    recipe = Recipe("sgd", 1.0, schedule=schedules.Linear(length=10), plateau=plateau)
    one = control(10, batch_size=22, recipe=recipe)
    seen = []
    for loss in (1.0, 1.0, 1.0, 0.5):
        seen.append(one.rates(1)[0])
        evaluate(one, loss)

    assert seen == pytest.approx([1.0, 0.9, 0.8, 0.07], rel=1e-14)


@given(st.integers(0, 12))
def test_what_control_remembers_survives_json_at_any_step(stop: int) -> None:
    recipe = Recipe("sgd", 1.0, patience=6, plateau=Plateau(patience=1))
    losses: list[float | None] = [*np.random.default_rng(0).uniform(size=11), None]
    one, other = (control(1000, batch_size=22, recipe=recipe) for _ in range(2))
    for number, loss in enumerate(losses):
        if number == stop:
            text = json.dumps(progress_to_data(other.progress), allow_nan=False)
            other = Control(recipe, limits(1000, 22), progress_from_data(json.loads(text)))
        for each in (one, other):
            if not each.finished:
                evaluate(each, loss)

    assert other.progress == one.progress
    assert type(other.progress.outcome) is type(one.progress.outcome)
    assert one.progress.step > 6  # long enough for the plateau to have acted
    assert one.progress.plateau_factor < 1


def test_nothing_is_remembered_at_the_start() -> None:
    assert progress_from_data(progress_to_data(Progress())) == Progress()


# Stretches: updates that are done before anything is decided.


@given(
    steps=st.integers(1, 700), batch_size=st.integers(1, 22), done=st.integers(0, 699), patience=st.booleans()
)
def test_a_stretch_ends_at_the_next_evaluation_at_the_end_or_after_32_updates(
    steps: int, batch_size: int, done: int, patience: bool
) -> None:
    recipe = Recipe("sgd", 1.0, patience=3 if patience else None)
    done = min(done, steps - 1)
    one = Control(recipe, limits(steps, batch_size), Progress(step=done))
    every = one.limits.evaluate_every

    count = one.stretch()

    assert 1 <= count <= 32
    boundary = min((done // every + 1) * every, steps)
    assert count == min(boundary - done, 32)
    for _ in range(count - 1):  # between, nothing is due
        feed(one, [1.0])
        assert not one.evaluation_due()
    feed(one, [1.0])
    assert one.evaluation_due() == (done + count == boundary)


def test_where_updates_may_be_skipped_a_stretch_is_one_update() -> None:
    """Rates of a stretch are given before it; one that is skipped makes the schedule wait."""
    assert control(recipe=Recipe("sgd", 1.0, wrappers={"skip_nonfinite": 3})).stretch() == 1
    assert control(recipe=Recipe("sgd", 1.0, wrappers={"clip_norm": 3.0})).stretch() == 5


def test_the_rates_of_a_stretch_are_those_of_its_updates_one_by_one() -> None:
    recipe = Recipe("sgd", 0.5, schedule=schedules.Cosine(), plateau=Plateau(patience=1, threshold=0.1))
    one, other = control(40, recipe=recipe), control(40, recipe=recipe)
    while not one.finished:
        count = one.stretch()
        together, single = one.rates(count), []
        for _ in range(count):
            single += other.rates(1)
            feed(other, [1.0])
        one.after_updates([1.0] * count)
        assert together == single
        assert one.evaluation_due() == other.evaluation_due()
        if one.evaluation_due():
            for it in (one, other):
                it.after_evaluation({"loss": 1.0})

    assert one.progress == other.progress
    assert one.progress.plateau_factor < 1


LOSSES = st.sampled_from([1.0, 2.5, 1e4, 0.0, math.inf, math.nan])


@given(
    losses=st.lists(LOSSES, min_size=1, max_size=32),
    noted=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=32, max_size=32),
    before=st.integers(0, 25),
)
def test_a_stretch_is_taken_in_as_its_updates_one_by_one_and_what_follows_its_end_is_left_out(
    losses: list[float], noted: list[tuple[bool, bool]], before: int
) -> None:
    clipped, skipped = ([n[k] for n in noted[: len(losses)]] for k in (0, 1))
    one, other = control(401), control(401)
    for it in (one, other):
        feed(it, [1.0, *[1e4] * min(before, 19)])

    one.after_updates(losses, clipped, skipped, 0.25)
    for place, loss in enumerate(losses):
        if not other.finished:
            other.after_updates([loss], [clipped[place]], [skipped[place]], 0.25)

    assert progress_to_data(one.progress) == progress_to_data(other.progress)
    lost = [place for place, loss in enumerate(losses) if not math.isfinite(loss) and not skipped[place]]
    if lost:
        assert one.progress.outcome is Outcome.DIVERGED
        assert one.progress.step <= 1 + min(before, 19) + lost[0] + 1
