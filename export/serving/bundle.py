"""The folder that a TF Serving server watches: its versions and its configuration."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_amalgam.export.labels import Labels, read_labels
from keras_amalgam.export.serving.protos import serving_protos

try:
    import fcntl
except ImportError:  # Not on Windows, where two exports at once are not told apart.
    fcntl = None

CONFIG = "models.config"
BATCHING = "batching_params.pbtxt"
SERVED_AT = "/models"
"""Where the server sees the bundle, as in the command of its README."""
MAX_BATCH = 64

_BATCHING = f"""\
# For --batching_parameters_file: requests that arrive within a millisecond share a call. Written
# once and never replaced: tune it. num_batch_threads should be the server's number of cores.
max_batch_size {{ value: {MAX_BATCH} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 4 }}
"""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle and one model in it.

    Attributes:
        directory: The bundle.
        name: The model's name.
    """

    directory: Path
    name: str

    @property
    def base(self) -> Path:
        """The folder of the model's versions."""
        return self.directory / self.name

    def versions(self) -> list[int]:
        """The versions that are there, in ascending order."""
        return sorted(self.folders())

    def folders(self) -> dict[int, Path]:
        """Version to its folder, whose name may begin with zeros."""
        if not self.base.is_dir():
            return {}
        entries = (entry for entry in self.base.iterdir() if entry.is_dir())
        return {int(entry.name): entry for entry in entries if entry.name.isdecimal()}

    def models(self) -> dict[str, Labels]:
        """Every model that this package put there, with the labels of its newest version."""
        models = {}
        for folder in sorted(self.directory.iterdir()):
            if versions := Bundle(self.directory, folder.name).folders():
                with contextlib.suppress(ValueError):  # Somebody else's has no such labels.
                    models[folder.name] = read_labels(versions[max(versions)])
        return models

    def configuration(self) -> Any:
        """`models.config` as TF Serving's message; empty if there is none.

        Raises:
            ValueError: If the file is not one.
        """
        from google.protobuf import text_format

        config = serving_protos().model_server_config_pb2.ModelServerConfig()
        path = self.directory / CONFIG
        if path.exists():
            try:
                text_format.Parse(path.read_text(encoding="utf-8"), config)
            except (text_format.ParseError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"The bundle's configuration cannot be read. Received: '{path}' ({error}). "
                    "Expected: a ModelServerConfig in text form. Mend it, or choose another "
                    "directory."
                ) from error
        if config.WhichOneof("config") == "custom_model_config":
            raise ValueError(
                f"The bundle's configuration is of a custom kind. Received: '{path}'. Expected: a "
                "ModelServerConfig with a model_config_list. Choose another directory."
            )
        return config

    def labels(self) -> dict[str, int]:
        """The version labels of the model that point to versions which are there."""
        there = set(self.versions())
        entries = self.configuration().model_config_list.config
        return {
            label: version
            for entry in entries
            if entry.name == self.name
            for label, version in entry.version_labels.items()
            if version in there
        }

    def texts(self, version: int, labels: dict[str, int]) -> dict[str, str]:
        """The configuration with a new version, as file name to content.

        In `models.config` the newest versions of this model are served, down to the oldest that is
        labelled and one more. By that one a running server loads the next version as soon as its
        folder is there, before it reads the configuration again: it refuses to move a label to a
        version that it has not loaded. Other models' entries stay as they are, and of this one
        what an operator set by hand. `batching_params.pbtxt` is there only if the bundle has none.

        Args:
            version: The new version's number.
            labels: Version label to version.
        """
        from google.protobuf import text_format

        config = self.configuration()
        entries = config.model_config_list.config
        entry = next((entry for entry in entries if entry.name == self.name), None)
        if entry is None:
            entry = entries.add(
                name=self.name, base_path=f"{SERVED_AT}/{self.name}", model_platform="tensorflow"
            )
        self._serve(entry.model_version_policy, version, labels)
        entry.version_labels.clear()
        entry.version_labels.update(labels)
        texts = {CONFIG: text_format.MessageToString(config)}
        return texts if (self.directory / BATCHING).exists() else texts | {BATCHING: _BATCHING}

    def _serve(self, policy: Any, version: int, labels: dict[str, int]) -> None:
        """Lets the server load what it needs; an operator's policy only gains versions."""
        there = {version, *self.versions()}
        kind = policy.WhichOneof("policy_choice") or "latest"
        if kind == "latest":
            down_to_oldest = sum(one >= min(labels.values()) for one in there)
            policy.latest.num_versions = max(policy.latest.num_versions, down_to_oldest + 1)
        elif kind == "specific":
            served = sorted(there & {*policy.specific.versions, *labels.values()})
            policy.specific.versions[:] = served

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until no other export writes into the bundle; its folder has to be there.

        The lock is the operating system's and ends with the process, however that ends.
        """
        if fcntl is None:
            yield
            return
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def prune(self, keep: int, labels: dict[str, int]) -> list[int]:
        """Removes all but the newest `keep` versions; labelled ones stay.

        Each vanishes in one step, so that no server sees a part of it.

        Returns:
            The versions that were removed.
        """
        removed = [v for v in self.versions()[:-keep] if v not in labels.values()]
        for version in removed:
            aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.base))
            self.folders()[version].rename(aside / str(version))
            shutil.rmtree(aside)
        return removed
