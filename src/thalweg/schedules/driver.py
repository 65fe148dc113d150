"""A face that lets a schedule drive any `torch.optim` optimizer; it asks only for `param_groups`."""

from typing import Any

from thalweg.errors import InputError
from thalweg.hyper import Integer, Interval
from thalweg.schedules.base import TICKS, Schedule


class Scheduler:
    """Sets every group's rate: ``lr = initial_lr × schedule(position)``. The groups keep their ratios.

    The rate for `step` is set at once, on construction; call `step()` after each `optimizer.step()`.
    `initial_lr` is the group's ``lr`` when a scheduler first meets it, kept in the group as PyTorch's
    schedulers do, and thereby in the optimizer's own ``state_dict``. There is no other memory: a
    scheduler that is made at step t gives the same rates as one that was stepped there.

    Arguments: `optimizer`, anything with a list ``param_groups`` of dicts with a number or 0-d tensor
    ``lr`` (which is filled in place); `schedule`, with nothing open; `step`, the position on the
    schedule's clock, at least 0. Raises `InputError` for anything else.

    >>> from types import SimpleNamespace
    >>> from thalweg.schedules import Linear
    >>> optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}, {"lr": 0.1}])
    >>> scheduler = Scheduler(optimizer, Linear(length=4))
    >>> scheduler.step(); scheduler.step()
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.5, 0.05]
    """

    def __init__(self, optimizer: Any, schedule: Schedule, step: int = 0) -> None:
        groups = getattr(optimizer, "param_groups", None)
        if not isinstance(groups, list) or not all("lr" in group for group in groups):
            raise InputError(
                "the optimizer of a Scheduler", "have param_groups, each with an lr", type(optimizer).__name__
            )
        if not isinstance(schedule, Schedule):
            raise InputError(
                "the schedule of a Scheduler",
                "be a schedule",
                repr(schedule),
                "A function of the clock is given as Custom(function).",
            )
        self.optimizer, self.schedule = optimizer, schedule
        self._move_to(step)

    def step(self, ticks: int = 1) -> None:
        """Advance, by one step or by the examples or tokens of an update, and set the rates."""
        Integer(1, "ticks", Interval(0)).check("ticks", "Scheduler.step", ticks)
        self._move_to(self.position + ticks)

    def get_last_lr(self) -> list[float]:
        """Return the rate that was last set, a group (PyTorch's name for it)."""
        return list(self._rates)

    def state_dict(self) -> dict[str, int]:
        """Return what is needed to resume: the position."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a stored position and set its rates at once. Load the optimizer's own state first."""
        if "position" not in state:
            raise InputError("the state of a Scheduler", "have a position", sorted(state))
        self._move_to(state["position"])

    def _move_to(self, position: int) -> None:
        TICKS.check("step", "Scheduler", position)
        factor = self.schedule(position)
        self.position, self._rates = position, []
        for group in self.optimizer.param_groups:
            base = float(group.setdefault("initial_lr", float(group["lr"])))  # a new group joins here
            self._rates.append(base * factor)
            if hasattr(group["lr"], "fill_"):  # a tensor may be captured in a graph: keep the object
                group["lr"].fill_(base * factor)
            else:
                group["lr"] = base * factor
