"""The benchmark of views: it runs, and its contenders make the same kind of views."""

import re
import sys

import pytest

from benchmarks import transform
from star_head import Parameter


def test_batches_are_timed_in_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kornia")
    arguments = ["--batches", "--batch-size=3", "--rounds=1", "--threads=1"]
    monkeypatch.setattr(sys, "argv", ["transform", *arguments])
    transform.main()
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("batches of 3, 1 threads")
    names, views, times = zip(*(re.split(r"\s{2,}", row) for row in rows), strict=True)
    assert names == ("star-head, on the device", "kornia", "kornia, recorded")
    assert all(int(count) > 0 for count in views)
    assert times[0] == "1.00"


def test_kornias_pipeline_is_the_papers() -> None:
    pytest.importorskip("kornia")
    from star_head.adapters.kornia import RecordedTransform

    recorded = RecordedTransform(transform.kornias(96))
    assert [p.label for p in recorded.parameters] == [p.label for p in Parameter]
