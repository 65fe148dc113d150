"""The documentation is true: its code runs, its commands succeed, its links lead somewhere.

A page is run from top to bottom in an empty folder: files shown in blocks with a title are written,
Python blocks share one namespace (as the cells of a notebook do), and console lines that start with
``thalweg`` are run. A comment on the line before a block changes that:

- ``<!-- slow: reason -->``: left to ``make test-slow``, which runs the page with these blocks;
- ``<!-- skip: reason -->``: never run.
"""

import linecache
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from thalweg.cli.reference import methods as method_reference
from thalweg.cli.reference import page as command_reference

ROOT = Path(__file__).parents[1]
WRITTEN = {ROOT / "docs" / "commands.md": command_reference, ROOT / "docs" / "methods.md": method_reference}
GUIDES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")} - set(WRITTEN))
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>skip|slow): \S.*-->\n)?^```(?P<info>\w.*)\n(?P<text>(?:.*\n)*?)^```$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is, what it says, and where."""

    language: str
    title: str  # the file to write it to, or ""
    text: str
    mark: str  # "", "slow" or "skip"
    line: int  # of the first line of the text, from 1


def blocks(page: str) -> Iterator[Block]:
    for found in BLOCK.finditer(page):
        language, _, title = found["info"].partition(" title=")
        yield Block(
            language.strip(),
            title.strip("\"' "),
            found["text"],
            found["mark"] or "",
            page.count("\n", 0, found.start("text")) + 1,
        )


def commands(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    return [found[1] for line in lines if (found := re.match(r"(?:\$ )?(thalweg\b.*)", line))]


def run_page(path: Path, marks: set[str], folder: Path) -> None:
    """Run those blocks of the page that have one of the marks, in the folder."""
    page = path.read_text()
    name = f"<{path.name}>"
    # As a notebook does, so that the source of a function shown here can be read back.
    linecache.cache[name] = (len(page), None, page.splitlines(keepends=True), name)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.mark not in marks:
            continue
        if block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), namespace)
        elif block.language in ("console", "sh"):
            for command in commands(block):
                run_command(command, folder, f"{path.name}:{block.line}")


def run_command(command: str, folder: Path, place: str) -> None:
    """Run one line in a shell, as a reader does, with the installed ``thalweg`` of this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{place}: {command}\n{done.stdout}\n{done.stderr}"


def has(path: Path, mark: str) -> bool:
    return any(block.mark == mark for block in blocks(path.read_text()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield an empty folder that is the working one, from which Python imports as a notebook does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]  # the next page may show another file of this name


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_block_of_a_page_runs(path: Path, folder: Path) -> None:
    run_page(path, {""}, folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in GUIDES if has(path, "slow")], ids=lambda path: path.name)
def test_the_slow_blocks_of_a_page_run_too(path: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    if any("mnist" in block.text for block in blocks(path.read_text()) if block.mark == "slow"):
        request.getfixturevalue("data_folder")  # or skip, with its reason
    run_page(path, {"", "slow"}, folder)


@pytest.mark.parametrize("path", [*GUIDES, *WRITTEN, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_relative_link_of_a_page_leads_to_a_file(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_reference_is_the_one_that_the_program_writes(path: Path) -> None:
    assert path.read_text() == WRITTEN[path](), "stale: run make docs"


def test_every_link_of_the_methods_page_to_one_of_its_headings_leads_there() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    # As a page is linked to: lower case, words between hyphens, no other signs.
    anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) > 20
    assert [link for link in links if anchors.count(link) != 1] == []


def test_a_page_is_cut_into_blocks_with_their_marks_titles_and_lines() -> None:
    page = """Text.
```python title=a.py
x = 1
```
<!-- slow: a minute -->
```console
$ thalweg runs \\
    --json
thalweg tasks
other
```
```
thalweg none
```
"""
    first, second = blocks(page)
    assert first == Block("python", "a.py", "x = 1\n", "", 3)
    assert (second.language, second.mark, second.line) == ("console", "slow", 7)
    assert [command.split() for command in commands(second)] == [
        ["thalweg", "runs", "--json"],
        ["thalweg", "tasks"],
    ]


def test_a_page_runs_in_order_in_one_namespace_and_a_false_statement_fails(folder: Path) -> None:
    shown = "```python title=seven.py\nx = 7\n```\n```python\nfrom seven import x\n```\n"
    skipped = "<!-- skip: it is false -->\n```python\nassert x == 8\n```\n"
    page = folder / "page.md"
    page.write_text(shown + skipped + "```python\nassert x == 7\n```\n")
    run_page(page, {""}, folder)
    page.write_text(shown + "```python\nassert x == 8\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, {""}, folder)


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:3: thalweg no-such-command"):
        run_command("thalweg no-such-command", tmp_path, "page.md:3")
