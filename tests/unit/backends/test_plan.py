"""Plans that are kept: numbers and addresses that change between steps, threads, and rounding by chance."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fleets import shared_at_first
from kernel_walks import COMPILED, rich
from thalweg.backends import eager, rounding
from thalweg.backends.plan import Plan
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "kernels"))


def rows_of(pairs: Iterable[tuple[Tensor, Tensor]], rule: Any = SGD, **values: Any) -> list[Row]:
    """Make rows of one group, of parameters and gradients."""
    h = rule.values(rule.checked(values))
    return [Row(rule, p, g, rule.initial(p, h), 1, h) for p, g in pairs]


class Kept:
    """A plan of rows; those of a step may lie elsewhere and have other numbers."""

    def __init__(self, rows: list[Row], **how: Any) -> None:
        self.shared = shared_at_first(rows[0].rule, rows[0].values)
        self.plan = Plan(rows, self.shared, **how)

    def step(self, rows: list[Row], t: int, threads: int = 1, factor: float = 1.0) -> None:
        plan = self.plan
        fixed, gradients, singles = [], [], {}
        for index, part in enumerate(plan.parts):
            mine = [rows[place] for place in part.places]
            for x in mine:
                fixed += [x.parameter, *(x.state[field] for field in part.kind.fields)]
                gradients.append(x.gradient)
            plan.value(index, mine[0].values)
            for field, number in enumerate(part.kind.family.numbers):
                if number:
                    singles[index, field] = np.array([[x.state[field].item()] for x in mine])
        plan.point(*(np.array([x.data_ptr() for x in given]) for given in (fixed, gradients)))
        if plan.stochastic:
            plan.salt(np.full(len(rows), t), np.array(plan.order))
        count = len(plan.parts)
        done = plan.step([t] * count, [1.0] * count, singles, self.shared, factor, threads)
        self.shared = done.shared
        for (index, field), numbers in done.singles.items():
            of_rows = np.broadcast_to(numbers, plan.parts[index].shape)
            for place, number in zip(plan.parts[index].places, of_rows[:, 0], strict=True):
                rows[place].state[field].fill_(float(number))


# What may change.


def test_addresses_may_change_between_steps() -> None:
    first, second = rows_of([(torch.ones(5), torch.ones(5)) for _ in range(2)], lr=0.5)
    kept = Kept([first])
    for place, given in enumerate((first, second, first, first._replace(gradient=torch.zeros(5)))):
        kept.step([given], place + 1)

    assert first.parameter.tolist() == [0.0] * 5
    assert second.parameter.tolist() == [0.5] * 5


def test_numbers_may_change_between_steps_and_may_come_to_differ_between_rows() -> None:
    """All rows are given the numbers of one while these agree, and their own as soon as they do not."""
    rule, sizes = RULES["nadam"], (3, 2000, 1, 1500)
    ours, theirs = (
        rows_of([(torch.ones(n).double(), torch.ones(n).double()) for n in sizes], rule) for _ in range(2)
    )
    kept = Kept(ours)
    assert len(kept.plan.parts) == 1
    for t, share in enumerate((1.0, 1.0, 0.5, 1.0), 1):
        h = rule.values(rule.checked({"lr": 0.1 / t, "betas": (0.8, 0.9)}))
        for each in (ours, theirs):
            each[2].state.mu_product.mul_(share)
            each[:] = [x._replace(values=h) for x in each]
        kept.step(ours, t, factor=1 / t)
        eager.advance([x._replace(t=t) for x in theirs], {}, 1 / t)

    assert len({x.state.mu_product.item() for x in ours}) == 2
    for mine, other in zip(ours, theirs, strict=True):
        for x, y in zip((mine.parameter, *mine.state), (other.parameter, *other.state), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-13, atol=0)


def test_numbers_that_agree_again_are_given_to_all_rows() -> None:
    rule = RULES["nadam"]
    ours, theirs = (
        rows_of([(torch.ones(n).double(), torch.ones(n).double()) for n in (3, 4)], rule) for _ in "ab"
    )
    kept = Kept(ours)
    for t, products in enumerate(((1.0, 1.0), (0.5, 1.0), (0.25, 0.25)), 1):
        for each in (ours, theirs):
            for row, product in zip(each, products, strict=True):
                row.state.mu_product.fill_(product)
        kept.step(ours, t)
        eager.advance([x._replace(t=t) for x in theirs])

    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.parameter, other.parameter, rtol=1e-13, atol=0)


def test_rows_of_one_kind_are_one_part_and_groups_and_types_are_apart() -> None:
    kinds = [torch.float32] * 4 + [torch.float64]
    pairs = [
        (torch.ones(2 + k, dtype=dtype), torch.ones(2 + k, dtype=dtype)) for k, dtype in enumerate(kinds)
    ]
    rows = [each._replace(group=k % 2) for k, each in enumerate(rows_of(pairs, RULES["adam"]))]
    plan = Plan(rows, {})

    assert [part.places for part in plan.parts] == [[0, 2], [1, 3], [4]]
    assert plan.order == [0, 2, 1, 3, 4]


# Threads.


@pytest.mark.parametrize("name", COMPILED)
def test_a_step_on_two_or_three_threads_is_bit_for_bit_that_on_one(name: str) -> None:
    """Also where a rule needs sums: those of chunks are added up in the order of chunks."""
    rule = RULES[name]

    def moved(threads: int) -> list[Tensor]:
        drawn = torch.Generator().manual_seed(0)
        sizes = (20_011, 5, 0, 3001)
        pairs = [(torch.randn(n, generator=drawn), torch.randn(n, generator=drawn) + 1) for n in sizes]
        rows = rows_of(pairs, rule, **rich(rule))
        kept = Kept(rows)
        for t in (1, 2, 3):
            kept.step(rows, t, threads)
        return [x for each in rows for x in (each.parameter, *each.state)]

    alone = moved(1)
    for threads in (2, 3):
        assert all(torch.equal(x, y) for x, y in zip(moved(threads), alone, strict=True))


# Rounding by chance.


def by_chance(x: Tensor, t: int, rows: int = 1) -> Tensor:
    """Round numbers to bfloat16 by chance: zeros are moved there by SGD, computed in float32."""
    at = torch.zeros(len(x), dtype=torch.bfloat16)
    size = len(x) // rows
    given = rows_of(zip(at.split(size), (-x).split(size), strict=True), lr=1.0)
    Kept(given, stochastic=True).step(given, t)
    return at


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bfloat16 next to each number towards zero and, unless it is one, away from zero."""
    bits = x.view(torch.int32)
    inner = bits & -65536
    outer = torch.where(bits == inner, inner, inner + 65536)
    return inner.view(torch.float32), outer.view(torch.float32)


