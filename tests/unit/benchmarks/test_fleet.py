"""The benchmark of fleets does what it says: its trainings, its figures, its ratios, its verdicts."""

import json
import math
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _fleet_process
import _fleet_tables
import pytest
import torch
from _fleet_floor import batch, product_speed, step_flops
from _fleet_loops import OPTIMIZERS, indexed, loaded, train
from _fleet_models import MODELS
from _fleet_process import Failed, Watch, family, figures, last_line, memory
from _fleet_work import ALL, CANDIDATES, GRIDS, RATES, WORKS, Job, shrunk

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fleet.py"


def job(**changed: Any) -> Job:
    given = {"work": "digits", "candidate": "memory", "steps": 4, "batch_size": 8, "positions": (3, 5),
             "seeds": (0,), "threads": 1, "split": ""}  # fmt: skip
    return Job(**(given | changed))


# What is trained.


def test_trainings_are_four_optimizers_by_nine_rates_by_three_seeds() -> None:
    whole = job(positions=range(9), seeds=(0, 1, 2))

    runs = list(whole.runs())

    assert len(set(runs)) == len(runs) == whole.count == ALL == 108
    assert {name for name, _, _ in runs} == set(GRIDS) == set(OPTIMIZERS)
    assert RATES["adam"][0] == pytest.approx(1e-5)
    assert RATES["sgd"][8] == pytest.approx(10**0.5)
    assert {name: work.runs for name, work in WORKS.items()} == {
        "digits": 108, "mnist": 108, "cnn": 36, "text": 12}  # fmt: skip


def test_a_job_survives_being_sent() -> None:
    assert list(Job(**json.loads(job().to_json())).runs()) == list(job().runs())


def test_works_can_be_made_smaller() -> None:
    assert shrunk(WORKS["digits"], 0.1).steps == 45
    assert shrunk(WORKS["digits"], 1e-6).steps == 3
    assert shrunk(WORKS["mnist"], 1.0, quick=True).runs == 8


@pytest.mark.parametrize("batches", [loaded, indexed])
def test_loops_see_every_example_once_an_epoch_in_another_order(batches: Any) -> None:
    torch.manual_seed(0)
    x = torch.arange(10.0)[:, None]

    seen = [y for _, y in islice(batches(x, x[:, 0], 4), 6)]

    assert [len(y) for y in seen] == [4, 4, 2, 4, 4, 2]
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_training_lowers_the_loss_and_repeats_by_its_seed() -> None:
    x, y = batch("digits", 40)
    data = [x, x[:, 0].gt(0).long(), x, x[:, 0].gt(0).long()]
    del y

    long, again, other = (train(job(steps=60), data, "adam", 0.01, seed) for seed in (0, 0, 1))
    short = train(job(steps=3), data, "adam", 0.01, 0)
    lost = train(job(steps=3), data, "sgd", math.inf, 0)

    assert long.loss is not None
    assert short.loss is not None
    assert long.loss == again.loss != other.loss
    assert long.loss < short.loss
    assert long.steady > 0
    assert lost.loss is None


@pytest.mark.parametrize("name", WORKS)
def test_operations_of_an_update_are_counted_for_each_network(name: str) -> None:
    assert step_flops(name, 4) == 2 * step_flops(name, 2) > 0
    assert MODELS[name]()(batch(name, 2)[0]).shape[0] == 2


def test_operations_of_the_mlp_are_those_of_its_products() -> None:
    hidden, last = 64 * 32, 32 * 10

    assert step_flops("digits", 32) == 2 * 32 * (2 * hidden + 3 * last)  # inputs have no gradient
    assert product_speed(1, 0.0) > 1e8


# Processes.


def test_a_candidate_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_fleet_process, "__file__", str(tmp_path / "here.py"))
    (tmp_path / "_fleet_optuna.py").write_text("import sys; sys.path.clear(); import no_such_package")
    with pytest.raises(Failed, match="ModuleNotFoundError: No module named 'no_such_package'"):
        _fleet_process.measure(job())

    (tmp_path / "_fleet_optuna.py").write_text("import time; time.sleep(60)")
    with pytest.raises(Failed, match="over 0 s"):
        _fleet_process.measure(job(), longest=0.2)

    (tmp_path / "_fleet_optuna.py").write_text("print('word')")
    with pytest.raises(Failed, match="ended with 0"):
        _fleet_process.measure(job())

    (tmp_path / "_fleet_optuna.py").write_text("print('word'); print('{\"extra\": 0, \"own_peak\": 5}')")
    assert _fleet_process.measure(job())["peak"] >= 5


