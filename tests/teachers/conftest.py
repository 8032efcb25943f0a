"""Source graphs built by onnx.helper, and the one comparison that every operator's test uses."""

import subprocess
import sys
import warnings

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from keras_amalgam import teachers

TOLERANCE = 1e-4


def random(*shape, seed=0, low=-1.0, high=1.0):
    """Seeded float32 numbers."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def make_model(nodes, image, constants=None, opset=17, outputs=None, batch="batch"):
    """A checked ONNX model of one input `x`; its outputs are those of the last node.

    Args:
        nodes: From `helper.make_node`.
        image: Shape of `x` without the batch; a string is an open size.
        constants: Initializers by name.
        opset: Of the standard domain.
        outputs: Names of other outputs.
        batch: Size of the batch; a string is an open one.
    """
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *image])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in outputs or nodes[-1].output[:1]
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)  # Outputs need a shape to be valid.


def count_transposes(model):
    """Transpose operations in the traced TensorFlow graph.

    Keras' dense layers write one that leaves every axis in place; it is no transposition.
    """
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    operations = tf.function(model).get_concrete_function(spec).graph.get_operations()
    axes = [tf.get_static_value(op.inputs[1]) for op in operations if op.type == "Transpose"]
    return sum(a is None or list(a) != sorted(a) for a in axes)


def run_source(model, images):
    """The source's outputs in onnxruntime for images in the source's own layout."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})


def compare_with_source(
    path, source, *, transposes=0, image=None, maps=True, sizes=(1, 3), **options
):
    """Convert a model and compare all outputs with onnxruntime; the converted model is returned.

    Args:
        path: Where to write the file.
        source: An ONNX model of one input.
        transposes: How many the converted graph has; None where a product needs some.
        image: Shape of one image in the source's layout, if the file leaves it open.
        maps: Whether images, and outputs of four axes, are maps in the source's channels first.
        sizes: Batch sizes.
        **options: For `from_onnx`.
    """
    onnx.save(source, path)
    # The importer's own comparison is left out, as this is one; whole networks are converted with.
    model = teachers.from_onnx(path, **{"verify": False} | options)
    dims = source.graph.input[0].type.tensor_type.shape.dim[1:]
    shape = image or [d.dim_value for d in dims]
    is_map = len(shape) == 3 and maps
    for size in sizes:
        images = random(size, *shape, seed=size, low=-3, high=3)
        ours = model(images.transpose(0, 2, 3, 1) if is_map else images, training=False)
        ours = list(ours.values()) if isinstance(ours, dict) else [ours]
        for expected, received in zip(run_source(source, images), ours, strict=True):
            received = keras.ops.convert_to_numpy(received)
            if expected.ndim == 4 and maps:
                expected = expected.transpose(0, 2, 3, 1)
            assert received.shape == expected.shape
            error = np.abs(received - expected).max()
            assert error <= TOLERANCE, f"largest error {error:.3g}, allowed {TOLERANCE:.3g}"
    assert transposes is None or count_transposes(model) == transposes
    return model


@pytest.fixture
def agrees(tmp_path):
    """`compare_with_source` on a file of the test's own."""

    def run(source, **options):
        return compare_with_source(tmp_path / "network.onnx", source, **options)

    return run


@pytest.fixture
def build():
    """`make_model`, as test modules cannot import each other."""
    return make_model


@pytest.fixture(name="random")
def random_fixture():
    """`random`, as test modules cannot import each other."""
    return random


@pytest.fixture
def transposes():
    """`count_transposes`, as test modules cannot import each other."""
    return count_transposes


@pytest.fixture
def torch_export():
    """A module as one of PyTorch's exporters writes it, for any number of images or a fixed one.

    PyTorch is an extra, and slow: it is imported inside only.
    """

    def export(network, path, size, dynamo, opset_version, fused=True, batch=None):
        import torch

        options = {"opset_version": opset_version, "dynamo": dynamo, "input_names": ["x"]}
        if dynamo:
            options |= {"external_data": False, "verbose": False}
        if batch is None:
            shapes = ({0: torch.export.Dim("batch")},)
            dynamic = (
                {"dynamic_shapes": shapes} if dynamo else {"dynamic_axes": {"x": {0: "batch"}}}
            )
            options |= dynamic
        if not fused:
            mode = torch.onnx.TrainingMode.PRESERVE
            options |= {"training": mode, "do_constant_folding": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of the exporters about themselves; they are not ours.
            torch.onnx.export(network, (torch.zeros(batch or 2, 3, *size),), path, **options)
        return onnx.load(path)

    return export


@pytest.fixture
def run_without_package(tmp_path):
    """Run Python code in a fresh process that cannot import this package."""

    def run(code):
        block = "import sys; sys.modules['keras_amalgam'] = None\n"
        return subprocess.run(
            [sys.executable, "-c", block + code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def network(build, random):
    """A small residual network: convolution, batch norm, pooling, flattening, dense."""
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return build(
        [
            helper.make_node("Conv", ["x", "w1"], ["c1"], name="/stem/conv/Conv", **conv),
            helper.make_node("BatchNormalization", ["c1", "s", "o", "m", "v"], ["b1"], name="/bn"),
            helper.make_node("Relu", ["b1"], ["r1"], name="/stem/relu/Relu"),
            helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="/body/conv/Conv", **conv),
            helper.make_node("Add", ["c2", "r1"], ["a1"], name="/body/Add"),
            helper.make_node("Relu", ["a1"], ["r2"], name="/body/relu/Relu"),
            helper.make_node(
                "MaxPool", ["r2"], ["p1"], name="/pool", kernel_shape=[2, 2], strides=[2, 2]
            ),
            helper.make_node("Flatten", ["p1"], ["f1"], name="/Flatten"),
            helper.make_node("Gemm", ["f1", "w3", "b3"], ["y"], name="/fc/Gemm", transB=1),
        ],
        (3, 9, 8),
        {
            "w1": random(4, 3, 3, 3, seed=1),
            "s": random(4, seed=2, low=0.5, high=2),
            "o": random(4, seed=3),
            "m": random(4, seed=4),
            "v": random(4, seed=5, low=0.5, high=2),
            "w2": random(4, 4, 3, 3, seed=6) / 3,
            "b2": random(4, seed=7),
            "w3": random(5, 4 * 4 * 4, seed=8) / 4,
            "b3": random(5, seed=9),
        },
    )
