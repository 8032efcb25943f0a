"""A file of class names, as the flags `--classes` take it."""

from pathlib import Path

from keras_amalgam.cli import output


def class_lines(path: str) -> list[str]:
    """The classes in a text file, one per line.

    Args:
        path: The file; a mark of its encoding at its beginning, as editors on Windows write one,
            is no part of the first name.

    Raises:
        ValueError: If it is not a file of UTF-8 text, or a line is empty.
    """
    output.check_file(path, "classes")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--classes must be UTF-8 text. Received: {path}, which is not at byte {error.start}. "
            "Save it as UTF-8."
        ) from error
    names = [line.strip() for line in text.splitlines()]
    empty = [number for number, name in enumerate(names, 1) if not name]
    if empty or not names:
        raise ValueError(
            f"--classes must have one class on every line. Received: {path}, where "
            + (f"line {empty[0]} of {len(names)} is empty." if names else "there is no line.")
        )
    return names
