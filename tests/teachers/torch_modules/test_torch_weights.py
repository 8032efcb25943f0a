"""PyTorch weights are data: what fits is taken, code is never run. PyTorch is an extra."""

import pickle
import zipfile

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


@pytest.fixture(scope="module")
def filled():
    from keras_amalgam.teachers.torch_modules.weights import filled

    return filled


@pytest.fixture
def make(torch):
    def make(seed=0, width=4):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width), torch.nn.Conv2d(width, 2, 1)
        )

    return make


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


def parallel(weights):
    return {f"module.{name}": value for name, value in weights.items()}


FORMS = {
    "plain": (lambda w: w, ""),
    "parallel": (parallel, ", names without 'module.'"),
    "checkpoint": (lambda w: {"epoch": 3, "state_dict": w, "optimizer": {"lr": 0.1}},
                   ", its 'state_dict'"),
    "both": (lambda w: {"model": parallel(w), "args": "--lr 1"},
             ", its 'model', names without 'module.'"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_file", [True, False])
def test_weights_are_found_and_it_is_said_where(torch, filled, make, tmp_path, form, as_file):
    wrap, told = FORMS[form]
    trained, module = make(seed=1), make()
    weights = wrap(trained.state_dict())
    if as_file:
        torch.save(weights, tmp_path / "birds.pth")
    copied, source, digest = filled(module, tmp_path / "birds.pth" if as_file else weights)
    assert same(copied, trained)
    assert not same(module, trained)
    assert source == ("birds.pth" if as_file else "Sequential (weights in memory)") + told
    assert len(digest) == 64


def test_hash_is_of_names_and_values(filled, make):
    digests = [filled(make(), make(seed=seed).state_dict())[2] for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.bias"), r'Missing key\(s\) in state_dict: "0.bias"'),
        (lambda w: w.update({"9.weight": w["0.bias"]}), r'Unexpected key\(s\).*"9.weight"'),
        (lambda w: w.update({"0.bias": w["0.bias"][:2]}), r"size mismatch for 0.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_listed(filled, make, change, message):
    module, weights = make(), make(seed=1).state_dict()
    change(weights)
    with pytest.raises(ValueError, match=rf"do not fit 'Sequential'.*{message}"):
        filled(module, weights)
    assert same(module, make())


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("legacy", [True, False])
def test_code_inside_a_file_is_never_run(torch, filled, make, tmp_path, legacy):
    trace, path = tmp_path / "it_ran", tmp_path / "bad.pt"
    weights = make().state_dict() | {"evil": Malicious(trace)}
    torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"'bad.pt' holds more than weights.*never run"):
        filled(make(), path)
    assert not trace.exists()
    # The twin: the file does run code where it is unpickled plainly.
    torch.load(path, weights_only=False)["evil"].close()
    assert trace.exists()


def test_bare_pickle_is_not_run_either(filled, make, tmp_path):
    trace, path = tmp_path / "it_ran", tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(ValueError, match="'bad.pkl'"):
        filled(make(), path)
    assert not trace.exists()


def test_whole_module_is_refused_with_advice(torch, filled, make, tmp_path):
    torch.save(make(), tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"more than weights.*module.state_dict\(\)"):
        filled(make(), tmp_path / "module.pt")


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
def test_cut_off_file_is_refused(torch, filled, make, tmp_path, fraction):
    torch.save(make().state_dict(), tmp_path / "birds.pt")
    content = (tmp_path / "birds.pt").read_bytes()
    (tmp_path / "birds.pt").write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match="'birds.pt' is cut off"):
        filled(make(), tmp_path / "birds.pt")


def test_archive_of_something_else_is_refused(filled, make, tmp_path):
    with zipfile.ZipFile(tmp_path / "birds.pt", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(ValueError, match="'birds.pt' is cut off, or no file of torch.save"):
        filled(make(), tmp_path / "birds.pt")


def test_file_without_weights_is_refused(torch, filled, make, tmp_path):
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "log.pt")
    with pytest.raises(ValueError, match=r"no weights that can be recognised.*'epoch', 'loss'"):
        filled(make(), tmp_path / "log.pt")


def test_missing_file_and_other_types_are_refused(torch, filled, make, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        filled(make(), tmp_path / "missing.pt")
    with pytest.raises(TypeError, match="must be a mapping"):
        filled(make(), 3)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(TypeError, match="must be a mapping"):
        filled(make(), tmp_path / "list.pt")


def test_legacy_file_cut_off_anywhere_is_said_to_be(torch, filled, tmp_path):
    module = torch.nn.Linear(3, 2)
    path = tmp_path / "old.pt"
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for length in range(1, len(content) - 1, 5):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"'old\.pt'"):
            filled(module, path)


def test_weights_by_numbers_instead_of_names_are_refused(torch, filled):
    with pytest.raises(ValueError, match=r"of which \[0\] are no tensors or no names"):
        filled(torch.nn.Linear(3, 2), {0: torch.zeros(3)})


def test_archive_that_unfolds_too_far_is_refused_unread(torch, filled, tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(100 * 2**20))
    with pytest.raises(ValueError, match=r"'bomb\.pt' unfolds too far.*104,857,600 bytes"):
        filled(torch.nn.Linear(3, 2), path)
