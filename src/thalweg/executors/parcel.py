"""What workers are sent: one file without a name, which all of them map into their memory.

It holds a pickle and, outside of it, the bytes of every tensor and array that is reached from it. Mapped
privately, these bytes are in memory once for all processes, and what a process changes stays its own. A
file without a name is gone with the last process that has it open, however that process ends.
"""

import linecache
import mmap
import os
import pickle
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final, NamedTuple, NoReturn

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.errors import InputError
from thalweg.training.trial import Execution, Trial, Workload

_ALIGNMENT: Final = 64  # bytes, as torch aligns its own memory
_INSTALLED: Final = tuple(
    folder + os.sep
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).resolve().parents[1]),  # Thalweg
    )
)
SERIAL: Final = "Take --executor serial."


class Settings(NamedTuple):
    """What is set for a whole process: numbers depend on it, and the lines that an error shows."""

    dtype: torch.dtype
    deterministic: bool
    warn_only: bool
    matmul_precision: str
    typed: dict[str, Any]  # the text of what was typed at a prompt or in a notebook, by name

    @classmethod
    def current(cls) -> "Settings":
        """Return those of this process."""
        return cls(
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_float32_matmul_precision(),
            # A file has a time and can be read by every process.
            {name: entry for name, entry in linecache.cache.items() if len(entry) > 1 and entry[1] is None},
        )

    def apply(self) -> None:
        """Make them those of this process."""
        torch.set_default_dtype(self.dtype)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.set_float32_matmul_precision(self.matmul_precision)
        linecache.cache.update(self.typed)


class Parcel(NamedTuple):
    """All that a worker needs; it is then sent the trials that it is to run, one after the other."""

    workload: Workload
    execution: Execution
    settings: Settings


def letters(workload: Workload, trials: Sequence[Trial]) -> list[bytes]:
    """Return trials as they are sent.

    Raises:
        InputError: something in one of them cannot be pickled.
    """
    try:
        with _by_value():
            return [cloudpickle.dumps(trial) for trial in trials]
    except Exception as error:
        raise refusal(f"what {workload.task.name} is trained with", error) from error


def pack(workload: Workload, execution: Execution) -> IO[bytes]:
    """Write all that workers need into an open file without a name.

    Raises:
        InputError: something in it cannot be pickled, or there is no room for the file.
    """
    task = workload.task
    # The data are made already. What `make_data` closes over, often the same data once more, stays here.
    bare = replace(workload, task=replace(task, make_data=_made_already), programs={})
    parcel = Parcel(bare, execution, Settings.current())
    buffers: list[pickle.PickleBuffer] = []
    try:
        content = _pickled(parcel, buffers)
    except Exception as error:
        _refuse(bare, error)
    try:
        return _written(content, buffers)
    except OSError as error:
        needed = sum(buffer.raw().nbytes for buffer in buffers) / 2**20
        raise InputError(
            "the folder of temporary files",
            f"have room for {needed:.1f} MiB of data",
            error.strerror or error,
            f"Name another one in the variable TMPDIR. {SERIAL}",
        ) from error


def _written(content: bytes, buffers: list[pickle.PickleBuffer]) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="thalweg-")  # noqa: SIM115 - whoever packs closes it
    try:
        spans = []
        for buffer in buffers:
            file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
            start = file.tell()
            file.write(buffer.raw())
            spans.append((start, file.tell()))
        start = file.tell()
        file.write(pickle.dumps((spans, content)))
        file.write(start.to_bytes(8, "little"))
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def unpack(file: int) -> Parcel:
    """Map the file with this descriptor and return what is packed in it."""
    memory = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_COPY))
    start = int.from_bytes(memory[-8:], "little")
    spans, content = pickle.loads(memory[start:-8])
    parcel: Parcel = pickle.loads(content, buffers=[memory[begin:end] for begin, end in spans])
    return parcel


def refusal(name: str, error: BaseException) -> InputError:
    """Word that something cannot be in two processes."""
    said = str(error).strip().splitlines()
    got = f"{type(error).__name__}: {said[0].rstrip('.')}" if said else type(error).__name__
    return InputError(name, "be something that can be sent to other processes", got, SERIAL)


def _refuse(workload: Workload, error: Exception) -> NoReturn:
    """Find the part that cannot be pickled and refuse it."""
    task = workload.task
    functions = ("make_model", "loss", "loss_weight", "metrics", "sampled_loss")
    parts = {f"{name} of {task.name}": getattr(task, name) for name in functions}
    for name, part in {**parts, f"the data of {task.name}": workload.data}.items():
        try:
            _pickled(part, [])
        except Exception as cause:
            raise refusal(name, cause) from cause
    raise refusal(f"the task {task.name}", error) from error


def _made_already(seed: int) -> NoReturn:
    raise RuntimeError("The data were made before the trials; a trial does not make them.")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles functions that cannot be imported with their code, and tensors as views of bytes."""

    def __init__(self, file: IO[bytes], buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, buffer_callback=buffers.append)
        self._memories: dict[int, NDArray[np.uint8]] = {}  # by address: tensors that share one stay so

    def reducer_override(self, obj: Any) -> Any:
        """Say how an object is to be made again."""
        if not _is_plain(obj):
            return super().reducer_override(obj)
        storage = obj.untyped_storage()
        memory = self._memories.get(storage.data_ptr())
        if memory is None:
            memory = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
            self._memories[storage.data_ptr()] = memory
        return _view, (memory, obj.dtype, obj.storage_offset(), obj.shape, obj.stride())


def _is_plain(obj: Any) -> bool:
    """Tell whether something is a tensor that is nothing but numbers in memory."""
    return (
        type(obj) is Tensor
        and obj.device.type == "cpu"
        and obj.layout is torch.strided
        and obj.untyped_storage().nbytes() > 0
        and not (obj.requires_grad or obj.is_quantized or obj.is_conj() or obj.is_neg() or vars(obj))
    )


def _view(
    memory: NDArray[np.uint8], dtype: torch.dtype, offset: int, shape: torch.Size, stride: tuple[int, ...]
) -> Tensor:
    storage = torch.from_numpy(memory).untyped_storage()
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, stride)


def _pickled(thing: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    file = BytesIO()
    with _by_value():
        _Pickler(file, buffers).dump(thing)
    return file.getvalue()


@contextmanager
def _by_value() -> Iterator[None]:
    """Let what a person's modules define be pickled with its code, where a worker could not import them."""
    before = cloudpickle.list_registry_pickle_by_value()
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name not in before and _is_theirs(name, module) and not _importable(name)
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_theirs(name: str, module: Any) -> bool:
    # Some libraries put objects of other kinds, or other modules' names, into sys.modules.
    if not isinstance(module, ModuleType) or module.__name__ != name or name == "__main__":
        return False
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith(_INSTALLED)


def _importable(name: str) -> bool:
    """Tell whether an import that starts anew, with this process's sys.path, finds the same file."""
    package = name.rpartition(".")[0]
    if package and (package not in sys.modules or not _importable(package)):
        return False
    path = getattr(sys.modules[package], "__path__", None) if package else None
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    specs = (finder.find_spec(name, path, None) for finder in finders)
    found = next((spec for spec in specs if spec is not None), None)
    return found is not None and found.origin == getattr(sys.modules[name], "__file__", None)
