"""One process dies, one piece of work is lost."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from transforms.children import CannotStart, Children, Killed

_offset = 0


def start(offset: int) -> None:
    global _offset
    _offset = offset


def work(piece: int) -> int:
    if piece == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if piece % 5 == 0:
        time.sleep(0.02)
    return piece + _offset


@pytest.fixture(scope="module")
def pair_of_children():
    children = Children(2, work, start, (100,))
    yield children
    children.close()


def test_results_come_in_the_order_of_the_pieces(pair_of_children):
    assert list(pair_of_children.map(range(12))) == [n + 100 for n in range(12)]
    assert list(pair_of_children.map([])) == []


def test_a_piece_that_kills_is_lost_alone(pair_of_children):
    results = list(pair_of_children.map([11, 12, 13, 14, 15, 16]))
    assert [result for result in results if not isinstance(result, Killed)] == [111, 112, 114, 115, 116]
    assert isinstance(results[2], Killed)


def once(marker: str) -> str:
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def test_a_child_that_dies_once_costs_nothing(tmp_path):
    children = Children(1, once, start, (0,))
    assert list(children.map([str(tmp_path / "marker")])) == ["survived"]
    children.close()


def cannot() -> None:
    raise ValueError("no such model")


def vanish() -> None:
    os._exit(3)


@pytest.mark.parametrize(("initialize", "error"), [(cannot, ValueError), (vanish, CannotStart)])
def test_a_child_that_cannot_start_is_no_fault_of_the_work(initialize, error):
    children = Children(1, work, initialize, ())
    with pytest.raises(error):
        list(children.map([1, 2]))
    children.close()


ORPHANS = """
import os, signal, sys, time
from transforms.children import Children
from tests.test_children import pid, start
children = Children(2, pid, start, (0,))
if __name__ == "__main__":
    print(*set(children.map(range(8))), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def pid(piece: int) -> int:
    time.sleep(0.1)
    return os.getpid()


def test_children_do_not_outlive_their_parent():
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    pids = [int(word) for word in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(pids) == 2
    for _ in range(50):
        if not any(Path(f"/proc/{child}").exists() for child in pids):
            return
        time.sleep(0.1)
    pytest.fail("a child outlived its parent")
