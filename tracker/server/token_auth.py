"""Authentication: whether a request needs a token, and the identity of the token that it has."""

from __future__ import annotations

import asyncio
import binascii
import logging
import threading
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable

from tracker.domain.access import Identity, Keys, could_be_token, digest_of
from tracker.domain.errors import TrackerError

log = logging.getLogger("tracker.server")

FRESH_S = 2.0
"""Seconds for which the list of tokens is valid: a revoked token may work for as long."""
_AGAIN_S = 0.5
_KEPT = 1024
_LONGEST = 1024


class TokenAuth:
    """Caches the valid tokens. Thread-safe; `refresh` reads the store and blocks its caller.

    Tokens are required if `guarded`, and once the store has one, on every address: who creates tokens wants them
    required. After the last one is revoked a token is still required; after it is forgotten none is.
    """

    def __init__(
        self,
        keys: Callable[[], Keys],
        *,
        guarded: bool = False,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Reads the tokens at once. Raises what `keys` raises."""
        self._ask = keys
        self._clock = clock
        self._pause = pause
        self._guarded = guarded
        self._lock = threading.Lock()
        self._looked = clock()
        self._keys = keys()
        self.known: dict[bytes, Identity] = {}
        """Identities by raw Authorization header, of headers that were accepted before."""
        self.open = not (guarded or self._keys.any)
        """Whether no token is required, and every client may do everything."""

    def refresh(self, *, unless_since: float | None = None) -> None:
        """Read the valid tokens from the store, unless a read began after that time.

        Raises what `keys` raises; then the cached ones stay.
        """
        with self._lock:
            if unless_since is not None and self._looked > unless_since:
                return
            self._looked = self._clock()
            found = self._ask()
            if found != self._keys:
                self._keys = found
                self.known = {}
            self.open = not (self._guarded or found.any)

    def identify(self, authorization: bytes) -> Identity | None:
        """The identity of the header's token; None if the token is not cached."""
        known, keys = self.known, self._keys
        if (found := known.get(authorization)) is None:
            token = token_in(authorization)
            if token is not None and (found := keys.by_digest.get(digest_of(token))) is not None:
                if len(known) >= _KEPT:
                    known.clear()
                known[authorization] = found
        return found

    async def identify_new(self, authorization: bytes) -> Identity | None:
        """The same for a token that is not cached: it may just have been created, so the store is read first.

        The store is read at most once in `_AGAIN_S`, for all waiting requests; clients that guess tokens wait too.
        """
        token = token_in(authorization)
        if token is None or not could_be_token(token):
            return None
        # A read in progress may have begun before the token was created: wait for one that begins after now.
        arrived = self._clock()
        if (early := _AGAIN_S - (arrived - self._looked)) > 0:
            await self._pause(early)
        try:
            await asyncio.to_thread(self.refresh, unless_since=arrived)
        except TrackerError as error:
            log.warning("cannot ask for the tokens in force: %s", error)
        return self.identify(authorization)


def token_in(authorization: bytes) -> str | None:
    """The token in an Authorization header: that of Bearer, or the password of Basic; None if there is none."""
    scheme, _, rest = authorization.strip().partition(b" ")
    rest = rest.strip()
    if not 0 < len(rest) <= _LONGEST:
        return None
    if scheme.lower() == b"bearer":
        return rest.decode("latin-1")
    if scheme.lower() != b"basic":
        return None
    try:
        user_and_password = b64decode(rest, validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        return None
    return user_and_password.partition(":")[2] or None
