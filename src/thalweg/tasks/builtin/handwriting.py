"""Small images of one class each: digits, MNIST, Fashion-MNIST; a multi-layer perceptron."""

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg.tasks.arrays import classification_loss, classification_metrics, sampled_classification_loss
from thalweg.tasks.data import Data, Part, TensorPart, as_data
from thalweg.tasks.files import FASHION_MNIST, MNIST, FileSet, locate, read_idx, verified
from thalweg.tasks.kind import Classification
from thalweg.tasks.listing import BUILTIN
from thalweg.tasks.models import mlp
from thalweg.tasks.task import Task

# files; mean and standard deviation of the 60,000 training images, pixels in [0, 1]
IMAGES: Final[dict[str, tuple[FileSet, float, float]]] = {
    "mnist": (MNIST, 0.1307, 0.3081),
    "fashion-mnist": (FASHION_MNIST, 0.2860, 0.3530),
}
_TEN: Final = Classification(10)


def digits() -> Task:
    """1797 digits of 8×8 pixels, from scikit-learn; pixels / 16, MLP 64–32–10, split 80/10/10.

    E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits" (1998), UCI repository.
    """

    def make_data(seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        table = _digits()
        return table[:, :-1] / 16, table[:, -1].astype(np.int64)

    return _task("digits", make_data, [64, 32, 10])


def _digits() -> NDArray[np.float64]:
    """Read the table that comes with scikit-learn: 64 pixels and the label of each digit.

    Its file is read where it lies, for to import scikit-learn takes longer than a race of small networks.
    """
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            numbers = gzip.decompress(path.read_bytes()).replace(b"\n", b",").strip(b",")
            return np.array(numbers.split(b","), np.float64).reshape(-1, 65)
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.column_stack([x, y])


def images(name: str, data_dir: Path | None, download: bool) -> Task:
    """60,000 + 10,000 images of 28×28 pixels, MLP 784–128–10; 6,000 are split off for validation.

    Pixels are scaled to [0, 1] and normalised with the published mean and standard deviation of all
    60,000 images. MNIST: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998). Fashion-MNIST: H. Xiao,
    K. Rasul, R. Vollgraf (2017). The files are looked for at once, read and verified by ``make_data``.
    """
    files, mean, deviation = IMAGES[name]
    folder = locate(files, data_dir, download)

    def make_data(seed: int) -> Data:
        x, y, x_test, y_test = (
            read_idx(verified(folder / file.name, file), file.name) for file in files.files
        )
        bytes_of_pixels = as_data({"train": (x, y), "test": (x_test, y_test)}, seed, _TEN, name)
        return Data(
            *map(normalised, (bytes_of_pixels.train, bytes_of_pixels.validation, bytes_of_pixels.test))
        )

    def normalised(part: Part) -> TensorPart:
        x, y = part.fields  # type: ignore[attr-defined]
        return TensorPart((x.flatten(1).float().div_(255).sub_(mean).div_(deviation), y))

    return _task(name, make_data, [784, 128, 10])


def _task(name: str, make_data: Any, sizes: list[int]) -> Task:
    row = BUILTIN[name]
    return Task(
        make_model=lambda: mlp(sizes),
        make_data=make_data,
        loss=classification_loss,
        sampled_loss=sampled_classification_loss,
        metrics=classification_metrics,
        kind=_TEN,
        name=name,
        description=row.description,
        epochs=row.epochs,
        batch_size=row.batch_size,
        source=f"built-in {name}, version 1",
    )
