"""A plugin that cannot work here, and says so."""

from __future__ import annotations

from tracker.hooks import Unavailable

raise Unavailable("it needs a moon, and there is none")
