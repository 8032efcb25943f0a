"""Where the demo's embedded data lie."""

from importlib import resources
from pathlib import Path


def demo_data_dir() -> Path:
    """The folder of the embedded demo data, to be given as `data_dir`.

    It holds the TFDS data sets `demo_digits` and `demo_fashion` (splits `unlabelled` and `test`)
    and the demo's teachers.

    Raises:
        FileNotFoundError: If this installation came without them.

    Example:
        >>> digits = from_tfds("demo_digits", "unlabelled", demo_data_dir())
    """
    folder = Path(str(resources.files("keras_amalgam.data"))) / "demo"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The demo data are not installed. Received: nothing at '{folder}'. Install "
            "keras-amalgam from its wheel, or run `make demo-assets` in the repository."
        )
    return folder
