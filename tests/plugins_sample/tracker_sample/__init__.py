"""Plugins as somebody else might write them."""

from __future__ import annotations
