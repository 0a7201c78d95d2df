"""Names the packages of an environment that only tests and development need: `python not_to_run.py cpu|cuda`.

The lock has everything; an image takes these out again. What is kept is what pyproject.toml asks for with the extra,
and whatever that asks for in turn, read from what is installed.
"""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def kept(names: list[str], asked: list[str]) -> set[str]:
    """Of the installed packages `names`, those that the requirements `asked` lead to."""
    found: set[tuple[str, frozenset[str]]] = set()
    open_ = [Requirement(line) for line in asked]
    while open_:
        requirement = open_.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in found or name not in names:
            continue
        found.add((name, extras))
        further = [Requirement(line) for line in metadata.requires(name) or []]
        given = [{"extra": extra} for extra in ("", *extras)]
        open_ += [it for it in further if it.marker is None or any(it.marker.evaluate(extra) for extra in given)]
    return {name for name, _ in found}


def main() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"][sys.argv[1]]
    names = sorted({canonicalize_name(each.name) for each in metadata.distributions()})
    keep = kept(names, [*asked, *tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"]])
    print("\n".join(name for name in names if name not in keep))


if __name__ == "__main__":
    main()
