"""The artifact home as an artifact repository of MLflow's application. Importing this imports MLflow."""

from __future__ import annotations

import os
import posixpath
import shutil
from pathlib import Path

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from tracker.artifacts import safe_paths
from tracker.artifacts.local import LocalArtifacts
from tracker.mlflow_bridge.locations import PROXY, Locations
from tracker.server.mlflow.paths import checked


class HomeRepository(ArtifactRepository):  # type: ignore[misc]
    """The files below `mlflow-artifacts:/`."""

    def __init__(self, home: LocalArtifacts, locations: Locations) -> None:
        super().__init__(f"{PROXY}:/")
        self._home = home
        self._locations = locations

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files and folders in a folder, by their paths below the root."""
        whole = checked(path or "")
        owner, inner = self._locations.owner_of(whole)
        return [
            FileInfo(posixpath.join(whole, posixpath.basename(entry.path)), entry.is_dir, entry.size)
            for entry in sorted(self._home.entries(owner, inner), key=lambda entry: entry.path)
        ]

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a copy of a local file in a folder."""
        owner, inner = self._locations.owner_of(
            checked(posixpath.join(artifact_path or "", os.path.basename(local_file)))
        )
        self._home.put(owner, checked(inner, new=True), Path(local_file))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store copies of all files of a local folder in a folder."""
        root = Path(local_dir)
        for file in sorted(root.rglob("*")):
            if file.is_file() and not file.is_symlink():
                parent = file.relative_to(root).parent.as_posix()
                self.log_artifact(str(file), posixpath.join(artifact_path or "", "" if parent == "." else parent))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file, or a folder with its content."""
        owner, inner = self._locations.owner_of(checked(artifact_path or ""))
        self._home.delete(owner, inner)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        owner, inner = self._locations.owner_of(checked(remote_file_path))
        with safe_paths.open_file(self._home.root, owner, inner) as source, open(local_path, "wb") as target:
            shutil.copyfileobj(source, target)
