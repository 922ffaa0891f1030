"""Two gloo processes log what one would, and see each image once."""

from pathlib import Path

import pytest
import watched_processes
from running import output_of, run_apart
from watched import logged


def test_two_processes_log_what_one_would(tmp_path: Path) -> None:
    watched_processes.main(tmp_path / "one")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    output = output_of(run_apart("tests/watched_processes.py", tmp_path / "two", launcher=launcher))
    assert "left out" not in output
    for name, least in (("own", 40), ("loaders", 5)):
        one, two = logged(tmp_path / "one" / name), logged(tmp_path / "two" / name)
        assert one.keys() == two.keys()
        assert len(one) >= least, sorted(one)
        for key, values in one.items():
            if key == "train_loss":  # Lightning's own, of the first process
                continue
            assert two[key] == pytest.approx(values, rel=1e-4, abs=1e-5), key
