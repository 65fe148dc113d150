"""Files that can be written, and refusals before any work where they cannot."""

import os
from pathlib import Path

import pytest

from thalweg.errors import InputError
from thalweg.files import refuse_unwritable, write_whole


def test_a_file_in_a_folder_that_is_there_or_still_to_be_made_is_let_pass_and_nothing_is_made(
    tmp_path: Path,
) -> None:
    refuse_unwritable("--report", tmp_path / "a.html")
    refuse_unwritable("--report", tmp_path / "new" / "newer" / "a.html")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_a_file_in_the_way_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"--report must name a file; got the folder .*\. Such as"):
        refuse_unwritable("--report", tmp_path)
    with pytest.raises(InputError, match=r"--report must name a file in a folder; got .*file is a file"):
        refuse_unwritable("--report", tmp_path / "file" / "a.html")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold back the administrator")
def test_a_folder_without_permission_is_refused_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        refuse_unwritable("--report", tmp_path / "a.html")


def test_content_is_replaced_whole_and_no_other_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_whole(path, b"old")
    write_whole(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_no_folder_can_hold_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        refuse_unwritable("--report", tmp_path / ("a" * 300) / "a.html")
    assert str(error.value) == "--report must name a file that can be written; got File name too long."
