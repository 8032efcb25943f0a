"""What a student starts from: an architecture with new weights, or a network that sees already."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from keras_amalgam import teachers as teachers_island
from keras_amalgam.files.provenance import CARD
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.images.resizing import first_resize
from keras_amalgam.models import backbones
from keras_amalgam.models.student import Heads, build_student, own_preprocessing
from keras_amalgam.models.taps import Tap, as_features, as_functional, with_taps
from keras_amalgam.models.teacher import Teacher

SIDE = 96  # Of a student's images where nothing asks for another.
REUSED_PART = 3  # Reused heads share a third of the backbone's channels.
NEW, IMAGENET = "none", "imagenet"
# Fewer photographs than this rarely teach a network to see from random weights: public benchmarks
# that train from scratch start at about five times as many.
FEW_IMAGES = 10_000


@dataclass(frozen=True)
class Start:
    """What a student is before its training.

    Attributes:
        make: Returns the backbone: each time another one, trained weights the same, new ones drawn
            from Keras' global seed.
        size: `(height, width)` of the student's images, in pixels.
        weights: Where the weights come from, in words.
        trained: Whether they were trained before.
        normalisation: How they want their images; `None` where the backbone normalises images
            itself, or its weights are new.
        channels: Number of channels of the raw images, 1 (grey) or 3 (RGB).
        dtype_policy: The precision that the student computes in.
    """

    make: Callable[[], keras.Model]
    size: tuple[int, int]
    weights: str = "random"
    trained: bool = False
    normalisation: Preprocessing | None = None
    channels: int = 3
    dtype_policy: str = "float32"

    def student(self, teachers: Sequence[Teacher], cuts: bool, heads: Heads = "new") -> keras.Model:
        """The student of some teachers.

        Args:
            teachers: Whose tasks it learns.
            cuts: Whether it cuts a whole photograph to its own shape, as the canvas does.
            heads: As in `build_student`. Reused ones share a part of the backbone's channels, so
                that what leads to the teachers' features does not outgrow the backbone.
        """
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.dtype_policy)
        try:
            backbone = self.make()
            way = own_preprocessing(backbone, cuts, self.normalisation)
            shared = max(1, backbone.output_shape[-1] // REUSED_PART)
            return build_student(
                backbone,
                teachers,
                way,
                image_channels=self.channels,
                heads=heads,
                units=shared if heads == "reused" else None,
            )
        finally:
            keras.config.set_dtype_policy(before)

    def note(self, num_images: int) -> str | None:
        """A word to whoever trains from scratch on few photographs, `None` for all others.

        Args:
            num_images: Number of images that the student learns from.
        """
        if self.trained or num_images >= FEW_IMAGES:
            return None
        return (
            f"The student starts from random weights, and {num_images:,} photographs are few to "
            "learn to see from. Trained weights are a better start: as student a network of "
            "keras.applications with weights 'imagenet', or the folder of a converted network."
        )


def check(student: str, weights: str | None, dtype_policy: str = "float32") -> None:
    """Refuse a student or weights that do not exist, before anything is read.

    Args:
        student: A name, file or folder that `start` takes.
        weights: `"imagenet"`, `"none"`, a file of weights, or `None`.
        dtype_policy: The precision that the student is to compute in.

    Raises:
        ValueError: Naming what does not exist, or does not fit.
    """
    path, from_file = Path(student), _is_file(student)
    if not from_file and student not in backbones.names():
        raise ValueError(
            f"Unknown student {student!r}. Expected: a .keras file, the folder of a teacher, "
            f"or one of {backbones.names()}."
        )
    if path.is_dir() and from_file and not (path / CARD).is_file():
        raise ValueError(
            f"The folder {student!r} is not a teacher's: it has no {CARD}. Write one with "
            "keras-amalgam convert or Teacher.save."
        )
    if from_file and weights not in (None, NEW):
        raise ValueError(
            f"A student from a file has that file's weights. Received: `weights={weights!r}` for "
            f"`student={student!r}`. Leave it out, or take new weights with `weights='none'`."
        )
    if weights == IMAGENET and student == backbones.COMPACT:
        raise ValueError(
            "The student 'compact' has no ImageNet weights. Received: `weights='imagenet'`. Take "
            "a network of keras.applications, such as `student='MobileNetV3Small'`."
        )
    if weights not in (None, NEW, IMAGENET) and not Path(weights).is_file():
        raise ValueError(
            f"The weights file {weights!r} does not exist. Expected: 'imagenet', 'none', or a file "
            "of the backbone's weights."
        )
    if from_file and dtype_policy != "float32":
        raise ValueError(
            f"A student from a file computes in float32, as its layers say. Received: "
            f"`dtype_policy={dtype_policy!r}` for `student={student!r}`. Leave it out, or take a "
            "network of keras.applications."
        )


def start(
    student: str,
    weights: str | None = None,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    dtype_policy: str = "float32",
) -> Start:
    """What a student starts from.

    Args:
        student: `"compact"`, a class of `keras.applications`, a `.keras` file, or the folder of a
            teacher. A teacher is cut at its tap, and a file that ends in a classifier's heads where
            its features are best read; what an earlier student does before its backbone is left
            out.
        weights: `"none"` for new ones; for a class of `keras.applications` also `"imagenet"`, which
            Keras downloads, or a file of the weights without the top. By default those in the file
            or folder, and new ones for a name.
        size: `(height, width)` of the student's images, in pixels; by default what the file or
            folder takes, or 96 × 96 where that is open.
        channels: Number of channels of the raw images, 1 (grey) or 3 (RGB).
        dtype_policy: The precision that the student computes in; `"float32"` for one from a file.

    Raises:
        ValueError: If there is no such student or weights, the size is not the network's, or
            nothing says how images were normalised in its training.
        OSError: If the weights cannot be downloaded.
    """
    check(student, weights, dtype_policy)
    if _is_file(student):
        begun = _from_file(student, weights, size)
    else:
        begun = _named(student, weights, size or (SIDE, SIDE), channels)
    return replace(begun, channels=channels, dtype_policy=dtype_policy)


def _from_file(student: str, weights: str | None, size: tuple[int, int] | None) -> Start:
    """A network that a file or a teacher's folder holds."""
    read = _read_teacher if Path(student).is_dir() else _read_file
    network, where, normalisation = read(student)
    size = _size_of(network, student, size)
    if weights == NEW:
        return Start(lambda: _copy(network, new_weights=True), size)
    if normalisation is None and built_in_normalisation(network) is None:
        raise ValueError(
            f"Nothing says how images were normalised in the training of {student!r}. Received: a "
            "network that begins without rescaling. Make it the folder of a teacher with "
            "keras-amalgam convert and --scale, --mean and --std, and give that, or take new "
            "weights with `weights='none'`."
        )
    return Start(lambda: _copy(network), size, f"{student}, {where}", True, normalisation)


