"""Two plugins of Tracker: what the machine does while a run trains (`metrics`), and where it trains (`environment`)."""

from __future__ import annotations
