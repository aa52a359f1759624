"""Store URLs: one parser for those that are used and for the form that is shown.

    sqlite:///path[?options]
    postgresql://[user[:password]@][host[:port],…][/database][?options]
    http(s)://[user[:password]@]host[:port][/prefix]

User and password end at the last `@` before the first `/` or `?` (with servers `#` too). A later `@` may be part of a
password that should have been percent-encoded, so it is refused, and nothing of such a URL is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import IPv6Address
from urllib.parse import quote, unquote_to_bytes

from tracker.domain.errors import InvalidStoreUrl
from tracker.domain.store_options import POSTGRES, SQLITE, is_secret, may_be_shown, problem_of

DATABASES = ("sqlite", "postgresql")
SERVERS = ("http", "https")
SCHEMES = (*DATABASES, *SERVERS)

HIDDEN = "…"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}")
_HOST = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>.*))?", re.DOTALL)
_SUSPECT = re.compile(r"[@?#:%=&\x00-\x1f]")
"""Characters that may belong to a password in a URL that cannot be parsed."""
_CREDENTIALS = re.compile(r"(://)[^\s/@:]*:\S*@")
_FILES = (".db", ".sqlite", ".sqlite3")
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The parts of a URL. `user`, `password` and `pairs` (the options) are decoded, `place` and `path` as typed.

    `place` is the host and port, for PostgreSQL perhaps several; `path` is what follows it, the `/` included.
    """

    scheme: str
    place: str = ""
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    pairs: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_server(self) -> bool:
        """Whether it is the URL of a tracking server."""
        return self.scheme in SERVERS

    @property
    def options(self) -> dict[str, str]:
        """The options after the `?`, decoded."""
        return dict(self.pairs)

    @property
    def shown(self) -> str:
        """The URL without its secrets and without a server's user: what journals keep, and what may be shown."""
        user = "" if self.is_server or self.user is None else f"{quote(self.user, safe='')}@"
        return f"{self.scheme}://{user}{self.place}{self.path}{self._query(only_shown=True)}"

    @property
    def full(self) -> str:
        """The URL with all its parts."""
        user = "" if self.user is None else quote(self.user, safe="")
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        at = "@" if self.user is not None else ""
        return f"{self.scheme}://{user}{password}{at}{self.place}{self.path}{self._query(only_shown=False)}"

    def _query(self, *, only_shown: bool) -> str:
        known = _KNOWN.get(self.scheme, {})
        pairs = [
            f"{quote(name, safe='')}={quote(value, safe='/:,')}"
            for name, value in self.pairs
            if not only_shown or may_be_shown(name, known)
        ]
        return f"?{'&'.join(pairs)}" if pairs else ""


_KNOWN = {"sqlite": SQLITE, "postgresql": POSTGRES}


def parse(text: str) -> StoreUrl:
    """The parts of a URL. InvalidStoreUrl says what is wrong, and shows nothing secret."""
    found = _split(text)
    if isinstance(found, str):
        raise InvalidStoreUrl(text, found)
    beside_secret = any(is_secret(name) for name, _ in found.pairs)
    for name, value in found.pairs:
        if problem := problem_of(name, value, _KNOWN[found.scheme], beside_secret=beside_secret):
            raise InvalidStoreUrl(found.shown, problem)
    return found


def shown(text: str) -> str:
    """Any URL in the form that may be shown; if it cannot be parsed, only the parts that are surely no secret."""
    found = _split(text)
    if isinstance(found, StoreUrl):
        return found.shown
    scheme, separator, rest = text.partition("://")
    if separator and not _SCHEME.fullmatch(scheme):
        return HIDDEN
    if _SUSPECT.search(rest if separator else text) or len(text) > _LONGEST:
        return f"{scheme}://{HIDDEN}" if separator else HIDDEN
    return text


def without_passwords(text: str) -> str:
    """Any text, with user and password of the URLs in it taken out if there is a password."""
    return _CREDENTIALS.sub(rf"\1{HIDDEN}@", text)


def scheme_of(text: str) -> str:
    """The scheme in lower case, without the name of a driver (`postgresql+psycopg`); "" if there is none."""
    scheme, separator, _ = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return ""
    base, _, driver = scheme.lower().partition("+")
    return base if not driver or base in DATABASES else scheme.lower()


def _split(text: str) -> StoreUrl | str:
    """The parts, or what is wrong with the URL in words that contain nothing of it."""
    scheme = scheme_of(text)
    if scheme not in SCHEMES:
        return _no_store(text, scheme)
    rest = text.partition("://")[2]
    try:
        return _SPLIT[scheme](scheme, rest)
    except _Wrong as wrong:
        return str(wrong)


class _Wrong(Exception):
    """The problem of a URL, in words that contain nothing of it."""


def _split_sqlite(scheme: str, rest: str) -> StoreUrl:
    path, _, query = rest.partition("?")
    if not path.startswith("/") or path in ("/", "/:memory:"):
        near = path.strip("/") if not _SUSPECT.search(rest) else ""
        hint = f"; did you mean 'sqlite:///{near}'?" if near else ""
        raise _Wrong(f"three slashes and a path belong behind sqlite:{hint}")
    return StoreUrl(scheme, path=path, pairs=_pairs(query))


