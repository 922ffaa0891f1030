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
    row = r"^(none|all|all, pretrain) +(\S+) +(\S+)% +(\S+)% +(\S+)$"
    rows = re.findall(row, output, re.MULTILINE)
    assert [name for name, *_ in rows] == ["none", "all", "all, pretrain"]
    (_, alone, *added, _), *watched = rows
    assert [float(share) for share in added] == [0, 0]
    for _, epoch, more, of_long, once in watched:
        assert float(epoch) > float(alone) > 0
        assert float(more) > float(of_long) > 0
        assert float(once) > 0


def test_an_epoch_without_a_batch_is_refused() -> None:
    for flag, value in (("images", 10), ("rounds", 0)):
        done = run_here(benchmarks.callbacks.main, f"--{flag}", value)
        assert done.returncode == 2
        assert f"--{flag}: expected" in done.stderr