def _is_file(student: str) -> bool:
    return bool(student) and student not in backbones.names() and Path(student).exists()


def _named(name: str, weights: str | None, size: tuple[int, int], channels: int) -> Start:
    """An architecture known by its name."""
    if weights in (None, NEW):
        return Start(lambda: backbones.backbone(name, (*size, channels)), size)
    is_compact = name == backbones.COMPACT
    # ImageNet's images have colours; grey ones are repeated on their way in.
    shape = (*size, channels if is_compact else 3)
    if weights == IMAGENET:
        trained = backbones.with_imagenet_weights(name, shape)
    else:
        trained = backbones.backbone(name, shape)
        teachers_island.from_keras(weights, architecture=trained, verify=False)
    values = trained.get_weights()

    def make() -> keras.Model:
        backbone = backbones.backbone(name, shape)
        backbone.set_weights(values)
        return backbone

    inside = is_compact or built_in_normalisation(trained) is not None
    return Start(
        make, size, weights, True, None if inside else teachers_island.preprocessing_of(name)
    )


def _read_teacher(folder: str) -> tuple[keras.Model, str, Preprocessing]:
    """A teacher's network up to its last tap, and its own normalisation."""
    teacher = teachers_island.load(folder)
    if not teacher.in_graph or not teacher.taps:
        reason = "has no tap" if teacher.in_graph else "runs in its own runtime"
        raise ValueError(
            f"The teacher in {folder!r} cannot be a student's start: it {reason}. Convert its "
            "network into Keras, with a tap that says where its features are read."
        )
    own = teacher.preprocessing
    normalisation = Preprocessing(
        scale=own.scale, mean=own.mean, std=own.std, channels=own.channels
    )
    network, where = _up_to(teacher.model, [*teacher.taps.values()][-1])
    return network, where, normalisation


