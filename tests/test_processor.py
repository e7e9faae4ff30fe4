"""Which instructions numpy is left with, by numpy's own account."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.processor import AVX512

CPUINFO = """processor\t: 0
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: 17
flags\t\t: fpu vme {flags} avx2 sha_ni

processor\t: 1
"""
ASK = """
import json, os, sys
from pathlib import Path
from pipeline.processor import choose_instructions
choose_instructions(Path(sys.argv[1]))
assert "numpy" not in sys.modules
import numpy
found = numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
print(json.dumps([os.environ.get("NPY_DISABLE_CPU_FEATURES"), found]))
"""


def chosen(cpuinfo: Path, **variables: str) -> tuple[str | None, list[str]]:
    """What is turned off in a process of its own, and the instructions beside the least that numpy uses there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NPY_")} | variables
    output = subprocess.run([sys.executable, "-c", ASK, str(cpuinfo)], env=environment, capture_output=True, text=True,
                            check=True)
    assert not output.stderr
    turned_off, found = json.loads(output.stdout)
    return turned_off, found


def is_avx512(name: str) -> bool:
    return "AVX512" in name or name == "X86_V4"


def test_on_zen4_numpy_does_without_avx512(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor="AuthenticAMD", family=25, flags="avx512f avx512bw"))
    turned_off, found = chosen(cpuinfo)
    assert turned_off == AVX512
    assert found == [name for name in chosen(tmp_path / "missing")[1] if not is_avx512(name)]


@pytest.mark.parametrize(("vendor", "family", "flags"), [
    ("GenuineIntel", 6, "avx512f avx512bw"), ("AuthenticAMD", 25, ""), ("AuthenticAMD", 26, "avx512f avx512bw")],
    ids=["Intel", "Zen 3", "Zen 5"])
def test_other_processors_are_left_alone(tmp_path: Path, vendor: str, family: int, flags: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor=vendor, family=family, flags=flags))
    assert chosen(cpuinfo)[0] is None


def test_who_has_chosen_is_not_overruled(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor="AuthenticAMD", family=25, flags="avx512f avx512bw"))
    assert chosen(cpuinfo, NPY_DISABLE_CPU_FEATURES="AVX512_SPR")[0] == "AVX512_SPR"
    assert chosen(cpuinfo, NPY_ENABLE_CPU_FEATURES="")[0] is None
