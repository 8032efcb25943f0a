"""Prepared TensorFlow Datasets (TFDS) by name."""

import os
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds


def read_prepared(
    name: str, split: str, data_dir: str | os.PathLike[str] | None, keys: dict[str, str]
) -> tuple[tf.data.Dataset, Any]:
    """Opens a prepared TFDS data set and checks that it has the features asked for.

    Args:
        name: As in `tfds.load`, for example `"mnist"` or `"mnist:3.0.1"`.
        split: As in `tfds.load`, for example `"train"` or `"train[90%:]"`.
        data_dir: Where it was prepared; TFDS' own place if None.
        keys: Argument name -> key of the feature, for the errors.

    Returns:
        Unbatched data set of feature dicts in stored order, and the builder's `features`.

    Raises:
        ValueError: If name, split or a key is unknown (naming what there is), or nothing was
            prepared.
    """
    builder = _builder(name, data_dir)
    if not builder.info.splits:
        raise ValueError(
            f"TFDS data set '{name}' is not prepared. Received: data_dir={_place(data_dir)}. "
            f"Prepare it once with `tfds.builder({name!r}, "
            "data_dir=...).download_and_prepare()`, or give the data_dir where it is."
        )
    features = builder.info.features
    for argument, key in keys.items():
        if features is None or key not in features:
            raise ValueError(
                f"TFDS data set '{name}' has no feature '{key}'. Received: {argument}={key!r}. "
                f"Choose one of {sorted(features or ())}."
            )
    # TFDS keeps small data sets in memory, where a stream would keep them twice.
    reading = tfds.ReadConfig(try_autocache=False)
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=reading)
    except ValueError as error:
        raise ValueError(
            f"TFDS data set '{name}' has no such split. Received: split={split!r}. Choose one of "
            f"{sorted(builder.info.splits)}, or a part of one such as "
            f"'{sorted(builder.info.splits)[0]}[:90%]'."
        ) from error
    return dataset, features


def _builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    try:
        return tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    except tfds.core.DatasetNotFoundError:
        # TFDS' own message lists all of its hundreds of names; what lies in data_dir says more.
        raise ValueError(
            f"Unknown TFDS data set. Received: name={name!r}, data_dir={_place(data_dir)}, which "
            f"holds {_names(data_dir) or 'no data set'}. Choose one of them, give another "
            "data_dir, or a name that TFDS knows (`tfds.list_builders()`)."
        ) from None


def _place(data_dir: str | os.PathLike[str] | None) -> str:
    return "None (TFDS' own place)" if data_dir is None else repr(os.fspath(data_dir))


def _names(data_dir: str | os.PathLike[str] | None) -> list[str]:
    """The data sets that were prepared under a folder, by their metadata."""
    if data_dir is None:
        return []
    return sorted({info.parts[-3] for info in Path(data_dir).glob("*/*/dataset_info.json")})
