"""Task files, names, arrays and objects."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from thalweg.errors import TaskError
from thalweg.tasks import Classification, Regression, Standardise, check_task, load_task, task_from_arrays
from unit.tasks.toy import make_task

FILE = '''"""Points left and right of a line.

More text.
"""
import torch
from torch import nn


def make_model():
    return nn.Linear(4, 2)


def make_data(seed):
    x = torch.randn(100, 4)
    return x, (x[:, 0] > 0).long()


def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "line.py"
    path.write_text(FILE)
    return path


def rewrite(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_a_file_of_three_functions_is_a_task(file: Path) -> None:
    task = load_task(str(file))
    data = task.data(0)

    assert (task.name, task.description, task.source) == ("line", "Points left and right of a line.", FILE)
    assert (data.train.examples, data.test.examples) == (80, 10)
    assert check_task(task, data, 32).parameters == 10


def test_optional_names_of_a_file_reach_the_task(file: Path) -> None:
    file.write_text(
        FILE
        + "from thalweg.tasks import Classification\n"
        + "kind = Classification(2)\ndirections = {'speed': 'higher'}\nepochs = 3\nbatch_size = 8\n"
        + "def metrics(model, batch): return {'speed': 1.0}\n"
        + "def loss_weight(batch): return 2.0\n"
        + "def sampled_loss(model, batch, generator): return loss(model, batch)\n"
    )
    task = load_task(file)

    assert (task.kind, task.epochs, task.batch_size) == (Classification(2), 3, 8)
    assert task.weight(None) == 2.0
    assert check_task(task, task.data(0), 8).metric == "speed"
    assert task.sampled_loss is not None


def test_loading_leaves_nothing_behind(file: Path) -> None:
    (file.parent / "beside.py").write_text("WIDTH = 4\n")
    rewrite(file, "import torch\n", "import torch\nfrom beside import WIDTH\n")
    modules, path, wrote = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    load_task(file)

    assert {m for m in set(sys.modules) - modules if "task" in m or "beside" in m} == set()
    assert (sys.path, sys.dont_write_bytecode) == (path, wrote)
    assert sorted(p.name for p in file.parent.iterdir()) == ["beside.py", "line.py"]


def test_a_changed_file_is_read_again_even_within_one_second(file: Path) -> None:
    first = load_task(file)
    second = load_task(rewrite(file, "nn.Linear(4, 2)", "nn.Linear(4, 3)"))

    assert (first.model(0).out_features, second.model(0).out_features) == (2, 3)
    assert first.fingerprint(first.data(0)) != second.fingerprint(first.data(0))


@pytest.mark.parametrize("name", ["", ":toy"])
@pytest.mark.parametrize("beside", ["beside.py", "beside/__init__.py", "beside/deep.py"])
def test_a_change_in_a_module_beside_the_file_is_a_change_of_the_task(
    file: Path, beside: str, name: str
) -> None:
    (file.parent / "beside").mkdir()
    if beside != "beside.py":
        (file.parent / "beside/__init__.py").touch()
    module = beside.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    rewrite(file, "import torch\n", f"import torch\nfrom {module} import SCALE\n")
    file.write_text(file.read_text() + "from unit.tasks.toy import make_task as toy\n")
    sources: list[str] = []
    for scale in ("1.0", "7.0", "1.0"):
        (file.parent / beside).write_text(f"SCALE = {scale}\n")
        (file.parent / "unrelated.py").write_text(f"# {len(sources)}\n")
        sources.append(load_task(f"{file}{name}").source)

    assert sources[0] == sources[2] != sources[1]


def test_a_helper_counts_where_it_was_imported_before_and_the_script_that_did_so_does_not(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = file.parent / "imported_before.py"
    helper.write_text("SCALE = 1.0\n")
    rewrite(file, "import torch\n", "import torch\nfrom imported_before import SCALE\n")
    before = load_task(file).source
    imported = ModuleType("imported_before")
    imported.__file__, imported.SCALE = str(helper), 1.0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imported_before", imported)
    script = ModuleType("__main__")
    script.__file__ = str(file.parent / "script.py")
    (file.parent / "script.py").touch()
    monkeypatch.setitem(sys.modules, "__main__", script)

    assert load_task(file).source == before
    assert "SCALE = 1.0" in before


def test_a_file_may_define_dataclasses_and_use_random_numbers(file: Path) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    rewrite(file, "import torch\n", head + "import torch\nAT_IMPORT = torch.rand(())\n")
    file.write_text(
        file.read_text().replace(FILE[: FILE.index("import")], "") + "@dataclass\nclass A:\n    b: int\n"
    )
    before = torch.get_rng_state()
    load_task(file)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("source", ["toy = make_task()", "def toy(): return make_task()"])
def test_a_named_task_or_a_function_that_returns_one_is_taken(tmp_path: Path, source: str) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(
        f"from unit.tasks.toy import make_task as base\nmake_task = lambda: base(name='task')\n{source}\n"
    )
    task = load_task(f"{file}:toy")

    assert (task.name, task.path) == ("toy", file)
    assert source in task.source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("othr", "tasks.py must define othr; got a file without it. Did you mean other"),
        ("other", "other of tasks.py must be a Task or a function returning one; got 3"),
        ("three", "three of tasks.py must be a Task or a function returning one; got 3"),
        ("broken", "broken of tasks.py must run without an error; got ZeroDivisionError.*line 3, in broken"),
    ],
)
def test_a_named_thing_that_is_no_task_is_refused(tmp_path: Path, name: str, message: str) -> None:
    file = tmp_path / "tasks.py"
    file.write_text("other = 3\ndef three(): return 3\ndef broken(): 1 / 0\n")
    with pytest.raises(TaskError, match=f"(?s){message}"):
        load_task(f"{file}:{name}")


@pytest.mark.parametrize("missing", ["make_model", "make_data", "loss"])
def test_a_missing_function_is_named(file: Path, missing: str) -> None:
    rewrite(file, f"def {missing}(", f"def {missing}_(")
    with pytest.raises(TaskError, match=rf"line\.py must define {missing}; got a file without it"):
        load_task(file)


def test_a_file_that_holds_only_a_task_says_how_to_name_it(tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text("from unit.tasks.toy import make_task\nmine = make_task()\n")
    with pytest.raises(TaskError, match=r"To use its task mine, write tasks\.py:mine\."):
        load_task(file)


def test_a_missing_file_offers_its_neighbours(file: Path) -> None:
    with pytest.raises(
        TaskError, match=r"lien\.py must be readable; got No such file.*Did you mean line\.py"
    ):
        load_task(file.parent / "lien.py")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"def f(:\n", r"be Python; got invalid syntax, line 1 of t\.py\. The line reads: def f\(:"),
        (b"x = 1\n  y = 2\n", "be Python; got unexpected indent, line 2"),
        (b"\xff\xfe", "be Python; got"),
        (b"x = 1\0", "(be Python|ValueError).*null bytes"),
        (
            b"import torch\n1 / 0\n",
            r"run without an error; got ZeroDivisionError.*t\.py, line 2, in <module>",
        ),
        (
            b"import no_such_module_here\n",
            "run without an error; got ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
        (b"raise SystemExit(3)", "run without an error; got SystemExit: 3"),
    ],
)
def test_a_file_that_does_not_run_is_refused_at_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "t.py").write_bytes(content)
    with pytest.raises(TaskError, match=f"(?s)the task file t.py must {message}"):
        load_task(tmp_path / "t.py")


def test_an_error_in_a_function_shows_the_lines_of_the_file_and_no_others(file: Path) -> None:
    rewrite(file, "model(x)", "model(helper(x))")
    file.write_text(file.read_text() + "\n\ndef helper(x):\n    return x[:, :3].contiguous()\n")
    task = load_task(file)
    with pytest.raises(TaskError) as caught:
        check_task(task, task.data(0), 32)

    assert str(caught.value) == (
        "loss of line must run without an error; got RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        "(32x3 and 4x2). It was raised here:\n"
        "  line.py, line 20, in loss\n"
        "    return nn.functional.cross_entropy(model(helper(x)), y)"
    )


@pytest.mark.parametrize("function", ["make_model", "make_data"])
def test_functions_that_raise_are_shown_at_their_line(file: Path, function: str) -> None:
    text = file.read_text()
    start = text.index("\n", text.index(f"def {function}"))
    file.write_text(text[:start] + "\n    raise KeyError('oops')" + text[start:])
    task = load_task(file)
    with pytest.raises(
        TaskError, match=rf"(?s){function} of line must run .* got KeyError: 'oops'.*in {function}"
    ):
        check_task(task, task.data(0), 32)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digts", "got 'digts'. Did you mean digits"),
        ("fashion", "Did you mean fashion-mnist"),
        ("task.txt", "be a built-in name or a file path/to/task.py; got 'task.txt'"),
        (3, r"be a name, a file, a Task or a pair of arrays \(X, y\); got 3"),
    ],
)
def test_what_names_no_task_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(spec)


def test_a_task_and_a_pair_of_arrays_are_taken_as_they_are() -> None:
    task = make_task()

    assert load_task(task) is task
    assert load_task((np.eye(30), np.arange(30) % 3)).kind == Classification(3)


RNG = np.random.default_rng(0)
X = RNG.standard_normal((100, 3)) * [1.0, 100.0, 0.01]


@pytest.mark.parametrize(
    ("y", "kind", "outputs"),
    [
        (np.arange(100) % 4, Classification(4), 4),
        (np.arange(100) % 4 * 2 - 1, Classification(4), 4),
        (np.arange(100) % 2 == 0, Classification(2), 2),
        (np.array(["no", "yes"] * 50), Classification(2), 2),
        (["no", "yes"] * 50, Classification(2), 2),
        (X[:, 0], Regression(), 1),
        (X[:, :2], Regression(), 2),
        (torch.tensor(X[:, 0]), Regression(), 1),
    ],
)
def test_arrays_become_the_task_that_their_targets_ask_for(y: Any, kind: Any, outputs: int) -> None:
    task = task_from_arrays(X, y, hidden=[5])
    data = task.data(0)
    checked = check_task(task, data, task.batch_size)

    assert task.kind == kind
    assert [p.shape[0] for p in task.model(0).parameters()] == [5, 5, outputs, outputs]
    assert checked.metric == ("accuracy" if isinstance(kind, Classification) else "r2")


def test_arrays_are_standardised_on_their_training_part() -> None:
    data = task_from_arrays(X, X[:, 1] + 7).data(0)
    x, y = data.train.batch(np.arange(80))

    # float32 rounding of values of order 1
    torch.testing.assert_close(x.mean(0), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3), rtol=1e-5, atol=0)
    torch.testing.assert_close(y[:, 0], x[:, 1])
    assert data.test.batch(np.arange(10))[0].mean(0).abs().max() > 1e-3


def test_a_kind_that_is_given_decides() -> None:
    task = task_from_arrays(X, np.arange(100), kind=Regression())
    y = task.data(0).train.batch(np.arange(80))[1]

    expected = Standardise.fit(y.numpy())(y.numpy())
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, np.arange(100), "100 different values in 100 examples. If y is an amount.*kind=Regression"),
        (X, np.zeros(100, int), "at least two classes, and 5 examples a class; got 1 different"),
        (X, np.arange(99) % 2, "equally many examples; got 100 and 99"),
        (X[:0], np.zeros(0), "at least one example"),
        (X.astype(str), np.arange(100) % 2, "X of arrays must be an array of numbers"),
        ([[1.0], [2.0, 3.0]], [0, 1], "X of arrays must be one array; got rows of different lengths"),
    ],
)
def test_arrays_that_are_no_task_are_refused(x: Any, y: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task_from_arrays(x, y)


def test_missing_values_in_arrays_are_refused_when_data_are_made() -> None:
    x = X.copy()
    x[5, 1] = np.nan
    with pytest.raises(TaskError, match="finite numbers"):
        task_from_arrays(x, np.arange(100) % 2).data(0)


def test_the_listing_is_there_without_torch_numpy_or_sklearn() -> None:
    code = (
        "import sys; from thalweg.tasks import BUILTIN; "
        "print(len(BUILTIN), *({'torch', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["9"]


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    import thalweg.tasks as tasks

    assert all(getattr(tasks, name) is not None for name in tasks.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Tsk'"):
        _ = tasks.Tsk
