"""The fuzzer's own logic: what it makes follows from the seed, and nothing bad passes for good."""

import argparse
import importlib
import json
import pathlib
import sys
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = ("mutations", "constant_mutations", "cases", "corpus", "worker", "pool", "run")


@pytest.fixture(scope="module")
def fuzz():
    """The fuzzer's modules by name."""
    folder = str(ROOT / "scripts" / "fuzz")
    sys.path.insert(0, folder)
    yield argparse.Namespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(folder)
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture
def corpus(fuzz):
    """The patterns alone, which are quick to make."""
    return {model.graph.name: model.SerializeToString() for model in fuzz.corpus.patterns()}


def test_patterns_are_converted(fuzz, corpus, tmp_path):
    kinds = {}
    for number, name in enumerate(sorted(corpus)):
        case = fuzz.cases.make_case(corpus, 0, number)
        assert (case.start, case.mutations) == (name, ())
        kinds[name] = fuzz.worker.attempt(case, tmp_path).kind
    assert kinds == dict.fromkeys(corpus, "converted")


def test_cases_follow_from_seed_and_number(fuzz, corpus):
    first = [fuzz.cases.make_case(corpus, 3, number) for number in range(300)]
    again = [fuzz.cases.make_case(corpus, 3, number) for number in range(300)]
    assert first == again
    assert first != [fuzz.cases.make_case(corpus, 4, number) for number in range(300)]
    assert len({tuple(sorted(case.files.items())) for case in first}) > 200


def test_every_mutation_changes_some_file(fuzz, corpus):
    for name in (*fuzz.mutations.STRUCTURAL, "bytes", "external"):
        changed = 0
        for seed in range(8):
            for start in corpus:
                case = fuzz.cases.built(corpus, 0, start, [(name, seed)])
                changed += case.files[fuzz.cases.MODEL] != corpus[start]
        assert changed > 8, name


def test_standard_graphs_are_networks_of_one_image(fuzz, monkeypatch):
    value = np.ones((2, 3), np.float32)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in ("a", "b", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])], "g", ports[:2], ports[2:]
    )
    network = fuzz.corpus._as_network(helper.make_model(graph), [value, 2 * value])
    assert [port.name for port in network.graph.input] == ["a"]
    assert network.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    np.testing.assert_array_equal(numpy_helper.to_array(network.graph.initializer[0]), 2 * value)
    assert fuzz.corpus._as_network(helper.make_model(graph), [value.astype(int)] * 2) is None


def _relu_case(fuzz, content=None, **files):
    graph = fuzz.corpus._model("g", [4], [helper.make_node("Relu", ["x"], ["y"])], {})
    content = graph.SerializeToString() if content is None else content
    return fuzz.cases.Case(7, "g", (("a", 1), ("b", 2)), {fuzz.cases.MODEL: content} | files)


def test_clear_error_and_conversion_are_no_findings(fuzz, tmp_path):
    good = fuzz.worker.attempt(_relu_case(fuzz), tmp_path)
    assert (good.kind, good.is_finding) == ("converted", False)
    bad = fuzz.worker.attempt(_relu_case(fuzz, b"text"), tmp_path)
    assert (bad.kind, bad.is_finding) == ("ValueError", False)
    assert "no ONNX" in bad.detail


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda: {}["missing"], "escaped KeyError"),
        (lambda: np.zeros(3).reshape(2, 2), "escaped ValueError"),
        (lambda: int("x"), "escaped ValueError"),
        (lambda: np.zeros(3)[7], "escaped IndexError"),
    ],
)
def test_errors_that_escape_are_findings(fuzz, tmp_path, monkeypatch, error, kind):
    from keras_amalgam import teachers

    monkeypatch.setattr(teachers, "from_onnx", lambda *a, **k: error())
    outcome = fuzz.worker.attempt(_relu_case(fuzz), tmp_path)
    assert (outcome.kind, outcome.is_finding) == (kind, True)


def _raised_in(file, source):
    """The exception of code that claims to stand in a file."""
    try:
        exec(compile(source, str(file), "exec"), {})
    except Exception as error:
        return error
    raise AssertionError(source)


def test_only_what_our_code_raises_with_a_message_is_clear(fuzz):
    ours, message = ROOT / "teachers" / "any.py", "A message that says what to do."
    assert not fuzz.worker.judge(_raised_in(ours, f"raise ValueError({message!r})")).is_finding
    for file, source in (
        (ours, "raise ValueError('short')"),
        (ours, f"raise RuntimeError({message!r})"),
        (ours, "int('this is no number at all')"),
        ("/elsewhere/keras.py", f"raise ValueError({message!r})"),
    ):
        assert fuzz.worker.judge(_raised_in(file, source)).is_finding, source


def test_wrong_shape_is_a_finding(fuzz, tmp_path, monkeypatch):
    import keras

    from keras_amalgam import teachers

    class Liar:
        def __init__(self, model):
            self.model = model
            self.input_shape, self.inputs = model.input_shape, model.inputs
            self.output = keras.Input((9,))

        def __call__(self, images, training):
            return self.model(images, training=training)

    real = teachers.from_onnx
    monkeypatch.setattr(teachers, "from_onnx", lambda *a, **k: Liar(real(*a, **k)))
    outcome = fuzz.worker.attempt(_relu_case(fuzz), tmp_path)
    assert (outcome.kind, outcome.is_finding) == ("wrong shape", True)
    assert outcome.detail == "declared (None, 9), received (2, 4)"


