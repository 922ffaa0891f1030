"""What callbacks add to an epoch is measured in turns; here on small images."""

import re

import pytest
from running import output_of, run_here

import benchmarks.callbacks


@pytest.mark.slow
def test_epochs_without_and_with_all_callbacks_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = benchmarks.callbacks.pictures
    monkeypatch.setattr(benchmarks.callbacks, "SIDE", 16)
    monkeypatch.setattr(benchmarks.callbacks, "pictures", lambda count: pictures(count // 40))
    given = ("--images", 64, "--batch_size", 32, "--rounds", 1, "--only_all")
    output = output_of(run_here(benchmarks.callbacks.main, *given))
    assert "2 steps of batch 32, 1 rounds" in output
    rows = re.findall(r"^(none|all) +(\S+) +(\S+)% +(\S+)$", output, re.MULTILINE)
    assert [name for name, *_ in rows] == ["none", "all"]
    (_, alone, added, _), (_, watched, more, once) = rows
    assert float(added) == 0
    assert float(watched) > float(alone) > 0
    assert float(more) > 0
    assert float(once) > 0
