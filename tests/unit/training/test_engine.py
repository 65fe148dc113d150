"""The engine's gradients, order, clipping, accumulation and measuring, against values known otherwise."""

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from small_tasks import (
    BATCH,
    CLASS_WEIGHTS,
    ROOT,
    TRAIN,
    batch_norm,
    dataset,
    dictionary,
    dropout,
    linear,
    logistic,
    network,
    recipe,
    three_layers,
    trained,
    trial,
    weights,
    workload,
)
from thalweg import seeds
from thalweg.errors import InputError
from thalweg.tasks import Task
from thalweg.tasks.metrics import f1
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import ModelEngine, Updates
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Workload


@pytest.fixture(autouse=True)
def _fenced() -> Any:
    """Engines seed torch's generator; here nothing around them restores it."""
    with isolated_random(0):
        yield


def engine(task: Task | Workload, how: Recipe, seed: int = 0) -> ModelEngine:
    work = workload(task) if isinstance(task, Task) else task
    return ModelEngine(work, trial(how, 100, seed), ROOT)


def gradient(engine: ModelEngine) -> torch.Tensor:
    """All gradients of the last update as one vector."""
    return torch.cat([p.grad.flatten() for p in engine.parameters if p.grad is not None])


def indices_seen(sampling: str, seed: int = 0) -> list[list[int]]:
    """Train two epochs on examples that are their own numbers, and return those of every batch."""
    seen: list[list[int]] = []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        if model.training and recording:
            seen.append(batch[:, 0].long().tolist())
        return model(batch).mean()

    recording = False
    numbered = np.arange(TRAIN)[:, None]
    task = replace(
        linear(),
        make_model=lambda: nn.Linear(1, 1),
        make_data=lambda s: {n: numbered.astype(float) for n in ("train", "validation", "test")},
        loss=loss,
    )
    one = engine(task, recipe("sgd", 1e-9, sampling=sampling), seed)
    recording = True
    for step in range(10):
        one.update([Updates(0, step, [1e-9])])
    return seen


def test_shuffled_visits_every_example_once_an_epoch_in_the_order_of_the_seeds() -> None:
    seen = indices_seen("shuffled")

    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 2] * 2
    for epoch in range(2):
        visited = [*chain(*seen[5 * epoch : 5 * epoch + 5])]
        assert visited == seeds.order(ROOT, 0, epoch, TRAIN).tolist()
    assert seen != indices_seen("shuffled", seed=1)


def test_in_order_visits_the_examples_as_they_come_in_every_epoch() -> None:
    expected = [[*range(start, min(start + BATCH, TRAIN))] for start in range(0, TRAIN, BATCH)]

    assert indices_seen("in order") == indices_seen("in order", seed=1) == expected * 2


def test_with_replacement_draws_as_many_of_all_examples_again_and_again() -> None:
    seen = indices_seen("with replacement")
    first, second = [*chain(*seen[:5])], [*chain(*seen[5:])]

    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 2] * 2
    assert set(first + second) <= set(range(TRAIN))
    assert len(set(first)) < TRAIN  # some twice: all different has a probability of 22!/22²² < 10⁻⁸
    assert first != second
    assert seen == indices_seen("with replacement") != indices_seen("with replacement", seed=1)


def test_a_later_step_needs_no_replay_of_earlier_ones() -> None:
    work = workload(linear())
    one, other = engine(work, recipe()), engine(work, recipe())
    for step in (0, 1, 7):
        one.update([Updates(0, step, [0.0])])
    other.update([Updates(0, 7, [0.0])])

    assert torch.equal(gradient(one), gradient(other))


def test_what_an_update_draws_differs_from_step_to_step_and_from_seed_to_seed() -> None:
    work = workload(dropout())
    how = Recipe("sgd", batch_size="all", sampling="in order")  # so that only the masks differ
    losses = []
    for seed in (0, 1):
        one = engine(work, how, seed)
        one.model.load_state_dict(engine(work, how).model.state_dict())
        losses += [one.update([Updates(0, step, [0.0])])[0].losses[0] for step in (0, 1, 0)]

    assert losses[0] == losses[2]
    assert losses[3] == losses[5]
    assert len(set(losses)) == 4


