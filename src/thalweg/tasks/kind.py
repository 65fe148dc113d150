"""What is to be predicted, declared so that labels can be checked and parts split fairly."""

from dataclasses import dataclass

from thalweg.errors import TaskError


@dataclass(frozen=True)
class Classification:
    """One of ``classes`` classes, numbered from 0.

    ``labels`` is the place of the labels in a part of the data: a position when the part is a tuple
    (−1: the last), a key when it is a dict. Labels are then checked to lie in [0, classes), and
    parts that Thalweg splits keep the mix of classes.

    >>> Classification(10)
    Classification(classes=10, labels=-1)
    """

    classes: int
    labels: int | str = -1

    def __post_init__(self) -> None:
        if not isinstance(self.classes, int) or isinstance(self.classes, bool) or self.classes < 2:
            raise TaskError(
                "classes of Classification", "be a whole number of at least 2", repr(self.classes)
            )


@dataclass(frozen=True)
class Regression:
    """One or several real numbers."""


Kind = Classification | Regression
