"""Long-lived worker processes, each watched: a hang or a death is a finding."""

import multiprocessing
import os
import pathlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import worker
from cases import Case
from worker import Outcome

START_SECONDS = 180
# A machine that others use may need so many times longer than the processor time it gives.
PATIENCE = 20
# Keras and TensorFlow keep a little of every model.
CASES_PER_WORKER = 500


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    case: Case | None = None
    began: float = 0.0
    processor_began: float = 0.0
    done: int = 0
    ready: bool = False


class Pool:
    """Runs trials in processes of its own.

    Args:
        workers: How many at a time.
        memory_mb: See `worker.serve`.
        seconds: Processor time one trial may take.
    """

    def __init__(self, workers: int, memory_mb: int, seconds: float) -> None:
        """See the class."""
        self._context = multiprocessing.get_context("spawn")
        self._memory_mb, self._seconds = memory_mb, seconds
        self._workers = [self._started() for _ in range(workers)]

    def outcomes(self, cases: Iterator[Case], until: float) -> Iterator[tuple[Case, Outcome]]:
        """Try cases until a moment or until they run out.

        Args:
            cases: May grow while they are tried.
            until: A value of `time.monotonic`, after which none is begun.
        """
        is_over = False
        while True:
            for one in self._workers:
                if one.ready and one.case is None and not is_over:
                    case = next(cases, None) if time.monotonic() < until else None
                    is_over = case is None
                    if case is not None:
                        self._begin(one, case)
            if is_over and all(one.case is None for one in self._workers):
                return
            wait([one.connection for one in self._workers], timeout=0.2)
            for index, one in enumerate(self._workers):
                outcome = self._outcome(one)
                if outcome is None:
                    continue
                case, one.case = one.case, None
                if outcome.kind in ("hang", "death") or one.done >= CASES_PER_WORKER:
                    self._stop(one)
                    self._workers[index] = self._started()
                if case is not None:
                    yield case, outcome

    def close(self) -> None:
        """End the processes."""
        for one in self._workers:
            self._stop(one)

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker.serve, args=(theirs, self._memory_mb), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, began=time.monotonic())

    def _begin(self, one: _Worker, case: Case) -> None:
        one.case, one.began = case, time.monotonic()
        one.processor_began = _processor_seconds(one.process.pid)
        one.connection.send(case)

    def _outcome(self, one: _Worker) -> Outcome | None:
        """What a worker answers; a finding if it never will."""
        try:
            if one.connection.poll():
                answer = one.connection.recv()
                one.done += 1
                if one.ready:
                    return answer
                one.ready = True
                return None
        except (EOFError, OSError):
            one.process.join(5)
            code = one.process.exitcode
            if not one.ready:
                raise RuntimeError(
                    f"A worker ended with exit code {code} before it was ready: see its output."
                ) from None
            return Outcome("death", True, f"death {code}", f"exit code {code}")
        waited = time.monotonic() - one.began
        if not one.ready:
            if waited > START_SECONDS:
                raise RuntimeError(f"A worker did not start within {START_SECONDS} s.")
            return None
        worked = _processor_seconds(one.process.pid) - one.processor_began
        if one.case is not None and (worked > self._seconds or waited > PATIENCE * self._seconds):
            detail = f"{waited:.0f} s, {worked:.0f} s of processor time"
            return Outcome("hang", True, f"hang {one.case.mutations}", detail)
        return None

    def _stop(self, one: _Worker) -> None:
        one.connection.close()
        one.process.kill()
        one.process.join()


def _processor_seconds(process_id: int | None) -> float:
    try:
        fields = pathlib.Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