def clipped(work: Workload, **around: float) -> tuple[torch.Tensor, bool]:
    """Return what one step of plain descent with rate 1 moves, turned round, and whether it was clipped."""
    one = engine(work, recipe("sgd", 1.0, wrappers=around, precision="float64"))
    before = torch.cat([p.detach().flatten().clone() for p in one.parameters])
    ((_, (was_clipped,), _),) = one.update([Updates(0, 0, [1.0])])
    return before - torch.cat([p.detach().flatten() for p in one.parameters]), was_clipped


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clip_norm_scales_the_gradient_to_that_length_where_it_is_longer(limit: float) -> None:
    work = workload(linear())
    whole, _ = clipped(work)

    moved, was_clipped = clipped(work, clip_norm=limit)

    expected = whole * min(1.0, limit / whole.norm().item())
    # torch divides by the norm plus 1e-6; a difference of parameters of size 1 is rounded at 1e-16
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-14)
    assert was_clipped == (limit < 1)


def test_clip_value_cuts_each_entry_and_says_whether_it_did() -> None:
    work = workload(linear())
    whole, _ = clipped(work)

    assert whole.abs().max() > 0.5 > whole.abs().min()
    moved, was_clipped = clipped(work, clip_value=0.5)
    torch.testing.assert_close(moved, whole.clamp(-0.5, 0.5), rtol=0, atol=1e-14)
    assert was_clipped
    assert clipped(work, clip_value=1e6)[1] is False


def steps(work: Workload, how: Recipe, count: int) -> tuple[ModelEngine, list[float], list[torch.Tensor]]:
    one = engine(work, how)
    losses, gradients = [], []
    for step in range(count):
        (((loss,), _, _),) = one.update([Updates(0, step, [how.rate or 0.0])])
        losses.append(loss)
        gradients.append(gradient(one))
    return one, losses, gradients


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("task", [linear, logistic, dictionary, dataset], ids=lambda t: t.__name__)
def test_accumulation_equals_the_big_batch(task: Any, optimizer: str) -> None:
    work = workload(task())
    big = Recipe(optimizer, 0.05, batch_size=10, precision="float64")
    # 10 = 4 + 4 + 2, and the short last batch 2 = 2
    one, losses, gradients = steps(work, big, 9)
    other, parts_losses, parts_gradients = steps(work, replace(big, micro_batch=4), 9)

    # float64: sums in another order
    assert parts_losses == pytest.approx(losses, rel=1e-12)
    for a, b in zip(gradients, parts_gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-13)
    for a, b in zip(weights(one), weights(other), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)


def test_with_class_weights_the_mean_of_the_parts_would_be_another_gradient() -> None:
    """The test above would not notice if both ways ignored the weights; this is the gradient by hand."""
    work = workload(logistic())
    one = engine(work, Recipe("sgd", 0.05, batch_size="all", micro_batch=4, precision="float64"))
    weight, bias = (p.detach().clone().requires_grad_() for p in one.parameters)
    one.update([Updates(0, 0, [0.05])])

    x, y = work.data.train.batch(np.arange(TRAIN))
    each = functional.cross_entropy(x.double() @ weight.T + bias, y, reduction="none")
    w = CLASS_WEIGHTS.double()[y]
    ((w * each).sum() / w.sum()).backward()
    by_hand = torch.cat([weight.grad.flatten(), bias.grad])  # type: ignore[union-attr]
    torch.testing.assert_close(gradient(one), by_hand, rtol=1e-12, atol=1e-13)


def test_a_micro_batch_as_large_as_the_batch_changes_no_bit() -> None:
    work = workload(dropout())
    one, other = (steps(work, recipe("adam", 0.01, micro_batch=m), 7)[0] for m in (None, BATCH))

    assert all(map(torch.equal, weights(one), weights(other)))


def test_accumulation_is_refused_in_words_where_batch_norm_makes_it_untrue() -> None:
    work = workload(batch_norm())
    with pytest.raises(InputError) as refusal:
        engine(work, Recipe("sgd", batch_size=10, micro_batch=4))
    assert str(refusal.value) == (
        "micro_batch of the recipe must be left out for a model with BatchNorm, whose statistics are "
        "those of what it sees at once; got 4. Leave micro_batch out, or use GroupNorm or LayerNorm."
    )
    engine(work, Recipe("sgd", batch_size=10, micro_batch=10))  # nothing is accumulated here


