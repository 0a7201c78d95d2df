"""python -m training.publish: an adapter → an immutable directory artifacts/adapters/{sha256}/ that replicas verify.

The directory holds a canonical adapter_config.json, float32 weights, and plumbline.json with the probe. With --zero it
publishes policy version 0: the all-zero adapter, which is the base itself under a name, a hash and a probe of its own.
Prints one JSON line, {"adapter_sha256": "…"}. Doing it twice leaves one directory.
"""

import argparse
import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from core.adapters import CONFIG, MANIFEST, WEIGHTS, BaseShapes, adapter_sha256, base_shapes, verify
from core.errors import UsageError
from core.files import fsync
from core.records import AdapterManifest
from feedback import snapshot as snapshots
from training import program

DTYPES = ("float32", "bfloat16", "float16")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("publish", __doc__)
    arguments.add_argument("--adapter", type=program.adapter_directory, help="what to publish")
    arguments.add_argument("--parent", type=program.adapter_directory, help="the version that it was trained from")
    arguments.add_argument("--snapshot", type=program.snapshot_directory, help="where probe sequences come from")
    arguments.add_argument("--zero", action="store_true", help="publish version 0 instead of an adapter")
    arguments.add_argument("--artifacts", type=Path, required=True)
    arguments.add_argument("--serving-dtype", choices=DTYPES, default="float32")
    options = program.parse(arguments, argv)
    if not options.zero and not (options.adapter and options.parent and options.snapshot):
        raise UsageError("publish needs --adapter, --parent and --snapshot; or --zero.")
    print(json.dumps({"adapter_sha256": publish(options)}), flush=True)


def publish(options: argparse.Namespace) -> str:
    """Writes the directory under another name, verifies it as a replica will, renames it; returns its hash."""
    adapters = options.artifacts / "adapters"
    adapters.mkdir(parents=True, exist_ok=True)
    shapes = base_shapes(options.base)
    temporary = adapters / f".publishing.{secrets.token_hex(4)}"
    try:
        manifest = _write(temporary, shapes, options)
        verify(temporary, shapes, expected_sha256=manifest.sha256)
        _rename(temporary, adapters / manifest.sha256)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest.sha256


def _write(directory: Path, shapes: BaseShapes, options: argparse.Namespace) -> AdapterManifest:
    """The three files of an adapter directory. The probe is measured on the files that were just written."""
    program.prepare(options.recipe)
    from training import probe  # torch: only now, when the arguments are known to be right
    from training.model import load_base

    base = load_base(options.base, base_sha256=shapes.sha256, dtype=options.serving_dtype)
    if options.zero:
        rank = probe.write_zero(base, directory, options.recipe.lora)
        texts = probe.everyday_texts(base, options.base)
    else:
        rank = probe.write_canonical(base, directory, options.adapter)
        texts = probe.snapshot_texts(base, snapshots.read(options.snapshot))
    manifest = AdapterManifest(
        sha256=adapter_sha256(directory),
        base_sha256=shapes.sha256,
        tokenizer_sha256=shapes.tokenizer_sha256,
        rank=rank,
        parent_sha256=adapter_sha256(options.parent) if options.parent else None,
        serving_dtype=options.serving_dtype,
        probe=probe.measure(base, directory, options.parent, texts),
    )
    (directory / MANIFEST).write_text(manifest.to_json() + "\n", encoding="utf-8")
    return manifest


def _rename(temporary: Path, final: Path) -> None:
    """Durable before visible. A directory of that hash which is there already stays."""
    for name in (CONFIG, WEIGHTS, MANIFEST, "."):
        fsync(temporary / name)
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():
            raise
    fsync(final.parent)


if __name__ == "__main__":
    program.run(main)
