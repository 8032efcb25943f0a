"""One bundle with two versions of a student and another model, and a server over it."""

import keras
import pytest

from keras_amalgam import export


@pytest.fixture(scope="session")
def bundle(student, make_student, nested_student, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "bundle"
    export.to_serving(student, folder, images=images, top_k=2)
    export.to_serving(make_student(mean=0.5), folder, label="canary", images=images)
    export.to_serving(nested_student, folder, 7, name="open-size")
    return folder


@pytest.fixture(scope="session")
def server():
    # Imported late: the module needs TF Serving's definitions.
    import importlib.util
    import pathlib

    path = pathlib.Path(__file__).with_name("server.py")
    spec = importlib.util.spec_from_file_location("serving_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def serving(server, bundle):
    served = server.Serving(bundle)
    yield served
    served.close()


@pytest.fixture(scope="session")
def photos(images):
    """64 JPEG files in memory, and what Pillow decodes them to."""
    import io

    import numpy as np
    from PIL import Image

    contents = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])
    return contents, decoded


@pytest.fixture(scope="session")
def expected(student):
    """The Keras student's logits on images, as NumPy arrays."""

    def compute(images, model: keras.Model = student):
        return {head: logits.numpy() for head, logits in model(images, training=False).items()}

    return compute
