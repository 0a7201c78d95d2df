"""One frozen base model with LoRA adapters as roles: policy, reference, reward, candidate, live.

Four models cost one base and a few megabytes of adapters each. An adapter is self-contained over the base: never
merged, never stacked. Everything stays in evaluation mode, so no dropout can ever act.
"""

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from core.adapters import CONFIG, WEIGHTS
from core.errors import AdapterError, UsageError
from training import logprobs
from training.data import Batch, Text, collate
from training.devices import sharded
from training.lora import lean
from training.packing import Layout, sees_everything
from training.recipe import LoraRecipe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class SharedBase:
    """The frozen base and the roles that were added to it.

    Args:
        model: a causal LM; it is frozen and gets the adapters injected.
        base_sha256: names the base in adapter configs.
        precision: of matrix products while `self.autocast()` is active.
    """

    def __init__(self, model: PreTrainedModel, *, base_sha256: str = "", precision: str = "float32") -> None:
        model.requires_grad_(False)
        model.eval()
        self.model = model
        self.base_sha256 = base_sha256
        self.precision = precision
        self.eos_ids = _eos_ids(model)
        self._peft: PeftModel | None = None
        # What the base's authors recommend for sampling (top_p, penalties) must not touch our rollouts.
        model.generation_config = GenerationConfig(eos_token_id=self.eos_ids, pad_token_id=self.eos_ids[0])
        _check_head(model)
        self._packs = sees_everything(model.config) and self._packing_is_exact()

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """In which the base's weights rest."""
        return self.model.dtype

    @property
    def head(self) -> Tensor:
        """Weight of the LM head, (V, D)."""
        return self.model.get_output_embeddings().weight

    @property
    def context_length(self) -> int:
        """Most tokens of a sequence that the base was made for."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30))

    def add_fresh(self, role: str, lora: LoraRecipe, *, seed: int) -> None:
        """A new adapter that changes nothing yet: A is random (Kaiming), B is zero."""
        self._inject(role, _lora_config(lora.rank, lora.alpha, "all-linear"))
        _initialise(self.parameters(role), seed)

    def add_zero(self, role: str, lora: LoraRecipe) -> None:
        """The adapter of policy version 0: A and B are zero, so it is the base whatever the seed."""
        self._inject(role, _lora_config(lora.rank, lora.alpha, "all-linear"))
        for parameter in self.parameters(role).values():
            nn.init.zeros_(parameter)

    def load(self, role: str, directory: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Adds a stored adapter, float32 unless it shall compute as an engine does.

        Raises:
            AdapterError: it holds other tensors than its configuration says (they would be ignored without a word).
        """
        config = LoraConfig.from_pretrained(str(directory))
        if config.lora_dropout:
            raise AdapterError(f"adapter {directory.name}: lora_dropout is {config.lora_dropout}, it must be 0")
        config.inference_mode = False
        self._inject(role, config)
        tensors = load_file(directory / WEIGHTS)
        expected = get_peft_model_state_dict(self._peft, adapter_name=role, save_embedding_layers=False)
        if {name: tensor.shape for name, tensor in tensors.items()} != {n: t.shape for n, t in expected.items()}:
            raise AdapterError(f"adapter {directory.name}: its tensors do not fit its configuration or this base")
        set_peft_model_state_dict(self._peft, tensors, adapter_name=role)
        for parameter in self.parameters(role).values():
            parameter.data = parameter.data.to(dtype)

    def load_for_training(self, role: str, directory: Path, lora: LoraRecipe, *, seed: int) -> None:
        """Adds a copy of a stored adapter as the start of training.

        With A and B both zero (version 0) no gradient would ever flow: dL/dA is a product with B and dL/dB one with A.
        Then A is drawn anew; B stays zero, so the function is still exactly the base's.

        Raises:
            UsageError: rank or alpha are not the recipe's.
        """
        self.load(role, directory)
        config = self._peft.peft_config[role]
        if (config.r, config.lora_alpha) != (lora.rank, lora.alpha):
            raise UsageError(
                f"The adapter has rank {config.r} and alpha {config.lora_alpha}, the recipe asks for {lora.rank} and "
                f"{lora.alpha}. Use the adapter's values, or start from the base."
            )
        parameters = self.parameters(role)
        if not any(parameter.any() for parameter in parameters.values()):
            _initialise(parameters, seed)

    def save(self, role: str, directory: Path) -> None:
        """Writes PEFT's format, float32, canonical: equal weights give equal bytes on any machine."""
        directory.mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(self._peft, adapter_name=role, save_embedding_layers=False)
        tensors = {name: state[name].detach().to("cpu", torch.float32).contiguous() for name in sorted(state)}
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(self._config(role), indent=2, sort_keys=True) + "\n"
        (directory / CONFIG).write_text(text, encoding="utf-8")

    def rank(self, role: str) -> int:
        return int(self._peft.peft_config[role].r)

    def parameters(self, role: str) -> dict[str, nn.Parameter]:
        """The adapter's own tensors by full name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if f".{role}." in name}

    @contextlib.contextmanager
    def acting(self, role: str | None) -> Iterator[None]:
        """Within this block the model computes as `role`; None is the bare base."""
        if self._peft is None:
            assert role is None, f"no adapter {role}"
            yield
        elif role is None:
            with self._peft.disable_adapter():
                yield
        else:
            self._peft.set_adapter(role)
            yield

    def autocast(self) -> torch.autocast:
        """Mixed precision for training; adapters and everything outside matrix products stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def hidden(self, batch: Batch) -> Tensor:
        """Final hidden states of the acting role, (B, T, D); what stands where no token exists means nothing."""
        if batch.layout is None or not self._packs:
            return self._states(batch.token_ids, batch.attention_mask.long(), batch.position_ids)
        return (
            self._packed(batch.token_ids, batch.layout)
            .index_select(0, batch.layout.place.flatten())
            .unflatten(0, batch.token_ids.shape)
        )

    def sequence_logps(self, batch: Batch) -> Tensor:
        """Summed log-prob of each completion under the acting role, float32 (B,)."""
        return logprobs.sequence_logps(self.hidden(batch), self.head, batch.token_ids, batch.completion_mask)

    def _packed(self, token_ids: Tensor, layout: Layout) -> Tensor:
        """Final hidden states of the layout's rows, flat (R·L, D)."""
        mask = layout.visible()
        if self.model.config._attn_implementation == "eager":  # it adds the mask to the scores
            mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, torch.finfo(self.dtype).min)
            mask = mask.to(self.dtype)
        return self._states(token_ids.flatten()[layout.source], mask, layout.position_ids).flatten(0, 1)

    def _states(self, token_ids: Tensor, mask: Tensor, position_ids: Tensor) -> Tensor:
        output = self.model.base_model(
            input_ids=token_ids, attention_mask=mask, position_ids=position_ids, use_cache=False
        )
        return output.last_hidden_state

    @torch.no_grad()
    def _packing_is_exact(self) -> bool:
        """Whether this model honours a mask and positions of our own: tried once, on three short rows."""
        top = self.model.config.vocab_size
        texts = [([1, 2, 3], [4, 5]), ([1, 2, 3], [6, 4, 5]), ([2], [3])]
        rows = [Text(prompt=[i % top for i in a], completion=[i % top for i in b]) for a, b in texts]
        batch = collate(rows, device=self.device)
        plain = self._states(batch.token_ids, batch.attention_mask.long(), batch.position_ids)
        packed = self._packed(batch.token_ids, batch.layout)[batch.layout.place]
        there, tolerance = batch.attention_mask, 1e-3 if self.dtype == torch.float32 else 5e-2
        return torch.allclose(packed[there].float(), plain[there].float(), atol=tolerance, rtol=tolerance)

    def _inject(self, role: str, config: LoraConfig) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of every second adapter on one model: that is what we do
            if self._peft is None:
                self._peft = get_peft_model(self.model, lean(config), adapter_name=role)
            else:
                self._peft.add_adapter(role, lean(config))

    def _config(self, role: str) -> dict[str, object]:
        """What defines the adapter's function, and nothing of the machine that made it."""
        config = self._peft.peft_config[role]
        kinds = {name.rsplit(".", 1)[-1] for name in self._peft.targeted_module_names}
        return {
            "base_model_name_or_path": self.base_sha256 or None,
            "bias": "none",
            "inference_mode": True,
            "lora_alpha": config.lora_alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": config.r,
            "target_modules": sorted(kinds),
            "task_type": "CAUSAL_LM",
            "use_rslora": bool(config.use_rslora),
        }


