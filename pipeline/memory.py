"""Memory that one thread has freed serves all others, so that a process takes no more the longer it runs."""
from __future__ import annotations

import ctypes

M_ARENA_MAX, ARENAS = -8, 2
"""Arenas that glibc takes memory from (mallopt(3)): one for each bundle that runs at a time. Beam has many threads, and each
new one would get an arena of its own, up to 8 a core, that keeps what was freed."""


def share_among_threads() -> None:
    """To be called before anything starts a thread. Of `cluster`, `pair` and `write` over 20 thousand images the peak resident
    set is about 290 MiB and not 379, over 5 thousand 269 and not 295 (`benchmarks.memory` measures the whole)."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # only glibc has it
        mallopt(M_ARENA_MAX, ARENAS)

    import pyarrow as pa  # starts threads

    pa.set_memory_pool(pa.system_memory_pool())
