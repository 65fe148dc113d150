"""Made-up but plausible races for tests: seeded random curves, nothing trained.

The curves follow a power law with noise, each optimizer with its own speed and final score; the
verdict is really judged on these numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.evidence import Finals, judge
from thalweg.records import (
    Answer,
    Contender,
    Direction,
    Evaluation,
    FinderPlan,
    Finding,
    Ledger,
    LedgerRow,
    Outcome,
    Plan,
    Race,
    ShortRate,
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
SCHEDULES = {"constant": 0.0, "cosine": 0.004, "step": 0.002}  # accuracy that each adds
WINDOW = 100
FINDER = FinderPlan(
    sweep_seeds=(300, 301, 302), sweep_steps=120, short_seeds=(310, 311), short_steps=430, short_rates=5
)
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
    target: float | None = None,  # of the metric
    vary: str = "",  # what the contenders differ in; "": the optimizer
    found: Mapping[str, Answer]
    | None = None,  # how the finder ended for some; the others: found. None: no finder
    wave: int = 0,  # replicas of a fleet
    key: str = "",
    follows: str = "",  # the key of the race that this one goes on with
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
        executor="fleet" if wave else "serial",
        threads=2,
        device="cpu",
        versions={"thalweg": "0.1.0", "torch": "2.13.0", "numpy": "2.2.0", "python": "3.11.2"},
        wave=wave,
        vary=vary,
        finder=None if found is None else FINDER,
        target=target,
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
        key=key or f"made-up-{seed}",
        plan=plan,
        traces=tuple(traces),
        verdict=_verdict(plan, traces) if finished else None,
        ledger=_ledger(plan, traces) if finished else None,
        environment={"machine": "x86_64", "processor": "2 cores", "system": "Linux"},
        command=command,
        started_at=START,
        finished_at="2026-01-05T10:21:40+00:00" if finished else None,
        findings=() if found is None else tuple(finding(c.name, found.get(c.name)) for c in contenders),
        follows=follows,
    )


def follow_up(of: Race, **changes: Any) -> Race:
    """Make the race of schedules under the first of the ranking of a race."""
    given = {"optimizers": tuple(SCHEDULES), "rates": 1, "vary": "schedule", "seed": of.plan.seed + 50}
    made = race(**{**given, "task": of.plan.task, "follows": of.key, **changes})
    first = of.verdict.ranking[0]
    [winner] = [c for c in of.plan.contenders if c.name == first.optimizer]
    schedules = {"step": {"name": "step", "every": 2000}}
    contenders = tuple(
        replace(
            c,
            recipe={**winner.recipe, "schedule": schedules.get(c.name, {"name": c.name})},
            rates=(first.rate,),
        )
        for c in made.plan.contenders
    )
    plan = replace(made.plan, contenders=contenders)
    traces = tuple(replace(t, rate=first.rate) for t in made.traces)
    return replace(made, plan=plan, traces=traces, verdict=made.verdict and _verdict(plan, traces))


def finding(name: str = "adam", outcome: Answer | None = None) -> Finding:
    """Make what the rate finder says of an optimizer: a loss that falls, is flat, and leaves all bounds."""
    outcome = outcome or Answer.FOUND
    generator = np.random.default_rng(len(name))
    best = _known(name)[0]
    rates = best * 10 ** np.linspace(-4, 2, FINDER.sweep_steps)
    depth = np.log10(rates / best)
    fall = {Answer.FLAT: 0.0, Answer.RISING: 0.0}.get(outcome, 1.7)
    losses = 2.3 - fall / (1 + np.exp(-3.5 * (depth + 1.2))) + np.exp(9 * (depth - 1.2))
    losses *= np.exp(generator.normal(0, 0.004, len(losses)))
    bounds = 2.3 * 4
    low, high = 0.96 * losses, 1.04 * losses
    spread = [0.4, 0.1, 0.0, 0.15, None]  # of the short race, above its best rate
    short = tuple(
        ShortRate(
            float(f"{best * 10 ** ((i - 2) / 2):.3g}"),
            (None, None) if extra is None else (round(0.5 + extra, 3), round(0.52 + extra, 3)),
        )
        for i, extra in enumerate(spread)
    )
    is_found = outcome is Answer.FOUND
    sentences = {
        Answer.FOUND: f"Take {best:g}: rates from {best / 3:.3g} to {best * 3:.3g} are not told apart.",
        Answer.FLAT: "No rate moved the loss by more than its noise.",
        Answer.RISING: "Every rate that moved the loss made it worse.",
        Answer.NOISY: "The sweeps cannot be told apart.",
        Answer.DIVERGED: "Every rate that was tried diverged.",
    }
    return Finding(
        optimizer=name,
        outcome=outcome,
        suggestion=best if is_found else None,
        low=best / 3 if is_found else None,
        high=best * 3 if is_found else None,
        diverges_at=None if outcome is Answer.FLAT else float(f"{best * 10**1.5:.3g}"),
        rates=tuple(rates.tolist()),
        losses=tuple(None if x > bounds else float(x) for x in losses),
        losses_low=tuple(None if x > bounds else float(v) for x, v in zip(losses, low, strict=True)),
        losses_high=tuple(None if x > bounds else float(v) for x, v in zip(losses, high, strict=True)),
        short=short if outcome in (Answer.FOUND, Answer.NOISY) else (),
        horizon=FINDER.short_steps,
        sweeps=len(FINDER.sweep_seeds),
        steps=len(FINDER.sweep_seeds) * FINDER.sweep_steps + 10 * FINDER.short_steps,
        picks={"steepest": best / 8, "valley": best / 4, "slide": None, "minimum/10": best / 2},
        sentences=(
            sentences[outcome],
            "The band is the range of the sweeps of three seeds.",
        ),
    )


def with_losses(
    losses: Mapping[str, Sequence[Sequence[float | None] | None]],
    *,
    steps: Sequence[int] = (1, 2, 3, 4),
    epochs: float = 2.0,
    scores: Mapping[str, Sequence[Sequence[float | None]]] | None = None,
) -> Race:
    """Make a race from the training losses of each seed of each optimizer; None: this seed diverged."""
    made = race(optimizers=list(losses), final_seeds=max(map(len, losses.values())), rates=1)
    plan = replace(made.plan, steps=steps[-1], epochs=epochs)
    traces = []
    for name, of_seeds in losses.items():
        finals = [t for t in made.traces if t.contender == name]
        for i, (trace, own) in enumerate(zip(finals, of_seeds, strict=True)):
            outcome = Outcome.COMPLETED if own else Outcome.DIVERGED
            own = own or [2.0, None]
            evaluations = tuple(
                Evaluation(step, step / 2, None, {"accuracy": score})
                for step, score in zip(steps, scores[name][i] if scores else (), strict=False)
            )
            traces.append(
                replace(
                    trace,
                    outcome=outcome,
                    loss_steps=steps[: len(own)],
                    losses=tuple(own),
                    evaluations=evaluations,
                )
            )
    return replace(made, plan=plan, traces=tuple(traces))


def with_scores(scores: Mapping[str, Mapping[float, Sequence[float | None]]], **changes: Any) -> Race:
    """Make a race from the tuning scores of each optimizer: rate to the score of each seed; None: diverged.

    The validation loss is 1 − score, and 1 before training. The rate with the first score of all is chosen.
    """
    tuning = max(len(seeds) for rates in scores.values() for seeds in rates.values())
    made = race(optimizers=list(scores), tuning_seeds=tuning, final_seeds=2, **changes)
    contenders, traces = [], []
    for contender, rates in zip(made.plan.contenders, scores.values(), strict=True):
        own = [t for t in made.traces if t.contender == contender.name]
        tried = next(t for t in own if t.stage is Stage.TUNING)
        contenders.append(replace(contender, rates=tuple(rates), quota=len(rates)))
        for rate, seeds in rates.items():
            for seed, score in zip(made.plan.tuning_seeds, seeds, strict=False):
                traces.append(
                    replace(
                        tried,
                        key=f"{contender.name}-{rate}-{seed}",
                        rate=rate,
                        seed=seed,
                        outcome=Outcome.COMPLETED if score is not None else Outcome.DIVERGED,
                        initial_loss=1.0,
                        score=score,
                        validation={"loss": None if score is None else 1 - score, "accuracy": score},
                    )
                )
        traces += [replace(t, rate=next(iter(rates))) for t in own if t.stage is Stage.FINAL]
    return replace(made, plan=replace(made.plan, contenders=tuple(contenders)), traces=tuple(traces))


def _known(name: str) -> tuple[float, float, float, float, float]:
    best, halving, accuracy, gap, state = KNOWN.get(name, KNOWN["momentum"])
    return best, halving, accuracy + SCHEDULES.get(name, 0.0), gap, state


def _recipe(name: str) -> dict[str, object]:
    return {"optimizer": name, "rate": _known(name)[0], "batch_size": 64}


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
        recipe={**contender.recipe, "rate": rate},
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
    searched = plan.finder is not None
    for contender in plan.contenders:
        own = [t for t in traces if t.contender == contender.name]
        sweeps = len(FINDER.sweep_seeds) + FINDER.short_rates * len(FINDER.short_seeds)
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
                finder_trials=sweeps if searched else 0,
                finder_steps=4660 if searched else 0,
            )
        )
    return Ledger(tuple(rows), total_seconds=sum(r.total_seconds for r in rows))
