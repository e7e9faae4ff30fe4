"""One process dies, one piece of work is lost."""
from __future__ import annotations

import os
import signal
import time

import pytest

from transforms.children import Children, Killed

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
