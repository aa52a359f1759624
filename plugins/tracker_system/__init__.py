"""Two plugins of Tracker: system metrics of a training (`metrics`), and its environment (`environment`)."""

from __future__ import annotations
