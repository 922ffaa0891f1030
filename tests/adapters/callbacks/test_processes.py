"""Two gloo processes log what one would, and see each image once."""

from pathlib import Path

import pytest
import watched_processes
from running import output_of, run_apart
from watched import logged


@pytest.mark.slow
def test_two_processes_log_what_one_would(tmp_path: Path) -> None:
    watched_processes.main(tmp_path / "one")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    output = output_of(run_apart("tests/watched_processes.py", tmp_path / "two", launcher=launcher))
    assert "no features here" not in output  # which the second process does not say
    failing = logged(tmp_path / "two" / "failing")
    assert set(failing) == {"train_loss"}
    assert len(failing["train_loss"]) == 8  # and is no reason to stop or to wait
    assert "NearestNeighbours: left out: no images of bank could be read" in output
    for name in ("OnlineLinearProbe", "RankMonitor", "RoutingMonitor", "EquivarianceMonitor"):
        assert f"{name}: left out: another process had nothing to measure" in output
    for name, least in (("own", 40), ("loaders", 5)):
        one, two = logged(tmp_path / "one" / name), logged(tmp_path / "two" / name)
        assert one.keys() == two.keys()
        assert len(one) >= least, sorted(one)
        for key, values in one.items():
            if key == "train_loss":  # Lightning's own, of the first process
                continue
            assert two[key] == pytest.approx(values, rel=1e-4, abs=1e-5), key
