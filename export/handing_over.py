"""What an application does with a photograph before it hands it to an artifact."""

from typing import Any

MODES = {1: "L", 3: "RGB"}
"""Pillow's, by the number of channels."""
_CUT = "cut about the centre"


def handing_over(size: tuple[int, int] | None, channels: int, covers: bool) -> dict[str, Any]:
    """The steps, JSON-ready: in words, and as the line of Pillow that does them all.

    Args:
        size: `(height, width)` that the artifact takes; `None` for any.
        channels: The number of channels that the student takes.
        covers: Whether a photograph of another shape is cut about its centre, rather than squeezed.
    """
    steps: dict[str, Any] = {"orientation": "upright, as EXIF says", "size": None}
    line = f"ImageOps.exif_transpose(photo).convert({MODES.get(channels)!r})"
    if size is not None:
        height, width = size
        steps |= {
            "size": [height, width],
            "filter": "bilinear, antialiased, half-pixel centres",
            "other_shapes": _CUT if covers else "squeezed",
        }
        target = f"({width}, {height}), Image.Resampling.BILINEAR"
        if covers:
            line = f"ImageOps.fit({line}, {target})"
        else:
            line += f".resize({target})"
    return steps | ({"pillow": line} if channels in MODES else {})


def cuts_other_shapes(photograph: Any) -> bool:
    """Whether a photograph of another shape is cut, rather than squeezed.

    Args:
        photograph: What `handing_over` gave, read from an artifact; anything else says nothing.
    """
    return isinstance(photograph, dict) and photograph.get("other_shapes") == _CUT
