"""Which rate is tried next, and which ones run on further seeds: by hand, and as invariants."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.evidence.race import RateScore
from thalweg.racing.rates import HALF, QUARTER, Grid, next_rate, survivors
from thalweg.records import Direction

LOWER, HIGHER = Direction.LOWER, Direction.HIGHER


CENTRED = Grid(0.1, HALF)


def scores(*losses: float | None, grid: Grid = CENTRED) -> list[RateScore]:
    """Scores of neighbouring rates, the centre of the grid in the middle."""
    return [RateScore(r, loss, loss) for r, loss in zip(grid.around(len(losses)), losses, strict=True)]


def test_a_grid_by_hand() -> None:
    assert Grid(0.1, HALF).around(7) == (0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16)
    assert Grid(0.03, HALF).around(4) == (0.00949, 0.03, 0.0949, 0.3)
    assert Grid(1e-3, HALF).around(1) == (1e-3,)
    assert Grid(0.02, QUARTER).around(5) == (0.00632, 0.0112, 0.02, 0.0356, 0.0632)
    assert Grid(0.012345, QUARTER).around(1) == (0.0123,)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((1.0, 2.0, 3.0), 0.01),  # best at the lower edge of 0.0316, 0.1, 0.316
        ((3.0, 2.0, 1.0), 1.0),  # at the upper one
        ((None, None, None), 0.01),
        ((3.0, 1.0, 2.0), 0.178),  # 0.1 and its better neighbour 0.316: √(0.1 · 0.316)
        ((2.0, 1.0, 3.0), 0.0562),
        ((2.0, 1.0, None), 0.0562),  # a neighbour that diverged is never the better one
        ((None, 1.0, 2.0), 0.178),
        ((1.0,), 0.0316),  # alone it lies at both edges: the lower one is tried first
    ],
)
def test_the_next_rate_by_hand(losses: tuple[float | None, ...], expected: float) -> None:
    assert next_rate(scores(*losses), LOWER, Grid(0.1, HALF)) == expected


@pytest.mark.parametrize(
    ("losses", "expected"),
    [((1.0, 2.0, 3.0), 0.0316), ((3.0, 2.0, 1.0), 0.316), ((3.0, 1.0, 2.0), 0.133), ((None,), 0.0562)],
)
def test_around_a_rate_that_was_found_steps_are_quarters_of_a_decade(
    losses: tuple[float | None, ...], expected: float
) -> None:
    grid = Grid(0.1, QUARTER)
    assert next_rate(scores(*losses, grid=grid), LOWER, grid) == expected


def test_the_next_rate_follows_the_direction_of_the_metric() -> None:
    assert next_rate(scores(1.0, 3.0, 2.0), HIGHER, Grid(0.1, HALF)) == 0.178


@pytest.mark.parametrize("ratio", [HALF, QUARTER])
@pytest.mark.parametrize("centre", [0.1, 0.0137])
def test_extending_often_stays_on_the_decades(ratio: float, centre: float) -> None:
    """Rounding to three digits does not add up: 1, 3.16, 10, not 9.99."""
    grid = Grid(centre, ratio)
    up, down = scores(3.0, 2.0, 1.0, grid=grid), scores(1.0, 2.0, 3.0, grid=grid)
    for _ in range(8):
        higher, lower = next_rate(up, LOWER, grid), next_rate(down, LOWER, grid)
        assert higher is not None
        assert lower is not None
        up.append(RateScore(higher, up[-1].score / 2, None))  # type: ignore[operator]
        down.insert(0, RateScore(lower, down[0].score / 2, None))  # type: ignore[operator]

    assert [s.rate for s in up] == [float(f"{centre * ratio**k:.3g}") for k in range(-1, 10)]
    assert [s.rate for s in down] == [float(f"{centre * ratio**k:.3g}") for k in range(-9, 2)]


def test_refining_ends_where_rates_lie_within_five_per_cent() -> None:
    tried = {0.01: 2.0, 0.1: 1.0, 1.0: 2.0}
    for _ in range(30):
        found = [RateScore(rate, loss, loss) for rate, loss in sorted(tried.items())]
        rate = next_rate(found, LOWER, Grid(0.1, HALF))
        if rate is None:
            break
        assert min(max(rate / r, r / rate) for r in tried) >= 1.05
        tried[rate] = 1.0 + abs(math.log(rate / 0.1))

    assert rate is None
    assert len(tried) < 30


@given(best=st.floats(-4.0, 4.0), beyond=st.floats(0.6, 3.0), ratio=st.sampled_from([HALF, QUARTER]))
def test_whatever_the_curve_no_rate_comes_twice_and_the_best_is_approached(
    best: float, beyond: float, ratio: float
) -> None:
    """Loss |log₁₀ rate − best|, diverged from 10^(best + beyond) on."""
    grid = Grid(0.1, ratio)

    def loss(rate: float) -> float | None:
        return None if math.log10(rate) > best + beyond else abs(math.log10(rate) - best)

    tried = list(grid.around(5))
    for _ in range(40):  # of which 20 quarters of a decade lead to the farthest best
        rate = next_rate([RateScore(r, loss(r), loss(r)) for r in sorted(tried)], LOWER, grid)
        if rate is None:
            break
        assert rate not in tried
        tried.append(rate)

    # Refining ends with the best beside rates that lie within 10 %, rounded to three digits.
    assert min(x for r in tried if (x := loss(r)) is not None) < math.log10(1.12)


def halved(losses: dict[float, tuple[float | None, ...]], seeds: int) -> dict[float, int]:
    """On how many seeds each rate runs, whose losses on all seeds are given."""
    ran = dict.fromkeys(sorted(losses), 1)
    while True:
        found = []
        for rate, count in ran.items():
            own = losses[rate][:count]
            mean = None if None in own else sum(own) / count  # type: ignore[arg-type]
            found.append(RateScore(rate, mean, mean, count))
        again = survivors(found, LOWER, seeds)
        if not again:
            return ran
        assert len({done for _, done in again}) == 1
        for rate, done in again:
            assert ran[rate] == done
            ran[rate] += 1


@pytest.mark.parametrize(
    ("rates", "seeds", "expected"),
    [
        (8, 3, [1, 1, 1, 1, 2, 2, 3, 3]),
        (9, 3, [1, 1, 1, 1, 2, 2, 3, 3, 3]),  # halves are rounded up: 9, 5, 3
        (3, 3, [1, 2, 3]),
        (2, 3, [1, 3]),
        (1, 3, [3]),
        (8, 1, [1] * 8),
        (5, 2, [1, 1, 2, 2, 2]),
    ],
)
def test_the_better_half_gets_a_second_seed_and_the_better_quarter_a_third(
    rates: int, seeds: int, expected: list[int]
) -> None:
    losses = {float(k): (1.0 / k,) * seeds for k in range(1, rates + 1)}
    assert list(halved(losses, seeds).values()) == expected


def test_a_rate_is_compared_by_its_mean_over_the_seeds_that_it_has() -> None:
    losses = {1.0: (0.1, 0.9, 0.0), 2.0: (0.2, 0.3, 0.0), 3.0: (0.3, 0.0, 0.0), 4.0: (0.4, 0.0, 0.0)}
    # 0.5 and 0.25 on two seeds: the first was lucky; the third and fourth are not seen again
    assert halved(losses, 3) == {1.0: 2, 2.0: 3, 3.0: 1, 4.0: 1}


def test_what_diverged_does_not_run_again_and_the_next_best_takes_its_place() -> None:
    losses = {1.0: (None, 0.0, 0.0), 2.0: (0.1, None, 0.0), 3.0: (0.2, 0.2, None), 4.0: (0.3, 0.3, 0.3)}
    assert halved(losses, 3) == {1.0: 1, 2.0: 2, 3.0: 3, 4.0: 3}
    assert halved(dict.fromkeys((1.0, 2.0, 3.0), (None, 0.0)), 2) == {1.0: 1, 2.0: 1, 3.0: 1}


@given(
    st.dictionaries(
        st.integers(1, 99).map(float),
        st.tuples(*[st.one_of(st.none(), st.floats(0, 1))] * 3),
        min_size=1,
        max_size=12,
    )
)
def test_halving_gives_as_many_rates_all_seeds_as_it_says_unless_too_many_diverge(
    losses: dict[float, tuple[float | None, ...]],
) -> None:
    ran = halved(losses, 3)
    sound = sum(None not in own for own in losses.values())
    whole = [rate for rate, count in ran.items() if count == 3 and None not in losses[rate]]

    assert min(math.ceil(len(losses) / 4), sound) <= len(whole)
    assert sum(ran.values()) <= 3 * len(losses)
    if all(None not in own for own in losses.values()):
        assert sum(ran.values()) == sum(math.ceil(len(losses) / 2**k) for k in range(3))
