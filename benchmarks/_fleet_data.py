"""The data of `fleet.py`'s workloads as NumPy arrays: what every candidate but ours reads by itself.

Digits and MNIST are divided as Thalweg's built-in tasks divide them; `write_split` notes how. Of
Fashion-MNIST and tiny Shakespeare a part is taken, and ours takes the same.
"""

import gzip
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CONTEXT = 64
TRAIN, VALIDATION = 20_000, 500  # images of Fashion-MNIST
WINDOWS, VALIDATION_WINDOWS = 16_000, 64  # of the text, CONTEXT characters each


class Parts(NamedTuple):
    """Training and validation part."""

    x: Array
    y: Array
    x_validation: Array
    y_validation: Array


def digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


def _idx(name: str, skip: int) -> Array:
    folder = Path(os.environ["THALWEG_DATA"])
    return np.frombuffer(gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=skip)


def images(name: str, mean: float, deviation: float) -> tuple[Array, Array]:
    x = _idx(f"{name}/train-images-idx3", 16).reshape(-1, 28 * 28).astype(np.float32)
    x /= 255
    x -= mean
    x /= deviation
    return x, _idx(f"{name}/train-labels-idx1", 8).astype(np.int64)


def fashion() -> Parts:
    x, y = images("fashion_mnist", 0.2860, 0.3530)
    x, y = x[: TRAIN + VALIDATION].reshape(-1, 1, 28, 28), y[: TRAIN + VALIDATION]
    return Parts(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


def text() -> Parts:
    path = Path(os.environ["THALWEG_DATA"]) / "tiny_shakespeare" / "input.txt"
    numbers = np.full(128, -1)
    numbers[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    characters = numbers[np.frombuffer(path.read_bytes(), np.uint8)]
    train, validation = np.split(characters, [len(characters) * 9 // 10])
    places = np.random.default_rng(0).integers(0, len(train) - CONTEXT, WINDOWS)
    aside = np.arange(VALIDATION_WINDOWS) * CONTEXT
    return Parts(*_windows(train, places), *_windows(validation, aside))


def _windows(characters: Array, places: Array) -> tuple[Array, Array]:
    window = places[:, None] + np.arange(CONTEXT)
    return characters[window], characters[window + 1]


def parts(work: str, split: str) -> Parts:
    """Read the data of a workload."""
    if work == "cnn":
        return fashion()
    if work == "text":
        return text()
    x, y = digits() if work == "digits" else images("mnist", 0.1307, 0.3081)
    rows = np.load(split)
    train, validation = rows["train"], rows["validation"]
    return Parts(x[train], y[train], x[validation], y[validation])


def write_split(work: str, path: Path) -> None:
    """Write which rows Thalweg's built-in task takes for training and for validation, with seed 0."""
    from thalweg.tasks.data.split import indices

    if work == "digits":
        labels, missing = digits()[1], 2
    elif work == "mnist":
        labels, missing = _idx("mnist/train-labels-idx1", 8).astype(np.int64), 1
    else:
        return
    train, validation = indices(len(labels), missing, 0, labels)[:2]
    np.savez(path, train=train, validation=validation)