def test_findings_are_written_counted_and_shortened(fuzz, corpus, tmp_path):
    findings = fuzz.run.Findings(tmp_path)
    outcome = fuzz.worker.Outcome("escaped KeyError", True, "KeyError in a.py:f", "Traceback")
    case = _relu_case(fuzz, **{"w.bin": b"weights"})
    assert [findings.add(case, outcome) for _ in range(5)] == [True, False, False, False, False]
    assert findings.counts == {"KeyError in a.py:f": 5}
    (text,) = tmp_path.rglob("finding.txt")
    assert "case 7 from g" in text.read_text()
    assert "Traceback" in text.read_text()
    assert (text.parent / "w.bin").read_bytes() == b"weights"
    trials = fuzz.run.Trials(corpus, 0, first=5)
    long = fuzz.cases.built(corpus, 90, "gates", [("rename", 1), ("delete_node", 2)])
    trials.shorten(long)
    assert [next(trials).mutations for _ in range(2)] == [(("rename", 1),), (("delete_node", 2),)]
    assert next(trials).number == 5


ANSWERING = """
import os
from worker import Outcome

def serve(connection, memory_mb):
    connection.send("ready")
    while True:
        number = connection.recv().number
        while number == 1:
            pass
        if number == 2:
            os._exit(11)
        connection.send(Outcome("converted"))
"""


@pytest.fixture
def pool(fuzz, monkeypatch, tmp_path):
    """A pool whose workers hang at case 1, die at case 2, and convert any other."""
    (tmp_path / "answering.py").write_text(ANSWERING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fuzz.worker, "serve", importlib.import_module("answering").serve)
    monkeypatch.setattr(fuzz.pool, "PATIENCE", 4)
    yield fuzz.pool.Pool(2, 3000, 0.5)
    del sys.modules["answering"]


def _outcomes(pool, cases, seconds=30.0):
    try:
        return [
            (case.number, outcome.kind, outcome.is_finding)
            for case, outcome in pool.outcomes(iter(cases), time.monotonic() + seconds)
        ]
    finally:
        pool.close()


def _numbered(fuzz, *numbers):
    return [fuzz.cases.Case(number, "g", (), {}) for number in numbers]


def test_hang_and_death_are_findings_and_the_rest_goes_on(fuzz, pool):
    found = _outcomes(pool, _numbered(fuzz, *range(6)))
    assert sorted(found) == [
        (0, "converted", False),
        (1, "hang", True),
        (2, "death", True),
        (3, "converted", False),
        (4, "converted", False),
        (5, "converted", False),
    ]


def test_no_case_is_begun_when_the_time_is_over(fuzz, pool):
    assert _outcomes(pool, _numbered(fuzz, 0, 3), seconds=-1) == []


def test_worker_that_cannot_start_ends_the_run(fuzz, tmp_path, monkeypatch):
    failing = "def serve(connection, memory_mb):\n    raise SystemExit(3)"
    (tmp_path / "failing.py").write_text(failing)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fuzz.worker, "serve", importlib.import_module("failing").serve)
    with pytest.raises(RuntimeError, match="exit code 3 before it was ready"):
        _outcomes(fuzz.pool.Pool(1, 3000, 0.5), _numbered(fuzz, 0))
    del sys.modules["failing"]


def _options(fuzz, tmp_path, *more):
    return fuzz.run.parse(["--out", str(tmp_path / "out"), "--seconds", "30", *more])


class _FewCases:
    """Stands for a pool: answers the first cases, then perhaps interrupts."""

    def __init__(self, outcomes, interrupt=False):
        self._outcomes, self._interrupt, self.closed = outcomes, interrupt, False

    def __call__(self, *options):
        return self

    def outcomes(self, cases, until):
        yield from ((next(cases), outcome) for outcome in self._outcomes)
        if self._interrupt:
            raise KeyboardInterrupt

    def close(self):
        self.closed = True


def test_summary_counts_outcomes_and_is_written_when_interrupted(
    fuzz, corpus, tmp_path, monkeypatch
):
    make = fuzz.worker.Outcome
    bad = make("hang", True, "hang (('rename', 1),)", "10 s")
    few = _FewCases([make("converted"), bad, make("converted")], interrupt=True)
    monkeypatch.setattr(fuzz.run, "Pool", few)
    summary = fuzz.run.fuzz(_options(fuzz, tmp_path, "--seed", "5"), corpus)
    assert few.closed
    assert (summary["seed"], summary["cases"], summary["interrupted"]) == (5, 3, True)
    assert summary["outcomes"] == {"converted": 2, "hang": 1}
    assert summary["findings"] == {"hang (('rename', 1),)": 1}
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert "converted                                       2" in fuzz.run.table(summary)


@pytest.mark.parametrize("is_finding", [True, False])
def test_exit_status_says_whether_there_are_findings(
    fuzz, corpus, tmp_path, monkeypatch, capsys, is_finding
):
    outcome = fuzz.worker.Outcome("memory", is_finding, "memory of it")
    monkeypatch.setattr(fuzz.run, "Pool", _FewCases([outcome]))
    monkeypatch.setattr(fuzz.run, "read_corpus", lambda: corpus)
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(tmp_path / "out")])
    assert fuzz.run.main() == int(is_finding)
    assert ("memory of it" in capsys.readouterr().out) == is_finding
