"""Where features are read, on graphs drawn by hand."""

import pytest

from keras_amalgam.teachers.inspection.tap_search import Step, find_taps


def chain(*rows):
    """Steps in a row: (name, operator, sizes[, inputs]); names are tensors too."""
    steps, before = [], "image"
    for name, operator, sizes, *inputs in rows:
        weighted = operator in ("Conv", "Gemm")
        steps.append(
            Step(name, operator, tuple(inputs) or (before,), name, (None, *sizes), weighted)
        )
        before = name
    return steps


RESIDUAL = chain(
    ("stem", "Conv", (16, 16, 8)),
    ("conv1", "Conv", (16, 16, 8)),
    ("add1", "Add", (16, 16, 8), "conv1", "stem"),
    ("down", "Conv", (8, 8, 12)),
    ("shortcut", "Conv", (8, 8, 12), "add1"),
    ("conv2", "Conv", (8, 8, 12), "down"),
    ("add2", "Add", (8, 8, 12), "conv2", "shortcut"),
    ("relu", "Relu", (8, 8, 12)),
    ("pool", "GlobalAveragePool", (1, 1, 12)),
    ("flat", "Flatten", (12,)),
    ("fc", "Gemm", (5,)),
)


def names(found):
    return [step.name for step in found.candidates], found.default and found.default.name


def test_default_is_the_last_map_before_the_pooling_and_one_candidate_stands_for_each_extent():
    # "stem" and "conv1" are bypassed by nothing and by the addition: only "add1" holds everything.
    assert names(find_taps(RESIDUAL, "fc")) == (["add1", "relu", "flat"], "relu")


def test_a_bypassed_step_is_no_candidate():
    graph = [step for step in RESIDUAL if step.name != "add1"]
    graph[2:4] = chain(
        ("down", "Conv", (8, 8, 12), "conv1"), ("shortcut", "Conv", (8, 8, 12), "stem")
    )
    assert names(find_taps(graph, "fc")) == (["stem", "relu", "flat"], "relu")


@pytest.mark.parametrize("views", [(), ("Dropout",), ("Identity", "Dropout")])
def test_flattening_and_what_only_shows_the_map_again_are_passed_over(views):
    shown = [(f"view{number}", view, (4, 4, 6)) for number, view in enumerate(views)]
    graph = chain(
        ("conv", "Conv", (4, 4, 6)),
        *shown,
        ("flat", "Flatten", (96,)),
        ("fc1", "Gemm", (10,)),
        ("fc2", "Gemm", (3,)),
    )
    assert names(find_taps(graph, "fc2")) == (["conv", "fc1"], "conv")


def test_a_convolution_that_classifies_before_the_pooling_belongs_to_the_head():
    graph = chain(
        ("fire", "Concat", (6, 6, 32)),
        ("dropout", "Dropout", (6, 6, 32)),
        ("classes", "Conv", (6, 6, 10)),
        ("pool", "GlobalAveragePool", (1, 1, 10)),
        ("flat", "Flatten", (10,)),
    )
    assert names(find_taps(graph, "flat")) == (["fire"], "fire")


def test_tokens_are_taken_where_the_head_reads_one_of_them():
    graph = chain(
        ("patches", "Conv", (4, 4, 6)),
        ("tokens", "Reshape", (16, 6)),
        ("class", "Concat", (17, 6)),
        ("block", "Add", (17, 6)),
        ("norm", "LayerNormalization", (17, 6)),
        ("first", "Gather", (6,)),
        ("fc", "Gemm", (3,)),
    )
    assert names(find_taps(graph, "fc")) == (["patches", "norm", "first"], "norm")


def test_pooling_over_flattened_positions_leads_back_to_the_map():
    graph = chain(
        ("conv", "Conv", (4, 4, 6)),
        ("positions", "Reshape", (6, 16)),
        ("mean", "ReduceMean", (6,)),
        ("fc", "Gemm", (3,)),
    )
    assert names(find_taps(graph, "fc"))[1] == "conv"


def test_a_network_of_vectors_is_tapped_before_its_last_layer():
    graph = chain(("flat", "Flatten", (64,)), ("fc1", "Gemm", (10,)), ("fc2", "Gemm", (3,)))
    assert names(find_taps(graph, "fc2")) == (["fc1"], "fc1")


def test_one_layer_alone_has_nothing_to_tap():
    assert find_taps(chain(("fc", "Gemm", (3,))), "fc") == ((), None)
    assert find_taps(chain(("relu", "Relu", (3,))), "relu") == ((), None)


def test_what_the_logits_do_not_depend_on_is_left_out():
    other = chain(("side", "Conv", (2, 2, 9), "relu"), ("side_fc", "Gemm", (7,)))
    assert names(find_taps([*RESIDUAL, *other], "fc")) == (["add1", "relu", "flat"], "relu")


def test_open_sizes_are_told_apart_by_their_channels():
    graph = chain(
        ("conv1", "Conv", (None, None, 6)),
        ("conv2", "Conv", (None, None, 8)),
        ("pool", "GlobalAveragePool", (1, 1, 8)),
        ("fc", "Gemm", (3,)),
    )
    assert names(find_taps(graph, "fc")) == (["conv1", "conv2", "pool"], "conv2")
