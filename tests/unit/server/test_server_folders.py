"""Messages without the server's folders: what follows a folder stays, what only looks like one does too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tracker.server.server_folders import hide, without_folders

hide([Path("/srv/of the server")])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cannot read /srv/of the server/r/x: gone", "cannot read …/r/x: gone"),
        ("'file:///srv/of%20the%20server/r/x' is damaged", "'…/r/x' is damaged"),
        ('{"message": "/srv/of the server"}', '{"message": "…"}'),
        (f"in {sys.prefix}/lib/x.py", "in …/lib/x.py"),
        ("sqlite:////srv/of%20the%20server/tracker.db: locked", "the store: locked"),
        ("'postgresql+psycopg://me@host/db' does not answer", "'the store' does not answer"),
        ("nothing is at /api/srv/of the server", "nothing is at /api/srv/of the server"),
        ("/srv/of the servers/x", "/srv/of the servers/x"),
        ("no folder", "no folder"),
    ],
)
def test_without_folders(said: str, shown: str) -> None:
    """Each form in which a folder can be named."""
    assert without_folders(said) == shown
