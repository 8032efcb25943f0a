"""Networks in files that no code of ours produced, exactly as their packages carry them."""

from collections.abc import Iterator

from tests.networks.catalogue import Network
from tests.networks.packages import Carried

_PADDLE = "rapidocr-onnxruntime==1.4.4"
_DDDD = "ddddocr==1.6.1"


def networks() -> Iterator[Network]:
    """See `catalogue.networks`."""
    yield _foreign(
        "text_angle",
        Carried(
            _PADDLE,
            "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ),
        "Apache-2.0",
        (48, 192),
    )
    yield _foreign(
        "text_detection",
        Carried(
            _PADDLE,
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        ),
        "Apache-2.0",
        (96, 160),
        other_size=(64, 96),
    )
    yield _foreign(
        "captcha_detection",
        Carried(
            _DDDD,
            "ddddocr/common_det.onnx",
            "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
        ),
        "MIT",
        (416, 416),
    )
    yield _foreign(
        "text_recognition",
        Carried(
            _PADDLE,
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        ),
        "Apache-2.0",
        (48, 320),
        blind=True,
    )
    yield _foreign(
        "body_parts",
        Carried(
            "nudenet==3.4.2",
            "nudenet/320n.onnx",
            "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
        ),
        "AGPL-3.0 by its licence files (MIT by its metadata); only the result is kept",
        (320, 320),
        blind=True,
    )


def _foreign(
    name: str,
    carried: Carried,
    licence: str,
    size: tuple[int, int],
    other_size: tuple[int, int] | None = None,
    blind: bool = False,
) -> Network:
    return Network(
        name=name,
        source=f"PyPI {carried.package}, {carried.member.rsplit('/', 1)[-1]}",
        licence=licence,
        size=size,
        writers={"as it comes": carried.fetch},
        other_size=other_size,
        text="Networks" if name.startswith("text") else "",
        foreign=True,
        blind=blind,
    )
