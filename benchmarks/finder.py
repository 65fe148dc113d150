"""Learning-rate finders beside the truth: how good, how steady and how dear their suggestions are.

    python benchmarks/finder.py [--pairs digits,text-adam] [--seeds 5] [--fresh]
    python benchmarks/finder.py --markdown

Six tasks (digits, breast cancer with unscaled features, MNIST, Fashion-MNIST and CIFAR-10 with small CNNs,
tiny Shakespeare with a transformer) × four optimizers (SGD, momentum, Adam, Lion). The truth of a pair is
the validation loss at the end of full trainings, at a constant rate, over a dense grid of rates and on
several seeds; the suggestions are ours, those of torch-lr-finder, fastai and lightning by their own code
with their own defaults, and the centre where our search for an optimizer's rate begins, which takes no
finder. Each is asked with several root seeds, which decide initial weights and the order of the data.

- regret: loss at the suggestion less the best one, along the mean true curve; in % of the gain (loss of the
  initial weights less the best one), and in standard deviations over the seeds at the best rate.
- diverging: at a neighbour in the grid a training diverged, or ended above the loss of the initial weights.
- spread: decades from the lowest to the highest suggestion over the root seeds.
- cost: updates, and as a share of one full tuning: 9 rates × 3 seeds × the full length.

True curves and the peers' suggestions are kept in `benchmarks/results/finder`, and computed again with
`--fresh`; ours are always asked.

Data are looked for in the folder that THALWEG_DATA names, or in ../shared/data beside the checkout.
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
from _common import RESULTS, conditions, markdown, show, versions, words, write
from _finder_judge import Curve, judged
from _finder_methods import CENTRE, OURS
from _finder_peers import PACKAGES, peers_of
from _finder_tables import CAPTION, own_table, remarks, summary_table, table, verdicts
from _finder_tasks import PAIRS, WORKS, Pair, task_of
from _finder_truth import Truth, ready, truth_of
from _fleet_work import cores
from fleet import DATA
from step import some_of

import thalweg
from thalweg.progress import Bar
from thalweg.rules.catalogue import preset

FILE = RESULTS / "finder.json"


def truths(pairs: Sequence[Pair], fresh: bool) -> Iterator[tuple[Pair, Truth]]:
    """Yield the true curve of each pair; a task is read when the first of its curves is missing."""
    reader = cache(ready)
    updates = {
        pair: len(pair.work.rates(pair.optimizer)) * pair.work.seeds * pair.work.steps for pair in pairs
    }
    with Bar("truth", sum(updates.values())) as bar:
        for pair in pairs:
            done = 0

            def advance(count: int, pair: Pair = pair) -> None:
                nonlocal done
                done += count
                bar.advance(count, pair.name)

            found = truth_of(pair, lambda pair=pair: reader(pair.work), fresh, advance)
            bar.advance(updates[pair] - done, pair.name)
            yield pair, found


def by_ours(pair: Pair, root: int) -> dict[str, Any]:
    """Ask our finder."""
    work = pair.work
    found = thalweg.find_lr(
        task_of(work), pair.optimizer, steps=work.steps, batch_size=work.batch_size, seed=root
    )
    why = "" if found.suggestion is not None else str(found.outcome)
    return {"suggestion": found.suggestion, "steps": found.steps, "why": why}


def by_centre(pair: Pair, root: int) -> dict[str, Any]:
    """Suggest what is suggested when nothing was measured."""
    del root
    return {"suggestion": preset(pair.optimizer).centre, "steps": 0, "why": ""}


def judge(pair: Pair, truth: Truth, asked: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Hold all suggestions for a pair against its true curve."""
    curve = Curve.of(truth.rates, truth.final, truth.initial)
    return {
        "steps": pair.work.steps,
        "best_rate": curve.best_rate,
        "best_loss": curve.best_loss,
        "initial": curve.initial,
        "deviation": curve.deviation,
        "curve": {
            "rates": curve.rates.tolist(),
            "losses": curve.losses.tolist(),
            "diverging": curve.bad.tolist(),
            "seeds": pair.work.seeds,
            "seconds": float(truth.seconds),
        },
        "methods": {
            name: {
                **judged(
                    curve, [a["suggestion"] for a in answers], [a["steps"] for a in answers], pair.work.steps
                ),
                "why": [a["why"] for a in answers],
            }
            for name, answers in asked.items()
        },
    }


def print_results(results: dict[str, Any], as_markdown: bool = False) -> None:
    """Print the tables and what holds."""
    draw = (lambda rows: print(f"{markdown(rows)}\n")) if as_markdown else show
    print(f"\n{CAPTION}\n")
    for rows in (table(results), own_table(results), summary_table(results)):
        draw(rows)
        print()
    print("\n".join(f"- {remark}" for remark in remarks(results)))
    print("\n" + "\n".join(f"- {verdict.words()}" for verdict in verdicts(results)))


def some_pairs(context: click.Context, option: click.Parameter, given: str | None) -> list[Pair]:
    """Return pairs; the name of a task stands for all of its pairs."""
    names = some_of([*PAIRS, *WORKS], "the pair")(context, option, given)
    return [pair for name, pair in PAIRS.items() if name in names or pair.work.name in names]


@click.command()
@click.option("--pairs", callback=some_pairs, help=f"{', '.join(WORKS)}; or as {next(iter(PAIRS))}.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Root seeds of finders.")
@click.option("--fresh", is_flag=True, help="Train the true curves and ask the peers again.")
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), default=FILE)
@click.option("--markdown", "saved", is_flag=True, help="Print the last results; measure nothing.")
def main(pairs: list[Pair], seeds: int, fresh: bool, out: Path, saved: bool) -> None:
    """Measure how good the suggestions of learning-rate finders are."""
    if saved:
        data = json.loads(out.read_text())
        print(f"{data['measured_at']}; {words(data['conditions'])}")
        print_results(data["results"], as_markdown=True)
        return
    where = conditions(cores()) | versions(PACKAGES)
    print(words(where))
    if "THALWEG_DATA" not in os.environ and DATA.is_dir():
        os.environ["THALWEG_DATA"] = str(DATA)
    known = dict(truths(pairs, fresh))
    roots = range(seeds)
    suggested = peers_of(pairs, roots, fresh)
    results: dict[str, Any] = {"pairs": {}}
    with Bar("ours", len(pairs) * seeds) as bar:
        for pair in pairs:
            asked = {OURS: [], **suggested[pair.name], CENTRE: [by_centre(pair, root) for root in roots]}
            for root in roots:
                asked[OURS].append(by_ours(pair, root))
                bar.advance(1, pair.name)
            results["pairs"][pair.name] = judge(pair, known[pair], asked)
            write(out, where, results)
    print_results(results)
    print(f"Results: {out}")


if __name__ == "__main__":
    main()
