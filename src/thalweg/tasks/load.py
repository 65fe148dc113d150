"""From what a person names or holds to a `Task`: a built-in name, a file, arrays, a task."""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from thalweg.errors import TaskError, ThalwegError, nearest
from thalweg.tasks.arrays import task_from_arrays
from thalweg.tasks.builtin import make_builtin
from thalweg.tasks.listing import BUILTIN
from thalweg.tasks.task import Task
from thalweg.tasks.user_code import isolated_random, user_code, user_error

_REQUIRED: Final = ("make_model", "make_data", "loss")
_OPTIONAL: Final = ("loss_weight", "metrics", "directions", "sampled_loss", "kind", "epochs", "batch_size")
_FILE: Final = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")


def load_task(
    spec: str | os.PathLike[str] | Task | tuple[Any, Any],
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Task:
    """Return the task that is meant by a name, a file, a pair of arrays, or a task itself.

    A *name* is one of the listing; ``data_dir`` and ``download`` are for those that need files. A
    *file* ``path/to/task.py`` defines ``make_model``, ``make_data`` and ``loss``, and perhaps
    ``loss_weight``, ``metrics``, ``directions``, ``sampled_loss``, ``kind``, ``epochs`` and
    ``batch_size``; ``path/to/task.py:name`` takes from it a `Task`, or a function without arguments
    that returns one. The file is executed, as ``python task.py`` would; modules beside it can be
    imported at its top. *Arrays* (X, y) go to `task_from_arrays`. Raises TaskError.

    >>> load_task("digts")
    Traceback (most recent call last):
    thalweg.errors.TaskError: the task must be a built-in name or a file path/to/task.py; got 'digts'.
    Did you mean digits or diabetes?
    """
    if isinstance(spec, Task):
        return spec
    if isinstance(spec, tuple) and len(spec) == 2:
        return task_from_arrays(*spec)
    if not isinstance(spec, str | os.PathLike):
        raise TaskError("the task", "be a name, a file, a Task or a pair of arrays (X, y)", f"{spec!r:.60}")
    text = os.fspath(spec)
    if text in BUILTIN:
        return make_builtin(text, data_dir, download)
    match = _FILE.fullmatch(text)
    if match is None:
        known = nearest(text, BUILTIN)
        raise TaskError("the task", "be a built-in name or a file path/to/task.py", repr(text), known)
    return _from_file(Path(match["path"]), match["name"])


def _from_file(path: Path, name: str | None) -> Task:
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        beside = sorted(p.name for p in path.parent.glob("*.py") if p.is_file())
        do = nearest(path.name, beside) if beside else "There is no Python file in its folder."
        raise TaskError(f"the task file {path}", "be readable", error.strerror or error, do) from error
    path = path.expanduser().resolve()
    module, source = _execute(path, content)
    if name is None:
        return _from_functions(module, path, source)
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise TaskError(
            f"the task file {path.name}", f"define {name}", "a file without it", nearest(name, public)
        )
    found: Any = getattr(module, name)
    if callable(found) and not isinstance(found, Task):
        with isolated_random(0), user_code(f"{name} of {path.name}", path):
            found = found()
    if not isinstance(found, Task):
        raise TaskError(f"{name} of {path.name}", "be a Task or a function returning one", f"{found!r:.60}")
    own_name = found.name if found.name != "task" else name
    return replace(found, name=own_name, path=path, source=f"{source}\n:{name}")


def _from_functions(module: ModuleType, path: Path, source: str) -> Task:
    given = vars(module)
    for name in _REQUIRED:
        if name not in given:
            tasks = [key for key, value in given.items() if isinstance(value, Task)]
            do = f"To use its task {tasks[0]}, write {path.name}:{tasks[0]}." if tasks else ""
            raise TaskError(f"the task file {path.name}", f"define {name}", "a file without it", do)
    optional = {name: given[name] for name in _OPTIONAL if name in given}
    parts = {name: given[name] for name in _REQUIRED}
    description = (module.__doc__ or "").strip().partition("\n")[0]
    return Task(**parts, **optional, name=path.stem, description=description, source=source, path=path)


def _execute(path: Path, content: bytes) -> tuple[ModuleType, str]:
    """Execute a person's file as a module of its own; nothing of it stays behind in the interpreter.

    With it comes its text, followed by that of the modules beside it.
    """
    # Named by content, and compiled here: Python's own cache of bytecode would take a file that was
    # changed within one second, at equal length, for the old one.
    name = f"thalweg_task_{hashlib.sha256(content).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path ending in .py always has a loader
    module = importlib.util.module_from_spec(spec)
    with _visitor(path.parent), isolated_random(0):
        sys.modules[name] = module  # dataclasses look their module up while the file runs
        try:
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
        except ThalwegError:
            raise
        except SyntaxError as error:
            line_number = f"line {error.lineno} of " if error.lineno else ""  # none for a NUL
            where = f"{line_number}{Path(error.filename or path).name}"
            line = f"The line reads: {error.text.strip()}" if error.text else ""
            raise TaskError(
                f"the task file {path.name}", "be Python", f"{error.msg}, {where}", line
            ) from error
        except (Exception, SystemExit) as error:
            raise user_error(f"the task file {path.name}", error, path) from error
        return module, "\n".join([content.decode("utf-8", "replace"), *_texts_beside(path)])


@contextmanager
def _visitor(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported, without bytecode, and forget them afterwards."""
    before, wrote = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        new = set(sys.modules) - before
        for name in [name for name in new if _stands_in(folder, name.partition(".")[0])]:
            del sys.modules[name]


def _texts_beside(path: Path) -> list[str]:
    """The name and text of each module that stands in the folder of a task file, in order of name."""
    # All that are loaded, not only the new ones: a helper may have been imported before by the script
    # that loads the task. That script itself is no helper.
    texts = []
    for name, module in sorted(sys.modules.items()):
        if module is not sys.modules["__main__"] and _stands_in(path.parent, name.partition(".")[0]):
            file = Path(getattr(module, "__file__", None) or path)  # a folder without __init__.py has none
            if file != path and file.is_file():
                texts.append(f"# {name}\n{file.read_bytes().decode('utf-8', 'replace')}")
    return texts


def _stands_in(folder: Path, top: str) -> bool:
    # directly in the folder: below it there may be a whole environment of installed packages
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and folder in (
        Path(file).parent,
        Path(file).parent.parent if Path(file).name == "__init__.py" else None,
    )
