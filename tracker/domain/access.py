"""Access to a tracking server: roles, tokens, and the port that stores tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from tracker.domain.errors import InvalidValue, NotFound, TrackerError

Role = Literal["viewer", "writer", "admin"]
"""A viewer reads. A writer also records, and changes, deletes and restores runs. An admin may do everything."""

ROLES: tuple[Role, ...] = get_args(Role)
"""In order: each may do what those before it may."""

_PREFIX = "trk_"
_BYTES = 32
_LENGTH = len(_PREFIX) + 43
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")


class TokenExists(TrackerError):
    """A token of this name is in force."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a token {name!r} already; revoke it first, or take another name")


class TokenNotFound(NotFound):
    """No token has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"token {name!r} not found; `tracker token list` lists them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of an access token: everything but the token. `revoked_ms` is None while it is in force."""

    name: str
    role: Role
    created_ms: int
    revoked_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity behind a request: a token's name and role."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The tokens in force, by digest. `any`: whether the store has a token, revoked or not."""

    by_digest: Mapping[str, Identity]
    any: bool


class Tokens(Protocol):
    """Stores tokens; it keeps only their digests."""

    def create(self, name: str, role: Role) -> str:
        """Create a token and return it; it cannot be read again. TokenExists if one of this name is in force.

        The name of a revoked token is free. InvalidValue for a bad name.
        """
        ...

    def list(self) -> Sequence[Token]:
        """All tokens, revoked ones included, by name."""
        ...

    def revoke(self, name: str, *, forget: bool = False) -> None:
        """Revoke the token; with `forget` delete its record. TokenNotFound."""
        ...

    def keys(self) -> Keys:
        """What a server needs to authenticate requests."""
        ...


def new_token() -> str:
    """A token of 256 random bits: `trk_` and 43 characters that need no escaping anywhere."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def could_be_token(text: str) -> bool:
    """Whether `text` looks like a token, in force or not."""
    return text.startswith(_PREFIX) and len(text) == _LENGTH


def digest_of(token: str) -> str:
    """The stored form of a token: its SHA-256 in hex. A token is random, so nothing slower or salted is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def may(role: Role, needed: Role) -> bool:
    """Whether a holder of `role` may do what needs `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def check_token_name(name: str) -> str:
    """`name` if it can name a token, else InvalidValue."""
    if _NAME.match(name):
        return name
    raise InvalidValue(
        "name",
        f"{name[:80]!r} cannot name a token",
        limit="1 to 64 of letters, digits and . _ @ + -, the first a letter or digit",
    )
