"""Made-up but plausible races for tests: seeded random curves, nothing trained.

The curves follow a power law with noise, each optimizer with its own speed and final score; the
verdict is really judged on these numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from thalweg.evidence import Finals, judge
from thalweg.records import (
    Contender,
    Direction,
    Evaluation,
    Ledger,
    LedgerRow,
    Outcome,
    Plan,
    Race,
    Stage,
    Trace,
    Verdict,
)

# name: (best rate, steps to halve the loss, final accuracy, accuracy lost between training and test, state)
KNOWN = {
    "sgd": (0.1, 900.0, 0.9655, 0.004, 0.0),
    "momentum": (0.03, 260.0, 0.9752, 0.011, 4.0),
    "rmsprop": (0.001, 160.0, 0.9768, 0.016, 4.0),
    "adam": (0.001, 150.0, 0.9774, 0.017, 8.0),
}
RULES = {"momentum": {"rule": "sgd", "momentum": 0.9}}
WINDOW = 100
START = "2026-01-05T10:00:00+00:00"


def race(
    *,
    seed: int = 0,
    optimizers: Sequence[str] = tuple(KNOWN),
    final_seeds: int = 12,
    tuning_seeds: int = 2,
    rates: int = 7,  # a single rate is given, not tuned
    epochs: int = 10,
    task: str = "mnist",
    metric: str = "accuracy",  # or "loss"
    diverged: Mapping[str, int] = {},  # final seeds that diverge, per optimizer
    finished: bool = True,
    command: str = "thalweg showdown mnist --optimizers sgd,adam --epochs 10 --batch-size 64",
) -> Race:
    """Make a race; the same arguments make the same race. Unknown optimizers behave like momentum."""
    generator = np.random.default_rng(seed)
    contenders = tuple(
        Contender(
            name=name,
            recipe=_recipe(name),
            rates=_grid(name, rates),
            quota=rates if rates > 1 else 1,
            tuned=rates > 1,
        )
        for name in optimizers
    )
    plan = Plan(
        task=task,
        task_fingerprint="5b1d" * 4,
        metric=metric,
        direction=Direction.LOWER if metric == "loss" else Direction.HIGHER,
        contenders=contenders,
        steps=860 * epochs,
        epochs=float(epochs),
        batch_size=64,
        train_examples=55_000,
        validation_examples=5_000,
        test_examples=10_000,
        seed=seed,
        tuning_seeds=tuple(range(100, 100 + tuning_seeds)) if rates > 1 else (),
        final_seeds=tuple(range(200, 200 + final_seeds)),
        executor="serial",
        threads=2,
        device="cpu",
        versions={"thalweg": "0.1.0", "torch": "2.13.0", "numpy": "2.2.0", "python": "3.11.2"},
    )
    luck = dict.fromkeys(plan.tuning_seeds + plan.final_seeds, 0.0)
    luck = {s: float(generator.normal(0, 0.0012)) for s in luck}  # what all optimizers share on a seed
    traces = [
        _trace(
            plan, contender, Stage.TUNING, rate, s, luck[s], rate > 6 * _known(contender.name)[0], generator
        )
        for contender in contenders
        if contender.tuned
        for rate in contender.rates
        for s in plan.tuning_seeds
    ]
    for contender in contenders:
        best = min(contender.rates, key=lambda rate: abs(np.log(rate / _known(contender.name)[0])))
        for i, s in enumerate(plan.final_seeds):
            lost = i < diverged.get(contender.name, 0)
            traces.append(_trace(plan, contender, Stage.FINAL, best, s, luck[s], lost, generator))
    if not finished:
        traces = traces[: 2 * len(traces) // 3]
    return Race(
        key=f"made-up-{seed}",
        plan=plan,
        traces=tuple(traces),
        verdict=_verdict(plan, traces) if finished else None,
        ledger=_ledger(plan, traces) if finished else None,
        environment={"machine": "x86_64", "processor": "2 cores", "system": "Linux"},
        command=command,
        started_at=START,
        finished_at="2026-01-05T10:21:40+00:00" if finished else None,
    )


def _known(name: str) -> tuple[float, float, float, float, float]:
    return KNOWN.get(name, KNOWN["momentum"])


def _recipe(name: str) -> dict[str, object]:
    return {"optimizer": name, **RULES.get(name, {}), "lr": _known(name)[0], "batch_size": 64}


def _grid(name: str, rates: int) -> tuple[float, ...]:
    centre = _known(name)[0]
    return tuple(float(f"{centre * 10 ** ((i - rates // 2) / 2):.3g}") for i in range(rates))


def _trace(
    plan: Plan,
    contender: Contender,
    stage: Stage,
    rate: float,
    seed: int,
    luck: float,
    diverged: bool,
    generator: np.random.Generator,
) -> Trace:
    best, halving, accuracy, gap, state = _known(contender.name)
    off = abs(float(np.log10(rate / best)))  # decades from the best rate
    halving *= 1 + 4 * off
    final = accuracy - 0.012 * off**2 + luck + float(generator.normal(0, 0.0006))
    ended = plan.steps // 5 if diverged else plan.steps
    steps = tuple(range(WINDOW, ended + 1, WINDOW))
    losses = [2.3 * (1 + s / halving) ** -1.1 * float(np.exp(generator.normal(0, 0.08))) for s in steps]
    evaluations = []
    per_epoch = round(plan.steps / plan.epochs)
    for step in range(per_epoch, ended + 1, per_epoch):
        reached = 0.9 * (1 + step / halving) ** -1.1 + 1 - final + float(generator.normal(0, 0.0008))
        metrics = {"accuracy": 1 - reached}
        evaluations.append(Evaluation(step, step / per_epoch, 3.4 * reached, metrics))
    validation: dict[str, float | None] = {"loss": evaluations[-1].loss, **evaluations[-1].metrics}
    train: dict[str, float | None] = {"loss": losses[-1], "accuracy": validation["accuracy"] + gap}
    test: dict[str, float | None] = {
        "loss": validation["loss"] + 0.01,
        "accuracy": validation["accuracy"] - 0.001 + float(generator.normal(0, 0.0008)),
    }
    if diverged:
        losses[-1] = None
        evaluations = []
        train, validation, test = ({"loss": None, "accuracy": None} for _ in range(3))
    return Trace(
        key=f"{contender.name}-{stage}-{rate}-{seed}",
        task=plan.task,
        contender=contender.name,
        stage=stage,
        rate=rate,
        seed=seed,
        recipe={**contender.recipe, "lr": rate},
        outcome=Outcome.DIVERGED if diverged else Outcome.COMPLETED,
        steps=ended,
        budget_steps=plan.steps,
        initial_loss=2.31,
        loss_steps=steps,
        losses=tuple(losses),
        evaluations=tuple(evaluations),
        score=validation[plan.metric],
        train=train,
        validation=validation,
        test=test if stage is Stage.FINAL else None,
        clipped_fraction=0.0,
        parameters=101_770,
        state_bytes_per_parameter=state,
        step_seconds=2e-4 + state * 1.5e-5 + float(generator.uniform(0, 1e-5)),
        total_seconds=ended * 4e-4,
        started_at=START,
    )


def _verdict(plan: Plan, traces: Sequence[Trace]) -> Verdict:
    finals = []
    for contender in plan.contenders:
        trials = [t for t in traces if t.contender == contender.name and t.stage is Stage.FINAL]
        tests = [t.test[plan.metric] if t.test else None for t in trials]
        trains = [t.train[plan.metric] for t in trials]
        finals.append(
            Finals(
                optimizer=contender.name,
                rate=trials[0].rate,
                scores=[t.score for t in trials],
                tests=tests,
                gaps=[
                    None if test is None or train is None else plan.direction.sign * (train - test)
                    for train, test in zip(trains, tests, strict=True)
                ],
            )
        )
    return judge(finals, plan.direction, plan.metric)


def _ledger(plan: Plan, traces: Sequence[Trace]) -> Ledger:
    rows = []
    for contender in plan.contenders:
        own = [t for t in traces if t.contender == contender.name]
        rows.append(
            LedgerRow(
                optimizer=contender.name,
                rates_tried=contender.rates,
                tuning_trials=sum(t.stage is Stage.TUNING for t in own),
                final_trials=sum(t.stage is Stage.FINAL for t in own),
                diverged_trials=sum(t.outcome is Outcome.DIVERGED for t in own),
                steps=sum(t.steps for t in own),
                gradient_examples=64 * sum(t.steps for t in own),
                total_seconds=sum(t.total_seconds for t in own),
            )
        )
    return Ledger(tuple(rows), total_seconds=sum(r.total_seconds for r in rows))
