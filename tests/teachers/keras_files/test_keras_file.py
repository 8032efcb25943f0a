"""Keras files are untrusted: no code, no other files, no more bytes than they may hold."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_amalgam import teachers
from keras_amalgam.files.keras_bounds import check_file

# Keras says that HDF5 files are legacy; here they are the input.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 9, 8, 3)).astype(np.float32)


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name="birds")


def leave_a_trace(x, path):
    import pathlib

    pathlib.Path(path).touch()
    return x


def with_lambda(trace, nested):
    """A model with a Lambda that leaves a trace when it is run or called, perhaps further in."""
    inputs = keras.Input((4,))
    path = str(trace)
    code = keras.layers.Lambda(lambda x: leave_a_trace(x, path), output_shape=(4,), name="evil")
    if nested:
        inner = keras.Sequential([keras.Input((4,)), code], name="inner")
        code = keras.layers.TimeDistributed(inner, name="outer")
        x = keras.layers.Reshape((1, 4))(inputs)
        model = keras.Model(inputs, code(x))
    else:
        model = keras.Model(inputs, code(inputs))
    trace.unlink(missing_ok=True)
    return model


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_is_refused_at_any_depth(tmp_path, suffix, nested):
    trace = tmp_path / "it_ran"
    with_lambda(trace, nested).save(tmp_path / f"bad{suffix}")
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"'evil' is a Lambda.*safe_mode=False"):
        teachers.from_keras(tmp_path / f"bad{suffix}")
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_is_loaded_where_safe_mode_is_given_up_by_hand(tmp_path, suffix):
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(lambda x: 3 * x, output_shape=(4,))(inputs)
    keras.Model(inputs, outputs).save(tmp_path / f"own{suffix}")
    model = teachers.from_keras(tmp_path / f"own{suffix}", safe_mode=False)
    np.testing.assert_array_equal(model(np.ones((1, 4))), 3 * np.ones((1, 4)))


def test_lambda_in_memory_needs_safe_mode_given_up_to_be_read_again():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x, output_shape=(4,))(inputs))
    with pytest.raises(ValueError, match="is a Lambda"):
        teachers.from_keras(model)
    assert teachers.from_keras(model, safe_mode=False) is model


def rewritten(path, change):
    """Change the configuration inside a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def file(tmp_path):
    """A .keras file."""
    path = tmp_path / "birds.keras"
    network().save(path)
    return path


def layer_of(config, name):
    return next(x for x in config["config"]["layers"] if x["config"]["name"] == name)


@pytest.mark.parametrize("hidden", ["TFSMLayer", "TorchModuleWrapper", "JaxLayer"])
def test_layer_that_refers_to_code_is_refused(file, hidden):
    rewritten(file, lambda config: layer_of(config, "pool").update(class_name=hidden))
    with pytest.raises(ValueError, match=f"'pool' is a {hidden}"):
        teachers.from_keras(file)


def test_lambda_under_another_name_is_refused(file):
    def change(config):
        layer_of(config, "pool").update(class_name="Pool", registered_name="keras>Lambda")

    rewritten(file, change)
    with pytest.raises(ValueError, match="'pool' is a Lambda"):
        teachers.from_keras(file)


def test_function_of_another_module_is_not_looked_up(file, tmp_path):
    trace = tmp_path / "it_ran"

    def change(config):
        layer_of(config, "conv")["config"]["activation"] = {
            "module": "os", "class_name": "function", "config": "mkdir", "registered_name": "mkdir",
        }  # fmt: skip
        layer_of(config, "pool")["module"] = str(trace)

    rewritten(file, change)
    with pytest.raises(ValueError, match="Keras cannot load 'birds.keras'"):
        teachers.from_keras(file)
    assert not trace.exists()


def test_vocabulary_beside_the_file_is_not_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("word\n")
    inputs = keras.Input((1,), dtype="string")
    outputs = keras.layers.StringLookup(vocabulary=["a"], name="lookup")(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "words.keras")

    def change(config):
        layer_of(config, "lookup")["config"]["vocabulary"] = str(secret)

    rewritten(tmp_path / "words.keras", change)
    with pytest.raises(ValueError, match="Keras cannot load 'words.keras'"):
        teachers.from_keras(tmp_path / "words.keras")


def test_configuration_that_asks_for_endless_weights_is_refused(file):
    """Of 1e15 bytes, more than any address space: TensorFlow would try for ten seconds."""

    def change(config):
        layer_of(config, "conv")["config"]["filters"] = 10**13

    rewritten(file, change)
    with pytest.raises(ValueError, match="asks for weights.*1,120,000,000,000,100 bytes"):
        teachers.from_keras(file)


@pytest.mark.parametrize("text", [b"{", b"[" * 200_000, b"\xff\xfe", b"null", b"[]", b'"Model"'])
def test_configuration_that_is_none_is_refused(file, text):
    with zipfile.ZipFile(file) as archive:
        weights = archive.read("model.weights.h5")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", weights)
    with pytest.raises(ValueError, match=r"'birds.keras'"):
        teachers.from_keras(file)


