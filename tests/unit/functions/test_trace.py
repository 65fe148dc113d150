"""Hand calculation: the numbers of the rules, their names, and the arithmetic written beside them."""

import cProfile
import json
import math
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg
from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.functions.correction import corrections, without_correction
from thalweg.functions.expression import parse
from thalweg.functions.recording import Notes, at, noted, remembered
from thalweg.functions.trace import MAX_STEPS, trace
from thalweg.functions.trace_text import columns, data, latex, markdown
from thalweg.rules.adam import ADAM
from thalweg.rules.catalogue import CATALOGUE, preset
from thalweg.rules.gradients import CLIP_NORM, CLIP_VALUE
from thalweg.rules.sam import SAM
from thalweg.rules.wrappers import WRAPPERS
from thalweg.schedules import Step
from unit.functions.trees import texts

BOWL = parse("(x - 3)^2 + x*y + 2*y^2")
START = [1.0, -2.0]
VECTORS = [name for name, entry in CATALOGUE.items() if not entry.rule.least_axes]


@pytest.mark.parametrize("name", VECTORS)
def test_a_trace_takes_the_steps_of_the_rule_bit_for_bit(name: str) -> None:
    entry = preset(name)
    work = Reference(entry.rule, entry.rule.checked(dict(entry.fixed)))
    here, expected = np.array(START), []
    for step in range(25):
        if entry.rule.refresh is not None and step % 10 == 0:
            work.refresh({"": here}, {"": np.diagonal(BOWL.curvature(here))})
        here = work.step({"": here}, {"": BOWL.slope(here)})[""]
        expected.append(tuple(here.tolist()))

    found = trace(BOWL, name, START, 25)

    assert [row.next for row in found.rows] == expected
    assert len(set(expected)) > 1  # it did move


@pytest.mark.parametrize("name", [name for name, wrapper in WRAPPERS.items() if not wrapper.offset])
def test_with_a_wrapper_too_the_steps_are_those_of_the_rule(name: str) -> None:
    found = trace(BOWL, "adam", START, 12, lr=0.1, wrappers=[WRAPPERS[name]()])
    work, here = Reference(found.rule, found.hyperparameters), np.array(START)

    for row in found.rows:
        here = work.step({"": here}, {"": BOWL.slope(here)})[""]
        assert row.next == tuple(here)
    assert set(found.rule.initial(here, work.values)._fields) & set(found.names()) == {
        f"{name}_{field}" for field in WRAPPERS[name].fields
    }


@pytest.mark.parametrize("name", VECTORS)
def test_every_state_is_shown_once_and_no_name_hides_another(name: str) -> None:
    found = trace(BOWL, name, START, 3)
    rule = preset(name).rule

    answer = data(found)["rows"][-1]

    fixed = {
        "step", "parameters", "loss", "gradient", "rate", "direction", "next", "predicted_change", "change",
        "clock", "filled",
    }  # fmt: skip
    assert set(answer) == fixed | set(found.names())
    assert not fixed & set(found.names())
    for lists in ("parameters", "gradient", "direction", "next", *found.names()):
        assert len(answer[lists]) == 2
    states = Reference(rule, found.hyperparameters)
    if rule.refresh is not None:
        states.refresh({"": np.array(START)}, {"": np.diagonal(BOWL.curvature(START))})
    states.step({"": np.array(START)}, {"": BOWL.slope(START)})
    first = found.rows[0].quantities
    for field, value in states.states[""]._asdict().items():
        shown = [n for n, x in [*first.items(), ("gradient", found.rows[0].gradient)] if x == tuple(value)]
        assert shown, field


TORCH: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.05}),
    "amsgrad": (torch.optim.Adam, {"lr": 0.05, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.05, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.05, "centered": True, "momentum": 0.5}),
    "nadam": (torch.optim.NAdam, {"lr": 0.05}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.05}),
    "adamax": (torch.optim.Adamax, {"lr": 0.05}),
}


@pytest.mark.parametrize("name", TORCH)
def test_a_trace_takes_the_steps_of_pytorch(name: str) -> None:
    kind, values = TORCH[name]
    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = kind([p], **values)
    path = []
    for _ in range(20):
        optimizer.zero_grad()
        (loss := BOWL(p)).backward()
        optimizer.step()
        path.append(p.detach().tolist())
    assert loss.item() != 0

    found = trace(BOWL, name, START, 20, **{n: x for n, x in values.items() if n not in preset(name).fixed})

    # Rounding only; PyTorch's NAdam keeps the product of its μ in float32.
    np.testing.assert_allclose([r.next for r in found.rows], path, rtol=1e-8 if name == "nadam" else 1e-11)


