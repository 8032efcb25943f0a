import hashlib

import pytest

from keras_amalgam.files.contents import (
    bytes_on_disk,
    files_below,
    sha256_of,
    sha256_of_directory,
    sha256_of_files,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "2.bin").write_bytes(b"22")
    (tmp_path / "a.bin").write_bytes(b"1")
    return tmp_path


def test_files_below_a_folder_are_sorted_and_a_file_is_itself(folder):
    assert files_below(folder) == [folder / "a.bin", folder / "b" / "2.bin"]
    assert files_below(folder / "a.bin") == [folder / "a.bin"]


def test_bytes_on_disk_are_those_of_all_files_below(folder):
    assert bytes_on_disk(folder) == 3
    assert bytes_on_disk(str(folder / "b" / "2.bin")) == 2


def test_hash_of_a_directory_is_over_names_and_bytes(folder):
    expected = hashlib.sha256(b"a.bin\x001" + b"b/2.bin\x0022").hexdigest()
    assert sha256_of_directory(folder) == expected
    backwards = files_below(folder)[::-1]
    assert sha256_of_files(backwards, folder) == expected
    (folder / "a.bin").rename(folder / "c.bin")
    assert sha256_of_directory(folder) != expected


def test_hash_of_a_single_file_knows_no_name_but_that_of_a_directory_does(folder):
    (folder / "a.bin").unlink()
    file = folder / "b" / "2.bin"
    expected = hashlib.sha256(b"22").hexdigest()
    assert sha256_of(file) == sha256_of_files([file], folder) == expected
    assert sha256_of_directory(folder) == hashlib.sha256(b"b/2.bin\x0022").hexdigest()
