"""Amalgamate the two teachers that ship with the package into one student, without labels.

A residual network for digits, trained in PyTorch and shipped as ONNX, and a vision transformer for
clothes, trained in Keras, become one compact student with two heads. The job trains, evaluates on
4,000 test images, packages the student as Keras file, SavedModel, TFLite (float32 and int8) and
ONNX, checks each artifact against the student, and writes report.html and report.json.

    keras-amalgam demo                    a few minutes on two cores
    keras-amalgam demo --full             longer training and what each term is worth: half an hour
    keras-amalgam demo --out runs/mine

The same command again goes on where it stopped, after Ctrl-C, too; --restart begins anew.
"""

import time

from absl import flags

from keras_amalgam.choices import NUMBERS
from keras_amalgam.cli import output, run_flags


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_boolean(
        "full", False, "Train longer, and compare with each term removed.", flag_values=values
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Of initial weights, order and augmentation.",
        *NUMBERS["seed"].ends,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "epochs",
        None,
        "Of the training, if other than the demo's own.",
        *NUMBERS["epochs"].ends,
        flag_values=values,
    )
    run_flags.define_flags(values, default="runs/demo")


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse a wrong command line."""
    output.check_no_arguments(positional)
    run_flags.check(values)


def run(values: flags.FlagValues, positional: list[str]) -> None:
    """Run the command."""
    started = time.perf_counter()
    from keras_amalgam.experiments import digits_fashion

    recipe = digits_fashion.recipe(values.full, values.seed, values.epochs)
    full_run = None if values.full else "keras-amalgam demo --full"
    run_flags.run(recipe, values, "demo", positional, started, full_run=full_run)
