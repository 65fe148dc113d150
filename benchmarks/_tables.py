"""Results of `step.py` in words: a table for each list of tensors, and what of the claims holds."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from _peers import PEERS
from _shapes import SHAPES

from thalweg.rules.base import Scope
from thalweg.rules.catalogue import CATALOGUE

Rows = list[tuple[str, ...]]
FEW = 3  # rounds: what `interleaved_within` takes unless they last too long
HEAD = ("", "ms", "MB moved", "GB/s", "of triad")


def number(x: float) -> str:
    """Return three digits that count, or all before the point."""
    return f"{x:.0f}" if x >= 100 else f"{x:#.3g}"


def table(found: Mapping[str, Any]) -> Rows:
    """Return the rows of one list of tensors: a line a rule, a column a peer that has any of them."""
    rules = {name: each for name, each in found.items() if "milliseconds" in each}
    peers = [peer for peer in PEERS if any(peer in each["peers"] for each in rules.values())]
    rows: Rows = [(*HEAD, *(PEERS[peer].title for peer in peers))]
    for name, each in rules.items():
        own = (
            number(each["milliseconds"]),
            number(1e-6 * each["bytes"]),
            number(each["gb_per_s"]),
            f"{each['of_triad']:.2f}",
        )
        rows.append((name, *own, *(_cell(each["peers"].get(peer)) for peer in peers)))
    return rows


def _cell(peer: Mapping[str, Any] | None) -> str:
    if peer is None:
        return "–"
    mark = "" if peer["same_state"] else "†"
    return f"{number(peer['milliseconds'])} ({number(peer['times_ours'])}){mark}"


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was not measured, and why, and what was measured once or twice only."""
    for name, each in found.items():
        if "skipped" in each:
            yield f"{name}: not measured: {each['skipped']}"
        if each.get("rounds", FEW) < FEW:
            yield f"{name}: medians of {each['rounds']} only"
        for peer, why in each["left_out"].items():
            yield f"{name}: without {PEERS[peer].title}: {why}"


class Verdict(NamedTuple):
    """A claim, and the figures that it rests on: each with a bound, and whether it keeps it."""

    claim: str
    figures: list[tuple[str, float, bool]]
    missing: list[str]

    def words(self) -> str:
        """Say whether the claim holds, and with which figures."""
        if not self.figures:
            return f"not measured: {self.claim}"
        broken = [f for f in self.figures if not f[2]]
        rest = f"; not measured: {len(self.missing)} of {len(self.figures) + len(self.missing)}"
        said = "DOES NOT HOLD" if broken else "holds so far" if self.missing else "holds"
        figures = ", ".join(f"{what} {number(x)}{'' if good else ' ✗'}" for what, x, good in self.figures)
        return f"{said}: {self.claim}: {figures}{rest if self.missing else ''}"


def verdicts(results: Mapping[str, Any]) -> list[Verdict]:
    """Return what holds of what the kernels are to show."""
    shapes = results.get("shapes", {})
    four = ("sgd", "adagrad", "adam", "adamw")
    others = [n for n, p in CATALOGUE.items() if p.rule.scope is Scope.ELEMENT and n not in four]

    def figure(shape: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = shapes.get(shape, {}).get(name, {})
        return found if "milliseconds" in found else {}

    def times(shape: str, name: str, peer: str) -> float | None:
        return figure(shape, name).get("peers", {}).get(peer, {}).get("times_ours")

    def fastest(shape: str, name: str) -> float | None:
        found = [each["times_ours"] for each in figure(shape, name).get("peers", {}).values()]
        return min(found, default=None)

    fused = {(shape, name): times(shape, name, "fused") for shape in SHAPES for name in four}
    slower = {key: x and 1 / x for key, x in fused.items()}
    default = {("one", n): times("one", n, "torch") for n in others if n in PEERS["torch"].ways}
    matrix = {("gpt2", name): fastest("gpt2", name) for name in ("muon", "soap")}
    speed = {("one", name): figure("one", name).get("of_triad") for name in others}
    first, memory = results.get("first_use", {}), results.get("memory", {}).get("thalweg.optim.AdamW", {})
    large = ("one", "resnet50", "gpt2")
    only = lambda xs, *kept: {key: x for key, x in xs.items() if key[0] in kept}  # noqa: E731
    return [
        _verdict("at most 1.05 × the time of PyTorch fused", only(slower, *large), lambda x: x <= 1.05),
        _verdict("5 × faster than fused on small vectors", only(fused, "small"), lambda x: x >= 5),
        _verdict("2 × faster than fused on the MLP", only(fused, "mlp"), lambda x: x >= 2),
        _verdict("at least 0.85 of the triad's bandwidth", speed, lambda x: x >= 0.85),
        _verdict("4 × faster than PyTorch's default", default, lambda x: x >= 4),
        _verdict("1.5 × faster than the fastest peer", matrix, lambda x: x >= 1.5),
        _verdict("first use under 1 s", {("warm cache,", "seconds"): first.get("warm")}, lambda x: x < 1),
        _verdict("first use under 3 s", {("cold cache,", "seconds"): first.get("cold")}, lambda x: x < 3),
        _verdict("peak at most 1 % above", {("gpt2", "adamw"): memory.get("more")}, lambda x: x <= 0.01),
    ]


def _verdict(
    claim: str, figures: Mapping[tuple[str, str], float | None], keeps: Callable[[float], bool]
) -> Verdict:
    said = {" ".join(key): x for key, x in figures.items()}
    found = [(what, x, keeps(x)) for what, x in said.items() if x is not None]
    return Verdict(claim, found, [what for what, x in said.items() if x is None])
