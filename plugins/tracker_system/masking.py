"""Masks secrets in command lines: everything that looks like one is replaced, at the cost of false positives."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from urllib.parse import urlsplit, urlunsplit

from tracker.domain.store_options import POSTGRES, may_be_shown

MASK = "***"

_SECRET = frozenset(
    "password passwd passphrase passfile sslpassword pwd secret secrets token credential credentials creds "
    "authorization bearer cookie dsn apikey accesskey secretkey privatekey authtoken accesstoken".split()
)
"""Words of a name whose value is a secret."""
_SECRET_LAST = frozenset("pass pw auth sig signature key".split())
"""Words at the end of a name whose value is a secret."""
_KEYS = frozenset("api access private secret encryption account storage license signing ssh master service".split())
"""Words before `key` that make it a secret."""
_USERS = frozenset("u user username login userpwd account".split())
"""Last words of a name whose value may be `user:password`."""
_HARMLESS = frozenset(
    "id ids run commit sha sha256 hash rev revision digest checksum uuid checkpoint path file dir folder name".split()
)
"""Words of a name whose value may look random and is not a secret."""
_ISSUED = re.compile(
    r"(?:hf_|sk-|sk_live_|rk_live_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|AIza|ya29\.|pypi-|npm_|trk_|"
    r"dckr_pat_|SG\.|dop_v1_|eyJ)[\w.~+/=-]{12,}"
)
"""Tokens with the known prefix of a service."""
_COMMAND = re.compile(r"-[A-Za-z]*c")
_BARE = re.compile(r"[A-Za-z][\w-]*")
_USER = re.compile(r"(?P<user>[\w.+%-]+):(?!//)[^\s@]+(?=@[\w.-])")
"""`user:password@host` without a scheme."""
_FLAG = re.compile(r"(?P<name>-{0,2}[A-Za-z_+~][\w.\-/@+]*)(?P<sep>[=:])(?P<value>.*)", re.DOTALL)
_HEADER = re.compile(r"\b(Bearer|Basic|Token)\s+[\w.~+/=-]{4,}", re.IGNORECASE)
_PAIR = re.compile(r"(?P<name>[\w.-]{2,64})(?P<sep>[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s\"',;&}\]]+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_WHOLE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*@.*", re.DOTALL)
"""An argument that is one URL with credentials, which may contain spaces and quotes."""
_BEHIND_HOST = re.compile(r"[/?#]")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PIECE = re.compile(r"[A-Za-z0-9+]{16,}={0,2}")
_LONG = 20
_ENTROPY = 3.0
"""Bits a character from which a long piece of letters and digits counts as random; English of this length with
repetitions has about 2, 20 hex digits have 3.2 and more."""


def masked(arguments: Sequence[str], *, is_code: bool = False) -> list[str]:
    """The arguments of a command line, with MASK in place of each actual or probable secret.

    Masked are: the value of an option, a `key=value` or a bare word with a secret's name; the value of `-p`, with or
    without a space; the password of `user:password`, before a host or as a user option's value; passwords and
    signatures in URLs; the value after `Bearer`; tokens with known prefixes; long random-looking values, unless their
    name is known to be harmless. With `is_code` the argument after the first `-c` is a program, and is left out.
    """
    found: list[str] = []
    name = ""
    for argument in arguments:
        if is_code and _COMMAND.fullmatch(found[-1] if found else ""):
            found.append("<code>")
            is_code, name = False, ""
            continue
        if name and not argument.startswith("-"):
            found.append(_named(name, argument))
            name = ""
            continue
        is_option = argument.startswith("-") and len(argument) > 1
        if argument.startswith("-p") and len(argument) > 2:
            found.append(f"-p{MASK}")  # the form of mysql and others
            name = ""
            continue
        match = _FLAG.fullmatch(argument)
        is_address = match is not None and (
            argument[match.start("sep") :].startswith("://")
            or (match["sep"] == ":" and "@" in match["value"] and not _is_secret(match["name"]))
        )
        if match is not None and not is_address:
            shown = _named(match["name"], match["value"])
            found.append(f"{match['name']}{match['sep']}{shown}")
        else:
            found.append(_value(argument, ""))
        is_name = is_option or (_BARE.fullmatch(argument) is not None and _is_secret(argument))
        name = argument if is_name and match is None else ""
    return found


def without_credentials(url: str) -> str:
    """A URL without user, password and secrets in its query; also git's form `user:password@host:path`."""
    if "://" not in url:
        user, at, rest = url.partition("@")
        return f"{user}@{rest}" if at and ":" not in user else rest if at else url
    return _without_secrets(url, lambda who: "")


