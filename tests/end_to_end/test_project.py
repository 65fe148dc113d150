"""The project as a whole: one version, a command that starts fast, files of a readable size."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import thalweg

ROOT = Path(__file__).parents[2]

# Files of src/thalweg that may pass 400 lines, each with its reason.
LONG_FILES: dict[str, str] = {}


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert thalweg.__version__ == project["version"]
    assert f"## {thalweg.__version__} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("module", ["thalweg", "thalweg.cli.app"])
def test_the_command_line_starts_without_torch(module: str) -> None:
    slow = {"torch", "sklearn", "scipy", "plotly"}
    code = f"import sys, {module}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("before", "frozen"), [("", True), ("import torch", False), ("import gc; gc.disable()", True)]
)
def test_objects_of_torch_are_not_looked_through_for_garbage_unless_a_person_had_them_before(
    before: str, frozen: bool
) -> None:
    code = f"""
{before}
import gc
enabled = gc.isenabled()
import thalweg
thalweg.train
assert gc.isenabled() == enabled
print(gc.get_freeze_count() > 100_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == f"{frozen}\n"


def test_files_have_a_readable_size() -> None:
    source = ROOT / "src" / "thalweg"
    lengths = {
        str(path.relative_to(source)): len(path.read_text().splitlines()) for path in source.rglob("*.py")
    }
    assert len(lengths) > 4
    assert {name: lines for name, lines in lengths.items() if lines > 400}.keys() == LONG_FILES.keys()


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert ROOT / "pyproject.toml" in files
    folders = [f"/{name}/".encode() for name in ("work", "opt", "root")]
    assert [path for path in files if any(folder in path.read_bytes() for folder in folders)] == []


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs make in a copy of the project whose path holds a space."""
    program = shutil.which("make")
    if program is None:
        pytest.skip("make is not installed")
    folder = tmp_path / "a copy"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    # PYTHON=… and -j of the make that runs the tests are not meant for this one.
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    return lambda *words: subprocess.run(
        [program, "--no-print-directory", *words], cwd=folder, env=path, capture_output=True, text=True
    )


def test_showdown_makes_the_environment_installs_and_races(
    make: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    planned = make("-n", "showdown").stdout
    steps = ["-m venv .venv", "pip install", "touch .venv/.installed", ".venv/bin/thalweg showdown digits"]
    places = [planned.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


def test_a_second_call_does_not_install_again(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    stamp = tmp_path / "a copy" / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    assert make("-n", "showdown").stdout == ".venv/bin/thalweg showdown digits --out thalweg-runs\n"


def test_an_old_python_is_refused_in_words(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    old = tmp_path / "old-python"
    code = "import sys; sys.version_info = (3, 8, 18); exec(sys.argv[2])"
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
    old.chmod(0o755)
    done = make("PYTHON=old-python", "test")
    assert done.returncode == 2
    assert "must be installed with Python 3.11 or newer; got 3.8." in done.stderr
    assert not (tmp_path / "a copy" / ".venv").exists()


def test_a_missing_python_is_refused_in_words(make: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = make("PYTHON=no-such-python", "showdown")
    assert done.returncode == 2
    assert "must be installed with Python 3.11 or newer; got no no-such-python." in done.stderr
