"""Whether two tasks are the same: the text of the functions with all they use, and the bytes of the data.

A finished race is shown again when its task is the same, so a change must not go unseen; to take two
equal tasks for different ones only costs time. What cannot be read further is therefore identified by
its representation, address included.
"""

import functools
import hashlib
import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.tasks.data.part import DatasetPart, Part, TensorPart, as_tensor, map_leaves


def source_of(functions: Iterable[Any]) -> str:
    """Return the text of functions, and of what they close over or read from their own modules.

    Followed are functions, classes and their bases of the same modules or notebook, arguments of
    ``functools.partial``, containers, and the attributes of objects, down to the bytes of tensors.
    What comes from other modules is named only. What was followed before is written as its number.
    """
    waiting = list(functions)
    home = {getattr(thing, "__module__", None) for thing in waiting}
    # By identity: a number, and the thing itself, kept alive so that no identity is used twice.
    seen: dict[int, tuple[int, Any]] = {}
    texts = []
    while waiting:
        thing = waiting.pop(0)
        if id(thing) in seen:
            texts.append(f"#{seen[id(thing)][0]}")
            continue
        text, used = _read(thing, home)
        texts.append(text)
        waiting += used
        if used:  # else its text is all of it: equal numbers may be one object or two
            seen[id(thing)] = len(seen), thing
    return "\n".join(texts)


def _read(thing: Any, home: set[str | None]) -> tuple[str, list[Any]]:
    """What identifies one thing by itself, and the things that it uses."""
    if isinstance(thing, Tensor | np.ndarray):
        return f"{thing.dtype}{tuple(thing.shape)}{_sha256(thing)}", []
    if isinstance(thing, Mapping):
        return f"{type(thing).__name__} {list(thing)!r}", list(thing.values())
    if isinstance(thing, tuple | list):
        return f"{type(thing).__name__} {len(thing)}", list(thing)
    if isinstance(thing, functools.partial):
        return "partial", [thing.func, thing.args, thing.keywords]
    if isinstance(thing, MethodType):
        return "method", [thing.__func__, thing.__self__]
    if isinstance(thing, ModuleType):
        return thing.__name__, []
    if isinstance(thing, FunctionType | type) and thing.__module__ not in home:
        return f"{thing.__module__}.{thing.__qualname__}", []
    if isinstance(thing, type):
        methods = [v for v in vars(thing).values() if isinstance(v, FunctionType)]
        return _text(thing) or thing.__qualname__, [*thing.__bases__, *methods]
    if isinstance(thing, FunctionType):
        return _text(thing) or _code(thing.__code__), [thing.__defaults__, thing.__kwdefaults__, _used(thing)]
    plain = type(thing).__repr__ is object.__repr__  # type: ignore[comparison-overlap]
    return "" if plain else repr(thing), [type(thing), vars(thing)] if hasattr(thing, "__dict__") else []


def digest_of(part: Part) -> bytes:
    """Return the sha256 of a part: every byte of tensors, the length and two items of a dataset."""
    digest = hashlib.sha256(str(part.examples).encode())

    def update(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(_bytes(value))
        else:
            digest.update(repr(value).encode())

    if isinstance(part, TensorPart):
        map_leaves(update, part.fields)
        digest.update(repr(map_leaves(lambda x: 0, part.fields)).encode())
    elif isinstance(part, DatasetPart):
        for index in (0, part.examples - 1):
            map_leaves(lambda x: update(as_tensor(x)), part.dataset[index])
    return digest.digest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _sha256(value: Tensor | np.ndarray[Any, Any]) -> str:
    if isinstance(value, Tensor):
        return hashlib.sha256(_bytes(value)).hexdigest()
    content = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
    return hashlib.sha256(content).hexdigest()


def _text(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):  # typed at a prompt
        return ""


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _used(function: FunctionType) -> dict[str, Any]:
    """What a function closes over and the names that it reads from its module, in order of name."""
    module = function.__globals__
    found = {name: module[name] for name in _names(function.__code__) if name in module}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            found[name] = cell.cell_contents
    return dict(sorted(found.items()))


def _names(code: CodeType) -> set[str]:
    """The global names and attributes in a code, and in the lambdas and comprehensions inside it."""
    inside = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inside)
