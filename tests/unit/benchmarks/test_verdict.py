"""The benchmark of the verdict does what it says: its races, its shares, its judgement of the promises."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import _verdict_races as races
import numpy as np
import pytest
from scipy import stats
from verdict import LOOKS, percent, promises

from thalweg.evidence import levels, minimum_seeds

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "verdict.py"


def test_the_looks_are_the_fewest_seeds_and_such_that_each_can_decide() -> None:
    for optimizers, (least, looks) in LOOKS.items():
        assert least == (minimum_seeds(optimizers),)
        assert all(n >= minimum_seeds(optimizers, x) for n, x in zip(looks, levels(looks), strict=True))


def test_a_race_with_looks_ends_at_the_first_with_a_winner() -> None:
    """0.1 ahead on every seed wins after 8; with two of the first eight behind it takes all 16."""
    ahead = np.full(16, 0.1)
    behind = ahead.copy()
    behind[[2, 5]] = (-0.01, -0.02)

    for difference, seeds in ((ahead, 8), (behind, 16)):
        found = races.at_looks(np.stack([difference, np.zeros(16)]), (8, 16))
        assert (found.winner, found.seeds) == ("o0", seeds)
    assert races.at_looks(np.zeros((2, 16)), (8, 16)).seeds == 16


@pytest.mark.parametrize(("count", "of"), [(0, 20), (7, 20), (20, 20)])
def test_a_share_has_the_interval_of_clopper_and_pearson(count: int, of: int) -> None:
    expected = stats.binomtest(count, of).proportion_ci(0.95, method="exact")

    assert races.share(count, of) == pytest.approx(
        {"count": count, "of": of, "share": count / of, "low": expected.low, "high": expected.high}
    )


def test_every_noise_has_mean_0() -> None:
    """Within 4.5 standard errors of 10⁵ draws; t with 2 degrees of freedom has only a median."""
    for name, draw in races.NOISES.items():
        x = draw(np.random.default_rng(0), (100_000,))
        centre = np.median(x) if name == "heavy tails" else x.mean()

        assert abs(centre) < 4.5 * 1.5 / np.sqrt(100_000)


def test_equals_and_unequals_count_what_they_say() -> None:
    equal = races.equals("normal", 2, (8, 16), races=50, stream=0)
    apart = races.unequal("normal", (8,), 50.0, races=20, stream=0)

    assert equal["false_winners"]["of"] == 50
    assert equal["false_winners"] == equal["any_false_finding"]  # of two, a finding is a winner
    assert 8 <= equal["mean_seeds"] <= 16
    assert (apart["found"]["count"], apart["wrong"]["count"], apart["mean_seeds"]) == (20, 0, 8.0)


def results(finding: int, power: int, decided: int, own: int) -> dict[str, Any]:
    share = races.share
    return {
        "equals": [{"any_false_finding": share(finding, 100)}],
        "unequal": [
            {"looks": [10], "noise": "normal", "found": share(power, 100)},
            {"looks": [6], "noise": "normal", "found": share(0, 100)},
        ],
        "advice": [{"decided": share(decided, 100)}],
        "self-races": [{"false_winners": share(own, 100)}],
    }


def test_a_promise_is_broken_where_the_interval_lies_beyond_it() -> None:
    """Of 100: 12 give [6.4, 20.0] %, above 5 %, and 70 give [60.0, 78.8] %, below 80 %; 10 and 73 do not."""
    assert all(": kept" in said for said in promises(results(10, 73, 73, 10)))
    for broken in ((12, 80, 80, 5), (5, 70, 80, 5), (5, 80, 70, 5), (5, 80, 80, 12)):
        assert sum("BROKEN by 1" in said for said in promises(results(*broken))) == 1


def test_shares_are_printed_in_per_cent_with_their_interval() -> None:
    assert percent(races.share(5, 100)) == "5.00 [1.64, 11.28]"


@pytest.mark.slow
def test_the_quick_benchmark_runs_and_is_printed_again_from_its_file(tmp_path: Path) -> None:
    out = tmp_path / "verdict.json"
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--workers", "2", "--json", out], capture_output=True, text=True
    )
    again = subprocess.run(
        [sys.executable, SCRIPT, "--markdown", "--json", out], capture_output=True, text=True
    )
    found = json.loads(out.read_text())["results"]

    assert (ran.returncode, again.returncode) == (0, 0), ran.stderr + again.stderr
    assert "Results: " in ran.stdout
    assert [r["noise"] for r in found["equals"][:3]] == list(races.NOISES)
    assert {"seeds": 8, "races": 2}.items() <= found["self-races"][0].items()
    assert again.stdout.count("|---") > 7