# D-Adaptation SGD subtracts positions that are equal to six digits.
@pytest.mark.parametrize("name", [name for name in VECTORS if name != "dadapt-sgd"])
def test_the_formulas_filled_in_give_the_numbers_beside_them(name: str) -> None:
    """Each line is read back and calculated; its numbers have six digits, so the result has about five."""
    found = trace(BOWL, name, START, 4, **({"lr": 0.5} if name == "rprop" else {}))
    checked = 0
    for row in found.rows:
        for line in row.filled:
            *_, formula, result = line.split(" = ")
            value = parse(formula, ["x", "y"])(START).item()
            assert value == pytest.approx(float(result), rel=2e-4, abs=3e-6), line
            checked += 1
    assert checked >= 4 * 5


def test_every_line_of_adam_is_the_calculation_by_hand() -> None:
    assert trace("w^2", "adam", 10, 1, lr=0.1).rows[0].filled == (
        "loss = w^2 = 10^2 = 100",
        "gradient = 2*w = 2*10 = 20",
        "m = 0.9*0 + 0.1*20 = 2",
        "v = 0.999*0 + 0.001*20*20 = 0.4",
        "m_hat = 2*10 = 20",
        "v_hat = 0.4*1000 = 400",
        "root = sqrt(400) = 20",
        "direction = 20/(20 + 1e-08) = 1",
        "w = 10 - 0.1*1 = 9.9",
    )


def test_what_a_wrapper_and_a_decay_do_is_written_too() -> None:
    clipped = trace("w^2", "momentum", 10, 1, lr=0.1, weight_decay=0.5, wrappers=[CLIP_VALUE(4.0)])
    decayed = trace("w^2", "adamw", 10, 1, lr=0.1, weight_decay=0.5)

    assert clipped.rows[0].quantities["g"] == (9.0,)  # min(20, 4) + 0.5·10
    assert clipped.rows[0].quantities["velocity"] == (9.0,)
    assert clipped.rows[0].filled[-1] == "w = 10 - 0.1*9 = 9.1"
    assert decayed.rows[0].filled[-1] == "w = 10*0.95 - 0.1*1 = 9.4"


@settings(max_examples=150)
@given(
    text=texts,
    name=st.sampled_from(VECTORS),
    start=st.floats(-3, 3),
    lr=st.sampled_from([1e-3, 0.3, 50.0]),
)
def test_any_function_can_be_traced_and_told(text: str, name: str, start: float, lr: float) -> None:
    """Also where it is not defined, or explodes: rows hang together, and every form of the answer exists."""
    found = trace(text, name, start, 5, lr=lr)

    assert 1 <= len(found.rows) <= 5
    for row, after in pairwise(found.rows):
        assert row.next == after.parameters
    json.dumps(data(found), allow_nan=False)
    assert latex(found, found.rows, 7).count(r"\begin{align*}") == len(found.rows)
    assert markdown(found, found.rows, 7)
    assert found.outcome


@pytest.mark.parametrize("maximize", [False, True])
def test_the_predicted_change_of_plain_descent_is_the_rate_times_the_squared_gradient(maximize: bool) -> None:
    row = trace(BOWL, "sgd", START, 1, lr=0.01, maximize=maximize).rows[0]

    squared = row.gradient[0] ** 2 + row.gradient[1] ** 2
    assert row.predicted_change == pytest.approx((0.01 if maximize else -0.01) * squared, rel=1e-12)
    assert row.change == pytest.approx(BOWL(row.next).item() - row.loss, abs=0)


def test_the_second_gradient_of_sam_is_taken_where_the_loss_is_worse() -> None:
    row = trace("w^2", "sgd", 10, 1, lr=0.1, wrappers=[SAM(rho=0.5)]).rows[0]

    assert row.quantities["second_point"] == (10.5,)
    assert row.quantities["second_gradient"] == (21.0,)
    assert row.next == pytest.approx((7.9,), abs=1e-15)
    assert row.gradient == (20.0,)


def test_sophia_receives_the_exact_diagonal_every_few_steps() -> None:
    found = trace("w^4", "sophia-h", 1, 3, update_every=2, betas=(0.9, 0.5))

    assert [row.quantities.get("diagonal") for row in found.rows][:2] == [(12.0,), None]
    assert found.rows[0].quantities["hessian"] == found.rows[1].quantities["hessian"] == (6.0,)
    assert data(found)["rows"][1]["diagonal"] == [None]