def test_figures_leave_out_what_only_measuring_took() -> None:
    assert figures({"own_peak": 7, "extra": 2.0}, whole=5.0, peak=9) == {"whole": 3.0, "peak": 9}
    assert last_line("Traceback:\n  File\nKeyError: 3\n\n") == "KeyError: 3"


def test_memory_is_that_of_a_process_and_its_descendants() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    process = subprocess.Popen([sys.executable, "-c", code], text=True)
    try:
        until = time.monotonic() + 20
        while len(found := family(process.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        watch = Watch(process.pid)
        while not watch.peak and time.monotonic() < until:
            time.sleep(0.05)
        watch.done.set()
        watch.join()
        own = memory(process.pid)
    finally:
        _fleet_process.end(process)

    assert len(found) == 2
    assert watch.peak > own > 0
    assert memory(process.pid) == 0


# Words.


def seen(steady: float, total: float = 4.0, **more: Any) -> dict[str, Any]:
    found = {"steady_us": steady, "prepared": 1.0, "total": total, "whole": total + 2, "peak": 1e6}
    return found | {"threads": 2, "losses": [["sgd", 0.1, 0, 2.0], ["sgd", 0.2, 0, 1.0]]} | more


def work(runs: int = 108, **candidates: Any) -> dict[str, Any]:
    found = {name: each if isinstance(each, dict) else {"rounds": each} for name, each in candidates.items()}
    return {"steps": 10, "batch_size": 4, "runs": runs, "of": 108, "flops": 2e6, "speeds": [1e9, 2e9, 4e9],
            "candidates": {name.replace("_", "-"): each for name, each in found.items()}}  # fmt: skip


def test_extrapolation_multiplies_the_time_of_trainings_only() -> None:
    few = {"prepared": 1.0, "total": 4.0, "whole": 6.0}

    assert _fleet_tables.scaled(few, 12, 108) == {"prepared": 1.0, "total": 1 + 9 * 3, "whole": 28 + 2}
    assert _fleet_tables.scaled(few | {"ending": 2.0}, 12, 108)["total"] == 1 + 2 + 9 * 1
    assert _fleet_tables.scaled(few, 108, 108) == few


def test_ratios_are_medians_of_rounds() -> None:
    found = work(optuna=[seen(10), seen(40), seen(90)], fleet=[seen(1), seen(2), seen(3)])

    assert _fleet_tables.times_as_fast(found, "fleet", "optuna", "steady_us") == 20
    assert _fleet_tables.times_as_fast(found, "fleet", "jax", "steady_us") is None
    assert _fleet_tables.middle(found, "optuna", "steady_us") == 40


def test_tables_show_medians_beside_the_floor() -> None:
    found = work(12, optuna=[seen(4000)], auto=[seen(2000, executor="processes")], ray={"failed": "because"})

    rows, compared = _fleet_tables.table(found), _fleet_tables.comparison(found)

    assert _fleet_tables.floor(found) == 500
    assert [row[0] for row in rows[1:]] == ["Optuna, DataLoader", "thalweg, auto: processes"]
    every = 3 / (12 * 10) * 1e6
    expected = (4000, every, 8, 1, 28, 30, 1)
    assert rows[1][1:] == (*map(_fleet_tables.number, expected), "2")
    assert compared == [("", "Optuna, DataLoader"), ("thalweg, auto", "2.00 / 1.00 / 1.00")]
    assert "extrapolated from 12" in _fleet_tables.described("digits", found)
    assert "extrapolated" not in _fleet_tables.described("digits", work())
    assert "Ray Tune: not measured: because" in list(_fleet_tables.remarks(found))


def test_losses_that_are_not_those_of_the_others_are_said() -> None:
    wrong = seen(1) | {"losses": [["sgd", 0.1, 0, 2.0], ["sgd", 0.2, 0, None]]}
    found = work(optuna=[seen(1)], memory=[seen(1)], fleet=[wrong])

    (line,) = _fleet_tables.remarks(found)

    assert line == "validation loss of sgd at its best rate: 1.00; thalweg, fleet DISAGREES: 2.00"
    assert list(_fleet_tables.remarks(work())) == []
    means = _fleet_tables.mean_losses([["sgd", 0.1, 0, 1.0], ["sgd", 0.1, 1, 3.0], ["adam", 1, 0, None]])
    assert means == {"sgd": {"0.1": 2.0}, "adam": {"1": math.inf}}


def test_losses_may_differ_at_a_quarter_of_the_rates() -> None:
    usual = dict(zip("abcd", (1.0, 1.0, 1.0, math.inf), strict=True))

    assert _fleet_tables.away(usual, usual) == 0
    assert _fleet_tables.away(usual | {"a": 9.0}, usual) == 0
    assert _fleet_tables.away(usual | {"a": 9.0, "b": 3.0}, usual) == 2
    assert _fleet_tables.away(usual | {"a": math.inf, "d": 1.0}, usual) == 1


def test_what_empty_caches_cost_is_said() -> None:
    twice = work(fleet=[seen(1) | {"prepared": 3.0}, seen(1)])

    assert "thalweg, fleet: with empty caches 3.00 s to the first" in list(_fleet_tables.remarks(twice))


def said(claim: str, **works: Any) -> str:
    (line,) = [v.words() for v in _fleet_tables.verdicts({"workloads": works}) if claim in v.claim]
    return line


def test_claims_are_held_against_their_peers() -> None:
    good = work(
        optuna=[seen(300, 200.0)],
        jax=[seen(24)],
        jax_shared=[seen(12)],
        fleet=[seen(10)],
        auto=[seen(10, 4.6)],
    )

    assert said("updates 30", digits=good).startswith("holds:")
    assert said("total 15", digits=good).startswith("holds:")
    assert "digits fleet 1.20" in said("updates 1.2", digits=good)  # beside the faster of the two
    assert said("auto at most", digits=good).startswith("holds so far: auto")
    slow = work(serial=[seen(5, 4.0)], auto=[seen(5, 4.8)])
    assert said("auto at most", digits=slow).startswith("DOES NOT HOLD")
    assert "cnn auto 0.833 ✗" in said("CNN, total", cnn=slow)
    assert said("Ray").startswith("not measured:")
    assert len(_fleet_tables.verdicts({})) == 10


def test_every_candidate_has_its_script() -> None:
    assert all((SCRIPT.parent / each.script).is_file() for each in CANDIDATES.values())


# Whole processes.


@pytest.mark.slow
def test_results_are_written_and_shown_again_as_markdown(tmp_path: Path) -> None:
    for package in ("optuna", "jax", "optax"):
        pytest.importorskip(package)
    out = tmp_path / "fleet.json"
    script = [sys.executable, str(SCRIPT), "--json", str(out)]
    few = ["--quick", "--workloads", "digits", "--candidates", "optuna,memory,jax,jax-shared,serial"]

    ran = subprocess.run([*script, *few], capture_output=True, text=True, check=True)
    again = subprocess.run([*script, "--markdown"], capture_output=True, text=True, check=True)
    wrong = subprocess.run([*script, "--candidates", "optna"], capture_output=True, text=True)

    found = SimpleNamespace(**json.loads(out.read_text())["results"]["workloads"]["digits"])
    assert (found.steps, found.runs, found.of) == (6, 8, 108)
    for name in few[-1].split(","):
        (only,) = found.candidates[name]["rounds"]
        assert len(only["losses"]) == 8
        assert 0 < only["prepared"] < only["total"] < only["whole"]
        assert only["steady_us"] > 0
        assert CANDIDATES[name].title in ran.stdout
    assert "DISAGREES" not in ran.stdout
    assert "| thalweg, serial |" in again.stdout
    assert wrong.returncode == 2
    assert "optuna" in wrong.stderr
