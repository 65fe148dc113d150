"""`thalweg trace`: the results that the literature and a pocket calculator give, to their printed digits."""

import json
from typing import Any

import pytest

from end_to_end.program import Call


def rows(call: Call, *arguments: str) -> list[dict[str, Any]]:
    done = call("trace", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.out)["rows"]
    return found


def path(call: Call, *arguments: str) -> list[float]:
    """The one variable after each step, to twelve digits."""
    return [float(f"{row['next'][0]:.12g}") for row in rows(call, *arguments)]


def test_plain_descent_multiplies_the_loss_by_the_same_factor(call: Call) -> None:
    found = rows(call, "(w-3)^2", "--lr", "0.1", "--start", "0", "--steps", "3")

    assert [round(row["next"][0], 12) for row in found] == [0.6, 1.08, 1.464]
    assert [row["loss"] for row in found] == pytest.approx([9, 9 * 0.64, 9 * 0.64**2], rel=1e-14)
    assert found[0]["predicted_change"] == pytest.approx(-0.1 * 36, rel=1e-14)
    assert found[0]["change"] == pytest.approx(5.76 - 9, rel=1e-14)
    last = rows(call, "(w-3)^2", "--lr", "0.1", "--start", "10", "--steps", "100")[-1]
    assert f"{last['next'][0]:.10f}" == "3.0000000014"


def test_adam_by_hand(call: Call) -> None:
    arguments = ("--optimizer", "adam", "--lr", "0.1", "--start", "10", "--steps", "2")
    done = call("trace", "w^2", *arguments, "--json")
    answer = json.loads(done.out)
    first, second = answer["rows"]

    assert answer["variables"] == ["w"]
    assert (answer["expression"], answer["optimizer"]) == ("w^2", "adam")
    assert answer["hyperparameters"]["betas"] == [0.9, 0.999]
    assert "v̂ = v / (1 − β₂ᵗ)" in answer["formula"]
    assert {n: round(first[n][0], 9) for n in ("m", "v", "m_hat", "v_hat", "next")} == {
        "m": 2, "v": 0.4, "m_hat": 20, "v_hat": 400, "next": 9.9,
    }  # fmt: skip
    assert first["gradient"] == [20]
    assert first["parameters"] == [10]
    assert [round(second[name][0], 9) for name in ("m", "v")] == [3.78, 0.79164]
    assert f"{second['next'][0]:.6f}" == "9.800027"
    table = call("trace", "w^2", *arguments).out
    assert "m̂ = 2*10 = 20" in table
    assert "w = 9.9 - 0.1*0.999725 = 9.800027" in table


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("(w-5)^2", "--lr", "0.3", "--steps", "2"), [3, 4.2]),  # not 4.02
        (("(w-4)^2", "--lr", "0.2", "--steps", "3"), [1.6, 2.56, 3.136]),
        (
            ("w^2", "--optimizer", "momentum", "--lr", "0.1", "--start", "10", "--steps", "2"),
            [8, 4.6],
        ),
        (("w^2", "--set", "momentum=0.9", "--lr", "0.1", "--start", "10", "--steps", "2"), [8, 4.6]),
        (("w^4-2*w^2", "--lr", "0.01", "--start", "2", "--steps", "2"), [1.76, 1.61232896]),
    ],
)
def test_known_paths(call: Call, arguments: tuple[str, ...], expected: list[float]) -> None:
    assert path(call, *arguments) == expected


def test_momentum_has_its_velocity_by_name(call: Call) -> None:
    found = rows(call, "w^2", "--optimizer", "momentum", "--lr", "0.1", "--start", "10", "--steps", "2")

    assert [row["velocity"] for row in found] == [[20], [34]]


def test_two_variables_go_to_their_minimum(call: Call) -> None:
    found = rows(call, "(w1-3)^2 + (w2+1)^2", "--lr", "0.1", "--start", "10,10", "--steps", "200")

    assert found[-1]["next"] == pytest.approx([3, -1], abs=1e-12)
    assert found[0]["gradient"] == [14, 22]
    named = rows(call, "(w1-3)^2 + (w2+1)^2", "--lr", "0.1", "--start", "w2=-1, w1=3", "--steps", "1")
    assert named[0]["next"] == [3, -1]


def test_descent_may_land_on_a_maximum(call: Call) -> None:
    done = call("trace", "w^4-3*w^2+2", "--lr", "0.1", "--start", "2", "--steps", "1")

    last = " ".join(done.out.split("\n\n")[-1].split())
    assert last.endswith(
        "After 1 step: w = 0, loss 2, from 6. The gradient is exactly zero there, which alone is no proof of "
        "a minimum. It is a local maximum, which gradient descent cannot leave: all eigenvalues of the "
        "Hessian are below 0 (-6)."
    )


