"""From what ``make_data`` returned to `Data`: recognised, converted, checked, and split by stated rules."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from thalweg.errors import TaskError, nearest
from thalweg.tasks.data.part import Data, DatasetPart, Part, TensorPart, as_tensor, leaves, map_leaves
from thalweg.tasks.data.split import indices
from thalweg.tasks.kind import Classification, Kind

_NAMES = ("train", "validation", "test")
_WORDS = {"train": "training", "validation": "validation", "test": "test"}
_WANTED = "Return tensors or arrays, tuples or dicts of them, or datasets with __len__ and __getitem__."


def as_data(returned: Any, seed: int, kind: Kind | None = None, owner: str = "the task") -> Data:
    """Turn what ``make_data`` returned into training, validation and test parts.

    A dict with the key ``train`` (and perhaps ``validation``, ``test``) names the parts; a tuple or
    list of two is training and test, of three training, validation and test; anything else is one
    part, as is a tuple whose entries are all tensors or arrays. Every part that is missing takes a
    tenth of the training part's examples (at least one), chosen by ``seed``, with the mix of classes
    kept where ``kind`` tells the labels. One part is thus split 80/10/10. Raises TaskError.

    >>> data = as_data((np.zeros((20, 3)), np.zeros(20)), seed=0)
    >>> data.train.examples, data.validation.examples, data.test.examples
    (16, 2, 2)
    """
    if isinstance(returned, Data):
        found = {name: getattr(returned, name) for name in _NAMES}
    else:
        found = {
            name: _as_part(value, f"the {_WORDS[name]} data of {owner}")
            for name, value in _named(returned, owner).items()
        }
    _check_structures(found, owner)
    for name, part in found.items():
        _check_part(part, kind, f"the {_WORDS[name]} data of {owner}")
    missing = [name for name in _NAMES if name not in found]
    if missing:
        train = found["train"]
        pieces = indices(train.examples, len(missing), seed, _classes(train, kind))
        found |= {name: train.select(i) for name, i in zip(["train", *missing], pieces, strict=True)}
    return Data(**found)


def labels_of(fields: Any, kind: Classification, who: str = "the data") -> Tensor:
    """Return the labels in a part's fields or in a batch, where ``kind`` says they are."""
    labels: Any = None
    try:
        if isinstance(fields, tuple | list | Mapping):
            labels = fields[kind.labels]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        pass
    if not isinstance(labels, Tensor):
        raise TaskError(
            f"the labels in {who}",
            "stand where the kind of the task says",
            f"nothing at {kind.labels!r}",
            f'Write Classification({kind.classes}, labels="KEY") for a dict, or return (inputs, labels).',
        )
    return labels


def check_labels(labels: Tensor, kind: Classification, who: str) -> None:
    """Refuse a label that is not one of the classes 0 … K − 1."""
    numbers = labels.double()
    wrong = (numbers < 0) | (numbers >= kind.classes) | (numbers != numbers.round())
    if wrong.any():
        place = int(wrong.reshape(len(labels), -1).any(1).nonzero()[0])
        raise TaskError(
            f"the labels in {who}",
            f"be whole numbers from 0 to {kind.classes - 1}",
            f"{labels[wrong][0].item()} at example {place}",
            "Number the classes from 0, or declare more classes.",
        )


def _named(returned: Any, owner: str) -> dict[str, Any]:
    if isinstance(returned, Mapping) and any(name in returned for name in _NAMES):
        for key in returned:
            if key not in _NAMES:
                raise TaskError(
                    f"the parts of the data of {owner}",
                    "be named train, validation and test",
                    repr(key),
                    nearest(str(key), _NAMES),
                )
        if "train" not in returned:
            raise TaskError(f"the data of {owner}", "have a part named train", ", ".join(returned))
        return dict(returned)
    if isinstance(returned, tuple | list) and not all(_is_array(x) for x in returned):
        if not 1 <= len(returned) <= 3:
            raise TaskError(
                f"the data of {owner}", "have one, two or three parts", f"{len(returned)} parts", _WANTED
            )
        names = ("train", "test") if len(returned) == 2 else _NAMES
        return dict(zip(names, returned, strict=False))
    return {"train": returned}


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or hasattr(value, "to_numpy")


def _as_part(value: Any, who: str) -> Part:
    if isinstance(value, Part):
        return value
    if isinstance(value, DataLoader):
        raise TaskError(
            who,
            "be the data, not batches of it, for Thalweg chooses batches and their order",
            "a DataLoader",
            "Return its .dataset instead.",
        )
    if isinstance(value, TensorDataset):
        return TensorPart(tuple(as_tensor(x) for x in value.tensors))
    if isinstance(value, tuple | list | Mapping) or _is_array(value):
        return _as_tensors(value, who)
    if isinstance(value, IterableDataset) or not (
        hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes)
    ):
        raise TaskError(
            who, "be tensors, arrays or map-style datasets", f"{type(value).__name__} {value!r:.40}", _WANTED
        )
    return DatasetPart(value)


def _as_tensors(value: Any, who: str) -> TensorPart:
    def convert(leaf: Any) -> Tensor:
        if isinstance(leaf, DataLoader):
            _as_part(leaf, who)  # says what is wanted instead
        tensor = as_tensor(leaf)
        if not isinstance(tensor, Tensor) or tensor.ndim == 0:
            what = f"an array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else f"{leaf!r:.40}"
            raise TaskError(who, "hold numbers, one row an example", what, _WANTED)
        return tensor

    return TensorPart(map_leaves(convert, value))


def _check_structures(found: Mapping[str, Part], owner: str) -> None:
    shapes = {
        name: map_leaves(lambda x: "·", part.fields) if isinstance(part, TensorPart) else "a dataset"
        for name, part in found.items()
    }
    for name, shape in shapes.items():
        if shape != shapes["train"]:
            raise TaskError(
                f"the parts of the data of {owner}",
                "be built alike",
                f"{shapes['train']} for training and {shape} for {_WORDS[name]}",
                'Name the parts to be clear: {"train": …, "validation": …, "test": …}.',
            )


def _check_part(part: Part, kind: Kind | None, who: str) -> None:
    if not isinstance(part, TensorPart):
        if part.examples == 0:
            raise TaskError(who, "have at least one example", "none")
        return
    tensors = leaves(part.fields)
    lengths = [len(x) for x in tensors]
    if not lengths or min(lengths) != max(lengths):
        counts = ", ".join(map(str, lengths)) or "nothing"
        raise TaskError(who, "have equally many examples in each of its arrays", counts)
    if lengths[0] == 0:
        raise TaskError(who, "have at least one example", "none")
    for x in tensors:
        if x.is_floating_point() and not torch.isfinite(x).all():
            place = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0])
            raise TaskError(
                who,
                "be finite numbers",
                f"NaN or infinity at example {place}",
                "Remove such examples or fill the gaps.",
            )
    if isinstance(kind, Classification):
        check_labels(labels_of(part.fields, kind, who), kind, who)


def _classes(part: Part, kind: Kind | None) -> Any:
    """One class an example as an array, or None when the classes are unknown."""
    if not isinstance(kind, Classification) or not isinstance(part, TensorPart):
        return None  # a dataset's labels are known only once every item was fetched
    labels = labels_of(part.fields, kind)
    return labels.flatten().cpu().numpy() if labels.numel() == part.examples else None