def _split_postgres(scheme: str, rest: str) -> StoreUrl:
    user, password, place, rest = _authority(rest, "/?")
    path, _, query = rest.partition("?")
    for one in place.split(","):
        _check_host(one)
    _decoded(path, "name of the database")
    return StoreUrl(scheme, place, path, user, password, _pairs(query))


def _split_server(scheme: str, rest: str) -> StoreUrl:
    user, password, place, rest = _authority(rest, "/?#")
    host, port = _check_host(place)
    if not host or any(character.isspace() or not character.isprintable() for character in place + rest):
        raise _Wrong("a host belongs behind the two slashes")
    if "?" in rest or "#" in rest:
        raise _Wrong("nothing belongs behind the server's address, no '?' and no '#'")
    try:
        host.strip("[]").encode("idna")
    except UnicodeError:
        raise _Wrong("the name of the host has an empty label, or one that is too long") from None
    place = host.lower() + (f":{port}" if port else "")
    return StoreUrl(scheme, place, quote(rest.rstrip("/"), safe="/%"), user, password)


_SPLIT: dict[str, Callable[[str, str], StoreUrl]] = {
    "sqlite": _split_sqlite, "postgresql": _split_postgres, "http": _split_server, "https": _split_server,
}  # fmt: skip


def _authority(text: str, ends: str) -> tuple[str | None, str | None, str, str]:
    """User, password, host and port, and the rest."""
    end = min(text.find(sign) for sign in ends if sign in text) if set(ends) & set(text) else len(text)
    authority, rest = text[:end], text[end:]
    if "@" in rest:
        raise _Wrong(
            "an '@' behind the host is written %40; in a user or password '/' is written %2F, '?' %3F, '#' %23, '@' %40"
        )
    who, at, place = authority.rpartition("@")
    name, colon, password = who.partition(":")
    user = _decoded(name, "user") if at else None
    return user, _decoded(password, "password") if colon else None, place, rest


def _check_host(text: str) -> tuple[str, str]:
    """Host, perhaps in brackets, and port, perhaps ""."""
    match = _HOST.fullmatch(text)
    if match is None:
        raise _Wrong("the host cannot be read; an IPv6 address is written in brackets")
    host, port = match["host"], match["port"] or ""
    if host.startswith("["):
        try:
            IPv6Address(host[1:-1])
        except ValueError:
            raise _Wrong("the text in brackets is not an IPv6 address") from None
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise _Wrong("the port is not a number from 0 to 65535; an IPv6 address is written in brackets")
    return host, port


def _pairs(query: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise _Wrong("options are written name=value, with '&' between them")
        name = _decoded(name, "name of an option")
        if name in found:
            raise _Wrong(
                "an option is given twice" + ("; several are written host1,host2" if name in ("host", "port") else "")
            )
        found[name] = _decoded(value, "value of an option")
    return tuple(found.items())


def _decoded(text: str, what: str) -> str:
    try:
        found = unquote_to_bytes(text).decode()
    except ValueError:  # a UnicodeError, of the text or of what it stands for
        raise _Wrong(f"the {what} is not UTF-8") from None
    if "\0" in found:
        raise _Wrong(f"the {what} has a NUL")
    return found


def _no_store(text: str, scheme: str) -> str:
    if scheme:
        near = get_close_matches(scheme, (*SCHEMES, "postgres"), n=1, cutoff=0.6)
        meant = "postgresql" if near == ["postgres"] else near[0] if near else ""
        return f"{scheme!r} is not a kind of store" + (f"; did you mean {meant!r}?" if meant else "")
    begin, colon, behind = text.partition(":")
    if colon and begin.lower() == "sqlite" and not _SUSPECT.search(behind) and behind.strip("/"):
        return f"slashes are missing, so this is not a kind of store; did you mean 'sqlite:///{behind}'?"
    if text and not _SUSPECT.search(text) and text.lower().endswith(_FILES):
        return f"a file is not a kind of store by itself; did you mean 'sqlite:///{text}'?"
    if re.fullmatch(r"[A-Za-z0-9.-]+:\d{1,5}/?", text):
        return f"this is not a kind of store; did you mean 'http://{HIDDEN}'?"
    return "this is not a kind of store"


def connection_options(url: StoreUrl) -> dict[str, str]:
    """The keywords that libpq takes for a PostgreSQL address; `prepare_threshold` is left out, as it is ours."""
    hosts = [_check_host(one) for one in url.place.split(",")] if url.place else []
    found = {
        "user": url.user,
        "password": url.password,
        "host": ",".join(_decoded(host.strip("[]"), "host") for host, _ in hosts),
        "port": ",".join(port for _, port in hosts) if any(port for _, port in hosts) else "",
        "dbname": _decoded(url.path.removeprefix("/"), "name of the database"),
    }
    options = {name: value for name, value in url.options.items() if name not in ("prepare_threshold", "ssl")}
    if "ssl" in url.options:
        options.setdefault("sslmode", "require")
    return {name: value for name, value in {**found, **options}.items() if value}
