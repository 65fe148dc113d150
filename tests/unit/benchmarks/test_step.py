"""The benchmark of steps measures what it says: its tensors, its bytes, its rounds, its verdicts."""

import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import _measuring
import pytest
import torch
from _bandwidth import Triad
from _candidates import Eager, bytes_moved, bytes_needed, changing, ours, slopes_of, theirs
from _common import interleaved_within, markdown
from _fresh import first_use
from _measuring import ONE_MATRIX, Setting, TooLong, measured, ready, tensors_for, within
from _peers import PEERS
from _shapes import SHAPES, Tensors
from _tables import number, remarks, table, verdicts
from torch import Tensor

from thalweg.rules.catalogue import CATALOGUE

TINY = Tensors("tiny", ((6, 4), (5,), (3, 2, 2, 2)))
IN_TORCH = [
    (peer, name) for peer, found in PEERS.items() if found.module == "torch.optim" for name in found.ways
]
ELSEWHERE = [
    (peer, name) for peer, found in PEERS.items() if found.module != "torch.optim" for name in found.ways
]


def setting(**changed: Any) -> Setting:
    """Return one whose triad is tiny, and which has one round of each."""
    return Setting(**{"triad": Triad(1, length=1000), "seconds": 0.0, "peers": ["torch", "fused"]} | changed)


# What is measured on.


@pytest.mark.parametrize(
    ("name", "tensors", "numbers"),
    [
        ("one", 1, 25_000_000),
        ("resnet50", 161, 25_557_032),
        ("gpt2", 148, 124_439_808),
        ("mlp", 4, 101_770),
        ("small", 1000, 1_000_000),
    ],
)
def test_lists_of_tensors_have_the_published_sizes(name: str, tensors: int, numbers: int) -> None:
    assert (len(SHAPES[name].shapes), SHAPES[name].numbers) == (tensors, numbers)


def test_hidden_matrices_are_all_but_embeddings_first_filters_and_head() -> None:
    resnet, gpt2 = SHAPES["resnet50"], SHAPES["gpt2"]

    assert len(gpt2.hidden) == 4 * 12
    assert {gpt2.shapes[i] for i in gpt2.aside} == {(50_257, 768), (1024, 768)}
    assert len(resnet.hidden) == 53 - 1
    assert {resnet.shapes[i] for i in resnet.aside} == {(64, 3, 7, 7), (1000, 2048)}
    assert SHAPES["mlp"].hidden == (0,)
    assert SHAPES["small"].hidden == ()


def test_rules_about_matrices_get_a_matrix_in_place_of_the_one_vector() -> None:
    assert ONE_MATRIX.numbers == SHAPES["one"].numbers
    for name in ("muon", "shampoo", "soap", "adafactor"):
        assert tensors_for(CATALOGUE[name], SHAPES["one"]) is ONE_MATRIX
        assert tensors_for(CATALOGUE[name], SHAPES["mlp"]) is SHAPES["mlp"]
    assert tensors_for(CATALOGUE["lamb"], SHAPES["one"]) is SHAPES["one"]


# Bytes.


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("sgd", 3),  # p and g read, p written
        ("momentum", 5),
        ("adam", 7),
        ("amsgrad", 9),
        ("lion", 5),
        ("prodigy", 10),  # m, v, s read and written, p0 only read
        ("schedule-free-adamw", 7),
        ("sophia-g", 6),  # the curvature only read
    ],
)
def test_bytes_moved_are_arrays_that_one_pass_reads_or_writes(name: str, arrays: int) -> None:
    tensors = Tensors("", ((10,), (3, 4)))
    candidate = ours(CATALOGUE[name], tensors, slopes_of(tensors))
    candidate.advance(1)

    assert bytes_moved(name, candidate) == 4 * 22 * arrays


def test_bytes_moved_count_what_adamw_moves_beside_a_rule_for_matrices() -> None:
    tensors = Tensors("", ((10,), (3, 4)))
    candidate = ours(CATALOGUE["muon"], tensors, slopes_of(tensors))
    candidate.advance(1)

    assert bytes_moved("muon", candidate) == 4 * (10 * 7 + 12 * 5)


