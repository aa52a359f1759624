"""A plugin that would end the process that imports it."""

from __future__ import annotations

raise SystemExit(3)
