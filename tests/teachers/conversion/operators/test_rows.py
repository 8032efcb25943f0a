"""Tokens of all images as rows of one matrix, the batch not outermost, against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

TOKENS, WIDTH = 5, 6
BATCHES = (1, 2, 3, 5)

MADE = [
    make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
    make_node("Reshape", ["t", "rows"], ["r"]),
]
SPLIT = [
    make_node("Reshape", ["g", "split"], ["s"]),
    make_node("Transpose", ["s"], ["y"], perm=[1, 0, 2]),
]
BETWEEN = {
    "gemm": [make_node("Gemm", ["r", "w", "b"], ["g"])],
    "matmul": [make_node("MatMul", ["r", "w"], ["m"]), make_node("Add", ["m", "b"], ["g"])],
    "perceptron": [
        make_node("Gemm", ["r", "w", "b"], ["h"]),
        make_node("Relu", ["h"], ["a"]),
        make_node("Gemm", ["a", "w2"], ["g"], transB=1),
    ],
    "vectors": [
        make_node("MatMul", ["r", "w"], ["h"]),
        make_node("Tanh", ["h"], ["a"]),
        make_node("Mul", ["a", "row"], ["d"]),
        make_node("Sub", ["d", "h"], ["g"]),
    ],
    "cast_like": [make_node("MatMul", ["r", "w"], ["h"]), make_node("CastLike", ["h", "h"], ["g"])],
    "split_twice": [
        make_node("Gemm", ["r", "w", "b"], ["a"]),
        make_node("Reshape", ["a", "halves"], ["h"]),
        make_node("Neg", ["h"], ["g"]),
    ],
}


def _constants(random, **changed):
    return {
        "rows": np.array([-1, WIDTH]),
        "split": np.array([TOKENS, -1, 4]),
        "halves": np.array([-1, 2, 2]),
        "w": random(WIDTH, 4),
        "w2": random(4, 4, seed=1),
        "b": random(4, seed=2),
        "row": random(1, 4, seed=3),
        **changed,
    }


@pytest.mark.parametrize("case", BETWEEN)
def test_rows_of_tokens_are_worked_on_where_they_are(agrees, build, random, case):
    source = build([*MADE, *BETWEEN[case], *SPLIT], (TOKENS, WIDTH), _constants(random))
    model = agrees(source, sizes=BATCHES, transposes=0)
    assert not [x for x in model.layers if isinstance(x, keras.layers.Permute)]
    assert any(isinstance(x, keras.layers.Dense) for x in model.layers)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rows", ["number", "rest"])
def test_rows_of_a_file_for_a_fixed_number_of_images_agree(agrees, build, random, batch, rows):
    rows = batch * TOKENS if rows == "number" else -1
    constants = _constants(random, rows=np.array([rows, WIDTH]), split=np.array([TOKENS, batch, 4]))
    source = build([*MADE, *BETWEEN["perceptron"], *SPLIT], (TOKENS, WIDTH), constants, batch=batch)
    model = agrees(source, sizes=(batch,), transposes=0)
    assert model.output_shape == (None, TOKENS, 4)


def test_rows_made_by_shape_arithmetic_and_flatten_agree(agrees, build, random):
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        make_node("Flatten", ["t"], ["r"], axis=2),
        *BETWEEN["gemm"],
        make_node("Shape", ["t"], ["sizes"]),
        make_node("Slice", ["sizes", "zero", "two"], ["ahead"]),
        make_node("Shape", ["g"], ["widths"]),
        make_node("Slice", ["widths", "one", "two"], ["units"]),
        make_node("Concat", ["ahead", "units"], ["split"], axis=0),
        *SPLIT,
    ]
    constants = _constants(random) | {
        k: np.array([i]) for i, k in enumerate(["zero", "one", "two"])
    }
    del constants["split"]
    agrees(build(nodes, (TOKENS, WIDTH), constants), sizes=BATCHES, transposes=0)


def test_heads_in_the_batch_become_rows(agrees, build, random):
    """As an attention that returns its weights comes back from its heads."""
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        make_node("Reshape", ["t", "heads"], ["h"]),
        make_node("Transpose", ["h"], ["q"], perm=[1, 0, 2]),
        make_node("Softmax", ["q"], ["p"], axis=2),
        make_node("Transpose", ["p"], ["u"], perm=[1, 0, 2]),
        make_node("Reshape", ["u", "rows"], ["r"]),
        *BETWEEN["gemm"],
        *SPLIT,
    ]
    constants = _constants(random, heads=np.array([TOKENS, -1, 2]))
    agrees(build(nodes, (TOKENS, WIDTH), constants), sizes=BATCHES, transposes=2)


def test_rows_of_one_image_are_also_its_tokens(agrees, build, random):
    """Where a file fixes one image, its rows may be read across: there are no others' between."""
    nodes = [
        *MADE,
        make_node("Transpose", ["r"], ["q"]),
        make_node("MatMul", ["q", "across"], ["m"]),
        make_node("Reshape", ["m", "image"], ["y"]),
    ]
    constants = _constants(random, across=random(TOKENS, 3), image=np.array([1, WIDTH, 3]))
    agrees(build(nodes, (TOKENS, WIDTH), constants, batch=1), sizes=(1,), transposes=None)