def test_a_batch_of_all_is_one_update_an_epoch_with_the_gradient_of_all() -> None:
    work = workload(linear())
    whole = Recipe("sgd", 0.05, batch_size="all", precision="float64")
    assert work.limits(trial(whole, 3)).steps_per_epoch == 1
    one = engine(work, whole)
    weight, bias = (p.detach().clone() for p in one.parameters)
    (((loss,), _, _),) = one.update([Updates(0, 0, [0.05])])

    x, y = (t.double() for t in work.data.train.batch(np.arange(TRAIN)))
    residual = x @ weight.T + bias - y
    by_hand = torch.cat([2 / TRAIN * (residual.T @ x).flatten(), 2 / TRAIN * residual.sum(0)])
    torch.testing.assert_close(gradient(one), by_hand, rtol=1e-12, atol=1e-13)
    assert loss == pytest.approx(residual.square().mean().item(), rel=1e-12)


def test_what_a_rule_starts_from_is_taken_from_the_recipe() -> None:
    one = engine(linear(), recipe("adagrad", 0.1, {"initial_accumulator_value": 4.0}, precision="float64"))
    before = weights(one)
    one.update([Updates(0, 0, [0.1])])

    g = gradient(one)
    step = torch.cat([(a - b).flatten() for a, b in zip(before, weights(one), strict=True)])
    torch.testing.assert_close(step, 0.1 * g / ((4 + g * g).sqrt() + 1e-10), rtol=1e-12, atol=1e-15)


