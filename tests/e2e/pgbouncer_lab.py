"""A real PgBouncer in transaction mode, without support for prepared statements, before the tests' PostgreSQL."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from e2e.children import eventually
from e2e.server_lab import free_port

PASSWORD = "p@/s?s #w:%6frd"
"""What everybody must say who comes through it."""
_UNPACKED = Path(sys.prefix) / "pgbouncer"


def through(postgres_url: str, port: int, *, more: str = "") -> str:
    """The URL of the same database through the PgBouncer on this port."""
    database = urlsplit(postgres_url).path
    return f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{port}{database}{more}"


@contextmanager
def pgbouncer(postgres: str, folder: Path) -> Iterator[int]:
    """PgBouncer before the server at `postgres`, and the port on which it listens.

    Each transaction gets the server connection that was idle the longest, so that what a client leaves behind in one
    is never there in its next.
    """
    sockets = Path(parse_qs(urlsplit(postgres).query)["host"][0])
    owner = pwd.getpwuid(sockets.stat().st_uid).pw_name
    port = free_port()
    users, config = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"postgres" "{PASSWORD}"\n')
    config.write_text(
        f"""
        [databases]
        * = host={sockets} port=5432 user=postgres
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = plain
        auth_file = {users}
        pool_mode = transaction
        default_pool_size = 6
        min_pool_size = 3
        server_round_robin = 1
        query_wait_timeout = 30
        {"user = " + owner if os.getuid() == 0 else ""}
        {"max_prepared_statements = 0" if _version() >= (1, 21) else ""}
        """.replace("        ", "")
    )
    for one in (folder, *folder.parents[:2]):
        one.chmod(one.stat().st_mode | 0o055)
    process = subprocess.Popen([_binary(), config], env=_environment(), stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        yield port
    finally:
        process.kill()
        process.communicate()


def _binary() -> str:
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin", str(_UNPACKED / "usr/sbin")))
    found = shutil.which("pgbouncer", path=path)
    assert found is not None, "no pgbouncer; `make test` installs one"
    return found


def _environment() -> dict[str, str]:
    libraries = os.pathsep.join(str(folder) for folder in _UNPACKED.glob("usr/lib/*"))
    return {**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else dict(os.environ)


def _version() -> tuple[int, int]:
    said = subprocess.run([_binary(), "--version"], env=_environment(), capture_output=True, text=True).stdout
    match = re.search(r"(\d+)\.(\d+)", said)
    assert match, said
    return int(match[1]), int(match[2])


def _listens(port: int) -> bool:
    with socket.socket() as opened:
        return opened.connect_ex(("127.0.0.1", port)) == 0
