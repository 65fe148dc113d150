"""Numbers that steps change and that are not one a parameter: kept in the groups, and so in every state.

Prodigy's d, as in the authors' package, and the counts of skipped steps. All groups of a rule hold the same.
"""

from collections.abc import Mapping
from typing import Any

from thalweg.rules.base import Rule, Values

SKIPS = ("skipped_steps", "skipped_in_a_row")


def initial(rule: Rule, values: Values) -> dict[str, Any]:
    """Return the numbers of a rule before the first step."""
    numbers: dict[str, Any] = {}
    if rule.initial_shared is not None:
        numbers = {name: float(x) for name, x in rule.initial_shared(values)._asdict().items()}
    if "skip_nonfinite_limit" in rule.hyper:
        numbers |= dict.fromkeys(SKIPS, 0)
    return numbers


def found(optimizer: Any, rule: Rule) -> dict[str, Any]:
    """Return the numbers of a rule as a group holds them that has it."""
    for group in optimizer.param_groups:
        if optimizer.rule_of(group) is rule:
            return {n: group[n] for n in initial(rule, rule.values(group)) if n in group}
    return {}


def all_of(optimizer: Any) -> dict[str, Any]:
    """Return the numbers of all rules."""
    return found(optimizer, optimizer.beside) | found(optimizer, optimizer.own)


def put(optimizer: Any, numbers: Mapping[str, Any]) -> None:
    """Put numbers into the groups that have them; counts stay whole."""
    for group in optimizer.param_groups:
        group.update({n: type(group[n])(x) for n, x in numbers.items() if n in group})


def shared(optimizer: Any) -> dict[str, Any]:
    """Return the global scalars of rules that have such, by the rule's name."""
    kinds: dict[str, Any] = {}
    for group in optimizer.param_groups:
        rule = optimizer.rule_of(group)
        if rule.initial_shared is not None and rule.name not in kinds:
            kind = type(rule.initial_shared(rule.values(group)))
            kinds[rule.name] = kind(*(group[name] for name in kind._fields))
    return kinds
