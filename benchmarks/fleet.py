"""108 trainings of a small network: Thalweg's executors beside Optuna, Ray Tune and JAX by hand.

    python benchmarks/fleet.py [--workloads digits,mnist] [--candidates fleet,jax] [--rounds 3]
    python benchmarks/fleet.py --quick
    python benchmarks/fleet.py --markdown

Four workloads: digits and MNIST with an MLP, Fashion-MNIST with a small CNN, tiny Shakespeare with a
transformer. Each is what tuning is made of: four optimizers (SGD, momentum 0.9, RMSprop, Adam) × nine rates
× three seeds, all with equally many updates, each with its own initial weights and order of the data, which
is shuffled every epoch, and the validation loss at the end. Where that takes minutes, some rates of one seed
are run, and the time after the first update is multiplied: the table says so.

Every candidate runs in a process of its own, in turn, every other round backwards. For those that work with
PyTorch's threads one thread and all are tried before, and the faster is taken. Compiled code is kept
from round to round in a folder of the candidate's own, which is empty at first. What is reported:

- µs a step: of one update of one training in the steady state, without evaluations, wherever updates are
  done at once their share (PyTorch: the last two thirds of each training; JAX: a second run of the same
  programs; ours: what the traces say).
- with evaluations: all the time after the first update, by all updates. Ours evaluate some twenty times a
  training, the others once at its end.
- floors: µs a step by what the operations of an update take at the speed of a large product of matrices.
- to the first: from the end of the imports until the first update is done, or the programs are compiled.
- total: from the end of the imports until the last validation loss; whole: the process from start to end.
- MB: the peak of memory, of all processes together.

Data are looked for in the folder that THALWEG_DATA names, or in ../shared/data beside the checkout.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from _common import RESULTS, ROOT, conditions, markdown, show, versions, words, write
from _fleet_data import write_split
from _fleet_floor import product_speed, step_flops
from _fleet_process import Failed, measure
from _fleet_tables import comparison, described, remarks, table, verdicts
from _fleet_work import ALL, CANDIDATES, WORKS, Job, Work, cores, shrunk
from step import some_of

from thalweg.progress import Bar

PACKAGES = ("optuna", "ray", "jax", "optax")
DATA = ROOT.parent / "shared" / "data"  # data sets that lie beside the checkout
TRIED = 30  # updates with which the number of threads is tried out
FILE = RESULTS / "fleet.json"
RATIOS = "times as fast as: updates / total / whole"


def faster_threads(job: Job) -> int:
    """Return whether one thread or all of them make a step shorter."""
    few = replace(job, steps=min(job.steps, TRIED), positions=job.positions[-2:], seeds=job.seeds[:1])
    took = {n: measure(replace(few, threads=n))["steady_us"] for n in sorted({1, cores()})}
    return min(took, key=lambda n: took[n])


def jobs_of(name: str, work: Work, candidates: list[str], folder: Path) -> list[Job]:
    """Return what each candidate is to do, those that do this workload."""
    split = folder / f"{name}.npz"
    write_split(name, split)
    setting = (work.steps, work.batch_size, work.positions, work.seeds, 1, str(split))
    return [
        Job(name, candidate, *setting, cache=str(folder / f"{name}-{candidate}"))
        for candidate in candidates
        if name in CANDIDATES[candidate].works
    ]


def one(found: dict[str, Any], job: Job, first: bool, quick: bool) -> None:
    """Measure a candidate once more, or note why that is not possible."""
    mine = found.setdefault(job.candidate, {"rounds": []})
    if "failed" in mine:
        return
    try:
        if first:
            tried = CANDIDATES[job.candidate].torch_threads and not quick
            mine["threads"] = faster_threads(job) if tried else 1
        mine["rounds"].append(measure(replace(job, threads=mine["threads"])))
    except Failed as error:
        mine |= {"failed": str(error), "rounds": []}


def measure_work(
    found: dict[str, Any], jobs: list[Job], rounds: int, quick: bool, keep: Callable[[], None]
) -> None:
    """Measure all candidates on one workload, round by round."""
    with Bar(jobs[0].work, rounds * len(jobs)) as bar:
        for number in range(rounds):
            found["speeds"].append(product_speed(cores()))
            for job in jobs[:: -1 if number % 2 else 1]:
                bar.advance(0, f"{job.work}: {job.candidate}")
                one(found["candidates"], job, number == 0, quick)
                keep()
                bar.advance(1, f"{job.work}: {job.candidate}")


def empty(name: str, work: Work) -> dict[str, Any]:
    """Return the results of a workload before anything was measured."""
    setting = {"steps": work.steps, "batch_size": work.batch_size, "runs": work.runs, "of": ALL}
    return setting | {"flops": step_flops(name, work.batch_size), "speeds": [], "candidates": {}}


def print_work(name: str, found: dict[str, Any], as_markdown: bool = False) -> None:
    """Print the tables of a workload."""
    draw = (lambda rows: print(f"{markdown(rows)}\n")) if as_markdown else show
    print(f"\n{described(name, found)}\n")
    draw(table(found))
    compared = comparison(found)
    if len(compared) > 1 and len(compared[0]) > 1:
        print(f"\n{RATIOS}\n")
        draw(compared)
    print("\n".join(f"- {remark}" for remark in remarks(found)))


def show_saved(path: Path) -> None:
    """Print saved results for the documentation."""
    saved = json.loads(path.read_text())
    print(f"{saved['measured_at']}; {words(saved['conditions'])}")
    for name, found in saved["results"].get("workloads", {}).items():
        print_work(name, found, as_markdown=True)
    print("\n" + "\n".join(f"- {verdict.words()}" for verdict in verdicts(saved["results"])))


@click.command()
@click.option("--workloads", callback=some_of(list(WORKS), "the workload"), help=", ".join(WORKS))
@click.option("--candidates", callback=some_of(list(CANDIDATES), "the candidate"), help=", ".join(CANDIDATES))
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of all candidates.")
@click.option("--steps-scale", default=1.0, show_default=True, help="Times as many updates.")
@click.option("--quick", is_flag=True, help="A few updates of few trainings, once: no measurement.")
@click.option("--json", "out", type=click.Path(path_type=Path, dir_okay=False), default=FILE)
@click.option("--add", is_flag=True, help="Keep other workloads of that file, measured with the same code.")
@click.option("--markdown", "saved", is_flag=True, help="Print the last results; measure nothing.")
def main(
    workloads: list[str],
    candidates: list[str],
    rounds: int,
    steps_scale: float,
    quick: bool,
    out: Path,
    add: bool,
    saved: bool,
) -> None:
    """Measure what many trainings cost."""
    if saved:
        show_saved(out)
        return
    where = conditions(cores()) | versions(PACKAGES)
    results: dict[str, Any] = json.loads(out.read_text())["results"] if add and out.exists() else {}
    print(words(where))
    if "THALWEG_DATA" not in os.environ and DATA.is_dir():
        os.environ["THALWEG_DATA"] = str(DATA)
    with tempfile.TemporaryDirectory() as name:
        try:
            for work in workloads:
                wanted = shrunk(WORKS[work], steps_scale, quick)
                found = results.setdefault("workloads", {})[work] = empty(work, wanted)
                jobs = jobs_of(work, wanted, candidates, Path(name))
                if jobs:
                    measure_work(
                        found, jobs, 1 if quick else rounds, quick, lambda: write(out, where, results)
                    )
                    print_work(work, found)
        except KeyboardInterrupt:
            print("\nBroken off.")
            sys.exit(130)
        finally:
            write(out, where, results)
            print("\n" + "\n".join(verdict.words() for verdict in verdicts(results)))
            print(f"Results: {out}")


if __name__ == "__main__":
    main()
