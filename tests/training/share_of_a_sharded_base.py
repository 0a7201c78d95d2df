"""Prints which share of the decoder's weights this process holds: `share_of_a_sharded_base BASE`, one of several."""

import sys
from pathlib import Path

from training.model import load_base

if __name__ == "__main__":
    base = load_base(Path(sys.argv[1]), base_sha256="0" * 64, shard=True)
    layers = [p for layer in base.model.base_model.layers for p in layer.parameters()]
    print(sum(p.to_local().numel() for p in layers) / sum(p.numel() for p in layers))
