"""How often the verdict is wrong, and how often it finds what is there: simulated races, and real ones.

    python benchmarks/verdict.py
    python benchmarks/verdict.py --quick
    python benchmarks/verdict.py --markdown

Between equals, the promise is that at most 5 % of races find anything at all. Each share comes with the 95 %
interval of Clopper and Pearson; a promise is broken where the interval lies beyond it. What is reported:

- equals: 2, 4 and 10 optimizers of the same kind, whose scores share what a seed does to all; normal,
  heavy-tailed (t with 2 degrees of freedom) and skewed (exponential) noise; with the fewest seeds that can
  decide, and with looks.
- unequal: two optimizers that differ by so many standard deviations of the paired difference: how often that
  is found, and how many seeds were run.
- coverage: how often the 95 % interval holds the truth, of one score's mean and of a pair's difference.
- advice: whether `seeds_to_decide` seeds decide in 80 % of repeats.
- self-races: one recipe against itself, on fresh seeds, really trained.

The numbers depend on fixed streams and not on the machine. It takes some four minutes of processor time.
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from _common import RESULTS, conditions, markdown, show, versions, words, write
from _verdict_races import (
    NOISES,
    advised,
    advised_after_a_tie,
    coverage,
    coverage_of_pairs,
    equals,
    unequal,
)
from _verdict_self import self_races

from thalweg.progress import Bar

FILE = RESULTS / "verdict.json"
LEVEL = 0.05
# The fewest seeds for so many optimizers, and looks of which each can decide. All signs of more than 16 seeds
# take too long to count two thousand times.
LOOKS: Mapping[int, tuple[tuple[int, ...], ...]] = {
    2: ((6,), (8, 16)),
    4: ((8,), (10, 14)),
    10: ((11,), (12, 14)),
}
Work = Callable[[], dict[str, Any]]


def works(races: int) -> dict[str, list[Work]]:
    """Return what is to be done, section by section; `races` for each number that is promised."""
    few, many = max(1, races // 10), 2 * races
    streams = iter(range(1_000))
    return {
        "self-races": [partial(self_races, few, 8)],  # first, as they take longest
        "equals": [
            partial(equals, noise, k, looks, races, next(streams))
            for k, plans in LOOKS.items()
            for looks in plans
            for noise in NOISES
        ],
        "unequal": [
            *(partial(unequal, "normal", (seeds,), 1.0, many, next(streams)) for seeds in (6, 8, 10, 11, 12)),
            *(partial(unequal, "normal", looks, 1.0, races, next(streams)) for looks in ((8, 16), (16,))),
            *(partial(unequal, "normal", looks, 2.0, races, next(streams)) for looks in ((8, 16), (16,))),
            *(
                partial(unequal, noise, (12,), 1.0, many, next(streams))
                for noise in ("heavy tails", "skewed")
            ),
        ],
        "coverage": [
            partial(coverage, noise, seeds, 5 * races, next(streams))
            for seeds in (8, 12)
            for noise in (*NOISES, "log-normal")
        ],
        "coverage of pairs": [
            *(partial(coverage_of_pairs, noise, (8,), 1.0, many, next(streams)) for noise in NOISES),
            *(
                partial(coverage_of_pairs, "normal", (8, 16), effect, races, next(streams))
                for effect in (0.5, 1.0)
            ),
        ],
        "advice": [
            *(partial(advised, effect, 1, many, next(streams)) for effect in (0.8, 1.0, 1.5)),
            *(partial(advised, effect, 6, many, next(streams)) for effect in (1.2, 2.0)),
            partial(advised, 0.5, 1, few, next(streams)),
        ],
        "advice after a tie": [
            partial(advised_after_a_tie, effect, 12, races // 2, next(streams)) for effect in (0.3, 0.5, 0.8)
        ],
    }


def run(sections: Mapping[str, list[Work]], workers: int) -> dict[str, list[dict[str, Any]]]:
    """Do all of it in processes of their own; the order of the results is that of the works."""
    count = sum(map(len, sections.values()))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, Bar("verdicts", count) as bar:
        begun = {name: [pool.submit(work) for work in section] for name, section in sections.items()}
        found: dict[str, list[dict[str, Any]]] = {}
        for name, section in begun.items():
            found[name] = []
            for future in section:
                found[name].append(future.result())
                bar.advance(1, name)
        return found


def percent(share: Mapping[str, float]) -> str:
    """Return a share with its interval, in per cent."""
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{100 * share['share']:.2f} [{low:.2f}, {high:.2f}]"


def _looks(looks: list[int]) -> str:
    return ", ".join(map(str, looks))


# Section -> head and one row a result. Shares are in per cent.
TABLES: Mapping[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], tuple[str, ...]]]] = {
    "equals": (
        ("equals", "optimizers", "seeds", "races", "false winners, %", "any false finding, %", "mean seeds"),
        lambda r: (
            r["noise"], str(r["optimizers"]), _looks(r["looks"]), f"{r['races']:,}",
            percent(r["false_winners"]), percent(r["any_false_finding"]), f"{r['mean_seeds']:.1f}",
        ),
    ),
    "unequal": (
        ("unequal", "difference", "seeds", "races", "found, %", "wrong, %", "mean seeds"),
        lambda r: (
            r["noise"], f"{r['effect']:g}", _looks(r["looks"]), f"{r['races']:,}",
            percent(r["found"]), percent(r["wrong"]), f"{r['mean_seeds']:.1f}",
        ),
    ),
    "coverage": (
        ("interval of a mean", "seeds", "intervals", "held, %"),
        lambda r: (r["noise"], str(r["seeds"]), f"{r['intervals']:,}", percent(r["held"])),
    ),
    "coverage of pairs": (
        ("interval of a difference", "difference", "seeds", "intervals", "held, %"),
        lambda r: (
            r["noise"], f"{r['effect']:g}", _looks(r["looks"]), f"{r['intervals']:,}", percent(r["held"])
        ),
    ),
    "advice": (
        ("advice", "pairs", "advised seeds", "repeats", "decided, %"),
        lambda r: (
            f"{r['effect']:g} deviations", str(r["pairs"]), str(r["seeds"]), f"{r['repeats']:,}",
            percent(r["decided"]),
        ),
    ),
    "advice after a tie": (
        ("true difference", "ties", "advised, %", "advice: 10 %, median, 90 %", "enough, %", "mean power, %"),
        lambda r: (
            f"{r['effect']:g} deviations, {r['seeds']} seeds", f"{r['ties']:,}", percent(r["advised"]),
            ", ".join(f"{x:.0f}" for x in r["advice"]), percent(r["enough"]), f"{100 * r['mean_power']:.0f}",
        ),
    ),
    "self-races": (
        ("self-races", "seeds", "races", "false winners, %", "mean accuracy", "deviation of a difference"),
        lambda r: (
            f"{r['recipe']['optimizer']} on {r['task']}", str(r["seeds"]), str(r["races"]),
            percent(r["false_winners"]), f"{r['mean_accuracy']:.4f}", f"{r['deviation_of_a_difference']:.4f}",
        ),
    ),
}  # fmt: skip


def promises(results: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Say of each promise whether what was measured keeps it."""
    said = []

    def say(what: str, kept: list[bool]) -> None:
        broken = len(kept) - sum(kept)
        said.append(f"{what}: {'kept' if not broken else f'BROKEN by {broken}'} ({len(kept)} measured).")

    found = [r["any_false_finding"] for r in results["equals"]]
    say("At most 5 % of races between equals find anything", [share["low"] <= LEVEL for share in found])
    ten = [r["found"] for r in results["unequal"] if (r["looks"], r["noise"]) == ([10], "normal")]
    say(
        "One deviation is found in about 80 % of races of ten seeds",
        [share["high"] >= 0.795 for share in ten],
    )
    say(
        "The advised number of seeds decides in 80 %",
        [r["decided"]["high"] >= 0.8 for r in results["advice"]],
    )
    own = [r["false_winners"] for r in results["self-races"]]
    say(
        "At most 5 % of real races of a recipe against itself have a winner", [s["low"] <= LEVEL for s in own]
    )
    return said


