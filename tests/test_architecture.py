"""Who may import whom (ARCHITECTURE.md), and what must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("core", "feedback", "lab", "plumbline", "serving", "training", "web")
MAY_IMPORT = {
    "core": set(),
    "serving": {"core"},
    "feedback": {"core"},
    "training": {"core", "feedback.snapshot"},
    "lab": {"core", "serving", "feedback", "training", "plumbline"},
    "plumbline": {"core", "serving", "feedback", "training", "lab", "web"},
    "web": set(),
}
TORCH = {"torch", "transformers", "peft"}
ENGINE = {f"serving/{name}.py" for name in ("engine", "engine_client", "engine_errors", "engine_requests")}
TORCH_FREE = ["core", "feedback", "plumbline", "web", "serving"]
LIGHT = [
    "core.registry",
    "feedback.app",
    "serving.app",
    "training.worker",
    "training.pipeline",
    *(f"training.{program}" for program in ("dpo", "evaluate", "publish", "reward")),
    "plumbline.cli",
    "plumbline.scheduler",
]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """A package imports only what the design lets it import."""
    allowed = MAY_IMPORT[package] | {package}
    for file in sources(package):
        for name in imports(file):
            if name.split(".")[0] in PACKAGES:
                assert any(name == rule or name.startswith(rule + ".") for rule in allowed), f"{file}: {name}"


def test_nobody_imports_the_top() -> None:
    """`plumbline` and `lab` are where everything meets: no other package knows of them."""
    for package in set(PACKAGES) - {"plumbline", "lab"}:
        tops = {name.split(".")[0] for file in sources(package) for name in imports(file)}
        assert not tops & {"plumbline", "lab"}


def test_vllm_is_imported_behind_the_engine_only() -> None:
    """vLLM's internals move: the engine serves with it, one file replaces its LoRA operators inside its worker, and one
    samples for the trainer."""
    using = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in sources(package)
        if any(name.split(".")[0] == "vllm" for name in imports(file))
    }
    assert using <= ENGINE | {"serving/lora_cpu.py", "training/vllm_rollouts.py"}


@pytest.mark.parametrize("package", TORCH_FREE)
def test_torch_stays_with_the_trainers(package: str) -> None:
    """torch and transformers are imported in training, lab and inside the engine's worker, nowhere else."""
    for file in sources(package):
        if file.relative_to(ROOT).as_posix() == "serving/lora_cpu.py":
            continue
        assert not {name.split(".")[0] for name in imports(file)} & TORCH, file


def test_light_modules_load_neither_torch_nor_vllm() -> None:
    """The apps, the worker's parent and the command line start without the heavy libraries, which come with the engine;
    a trainer checks its arguments before it loads them."""
    heavy = {"peft", "torch", "transformers", "vllm"}
    code = f"import sys, {', '.join(LIGHT)}; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == ""


def test_environment_is_read_in_one_place() -> None:
    """Only core/settings.py decides from PLUMBLINE_* variables; others may pass the environment on to a child."""
    for package in PACKAGES:
        for file in sources(package):
            if file.name != "settings.py":
                assert 'environ.get("PLUMBLINE' not in file.read_text(), file
                assert "getenv" not in file.read_text(), file
