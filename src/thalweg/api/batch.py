"""The call that finds a batch size: noise, throughput, and the rates that belong to it."""

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.api.prepare import TaskLike, execution, prepare, try_update
from thalweg.curvature import NoiseScale, gradient_variance
from thalweg.errors import InputError
from thalweg.finder import batch as finder
from thalweg.hyper import ABOVE_0, Real
from thalweg.progress import Bar
from thalweg.records import Finding, Stage, to_data
from thalweg.report import words
from thalweg.rules.translate import translate
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial

SHARE: Final = 0.5  # of the free memory: what a training takes at most unless it is told
WIDTH: Final = 100  # columns of the answer as text
MANY: Final = 8  # batches on which a variance must rest to be held against the law


@dataclass(frozen=True)
class BatchSize:
    """Which batch size to train with, and both reasons."""

    task: str
    optimizer: str
    rate: float  # with which noise and time were measured
    present: int  # what the task suggests
    examples: int  # of the training part
    memory_limit: float  # bytes
    noise: finder.Noise
    timings: finder.Timings
    advice: finder.Advice
    rates: tuple[tuple[int, Finding], ...]  # of the present batch size and the recommended one

    @property
    def batch_size(self) -> int:
        """The recommended one."""
        return self.advice.batch_size

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer in words, the most important first."""
        return (
            *self._recommended(),
            self._noise(),
            *self._variance(),
            self._clock(),
            *(
                f"Batches of {size} were left out: {why.splitlines()[0].rstrip('.')}."
                for size, why in self.timings.left_out
            ),
            *rate_sentences(self.optimizer, self.rates),
        )

    def _recommended(self) -> list[str]:
        size, low, high = self.advice[:3]
        said = f"Take batches of {size}: there noise and this machine together make training shortest."
        if low < high:
            said += f" From {low} to {high} it takes at most a tenth longer"
            said += f"; where memory matters, take {low}." if low < size else "."
        timed = [t.batch_size for t in self.timings.sizes]
        if self.present == size:
            return [said, "That is the present size."]
        if low <= self.present <= high:
            return [said, f"The present {self.present} is one of those: there is no need to change it."]
        if self.present not in timed:
            return [said, f"The present {self.present} takes more memory than it may."]
        times = self.advice.predicted[timed.index(self.present)]
        return [
            said,
            f"The present {self.present} is predicted to take {words.number(times, 2)} times as long.",
        ]

    def _noise(self) -> str:
        noise, start = self.noise, self.noise.at_start
        rate = words.rate(self.rate)
        if noise.after is None:
            return (
                f"Noise: the gradient noise scale is {_scale(start)} at the start, which alone counts here: "
                f"{noise.updates} updates with {self.optimizer} at {rate} did not lower the loss. "
                "Give another rate."
            )
        return (
            f"Noise: the gradient noise scale is {_scale(noise.after)} after {noise.updates} updates with "
            f"{self.optimizer} at {rate}, which counts, and {_scale(start)} at the start. Twice the batch "
            "saves nearly half of the updates far below that size, and hardly any far above."
        )

    def _variance(self) -> list[str]:
        """Compare measured variances with the law; the smallest batch is what the law is drawn through."""
        most = max(size for size, _ in self.noise.variances) // MANY
        rows = [row for row in self.variances() if row["batch_size"] <= most and row["expected"] > 0]
        if len(rows) < 2:
            return []
        apart = max(abs(row["measured"] / row["expected"] - 1) for row in rows)
        return [
            f"Twice the examples halve the variance of the gradient: from {rows[0]['batch_size']} to "
            f"{rows[-1]['batch_size']} it was measured within {max(1, round(100 * apart))} % of "
            f"tr Σ (1/B − 1/{self.examples})."
        ]

    def _clock(self) -> str:
        sizes, knee = self.timings.sizes, self.advice.knee
        best = max(sizes, key=lambda t: t.throughput)
        return (
            f"Time: an update takes {words.duration(sizes[0].update_seconds)} with {_examples(sizes[0])} and "
            f"{words.duration(best.update_seconds)} with {best.batch_size}, where throughput is best: "
            f"{_rounded(best.throughput)} examples a second. From {knee} on it is within a tenth of that. "
            f"The largest size that was timed is {sizes[-1].batch_size}: {self.timings.end}."
        )

    def variances(self) -> list[dict[str, Any]]:
        """Return the variance of the gradient of batches of several sizes, as measured and by the law."""
        trace = self.noise.scale.covariance_trace
        return [
            {
                "batch_size": size,
                "measured": measured,
                "expected": gradient_variance(trace, size, self.examples),
            }
            for size, measured in self.noise.variances
        ]

    def __str__(self) -> str:
        return "\n".join([*map(_wrapped, self.sentences), "", *self._table()])

    def _table(self) -> list[str]:
        scale = self.noise.scale.known
        rows = [("batch size", "an update", "examples/s", "updates", "examples", "time")]
        for timing, time in zip(self.timings.sizes, self.advice.predicted, strict=True):
            size = timing.batch_size
            rows.append(
                (
                    f"{'→ ' if size == self.batch_size else ''}{size}",
                    words.duration(timing.update_seconds),
                    _rounded(timing.throughput),
                    _rounded(1 + scale / size),
                    _rounded(1 + size / scale) if scale else words.ABSENT,
                    f"{time:.2f}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        note = (
            "Updates and examples: how many times the fewest possible, by the noise scale. "
            "Time: of a training, 1 the shortest."
        )
        return [*lines, _wrapped(note)]

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        scale = self.noise.scale
        return {
            "task": self.task,
            "optimizer": self.optimizer,
            "rate": self.rate,
            "batch_size": self.batch_size,
            "low": self.advice.low,
            "high": self.advice.high,
            "present": self.present,
            "knee": self.advice.knee,
            "noise_scale": {
                "value": scale.value,
                "low": scale.low,
                "high": scale.high,
                "at_start": to_data(self.noise.at_start),
                "after": to_data(self.noise.after),
                "updates": self.noise.updates,
            },
            "variances": self.variances(),
            "sizes": [
                {
                    "batch_size": timing.batch_size,
                    "update_seconds": timing.update_seconds,
                    "examples_per_second": timing.throughput,
                    "predicted": predicted,
                    "memory": timing.memory,
                    "threads": timing.threads,
                }
                for timing, predicted in zip(self.timings.sizes, self.advice.predicted, strict=True)
            ],
            "end": str(self.timings.end),
            "left_out": [{"batch_size": size, "why": why} for size, why in self.timings.left_out],
            "memory_limit": self.memory_limit,
            "sentences": list(self.sentences),
            "rates": [{"batch_size": size, **to_data(finding)} for size, finding in self.rates],
        }


def find_batch_size(
    task: TaskLike,
    optimizer: str = "adam",
    *,
    rate: float | None = None,
    memory: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    data: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> BatchSize:
    """Find the batch size with which training takes least time, and the rates that belong to it.

    Measured are the gradient noise scale and the time of an update at doubled sizes; recommended is the size
    that minimises (1 + B_noise/B) × seconds(B). It is advice about time: which size generalises best, only a
    race between batch sizes tells. Nothing is written.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        optimizer: a name of the catalogue.
        rate: with which noise and time are measured; None: the optimizer's starting point.
        memory: bytes that training may take beside the data; None: half of what is free.
        seed: the root from which all random numbers derive.
        threads: of torch; None: one for small updates, else torch's own choice.
        device: where to train.
        data: the folder with the files of mnist and fashion-mnist; None: ``THALWEG_DATA``.
        download: whether missing files may be fetched into that folder.

    Raises:
        InputError: something cannot work as asked; nothing was started.
    """
    given = {"optimizer": optimizer, **({} if rate is None else {"rate": rate})}
    Recipe.from_data(given)  # refused before the data are loaded
    if memory is not None:
        Real(None, "", ABOVE_0).check("memory", "the run", memory)
    prepared = prepare(task, seed, None, data, download)
    workload, present = prepared.workload, int(prepared.batch_size)
    recipe = Recipe.from_data({**given, "batch_size": present})

    def how_of(size: int) -> Execution:
        return execution(seed, "serial", threads, device, prepared.update_flops * size / present)

    how = how_of(present)
    try_update(workload, Trial(optimizer, Stage.SINGLE, recipe, 0, 1), how)
    allowed = SHARE * finder.free(device) if memory is None else memory
    examples = workload.data.train.examples
    visits = finder.SEEDS + finder.ROUNDS * len(finder.candidates(examples, present))
    with Bar("measuring noise", visits) as bar:
        noise = finder.noise(workload, recipe, how, bar.advance)
        bar.advance(0, "timing updates")
        timings = finder.throughput(workload, recipe, how_of, allowed, bar.advance)
    advice = finder.advise(timings.sizes, noise.scale.known)

    from thalweg.api.rate import find_lr

    how_too: Any = {"seed": seed, "memory": memory, "threads": threads, "device": device}
    where: Any = {"data": data, "download": download}
    sizes = dict.fromkeys((present, advice.batch_size))
    rates = tuple((size, find_lr(task, optimizer, batch_size=size, **how_too, **where)) for size in sizes)
    assert recipe.rate is not None  # a recipe fills it in
    return BatchSize(
        workload.task.name, optimizer, recipe.rate, present, examples, allowed, noise, timings, advice, rates
    )


def rate_sentences(optimizer: str, rates: Sequence[tuple[int, Finding]]) -> list[str]:
    """Say which rates were found at batch sizes, and what the rule of scaling would have made of the first.

    Args:
        optimizer: whose rates.
        rates: findings by batch size; the first is the one that is scaled.
    """
    said = [_found(optimizer, size, finding) for size, finding in rates]
    if len(rates) < 2 or any(finding.suggestion is None for _, finding in rates):
        return said
    (old, first), (new, second) = rates
    try:
        scaled = translate(optimizer, batch_size=old, to_batch_size=new, lr=first.suggestion).values[0]
    except InputError:  # values that a rule of its own refuses
        return said
    if scaled.value is None:
        return [*said, f"No rule of scaling is known for {optimizer}: {scaled.why}."]
    assert second.low is not None
    assert second.high is not None
    fits = second.low <= scaled.value <= second.high
    measured = "which is among the rates found there" if fits else "which is not among the rates found there"
    rule = f"{scaled.why} ({scaled.source})"
    return [*said, f"Scaled by rule, it would be {words.rate(scaled.value)}, {measured}. The rule: {rule}."]


def _found(optimizer: str, size: int, finding: Finding) -> str:
    if finding.suggestion is None:
        return f"No rate for {optimizer} was found with batches of {size}: {finding.sentences[0]}"
    ends = f"{words.rate(finding.low)} to {words.rate(finding.high)}"
    return f"Rate of {optimizer} with batches of {size}: {words.rate(finding.suggestion)} ({ends})."


def _wrapped(sentence: str) -> str:
    """Break a sentence into lines, none of which breaks a word."""
    return textwrap.fill(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)


def _scale(scale: NoiseScale) -> str:
    if scale.value is None or scale.high is None:
        return f"at least {_rounded(scale.low)} examples (its gradients cannot be told from noise)"
    ends = f"{_rounded(scale.low)} to {_rounded(scale.high)}"
    return f"{_rounded(scale.value)} examples (95 % interval {ends})"


def _examples(timing: finder.Timing) -> str:
    return words.plural(timing.batch_size, "example")


def _rounded(x: float) -> str:
    """Write a number with two or three digits, in full.

    >>> _rounded(1234567.0), _rounded(146.4), _rounded(3.456), _rounded(0.0123)
    ('1,230,000', '146', '3.46', '0.0123')
    """
    return f"{float(f'{x:.3g}'):,g}" if x < 1e6 else f"{float(f'{x:.3g}'):,.0f}"
