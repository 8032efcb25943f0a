"""`--canvas`, of the commands that take it, and what else is given in sides."""

from collections.abc import Sequence

from absl import flags

METHODS = ("resize", "pad", "crop")


def canvas_of(values: flags.FlagValues) -> tuple[int, int] | tuple[int, int, str] | None:
    """`--canvas` as height, width and, if given, the method; one number is both sides.

    Raises:
        ValueError: If it is something else.
    """
    if values.canvas is None:
        return None
    *words, last = values.canvas
    method = last.strip() if last.strip() in METHODS else None
    height, *width = sides_of(words if method else values.canvas) or [0]
    if len(width) > 1 or min([height, *width]) < 1:
        raise ValueError(
            f"--canvas wants HEIGHT,WIDTH or HEIGHT,WIDTH,METHOD, METHOD being one of "
            f"{', '.join(METHODS)}. Received: {','.join(values.canvas)}."
        )
    size = (height, width[0] if width else height)
    return (*size, method) if method else size


def sides_of(words: Sequence[str]) -> list[int]:
    """Whole numbers; 0 for each word that is not one."""
    return [int(word) if word.strip().isdecimal() else 0 for word in words]
