"""Prepares the demo's two TFDS data sets; `sources.py` says which images they hold.

    python scripts/demo_assets/build_data.py [--mnist DIR] [--fashion DIR]

The labels of the split `unlabelled` are -1, TFDS' own sign for "unknown": no label of these
images is in the repository.
"""

import collections.abc
import io
import pathlib
import shutil
import tempfile

import numpy as np
import sources
import tensorflow_datasets as tfds
from PIL import Image

MNIST_CITATION = """@article{lecun1998gradient,
  title = {Gradient-based learning applied to document recognition},
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal = {Proceedings of the IEEE}, volume = {86}, number = {11}, pages = {2278--2324},
  year = {1998}
}"""
FASHION_CITATION = """@article{xiao2017fashion,
  title = {Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal = {arXiv:1708.07747}, year = {2017}
}"""


def encode_png(image: np.ndarray) -> io.BytesIO:
    """One grey `(28, 28)` uint8 image as a PNG, compressed as far as zlib goes."""
    stream = io.BytesIO()
    # Not `optimize=True`: at this size it costs two bytes more.
    Image.fromarray(image).save(stream, "PNG", compress_level=9)
    stream.seek(0)
    return stream


class _Demo(tfds.core.GeneratorBasedBuilder):
    """What the two builders share."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "9,000 unlabelled and 2,000 test images."}

    description: str
    class_names: tuple[str, ...]
    homepage: str
    citation: str
    terms: str

    def __init__(self, *, collection: sources.Collection, data_dir: str) -> None:
        self._collection = collection
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.description,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(self.class_names)),
                }
            ),
            homepage=self.homepage,
            citation=self.citation,
            license=self.terms,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        unlabelled, test = self._collection.unlabelled, self._collection.test
        return {
            "unlabelled": self._examples(unlabelled.images, np.full(len(unlabelled.labels), -1)),
            "test": self._examples(test.images, test.labels),
        }

    def _generate_examples(self, **kwargs) -> collections.abc.Iterator:
        raise NotImplementedError("Both splits are given by _split_generators.")

    def _examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> collections.abc.Iterator[tuple[int, dict]]:
        for key, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield key, {"image": encode_png(image), "label": int(label)}


class DemoDigits(_Demo):
    """11,000 images of MNIST."""

    description = "A subset of MNIST's handwritten digits, the unlabelled part without labels."
    class_names = sources.DIGIT_NAMES
    homepage = "http://yann.lecun.com/exdb/mnist/"
    citation = MNIST_CITATION
    terms = "CC BY-SA 3.0, Yann LeCun and Corinna Cortes; see LICENSES.md."


class DemoFashion(_Demo):
    """11,000 images of Fashion-MNIST."""

    description = "A subset of Fashion-MNIST's articles, the unlabelled part without labels."
    class_names = sources.FASHION_NAMES
    homepage = "https://github.com/zalandoresearch/fashion-mnist"
    citation = FASHION_CITATION
    terms = "MIT, Copyright 2017 Zalando SE; see LICENSES.md."


def main() -> None:
    """Prepares both beside their place, then moves them there."""
    parser = sources.parser(__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=sources.DEMO, metavar="DIR")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for builder_class, name in ((DemoDigits, "digits"), (DemoFashion, "fashion")):
        collection = sources.load(name, arguments)
        with tempfile.TemporaryDirectory(dir=arguments.out) as scratch:
            builder = builder_class(collection=collection, data_dir=scratch)
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
            place = arguments.out / builder.name
            shutil.rmtree(place, ignore_errors=True)
            (pathlib.Path(scratch) / builder.name).rename(place)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(f"{place.name}: {size:,} bytes")


if __name__ == "__main__":
    main()
