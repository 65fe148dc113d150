"""The built-in tasks as a table, free of torch and of data, for listings and for offering names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Listing:
    """One built-in task. Epochs and batch size are what is used when nothing is asked."""

    name: str
    description: str
    train: int  # examples in the training, validation and test part
    validation: int
    test: int
    features: int
    classes: int | None  # None: regression
    epochs: int
    batch_size: int
    files: bool  # True: its files must be in the data folder; False: it comes with scikit-learn


def _tabular(
    name: str, about: str, sizes: tuple[int, int, int], features: int, classes: int | None
) -> list[Listing]:
    """A table twice: standardised, and raw."""
    rows = []
    for suffix, how in (("", ", standardised"), ("-raw", ", raw: features of very different scales")):
        rows.append(Listing(name + suffix, about + how, *sizes, features, classes, 50, 32, files=False))
    return rows


_ROWS: Final = (
    Listing("digits", "handwritten digits, 8×8 pixels", 1437, 180, 180, 64, 10, 10, 32, files=False),
    Listing("mnist", "handwritten digits, 28×28 pixels", 54000, 6000, 10000, 784, 10, 10, 64, files=True),
    Listing("fashion-mnist", "clothes, 28×28 pixels", 54000, 6000, 10000, 784, 10, 10, 64, files=True),
    *_tabular("breast-cancer", "is a tumour malignant, from cell nuclei", (455, 57, 57), 30, 2),
    *_tabular("diabetes", "progress of diabetes after a year", (354, 44, 44), 10, None),
    *_tabular("wine", "which of three growers, from a chemical analysis", (142, 18, 18), 13, 3),
)

BUILTIN: Final[Mapping[str, Listing]] = {row.name: row for row in _ROWS}