def test_a_long_memory_makes_the_first_step_of_rmsprop_large(call: Call) -> None:
    arguments = ("--optimizer", "rmsprop", "--set", "alpha=0.999", "--lr", "0.001", "--steps", "1")
    for start in ("10", "-0.5"):
        row = rows(call, "w^2", *arguments, "--start", start)[0]

        assert round(abs(row["next"][0] - row["parameters"][0]) / 0.001, 1) == 31.6


def test_what_leaving_out_bias_correction_does(call: Call) -> None:
    arguments = ("w", "--optimizer", "adam", "--set", "eps=0", "--steps", "1000", "--no-bias-correction")
    done = call("trace", *arguments, "--json")
    answer = json.loads(done.out)
    ratios = [row["uncorrected_ratio"][0] for row in answer["rows"]]

    assert (round(ratios[0], 4), round(max(ratios), 2), round(ratios[999], 2)) == (3.1623, 6.57, 1.26)
    assert ratios.index(max(ratios)) == 11
    assert answer["uncorrected"]["corrections"] == ["correct1", "correct2"]
    assert len(answer["uncorrected"]["rows"]) == 1000
    assert "× 3.1623 at step 1, × 6.5685 at step 12, × 1.2576 at step 1000" in call("trace", *arguments).out
    refused = call("trace", "w", "--no-bias-correction")
    assert refused.code == 2
    assert "must have one in its clock; got sgd, which has none" in refused.err


def test_an_undefined_loss_is_null(call: Call) -> None:
    found = rows(call, "log(w)", "--lr", "1", "--start", "0.5", "--steps", "5")

    assert [row["loss"] for row in found] == [pytest.approx(-0.6931471805599453), None]
    assert found[1]["next"] == [None]
    said = call("trace", "log(w)", "--lr", "1", "--start", "0.5", "--steps", "5").out
    assert "At step 2 the loss is not defined at w = -1.5. The trace stops there." in said


def test_a_long_table_shows_both_ends_and_every_nth_step_on_request(call: Call) -> None:
    def steps(*more: str) -> list[str]:
        table = call("trace", "w^2", "--start", "1", "--steps", "100", *more).out.split("──\n")[1]
        return [line.split()[0] for line in table.split("\n\n")[0].splitlines()]

    assert steps() == [*map(str, range(1, 11)), "…", *map(str, range(91, 101))]
    assert steps("--every", "30") == ["1", "31", "61", "91", "100"]


def test_wrappers_schedules_and_formats(call: Call) -> None:
    arguments = ("x^2 + 3*y^2", "--start", "2,1", "--steps", "3", "--wrap", "clip_norm:1", "--lr", "0.1")
    found = rows(call, *arguments, "--schedule", "step:every=2,ratio=0.5")

    assert [row["rate"] for row in found] == [0.1, 0.1, 0.05]
    assert found[0]["g"] == pytest.approx([4 / 52**0.5, 6 / 52**0.5])
    assert call("trace", *arguments, "--format", "markdown").out.count("\n| ") == 4
    assert r"\begin{array}" in call("trace", *arguments, "--format", "latex").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("w^^2",), "the expression must"),
        (("w^2", "--optimizer", "soap"), "got soap, which moves matrices"),
        (("w^2", "--start", "1,x"), "--start must be a number; got 'x'"),
        (("w^2", "--start", "w=1,w=2"), "w of --start must be given once"),
        (("w^2", "--set", "betas=1"), "--set must be NAME=VALUE with NAME among"),
        (("w^2", "--lr", "1", "--set", "lr=2"), "--set lr must be left out beside --lr"),
        (("w^2", "--format", "html"), "--format of a trace must be one of table, markdown, latex"),
        (("w^2", "--digits", "0"), "--digits of a trace must be a whole number in [1, 17]"),
        (("w^2", "--every", "0"), "--every of a trace must be a whole number of at least 1"),
        (("w^2", "--wrap", "clip"), "--wrap must name a wrapper"),
    ],
)
def test_bad_input_is_refused(call: Call, arguments: tuple[str, ...], message: str) -> None:
    done = call("trace", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("thalweg: ")


@pytest.mark.parametrize(
    "words", [("-w^2", "--lr", "0.1"), ("−w²", "--lr", "0.1"), ("-0.5w^2 - 0.5w^2", "--lr", "0.1")]
)
def test_a_formula_may_begin_with_a_minus_sign(call: Call, words: tuple[str, ...]) -> None:
    done = call("trace", *words, "--start", "1", "--steps", "1", "--json")

    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["rows"][0]["next"] == [1.2]