def test_a_schedule_multiplies_the_rate_of_each_step() -> None:
    by_name = trace("w", "sgd", 0, 4, lr=0.1, schedule="step:every=2,ratio=0.5")
    by_value = trace("w", "sgd", 0, 4, lr=0.1, schedule=Step(every=2, ratio=0.5))

    assert [row.rate for row in by_name.rows] == [0.1, 0.1, 0.05, 0.05]
    assert by_name.rows[-1].next == by_value.rows[-1].next == pytest.approx((-0.3,))
    with_rest = trace("w", "sgd", 0, 4, lr=0.1, schedule="linear")
    assert [row.rate for row in with_rest.rows] == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_variables_are_in_order_of_name_and_may_be_given_by_name() -> None:
    found = trace("y^2 + 10*x + w10 + w2", start={"y": 4, "x": 3, "w2": 1, "w10": 2}, steps=1)

    assert found.expression.variables == ("w2", "w10", "x", "y")
    assert found.rows[0].parameters == (1, 2, 3, 4)
    assert trace("x + y", start=7, steps=1).rows[0].parameters == (7, 7)


def test_a_trace_stops_where_the_function_is_not_defined() -> None:
    found = trace("log(w)", "sgd", 0.5, 9, lr=1)

    assert [row.step for row in found.rows] == [1, 2]
    assert math.isnan(found.rows[1].loss)
    assert found.rows[1].next == found.rows[1].direction == ()
    assert found.outcome == ("At step 2 the loss is not defined at w = -1.5. The trace stops there.",)
    answer = data(found)
    assert answer["rows"][1]["loss"] is None
    assert answer["rows"][1]["next"] == answer["rows"][1]["direction"] == [None]
    json.dumps(answer, allow_nan=False)


def test_a_trace_that_explodes_stops_and_says_so() -> None:
    found = trace("w^4", "sgd", 10, 50, lr=1)

    assert len(found.rows) < 10
    assert found.outcome[-1].endswith("The trace stops there.")
    json.dumps(data(found), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "start", "said"),
    [
        ("(w-3)^2", 3, "a local minimum: all eigenvalues of the Hessian are above 0 (2)."),
        ("x^2 - y^2", 0, "a saddle, which gradient descent cannot leave without noise: the Hessian has"),
        ("w^3", 0, "neither minimum nor maximum: lower on one side and higher on the other (0)."),
        ("w^4", 0, "a local minimum: all values around are higher: by sampling"),
    ],
)
def test_a_zero_gradient_is_classified(text: str, start: float, said: str) -> None:
    assert f"no proof of a minimum. It is {said}" in trace(text, start=start, steps=1).outcome[-1]


def test_a_zero_gradient_is_no_proof_of_a_minimum() -> None:
    found = trace("w^4-3*w^2+2", "sgd", 2, 1, lr=0.1)

    assert found.rows[0].next == (0.0,)
    assert found.outcome[-1] == (
        "The gradient is exactly zero there, which alone is no proof of a minimum. It is a local maximum, "
        "which gradient descent cannot leave: all eigenvalues of the Hessian are below 0 (-6)."
    )


def test_a_state_that_is_the_direction_has_the_name_of_the_field() -> None:
    assert trace("w^2", "rmsprop", 1, 1, momentum=0.5).names() == ["v", "velocity"]
    assert trace("w^2", "lars", 1, 1).names()[-1] == "velocity"
    assert trace("w^2", "adam", 1, 1).names() == ["m", "v", "m_hat", "v_hat", "root"]


def test_without_bias_correction_the_first_steps_are_too_large() -> None:
    found = without_correction(trace("w", "adam", 0, 1000, eps=0.0))

    ratios = [ratio[0] for ratio in found.ratios]
    assert ratios[0] == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-12)
    assert round(ratios[0], 4) == 3.1623
    assert max(range(1000), key=ratios.__getitem__) + 1 == 12
    assert round(ratios[11], 2) == 6.57
    assert round(ratios[999], 2) == 1.26
    assert min(ratios) > 1
    t = np.arange(1, 1001)
    np.testing.assert_allclose(ratios, (1 - 0.9**t) / np.sqrt(1 - 0.999**t), rtol=1e-9)
    assert found.outcome[0].startswith("From the same point and averages the step is × 3.1623 at step 1,")


def test_the_uncorrected_method_goes_its_own_way_from_the_same_start() -> None:
    plain = trace("w^2", "adamw", 10, 3, lr=0.1, weight_decay=0.0, eps=0.0)
    found = without_correction(plain)

    assert found.corrections == ("correct1", "correct2")
    m, v, w = 0.0, 0.0, 10.0
    for row in found.rows:
        m, v = 0.9 * m + 0.1 * 2 * w, 0.999 * v + 0.001 * (2 * w) ** 2
        w -= 0.1 * m / math.sqrt(v)
        assert row.next[0] == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize("name", VECTORS)
