"""Sizes of image files: against the arrays that they were written from."""

import numpy as np
import pytest
from PIL import Image

from keras_amalgam import data

SIZES = [(60, 80), (7, 300), (64, 64)]


def write(folder, suffix=".png", **settings):
    for number, (height, width) in enumerate(SIZES):
        image = Image.fromarray(np.full((height, width, 3), 90, "uint8"))
        image.save(folder / f"{number}{suffix}", **settings)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif"])
def test_sizes_are_those_of_the_pixels(tmp_path, suffix):
    write(tmp_path, suffix)
    sizes = data.image_sizes(tmp_path)
    assert sizes.tolist() == [list(size) for size in SIZES]


@pytest.mark.parametrize(("orientation", "is_turned"), [(1, False), (3, False), (6, True)])
def test_sizes_are_those_of_photographs_the_right_way_up(tmp_path, orientation, is_turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    write(tmp_path, ".jpg", exif=exif)
    expected = [list(size)[:: -1 if is_turned else 1] for size in SIZES]
    assert data.image_sizes(tmp_path).tolist() == expected


def test_sub_folders_count_unless_told_otherwise(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path)
    write(tmp_path / "sub")
    assert len(data.image_sizes(tmp_path)) == 6
    assert len(data.image_sizes(tmp_path, recursive=False)) == 3


def test_a_file_whose_size_cannot_be_read_is_named(tmp_path):
    write(tmp_path)
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[:8] + b"\0" * 24 + content[32:])
    with pytest.raises(ValueError, match=r"1\.png' is corrupt: its size cannot be read"):
        data.image_sizes(tmp_path)