def print_results(results: Mapping[str, list[dict[str, Any]]], as_markdown: bool) -> None:
    """Print a table a section, and whether the promises are kept."""
    for name, (head, row) in TABLES.items():
        rows = [head, *(row(result) for result in results[name])]
        print()
        if as_markdown:
            print(markdown(rows))
        else:
            show(rows)
    print("\n" + "\n".join(promises(results)))


@click.command()
@click.option("--races", type=click.IntRange(20), default=2_000, show_default=True, help="For each promise.")
@click.option("--quick", is_flag=True, help="Twenty races each: no measurement.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), default=FILE)
@click.option("--markdown", "saved", is_flag=True, help="Print the last results; measure nothing.")
def main(races: int, quick: bool, workers: int, out: Path, saved: bool) -> None:
    """Measure how often the verdict is right."""
    if saved:
        stored = json.loads(out.read_text())
        print(f"{stored['measured_at']}; {words(stored['conditions'])}")
        print_results(stored["results"], as_markdown=True)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes, which are as many as the cores
    where = conditions(1) | versions(("scipy",))
    print(words(where))
    results = run(works(20 if quick else races), workers)
    print_results(results, as_markdown=False)
    write(out, where, results)
    print(f"Results: {out}")


if __name__ == "__main__":
    main()
