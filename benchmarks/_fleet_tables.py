"""Results of `fleet.py` in words: extrapolated, as medians and ratios, as tables, what holds of the claims.

The results of a workload are {"steps", "batch_size", "runs", "of", "flops", "speeds", "candidates": {name:
{"rounds": [figures, …]} or {"failed": why}}}. Of each round there are the figures of every candidate that
had not failed, so that ratios are taken round by round.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean, median
from typing import Any

from _fleet_work import CANDIDATES, WORKS
from _tables import Rows, Verdict, number

Results = Mapping[str, Any]
HEAD = (
    "",
    "µs a step",
    "with evaluations",
    "floors",
    "to the first, s",
    "total, s",
    "whole, s",
    "MB",
    "threads",
)
OURS = ("serial", "processes", "fleet", "auto")
PEERS = ("optuna", "memory", "ray", "jax", "jax-shared")
JAX = ("jax", "jax-shared")
FLEETS = ("fleet", "auto")
ROUGHLY = 0.25  # by what share validation losses of candidates may differ


def scaled(figures: Results, runs: int, of: int) -> dict[str, Any]:
    """Return the figures of some runs as they would be of more: only the time of trainings grows."""
    total, alone = figures["total"], figures["prepared"] + figures.get("ending", 0.0)
    longer = alone + (total - alone) * of / runs
    return {**figures, "total": longer, "whole": figures["whole"] + longer - total}


def rounds(work: Results, candidate: str) -> list[dict[str, Any]]:
    """Return the figures of all runs, round by round; none where a candidate failed or was left out."""
    found = work["candidates"].get(candidate, {}).get("rounds", [])
    done = work["runs"] * work["steps"]
    return [
        scaled(each, work["runs"], work["of"]) | {"all_us": 1e6 * (each["total"] - each["prepared"]) / done}
        for each in found
    ]


def middle(work: Results, candidate: str, what: str) -> float | None:
    """Return the median of a figure."""
    found = [each[what] for each in rounds(work, candidate)]
    return median(found) if found else None


def times_as_fast(work: Results, candidate: str, peer: str, what: str) -> float | None:
    """Return the median over rounds of the peer's time by ours."""
    pairs = zip(rounds(work, peer), rounds(work, candidate), strict=False)
    found = [b[what] / a[what] for b, a in pairs]
    return median(found) if found else None


def floor(work: Results) -> float:
    """Return the microseconds that the operations of an update take at the speed of a large product."""
    return 1e6 * work["flops"] / max(work["speeds"])


def table(work: Results) -> Rows:
    """Return a line a candidate."""
    rows: Rows = [HEAD]
    for name in CANDIDATES:
        found = rounds(work, name)
        if not found:
            continue
        steady, every, prepared, total, whole, peak = (
            median(each[what] for each in found)
            for what in ("steady_us", "all_us", "prepared", "total", "whole", "peak")
        )
        by = found[-1].get("executor", name)
        title = CANDIDATES[name].title + ("" if by == name or name not in OURS else f": {by}")
        cells = (steady, every, steady / floor(work), prepared, total, whole, 1e-6 * peak)
        rows.append((title, *map(number, cells), str(found[-1]["threads"])))
    return rows


def comparison(work: Results) -> Rows:
    """Return how many times as fast ours are: in updates, in all, with imports too."""
    peers = [peer for peer in PEERS if rounds(work, peer)]
    rows: Rows = [("", *(CANDIDATES[peer].title for peer in peers))]
    for name in OURS:
        if rounds(work, name):
            rows.append((CANDIDATES[name].title, *(_cell(work, name, peer) for peer in peers)))
    return rows


def _cell(work: Results, name: str, peer: str) -> str:
    found = (times_as_fast(work, name, peer, what) for what in ("steady_us", "total", "whole"))
    return " / ".join("–" if x is None else number(x) for x in found)


def described(name: str, work: Results) -> str:
    """Say what was trained, and what of it."""
    runs, of = work["runs"], work["of"]
    share = "" if runs == of else f", extrapolated from {runs}"
    operations, speed = number(1e-6 * work["flops"]), number(1e-9 * max(work["speeds"]))
    return (
        f"{WORKS[name].title}: {of} trainings{share}; {work['steps']} updates of {work['batch_size']} "
        f"examples; floor {number(floor(work))} µs ({operations} million operations at {speed} GFLOP/s)"
    )


