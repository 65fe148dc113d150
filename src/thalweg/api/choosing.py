"""How the trials of a race run: decided for each kind of them, and then for all."""

from dataclasses import replace
from typing import Final

from thalweg.executors import auto, fleet
from thalweg.racing import Workloads, largest_round, updates_at_most
from thalweg.racing.plan import by_workload
from thalweg.records import Plan
from thalweg.training.trial import Execution

OPEN: Final = 10**9  # updates, where a time is given and whatever is fastest is to be used


def settled(
    plan: Plan,
    workloads: Workloads,
    how: Execution,
    memory: float | None,
    threads: int | None,
) -> Plan:
    """Return the plan with its executor, threads and waves.

    Trials of several tasks, or of batches of several sizes, are decided one kind after the other. A race has
    one executor: a fleet where every kind is best as one, in waves that fit all; else what suits the others.

    Args:
        plan: whose trials are to run.
        workloads: the task with its data, or one for each contender.
        how: what was asked for; its executor may be "auto".
        memory: bytes that a fleet may take; None: half of what is free.
        threads: what was asked for; None: as many as serve best.

    Raises:
        InputError: what was asked for cannot run a kind.
    """
    trials = largest_round(plan)
    updates = updates_at_most(plan) if plan.budget_seconds is None else OPEN
    kinds = [(w, one) for w, own in by_workload(trials, workloads) for one in fleet.waves(own, len(own))]
    choices = [auto.choose(w, one, how, updates, memory=memory, threads=threads) for w, one in kinds]
    chosen, why = min(choices, key=lambda choice: choice.execution.wave)  # 0: no fleet
    return replace(plan, executor=chosen.executor, threads=chosen.threads, wave=chosen.wave, why=why)