def _without_secrets(url: str, shown: Callable[[str], str]) -> str:
    """`url` without secrets in its query, and with `shown(text)` in place of the text before the `@`."""
    scheme, _, rest = url.partition("://")
    authority = _BEHIND_HOST.split(rest, maxsplit=1)[0]
    who = ""
    if "@" in rest[len(authority) :] and (":" in authority or "@" in authority):
        # A password with a `/`, `?`, `#` or `@` that should have been percent-encoded: it may end at any `@`.
        rest = rest.rpartition("@")[2]
        who = shown("")
    elif "@" in authority:
        end = authority.rindex("@")
        who, rest = shown(authority[:end]), rest[end + 1 :]
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        query = "&".join(_pair(pair, scheme) for pair in parts.query.split("&"))
        return urlunsplit(parts._replace(netloc=who + parts.netloc, query=query))
    except ValueError:
        return MASK


def _pair(pair: str, scheme: str) -> str:
    name, equals, value = pair.partition("=")
    is_secret = _is_secret(name) or ("postgresql" in scheme and not may_be_shown(name, POSTGRES))
    return f"{name}{equals}{MASK if equals and is_secret else value}"


def _tokens(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_secret(name: str) -> bool:
    words = _tokens(name)
    if _SECRET & set(words) or set(words[-1:]) & _SECRET_LAST or {one + two for one, two in pairwise(words)} & _SECRET:
        return True
    return any(two in ("key", "keys") and one in _KEYS for one, two in pairwise(words))


def _named(name: str, value: str) -> str:
    """The value of the option or key `name`, masked."""
    if not value:
        return value
    if name in ("-p", "-P") or _is_secret(name):
        return MASK
    user, colon, _ = value.partition(":")
    if colon and set(_tokens(name)[-1:]) & _USERS and not value[len(user) :].startswith("://"):
        return f"{user}:{MASK}"
    return _value(value, name)


def _value(text: str, name: str) -> str:
    """A value whose name is not a secret's, with secrets in it masked."""
    text = _url(text) if _WHOLE_URL.fullmatch(text) else _URL.sub(lambda match: _url(match[0]), text)
    text = _USER.sub(lambda match: f"{match['user']}:{MASK}", text)
    text = _ISSUED.sub(MASK, text)
    text = _HEADER.sub(lambda match: f"{match[1]} {MASK}", text)
    text = _PAIR.sub(_inner, text)
    if not _HARMLESS & set(_tokens(name)):
        text = _PIECE.sub(lambda match: MASK if _is_random(match[0]) else match[0], text)
    return text


def _url(url: str) -> str:
    def shown(who: str) -> str:
        named, colon, _ = who.partition(":")
        # Text without a colon before the @ may be a user's name or a token.
        return f"{named}:{MASK}@" if colon else f"{MASK}@"

    return _without_secrets(url, shown)


def _inner(match: re.Match[str]) -> str:
    return f"{match['name']}{match['sep']}{MASK}" if _is_secret(match["name"]) else match[0]


def _is_random(text: str) -> bool:
    text = text.rstrip("=")
    if not (any(c.isdigit() for c in text) and any(c.isalpha() for c in text)):
        return False
    if len(text) < _LONG and not (any(c.isupper() for c in text) and any(c.islower() for c in text)):
        return False  # short pieces are more often names and dates, unless they mix cases and digits
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares) >= _ENTROPY
