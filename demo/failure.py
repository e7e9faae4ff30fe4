"""What stops the demo."""
from __future__ import annotations


class DemoError(Exception):
    """One plain line: what, and what to do."""