def mean_losses(losses: list[Any]) -> dict[str, dict[str, float]]:
    """Return the mean validation loss over the seeds, by optimizer and rate."""
    found: dict[str, dict[str, list[float]]] = {}
    for optimizer, rate, _, loss in losses:
        found.setdefault(optimizer, {}).setdefault(f"{rate:.5g}", []).append(
            math.inf if loss is None else loss
        )
    return {name: {rate: fmean(each) for rate, each in rates.items()} for name, rates in found.items()}


def away(mine: Mapping[str, float], usual: Mapping[str, float]) -> float:
    """Return by what share losses differ from the usual ones at three quarters of the rates.

    At high rates, where a loss leaps about, few seeds tell little.
    """
    shares = [0.0 if mine[r] == loss else abs(mine[r] / loss - 1) for r, loss in usual.items()]
    far = sorted(math.inf if math.isnan(share) else share for share in shares)
    return far[math.ceil(0.75 * len(far)) - 1]


def remarks(work: Results) -> Iterator[str]:
    """Yield what failed, what empty caches cost, and who does not reach the losses that the others reach."""
    for name, found in work["candidates"].items():
        if "failed" in found:
            yield f"{CANDIDATES[name].title}: not measured: {found['failed']}"
    measured = {name: found for name in CANDIDATES if (found := rounds(work, name))}
    for name, found in measured.items():
        if name in OURS and len(found) > 1:
            yield f"{CANDIDATES[name].title}: with empty caches {number(found[0]['prepared'])} s to the first"
    losses = {name: mean_losses(found[-1]["losses"]) for name, found in measured.items()}
    for optimizer, rates in next(iter(losses.values()), {}).items():
        usual = {rate: median(each[optimizer][rate] for each in losses.values()) for rate in rates}
        yield f"validation loss of {optimizer} at its best rate: {number(min(usual.values()))}" + "".join(
            f"; {CANDIDATES[name].title} DISAGREES: {number(min(each[optimizer].values()))}"
            for name, each in losses.items()
            if not away(each[optimizer], usual) <= ROUGHLY
        )


def verdicts(results: Results) -> list[Verdict]:
    """Return what holds of what a fleet is to show."""
    empty = {"candidates": {}, "runs": 1, "of": 1, "steps": 1}
    works: dict[str, Results] = {name: results.get("workloads", {}).get(name, empty) for name in WORKS}

    def ours(work: str, peer: str, what: str, names: tuple[str, ...] = FLEETS) -> dict[str, Any]:
        return {f"{work} {name}": times_as_fast(works[work], name, peer, what) for name in names}

    def beside_jax(work: str) -> dict[str, float | None]:
        both = [ours(work, peer, "steady_us") for peer in JAX]
        return {
            name: min((x for each in both if (x := each[name]) is not None), default=None) for name in both[0]
        }

    auto = ("auto",)
    text_serial, in_memory = ours("text", "serial", "total", auto), ours("mnist", "memory", "steady_us")
    beside_ray = {**ours("cnn", "ray", "total", auto), **ours("text", "ray", "total", auto)}
    best = {name: _auto(work) for name, work in works.items()}
    return [
        _verdict("digits, total 15 × Optuna's", ours("digits", "optuna", "total"), lambda x: x >= 15),
        _verdict("digits, whole command 8 × Optuna's", ours("digits", "optuna", "whole"), lambda x: x >= 8),
        _verdict("digits, updates 30 × Optuna's", ours("digits", "optuna", "steady_us"), lambda x: x >= 30),
        _verdict("digits, updates 1.2 × the faster JAX", beside_jax("digits"), lambda x: x >= 1.2),
        _verdict("MNIST, updates 3.5 × Optuna's in memory", in_memory, lambda x: x >= 3.5),
        _verdict("MNIST, updates faster than the faster JAX", beside_jax("mnist"), lambda x: x > 1),
        _verdict("CNN, total 1.2 × serial", ours("cnn", "serial", "total", auto), lambda x: x >= 1.2),
        _verdict("transformer, total 1.5 × serial", text_serial, lambda x: x >= 1.5),
        _verdict("CNN and transformer, total not slower than Ray's", beside_ray, lambda x: x >= 1),
        _verdict("auto at most 1.15 × the best executor's total", best, lambda x: x <= 1.15),
    ]


def _auto(work: Results) -> float | None:
    """Return how long auto takes, by the best of the executors."""
    auto = middle(work, "auto", "total")
    others = [x for name in OURS[:-1] if (x := middle(work, name, "total")) is not None]
    return auto / min(others) if auto is not None and others else None


def _verdict(claim: str, said: Mapping[str, float | None], keeps: Callable[[float], bool]) -> Verdict:
    found = [(what, x, keeps(x)) for what, x in said.items() if x is not None]
    return Verdict(claim, found, [what for what, x in said.items() if x is None])
