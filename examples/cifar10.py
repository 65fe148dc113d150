"""CIFAR-10: which of ten things a photograph shows; a convolutional network 16–32–64.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). 50,000 + 10,000 images of
32×32 pixels in three colours; a part of them, so that an epoch takes seconds on one core.
"""

import functools
import io

import numpy as np
from data_files import find
from torch import nn

from thalweg.errors import InputError
from thalweg.tasks import Classification
from thalweg.tasks.metrics import accuracy

TRAINING, VALIDATION, TEST = 10_000, 2_000, 5_000  # images: of the 50,000, again of these, of the 10,000

kind = Classification(10)
epochs = 15
batch_size = 32


def make_model():
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(64, 10),
    )


@functools.lru_cache(maxsize=1)  # images are slow to decode, and an experiment trains on them again and again
def make_data(seed):
    path = find(
        "CIFAR-10",
        ("cifar-10-batches-bin", "cifar10/cifar10_jpeg_full.npz"),
        "The first is the binary version of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked.",
    )
    read = _original if path.is_dir() else _compressed
    random = np.random.default_rng(seed)
    x, y = read(path, "train", TRAINING + VALIDATION, random)
    x_test, y_test = read(path, "test", TEST, random)
    mean, deviation = (
        statistic(x[:TRAINING], axis=(0, 2, 3), keepdims=True, dtype=np.float64)
        for statistic in (np.mean, np.std)
    )

    def standardised(images):
        return ((images - mean) / deviation).astype(np.float32)

    return {
        "train": (standardised(x[:TRAINING]), y[:TRAINING]),
        "validation": (standardised(x[TRAINING:]), y[TRAINING:]),
        "test": (standardised(x_test), y_test),
    }


def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def metrics(model, batch):
    x, y = batch
    return {"accuracy": accuracy(model(x), y)}


def _original(folder, part, count, random):
    """Some images of the published files: records of a label and 3×32×32 bytes."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if part == "train" else ["test_batch.bin"]
    contents = []
    for name in names:
        try:
            contents.append((folder / name).read_bytes())
        except OSError as error:
            raise InputError(
                f"the file {folder / name}", "be readable", error.strerror, "Fetch it."
            ) from error
        if len(contents[-1]) % 3073:
            size = f"{len(contents[-1])} bytes"
            raise InputError(
                f"the file {folder / name}", "hold records of 3073 bytes", size, "Fetch it anew."
            )
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 3073)
    records = records[random.permutation(len(records))[:count]]
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _compressed(path, part, count, random):
    """Some images of a file that holds them as JPEG, a little changed by that, one after the other."""
    try:
        from PIL import Image
    except ImportError as error:
        do = "Run: pip install pillow"
        raise InputError(f"Pillow, for the images in {path.name},", "be installed", "none", do) from error
    with np.load(path) as file:
        jpeg, offsets, labels = (file[f"{part}_{name}"] for name in ("jpeg", "offsets", "labels"))
    chosen = random.permutation(len(labels))[:count]
    images = [Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())) for i in chosen]
    return np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2), labels[chosen]
