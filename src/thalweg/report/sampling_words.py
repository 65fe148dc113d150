"""What a comparison of batch sizes and samplings says, in sentences: the most important first."""

import math
from collections.abc import Callable, Sequence

from thalweg.records import Verdict
from thalweg.records.sampling import WITH_REPLACEMENT, Moment, SamplingComparison, SamplingRow
from thalweg.report import words


def sentences(record: SamplingComparison) -> tuple[str, ...]:
    """Say what to take and why, what each costs, and what was seen of noise, path and order."""
    sizes = record.sizes is not None
    return (
        *([] if sizes else _order(record)),  # then the order of the examples is all that was compared
        *_advice(record),
        *_updates(record),
        *_costs(record),
        *_equal(record, "updates"),
        *_equal(record, "seconds"),
        *_noise(record),
        *_path(record),
        *(_order(record) if sizes else []),
        *_coverage(record),
        *_rates(record),
        *_limits(record),
    )


def of_sizes(record: SamplingComparison) -> list[SamplingRow]:
    """Return the rows that differ in their batch size alone, the largest first."""
    return [row for row in record.rows if row.sampling == record.rows[0].sampling]


def compared(record: SamplingComparison) -> list[SamplingRow]:
    """Return those of them that are compared at equal epochs."""
    return [row for row in of_sizes(record) if not short(record, row)]


def recommended(record: SamplingComparison) -> SamplingRow | None:
    """Return what to take: the best batch size.

    Of those that tie it is the one that diverged on the fewest seeds, then the one whose epoch is quickest.
    Seconds decide nothing that losses decide; among equals they are a reason to prefer one.
    """
    rows = [row for row in compared(record) if lost(row) < record.final_seeds]
    verdict = record.sizes
    if verdict is None or not rows:
        return rows[0] if rows else None
    if verdict.winner is not None:
        return record.row(verdict.winner)
    equal = [row for row in rows if row.name in verdict.tie]
    return min(equal or rows[:1], key=lambda row: (lost(row), epoch_seconds(row)))


def lost(row: SamplingRow) -> int | float:
    """Return on how many seeds a training diverged before it was compared: infinite if it was not trained."""
    if row.equal_epochs is None:
        return math.inf
    return sum(x is None for x in row.equal_epochs.validation)


def epoch_seconds(row: SamplingRow) -> float:
    """Return what an epoch takes: updates of an epoch × seconds of an update."""
    return row.updates_per_epoch * row.update_seconds


def short(record: SamplingComparison, row: SamplingRow) -> bool:
    """Tell whether a training ended before the epoch at which others are compared."""
    return row.epochs < record.compared_epochs


def loss(value: float | None, ends: tuple[float, float] | None = None) -> str:
    """Write a loss, with its interval where there is one.

    >>> loss(0.15287, (0.1397, 0.1678)), loss(None)
    ('0.153 [0.140, 0.168]', '–')
    """
    if value is None or ends is None:
        return words.number(value)
    decimals = words.decimals_at(value, 3)
    return f"{words.fixed(value, decimals)} {words.interval(ends, decimals)}"


def epochs(n: float) -> str:
    """Write a number of epochs.

    >>> epochs(10.0), epochs(0.3704), epochs(1.0)
    ('10 epochs', '0.37 epochs', '1 epoch')
    """
    return f"{words.number(n)} epoch{'' if n == 1 else 's'}"


def _advice(record: SamplingComparison) -> list[str]:
    best, verdict = recommended(record), record.sizes
    if best is None:
        which = "that can be compared " if any(short(record, row) for row in of_sizes(record)) else ""
        how = "that was tried" if record.grid else "that was given"
        return [f"No batch size {which}could be trained: every rate {how} diverged."]
    end = best.equal_epochs.epochs if best.equal_epochs else 0.0
    reached = f"validation loss {_validation(best)} after {epochs(end)}"
    if lost(best):
        reached = f"it diverged on {lost(best)} of {words.plural(record.final_seeds, 'seed')}"
    if verdict is None:
        return [f"{best.name.capitalize()} has no other to be compared with: {reached}."]
    if verdict.seeds < verdict.seeds_needed:
        return [
            f"{verdict.seeds} seeds cannot tell {len(verdict.ranking)} batch sizes apart: it takes at least "
            f"{verdict.seeds_needed}. So far: {_listed(compared(record), _validation)}."
        ]
    losses = _said("Validation loss", compared(record), _validation)
    if verdict.winner is not None:
        others = [row.name for row in compared(record) if row is not best]
        better = f"better than {words.listing(others)} over {verdict.seeds} seeds"
        return [f"Take {best.name}: {reached}, {better}.", losses]
    rivals = [record.row(name) for name in verdict.tie if name != best.name]
    if not rivals:
        return [f"Take {best.name}: {reached}.", losses]
    return [f"Take {best.name}: {reached}. {_tie(rivals, best, verdict.seeds)}", losses]


