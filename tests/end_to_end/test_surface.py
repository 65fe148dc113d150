"""`thalweg surface` as a person runs it: the known results, the page, and a sentence for what cannot work."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from end_to_end.program import Call, contents


def answer(call: Call, *arguments: str) -> Any:
    done = call("surface", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


@pytest.mark.parametrize(
    ("optimizer", "rate", "settings", "loss"),
    [
        ("sgd", "1e-4", (), "5.0095"),
        ("momentum", "1e-4", (), "0.1284"),
        ("adam", "1e-2", (), "2.0530"),
        ("rmsprop", "1e-3", ("--set", "rmsprop.alpha=0.999"), "4.9082"),
        ("rmsprop", "1e-3", ("--set", "rmsprop.alpha=0.99"), "3.0070"),
        ("rmsprop", "1e-3", ("--set", "rmsprop.alpha=0.9"), "1.5763"),
    ],
)
def test_losses_on_rosenbrock_after_2000_steps(
    call: Call, optimizer: str, rate: str, settings: tuple[str, ...], loss: str
) -> None:
    asked = ("rosenbrock", "--start", "-1,2", "--steps", "2000")

    said = answer(call, *asked, "--optimizers", optimizer, "--rates", f"{optimizer}={rate}", *settings)

    (one,) = said["optimizers"]
    assert f"{one['final']['value']:.4f}" == loss
    assert (one["name"], one["rate"], one["rate_is"], one["grid"]) == (optimizer, float(rate), "given", [])
    assert one["path"]["steps"][-1] == 2000
    assert one["path"]["points"][-1] == one["final"]["at"]


def test_a_path_is_torchs(call: Call) -> None:
    w = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        ((w[0] - 3) ** 2 + 25 * w[1] ** 2 + torch.sin(w[0] * w[1])).backward()
        optimizer.step()

    formula = "(w1 - 3)^2 + 25*w2^2 + sin(w1*w2)"
    said = answer(call, formula, "--optimizers", "adam", "--rates", "0.1", "--steps", "100")

    assert said["optimizers"][0]["final"]["at"] == pytest.approx(w.tolist(), abs=1e-12)
    assert said["variables"] == ["w1", "w2"]
    assert said["minima_are"] == "found"


def test_who_is_first_is_who_arrives_at_the_least_step(call: Call) -> None:
    said = answer(call, "beale", "--steps", "500")

    steps = {one["name"]: one["arrived_at_step"] for one in said["optimizers"]}
    assert list(steps) == ["sgd", "momentum", "rmsprop", "adam"]
    known = {name: step for name, step in steps.items() if step is not None}
    assert said["first"] == min(known, key=known.__getitem__)
    assert said["minima"] == [{"at": [3.0, 0.5], "value": 0.0}]
    for one in said["optimizers"]:
        assert len(one["grid"]) == 29
        assert one["rate"] in [tried["rate"] for tried in one["grid"]]


@pytest.mark.slow
def test_the_table_of_the_page_is_what_comes_out(call: Call) -> None:
    page = (Path(__file__).parents[2] / "docs" / "surface.md").read_text()
    rows = re.findall(r"^\| `(.+?)` \| (.+) \| (.+?) \|$", page, re.MULTILINE)

    assert len(rows) == 12
    for function, cells, first in rows:
        said = answer(call, function)
        found = [
            f"{one['arrived_at_step'] or f'({distance:.2g})'} at {one['rate']:g}"
            for one in said["optimizers"]
            for distance in [one["final"]["distance"]]
        ]
        assert found == cells.split(" | "), function
        names = [said["first"]] if said["first"] else said["tied_first"]
        assert first.split(",")[0] == (" and ".join(names) or "nobody")


def test_one_optimizer_at_several_rates_and_nobody_arrives(call: Call) -> None:
    asked = ("--optimizers", "adam", "--rates", "0.001,0.01", "--steps", "50")

    said = answer(call, "rosenbrock", *asked)

    assert [one["label"] for one in said["optimizers"]] == ["adam at 0.001", "adam at 0.01"]
    assert said["first"] is None
    assert said["tied_first"] == []
    assert said["sentences"][0].startswith("Nobody arrives: in 50 steps")


def test_escape_from_the_saddle_is_measured_and_repeats(call: Call) -> None:
    asked = ("saddle", "--noise", "0.01", "--runs", "200", "--optimizers", "sgd,adam", "--rates", "0.01")

    said, again = answer(call, *asked), answer(call, *asked)
    still = answer(call, "saddle", "--optimizers", "sgd,adam", "--rates", "0.01")

    assert said == again
    sgd, adam = said["escape"]["optimizers"]
    assert (sgd["runs"], sgd["escaped"], sgd["share"]) == (200, 200, 1.0)
    # log(1 + (Y/0.6745)² · 0.0404/(10⁻⁴ · 0.01)) / (2 log 1.02) with Y² = 1 − √½ is 256.7; the term y⁴/2
    # slows the last steps a little.
    assert sgd["predicted_median"] == pytest.approx(256.7, abs=0.1)
    low, high = sgd["median_interval"]
    assert low <= sgd["median"] <= high
    assert sgd["median"] == pytest.approx(sgd["predicted_median"], rel=0.05)
    assert adam["predicted_median"] is None
    assert still["escape"] is None
    assert [one["final"]["at"][1] for one in still["optimizers"]] == [0.0, 0.0]
    assert "end at the saddle (0, 0), where the gradient is zero: no minimum" in " ".join(still["sentences"])


def test_a_formula_may_begin_with_a_minus_sign(call: Call) -> None:
    said = answer(call, "-cos(x)", "--optimizers", "sgd", "--steps", "50")

    assert {"at": [0.0], "value": -1.0} in said["minima"]
    assert said["optimizers"][0]["reached_minimum"] == [0.0]


def test_a_minimum_that_is_given_is_measured_from(call: Call) -> None:
    said = answer(call, "abs(x) + abs(y)", "--minimum", "0,0", "--optimizers", "adam", "--steps", "300")

    assert said["minima_are"] == "known"
    assert said["first"] == "adam"


def test_the_page_is_written_and_named(call: Call, tmp_path: Path) -> None:
    done = call("surface", "booth", "--steps", "50", "--out", "new/booth.html")

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "Page: new/booth.html"
    assert set(contents(tmp_path)) == {"new", "new/booth.html"}
    assert "arrives first" in (tmp_path / "new" / "booth.html").read_text()
    said = answer(call, "booth", "--steps", "50", "--out", "booth.html")
    assert said["page"] == "booth.html"


def test_the_terminal_shows_the_drawing_the_table_and_the_conclusions(call: Call, tmp_path: Path) -> None:
    done = call("surface", "himmelblau", "--steps", "100")

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "Himmelblau's function: (x^2 + y - 11)^2 + (x + y^2 - 7)^2"
    assert "\x1b" not in done.out
    table = next(i for i, line in enumerate(lines) if line.startswith("Optimizer"))
    assert all(len(line) <= 80 for line in lines[: table + 6])
    assert lines[table + 7].split()[1] in ("arrives", "tie:")
    assert contents(tmp_path) == {}


def test_functions_are_listed_with_what_they_show(call: Call) -> None:
    said, listed = answer(call), call("surface")

    names = [entry["name"] for entry in said]
    assert {"rosenbrock", "rastrigin", "saddle", "plateau", "quadratic:kappa=100"} <= set(names)
    assert all(name in listed.out for name in names)


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (
            ("rosenbrok",),
            "the function must be a known name or a formula; got 'rosenbrok'. Did you mean rosen",
        ),
        (("x + y + z",), "the function must have one or two variables; got 3: x, y, z."),
        (("x +* y",), "the function must be a formula; got '*' at character 4."),
        (("__import__('os')",), "the function must"),
        (("log(x)", "--start", "-1"), "the start must be where the value of the function is a finite number"),
        (("booth", "--start", "1,two"), "--start must be a number; got 'two'."),
        (("booth", "--start", "1"), "the start must have a number for each of x, y; got 1. Such as 1,1."),
        (
            ("booth", "--optimizers", "adan"),
            "the optimizer must be one that Thalweg knows; got 'adan'. Did you",
        ),
        (("booth", "--optimizers", "muon"), "the optimizer muon must move points"),
        (("booth", "--optimizers", ","), "the optimizers must be one or more different names; got []."),
        (("booth", "--rates", "sgd=0.1,0.2"), "--rates must name an optimizer for each rate or for none"),
        (("booth", "--rates", "fast"), "--rates must be a number; got 'fast'."),
        (("booth", "--rates", "-1"), "lr of SGD must be a finite number of at least 0; got -1.0."),
        (("booth", "--set", "alpha=0.9"), "--set must be OPTIMIZER.NAME=VALUE; got 'alpha=0.9'."),
        (("booth", "--set", "adan.eps=1"), "--set adan.eps must be of an optimizer that runs; got 'adan'."),
        (("booth", "--set", "sgd.alpha=1"), "--set sgd.alpha must be among momentum, dampening,"),
        (("booth", "--set", "sgd.lr=1"), "--set sgd.lr must be among"),
        (("booth", "--set", "rmsprop.alpha=2"), "alpha of RMSprop must be a number in [0, 1]; got 2.0."),
        (("booth", "--set", "rmsprop.alpha=x"), "--set rmsprop.alpha must be a number in [0, 1]; got 'x'."),
        (("booth", "--box", "1,0,0,1"), "--box must be a lower and a higher number for each of x, y"),
        (("booth", "--minimum", "0,0"), "--minimum must have no lower value close by; got '0,0'."),
        (("booth", "--minimum", "0"), "--minimum must have a number for each of x, y; got '0'."),
        (("booth", "--steps", "0"), "--steps of the paths must be a whole number in [1, 100000]; got 0."),
        (("booth", "--noise", "-1"), "--noise of the gradient must be a finite number of at least 0"),
        (("booth", "--within", "0"), "--within of a minimum must be a finite number above 0; got 0.0."),
        (("saddle", "--runs", "200"), "--runs must be with --noise; got no noise."),
        (("saddle", "--noise", "1", "--runs", "9"), "--runs of the escape must be a whole number in [10, 10"),
        (("booth", "--noise", "1", "--runs", "99"), "escape from a saddle must have a saddle to begin at"),
        (("booth", "--out", "booth.svg"), "--out must end in .html; got 'booth.svg'."),
        (("booth", "--seed", "-1"), "--seed of the noise must be a whole number of at least 0; got -1."),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], begins: str
) -> None:
    done = call("surface", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"thalweg: {begins}")
    assert contents(tmp_path) == {}
