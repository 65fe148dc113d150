"""A comparison of batch sizes and samplings as a page, as text, in a terminal, and as JSON."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from thalweg.records import to_data
from thalweg.records.sampling import Moment, SamplingComparison, SamplingRow
from thalweg.report import figures, numbers, page, sampling_figures, sampling_words, words
from thalweg.report.canvas import Canvas, framed, label_margin
from thalweg.report.curves import Curve, caption
from thalweg.report.drawing import Style, scale, styles
from thalweg.report.pictures import NUMBERS, SHAPES, STROKES, Key, Picture, script_data
from thalweg.report.tables import Column, Table

WIDTH: Final = 100  # columns of the answer as text
# Too wide for text.
ON_THE_PAGE: Final = ("Training interval", "An update", "Path ÷ distance", "Seen an epoch")
CELLS: Final = 40  # points of a path that its table shows, at most


def write(record: SamplingComparison, path: Path) -> Path:
    """Write the page, replacing the file in one go, and return its path.

    Raises InputError when the file cannot be written.
    """
    return page.written(html(record), path)


def html(record: SamplingComparison) -> str:
    """Render the page as text."""
    looks = styles(row.name for row in record.rows)
    return page.rendered(
        "sampling.html",
        title=f"Batch, stochastic and mini-batch on {record.task}",
        facts=_facts(record),
        sentences=sampling_words.sentences(record),
        losses=losses(record),
        along=_along(record, looks),
        readings=readings(record),
        variances=_variances(record),
        paths=_paths(record, looks),
        tuning=tuning(record),
        command=record.command,
        version="",
    )


def text(record: SamplingComparison) -> str:
    """Write the answer as plain text: sentences and the table."""
    said = [_wrapped(sentence) for sentence in sampling_words.sentences(record)]
    full = losses(record)
    kept = [place for place, column in enumerate(full.columns) if column.name not in ON_THE_PAGE]
    rows = tuple(tuple(row[place] for place in kept) for row in full.rows)
    short = Table(full.caption, tuple(full.columns[place] for place in kept), rows)
    return "\n".join([*said, "", *_plain(short)])


def as_json(record: SamplingComparison) -> dict[str, Any]:
    """Return the answer as plain values; what the clock said is named by its unit."""
    ratios = {path.name: path.ratio for path in record.paths}
    return {
        "task": record.task,
        "optimizer": record.optimizer,
        "examples": record.examples,
        "epochs": record.epochs,
        "most_updates": record.most_updates,
        "grid": list(record.grid),
        "tuning_seeds": record.tuning_seeds,
        "final_seeds": record.final_seeds,
        "seed": record.seed,
        "recommended": best.name if (best := sampling_words.recommended(record)) else None,
        "rows": [_row(row, ratios.get(row.name)) for row in record.rows],
        "sizes": to_data(record.sizes),
        "samplings": to_data(record.samplings),
        "variance": [to_data(v) for v in record.variances],
        "slopes": [to_data(s) for s in record.slopes],
        "paths": [
            {
                "name": path.name,
                "length": path.length,
                "distance": path.distance,
                "ratio": path.ratio,
                "explained": path.explained,
            }
            for path in record.paths
        ],
        "compared_epochs": record.compared_epochs,
        "plane_explained": record.explained,
        "left_out": list(record.left_out),
        "sentences": list(sampling_words.sentences(record)),
        "total_seconds": record.total_seconds,
    }


def _row(row: SamplingRow, ratio: float | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "batch_size": row.batch_size,
        "sampling": row.sampling,
        "updates_per_epoch": row.updates_per_epoch,
        "updates_per_epoch_counted": row.counted,
        "updates": row.steps,
        "epochs": row.epochs,
        "cut": row.cut,
        "rate": row.rate,
        "edge": row.edge,
        "tried": [to_data(t) for t in row.tried],
        "train_loss": row.train_loss,
        "train_interval": to_data(row.train_interval),
        "validation_loss": row.validation_loss,
        "validation_interval": to_data(row.validation_interval),
        "at_equal_epochs": to_data(row.equal_epochs),
        "at_equal_updates": to_data(row.equal_updates),
        "at_equal_seconds": to_data(row.equal_seconds),
        "seconds_per_update": row.update_seconds,
        "seconds_per_epoch": sampling_words.epoch_seconds(row),
        "peak_memory_bytes": row.memory_bytes,
        "coverage": row.coverage,
        "coverage_expected": row.coverage_expected,
        "path_ratio": ratio,
        "curve": [to_data(moment) for moment in row.moments],
    }


def losses(record: SamplingComparison) -> Table:
    """Give what each reached at equally many epochs, and what it takes."""
    ratios = {path.name: words.number(path.ratio) for path in record.paths}
    rows = [
        (
            row.name,
            f"{row.updates_per_epoch:,}",
            words.rate(row.rate),
            words.number(row.train_loss),
            _interval(row),
            sampling_words.loss(row.validation_loss, row.validation_interval),
            words.duration(row.update_seconds),
            words.duration(sampling_words.epoch_seconds(row)),
            words.size(row.memory_bytes),
            ratios.get(row.name, words.ABSENT),
            f"{100 * row.coverage:.1f} %",
        )
        for row in record.rows
    ]
    names = ("Updates an epoch", "Rate", "Training loss", "Training interval", "Validation loss")
    more = ("An update", "An epoch", "Memory", "Path ÷ distance", "Seen an epoch")
    columns = (Column("", numeric=False), *map(Column, (*names, *more)))
    after = sampling_words.epochs(record.compared_epochs)
    known = any(row.validation_interval for row in record.rows)
    said = f"Means over {words.plural(record.final_seeds, 'seed')} after {after}"
    said += ", with 95 % intervals." if known else "."
    cut = [
        f"{row.name} after {sampling_words.epochs(row.epochs)}"
        for row in record.rows
        if sampling_words.short(record, row)
    ]
    said += f" Cut by the budget of updates: {words.listing(cut)}." if cut else ""
    return Table(said, columns, tuple(rows))


def _interval(row: SamplingRow) -> str:
    decimals = words.decimals_at(row.train_loss, 3) if row.train_loss else 3
    return words.interval(row.train_interval, decimals)


def readings(record: SamplingComparison) -> Table:
    """Give the training loss after equally many epochs, updates and seconds."""

    def cell(moment: Moment | None, unit: str) -> str:
        if moment is None:
            return words.ABSENT
        known = [x for x in moment.train if x is not None]
        mean = sum(known) / len(known) if known and len(known) == len(moment.train) else None
        where = f"{moment.updates:,}" if unit == "updates" else sampling_words.epochs(moment.epochs)
        return f"{words.number(mean)} ({where})"

    rows = tuple(
        (
            row.name,
            cell(row.equal_epochs, "updates"),
            cell(row.equal_updates, "epochs"),
            cell(row.equal_seconds, "updates"),
        )
        for row in record.rows
    )
    names = ("Equal epochs (updates)", "Equal updates (epochs)", "Equal time (updates)")
    said = "Training loss, mean over the seeds, where the shortest of all ends in each unit."
    return Table(said, (Column("", numeric=False), *map(Column, names)), rows)


def tuning(record: SamplingComparison) -> Table:
    """Give the validation loss of every rate of the grid."""
    rows = tuple((row.name, *(words.number(t.loss) for t in row.tried)) for row in record.rows if row.tried)
    said = (
        f"Validation loss of each rate at the end, mean over {words.plural(record.tuning_seeds, 'seed')}; a "
        "dash: diverged. The lowest is taken."
    )
    return Table(said, (Column("Rate", numeric=False), *(Column(words.rate(r)) for r in record.grid)), rows)


def terminal(record: SamplingComparison, width: int = 80, height: int = 15) -> str:
    """Draw the training losses of the batch sizes against epochs, in braille."""
    drawn = [sampling_figures.curve(row, "train") for row in sampling_words.of_sizes(record)]
    drawn = [c for c in drawn if c.median]
    if not drawn:
        return _wrapped("There is no curve to draw: every seed diverged.")
    values = [x for c in drawn for x in c.median]
    logarithmic = scale(min(values), max(values))["type"] == "log"
    on_y = math.log10 if logarithmic else float
    bottom, top = on_y(min(values)), on_y(max(values))
    if bottom == top:
        bottom, top = bottom - 0.5, top + 0.5
    at_rows = [top + (bottom - top) * place / (height - 1) for place in range(height)]
    labels = [f"{10**at if logarithmic else at:.3g}" for at in at_rows]
    margin = label_margin(labels)
    end = max(c.epochs[-1] for c in drawn)
    canvas = Canvas((0.0, end), (bottom, top), columns=width - margin - 2, rows=height)
    for place, c in enumerate(drawn):
        heights = [on_y(x) for x in c.median]
        canvas.line(c.epochs, heights, place)
        # Its number stands on each curve at another place, so that curves that meet can be told apart.
        at = round((place + 1) / (len(drawn) + 1) * (len(c.epochs) - 1))
        canvas.put(canvas.row(heights[at]), canvas.column(c.epochs[at]), str(place + 1), place)
    lines = framed(canvas.lines(), labels, ("0", "epochs", words.number(end)), canvas.columns)
    said = "   ".join(f"{place + 1} {c.optimizer}" for place, c in enumerate(drawn))
    return "\n".join(line.rstrip() for line in [*lines, f"{'':>{margin}}  training loss:   {said}"])


def _facts(record: SamplingComparison) -> list[str]:
    return [
        f"{record.examples:,} training and {record.validation_examples:,} validation examples",
        f"{record.parameters:,} parameters",
        record.optimizer,
        words.plural(record.final_seeds, "seed"),
        words.duration(record.total_seconds),
    ]


def _along(record: SamplingComparison, looks: dict[str, Style]) -> list[Picture]:
    made = []
    for part, quantity in (("train", "Training loss"), ("validation", "Validation loss")):
        curves = [sampling_figures.curve(row, part) for row in record.rows]
        drawn = [c for c in curves if c.median]
        if drawn:
            made.append(_curves(drawn, curves, quantity, looks))
    return made


def _curves(
    drawn: Sequence[Curve], curves: Sequence[Curve], quantity: str, looks: dict[str, Style]
) -> Picture:
    figure = figures.curves(drawn, looks)
    ends = [f"{c.optimizer} ends at {words.number(c.median[-1])}" for c in drawn]
    return Picture(
        quantity,
        script_data(figure, axes=sampling_figures.axes(drawn)),
        figure.layout.height,
        f"{quantity} along the training, a line for each: {words.listing(ends)}. {NUMBERS}",
        caption(curves),
        numbers.along(curves, quantity),
        _keys((c.optimizer for c in drawn), looks, shapes=False),
    )


def _variances(record: SamplingComparison) -> list[Picture]:
    made = []
    for slope in record.slopes:
        own = [v for v in record.variances if v.moment == slope.moment]
        figure = sampling_figures.variance(own)
        when = "at the initial weights" if slope.moment == "start" else "after training"
        keys = tuple(
            Key(name, look.colour, STROKES[look.dash], SHAPES[look.marker])
            for name, look in sampling_figures.SAMPLED.items()
        )
        rows = tuple(
            (
                f"{v.batch_size:,}, {v.sampling}",
                f"{v.draws}",
                words.number(v.measured),
                words.number(v.expected),
            )
            for v in own
        )
        columns = (Column("Batch size", numeric=False), *map(Column, ("Batches", "Measured", "Law")))
        made.append(
            Picture(
                f"Variance of the gradient {when}",
                script_data(figure),
                figure.layout.height,
                f"Variance of a batch's gradient against its size, both logarithmic, {when}: with "
                f"replacement a line of slope {words.fixed(slope.slope, 2)}. {NUMBERS}",
                f"Marks: mean of ‖g − G‖² over the batches drawn, G the gradient of all examples. Lines: the "
                f"law, with tr Σ = {words.number(slope.covariance_trace)} from the gradients of "
                f"{slope.examples:,} single examples, not fitted to the marks. Slope of the marks with "
                f"replacement: {words.fixed(slope.slope, 2)}.",
                Table("The variance of a batch's gradient, as measured and by the law", columns, rows),
                keys,
            )
        )
    return made


def _paths(record: SamplingComparison, looks: dict[str, Style]) -> Picture | None:
    if not record.paths:
        return None
    figure = sampling_figures.paths(record, looks)
    ratios = [f"{path.name} {words.number(path.ratio)}" for path in record.paths]
    rows = []
    for path in record.paths:
        every = max(1, -(-len(path.x) // CELLS))
        places = sorted({*range(0, len(path.x), every), len(path.x) - 1})
        rows += [
            (f"{path.name}, point {i + 1}", words.number(path.x[i]), words.number(path.y[i])) for i in places
        ]
    each = [f"{path.name} {100 * path.explained:.0f} %" for path in record.paths]
    return Picture(
        "The path of the weights",
        script_data(figure),
        figure.layout.height,
        f"Paths of the weights on one plane; length ÷ distance: {words.listing(ratios)}. {NUMBERS}",
        f"One seed, the same initial weights. The plane of the first two principal components of all paths "
        f"together holds {100 * record.explained:.0f} % of their variance (of each: {words.listing(each)}): "
        "what is not in it is not seen. Lengths count every update, in all dimensions.",
        Table(
            "Points of the paths on the plane",
            (Column("Point", numeric=False), Column("First component"), Column("Second component")),
            tuple(rows),
        ),
        _keys((path.name for path in record.paths), looks),
    )


def _keys(names: Iterable[str], looks: dict[str, Style], shapes: bool = True) -> tuple[Key, ...]:
    return tuple(
        Key(n, looks[n].colour, STROKES[looks[n].dash], SHAPES[looks[n].marker] if shapes else "")
        for n in names
    )


def _plain(table: Table) -> list[str]:
    """Write a table as lines, its columns as wide as what is in them; headings break between words."""
    heads = [column.name.split(" ") if column.name else [""] for column in table.columns]
    tall = max(map(len, heads))
    rows = [tuple(head[place - tall + len(head)] if place >= tall - len(head) else "" for head in heads)
            for place in range(tall)]  # fmt: skip
    rows += [tuple(cell for cell in row) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(w) if column.numeric else cell.ljust(w)
            for cell, w, column in zip(row, widths, table.columns, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [_wrapped(table.caption), *lines]


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