def test_buffers_that_a_step_leaves_as_they_are_do_not_count_as_written() -> None:
    assert changing("soap") == {"exp_avg", "exp_avg_sq", "L", "R"}
    assert changing("sophia-h") == {"exp_avg"}
    assert changing("rprop") == {"prev", "step_size"}
    assert changing("adafactor") == {"row_var", "col_var", "variance"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_memory_needed_is_known_before_a_candidate_is_made(name: str) -> None:
    candidate = ours(CATALOGUE[name], TINY, slopes_of(TINY))
    candidate.advance(1)
    singles = 4 * 4 * len(TINY.shapes)  # a rule may keep some numbers a parameter

    needed = bytes_needed(CATALOGUE[name], TINY)

    assert 0 <= needed - 2 * 4 * TINY.numbers - candidate.state_bytes() <= singles


# Candidates.


def moves(peer: str, name: str) -> None:
    """Assert that a peer's candidate steps and has the parameters that it was given."""
    slopes = slopes_of(TINY)
    candidate = ready(lambda: theirs(PEERS[peer], CATALOGUE[name], TINY, slopes), period=1).candidate
    candidate.refill()
    candidate.advance(2)
    assert candidate.state_bytes() >= 0
    if isinstance(candidate, Eager):
        given = [p for o in candidate.optimizers for group in o.param_groups for p in group["params"]]
        assert sum(p.numel() for p in given) == TINY.numbers
        assert all(torch.isfinite(p).all() for p in given)


@pytest.mark.parametrize(("peer", "name"), IN_TORCH)
def test_every_method_of_pytorch_that_is_named_steps(peer: str, name: str) -> None:
    moves(peer, name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs, of other packages
@pytest.mark.parametrize(("peer", "name"), ELSEWHERE)
def test_every_method_of_another_package_that_is_named_steps(peer: str, name: str) -> None:
    pytest.importorskip(PEERS[peer].module)
    moves(peer, name)


def test_peers_are_named_after_rules_of_the_catalogue() -> None:
    assert {name for peer in PEERS.values() for name in peer.ways} <= set(CATALOGUE)


class Careless(torch.optim.SGD):
    """Turns gradients in place, and takes the first away."""

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            p.grad.neg_()
        self.param_groups[0]["params"][0].grad = None


def test_gradients_that_a_method_changes_or_takes_away_are_put_back() -> None:
    slopes = [torch.ones(3), torch.ones(2)]
    leaves = [torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)]
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    candidate = Eager([Careless(leaves)], leaves, slopes)
    candidate.advance(1)

    candidate.refill()
    assert leaves[1].grad is not None
    after: list[Tensor] = [leaves[1].grad.clone()]
    candidate.advance(2)  # fails without the first gradient

    assert torch.equal(after[0], slopes[1])


def test_what_takes_too_long_is_broken_off() -> None:
    def forever() -> None:
        while True:
            math.sqrt(2.0)

    with pytest.raises(TooLong, match="over 0 s"), within(0.02):
        forever()


# Rounds.


def test_rounds_go_on_until_the_time_is_up_and_every_other_one_runs_backwards() -> None:
    order: list[str] = []

    def say(name: str) -> float:
        order.append(name)
        return 1.0

    candidates = {name: lambda n=name: say(n) for name in "abc"}  # type: ignore[misc]

    all_of_them = interleaved_within(candidates, math.inf, most=4)
    assert "".join(order) == "abccbaabccba"
    assert all_of_them == {name: [1.0] * 4 for name in "abc"}
    assert interleaved_within(candidates, 0.0) == {name: [1.0] for name in "abc"}


@pytest.mark.parametrize("name", ["adam", "muon", "lamb"])
def test_a_rule_is_measured_beside_its_peers(name: str) -> None:
    found = measured(name, TINY, setting())

    assert found["rounds"] == 1
    assert found["gb_per_s"] == pytest.approx(1e-6 * found["bytes"] / found["milliseconds"])
    expected = {peer for peer in ("torch", "fused") if name in PEERS[peer].ways}
    assert set(found["peers"]) == expected
    for each in found["peers"].values():  # of a single round, the median is its ratio
        assert each["times_ours"] == pytest.approx(each["milliseconds"] / found["milliseconds"])
        assert each["same_state"]


def test_what_is_not_measured_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured("sparse-adam", TINY, setting())["left_out"] == {"torch": "takes sparse gradients only"}
    assert measured("soap", SHAPES["small"], setting())["skipped"] == "no matrices for SOAP"
    hasty = measured("soap", Tensors("", ((400, 400),)), setting(longest=1e-4))
    assert hasty["skipped"] == "a step takes over 0 s"
    unknown = measured("sgd", TINY, setting(options={"no_such_option": 1}))
    assert unknown["skipped"].startswith("failed: InputError")

    monkeypatch.setattr(_measuring, "SPARE", math.inf)
    assert measured("adam", TINY, setting())["skipped"] == "not enough memory"


def test_peers_that_do_not_fit_beside_the_others_are_measured_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = iter([True, True, False, True, True])  # ours and torch; ours again and fused
    monkeypatch.setattr(_measuring, "free_memory", lambda: math.inf if next(room) else 0.0)

    found = measured("adam", TINY, setting())

    assert set(found["peers"]) == {"torch", "fused"}
    assert found["left_out"] == {}


def test_triad_computes_what_its_name_says_in_each_of_its_ways() -> None:
    triad = Triad(2, length=100_000)

    for way in (triad._torch, triad._numpy):
        triad._a.zero_()
        way()
        assert torch.equal(triad._a, torch.full((100_000,), 1 + 0.5 * 2))
    assert triad.bytes == 1_200_000
    assert triad.seconds() > 0


# Words.


def results(**shapes: Any) -> dict[str, Any]:
    return {"shapes": shapes}


def rule(of_triad: float = 1.0, **times_ours: float) -> dict[str, Any]:
    return {
        "milliseconds": 2.0,
        "bytes": 3e6,
        "gb_per_s": 1.5,
        "of_triad": of_triad,
        "peers": {
            peer: {"milliseconds": 2 * x, "times_ours": x, "same_state": peer != "optax"}
            for peer, x in times_ours.items()
        },
        "left_out": {},
    }


def said(found: dict[str, Any], claim: str) -> str:
    (line,) = [v.words() for v in verdicts(found) if claim in v.claim]
    return line


def test_tables_show_times_beside_ratios_and_mark_other_buffers() -> None:
    found = {"adam": rule(fused=1.25, optax=0.5), "sgd": rule(fused=1.0)}

    rows = table(found)

    assert rows[0] == ("", "ms", "MB moved", "GB/s", "of triad", "torch, fused", "optax")
    assert rows[1] == ("adam", "2.00", "3.00", "1.50", "1.00", "2.50 (1.25)", "1.00 (0.500)†")
    assert rows[2][-2:] == ("2.00 (1.00)", "–")
    assert markdown(rows).splitlines()[1] == "|---" + "|---:" * 6 + "|"
    assert [number(x) for x in (1234.5, 12.345, 0.012345)] == ["1234", "12.3", "0.0123"]


def test_what_was_left_out_is_said() -> None:
    found = {"adam": rule() | {"left_out": {"optax": "why"}}, "soap": {"skipped": "because", "left_out": {}}}

    assert list(remarks(found)) == ["adam: without optax: why", "soap: not measured: because"]
    assert len(table(found)) == 2
    assert list(remarks({"adam": rule() | {"rounds": 1}})) == ["adam: medians of 1 only"]


def test_a_claim_holds_only_if_every_figure_keeps_its_bound() -> None:
    four = ("sgd", "adagrad", "adam", "adamw")
    good = results(small={name: rule(fused=5.0) for name in four})
    bad = results(small={name: rule(fused=5.0) for name in four[:3]} | {"adamw": rule(fused=4.9)})
    some = results(small={"sgd": rule(fused=6.0)})

    assert said(good, "small vectors").startswith("holds:")
    assert said(bad, "small vectors").startswith("DOES NOT HOLD:")
    assert "adamw 4.90 ✗" in said(bad, "small vectors")
    assert said(some, "small vectors").startswith("holds so far:")
    assert said({}, "small vectors").startswith("not measured:")


def test_claims_compare_in_the_right_direction() -> None:
    level = results(one={"adam": rule(fused=1 / 1.05), "lion": rule(of_triad=0.85), "nadam": rule(torch=4.0)})
    worse = results(one={"adam": rule(fused=0.95), "lion": rule(of_triad=0.84), "nadam": rule(torch=3.9)})
    peers = results(gpt2={"muon": rule(torch=9.0, optax=1.4)})

    for claim in ("fused", "triad", "default"):
        claims = [v for v in verdicts(level) if claim in v.claim and v.figures]
        assert claims
        assert all(v.words().startswith("holds so far") for v in claims), claims
        assert any("DOES NOT" in v.words() for v in verdicts(worse) if claim in v.claim)
    assert "gpt2 muon 1.40 ✗" in said(peers, "fastest peer")
    slow = {"first_use": {"warm": 1.2, "cold": 2.0}, "memory": {"thalweg.optim.AdamW": {"more": 0.02}}}
    assert "DOES NOT HOLD" in said(slow, "under 1 s")
    assert said(slow, "under 3 s").startswith("holds")
    assert "DOES NOT HOLD" in said(slow, "peak")


# Whole processes.


@pytest.mark.slow
def test_results_are_written_and_shown_again_as_markdown(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    script = [sys.executable, str(Path(__file__).parents[3] / "benchmarks" / "step.py"), "--out", str(out)]
    few = ["--rules", "sgd,adam", "--shapes", "mlp", "--peers", "torch,fused", "--parts", "steps"]

    ran = subprocess.run([*script, *few, "--seconds", "0.1"], capture_output=True, text=True, check=True)
    more = [*few[2:], "--rules", "momentum", "--add"]
    subprocess.run([*script, *more, "--seconds", "0.1"], capture_output=True, check=True)
    again = subprocess.run([*script, "--markdown"], capture_output=True, text=True, check=True)
    wrong = subprocess.run([*script, "--rules", "adm"], capture_output=True, text=True)

    found = json.loads(out.read_text())["results"]["shapes"]["mlp"]
    assert list(found) == ["sgd", "adam", "momentum"]
    assert "MNIST MLP 784–128–10: 4 tensors, 101,770 numbers" in ran.stdout
    assert f"| adam | {number(found['adam']['milliseconds'])} |" in again.stdout
    assert wrong.returncode == 2
    assert "adamw" in wrong.stderr or "adam" in wrong.stderr


@pytest.mark.slow
def test_first_use_is_measured_in_fresh_processes() -> None:
    found = first_use()

    assert set(found) == {"cold", "warm", "torch", "making", "torch making", "rounds"}
    assert median([found["making"], found["torch making"]]) > 0
