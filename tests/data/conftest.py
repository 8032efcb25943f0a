"""A tiny prepared TFDS data set and image files, made by other means than the code under test."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

NAMES = ["ant", "bee"]


def tiny_images(count: int = 7) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 6, 5, 1), dtype=np.uint8)


def write_tfds(folder: Path, name: str, images: np.ndarray, labels: list[int]) -> None:
    """Writes records and metadata: what TFDS' own preparation leaves behind."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=images.shape[1:], encoding_format="png"),
            "label": tfds.features.ClassLabel(names=NAMES),
        }
    )
    version = folder / name / "1.0.0"
    version.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=str(version), dataset_name=name, split="train", filetype_suffix="tfrecord"
    )
    records = version / f"{name}-train.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(records)) as writer:
        for image, label in zip(images, labels, strict=True):
            example = features.encode_example({"image": image, "label": label})
            writer.write(features.serialize_example(example))
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[len(images)],
        num_bytes=records.stat().st_size,
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=version, features=features, split_infos=[split], check_data=False
    )


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    write_tfds(folder, "tiny", tiny_images(), [0, 1, 0, 1, 0, 1, 0])
    write_tfds(folder, "tiny_unlabelled", tiny_images(), [-1] * 7)
    return folder


@pytest.fixture
def photo() -> Image.Image:
    """Smooth, so that JPEG keeps it; no two corners alike."""
    x, y = np.meshgrid(np.linspace(0, 255, 30), np.linspace(0, 255, 20))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


@pytest.fixture
def image_folder(tmp_path: Path, photo: Image.Image) -> Path:
    """Files of all formats and kinds of pixels, and others to be passed over."""
    folder = tmp_path / "photos"
    (folder / "sub" / "deep").mkdir(parents=True)
    photo.save(folder / "rgb.png")
    photo.convert("L").save(folder / "grey.png")
    photo.convert("LA").save(folder / "grey_alpha.png")
    photo.convert("RGBA").save(folder / "alpha.png")
    photo.convert("P").save(folder / "palette.png")
    photo.save(folder / "rgb.bmp")
    photo.convert("L").save(folder / "grey.bmp")
    photo.save(folder / "sub" / "rgb.jpg")
    photo.convert("CMYK").save(folder / "sub" / "cmyk.jpg")
    photo.convert("L").save(folder / "sub" / "deep" / "grey.JPEG")
    second = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("P")
    photo.convert("P").save(
        folder / "sub" / "deep" / "moving.gif", save_all=True, append_images=[second]
    )
    (folder / "notes.txt").write_text("not an image")
    (folder / "._rgb.png").write_bytes(b"metadata of a file manager")
    return folder
