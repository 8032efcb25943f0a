"""Which operators TensorFlow's time goes to."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.operator_kinds import by_kind


def profiled(step: Callable[[], Any], runs: int = 3) -> dict[str, float]:
    """Milliseconds of one step by kind of operator, those of all threads added up.

    Args:
        step: Does one step; its graph is traced already.
        runs: Number of steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        try:
            for _ in range(runs):
                step()
        finally:
            tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    return by_kind(_operators(space), runs)


def _operators(space: Any) -> Iterator[tuple[str, float]]:
    """Every operator that ran, with its microseconds."""
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # `name:Operator`; what runs them is called `Executor::Run` or has no colon.
                name, _, operator = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and not name.endswith(":") and operator.isidentifier():
                    yield operator, event.duration_ps / 1e6
