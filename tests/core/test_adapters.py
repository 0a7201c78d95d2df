"""Adapter directories: nothing that is damaged, foreign or not finite passes, and what is right does."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from core import adapters
from core.adapters import CONFIG, MANIFEST, WEIGHTS, BaseShapes
from core.errors import AdapterError
from core.records import AdapterManifest

HIDDEN, INNER, RANK = 4, 6, 2
MODULES = [f"model.layers.{layer}.mlp.{name}_proj" for layer in range(2) for name in ("up", "down")]
Tensors = dict[str, np.ndarray]


def shape_of(module: str) -> tuple[int, int]:
    """(out, in)"""
    return (INNER, HIDDEN) if module.endswith("up_proj") else (HIDDEN, INNER)


def key(module: str, side: str) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"


def tensors() -> Tensors:
    found = {}
    for module in MODULES:
        out_features, in_features = shape_of(module)
        found[key(module, "A")] = np.full((RANK, in_features), 0.5, dtype=np.float32)
        found[key(module, "B")] = np.zeros((out_features, RANK), dtype=np.float32)
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseShapes:
    directory = tmp_path_factory.mktemp("base")
    weights = {f"{module}.weight": np.zeros(shape_of(module), dtype=np.float32) for module in MODULES}
    weights["model.norm.weight"] = np.ones(HIDDEN, dtype=np.float32)
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    return adapters.base_shapes(directory)


def write(
    directory: Path,
    base: BaseShapes,
    *,
    change: Callable[[Tensors], object] = lambda found: None,
    config: dict[str, object] | None = None,
    manifest: dict[str, object] | None = None,
) -> str:
    """An adapter whose hash is right, whatever else is wrong with it; returns the hash."""
    directory.mkdir(exist_ok=True)
    weights = tensors()
    change(weights)
    save_file(weights, directory / WEIGHTS)
    whole = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "bias": "none"} | (config or {})
    (directory / CONFIG).write_text(json.dumps(whole))
    sha256 = adapters.adapter_sha256(directory)
    fields = {"sha256": sha256, "base_sha256": base.sha256, "tokenizer_sha256": base.tokenizer_sha256, "rank": RANK}
    record = AdapterManifest.model_validate(fields | {"serving_dtype": "float32", "probe": []} | (manifest or {}))
    (directory / MANIFEST).write_text(record.to_json())
    return sha256


def test_good_adapter_passes(tmp_path, base):
    """A, B for every module of a kind: the manifest comes back."""
    sha256 = write(tmp_path, base)
    assert adapters.verify(tmp_path, base, expected_sha256=sha256).sha256 == sha256


def test_some_kinds_of_modules_may_be_left_out(tmp_path, base):
    """An adapter on the up-projections alone is whole; a missing layer of an adapted kind is not (next test)."""
    sha256 = write(tmp_path, base, change=lambda found: [found.pop(name) for name in list(found) if "down" in name])
    adapters.verify(tmp_path, base, expected_sha256=sha256)


def set_tensor(name: str, value: np.ndarray) -> Callable[[Tensors], object]:
    return lambda found: found.update({name: value})


A, B = key(MODULES[0], "A"), key(MODULES[0], "B")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_tensor(A, np.full((RANK, HIDDEN), np.nan, dtype=np.float32)), "NaN or infinite"),
        (set_tensor(B, np.full((INNER, RANK), np.inf, dtype=np.float32)), "NaN or infinite"),
        (set_tensor(A, np.zeros((RANK, HIDDEN), dtype=np.float16)), "stored in float32"),
        (set_tensor(A, np.zeros((RANK, INNER), dtype=np.float32)), "do not fit"),
        (set_tensor(A, np.zeros((HIDDEN, RANK), dtype=np.float32)), "do not fit"),
        (set_tensor(B, np.zeros((INNER, RANK + 1), dtype=np.float32)), "do not fit"),
        (lambda found: found.pop(B), "do not fit"),
        (lambda found: (found.pop(A), found.pop(B)), "misses 1 modules"),
        (lambda found: found.clear(), "no tensors"),
        (set_tensor(key("model.norm", "A"), np.zeros((RANK, HIDDEN), dtype=np.float32)), "no linear module model.norm"),
        (set_tensor(key("lm_head", "A"), np.zeros((RANK, HIDDEN), dtype=np.float32)), "no linear module lm_head"),
        (set_tensor("base_model.model.lm_head.weight", np.zeros((2, 2), dtype=np.float32)), "unexpected tensor"),
        (set_tensor("model.embed_tokens.weight", np.zeros((2, 2), dtype=np.float32)), "unexpected tensor"),
    ],
)
def test_wrong_weights_are_refused(tmp_path, base, change, reason):
    """Each of these vLLM would load without a word."""
    sha256 = write(tmp_path, base, change=change)
    with pytest.raises(AdapterError, match=reason):
        adapters.verify(tmp_path, base, expected_sha256=sha256)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"lora_alpha": 1e9}, "lora_alpha is"),
        ({"lora_alpha": "16"}, "lora_alpha is 16"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"r": 0}, "no positive rank"),
        ({"r": True}, "no positive rank"),
        ({"r": RANK + 1}, "the config says rank 3, the manifest 2"),
        ({"peft_type": "IA3"}, "not LoRA"),
        ({"use_dora": True}, "use_dora is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is not supported"),
        ({"rank_pattern": {"x": 1}}, "rank_pattern is not supported"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is not supported"),
        ({"bias": "all"}, "bias is not supported"),
    ],
)
def test_wrong_options_are_refused(tmp_path, base, config, reason):
    """Options under which the served function would not be the trained one."""
    sha256 = write(tmp_path, base, config=config)
    with pytest.raises(AdapterError, match=reason):
        adapters.verify(tmp_path, base, expected_sha256=sha256)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"base_sha256": "another"}, "another base"),
        ({"tokenizer_sha256": "another"}, "another tokenizer"),
        ({"sha256": "another"}, "its sha256 is"),
    ],
)
def test_foreign_adapter_is_refused(tmp_path, base, manifest, reason):
    """Trained over another base, with another chat template, or under another name."""
    sha256 = write(tmp_path, base, manifest=manifest)
    with pytest.raises(AdapterError, match=reason):
        adapters.verify(tmp_path, base, expected_sha256=sha256)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST])
def test_missing_or_truncated_file_is_refused(tmp_path, base, name):
    """Cut off at every sixteenth of its length, then gone."""
    sha256 = write(tmp_path, base)
    whole = (tmp_path / name).read_bytes()
    for sixteenth in range(16):
        (tmp_path / name).write_bytes(whole[: len(whole) * sixteenth // 16])
        with pytest.raises(AdapterError):
            adapters.verify(tmp_path, base, expected_sha256=sha256)
    (tmp_path / name).unlink()
    with pytest.raises(AdapterError):
        adapters.verify(tmp_path, base, expected_sha256=sha256)


@pytest.mark.parametrize("config", ["[]", "null", "7", '"LORA"', "{"])
def test_config_that_is_no_object_is_refused(tmp_path, base, config):
    """JSON, but nothing of ours."""
    write(tmp_path, base)
    (tmp_path / CONFIG).write_text(config)
    sha256 = adapters.adapter_sha256(tmp_path)
    manifest = AdapterManifest.model_validate_json((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(manifest.model_copy(update={"sha256": sha256}).to_json())
    with pytest.raises(AdapterError):
        adapters.verify(tmp_path, base, expected_sha256=sha256)


@given(data=st.data())
@hypothesis_settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_refused(tmp_path, base, data):
    """Flip any bit of config or weights: refused."""
    sha256 = write(tmp_path, base)
    path = tmp_path / data.draw(st.sampled_from([CONFIG, WEIGHTS]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(AdapterError):
        adapters.verify(tmp_path, base, expected_sha256=sha256)


@given(data=st.data())
@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_header_is_an_adapter_error_or_a_header(tmp_path, data):
    """Whatever a safetensors file's first bytes say, the reader returns tensors that lie inside it, or AdapterError."""
    content = bytearray(save({"x": np.zeros((2, 3), dtype=np.float32)}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    try:
        header, offset = adapters.read_header(path)
    except AdapterError:
        return
    for entry in header.values():
        assert 0 <= entry["data_offsets"][0] <= entry["data_offsets"][1] <= len(content) - offset


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": 32, "shape": [2], "data_offsets": [0, 8]},
    ],
)
def test_malformed_header_entry_is_refused(tmp_path, entry):
    """Shapes and offsets that do not belong together would be read from where they do not lie."""
    header = json.dumps({"x": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(AdapterError, match="'x' is malformed"):
        adapters.read_header(path)


def test_base_is_known_by_its_bytes(tmp_path, base):
    """Another weight, another base; another chat template, another tokenizer; no safetensors, no base."""
    with pytest.raises(AdapterError, match="holds no"):
        adapters.base_shapes(tmp_path)
    found = []
    for value, template in ((0.0, "a"), (1.0, "a"), (1.0, "b")):
        save_file({"x.weight": np.full((2, 3), value, dtype=np.float32)}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "chat_template.jinja").write_text(template)
        found.append(adapters.base_shapes(tmp_path))
    assert found[0].weights == {"x": (2, 3)}
    assert found[0].sha256 != found[1].sha256 == found[2].sha256
    assert found[0].tokenizer_sha256 == found[1].tokenizer_sha256 != found[2].tokenizer_sha256
    assert base.weights[MODULES[0]] == (INNER, HIDDEN)
