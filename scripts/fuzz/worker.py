"""One trial in a long-lived process: convert, run, and say what came of it."""

import dis
import itertools
import logging
import os
import pathlib
import resource
import signal
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType

from cases import MODEL, Case

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIFFERS = "model differs"
ALLOWED = (FileNotFoundError, TypeError, ValueError, NotImplementedError)
SHORTEST_MESSAGE = 20
CASES_PER_CLEARING = 50
# A difference that the comparison finds is caught, and yet what a converter should not make.
SORTS = {
    "differs from its source": DIFFERS,
    "Source and converted network give different shapes": DIFFERS,
    "onnxruntime cannot run": "onnxruntime refuses",
    "is not a valid ONNX model": "invalid by onnx",
    "does not fit its inputs": "node does not fit",
}
_RAISE = dis.opmap["RAISE_VARARGS"]


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Args:
        kind: `"converted"`, an error's class, or what went wrong.
        is_finding: Whether it may not happen.
        signature: The same for findings of one cause.
        detail: Message or traceback.
    """

    kind: str
    is_finding: bool = False
    signature: str = ""
    detail: str = ""


def serve(connection: Connection, memory_mb: int) -> None:
    """Answer trials until the other side closes.

    Args:
        connection: Receives a `Case`, sends its `Outcome`.
        memory_mb: Bound of the resident memory; twice that above the start cannot be had at all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from keras_amalgam import teachers  # noqa: F401

    limit = _memory("VmSize") + 2 * memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("ready")
    with tempfile.TemporaryDirectory() as folder:
        for number in itertools.count(1):
            try:
                case = connection.recv()
            except EOFError:
                return
            connection.send(_bounded(case, pathlib.Path(folder), memory_mb))
            if number % CASES_PER_CLEARING == 0:  # Each time costs a third of a second.
                keras.backend.clear_session()


def _bounded(case: Case, folder: pathlib.Path, memory_mb: int) -> Outcome:
    """The outcome, or a finding if memory went past the bound."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    outcome = attempt(case, folder)
    peak = _memory("VmHWM") / 2**20
    if peak > memory_mb:
        detail = f"{peak:.0f} MB resident, {memory_mb} allowed. {outcome.kind}: {outcome.detail}"
        cause = outcome.signature or outcome.detail[:60]
        return Outcome("memory", True, f"memory, {outcome.kind} {cause}", detail)
    return outcome


def attempt(case: Case, folder: pathlib.Path) -> Outcome:
    """Convert one case and judge what happens."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    try:
        shape = convert_and_run(folder / MODEL, case.fold_batch_norm)
    except BaseException as error:
        return judge(error)
    if shape:
        return Outcome("wrong shape", True, f"wrong shape {case.start}", shape)
    return Outcome("converted")


def convert_and_run(path: pathlib.Path, fold_batch_norm: bool) -> str:
    """Convert, and compare the shapes that the model declares and returns for two images.

    Returns:
        What differs, if anything does.
    """
    from keras_amalgam import teachers
    from keras_amalgam.teachers.comparison.patterns import patterns

    model = teachers.from_onnx(path, fold_batch_norm=fold_batch_norm)
    declared, received = model.output, model(patterns(model, 2, 0), training=False)
    if not isinstance(declared, dict):
        declared, received = {"": declared}, {"": received}
    for name, tensor in declared.items():
        sizes, found = tuple(tensor.shape), tuple(received[name].shape)
        pairs = zip(sizes, found, strict=False)
        if len(sizes) != len(found) or any(size not in (None, n) for size, n in pairs):
            return f"declared {sizes}, received {found}"
    return ""


def judge(error: BaseException) -> Outcome:
    """Whether an exception is a clear error of ours or escaped from somewhere."""
    frames = []
    last: TracebackType | None = error.__traceback__
    while last is not None:
        frames.append(last)
        last = last.tb_next
    where, code = frames[-1], frames[-1].tb_frame.f_code
    ours = [f for f in frames if _is_ours(f.tb_frame.f_code.co_filename)]
    is_raised_by_us = _is_ours(code.co_filename) and code.co_code[where.tb_lasti] == _RAISE
    kind = type(error).__name__
    is_clear = type(error) in ALLOWED and len(str(error)) >= SHORTEST_MESSAGE
    if is_clear and is_raised_by_us:
        return Outcome(f"{kind}{_sort(str(error))}", detail=str(error)[:600])
    place = [_place(f) for f in (*ours[-1:], where)]
    signature = " in ".join([kind, *dict.fromkeys(place)])
    detail = "".join(traceback.format_exception(error))
    return Outcome(f"escaped {kind}", True, signature, detail[-6000:])


def _sort(message: str) -> str:
    """What kind of refusal a message is, as far as it matters for the summary."""
    return next((f", {sort}" for words, sort in SORTS.items() if words in message), "")


def _place(frame: TracebackType) -> str:
    code = frame.tb_frame.f_code
    return f"{pathlib.Path(code.co_filename).name}:{code.co_name}"


def _is_ours(file: str) -> bool:
    path = pathlib.Path(file).resolve()
    return any(path.is_relative_to(ROOT / part) for part in ("teachers", "keras_amalgam"))


def _memory(field: str) -> int:
    """Bytes that the kernel counts for this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0