def _read_file(path: str) -> tuple[keras.Model, str, None]:
    """A file's network up to its features, without a resize that stands before them."""
    if Path(path).suffix != ".keras":
        raise ValueError(
            f"A student's file is a .keras file. Received: {path!r}. Convert it with "
            "keras-amalgam convert, and give the folder that it writes."
        )
    model = as_functional(teachers_island.from_keras(path, verify=False))
    *_, last = model.layers
    if isinstance(model.output, keras.KerasTensor) and len(model.output.shape) == 4:
        network, where = _up_to(model, None)
    elif isinstance(last, _POOLING):
        network, where = _up_to(keras.Model(model.input, last.input), None)
    else:
        network, where = _up_to(model, Tap(_features_of(path)))
    if (resized := first_resize(network)) is not None:
        network = keras.Model(resized[1], network.output, name=network.name)
    return network, where, None


_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


def _features_of(path: str) -> str:
    """The layer at which all heads of a file's network read its features."""
    heads = [output.name for output in teachers_island.inspect(path).outputs]
    asked = heads if len(heads) > 1 else [None]
    found = [teachers_island.inspect(path, output=head).default_tap for head in asked]
    names = {tap.name for tap in found if tap is not None}
    if len(names) != 1 or None in found:
        raise ValueError(
            f"The heads of {path!r} do not read the same features. Received: heads {heads}, which "
            f"read {sorted(names) or 'none that were found'}. Make it the folder of a teacher with "
            "keras-amalgam convert --tap, and give that."
        )
    return names.pop()


def _up_to(model: keras.Model, tap: Tap | None) -> tuple[keras.Model, str]:
    """A network up to a tap, or the whole of it, as a backbone; and the same in words."""
    if tap is None:
        image, features, where = model.input, model.output, "as it is"
    else:
        tapped = with_taps(model, [tap.layer])
        image, where = tapped.input, f"up to {tap.layer}"
        features = as_features(tapped.output["taps"][0], tap.tokens)
    return keras.Model(image, features, name="backbone"), where


def _size_of(network: keras.Model, student: str, size: tuple[int, int] | None) -> tuple[int, int]:
    """The size that a network's images have, refused if it is not the one that is wanted."""
    height, width = network.input_shape[1:3]
    if None in (height, width):
        return size or (SIDE, SIDE)
    if size not in (None, (height, width)):
        raise ValueError(
            f"The student {student!r} takes images of one size. Received: `size={size}`. "
            f"Expected: `size={(height, width)}`, or none."
        )
    return height, width


def _copy(network: keras.Model, new_weights: bool = False) -> keras.Model:
    """A network of the same layers with weights of its own, all of them to be trained but masks.

    A conversion holds a mask in an `Embedding` that is not trained: no weight, but a part of the
    architecture. Other layers that a file says are frozen are trained here.
    """
    copy = keras.models.clone_model(network)
    pairs = zip(network._flatten_layers(), copy._flatten_layers(), strict=True)
    masks = [
        (before, layer)
        for before, layer in pairs
        if isinstance(layer, keras.layers.Embedding) and not layer.trainable
    ]
    if not new_weights:
        copy.set_weights(network.get_weights())
    for layer in copy._flatten_layers():  # Told to a functional model, its layers do not hear it.
        layer.trainable = True
    for before, layer in masks:
        layer.set_weights(before.get_weights())
        layer.trainable = False
    return copy