def test_only_methods_with_a_correction_can_leave_it_out(name: str) -> None:
    found = trace(BOWL, name, START, 2)
    expected = {
        "adam", "amsgrad", "adamw", "adamax", "nadam", "radam", "sparse-adam", "lamb", "schedule-free-adamw",
    }  # fmt: skip

    if name in expected:
        assert without_correction(found).ratios[0] != (1.0, 1.0)
    else:
        with pytest.raises(InputError, match="must have one in its clock"):
            without_correction(found)


def test_an_epsilon_beside_an_uncorrected_root_stays_as_it_is() -> None:
    """SparseAdam has ε·√(1/(1 − β₂ᵗ)) beside √v̂; without correction that is ε beside √v."""
    found = without_correction(trace("w", "sparse-adam", 0, 1, lr=1.0, eps=0.5))

    assert found.rows[0].next[0] == pytest.approx(-0.1 / (math.sqrt(0.001) + 0.5), rel=1e-12)
    assert corrections(ADAM, ADAM.values(ADAM.defaults())) == ("correct1", "correct2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expression": "w^2, w"}, "the function of a trace must have one value; got 2"),
        ({"optimizer": "muon"}, "must move a vector of variables; got muon, which moves matrices"),
        ({"optimizer": "adm"}, "Did you mean adam"),
        ({"steps": 0}, "steps of a trace must be a whole number in"),
        ({"steps": MAX_STEPS + 1}, "steps of a trace must be a whole number in"),
        ({"start": [1, 2]}, "must be one number, or one for each of w; got 2 numbers"),
        ({"start": {"x": 1}}, "must have a number for each of w; got x"),
        ({"start": math.nan}, "start of a trace must be finite"),
        ({"start": "a"}, "start of a trace must be numbers"),
        ({"lr": -1.0}, "lr of SGD must be a finite number of at least 0"),
        ({"momentm": 0.9}, "Did you mean momentum"),
        ({"schedule": "cosin"}, "Did you mean cosine"),
    ],
)
def test_bad_input_is_refused_in_words(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"expression": "w^2", "optimizer": "sgd", "start": 1, "steps": 3}

    with pytest.raises(InputError) as refused:
        trace(**{**good, **change})
    assert message in str(refused.value)


def test_markdown_has_a_cell_for_each_column_and_latex_is_balanced() -> None:
    found = trace(BOWL, "adam", START, 3, wrappers=[CLIP_NORM(1.0)])
    beside = without_correction(found)

    table = [x for x in markdown(found, found.rows, 7, beside).splitlines() if x.startswith("|")]
    assert {line.count("|") for line in table} == {len(columns(found, beside)) + 2}
    assert len(table) == 2 + 3
    tex = latex(found, found.rows, 7, beside)
    assert tex.count("{") == tex.count("}")
    assert tex.count(r"\begin{align*}") == tex.count(r"\end{align*}") == 3
    assert r"\hat{m}\,(x) &= " in tex
    assert "e-" not in tex


def test_watching_a_rule_puts_back_the_profiler_that_was_there() -> None:
    seen: list[str] = []

    def mine(frame: Any, event: str, argument: Any) -> None:
        seen.append(event)

    sys.setprofile(mine)
    try:
        trace("w^2", "adam", 1, 2)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)
    with cProfile.Profile() as profile:
        trace("w^2", "adam", 1, 2)
        assert sys.getprofile() is profile
    assert sys.getprofile() is None


def test_a_body_written_in_c_is_run_and_has_no_variables_to_show() -> None:
    class Pair:
        def __call__(self, p: Any, g: Any, s: Any, h: Any, c: Any) -> Any:
            return g, s

    notes = Notes()
    rule = noted(replace(preset("sgd").rule, direction=Pair()), notes)
    h = rule.values(rule.defaults())

    assert rule.direction(0, 1, (), h, None) == (1, ())
    assert notes.found == {}


def test_an_array_remembers_the_branch_that_was_chosen() -> None:
    x = remembered(np.array([1.0, -1.0]))
    y = np.where(x > 0, 2 * x, 3 * x)

    assert y.tolist() == [2.0, -3.0]
    assert [at(y.node, i).arguments[0].value for i in (0, 1)] == [2.0, 3.0]
    assert np.asarray(np.maximum(x, 0) + np.abs(x)).tolist() == [2.0, 1.0]


def test_a_trace_reads_as_a_table() -> None:
    said = str(thalweg.trace("(w-3)^2", lr=0.1, steps=1)).splitlines()

    assert said[2] == "| step | w | loss | gradient | rate | direction | next w | predicted change | change |"
    assert said[4] == "| 1 | 0 | 9 | -6 | 0.1 | -6 | 0.6 | -3.6 | -3.24 |"
    assert said[-1] == "After 1 step: w = 0.6, loss 5.76, from 9."
