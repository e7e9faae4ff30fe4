"""in = kept + dropped, and the one thing that limits a result."""
from __future__ import annotations

import pytest

from pipeline import funnel, progress
from pipeline.funnel import Step


def test_a_step_that_loses_something_is_refused():
    with pytest.raises(ValueError, match="lost or counted twice"):
        Step("samples", "pair", "targets", 10, 3, {"bystanders": 6})


def test_the_bottleneck_is_the_largest_loss_that_was_not_to_be_expected():
    steps = [Step("samples", "pair", "targets", 100, 9, {"too_few_people": 70, "one_photo_each": 15, "bystanders": 6})]
    said = funnel.bottleneck(steps)
    assert said.startswith("15 targets") and "seen in another photo" in said and "more photos of the same people" in said
    assert funnel.bottleneck([Step("samples", "pair", "targets", 2, 2, {})]) == ""
    assert "--max-bystanders" in funnel.bottleneck([Step("samples", "pair", "targets", 2, 1, {"bystanders": 1})])


def test_the_table_names_reasons_by_size():
    text = funnel.table([Step("images", "extract", "images", 7, 4, {"duplicate": 1, "broken_picture": 2})])
    assert text.splitlines()[1].split() == ["images", "7", "4", "2", "broken_picture,", "1", "duplicate"]


@pytest.mark.parametrize(("done", "seconds", "wanted"), [
    (0, 0.0, "extract   0/100 images"), (25, 10.0, "extract   25/100 images   2.5 images/s   30 s left"),
    (100, 20.0, "extract   100/100 images   5.0 images/s")])
def test_a_line_of_progress(done, seconds, wanted):
    assert progress.line("extract", done, 100, "images", seconds) == wanted
