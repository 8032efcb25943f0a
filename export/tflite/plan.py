"""What kind of TFLite file is asked for."""

import dataclasses

from keras_amalgam.export.arguments import is_whole

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16")
CALIBRATED = ("int8", "int16")
"""Precisions whose activations are integers, with ranges chosen from images."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The kind of a TFLite file.

    Attributes:
        precision: One of `PRECISIONS`.
        image_dtype: `"float32"`, `"uint8"` or `"int8"`: of the image; `None` means `"uint8"` for
            int8 and `"float32"` otherwise.
        head_dtype: `"float32"` or `"int8"`: of the heads.
        batch: Images in a call; `None` for any number.
        quantizer: `"converter"`, TensorFlow's own, or `"litert"`, its announced successor.

    Raises:
        ValueError: If they are none of these, or do not go together.
    """

    precision: str = "float32"
    image_dtype: str | None = None
    head_dtype: str = "float32"
    batch: int | None = 1
    quantizer: str = "converter"

    def __post_init__(self) -> None:
        """Settles what was left open, and checks."""
        _one_of("precision", self.precision, PRECISIONS, "Use 'float32' if unsure.")
        if self.image_dtype is None:
            integer = "uint8" if self.quantizer == "converter" else "int8"
            dtype = integer if self.precision == "int8" else "float32"
            object.__setattr__(self, "image_dtype", dtype)
        self._check_dtypes()
        self._check_quantizer()
        if self.batch is not None and not is_whole(self.batch, 1):
            raise ValueError(
                f"`batch` is no number of images. Received: {self.batch!r}. Expected: 1 or more, "
                "or None for any number. Phones want 1."
            )

    def _check_dtypes(self) -> None:
        integers = self.precision == "int8"
        images = ("uint8", "int8", "float32") if integers else ("float32",)
        heads = ("float32", "int8") if integers else ("float32",)
        advice = "Leave it out, or use precision='int8'."
        _one_of(f"image_dtype of {self.precision}", self.image_dtype, images, advice)
        _one_of(f"head_dtype of {self.precision}", self.head_dtype, heads, advice)

    def _check_quantizer(self) -> None:
        _one_of("quantizer", self.quantizer, ("converter", "litert"), "Leave it out if unsure.")
        if self.quantizer == "litert":
            able = ("dynamic", "int8", "int16")
            advice = "Leave `quantizer` out: the converter's does it."
            _one_of("precision of quantizer='litert'", self.precision, able, advice)
            dtypes = ("int8", "float32")
            _one_of("image_dtype of quantizer='litert'", self.image_dtype, dtypes, advice)


def _one_of(what: str, given: object, able: tuple[str, ...], advice: str) -> None:
    if given not in able:
        raise ValueError(
            f"There is no such {what}. Received: {given!r}. Expected: {able}. {advice}"
        )