def _tie(rivals: Sequence[SamplingRow], best: SamplingRow, seeds: int) -> str:
    """Say with whom the best one ties, and why it is preferred."""
    said = f"What sets it apart from {words.listing([r.name for r in rivals])} may be chance ({seeds} seeds)"
    unsafe = [row for row in rivals if lost(row) > lost(best)]
    times = [epoch_seconds(row) / epoch_seconds(best) for row in rivals if row not in unsafe]
    if unsafe:
        said += f", and {words.listing([row.name for row in unsafe])} diverged on more of them"
    if times:
        which = "that" if len(times) == 1 else "those"
        least = "" if len(times) == 1 else "longer, at least "
        named = f" of {which}" if not unsafe else " of the rest"
        said += f", and an epoch{named} takes {least}{words.number(min(times), 2)} times as long here"
    return said + "."


def _validation(row: SamplingRow) -> str:
    return loss(row.validation_loss, row.validation_interval)


def _updates(record: SamplingComparison) -> list[str]:
    rows = of_sizes(record)
    counts = _listed(rows, lambda row: f"{row.updates_per_epoch:,}")
    seen = "draws N examples" if rows[0].sampling == WITH_REPLACEMENT else "sees all examples"
    return [
        f"Updates of an epoch, ⌈N/B⌉ with N = {record.examples:,}: {counts}. Every epoch {seen}; what "
        "differs is how often the weights move meanwhile."
    ]


def _costs(record: SamplingComparison) -> list[str]:
    rows = of_sizes(record)
    return [
        _said("An epoch takes", rows, lambda row: words.duration(epoch_seconds(row)))[:-1]
        + "; an update needs "
        + _listed(rows, lambda row: words.size(row.memory_bytes))
        + " of memory beside the data."
    ]


def _equal(record: SamplingComparison, unit: str) -> list[str]:
    """Give the second reading: after equally many updates, or seconds, instead of epochs."""
    rows = of_sizes(record)
    moments = {row.name: getattr(row, f"equal_{unit}") for row in rows}
    known = {name: moment for name, moment in moments.items() if moment is not None}
    if len(known) < 2 or len({row.steps for row in rows}) == 1:
        return []
    means = {name: _mean(moment) for name, moment in known.items()}
    reached = words.listing([f"{name} {words.number(mean)}" for name, mean in means.items()])
    if unit == "updates":
        count = next(iter(known.values())).updates
        said = f"After {words.plural(count, 'update')} each, the training loss is {reached}"
        values = [x for x in means.values() if x is not None]
        if len(values) == len(means) and values == sorted(values):  # as rows are, from the largest batch
            said += ": an update of a larger batch is worth more, and costs more examples"
        return [f"{said}."]
    least = min(row.steps * row.update_seconds for row in rows)
    return [f"After {words.duration(least)} of training each, on this machine, it is {reached}."]


