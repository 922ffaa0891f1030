"""What hosted services are told to do: the Makefile's targets, with setup.cfg's Pythons."""

import re
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import yaml

from docs.absolute_links import absolute

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def jobs(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return loaded


def commands(path: Path) -> list[str]:
    """All that a workflow's steps run, a line each."""
    steps = (step for job in jobs(path).values() for step in job["steps"])
    return [line for step in steps for line in step.get("run", "").splitlines()]


def setup() -> ConfigParser:
    parsed = ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return parsed


def test_workflows_run_what_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(" ".join(phony).split()) == targets
    called = {
        path.stem: [shlex.split(line)[1] for line in commands(path) if line.startswith("make ")]
        for path in WORKFLOWS
    }
    assert set(called) == {"release", "tests"}
    tests = {"test", "oldest", "test-frameworks", "test-slow"}
    assert set(called["tests"]) == {*tests, "lint", "types", "docs"}
    assert called["release"] == ["test-all", "dist"]
    assert {target for several in called.values() for target in several} <= targets


def test_every_python_is_tested() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = [line for line in setup()["metadata"]["classifiers"].split("\n") if prefix in line]
    tests = jobs(ROOT / ".github/workflows/tests.yml")
    tested = [
        "3.10" if "make oldest" in str(job["steps"]) else version
        for job in tests.values()
        for version in job.get("strategy", {}).get("matrix", {}).get("python", ["3.10"])
        if any(step.get("run") in ("make oldest", "make test") for step in job["steps"])
    ]
    assert sorted(tested, key=lambda v: int(v[2:])) == [line.split(" :: ")[-1] for line in named]
    (oldest,) = re.findall(r"^OLDEST_PYTHON \?= python(.*)$", (ROOT / "Makefile").read_text(), re.M)
    (step,) = (s for s in tests["oldest"]["steps"] if "setup-python" in s.get("uses", ""))
    assert step["with"]["python-version"] == oldest


def test_versions_are_quoted() -> None:
    """3.10 without quotes is the number 3.1."""
    for path in [*WORKFLOWS, ROOT / ".readthedocs.yaml"]:
        for version in re.findall(r"python(?:-version)?: (.*)", path.read_text()):
            assert version.startswith(('"', '["', "${{")), (path.name, version)


def test_the_site_is_built_as_make_docs_builds_it() -> None:
    config = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert (ROOT / config["sphinx"]["configuration"]).is_file()
    assert config["sphinx"]["fail_on_warning"]
    (install,) = config["build"]["jobs"]["install"]
    assert "--constraint constraints.txt" in install
    assert ".[docs]" in install
    assert "docs" in setup()["options.extras_require"]


def test_files_that_steps_name_are_there() -> None:
    lines = [line for path in WORKFLOWS for line in commands(path)]
    modules = [m for line in lines for m in re.findall(r"python3? -m ([a-z_.]+)", line)]
    assert set(modules) - {"venv"} == {"docs.absolute_links"}
    for path in re.findall(r"TEST_ARGS=(\S+)", "\n".join(lines)):
        assert (ROOT / path).is_file()


def test_links_of_a_released_readme_are_absolute(tmp_path: Path) -> None:
    text = """\
[pages](docs/cost.md#head) and ![drawing](docs/star.svg), [here](#swap), [paper](https://arxiv.org)
[![badge](docs/badge.svg)](LICENSE)

```python
x[0](y)
```
"""
    page = tmp_path / "page.md"
    page.write_text(text)
    command = [sys.executable, "-m", "docs.absolute_links", page, "https://host/a/b", "v1.2.0"]
    subprocess.run(command, cwd=ROOT, check=True)
    at = "https://host/a/b/{}/v1.2.0"
    raw, blob = at.format("raw"), at.format("blob")
    assert page.read_text() == text.replace("(docs/cost.md", f"({blob}/docs/cost.md").replace(
        "(docs/star.svg", f"({raw}/docs/star.svg"
    ).replace("(docs/badge.svg", f"({raw}/docs/badge.svg").replace("(LICENSE", f"({blob}/LICENSE")


def test_no_link_of_our_readme_stays_relative() -> None:
    readme = (ROOT / "README.md").read_text()
    released = absolute(readme, "https://host/a/b", "v1")
    prose = re.sub(r"^```.*?^```$", "", released, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)]*)\)", prose)
    assert targets
    assert all(re.match("https://|#", target) for target in targets)
    for target in re.findall(r"https://host/a/b/\w+/v1/([^)#]*)", prose):
        assert (ROOT / target).exists(), target


def test_the_wheel_says_where_the_paper_is() -> None:
    urls = setup()["metadata"]["project_urls"].split()
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]["url"]
    assert cited in urls
