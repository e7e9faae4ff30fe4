"""The instructions that numpy sorts by: those that are fast on this processor."""
from __future__ import annotations

import os
from pathlib import Path

AVX512 = "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
"""numpy's names for it ("CPU build options", "Runtime dispatch"), from 2.4 on and before: names that it does not know it passes
over."""
CPUINFO = Path("/proc/cpuinfo")


def choose_instructions(cpuinfo: Path = CPUINFO) -> None:
    """To be called before numpy is imported; child processes inherit it. Who has set one of the variables is not overruled.

    With AVX-512 numpy sorts by compressing numbers straight into memory, at which AMD's Zen 4 is slow (numpy/numpy pull 32690,
    numpy/x86-simd-sort issue 6). There 300 thousand integers of 64 bits take 14 ms with AVX-512 and 3 ms without, and the
    stage `cluster`, of a million generated faces of 128 numbers, 184 and 142 s, one run each."""
    if not {"NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"} & os.environ.keys() and _is_zen4(cpuinfo):
        os.environ["NPY_DISABLE_CPU_FEATURES"] = AVX512


def _is_zen4(cpuinfo: Path) -> bool:
    """AMD's family 25 is Zen 3 and 4, of which 4 alone has AVX-512."""
    try:
        first = cpuinfo.read_text().split("\n\n")[0]
    except OSError:  # not Linux
        return False
    about = {name.strip(): value.split() for name, _, value in (line.partition(":") for line in first.splitlines())}
    return (about.get("vendor_id") == ["AuthenticAMD"] and about.get("cpu family") == ["25"]
            and "avx512f" in about.get("flags", []))
