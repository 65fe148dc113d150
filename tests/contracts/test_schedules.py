"""Every schedule of the catalogue, and every composition of them, keeps the contract of a schedule."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.hyper import Choice, Hyperparameter, Integer, Interval, Real
from thalweg.schedules import (
    SCHEDULES,
    Join,
    Product,
    Schedule,
    Shape,
    from_data,
    parse,
    schedule_named,
    to_data,
)
from thalweg.schedules.base import FromRun
from thalweg.schedules.shapes import Milestones

NAMES = sorted(SCHEDULES)
TOTALS = (1, 2, 3, 7, 10, 100, 1000)


def numbers(interval: Interval) -> st.SearchStrategy[float]:
    """Draw numbers of the interval, of sizes that occur: a factor of 1e300 overflows in a product."""
    low, high = max(interval.low, -1e6), min(interval.high, 1e6)
    return st.floats(low, high, allow_subnormal=False).filter(lambda x: x in interval)


def values(declaration: Hyperparameter) -> st.SearchStrategy[Any]:
    """Draw what a declaration accepts."""
    match declaration:
        case FromRun():
            return st.none() | values(declaration.given)
        case Milestones():
            return st.sets(st.integers(1, 1000), max_size=4).map(lambda ticks: tuple(sorted(ticks)))
        case Integer(interval=interval):
            return st.integers(int(interval.low), 200)
        case Real(interval=interval):
            return numbers(interval)
        case Choice():
            return st.just(declaration.default)  # one clock, so that any two can be composed
    raise AssertionError(f"no strategy for {declaration}")


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    name = draw(st.sampled_from(NAMES))
    fields = {key: draw(values(row)) for key, row in SCHEDULES[name].kind.declarations().items()}
    try:
        return schedule_named(name, **fields)
    except InputError:  # each valid, together not: a warm-up longer than the whole
        assume(False)
        raise


def pairs(parts: st.SearchStrategy[Schedule]) -> st.SearchStrategy[Schedule]:
    return st.builds(Product, parts, parts) | st.builds(Join, parts, parts, st.integers(0, 200))


schedules = st.recursive(shapes(), pairs, max_leaves=4)


def resolved(schedule: Schedule, total: int) -> Schedule:
    try:
        return schedule.resolve(total)
    except InputError:  # the run is shorter than a part that was given
        assume(False)
        raise


@given(schedules)
def test_a_schedule_survives_being_written_to_toml_exactly(schedule: Schedule) -> None:
    assert from_data(tomllib.loads(tomli_w.dumps(to_data(schedule)))) == schedule


@given(schedules, st.integers(1, 1000))
def test_factors_are_finite_and_not_negative(schedule: Schedule, total: int) -> None:
    factors = resolved(schedule, total)(np.arange(total + 2))

    assert factors.shape == (total + 2,)
    assert np.isfinite(factors).all()
    assert (factors >= 0).all()


@given(schedules, st.integers(1, 60))
def test_an_array_of_ticks_gives_what_each_tick_gives_in_any_order(schedule: Schedule, total: int) -> None:
    ready = resolved(schedule, total)
    factors = ready(np.arange(total + 2))
    singly = [ready(t) for t in reversed(range(total + 2))][::-1]

    assert all(type(factor) is float for factor in singly)
    # NumPy's vectorised cos, exp and power may differ from its scalar ones in the last place
    np.testing.assert_allclose(factors, singly, rtol=4e-15, atol=1e-15)
    assert [ready(t) for t in range(total + 2)] == singly


@given(schedules, st.integers(1, 1000))
def test_a_resolved_schedule_is_open_nowhere_and_resolving_it_again_changes_nothing(
    schedule: Schedule, total: int
) -> None:
    ready = resolved(schedule, total)

    assert ready.open == ()
    assert ready.resolve(total) == ready
    assert hash(ready) == hash(ready.resolve(total))


@given(schedules, st.integers(1, 1000))
def test_where_a_schedule_ends_it_stays_as_it_is(schedule: Schedule, total: int) -> None:
    ready = resolved(schedule, total)
    assume(ready.end is not None)
    assert ready.end is not None

    after = ready(np.arange(ready.end, ready.end + 50))

    np.testing.assert_array_equal(after, after[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("total", TOTALS)
def test_with_defaults_every_schedule_fits_every_run_and_takes_its_declared_course(
    name: str, total: int
) -> None:
    factors = schedule_named(name).resolve(total)(np.arange(total))
    rises, falls = np.diff(factors) > 1e-15, np.diff(factors) < -1e-15

    assert factors.max() <= 1.0
    match SCHEDULES[name].course:
        case "constant":
            assert not rises.any()
            assert not falls.any()
        case "rises":
            assert not falls.any()
        case "falls":
            assert factors[0] == 1.0
            assert not rises.any()
        case "rises, then falls":
            assert factors.max() > 0.99 or total < 10  # a short one may have no tick at its peak
            assert not (falls[:-1] & rises[1:]).any()
        case "restarts":
            assert rises.sum() >= 2 or total < 10
            assert falls.any() or total < 10
        case other:
            raise AssertionError(f"{name} declares an unknown course {other!r}")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (name, field, value)
        for name in NAMES
        for field, row in SCHEDULES[name].kind.declarations().items()
        for value in row.invalid()
    ],
)
def test_every_invalid_value_of_every_field_is_refused_with_the_name_of_both(
    name: str, field: str, value: object
) -> None:
    with pytest.raises(InputError, match=f"{field} of the schedule {name} must be .*; got "):
        schedule_named(name, **{field: value})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_field_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(InputError, match=f"the schedule {name} must be among .*clock; got 'colour'"):
        schedule_named(name, colour=1)


@pytest.mark.parametrize("name", NAMES)
def test_an_open_schedule_says_what_is_missing_when_it_is_read(name: str) -> None:
    schedule = schedule_named(name)
    if not schedule.open:
        assert schedule(0) == schedule.resolve(100)(0)
        return
    with pytest.raises(InputError, match=f"{schedule.open[0]}.* of the schedule {name} must be known"):
        schedule(0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tick", [-1, float("nan"), float("inf")])
def test_a_tick_that_cannot_be_is_refused_alone_and_in_an_array(name: str, tick: float) -> None:
    schedule = schedule_named(name).resolve(10)

    with pytest.raises(InputError, match=f"the clock of the schedule {name} must be"):
        schedule(tick)
    with pytest.raises(InputError, match=f"the clock of the schedule {name} must be"):
        schedule(np.array([0.0, tick]))


@pytest.mark.parametrize("total", [0, -5, 2.5, float("nan"), True, None])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_no_length_is_refused(name: str, total: Any) -> None:
    with pytest.raises(InputError, match="total of the schedule"):
        schedule_named(name).resolve(total)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_form_reads_every_field(name: str) -> None:
    ready = schedule_named(name, clock="tokens").resolve(1000)
    fields = {field: getattr(ready, field) for field in ready.declarations()}
    typed = {
        field: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for field, value in fields.items()
    }

    assert parse(f"{name}:" + ",".join(f"{field}={value}" for field, value in typed.items())) == ready


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_says_formula_use_and_source(name: str) -> None:
    entry = SCHEDULES[name]

    assert entry.kind.name == name
    assert entry.use.endswith(".")
    assert entry.formula
    assert any(character.isdigit() for character in entry.source)  # a year or an arXiv number


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_has_the_row_of_every_schedule(name: str) -> None:
    entry = SCHEDULES[name]
    fields = ", ".join(f"`{field}`" for field in entry.kind.declarations() if field != "clock")
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()

    assert f"| `{name}` | {entry.formula} | {fields} | {entry.use} | {entry.source} |" in page