def add_member(path, name, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr(name, content)


def test_member_that_unfolds_to_much_more_is_refused_before_it_is_read(file, monkeypatch):
    add_member(file, "assets/bomb", b"\0" * 80_000_000, zipfile.ZIP_DEFLATED)
    opened = []
    read = zipfile.ZipFile.open
    monkeypatch.setattr(
        zipfile.ZipFile, "open", lambda self, *a, **k: opened.append(a) or read(self, *a, **k)
    )
    with pytest.raises(ValueError, match=r"'assets/bomb' is too large.*80,000,000 bytes"):
        teachers.from_keras(file)
    assert opened == []


def test_member_that_is_large_and_whole_is_read(file):
    add_member(file, "assets/notes", bytes(200_000), zipfile.ZIP_STORED)
    assert teachers.from_keras(file, verify=False).name == "birds"


@pytest.mark.parametrize("extra", [b"", b"\x99\x99\x04\x00four"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_weights_are_read_wherever_they_lie_in_the_archive(file, compression, extra):
    expected = teachers.from_keras(file)(IMAGES)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("assets/first.txt", "in front of the others")
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.extra = compression, extra
            archive.writestr(info, content)
    np.testing.assert_array_equal(teachers.from_keras(file)(IMAGES), expected)


def test_checking_an_archive_does_not_read_it_again_at_each_step_back(file, monkeypatch):
    """The weights of 60 layers were read 34 times over, as `zipfile` takes each step back."""
    layers = [keras.layers.Dense(8) for _ in range(60)]
    keras.Sequential([keras.Input((8,)), *layers]).save(file)
    read, count = zipfile.ZipExtFile.read, 0

    def counted(stream, n=-1):
        nonlocal count
        content = read(stream, n)
        count += len(content)
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    check_file(file)
    assert count <= 1.1 * file.stat().st_size


def broken_list(content):
    """The list of members, behind them, does not begin as one."""
    return content.replace(b"PK\x01\x02", b"PK\x00\x02", 1)


def name_of_no_text(content):
    """A member's name is marked as UTF-8 and is none."""
    start = content.index(b"PK\x01\x02")
    flagged = content[: start + 9] + b"\x08" + content[start + 10 :]
    name = flagged.index(b"metadata.json", start)
    return flagged[:name] + b"\xff" + flagged[name + 1 :]


@pytest.mark.parametrize("damage", [broken_list, name_of_no_text])
def test_archive_whose_members_cannot_be_listed_is_refused(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    assert zipfile.is_zipfile(file)
    with pytest.raises(ValueError, match=r"'birds.keras' is cut off or damaged"):
        teachers.from_keras(file)


@pytest.mark.parametrize("name", ["/etc/escaped", "../escaped", "assets/../../escaped"])
def test_member_outside_the_archive_is_refused(file, name):
    add_member(file, name, b"escaped")
    with pytest.raises(ValueError, match=r"no archive that Keras writes.*escaped"):
        teachers.from_keras(file)
    assert not (file.parent.parent / "escaped").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice_is_refused(file):
    add_member(file, "config.json", b"{}")
    with pytest.raises(ValueError, match="no archive that Keras writes"):
        teachers.from_keras(file)


def hdf5(tmp_path):
    network().save(tmp_path / "birds.h5")
    return tmp_path / "birds.h5", "model_weights/conv/conv/kernel"


def replaced(path, name, make):
    """Put something else in an array's place."""
    with h5py.File(path, "r+") as file:
        value = file[name][()]
        del file[name]
        make(file, name, value)


def external(file, name, value):
    other = file.filename + ".other"
    value.tofile(other)
    places = [(other, 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, value.shape, value.dtype, external=places)


def virtual(file, name, value):
    other = file.filename + ".other"
    with h5py.File(other, "w") as source:
        source["kernel"] = value
    layout = h5py.VirtualLayout(value.shape, value.dtype)
    layout[...] = h5py.VirtualSource(other, "kernel", value.shape)
    file.create_virtual_dataset(name, layout)


def external_link(file, name, value):
    other = file.filename + ".other"
    with h5py.File(other, "w") as source:
        source["kernel"] = value
    file[name] = h5py.ExternalLink(other, "kernel")


def soft_link(file, name, value):
    file["elsewhere"] = value
    file[name] = h5py.SoftLink("/elsewhere")


@pytest.mark.parametrize("make", [external, virtual, external_link, soft_link])
@pytest.mark.parametrize("as_weights", [False, True])
def test_array_in_another_file_is_never_read(tmp_path, make, as_weights):
    path, name = hdf5(tmp_path)
    replaced(path, name, make)
    options = {"architecture": network()} if as_weights else {}
    with pytest.raises(ValueError, match=r"in another file or place"):
        teachers.from_keras(path, **options)


def test_array_that_is_only_replaced_is_read(tmp_path):
    path, name = hdf5(tmp_path)
    replaced(path, name, lambda file, name, value: file.create_dataset(name, data=2 * value))
    kernel = teachers.from_keras(path).get_layer("conv").kernel
    np.testing.assert_array_equal(kernel, 2 * network().get_layer("conv").kernel)


def test_array_that_declares_more_than_it_stores_is_refused(tmp_path):
    path, name = hdf5(tmp_path)

    def declare(file, name, value):
        file.create_dataset(name, (10**6, 10**4), "f4", chunks=(1, 10**4), compression="gzip")

    replaced(path, name, declare)
    with pytest.raises(ValueError, match=r"too large.*40,0\d\d,\d\d\d,\d\d\d bytes"):
        teachers.from_keras(path)


def test_weights_inside_an_archive_are_checked_as_well(file, tmp_path):
    inner = tmp_path / "model.weights.h5"
    with zipfile.ZipFile(file) as archive:
        config = archive.read("config.json")
        archive.extract("model.weights.h5", tmp_path)
    replaced(inner, "layers/conv2d/vars/0", external_link)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", config)
        archive.write(inner, "model.weights.h5")
    with pytest.raises(ValueError, match="in another file or place"):
        teachers.from_keras(file)
