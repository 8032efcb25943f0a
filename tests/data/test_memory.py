"""What decoded images take, and what is done where that is too much."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_amalgam import data
from keras_amalgam.data.memory import ControlGroup, Footprint, free_memory

GIGABYTE = 10**9


def test_footprint_is_images_times_their_pixels_and_fits_in_a_quarter():
    footprint = Footprint(1000, (200, 300, 3), free=4 * 1000 * 200 * 300 * 3)
    assert footprint.bytes_per_image == 180_000
    assert footprint.fits
    assert not Footprint(1001, (200, 300, 3), free=footprint.free).fits
    assert not Footprint(1000, (200, 300, 3), bytes_per_value=4, free=footprint.free).fits
    assert Footprint(10**12, (200, 300, 3), free=None).fits  # Nothing says otherwise.


@pytest.mark.parametrize("free", [None, 1000, 10**12])
def test_window_holds_a_gibibyte_of_all_sources_together_whatever_is_free(free):
    footprint = Footprint(10**6, (1024, 1024, 1), free=free)
    assert footprint.window(2048, num_sources=1) == 1024
    assert footprint.window(2048, num_sources=3) == 341
    assert footprint.window(50, num_sources=3) == 50
    assert Footprint(1, (20000, 20000, 3), free=free).window(2048, num_sources=1) == 1


@pytest.mark.parametrize(
    ("kept", "said"), [(True, "kept in memory"), (False, "read anew from disk in each epoch")]
)
def test_sentence_of_a_run_says_what_it_was_begun_with(kept, said):
    footprint = Footprint(12_000, (256, 256, 3), free=8 * GIGABYTE)
    assert footprint.sentence_of_run(kept) == (
        f"12,000 images of 256 × 256 × 3, 2.36 GB decoded: {said}, as when the run was begun."
    )


def test_sentence_says_how_much_and_what_follows():
    assert Footprint(12_000, (256, 256, 3), free=40 * GIGABYTE).sentence == (
        "12,000 images of 256 × 256 × 3, 2.36 GB decoded: kept in memory."
    )
    assert Footprint(12_000, (256, 256, 3), free=8 * GIGABYTE).sentence == (
        "12,000 images of 256 × 256 × 3, 2.36 GB decoded, which is more than a quarter of the 8.00 "
        "GB of memory that is free: read anew from disk in each epoch, shuffled within a window."
    )


def test_free_memory_is_at_most_what_the_machine_has():
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = free_memory()
    assert free is not None
    assert 10**6 < free <= installed


@pytest.mark.parametrize(
    ("limit", "expected"), [("1000000", 1000000 - 700000 + 500000 + 40000), ("max", None)]
)
def test_a_container_has_what_its_limit_leaves_and_what_is_kept_of_files(tmp_path, limit, expected):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 9\nactive_file 500000\ninactive_file 40000\n")
    assert ControlGroup(tmp_path, "memory.max", "memory.current").free() == expected
    assert ControlGroup(tmp_path / "none", "memory.max", "memory.current").free() is None


def counted(count):
    """Images that count how often one was read."""
    read = []

    def images():
        for number in range(count):
            read.append(number)
            yield np.full((4, 4, 1), number + 2, "uint8")

    spec = tf.TensorSpec((4, 4, 1), tf.uint8)
    dataset = tf.data.Dataset.from_generator(images, output_signature=spec)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)), read


def test_stream_reads_images_that_fit_once_for_all_epochs():
    dataset, read = counted(20)
    stream = data.stream(dataset, batch_size=10)
    for _ in range(3):
        assert sum(1 for _ in stream) == 2
    assert len(read) == 20


def test_stream_reads_images_anew_where_they_do_not_fit_and_warns():
    dataset, read = counted(20)
    # A source as large as no memory, of which only the first images are ever read.
    large = dataset.repeat(20_000).map(lambda image: tf.tile(image, (250, 250, 3)))
    with pytest.warns(UserWarning, match=r"400,000 images of 1000 × 1000 × 3, 1,200.*cache=False"):
        stream = data.stream(large, batch_size=5, epoch=data.Epoch(window=10))
    before = len(read)
    for _ in range(2):
        assert sum(1 for _ in stream.take(2)) == 2
    assert before < len(read) < 400


@pytest.mark.parametrize("cache", [True, False])
def test_stream_does_as_told_without_a_word(cache):
    dataset, read = counted(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream = data.stream(dataset, batch_size=10, epoch=data.Epoch(cache=cache))
    for _ in range(2):
        assert sum(1 for _ in stream) == 2
    assert (len(read) == 20) is cache


@pytest.mark.slow
def test_streams_from_disk_and_memory_hold_the_same_images_on_the_canvas(tmp_path: Path):
    for number, size in enumerate([(60, 80), (90, 50), (64, 64), (31, 200), (50, 50)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")

    def images(cache):
        stream = data.stream(
            data.from_folder(tmp_path),
            batch_size=5,
            canvas=(40, 48, 3, "crop"),
            epoch=data.Epoch(cache=cache),
        )
        (batch,) = stream
        return sorted(image.numpy().tobytes() for image in batch)

    assert images(cache=True) == images(cache=False)
    assert len(set(images(cache=True))) == 5
