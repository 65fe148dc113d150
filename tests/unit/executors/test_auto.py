"""Which executor is chosen, why, and what is refused."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_tasks import EXECUTION, cross_entropy, dropout, network, recipe, trial, workload
from thalweg.errors import InputError
from thalweg.executors import auto, fleet, processes, serial
from thalweg.executors.auto import Choice, choose
from thalweg.records import Stage
from thalweg.tasks import Task
from thalweg.training.fleet.memory import Footprint, footprint
from thalweg.training.trial import Trial, Workload

LONG = 10**8  # updates: so much work that whatever is fastest pays
SENTENCE = re.compile(r".+ must .+; got .+\.( .+)?")


def asked_for(name: str, threads: int = 1) -> Any:
    return replace(EXECUTION, executor=name, threads=threads)


def asked(seeds: int = 4, steps: int = 20, **fields: Any) -> list[Trial]:
    hows = [recipe(name, 0.01, **fields) for name in ("sgd", "adam")]
    return [trial(how, steps, seed, Stage.FINAL) for how in hows for seed in range(seeds)]


def looking() -> Task:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        found = cross_entropy(model, batch)
        return found if found > 0 else -found

    return replace(network(), loss=loss)


def test_the_names_are_those_of_the_executors_and_auto() -> None:
    assert auto.NAMES == ("auto", "serial", "processes", "fleet")
    assert list(auto.EXECUTORS.values()) == [serial.run, processes.run, fleet.run]
    for name in auto.NAMES:
        auto.check(name)


@pytest.mark.parametrize(
    ("name", "do"),
    [
        ("fleeet", " Did you mean fleet?"),
        ("proceses", " Did you mean processes?"),
        ("Serial", " Did you mean serial?"),
        ("ray", ""),
    ],
)
def test_an_executor_that_there_is_not_is_refused_with_the_nearest(name: str, do: str) -> None:
    with pytest.raises(InputError) as refused:
        auto.check(name)

    said = str(refused.value)
    assert said.startswith(f"the executor must be one of auto, serial, processes, fleet; got {name!r}.{do}")


@pytest.mark.parametrize(("threads", "given"), [(None, 1), (None, 2), (3, 3)])
def test_serial_and_processes_are_as_asked_and_nothing_is_timed(threads: int | None, given: int) -> None:
    nothing = replace(workload(network()), task=replace(network(), make_model=lambda: 1 / 0))

    one = choose(nothing, asked(), asked_for("serial", given), LONG, threads=threads)
    many = choose(nothing, asked(), asked_for("processes", given), LONG, threads=threads)

    assert one == Choice(asked_for("serial", given), "as asked")
    assert many == Choice(asked_for("processes", threads or 1), "as asked")


@pytest.mark.parametrize(
    ("trials", "updates"), [(asked(), 100), (asked()[:1], LONG)], ids=["few updates", "one trial"]
)
def test_little_work_is_not_worth_another_way(trials: Sequence[Trial], updates: int) -> None:
    found = choose(workload(network()), trials, asked_for("auto"), updates)

    if updates == 100:
        assert found.execution == asked_for("serial")
        assert re.fullmatch(
            r"serial [\d.]+ (µs|ms) an update: all of it takes about [\d.]+ (µs|ms|s)", found.why
        )
    else:
        assert found.execution.executor != "fleet"


def test_much_work_of_a_small_network_is_a_fleet_s() -> None:
    """A call of torch takes longer than all that 40 replicas compute: by a factor of ten and more."""
    found = choose(workload(network()), asked(seeds=20), asked_for("auto"), LONG)

    assert found.execution.executor == "fleet"
    assert 0 < found.execution.wave <= 40
    assert found.execution.threads in (1, processes.workers())
    assert re.match(r"fleet in waves of \d+ [\d.]+ µs an update, ", found.why)
    assert ", serial " in found.why


def test_threads_that_were_asked_for_are_used() -> None:
    for threads in (1, 2):
        found = choose(workload(network()), asked(), asked_for("fleet"), LONG, threads=threads)
        assert (found.execution.executor, found.execution.threads) == ("fleet", threads)


def test_what_cannot_be_stacked_is_refused_where_a_fleet_is_asked_for() -> None:
    with pytest.raises(InputError) as refused:
        choose(workload(looking()), asked(), asked_for("fleet"), LONG)

    assert str(refused.value) == (
        "the executor must be one that can run this model; got fleet, but it cannot be stacked: vmap: It "
        "looks like you're attempting to use a Tensor in some data-dependent control flow. "
        "Take --executor processes, or auto."
    )


def test_what_cannot_be_stacked_runs_otherwise_where_it_is_left_open_and_why_says_so() -> None:
    found = choose(workload(looking()), asked(), asked_for("auto"), LONG)

    assert found.execution.executor in ("serial", "processes")
    assert found.execution.wave == 0
    assert "; no fleet, for it cannot be stacked: vmap: It looks like you're attempting" in found.why
    assert "\n" not in found.why


class Private(nn.Module):
    """A projection that is neither parameter nor buffer, and another one for each seed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.projection = torch.randn(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x @ self.projection)
        return result