def test_evaluation_is_the_mean_of_one_big_batch_with_class_weights_and_pairs() -> None:
    """9,000 examples are measured in three batches, the last of which is short."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(9000, 3)), generator.integers(0, 3, 9000)

    def metrics(model: nn.Module, batch: Any) -> dict[str, Any]:
        logits = model(batch[0])
        return {"f1": f1(logits.argmax(1), batch[1]), "error": (logits[:, 0] - batch[1]).square().mean()}

    work = workload(
        replace(
            logistic(),
            make_data=lambda seed: ((x, y), (x, y), (x, y)),
            metrics=metrics,
            directions={"f1": "higher", "error": "lower"},
        )
    )
    one = engine(work, recipe(precision="float64"))
    (measured,) = one.measure([0], work.data.validation)

    inputs, labels = (t for t in work.data.validation.batch(np.arange(9000)))
    logits = one.model(inputs.double()).detach()
    predicted = logits.argmax(1)
    hits = ((predicted == 1) & (labels == 1)).sum().item()
    assert measured == {
        "loss": pytest.approx(
            functional.cross_entropy(logits, labels, weight=CLASS_WEIGHTS.double()).item(), rel=1e-12
        ),
        "f1": pytest.approx(2 * hits / ((predicted == 1).sum() + (labels == 1).sum()).item(), rel=1e-12),
        "error": pytest.approx((logits[:, 0] - labels).square().mean().item(), rel=1e-12),
    }


def test_measuring_leaves_weights_and_running_means_as_they_are_and_dropout_out() -> None:
    for task in (batch_norm(), dropout()):
        work = workload(task)
        one = engine(work, recipe())
        before = weights(one)
        first, second = (one.measure([0], work.data.train) for _ in range(2))

        assert first == second
        assert all(map(torch.equal, before, weights(one)))


def test_a_metric_whose_denominator_adds_up_to_nothing_does_not_exist() -> None:
    task = replace(
        logistic(), metrics=lambda model, batch: {"recall": (torch.tensor(0.0), torch.tensor(0.0))}
    )
    one = engine(task, recipe())

    (measured,) = one.measure([0], one.train_part)
    assert measured["recall"] is None
    assert measured["loss"] is not None


def test_precision_is_that_of_weights_data_and_states() -> None:
    for precision, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        one, _ = trained(workload(linear()), trial(recipe("momentum", precision=precision), 3))

        state = one.optimizer.state[one.parameters[0]]
        assert {t.dtype for t in weights(one)} == {dtype} == {state["momentum_buffer"].dtype}


@pytest.mark.parametrize("optimizer", ["sophia-h", "sophia-g", "sgd with sam"])
def test_a_second_look_at_a_batch_leaves_the_running_means_of_batch_norm_alone(optimizer: str) -> None:
    name, _, around = optimizer.partition(" with ")
    work = workload(batch_norm())
    once, twice = (
        engine(work, recipe(n, wrappers=w)) for n, w in (("sgd", {}), (name, {around: {}} if around else {}))
    )
    for one in (once, twice):
        one.update([Updates(0, 0, [0.0])])

    means = [[b.clone() for b in one.model.buffers()] for one in (once, twice)]
    assert means[0][0].abs().sum() > 0
    assert all(map(torch.equal, *means))


def curvatures(work: Workload, how: Recipe) -> list[torch.Tensor]:
    return [s["hessian"] for s in steps(work, how, 3)[0].optimizer.state.values()]


def test_the_curvature_of_a_batch_in_parts_is_that_of_the_batch() -> None:
    work = workload(network())
    big = Recipe("sophia-h", 0.01, {"update_every": 1}, batch_size=10, precision="float64")

    whole, parts = (curvatures(work, how) for how in (big, replace(big, micro_batch=4)))
    assert whole[0].abs().max() > 1e-4
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)


def test_sampled_curvature_counts_what_the_loss_is_the_mean_of_in_parts_as_in_one_piece() -> None:
    """No labels are drawn here, so that parts can be compared; a weight of 3 an example, as of tokens."""
    task = replace(linear(), sampled_loss=lambda model, batch, generator: linear().loss(model, batch))
    of_three = replace(task, loss_weight=lambda batch: 3 * len(batch[0]))
    big = Recipe("sophia-g", 1e-9, {"update_every": 1}, batch_size=10, precision="float64")

    whole = curvatures(workload(task), big)
    for other, times in (
        (curvatures(workload(task), replace(big, micro_batch=4)), 1),
        (curvatures(workload(of_three), replace(big, micro_batch=4)), 3),
        (curvatures(workload(of_three), big), 3),
    ):
        for a, b in zip(whole, other, strict=True):
            torch.testing.assert_close(b, times * a, rtol=1e-6, atol=1e-12)  # the weights move by 1e-9


@pytest.mark.parametrize(
    ("sampled", "message"),
    [
        (None, "the task linear must have sampled_loss(model, batch, generator) for Sophia-G; got none."),
        (lambda m, b, g: m(b[0]), "sampled_loss of linear must return a scalar tensor; got shape (5, 1)."),
        (lambda m, b, g: 3.0, "sampled_loss of linear must return a scalar tensor; got 3.0."),
    ],
)
def test_sophia_g_refuses_a_task_that_cannot_draw_labels(sampled: Any, message: str) -> None:
    one = engine(replace(linear(), sampled_loss=sampled), recipe("sophia-g"))
    with pytest.raises(InputError) as refusal:
        one.update([Updates(0, 0, [0.1])])
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("task", [batch_norm, dropout], ids=lambda t: t.__name__)
@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize(
    ("optimizer", "around"),
    [
        ("schedule-free-sgd", {}),
        ("adam", {"ema": 0.5}),
        ("asgd", {}),
        ("sgd", {"lookahead": 4}),
        ("sgd", {"swa": 2}),
    ],
)
def test_the_weights_that_remain_are_those_that_were_measured(
    optimizer: str, around: dict[str, Any], patience: int | None, task: Any
) -> None:
    work = workload(task())
    one, control = trained(work, trial(recipe(optimizer, 0.5, wrappers=around, patience=patience), 30))
    final = control.final_evaluation()
    assert final is not None
    trained_ones = [p.detach().clone() for p in one.parameters]
    one.finish(0)
    (measured,) = one.measure([0], work.data.validation)

    assert measured == {"loss": final.loss, **final.metrics}
    assert not all(map(torch.equal, trained_ones, one.parameters))
    plain = work.task.model(0)
    plain.load_state_dict(one.model.state_dict())  # what is saved
    plain.eval()
    with torch.no_grad():
        losses = [work.task.loss(plain, b).item() for b in work.data.validation.batches(6)]
    assert losses == pytest.approx([final.loss], rel=1e-6)


def test_the_schedule_moves_the_rates_of_both_rules_alike() -> None:
    one = engine(three_layers(), recipe("muon", 0.02, {"adjust_lr_fn": "original"}))
    shares = {}
    for step, rate in enumerate((0.02, 0.005)):
        one.update([Updates(0, step, [rate])])
        shares[rate] = {g["rule"]: g["lr"] / rate for g in one.optimizer.param_groups}

    assert shares[0.02] == pytest.approx({"muon": 1.0, "adamw": 0.015}, rel=1e-12)
    assert shares[0.005] == pytest.approx(shares[0.02], rel=1e-12)


def test_a_wrapper_of_decay_takes_the_place_of_the_methods_own() -> None:
    one = engine(linear(), recipe("adamw", 0.1, wrappers={"decoupled_decay": 0.25}, precision="float64"))
    assert one.optimizer.param_groups[0]["weight_decay"] == 0.25
    with pytest.raises(InputError, match="weight_decay of AdamW must be given once"):
        engine(linear(), recipe("adamw", 0.1, {"weight_decay": 0.1}, wrappers={"decoupled_decay": 0.25}))
