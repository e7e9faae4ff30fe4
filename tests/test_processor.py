"""Which instructions numpy is left with, by numpy's own account."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CPUINFO = """processor\t: 0
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: 17
flags\t\t: fpu vme {flags} avx2 sha_ni

processor\t: 1
"""
ASK = """
import json, sys
from pathlib import Path
from pipeline.processor import choose_instructions
choose_instructions(Path(sys.argv[1]))
assert "numpy" not in sys.modules
import numpy
print(json.dumps(numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])))
"""


def found(cpuinfo: Path, **variables: str) -> list[str]:
    """Instructions beside the least that numpy uses in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NPY_")} | variables
    output = subprocess.run([sys.executable, "-c", ASK, str(cpuinfo)], env=environment, capture_output=True, text=True,
                            check=True)
    assert not output.stderr
    return json.loads(output.stdout)


def is_avx512(name: str) -> bool:
    return "AVX512" in name or name == "X86_V4"


def test_on_zen4_numpy_does_without_avx512(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor="AuthenticAMD", family=25, flags="avx512f avx512bw"))
    all_there = found(tmp_path / "missing")
    assert found(cpuinfo) == [name for name in all_there if not is_avx512(name)]


@pytest.mark.parametrize(("vendor", "family", "flags"), [
    ("GenuineIntel", 6, "avx512f avx512bw"), ("AuthenticAMD", 25, ""), ("AuthenticAMD", 26, "avx512f avx512bw")],
    ids=["Intel", "Zen 3", "Zen 5"])
def test_other_processors_are_left_alone(tmp_path: Path, vendor: str, family: int, flags: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor=vendor, family=family, flags=flags))
    assert found(cpuinfo) == found(tmp_path / "missing")


def test_who_has_chosen_is_not_overruled(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO.format(vendor="AuthenticAMD", family=25, flags="avx512f avx512bw"))
    assert found(cpuinfo, NPY_DISABLE_CPU_FEATURES="") == found(tmp_path / "missing")
