"""URLs: what names a store, what is shown of it, where its files go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker import compose
from tracker.domain.errors import InvalidStoreUrl, InvalidValue
from tracker.settings import Settings


def test_sqlite_path_becomes_absolute(tmp_path: Path) -> None:
    """A relative path means the working directory's, wherever the journal is shipped from later."""
    assert compose.store_url("sqlite:///a.db") == f"sqlite:///{tmp_path / 'a.db'}"


def test_odd_folder_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A percent sign or question mark in a folder's name is part of the name, in the store and in the artifacts."""
    odd = tmp_path / "a%20b?c d"
    odd.mkdir()
    monkeypatch.chdir(odd)
    url = compose.store_url("sqlite:///t.db")
    assert compose.store_url(url) == url
    compose.open_store(url).close()
    assert (odd / "t.db").exists()
    assert compose.sqlite_file(url) == odd / "t.db"
    assert compose.artifact_root(None, url) == (odd / "tracker-artifacts").as_uri()


@pytest.mark.parametrize(("url", "said"), [
    ("sqllite:///a.db", "did you mean 'sqlite'"), ("postgres://h/db", "did you mean 'postgresql'"), ("a.db", "not a kind of store"),
    ("sqlite://a.db", "three slashes"), ("sqlite:///", "three slashes"), ("sqlite:///:memory:", "three slashes"),
    ("sqlite:////no/such/folder/a.db", "folder '/no/such/folder' does not exist"), ("sqlite:////tmp", "is a folder"),
    ("http://", "a host belongs"), ("https:///x", "a host belongs"), ("http://h:x", "the port is not a number"), ("http://h:99999", "from 0 to 65535"),
    ("http://u:secret@h?x=1", "nothing belongs behind"), ("http://h#x", "nothing belongs behind"), ("http://a b", "a host belongs"),
    ("http://" + "h" * 64 + ".example", "label"), ("htp://h", "did you mean 'http'"),
    ("mysql://h/db", "not a kind of store"), ("", "not a kind of store"), ("postgresql://u:secret@[h/db", "the host cannot be read"),
])  # fmt: skip
def test_what_is_no_store(url: str, said: str) -> None:
    """The message says what is wrong with the URL and what one looks like."""
    with pytest.raises(InvalidStoreUrl, match=said) as caught:
        compose.store_url(url)
    assert "sqlite:///path or postgresql://" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("url", "shown"), [
    ("postgresql://u:p@h:5432/db", "postgresql://u@h:5432/db"), ("postgresql://h/db?password=p&sslmode=allow", "postgresql://h/db?sslmode=allow"),
    ("http://u:p@h:5000/x", "http://h:5000/x"), ("https://p@h", "https://h"), ("sqlite:////a/b c.db", "sqlite:////a/b c.db"), ("postgresql://u:p@w@h/db", "postgresql://u@h/db"),
])  # fmt: skip
def test_passwords_are_kept_out(url: str, shown: str) -> None:
    """What a journal keeps, and what may be shown, has no password in it."""
    assert compose.identity(url) == shown


@pytest.mark.parametrize(("url", "normal"), [
    ("HTTP://Tracker.Example:80/", "http://tracker.example:80"), ("https://u:P%40@H", "https://u:P%40@h"),
    ("http://[::1]:5000/ml/", "http://[::1]:5000/ml"), ("http://h/ü", "http://h/%C3%BC"),
])  # fmt: skip
def test_address_of_a_server_has_one_form(url: str, normal: str) -> None:
    """Journals of one server are for one server, however its address was typed."""
    assert compose.store_url(url) == normal
    assert compose.store_url(normal) == normal


def test_a_server_keeps_the_files_of_its_runs() -> None:
    """Files go to the server, with its password, under a root that shows none; another place cannot be named."""
    url = "http://u:p@h:5000"
    assert compose.artifact_root(None, url) == "http://h:5000"
    assert compose.open_artifacts("http://h:5000", url).uri("r") == "http://h:5000/api/v1/runs/r/artifacts"
    with pytest.raises(InvalidValue, match="files of runs go to the server http://h:5000"):
        compose.artifact_root("/mnt/files", url)


def test_artifacts_stand_beside_the_database(tmp_path: Path) -> None:
    """By default files go next to the SQLite file; a folder or file URI may be named."""
    assert compose.artifact_root(None, "sqlite:////a/b.db") == "file:///a/tracker-artifacts"
    assert compose.artifact_root(None, "sqlite:////a%20b/t.db") == "file:///a%20b/tracker-artifacts"
    assert compose.artifact_root("x", "sqlite:////a/b.db") == (tmp_path / "x").as_uri()
    assert compose.artifact_root("file:///x", "sqlite:////a/b.db") == "file:///x"
    with pytest.raises(InvalidValue, match="local folder"):
        compose.artifact_root("s3://bucket", "sqlite:////a/b.db")


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    """Variables are read when asked for; an empty one counts as unset."""
    settings = Settings.from_environment({"TRACKER_HOME": "h", "TRACKER_STORE": "", "TRACKER_MODE": "offline"})
    assert (settings.home, settings.store, settings.mode) == (tmp_path / "h", "sqlite:///tracker.db", "offline")
    with pytest.raises(InvalidValue, match="TRACKER_MODE.*'off'.*online, offline, disabled"):
        Settings.from_environment({"TRACKER_MODE": "off"})


@pytest.mark.parametrize(("url", "full"), [
    ("http://h:5000/x", "http://token:trk_a%2Fb@h:5000/x"), ("https://u:p@h", "https://u:p@h"), ("http://[::1]:5000", "http://token:trk_a%2Fb@[::1]:5000"),
    ("postgresql://u@h/db", "postgresql://u@h/db"),
])  # fmt: skip
def test_token_goes_to_servers_alone(url: str, full: str) -> None:
    """TRACKER_TOKEN is a server's password, unless the URL names a user; it is in nothing that is shown or kept."""
    settings = Settings.from_environment({"TRACKER_TOKEN": "trk_a/b"})
    assert "trk_" not in repr(settings)
    assert compose.store_url(url, settings.token) == full
    assert compose.store_url(compose.store_url(url, settings.token), settings.token) == full
    assert "trk_" not in compose.identity(full)
    with pytest.raises(InvalidStoreUrl) as caught:
        compose.store_url(f"{url}?x=1#y" if url.startswith("http") else "", settings.token)
    assert "trk_" not in str(caught.value)


@pytest.mark.parametrize(("text", "count"), [
    ("", 2 * 1024**3), ("0", 0), ("1234", 1234), ("500MB", 500_000_000), ("1.5 GiB", 3 * 1024**3 // 2), ("10kb", 10_000),
    ("lots", None), ("-1", None), ("5 parsec", None), ("1e9", None), ("99999999TB", None),
])  # fmt: skip
def test_the_checkpoint_budget_is_a_number_of_bytes(text: str, count: int | None) -> None:
    """Bytes, or a number with a unit; what is neither is refused with what can be written."""
    environment = {"TRACKER_CHECKPOINT_BUDGET": text}
    if count is not None:
        assert Settings.from_environment(environment).checkpoint_budget == count
        return
    with pytest.raises(InvalidValue, match=r"TRACKER_CHECKPOINT_BUDGET: .*500MB, 2GiB"):
        Settings.from_environment(environment)
