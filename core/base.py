"""Finding the frozen base: a directory, or a hub id that is downloaded once. Server and stack use the same code."""

from pathlib import Path

from core.errors import UsageError


def resolve_base(name: str) -> Path:
    """The directory of the base's files.

    Raises:
        UsageError: no base was named, or it is neither a directory nor a model that the hub has.
    """
    if not name:
        raise UsageError(
            "No base model: `plumbline up --base PATH_OR_HUB_ID` serves one, `plumbline demo` builds a small one."
        )
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UsageError(f"{path} is not a Hugging Face model directory: it has no config.json.")
        return path.resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UsageError(f"{name} is no directory here, and the hub did not give it: {error}") from None