def test_what_only_another_seed_would_show_is_found() -> None:
    work = workload(replace(network(), make_model=Private))

    with pytest.raises(InputError, match=r"got fleet, but a replica's loss is [\d.]+, and the same model's"):
        choose(work, asked(), asked_for("fleet"), LONG)
    # of one seed it is the same for all
    assert choose(work, asked(seeds=1), asked_for("fleet"), LONG).execution.wave == 2


def test_recipes_that_are_no_one_s_replicas_are_tried_apart() -> None:
    trials = [*asked(sampling="in order"), *asked(), *asked(precision="float64"), *asked(micro_batch=2)]

    assert choose(workload(network()), trials, asked_for("fleet"), LONG).execution.executor == "fleet"


def foretold(work: Workload, trials: Sequence[Trial]) -> Footprint:
    """One of each kind, as `choose` takes them."""
    kinds = list({t.contender: t for t in trials}.values())
    return footprint(work, kinds, replace(EXECUTION, executor="fleet", wave=len(kinds)))


@pytest.mark.parametrize("replicas", [1.5, 3.5, 20.2, 100.0])
@pytest.mark.parametrize("task", [network, dropout], ids=lambda t: t.__name__)
def test_a_wave_stays_within_the_memory_that_it_may_take(task: Any, replicas: float) -> None:
    work, trials = workload(task()), asked(seeds=12)
    takes = foretold(work, trials)
    memory = max(line.fixed + replicas * line.replica for line in takes)

    found = choose(work, trials, asked_for("fleet"), LONG, memory=memory)

    assert 1 <= found.execution.wave <= 24
    assert takes.of(found.execution.wave) <= memory
    assert all(len(wave) <= found.execution.wave for wave in fleet.waves(trials, found.execution.wave))


def test_less_memory_than_one_replica_is_refused_in_words_and_otherwise_a_reason() -> None:
    work = workload(network())
    too_little = foretold(work, asked()).of(1) / 2

    with pytest.raises(InputError) as refused:
        choose(work, asked(), asked_for("fleet"), LONG, memory=too_little)
    said = str(refused.value)
    assert SENTENCE.fullmatch(said)
    assert re.match(
        r"the memory of a fleet must be at least 0\.\d+ MiB, for one replica; got 0\.\d+ MiB\.", said
    )

    found = choose(work, asked(), asked_for("auto"), LONG, memory=too_little)
    assert found.execution.executor in ("serial", "processes")
    assert re.search(r"; no fleet, for one replica takes 0\.\d+ MiB, and it may take 0\.\d+ MiB$", found.why)


def test_choosing_leaves_threads_and_random_numbers_as_they_are() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    choose(workload(dropout()), asked(), asked_for("auto"), LONG)

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_model_that_draws_random_numbers_is_said_to_draw_others_in_a_fleet() -> None:
    drawing = choose(workload(dropout()), asked(), asked_for("fleet"), 10_000).why
    plain = choose(workload(network()), asked(), asked_for("fleet"), 10_000).why

    assert drawing.endswith("; the model draws random numbers, which are others in a fleet than alone")
    assert "draws" not in plain