def load_base(
    directory: Path,
    *,
    base_sha256: str,
    dtype: str | None = None,
    precision: str = "float32",
    attention: str = "sdpa",
    shard: bool = False,
) -> SharedBase:
    """Reads a base model from safetensors.

    Args:
        base_sha256: digest of the directory (core.adapters.base_shapes), which is costly to take twice.
        dtype: in which the weights rest; None is `precision` on a GPU and float32 on CPU.
        precision: of matrix products in training: float32, bfloat16 or auto.
        shard: splits the layers over all devices.

    Raises:
        UsageError: no model that can be read lies there.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16_units(device) else "float32"
    dtype = dtype or (precision if device.type == "cuda" else "float32")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=DTYPES[dtype],
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"The base model in {directory} cannot be loaded: {error}") from None
    if shard:
        sharded(model)  # before it is moved: a device never holds the whole
    return SharedBase(model.to(device), base_sha256=base_sha256, precision=precision)


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether bfloat16 products are fast here; without units for them they are emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _lora_config(rank: int, alpha: int, target_modules: str) -> LoraConfig:
    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=target_modules, bias="none", task_type="CAUSAL_LM"
    )


def _initialise(parameters: dict[str, nn.Parameter], seed: int) -> None:
    """LoRA's own initialisation (Hu et al. 2021, §4.1), from a seed and in the order of names."""
    generator = torch.Generator().manual_seed(seed)
    for name in sorted(parameters):
        parameter = parameters[name]
        values = torch.zeros(parameter.shape)
        if ".lora_A." in name:
            nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            parameter.copy_(values)


def _eos_ids(model: PreTrainedModel) -> list[int]:
    """Every id that ends a completion, from both places where Hugging Face keeps it."""
    found: list[int] = []
    for config in (model.generation_config, model.config):
        ids = getattr(config, "eos_token_id", None)
        found += ids if isinstance(ids, list) else [ids] if ids is not None else []
    if not found:
        raise UsageError("The base model names no end-of-text token (eos_token_id in config.json).")
    return list(dict.fromkeys(found))


@torch.no_grad()
def _check_head(model: PreTrainedModel) -> None:
    """We multiply hidden states and LM head ourselves. Models that scale or cap their logits would come out wrong."""
    token_ids = torch.arange(min(4, model.config.vocab_size), device=model.device)[None]
    own = (
        model.base_model(input_ids=token_ids, use_cache=False).last_hidden_state
        @ model.get_output_embeddings().weight.T
    )
    theirs = model(input_ids=token_ids, use_cache=False).logits
    tolerance = 1e-4 if theirs.dtype == torch.float32 else 1e-2
    if not torch.allclose(own.float(), theirs.float(), atol=tolerance, rtol=tolerance):
        raise UsageError(
            f"{type(model).__name__} changes its logits after the LM head (scale, cap or bias): not supported yet."
        )
