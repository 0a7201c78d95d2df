"""The other side's environments: TRL in a directory of its own, over the packages that are installed here; LiteLLM,
which shares nothing with them, in a virtual environment.

`pip install --no-deps --target` touches nothing of the environment that it runs in. Torch, transformers, peft and
accelerate are the same for both sides; TRL and what it needs besides stand in the directory, with exact versions.
"""

import subprocess
import sys
import venv
from pathlib import Path

NEWEST, OLDER, LAST_PPO = "1.16.0", "1.14.0", "1.12.0"
"""1.15 changed how DPO computes log-probs; whichever side of that is faster is the peer. 1.12 is the last with PPO."""
LITELLM = "1.106.2"
_NEEDS = [
    "datasets==5.2.0",
    "dill==0.4.1",
    "multiprocess==0.70.19",
    "pandas==3.1.1",
    "python-dateutil==2.9.0.post0",
    "pytz==2026.6",
    "six==1.17.0",
    "tzdata==2026.6",
    "xxhash==4.1.0",
]


def environment(directory: Path, version: str) -> Path:
    """A directory for PYTHONPATH; made at the first call, with this Python's pip.

    Raises:
        SystemExit: pip failed; its message was printed.
    """
    place = directory / f"trl-{version}"
    done = place / "complete"
    if not done.exists():
        print(f"installing TRL {version} into {place}", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
        if subprocess.run([*pip, f"trl=={version}", *_NEEDS], check=False).returncode:
            raise SystemExit(f"TRL {version} could not be installed. Is there a network? --peers names the directory.")
        done.touch()
    return place


def litellm(directory: Path) -> Path:
    """LiteLLM's command; made at the first call.

    Raises:
        SystemExit: pip failed; its message was printed.
    """
    place = directory / f"litellm-{LITELLM}"
    done = place / "complete"
    if not done.exists():
        print(f"installing LiteLLM {LITELLM} into {place}", file=sys.stderr)
        venv.create(place, with_pip=True, clear=True)
        pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet", f"litellm[proxy]=={LITELLM}"]
        if subprocess.run(pip, check=False).returncode:
            raise SystemExit(
                f"LiteLLM {LITELLM} could not be installed. Is there a network? --peers names the directory."
            )
        done.touch()
    return place / "bin" / "litellm"
