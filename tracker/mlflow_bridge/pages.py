"""Page tokens that hold an offset, as MLflow's own do (mlflow/utils/search_utils.py)."""

from __future__ import annotations

import base64
import binascii
import json

from tracker.mlflow_bridge.mlflow_limits import refuse


def offset_of(page_token: str | bytes | None) -> int:
    """The offset of the page that a token requests; 0 without one."""
    if not page_token:
        return 0
    try:
        decoded = base64.b64decode(page_token)
    except (TypeError, ValueError, binascii.Error):
        refuse("Invalid page token, could not base64-decode")
    try:
        parsed = json.loads(decoded)
    except ValueError:
        refuse(f"Invalid page token, decoded value={decoded!r}")
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 < offset < 2**63:
        refuse(f"Invalid page token, parsed value={parsed}")
    return offset


def token_at(offset: int) -> str:
    """The token of the page that begins at `offset`."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()
