"""All schedules by name, and schedules as text and as plain data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from thalweg.errors import InputError, nearest
from thalweg.hyper import check_all
from thalweg.schedules.base import Join, Product, Schedule, Shape
from thalweg.schedules.join import Trapezoid, WarmupCosine, WarmupLinear, WarmupRestarts
from thalweg.schedules.shapes import (
    Constant,
    Cosine,
    Exponential,
    InverseSquareRoot,
    InverseTime,
    Linear,
    Multistep,
    OneCycle,
    Polynomial,
    Step,
    WarmRestarts,
    Warmup,
)
from thalweg.schedules.sweep import Sweep


@dataclass(frozen=True)
class ScheduleEntry:
    """What the catalogue says of a schedule."""

    kind: type[Shape]
    formula: str
    use: str  # one line: when to use it
    source: str
    course: str  # with default values: "constant", "rises", "falls", "rises, then falls", "restarts"


_ENTRIES = (
    ScheduleEntry(
        Constant,
        "1",
        "The baseline; arrives only in the neighbourhood of a minimum when gradients are noisy.",
        "Bottou, Curtis and Nocedal 2018, arXiv:1606.04838, section 4",
        "constant",
    ),
    ScheduleEntry(
        Step,
        "r^⌊t/k⌋",
        "Simple drops at equal distances; each drop shows in the loss at once.",
        "He et al. 2015, arXiv:1512.03385, section 3.4 (divided by ten)",
        "falls",
    ),
    ScheduleEntry(
        Multistep,
        "r^n, n milestones passed",
        "Drops where the loss is known to stall: image classification with SGD and momentum.",
        "He et al. 2015, arXiv:1512.03385, section 4.2 (at 32k and 48k of 64k iterations)",
        "falls",
    ),
    ScheduleEntry(
        Exponential,
        "e^(−kt)",
        "A smooth fall that has no end; k must fit the length of the run.",
        "Senior et al. 2013, An empirical study of learning rates in deep neural networks, ICASSP",
        "falls",
    ),
    ScheduleEntry(
        InverseTime,
        "1/(1 + t/t₀)",
        "Convergence theory of stochastic gradients; in practice slow.",
        "Robbins and Monro 1951, A stochastic approximation method",
        "falls",
    ),
    ScheduleEntry(
        InverseSquareRoot,
        "1/√(1 + t/t₀)",
        "Long runs whose end is not known; transformers, after a warm-up of t₀.",
        "Vaswani et al. 2017, arXiv:1706.03762, section 5.3",
        "falls",
    ),
    ScheduleEntry(
        Linear,
        "a + (b − a)·min(t/N, 1)",
        "A strong default when the length of the run is fixed: a line to zero.",
        "Defazio et al. 2023, arXiv:2310.07831",
        "falls",
    ),
    ScheduleEntry(
        Polynomial,
        "f + (1 − f)·(1 − min(t/N, 1))^p",
        "Between a line (p = 1) and an early fall (p > 1); segmentation uses p = 0.9.",
        "Chen et al. 2016, arXiv:1606.00915",
        "falls",
    ),
    ScheduleEntry(
        Cosine,
        "f + (1 − f)·(1 + cos(π·min(t/N, 1)))/2",
        "The usual choice when the length of the run is fixed: slow start, slow end.",
        "Loshchilov and Hutter 2016, arXiv:1608.03983, one cycle",
        "falls",
    ),
    ScheduleEntry(
        Warmup,
        "min((t + 1)/N, 1)",
        "Large batches, transformers, and any optimizer whose averages start empty.",
        "Goyal et al. 2017, arXiv:1706.02677, section 2.2",
        "rises",
    ),
    ScheduleEntry(
        WarmupCosine,
        "warmup(W), then cosine(N − W, f)",
        "Transformers and large batches: the usual choice.",
        "Brown et al. 2020, arXiv:2005.14165, appendix B",
        "rises, then falls",
    ),
    ScheduleEntry(
        WarmupLinear,
        "warmup(W), then linear(N − W, 1 → f)",
        "Fine-tuning of transformers.",
        "Devlin et al. 2018, arXiv:1810.04805, appendix A.2",
        "rises, then falls",
    ),
    ScheduleEntry(
        WarmRestarts,
        "f + (1 − f)·(1 + cos(π·τ/(T₀·mⁿ)))/2, τ ticks into cycle n",
        "A usable model at the end of every cycle; snapshots for an ensemble.",
        "Loshchilov and Hutter 2016, arXiv:1608.03983 (SGDR)",
        "restarts",
    ),
    ScheduleEntry(
        WarmupRestarts,
        "warmup(W), then warm-restarts(T₀, m, f)",
        "Warm restarts where the first updates must be small.",
        "arXiv:1608.03983 after the warm-up of arXiv:1706.02677",
        "restarts",
    ),
    ScheduleEntry(
        OneCycle,
        "half a cosine from a to 1 until tick sN − 1, then to b at tick N − 1",
        "Short runs at a large peak rate.",
        "Smith and Topin 2017, arXiv:1708.07120; with cosines, as in PyTorch",
        "rises, then falls",
    ),
    ScheduleEntry(
        Trapezoid,
        "warmup(W), then 1, then linear(D, 1 → f)",
        "Runs that may be prolonged: the decay is begun when the end is decided (WSD).",
        "Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392",
        "rises, then falls",
    ),
    ScheduleEntry(
        Sweep,
        "a^(1 − min(t/(N − 1), 1))",
        "A range test: rates from small to too large; not for training.",
        "Smith 2015, arXiv:1506.01186, section 3.3; geometric instead of linear",
        "rises",
    ),
)

SCHEDULES: Final[Mapping[str, ScheduleEntry]] = {entry.kind.name: entry for entry in _ENTRIES}

_PARTS: Final = {Join.name: ("first", "second", "after"), Product.name: ("first", "second")}


def schedule_named(name: str, /, **fields: Any) -> Shape:
    """Return the schedule of that name with these fields, the rest as declared.

    Raises `InputError` for an unknown name or field (with the nearest ones) and an invalid value.

    >>> schedule_named("cosine", length=10)(5)
    0.5
    >>> schedule_named("cosin")
    Traceback (most recent call last):
    thalweg.errors.InputError: the schedule must be a known one; got 'cosin'. Did you mean cosine
    or warmup-cosine?
    """
    kind = _kind(name)
    check_all(f"the schedule {name}", kind.declarations(), fields)
    return kind(**fields)


def _kind(name: str) -> type[Shape]:
    if name not in SCHEDULES:
        raise InputError("the schedule", "be a known one", repr(name), nearest(name, SCHEDULES))
    return SCHEDULES[name].kind


def to_data(schedule: Schedule) -> dict[str, Any]:
    """Turn a schedule into what TOML and JSON know: its name, and each field that is not the default.

    Raises `InputError` for a Python function, also inside a join or product.

    >>> to_data(schedule_named("cosine", floor=0.1))
    {'name': 'cosine', 'floor': 0.1}
    """
    if isinstance(schedule, Join | Product):
        data: dict[str, Any] = {"name": schedule.name}
        data |= {"first": to_data(schedule.first), "second": to_data(schedule.second)}
        if isinstance(schedule, Join) and schedule.after is not None:
            data["after"] = schedule.after
        return data
    if not isinstance(schedule, Shape):
        raise InputError(
            "a schedule that is written to a file",
            "be made of known shapes",
            "a Python function",
            f"Use {', '.join(SCHEDULES)}, joined or multiplied.",
        )
    fields = {name: (getattr(schedule, name), row.default) for name, row in schedule.declarations().items()}
    changed = {name: value for name, (value, default) in fields.items() if value != default}
    return {
        "name": schedule.name,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()},
    }


def from_data(data: Mapping[str, Any]) -> Schedule:
    """Build a schedule from what `to_data` made, or a person wrote. Raises `InputError`.

    >>> from_data({"name": "step", "every": 30})
    Step(clock='steps', every=30, ratio=0.1)
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise InputError(
            "a schedule", "be a table with a name", repr(data), 'For example {name = "cosine", floor = 0.1}.'
        )
    name, fields = data["name"], {key: value for key, value in data.items() if key != "name"}
    if name not in _PARTS:
        return schedule_named(name, **fields)
    for key in fields:
        if key not in _PARTS[name]:
            known = _PARTS[name]
            raise InputError(
                f"the fields of {name}", f"be among {', '.join(known)}", repr(key), nearest(key, known)
            )
    first, second = from_data(fields.get("first", {})), from_data(fields.get("second", {}))
    return Product(first, second) if name == Product.name else Join(first, second, fields.get("after"))


def parse(text: str) -> Shape:
    """Read a schedule as typed on a command line: ``name`` or ``name:field=value,field=value``.

    Raises `InputError` for an unknown name or field and for a value that cannot be read.

    >>> parse("multistep:milestones=30,60,ratio=0.5")
    Multistep(clock='steps', milestones=(30, 60), ratio=0.5)
    """
    name, _, rest = text.partition(":")
    declarations = _kind(name).declarations()
    fields: dict[str, Any] = {}
    # A comma separates fields only where a name follows it: a value may be a list.
    for item in re.split(r",(?=\s*\w+\s*=)", rest) if rest.strip() else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise InputError(
                f"the fields of the schedule {name}",
                "be field=value, with commas between them",
                repr(item),
                f"Fields: {', '.join(declarations)}.",
            )
        check_all(f"the schedule {name}", declarations, {} if key in declarations else {key: value})
        try:
            fields[key] = declarations[key].parse(value)
        except ValueError:
            must = f"be {declarations[key].must}"
            raise InputError(f"{key} of the schedule {name}", must, repr(value)) from None
    return schedule_named(name, **fields)
