"""The options of store URLs, which follow a `?`, and which of them may be shown."""

from __future__ import annotations

from difflib import get_close_matches

Check = None | str | tuple[str, ...]
"""The values that an option takes: any, "number" (a whole one, 0 or more), or one of some words."""

_ON_OFF = ("0", "1")
_PREFER = ("disable", "prefer", "require")

POSTGRES: dict[str, Check] = {
    # Database and user.
    **dict.fromkeys(("host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"), None),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
    # The session.
    **dict.fromkeys(("application_name", "fallback_application_name", "client_encoding", "options"), None),
    # The connection.
    **dict.fromkeys(
        "connect_timeout keepalives_idle keepalives_interval keepalives_count tcp_user_timeout".split(), "number"
    ),
    "keepalives": _ON_OFF,
    **dict.fromkeys(("min_protocol_version", "max_protocol_version"), None),
    # Encryption and authentication.
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "ssl": ("true",),
    "sslnegotiation": ("postgres", "direct"),
    "sslcompression": _ON_OFF,
    "sslsni": _ON_OFF,
    "sslcertmode": ("disable", "allow", "require"),
    **dict.fromkeys(("sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslkeylogfile"), None),
    **dict.fromkeys(("ssl_min_protocol_version", "ssl_max_protocol_version", "requirepeer", "require_auth"), None),
    "channel_binding": _PREFER,
    "gssencmode": _PREFER,
    **dict.fromkeys(("krbsrvname", "gsslib", "gssdelegation", "scram_client_key", "scram_server_key"), None),
    **dict.fromkeys("oauth_issuer oauth_client_id oauth_client_secret oauth_scope".split(), None),
    # Ours: how often a statement runs before it is prepared, 0 for never.
    "prepare_threshold": "number",
}
"""The options of libpq (https://www.postgresql.org/docs/current/libpq-connect.html), and `prepare_threshold`."""

SQLITE: dict[str, Check] = {"timeout": "number", "cached_statements": "number"}
"""`timeout`: seconds that a writer waits for the lock. `cached_statements`: how many the driver keeps compiled."""

_SECRET = frozenset(
    "password passfile sslkey sslpassword sslkeylogfile scram_client_key scram_server_key oauth_client_secret".split()
)


def is_secret(name: str) -> bool:
    """Whether the option's value is a secret."""
    return name in _SECRET


def may_be_shown(name: str, known: dict[str, Check]) -> bool:
    """Whether the option's value is no secret. An unknown option may be a password with a mistyped name."""
    return name in known and name not in _SECRET


def problem_of(name: str, value: str, known: dict[str, Check], *, beside_secret: bool) -> str:
    """The problem of an option, in words that hold no secret; "" for none.

    `beside_secret`: the URL has a password among its options, and an `&` in it may have made this name.
    """
    if name not in known:
        near = get_close_matches(name.lower(), known, n=1, cutoff=0.7)
        is_name = name.isascii() and name.replace("_", "").isalnum() and len(name) <= 40
        shown = repr(name) if is_name and (near or not beside_secret) else "of this name"
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
        return f"there is no option {shown}; {hint}"
    check = known[name]
    if check == "number" and not (value.isascii() and value.isdigit() and len(value) < 10):
        return f"the option {name} takes a whole number, 0 or more"
    if isinstance(check, tuple) and value not in check:
        return f"the option {name} takes {', '.join(check[:-1])}{' or ' if check[1:] else ''}{check[-1]}"
    return ""
