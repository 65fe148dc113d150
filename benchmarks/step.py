"""What one step of every method costs, beside the speed of memory and the same method elsewhere.

    python benchmarks/step.py [--rules adam,adamw] [--shapes mlp,small] [--peers torch,fused] [--seconds 10]
    python benchmarks/step.py --markdown

Five lists of tensors: one vector of 25 million (a matrix for methods about matrices), ResNet-50, GPT-2 small,
the MLP 784–128–10, a thousand vectors of a thousand. Gradients are in place, and stay the same. Candidates
run in turn, every other round backwards, on all cores, by the clock; milliseconds are medians, and ratios are
medians of the ratios of each round. Rounds are repeated for so many seconds a method and list; a method with
a costly step every so often (SOAP) is measured over whole periods. Bytes are what a single pass over
parameters, gradients and states must move (see `_candidates.bytes_moved`), and are held against the triad of
the same rounds (`_bandwidth.Triad`); the two small lists fit into the caches, which are faster. What takes
over a minute a step, or more memory than there is, is left out, and it says so.

A run of everything takes hours; `--add` puts it together from several. Results are written after each method
on each list, so that what was measured survives Ctrl-C. `--markdown` measures nothing, and prints the last
results for the documentation.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from _bandwidth import Triad
from _common import RESULTS, conditions, keep_freed_memory, markdown, show, versions, words, write
from _fresh import first_use, peak_memory
from _measuring import Setting, measured
from _peers import PEERS
from _shapes import SHAPES
from _tables import number, remarks, table, verdicts

from thalweg.errors import InputError, nearest
from thalweg.progress import Bar
from thalweg.rules.catalogue import CATALOGUE

PARTS = ("steps", "first_use", "memory")
PACKAGES = ("jax", "optax", "pytorch-optimizer", "heavyball", "lion-pytorch", "prodigyopt", "dadaptation",
            "schedulefree")  # fmt: skip
CAPTION = "medians; in brackets how many times as long as ours; † with other buffers than ours"


def some_of(known: Sequence[str], what: str) -> Callable[..., list[str]]:
    """Return what reads names with commas between, of those that are known."""

    def read(context: click.Context, option: click.Parameter, given: str | None) -> list[str]:
        names = list(known) if given is None else [name.strip() for name in given.split(",")]
        for name in names:
            if name not in known:
                raise click.BadParameter(
                    str(InputError(what, "be a known one", repr(name), nearest(name, known)))
                )
        return names

    return read


def measure_steps(
    results: dict[str, Any], rules: list[str], shapes: list[str], setting: Setting, keep: Callable[[], None]
) -> None:
    """Measure all rules on all lists of tensors, printing a table after each list."""
    triad = setting.triad
    tried = ", ".join(f"{name} {number(speed)}" for name, speed in triad.tried.items())
    print(f"Triad a ← b + s·c, GB/s: {tried}; in place a ← a + s·c: {number(triad.in_place)}")
    results["bandwidth"] = {"triad": triad.tried, "by": triad.name, "in_place": triad.in_place}
    for shape in shapes:
        found: dict[str, Any] = results.setdefault("shapes", {}).setdefault(shape, {})
        try:
            with Bar(shape, len(rules)) as bar:
                for rule in rules:
                    bar.advance(0, f"{shape}: {rule}")
                    found[rule] = measured(rule, SHAPES[shape], setting)
                    keep()
                    bar.advance(1, f"{shape}: {rule}")
        finally:
            print(f"\n{SHAPES[shape].described()}: {CAPTION}")
            show(table(found))
            print("\n".join(remarks(found)))


def other_parts(results: dict[str, Any], parts: list[str], backend: str | None) -> None:
    """Measure what needs fresh processes, and print it."""
    if "first_use" in parts:
        results["first_use"] = found = first_use(backend)
        said = ", ".join(f"{name} {found[name]:.2f}" for name in found if name != "rounds")
        print(f"\nFirst step of Adam in a fresh process, seconds: {said}")
    if "memory" in parts:
        results["memory"] = peak_memory(backend)
        for name, found in results["memory"].items():
            print(f"Peak of a step on GPT-2 small, {name}: {100 * found['more']:.2f} % above before it")


def show_saved(path: Path) -> None:
    """Print saved results for the documentation."""
    saved = json.loads(path.read_text())
    print(f"{saved['measured_at']}; {words(saved['conditions'])}\n")
    for shape, found in saved["results"].get("shapes", {}).items():
        print(f"{SHAPES[shape].described()}; {CAPTION}:\n\n{markdown(table(found))}\n")
        print("\n".join(f"- {remark}" for remark in remarks(found)), end="\n\n")
    print("\n".join(f"- {verdict.words()}" for verdict in verdicts(saved["results"])))


@click.command()
@click.option("--rules", callback=some_of(list(CATALOGUE), "the rule"), help="Which; all without.")
@click.option("--shapes", callback=some_of(list(SHAPES), "the list of tensors"), help=", ".join(SHAPES))
@click.option("--peers", callback=some_of(list(PEERS), "the peer"), help=", ".join(PEERS))
@click.option("--parts", callback=some_of(PARTS, "the part"), help=", ".join(PARTS))
@click.option("--seconds", default=10.0, show_default=True, help="Of a rule on a list of tensors.")
@click.option("--longest", default=60.0, show_default=True, help="Seconds that a step may take.")
@click.option("--threads", type=click.IntRange(1), help="As many as cores without.")
@click.option("--backend", help="Passed on to our classes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS / "step.json")
@click.option("--add", is_flag=True, help="Keep other results of the file, measured with the same code.")
@click.option("--markdown", "saved", is_flag=True, help="Print the last results; measure nothing.")
def main(
    rules: list[str],
    shapes: list[str],
    peers: list[str],
    parts: list[str],
    seconds: float,
    longest: float,
    threads: int | None,
    backend: str | None,
    out: Path,
    add: bool,
    saved: bool,
) -> None:
    """Measure what a step costs."""
    if saved:
        show_saved(out)
        return
    if threads is not None:  # JAX and kernels have as many threads as there are cores to run on
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    keep_freed_memory()
    where = conditions(threads) | versions(PACKAGES) | ({"backend": backend} if backend else {})
    results: dict[str, Any] = json.loads(out.read_text())["results"] if add and out.exists() else {}
    print(words(where))
    try:
        if "steps" in parts:
            options = {"backend": backend} if backend else {}
            setting = Setting(Triad(threads), seconds, peers, options, longest)
            measure_steps(results, rules, shapes, setting, lambda: write(out, where, results))
        other_parts(results, parts, backend)
    except KeyboardInterrupt:
        print("\nBroken off.")
        sys.exit(130)
    finally:
        write(out, where, results)
        print("\n" + "\n".join(verdict.words() for verdict in verdicts(results)))
        print(f"Results: {out}")


if __name__ == "__main__":
    main()
