"""Numbers and lists as a person reads them: rounded to what they tell, with a real minus sign."""

import math
from collections.abc import Iterable, Sequence

ABSENT = "–"
# fmt: off
SMALL = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)
# fmt: on


def fixed(x: float | None, decimals: int) -> str:
    """Write a number with so many decimals; a number that does not exist is a dash.

    >>> fixed(0.97891, 3), fixed(-2.0, 1), fixed(None, 1)
    ('0.979', '−2.0', '–')
    """
    if x is None:
        return ABSENT
    written = f"{x:.{decimals}f}"
    if float(written) == 0:
        written = written.removeprefix("-")
    return written.replace("-", "−")


def number(x: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits, in powers of ten only far from 1.

    >>> number(0.12345), number(1234.5), number(0.10), number(2.5e-07, 2), number(None)
    ('0.123', '1234', '0.1', '2.5e−07', '–')
    """
    if x is None:
        return ABSENT
    if x == 0 or 1e-4 <= abs(x) < 1e6:
        decimals = decimals_at(x, digits)
        written = fixed(x, decimals)
        return written.rstrip("0").rstrip(".") if decimals else written
    return f"{x:.{digits}g}".replace("-", "−")


def rate(x: float | None) -> str:
    """Write a learning rate as one types it, so that it can be copied.

    >>> rate(0.001), rate(0.0031623), rate(1e-05)
    ('0.001', '0.00316', '1e-05')
    """
    return ABSENT if x is None else f"{x:.3g}"


def decimals_at(x: float, digits: int) -> int:
    """Find the decimals at which a number shows so many significant digits.

    >>> decimals_at(0.0123, 2), decimals_at(250, 2)
    (3, 0)
    """
    return 0 if x == 0 else max(0, digits - 1 - math.floor(math.log10(abs(x))))


def decimals_of(intervals: Iterable[tuple[float, float] | None], values: Iterable[float | None] = ()) -> int:
    """Find how many decimals a column of scores deserves.

    One unit in the last place is at most a third of half the width of the narrowest interval: fewer
    decimals would hide what is known, more would be noise. Without intervals, the largest value shows
    four significant digits.

    >>> decimals_of([(0.9775, 0.9803), (0.90, 0.95), None]), decimals_of([(2500.0, 3100.0)])
    (4, 0)
    >>> decimals_of([None], [0.97, None]), decimals_of([None], [None])
    (4, 4)
    """
    halves = [(high - low) / 2 for low, high in filter(None, intervals) if high > low]
    if halves:
        return min(6, max(0, math.ceil(-math.log10(min(halves) / 3))))
    return decimals_at(max((abs(x) for x in values if x), default=0.1), 4)


def apart(values: Sequence[float], decimals: int = 1) -> list[str]:
    """Write numbers with equally many decimals, enough that different ones look different.

    >>> apart([2.1, 9.81]), apart([2.12, 2.14]), apart([3.0, 3.0])
    (['2.1', '9.8'], ['2.12', '2.14'], ['3.0', '3.0'])
    """
    for more in range(decimals, decimals + 4):
        written = [fixed(x, more) for x in values]
        if len(set(written)) == len(set(values)):
            break
    return written


def interval(ends: tuple[float, float] | None, decimals: int) -> str:
    """Write an interval.

    >>> interval((0.9775, 0.9803), 3), interval(None, 3)
    ('[0.978, 0.980]', '–')
    """
    return ABSENT if ends is None else f"[{fixed(ends[0], decimals)}, {fixed(ends[1], decimals)}]"


def probability(p: float) -> str:
    """Write a p-value or another probability.

    >>> probability(0.0071), probability(0.25), probability(0.0003), probability(1.0)
    ('0.007', '0.25', '< 0.001', '1')
    """
    if 0 < p < 0.001:
        return "< 0.001"
    return number(round(p, 3))


def duration(seconds: float | None) -> str:
    """Write a time with the unit that suits it.

    >>> duration(0.00034), duration(0.0012), duration(3.44), duration(125), duration(4400)
    ('340 µs', '1.2 ms', '3.4 s', '2 min 5 s', '1 h 13 min')
    """
    if seconds is None:
        return ABSENT
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{1 if seconds < 0.1 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def size(bytes_: float) -> str:
    """Write a number of bytes.

    >>> size(22032.6), size(1042325.8), size(3.2e9)
    ('22 kB', '1 MB', '3.2 GB')
    """
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= each:
            return f"{float(f'{bytes_ / each:.2g}'):g} {unit}"
    return f"{bytes_:.0f} bytes"


def count(n: int) -> str:
    """Write a small number as a word.

    >>> count(4), count(13)
    ('four', '13')
    """
    return SMALL[n] if 0 <= n < len(SMALL) else str(n)


def plural(n: int, noun: str) -> str:
    """Write a number with its noun.

    >>> plural(1, "seed"), plural(8, "seed")
    ('1 seed', '8 seeds')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"


def listing(names: Sequence[str]) -> str:
    """Join names as in a sentence.

    >>> listing(["sgd"]), listing(["sgd", "adam"]), listing(["sgd", "adam", "lion"])
    ('sgd', 'sgd and adam', 'sgd, adam and lion')
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