def _mean(moment: Moment) -> float | None:
    numbers = [x for x in moment.train if x is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(moment.train) else None


def _noise(record: SamplingComparison) -> list[str]:
    if not record.slopes:
        return []
    slopes = words.listing(
        [
            f"{words.fixed(s.slope, 2)} {'at the start' if s.moment == 'start' else 'after training'}"
            for s in record.slopes
        ]
    )
    return [
        f"The variance of a batch's gradient goes as B to the power {slopes}; the law says −1, so that twice "
        "the batch has half the variance. Noise is no bad luck: the batch size sets it."
    ]


def _path(record: SamplingComparison) -> list[str]:
    walked = [path for path in record.paths if len(path.x) > 1]  # the others diverged at once
    if len(walked) < 2:
        return []
    part = {row.name: f" ({epochs(row.epochs)})" for row in record.rows if short(record, row)}
    said = words.listing(
        [f"{path.name} {words.number(path.ratio)}{part.get(path.name, '')}" for path in walked]
    )
    return [
        f"Over {epochs(record.compared_epochs)} the weights walk so many times the distance from start to "
        f"end: {said}."
    ]


def _order(record: SamplingComparison) -> list[str]:
    verdict = record.samplings
    if verdict is None:
        return []
    rows = [row for row in record.rows if row.batch_size == record.mini_batch]
    said = _listed(rows, _validation, lambda row: row.sampling)
    what = f"Order of the examples, in batches of {record.mini_batch}"
    if verdict.seeds < verdict.seeds_needed:
        return [f"{what}: {said}; too few seeds to decide."]
    return [f"{what}: {_decided(verdict, record)}. {_cap(said)}."]


def _decided(verdict: Verdict, record: SamplingComparison) -> str:
    by_name = {row.name: row.sampling for row in record.rows}
    if verdict.winner is not None:
        others = [by_name[s.optimizer] for s in verdict.ranking if s.optimizer != verdict.winner]
        return f"{by_name[verdict.winner]} is better than {words.listing(others)}"
    names = [by_name[name] for name in verdict.tie]
    beaten = [by_name[s.optimizer] for s in verdict.ranking if by_name[s.optimizer] not in names]
    if not names:
        return "nothing could be compared"
    said = f"{words.listing(names)} cannot be told apart"
    behind = [p.b for p in verdict.pairs if p.a == verdict.ranking[0].optimizer and p.better]
    if beaten and behind:
        said += f"; {words.listing([by_name[name] for name in behind])} is behind {names[0]}"
    return said


def _coverage(record: SamplingComparison) -> list[str]:
    again = [row for row in record.rows if row.sampling == WITH_REPLACEMENT]
    if not again:
        return []
    row = again[0]
    return [
        f"With replacement an epoch shows {100 * row.coverage:.1f} % of the examples, some of them twice or "
        f"more (1 − (1 − 1/N)ᴺ is {100 * row.coverage_expected:.1f} %); without, all of them once."
    ]


def _rates(record: SamplingComparison) -> list[str]:
    rates = _listed(record.rows, lambda row: words.rate(row.rate))
    if not record.grid:
        return [f"Rates were given: {rates}."]
    span = f"{words.rate(record.grid[0])} to {words.rate(record.grid[-1])}"
    said = [
        f"Each has its best of the same {words.count(len(record.grid))} rates from {span}, by the validation "
        f"loss at its end on {words.plural(record.tuning_seeds, 'seed')}: {rates}. Compared are "
        f"{record.final_seeds} fresh seeds."
    ]
    for row in record.rows:
        if row.rate is None:
            said.append(f"Every rate of {row.name} diverged.")
        elif row.edge is not None:
            beyond = "lower" if row.edge == "lowest" else "higher"
            said.append(
                f"The rate of {row.name} is the {row.edge} that was tried: a {beyond} one may be better."
            )
    return said


def _limits(record: SamplingComparison) -> list[str]:
    said = [
        f"{_cap(row.name)} was trained for {epochs(row.epochs)} instead of {words.number(record.epochs)}: no "
        f"training may take more than {record.most_updates:,} updates. "
        f"{_apart(row) if short(record, row) else 'All are compared where the shortest ends.'}"
        for row in record.rows
        if row.cut
    ]
    seeds = words.plural(record.final_seeds, "seed")
    for row in record.rows:
        if row.equal_epochs is not None and lost(row):
            said.append(
                f"{_cap(row.name)} diverged on {lost(row)} of {seeds}, which counts as worse than any loss."
            )
    return [*said, *record.left_out]


def _apart(row: SamplingRow) -> str:
    return f"It came to validation loss {_validation(row)}, and has no part in the comparison."


def _said(what: str, rows: Sequence[SamplingRow], value: Callable[[SamplingRow], str]) -> str:
    return f"{what}: {_listed(rows, value)}."


def _listed(
    rows: Sequence[SamplingRow],
    value: Callable[[SamplingRow], str],
    name: Callable[[SamplingRow], str] = lambda row: row.name,
) -> str:
    return words.listing([f"{name(row)} {value(row)}" for row in rows])


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]
