"""Trains the teacher `fashion`, a small vision transformer, in Keras.

    python scripts/demo_assets/train_fashion.py [--fashion DIR] [--validate]

The file takes images of 32x32 pixels with values in -1..1, `(batch, 32, 32, 1)` float32, and gives
logits `(batch, 10)`. It is made of stock Keras layers.
"""

import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import sources
from keras import layers

SIZE, GRID, UNITS, DEPTH, HEADS, MLP_UNITS = 32, 8, 64, 3, 2, 256
EPOCHS, BATCH, PEAK_RATE, WEIGHT_DECAY = 14, 128, 2e-3, 0.05
MAX_SHIFT = 1
SEED = 10546


def block(tokens: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """A pre-norm transformer block on `(batch, GRID * GRID, UNITS)` tokens.

    A depthwise convolution tells each token where it stands.

    Reference:
        [Chu et al., 2021](https://arxiv.org/abs/2102.10882), conditional positional encodings.
    """
    places = layers.Reshape((GRID, GRID, UNITS), name=f"{name}_to_map")(tokens)
    places = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_position")(places)
    places = layers.Reshape((GRID * GRID, UNITS), name=f"{name}_to_tokens")(places)
    tokens = layers.Add(name=f"{name}_positioned")([tokens, places])

    mixed = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_attention_norm")(tokens)
    mixed = layers.MultiHeadAttention(HEADS, UNITS // HEADS, name=f"{name}_attention")(mixed, mixed)
    tokens = layers.Add(name=f"{name}_attended")([tokens, mixed])

    mixed = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_mlp_norm")(tokens)
    mixed = layers.Dense(MLP_UNITS, activation="gelu", name=f"{name}_mlp_wide")(mixed)
    mixed = layers.Dense(UNITS, name=f"{name}_mlp_narrow")(mixed)
    return layers.Add(name=f"{name}_out")([tokens, mixed])


def fashion_net() -> keras.Model:
    """A convolutional stem, three blocks on 8x8 tokens, mean of the tokens, ten logits.

    Reference:
        [Xiao et al., 2021](https://arxiv.org/abs/2106.14881) for the convolutional stem.
    """
    images = keras.Input((SIZE, SIZE, 1), name="images")
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv1")(images)
    x = layers.BatchNormalization(name="stem_norm1")(x)
    x = layers.Activation("gelu", name="stem_gelu")(x)
    x = layers.Conv2D(UNITS, 3, 2, padding="same", use_bias=False, name="stem_conv2")(x)
    x = layers.BatchNormalization(name="stem_norm2")(x)
    x = layers.Reshape((GRID * GRID, UNITS), name="stem_tokens")(x)
    for number in range(1, DEPTH + 1):
        x = block(x, f"block{number}")
    x = layers.LayerNormalization(epsilon=1e-6, name="tokens")(x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(images, layers.Dense(10, name="logits")(x), name="fashion")


def with_preprocessing(net: keras.Model) -> keras.Model:
    """`net` behind the resizing and scaling that its card states: raw 28x28 images to logits."""
    images = keras.Input((28, 28, 1))
    x = layers.Resizing(SIZE, SIZE, interpolation="bilinear")(images)
    return keras.Model(images, net(layers.Rescaling(1 / 127.5, offset=-1.0)(x)))


class Views(keras.utils.PyDataset):
    """Batches of shifted and mirrored images with smoothed one-hot labels, shuffled each epoch."""

    def __init__(self, data: sources.Labelled) -> None:
        super().__init__()
        self._random = np.random.RandomState(SEED)
        self._images = np.pad(data.images, ((0, 0), (MAX_SHIFT,) * 2, (MAX_SHIFT,) * 2))
        self._targets = np.eye(10, dtype="float32")[data.labels] * 0.9 + 0.01
        self._order = self._random.permutation(len(self._targets))

    def __len__(self) -> int:
        """The number of whole batches."""
        return len(self._targets) // BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: images `(BATCH, 28, 28, 1)` float32 0..255, targets `(BATCH, 10)`."""
        chosen = self._order[index * BATCH : (index + 1) * BATCH]
        offsets = self._random.randint(0, 2 * MAX_SHIFT + 1, (2, BATCH, 1))
        rows = (offsets[0] + np.arange(28))[:, :, None]
        columns = offsets[1] + np.arange(28)
        mirrored = self._random.rand(BATCH) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
        images = self._images[chosen[:, None, None], rows, columns[:, None, :]]
        return images[..., None].astype("float32"), self._targets[chosen]

    def on_epoch_end(self) -> None:
        """Shuffles."""
        self._order = self._random.permutation(len(self._targets))


def train(data: sources.Labelled) -> keras.Model:
    """A network trained on `data` alone; returned without preprocessing and without optimizer."""
    keras.utils.set_random_seed(SEED)
    net = fashion_net()
    model = with_preprocessing(net)
    views = Views(data)
    num_steps = EPOCHS * len(views)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, num_steps * 9 // 10, warmup_target=PEAK_RATE, warmup_steps=num_steps // 10
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(views, epochs=EPOCHS, verbose=2)
    return net


def accuracy(net: keras.Model, data: sources.Labelled) -> float:
    """The share of `data` that `net` behind its preprocessing classifies rightly."""
    images = data.images[..., None].astype("float32")
    logits = with_preprocessing(net).predict(images, batch_size=250, verbose=0)
    return float((logits.argmax(1) == data.labels).mean())


def main() -> None:
    """Trains on the 51,000 images and saves; with `--validate` prints an accuracy instead."""
    parser = sources.parser(__doc__)
    parser.add_argument(
        "--validate",
        action="store_true",
        help=f"keep {sources.NUM_VALIDATION} of the images aside, measure on them, write nothing",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        default=sources.DEMO / "teachers" / "fashion.keras",
    )
    arguments = parser.parse_args()
    collection = sources.load("fashion", arguments)
    if arguments.validate:
        fit, validation = collection.fit_and_validation()
        print(f"validation accuracy {accuracy(train(fit), validation):.4f}")
        return
    net = train(collection.taught)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    beside = arguments.out.with_suffix(".part.keras")
    net.save(beside)
    beside.rename(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