def test_only_the_two_neighbours_occur_and_what_needs_no_rounding_stays() -> None:
    generator = np.random.default_rng(1)
    bits = generator.integers(0, 2**32, 100_000, np.uint32)
    x = torch.from_numpy(np.concatenate([bits, bits << 16]).view(np.float32))
    x = x[x.isfinite() & (x != 0)]
    rounded = by_chance(x, 1).float()

    inner, outer = neighbours(x)
    assert ((rounded == inner) | (rounded == outer)).all()
    assert (rounded == inner).any()
    assert (rounded != inner).any()
    assert torch.equal(rounded[inner == outer], x[inner == outer])


def test_infinity_and_nan_are_not_rounded_by_chance() -> None:
    x = torch.tensor([float("inf"), -float("inf"), float("nan")] * 100)
    rounded = by_chance(x, 1).float()

    assert torch.equal(rounded.isnan(), x.isnan())
    assert torch.equal(rounded[~x.isnan()], x[~x.isnan()])


def test_chances_are_those_of_the_other_backends() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(3))
    for t in (1, 2, 10**6):
        (salt,) = rounding.salts(np.array([t]), np.array([0])).tolist()

        assert torch.equal(by_chance(x, t), rounding.by_chance(x, salt))


def test_the_mean_is_kept_within_four_standard_errors() -> None:
    """The chance of the outer neighbour is the share of the way to it."""
    x = torch.randn(300_000, generator=torch.Generator().manual_seed(2)).abs() + 1e-3
    inner, outer = (each.double() for each in neighbours(x))
    gap = torch.where(outer > inner, outer - inner, 1.0)
    share = (x.double() - inner) / gap
    off = ((by_chance(x, 5).double() - x.double()) / gap).sum().item()

    assert abs(off) <= 4 * (share * (1 - share)).sum().sqrt().item()


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.99])
def test_one_number_goes_up_as_often_as_its_place_between_the_neighbours_says(share: float) -> None:
    count = 200_000
    ups = (by_chance(torch.full((count,), 1 + share * 2.0**-7), 3).float() > 1).sum().item()

    expected = round(share * 65536) / 65536  # there are sixteen random bits
    assert abs(ups - expected * count) <= 4 * (expected * (1 - expected) * count) ** 0.5


def test_chance_is_the_same_at_the_same_step_and_else_independent() -> None:
    """Two independent halves agree in half of the places, within four standard errors."""
    count = 100_000
    x = torch.full((2 * count,), 1 + 2.0**-8)  # half-way

    def ups(t: int) -> Tensor:
        return by_chance(x, t, rows=2).float() > 1

    first, second, later = ups(1), ups(2), ups(1000)
    assert torch.equal(first, ups(1))
    for one, other in (
        (first, second),  # steps
        (first, later),
        (first[:count], first[count:]),  # rows
        (first[:count], second[count:]),
        (first[1:], first[:-1]),  # neighbours
        (first[64:], first[:-64]),
    ):
        agreeing = (one == other).double().mean().item()
        assert abs(agreeing - 0.5) <= 4 * (0.25 / len(one)) ** 0.5


def test_each_element_is_right_on_average_over_steps() -> None:
    count, times, share = 4096, 256, 0.25
    x = torch.full((count,), 1 + share * 2.0**-7)
    ups = torch.stack([by_chance(x, t).float() > 1 for t in range(1, times + 1)]).double().sum(0)

    # The sum of squares of standard scores: χ² with as many degrees of freedom as there are elements.
    squares = ((ups - share * times) ** 2 / (share * (1 - share) * times)).sum().item()
    assert abs(squares - count) <= 4 * (2 * count) ** 0.5


def test_chance_rounds_parameters_in_bfloat16_and_nothing_else() -> None:
    def moved(dtype: torch.dtype, t: int) -> tuple[Tensor, Tensor]:
        p = torch.linspace(1, 2, 1000).to(dtype)
        given = rows_of([(p, torch.full((1000,), 0.001, dtype=dtype))], RULES["adagrad"], lr=0.01)
        Kept(given, stochastic=True).step(given, t)
        return p, given[0].state.sum

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        (p, state), (other, other_state) = (moved(dtype, t) for t in (1, 2))
        assert torch.equal(p, other) == (dtype != torch.bfloat16)
        assert torch.equal(state, other_state)
