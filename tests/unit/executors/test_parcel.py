"""What is sent to workers arrives as it was, and lies in memory once."""

import linecache
import os
import re
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from torch import nn

from small_tasks import EXECUTION, dataset, linear, workload
from thalweg.errors import InputError, TaskError
from thalweg.executors.parcel import Parcel, Settings, pack, unpack
from thalweg.tasks import Task, load_task
from thalweg.tasks.data.part import Data, DatasetPart, TensorPart, leaves
from thalweg.training.trial import Workload


def packed(work: Workload) -> IO[bytes]:
    return pack(work, EXECUTION)


def sent(work: Workload) -> Parcel:
    with packed(work) as file:
        return unpack(file.fileno())


def with_data(fields: Any) -> Workload:
    part = TensorPart(fields)
    return replace(workload(linear()), data=Data(part, part, part))


def arrived(fields: Any) -> Any:
    part = sent(with_data(fields)).workload.data.train
    assert isinstance(part, TensorPart)
    return part.fields


def mapping_of(address: int) -> str | None:
    """Permissions, offset, device and inode of the file that is mapped at an address, if one is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(n, 16) for n in line.split()[0].split("-"))
        if low <= address < high:
            return line if "thalweg" in line or "(deleted)" in line else None
    return None


def test_tensors_arrive_with_type_shape_strides_and_bits() -> None:
    x = torch.randn(6, 4)
    fields = {
        "plain": x.clone(),
        "transposed": torch.randn(4, 6).T,
        "image": torch.randn(6, 3, 4, 4).to(memory_format=torch.channels_last),
        "repeated": torch.randn(1, 3).expand(6, 3),
        "half": torch.randn(6).bfloat16(),
        "truth": torch.randn(6) > 0,
        "bytes": torch.arange(6, dtype=torch.uint8),
        "odd": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45, 1.0, 2.0]),
        "nothing": torch.empty(6, 0),
        "parameter": nn.Parameter(torch.randn(6)),
        "complex": torch.randn(6, dtype=torch.complex64).conj(),
    }
    found = arrived(fields)
    assert list(found) == list(fields)
    for name, tensor in fields.items():
        assert type(found[name]) is type(tensor)
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert found[name].stride() == tensor.stride(), name
        assert found[name].requires_grad == tensor.requires_grad
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert torch.signbit(found["odd"]).tolist() == torch.signbit(fields["odd"]).tolist()


def test_tensors_that_share_memory_still_do_and_are_sent_once() -> None:
    whole = torch.randn(100_000, 4)
    work = with_data((whole[:90_000], whole[5:]))
    with packed(work) as file:
        size = os.fstat(file.fileno()).st_size
        found = unpack(file.fileno()).workload.data.train.fields  # type: ignore[attr-defined]
    assert whole.nbytes < size < 1.1 * whole.nbytes
    assert found[0][5:].data_ptr() == found[1].data_ptr()
    found[1][0] = 7.0
    assert found[0][5].tolist() == [7.0] * 4


def test_all_data_are_views_of_one_private_mapping_of_a_file_without_a_name() -> None:
    before = set(os.listdir(tempfile.gettempdir()))
    for work in (workload(linear()), workload(dataset())):
        with packed(work) as file:
            inode = os.fstat(file.fileno())
            assert {n for n in set(os.listdir(tempfile.gettempdir())) - before if "thalweg" in n} == set()
            assert inode.st_nlink == 0
            first, second = (unpack(file.fileno()).workload.data for _ in range(2))
        for part in (first.train, first.validation, first.test):
            if isinstance(part, TensorPart):
                addresses = [x.data_ptr() for x in leaves(part.fields)]
            else:
                assert isinstance(part, DatasetPart)
                addresses = [array.ctypes.data for array in (part.dataset.x, part.dataset.y)]
            for address in addresses:
                mapped = mapping_of(address)
                assert mapped is not None
                assert mapped.split()[1] == "rw-p"
                assert mapped.split()[4] == str(inode.st_ino)
        # What one changes stays its own.
        if isinstance(first.train, TensorPart) and isinstance(second.train, TensorPart):
            kept = second.train.fields[0].clone()
            first.train.fields[0].zero_()
            assert torch.equal(second.train.fields[0], kept)
            assert kept.abs().sum() > 0


def test_what_only_makes_the_data_stays_at_home() -> None:
    x, y = np.random.default_rng(0).normal(size=(50_000, 8)), np.arange(50_000) % 2
    work = workload(load_task((x, y)))
    parts = (work.data.train, work.data.validation, work.data.test)
    needed = sum(t.nbytes for part in parts for t in leaves(part.fields))  # type: ignore[attr-defined]
    with packed(work) as file:
        # Beside the data go functions, and what was typed at a prompt, here by whatever tests ran before.
        # The arrays that make_data closes over would be x.nbytes more.
        assert needed < os.fstat(file.fileno()).st_size < needed + x.nbytes // 2
        assert unpack(file.fileno()).workload.fingerprint == work.fingerprint


@contextmanager
def module_at(path: Path, name: str, text: str) -> Iterator[Any]:
    """A module that Python has loaded although no import would find it again."""
    path.write_text(text)
    module = type(sys)(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    try:
        yield module
    finally:
        del sys.modules[name]


def test_a_module_that_no_import_finds_is_sent_with_its_code(tmp_path: Path) -> None:
    text = "import math\nSCALE = 3.0\ndef scaled(x):\n    return SCALE * x * math.cos(0)\n"
    with module_at(tmp_path / "nowhere.py", "nowhere", text) as nowhere:
        task = replace(linear(), loss_weight=lambda batch: nowhere.scaled(2.0), source="x")
        written = packed(replace(workload(linear()), task=task))
    with written as file:
        found = unpack(file.fileno()).workload.task
    assert found.loss_weight is not None
    assert found.loss_weight(None) == 6.0


@pytest.mark.parametrize("what", ["loss", "data"])
def test_what_cannot_be_pickled_is_refused_in_words(what: str) -> None:
    lock = threading.Lock()
    work = workload(linear())
    if what == "loss":

        def loss(model: nn.Module, batch: Any) -> torch.Tensor:
            with lock:
                return linear().loss(model, batch)

        work = replace(work, task=replace(work.task, loss=loss, source="x"))
    else:
        part = DatasetPart([lock])
        work = replace(work, data=Data(part, part, part))
    with pytest.raises(InputError) as caught:
        packed(work)
    who = "loss of linear" if what == "loss" else "the data of linear"
    assert str(caught.value) == (
        f"{who} must be something that can be sent to other processes; "
        "got TypeError: cannot pickle '_thread.lock' object. Take --executor serial."
    )


def test_a_full_disk_is_said_in_words() -> None:
    work = with_data(torch.randn(100_000, 4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # no file may be larger
    try:
        with pytest.raises(InputError) as caught:
            packed(work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        "the folder of temporary files must have room for 1.5 MiB of data; got File too large. "
        "Name another one in the variable TMPDIR. Take --executor serial."
    )


def test_what_a_script_set_for_all_of_torch_is_sent_too() -> None:
    work, before = workload(linear()), Settings.current()
    torch.set_default_dtype(torch.float64)
    try:
        file = packed(work)
    finally:
        before.apply()
    with file:
        settings = unpack(file.fileno()).settings
    assert settings == before._replace(dtype=torch.float64)
    try:
        settings.apply()
        assert torch.get_default_dtype() is torch.float64
    finally:
        before.apply()


def test_the_lines_of_what_was_typed_in_a_notebook_are_shown_in_errors() -> None:
    text = "def loss(model, batch):\n    return 1 / 0\n"
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell 7>", "exec"), cell)
    linecache.cache["<cell 7>"] = len(text), None, text.splitlines(True), "<cell 7>"
    work = workload(linear())
    found = sent(replace(work, task=replace(work.task, loss=cell["loss"], source="x")))
    linecache.clearcache()
    found.settings.apply()
    task = found.workload.task
    with (
        pytest.raises(TaskError, match="<cell 7>, line 2, in loss\n    return 1 / 0"),
        task.user_code("loss"),
    ):
        task.loss(task.model(0), None)
    linecache.clearcache()


def test_a_task_of_a_file_needs_neither_the_file_nor_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("WIDTH = 4\n\nclass Net:\n    width = WIDTH\n")
    (tmp_path / "task.py").write_text(
        "import beside, torch\nfrom beside import Net\nfrom torch import nn\n\n"
        "class Own(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(3, Net.width)\n"
        "    def forward(self, x):\n"
        "        return self.layer(x).sum(1, keepdim=True) * beside.WIDTH\n\n"
        "def make_model():\n    return Own()\n\n"
        "def make_data(seed):\n    return torch.randn(40, 3), torch.randn(40, 1)\n\n"
        "def loss(model, batch):\n    return (model(batch[0]) - batch[1]).square().mean()\n"
    )
    work = workload(load_task(str(tmp_path / "task.py")))
    with packed(work) as file:
        for path in tmp_path.glob("*.py"):
            path.unlink()
        task: Task = unpack(file.fileno()).workload.task
    expected, found = work.task.model(3), task.model(3)
    assert re.sub("at 0x.*", "", repr(found)) == re.sub("at 0x.*", "", repr(expected))
    x = torch.ones(2, 3)
    assert torch.equal(found(x), expected(x))
    assert task.path == tmp_path / "task.py"
