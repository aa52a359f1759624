"""Composition root: the one place that chooses the store, transport and artifact home for a URL."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

from tracker.artifacts.local import LocalArtifacts, path_of
from tracker.client.transport import StoreTransport
from tracker.domain.errors import InvalidStoreUrl, InvalidValue, NoStore
from tracker.domain.ports import ArtifactHome, RunReader, RunStore, Transport
from tracker.domain.store_url import SERVERS, parse, scheme_of, shown
from tracker.settings import block_points

if TYPE_CHECKING:
    from tracker.remote.store import HttpRunStore
    from tracker.store.store import SqlRunStore


def store_url(url: str, token: str | None = None) -> str:
    """`url` with a SQLite path made absolute, so that it means the same from any folder.

    A server's URL gets `token` as its password, unless it names a user. Cheap: imports nothing. Raises InvalidStoreUrl
    for a URL that cannot be a store's.
    """
    parsed = parse(url)
    if parsed.is_server and token and parsed.user is None:
        if not token.isascii() or not token.isprintable():
            raise InvalidValue("TRACKER_TOKEN", "it has characters that no token has", limit="printable ASCII")
        return replace(parsed, user="token", password=token).full
    if parsed.scheme != "sqlite":
        return parsed.full
    file = Path(unquote(parsed.path[1:])).absolute()
    if not file.parent.is_dir():
        raise InvalidStoreUrl(url, f"the folder {str(file.parent)!r} does not exist")
    if file.is_dir():
        raise InvalidStoreUrl(url, f"{str(file)!r} is a folder, not a database file")
    escaped = str(file).replace("%", "%25").replace("?", "%3F")
    return replace(parsed, path=f"/{escaped}").full


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite store, from a URL that `store_url` returned; None for other stores."""
    if not url.startswith("sqlite:///"):
        return None
    return Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))


def is_server(url: str) -> bool:
    """Whether the store at `url` is behind a tracking server."""
    return scheme_of(url) in SERVERS


def identity(url: str) -> str:
    """A store's URL without its password, for journals and for display."""
    return shown(url)


def open_sql_store(url: str, *, create: bool = True, recreate: bool = False) -> SqlRunStore:
    """Open the database at `url`, a URL that `store_url` returned; create it if missing, or raise NoStore.

    `create` decides which. With `recreate` a SQLite file that is deleted later is created again, too.
    """
    file = sqlite_file(url)
    if not create and file is not None and not file.exists():
        raise NoStore(shown(url))
    from tracker.store.store import SqlRunStore

    return SqlRunStore.open(url, create=create, recreate=recreate, block_points=block_points())


def open_store(url: str, token: str | None = None) -> RunStore:
    """Open the store at `url`, a server with `token`; create a database's schema if it has none."""
    return _open_store(store_url(url, token), create=True)


def open_existing_store(url: str, token: str | None = None) -> RunStore:
    """Open the store at `url` for reading, a server with `token`. Raises NoStore if nothing was recorded there yet."""
    return _open_store(store_url(url, token), create=False)


def _open_store(full: str, *, create: bool) -> RunStore:
    if not is_server(full):
        return open_sql_store(full, create=create)
    from tracker.remote.store import HttpRunStore

    return HttpRunStore.open(full)


def _server_store(url: str) -> HttpRunStore:
    from tracker.remote.store import HttpRunStore

    return HttpRunStore(url)


def make_transport(url: str, artifacts: ArtifactHome | None = None) -> Transport:
    """The transport of batches to the store at `url`; it connects when the first batch is sent.

    With `artifacts`, runs are stored in a database with their files there, whatever their journals say.
    """
    if is_server(url):
        return StoreTransport(lambda: _server_store(url))
    return StoreTransport(lambda: open_sql_store(url, recreate=True), artifacts)


def artifact_root(root: str | None, url: str) -> str:
    """URI of the folder for artifacts: `root`, else `tracker-artifacts/` next to the SQLite file or in this folder.

    A tracking server stores the files of its runs itself: then it is the server's URL.
    """
    if is_server(url):
        if root is not None:
            raise InvalidValue(
                "artifacts",
                f"{shown(root)!r}, but files of runs go to the server {identity(url)}",
                limit="none with a server",
            )
        return identity(url)
    if root is not None and "://" not in root and not root.startswith("file:"):
        return Path(root).absolute().as_uri()
    if root is not None:
        if urlsplit(root).scheme != "file":
            raise InvalidValue(
                "artifacts", f"{shown(root)!r} is not a place for artifacts", limit="a local folder or file:// URI"
            )
        return root
    file = sqlite_file(url)
    return ((file.parent if file else Path()) / "tracker-artifacts").absolute().as_uri()


def open_artifacts(root: str, url: str = "") -> ArtifactHome:
    """The artifact home at a URI that `artifact_root` returned for the store at `url`, with that URL's password."""
    if is_server(root):
        from tracker.remote.artifacts import HttpArtifacts

        return HttpArtifacts(url if identity(url) == root else root)
    return LocalArtifacts(path_of(root))


def artifacts_of(store: RunReader) -> ArtifactHome:
    """The artifact home of the files that an open store's records name; a server's uses the store's connection."""
    if is_server(store.url):
        return cast("HttpRunStore", store).files()
    return LocalArtifacts(Path("/"))  # a database's records name files by absolute path


def journal_route(store: str, artifacts: str, url: str) -> tuple[Transport, ArtifactHome] | None:
    """Transport and artifact home for a journal of `store` and `artifacts`; None unless `url` is that store.

    A SQLite file that was moved is still that store. Files meant for the default folder go to the one next to its new
    place.
    """
    if store != identity(url):
        if not _was_moved(store, url):
            return None
        artifacts = artifact_root(None, url) if artifacts == artifact_root(None, store) else artifacts
    home = open_artifacts(artifacts, url)
    return make_transport(url, home), home


def _was_moved(old: str, new: str) -> bool:
    """Whether the SQLite file at the URL `new` was moved from `old`, where no file is now."""
    before, now = sqlite_file(old), sqlite_file(new)
    if before is None or now is None or before.name != now.name or before.exists() or not now.exists():
        return False
    with closing(open_sql_store(new)) as store:
        return store.was_in(before.parent.as_uri())