REFUSED = {
    "mean": [make_node("ReduceMean", ["r"], ["y"], axes=[0])],
    "softmax": [make_node("Softmax", ["r"], ["y"], axis=0)],
    "last_axis": [make_node("Softmax", ["r"], ["y"], axis=-1)],
    "output": [make_node("Relu", ["r"], ["y"])],
    "slice": [make_node("Slice", ["r", "one", "two"], ["y"])],
    "transpose": [make_node("Transpose", ["r"], ["y"])],
    "from_the_left": [make_node("MatMul", ["rows_apart", "r"], ["y"])],
    "with_themselves": [
        make_node("Transpose", ["w"], ["v"]),
        make_node("Gemm", ["r", "r"], ["y"], transB=1),
    ],
    "other_rows": [
        make_node("Reshape", ["x", "rows"], ["of_image"]),
        make_node("Add", ["r", "of_image"], ["g"]),
    ],
    "other_order": [
        make_node("Reshape", ["x", "turned"], ["o"]),
        make_node("Transpose", ["o"], ["p"], perm=[1, 0, 2]),
        make_node("Reshape", ["p", "rows"], ["q"]),
        make_node("Add", ["r", "q"], ["g"]),
    ],
    "own_constant": [make_node("Add", ["r", "each"], ["g"])],
    "more_axes": [make_node("Add", ["r", "deep"], ["g"])],
}


@pytest.mark.parametrize("case", REFUSED)
def test_whatever_does_not_keep_to_the_rows_is_refused(agrees, build, random, case):
    constants = _constants(
        random,
        one=np.array([1]),
        two=np.array([2]),
        rows_apart=random(3, 3 * TOKENS),
        each=random(3 * TOKENS, WIDTH),
        deep=random(1, 1, WIDTH),
        turned=np.array([-1, TOKENS * 2, WIDTH // 2]),
        split=np.array([TOKENS, 3, WIDTH]),
    )
    nodes = [*MADE, *REFUSED[case]]
    nodes += SPLIT if nodes[-1].output[0] == "g" else []
    if case == "other_order":  # Ten tokens of three numbers: as many rows, of other images.
        constants["rows"] = np.array([-1, 3])
    with pytest.raises(NotImplementedError, match="merges the batch with an axis before it"):
        agrees(build(nodes, (TOKENS, WIDTH), constants, batch=3))


def test_swapped_tokens_are_noticed(agrees, build, random):
    """The twin: were the rows those of whole images, the same graph would give other numbers."""
    source = build([*MADE, *BETWEEN["gemm"], *SPLIT], (TOKENS, WIDTH), _constants(random))
    model = agrees(source, sizes=(2,))
    images = random(2, TOKENS, WIDTH, seed=7)
    theirs = images.reshape(TOKENS, 2, WIDTH).transpose(1, 0, 2)
    assert not np.allclose(model(images), model(theirs), atol=1e-2)
