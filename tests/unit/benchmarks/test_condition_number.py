"""The benchmark of condition numbers counts what it says, on a small sweep."""

import numpy as np
import pytest
from condition_number import METHODS, condition_numbers, counted, exponent, figure, table, terminal


def test_steps_grow_with_kappa_and_with_its_root() -> None:
    rows = [counted(kappa) for kappa in condition_numbers(300.0)]

    assert [row["condition_number"] for row in rows][::4] == [1.0, 10.0, 100.0]
    for row in rows:
        descent = row["gradient descent"]
        assert descent["counted"] == descent["predicted"]
        # The slower beginning of momentum, (1 + cn)ρⁿ, costs some steps, and fewer than half as many again.
        assert (
            row["momentum"]["predicted"]
            <= row["momentum"]["counted"]
            < 1.5 * row["momentum"]["predicted"] + 3
        )
    assert exponent(rows, "gradient descent") == pytest.approx(1.0, abs=0.01)
    assert exponent(rows, "momentum") == pytest.approx(0.5, abs=0.05)  # the beginning counts at small κ


def test_it_is_drawn_twice_and_written_down() -> None:
    rows = [counted(kappa) for kappa in condition_numbers(20.0)]

    lines = terminal(rows, columns=30, height=5).splitlines()
    assert len(lines) == 5 + 3
    assert "condition number κ" in lines[6]
    drawn = figure(rows)
    assert [trace.name.partition(":")[0] for trace in drawn.data] == list(METHODS)
    assert np.array_equal(drawn.data[0].y, [row["gradient descent"]["counted"] for row in rows])
    assert table(rows)[0][0] == "κ"
