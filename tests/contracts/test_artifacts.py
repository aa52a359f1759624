"""What ArtifactHome promises, over every implementation."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.server_lab import free_port, served
from small_blocks import open_small

from tracker.artifacts.local import LocalArtifacts
from tracker.client.batch_builder import make_batch
from tracker.compose import make_transport, open_artifacts
from tracker.domain.errors import ArtifactError, InvalidValue, StoreUnavailable
from tracker.domain.frames import RunStarted
from tracker.domain.ports import ArtifactHome
from tracker.store.store import SqlRunStore


class ArtifactHomeContract:
    """The contract of ArtifactHome; heirs have the fixture `home_of_files`."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / "source.bin"
        path.write_bytes(os.urandom(3_000_000))
        return path

    def test_put_and_fetch(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """What is put comes back, byte for byte, under the URI and digest that put returned."""
        uri, digest = home_of_files.put("run", "a/b.bin", source)
        assert digest == hashlib.sha256(source.read_bytes()).hexdigest()
        for place in (uri, home_of_files.uri("run") + "/a/b.bin"):
            got = home_of_files.fetch(place, tmp_path / "got.bin", sha256=digest)
            assert got.read_bytes() == source.read_bytes()
        assert home_of_files.list("run") == ["a/b.bin"]

    def test_how_far_it_is(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """Who fetches hears how many bytes there are, rising to the whole."""
        uri, _ = home_of_files.put("run", "x", source)
        seen: list[int] = []
        home_of_files.fetch(uri, tmp_path / "got", on_progress=seen.append)
        assert seen == sorted(seen)
        assert (len(seen) > 1, seen[-1]) == (True, 3_000_000)

    def test_no_more_than_the_size_on_record(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """A file that has more bytes than were recorded is damaged; nothing of it is left."""
        uri, digest = home_of_files.put("run", "x", source)
        (tmp_path / "to").mkdir()
        with pytest.raises(ArtifactError, match="damaged: it has more than the 2999999 bytes"):
            home_of_files.fetch(uri, tmp_path / "to" / "got", sha256=digest, size=2_999_999)
        assert list((tmp_path / "to").iterdir()) == []
        got = home_of_files.fetch(uri, tmp_path / "to" / "got", sha256=digest, size=3_000_000)
        assert got.stat().st_size == 3_000_000

    def test_a_target_that_cannot_be(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """A folder in the place of the target is an error, and no part of the file is left."""
        uri, _ = home_of_files.put("run", "x", source)
        target = tmp_path / "got" / "inner"
        target.mkdir(parents=True)
        with pytest.raises(ArtifactError, match="inner"):
            home_of_files.fetch(uri, target)
        assert list(target.parent.iterdir()) == [target]

    def test_digest_in_the_path(self, home_of_files: ArtifactHome, source: Path) -> None:
        """`{sha256}` in a path is replaced by the digest, so that equal bytes are stored once."""
        first = home_of_files.put("run", "c/{sha256}.keras", source)
        assert home_of_files.put("run", "c/{sha256}.keras", source) == first
        assert home_of_files.list("run") == [f"c/{first[1]}.keras"]

    def test_a_source_that_is_final(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """What nobody writes to any more is stored as any other file, and stays when the source goes."""
        os.utime(source, (0, 0))
        before = source.read_bytes()
        uri, digest = home_of_files.put("run", "c/{sha256}", source, final=True)
        assert source.read_bytes() == before
        assert home_of_files.put("run", "c/{sha256}", source, final=True) == (uri, digest)
        source.unlink()
        assert home_of_files.fetch(uri, tmp_path / "got", sha256=digest).read_bytes() == before
        assert home_of_files.list("run") == [f"c/{digest}"]

    def test_put_again_replaces(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """Other bytes under the same path replace the old."""
        home_of_files.put("run", "x", source)
        source.write_bytes(b"new")
        uri, _ = home_of_files.put("run", "x", source)
        assert home_of_files.fetch(uri, tmp_path / "got").read_bytes() == b"new"

    def test_runs_are_apart(self, home_of_files: ArtifactHome, source: Path) -> None:
        """A run lists its own files alone; a run without files has none."""
        home_of_files.put("one", "x", source)
        assert home_of_files.list("two") == []

    def test_missing_source(self, home_of_files: ArtifactHome, tmp_path: Path) -> None:
        """A file that is gone is an error, and leaves nothing behind."""
        with pytest.raises(ArtifactError, match="cannot store 'x'"):
            home_of_files.put("run", "x", tmp_path / "gone")
        assert home_of_files.list("run") == []

    def test_names_that_can_never_be(self, home_of_files: ArtifactHome, source: Path) -> None:
        """A file where a folder would have to be, or a folder where the file would, is the name's fault, not the time's."""
        home_of_files.put("run", "notes", source)
        home_of_files.put("run", "folder/inner", source)
        for path in ("notes/first", "notes/a/b", "folder"):
            with pytest.raises(InvalidValue, match="path: cannot store"):
                home_of_files.put("run", path, source)
        assert home_of_files.list("run") == ["folder/inner", "notes"]

    def test_missing_file(self, home_of_files: ArtifactHome, tmp_path: Path) -> None:
        """Fetching what is not there is an error, and leaves nothing behind."""
        with pytest.raises(ArtifactError):
            home_of_files.fetch(home_of_files.uri("run") + "/gone", tmp_path / "got")
        assert not (tmp_path / "got").exists()

    def test_damaged_file(self, home_of_files: ArtifactHome, source: Path, tmp_path: Path) -> None:
        """Bytes that are not those that were recorded are not handed out."""
        uri, _ = home_of_files.put("run", "x", source)
        with pytest.raises(ArtifactError, match="damaged"):
            home_of_files.fetch(uri, tmp_path / "got", sha256="0" * 64)
        assert not (tmp_path / "got").exists()

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../x", "a//b", "./a", "a/.", "C:x", "a\\b", "a\0b", "a\nb", "x" * 501,
                                      "a/" + "x" * 256])  # fmt: skip
    def test_paths_that_lead_elsewhere(self, home_of_files: ArtifactHome, source: Path, path: str) -> None:
        """A path stays below the run's root, whatever is tried."""
        with pytest.raises(InvalidValue, match="path"):
            home_of_files.put("run", path, source)

    @pytest.mark.parametrize("run_id", ["", "..", "a/b", "a.b", "-a", "x" * 65])
    def test_run_ids_that_are_none(self, home_of_files: ArtifactHome, source: Path, run_id: str) -> None:
        """What is no run id names no folder."""
        with pytest.raises(InvalidValue, match="run_id"):
            home_of_files.put(run_id, "x", source)


class TestLocalArtifacts(ArtifactHomeContract):
    """A local folder."""

    @pytest.fixture
    def home_of_files(self, tmp_path: Path) -> ArtifactHome:
        return LocalArtifacts(tmp_path / "root with ü")

    def test_a_final_source_is_not_copied(self, tmp_path: Path, source: Path) -> None:
        """On one disk it gets a second name; its time is that of the moment, not of the source."""
        os.utime(source, (0, 0))
        home = LocalArtifacts(tmp_path / "home")
        for _ in range(2):
            home.put("run", "x", source, final=True)
        assert [file.name for file in (tmp_path / "home" / "run").iterdir()] == ["x"]
        stored = (tmp_path / "home" / "run" / "x").stat()
        assert stored.st_ino == source.stat().st_ino
        assert stored.st_mtime > 0

    def test_only_regular_files_are_fetched(self, tmp_path: Path) -> None:
        """A record may name anything: a device has no end, a FIFO nobody who writes to it."""
        (tmp_path / "to").mkdir()
        os.mkfifo(tmp_path / "fifo")
        for uri in ((tmp_path / "fifo").as_uri(), "file:///dev/zero", tmp_path.as_uri()):
            with pytest.raises(ArtifactError, match="is no file"):
                LocalArtifacts(Path("/")).fetch(uri, tmp_path / "to" / "got")
        assert list((tmp_path / "to").iterdir()) == []

    def test_full_disk_leaves_nothing_half_written(self, tmp_path: Path, source: Path) -> None:
        """When the disk takes no more, the file is not there at all, and the old one still is."""
        root = tmp_path / "root"
        LocalArtifacts(root).put("run", "x", Path(__file__))
        code = (
            "import resource, signal, sys; from pathlib import Path; from tracker.artifacts.local import LocalArtifacts\n"
            "from tracker.domain.errors import ArtifactError\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, -1))\n"
            "try: LocalArtifacts(Path(sys.argv[1])).put('run', 'x', Path(sys.argv[2]))\n"
            "except ArtifactError as error: print(error)\n"
        )
        assert resource.RLIMIT_FSIZE is not None
        done = subprocess.run([sys.executable, "-c", code, root, source], capture_output=True, text=True, check=True)
        assert "File too large" in done.stdout
        assert [p.name for p in (root / "run").iterdir()] == ["x"]
        assert (root / "run" / "x").read_bytes() == Path(__file__).read_bytes()

    def test_a_name_that_the_file_system_has_not(self, tmp_path: Path, source: Path) -> None:
        """Where names are ASCII, another name is refused, and nothing of the file is left."""
        code = (
            "import sys; from pathlib import Path; from tracker.artifacts.local import LocalArtifacts\n"
            "from tracker.domain.errors import InvalidValue\n"
            "assert sys.getfilesystemencoding() == 'ascii', sys.getfilesystemencoding()\n"
            "try: LocalArtifacts(Path(sys.argv[1])).put('run', 'gr\\u00f6\\u00dfe.txt', Path(sys.argv[2]))\n"
            "except InvalidValue as error: print(ascii(str(error)))\n"
        )
        ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "root", source],
            capture_output=True, text=True, check=True, env=ascii_only,
        )  # fmt: skip
        assert "cannot store 'gr\\xf6\\xdfe.txt'" in done.stdout
        assert list((tmp_path / "root" / "run").iterdir()) == []


class TestHttpArtifacts(ArtifactHomeContract):
    """A tracking server."""

    @pytest.fixture
    def store(self, store_url: str) -> Iterator[SqlRunStore]:
        with open_small(store_url) as store:
            yield store

    @pytest.fixture
    def home_of_files(self, store: SqlRunStore, tmp_path: Path) -> Iterator[ArtifactHome]:
        with served(store, LocalArtifacts(tmp_path / "root with ü")) as url:
            yield open_artifacts(url)

    def test_what_the_store_says_is_fetched(
        self, home_of_files: ArtifactHome, store: SqlRunStore, source: Path, tmp_path: Path
    ) -> None:
        """Who never put anything finds a file by the address that the server tells, and by the one that the store has."""
        uri, digest = home_of_files.put("run", "ü/b c.bin", source)
        with closing(make_transport(home_of_files.uri("run").partition("/api/")[0])) as transport:
            transport.send(
                make_batch("run", "w", [(1, RunStarted(1, "Default", "n", home_of_files.uri("run"), "h", 1))])
            )
        assert uri == f"{home_of_files.uri('run')}/%C3%BC/b%20c.bin"
        on_disk = f"{store.get_run('run').artifact_uri}/%C3%BC/b%20c.bin"
        other = open_artifacts(home_of_files.uri("run").partition("/api/")[0])
        for address in (uri, on_disk):
            assert other.fetch(address, tmp_path / "got.bin", sha256=digest).read_bytes() == source.read_bytes()
        with pytest.raises(ArtifactError, match="not a file of a run"):
            other.fetch("file:///etc/passwd", tmp_path / "got")

    def test_no_server_is_an_outage(self, source: Path, tmp_path: Path) -> None:
        """While the server is away everything is StoreUnavailable: the file is not to blame."""
        away = open_artifacts(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(StoreUnavailable):
            away.put("run", "x", source)
        with pytest.raises(StoreUnavailable):
            away.fetch(away.uri("run") + "/x", tmp_path / "got")
        with pytest.raises(StoreUnavailable):
            away.list("run")
