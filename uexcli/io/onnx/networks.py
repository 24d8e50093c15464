"""Networks as ONNX: exported, compared with the network in torch, and run by ONNX Runtime. Secret, as the noise is."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from uexcli import __version__
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, documents, schema

S = TypeVar("S")
FORMAT = 1
OPSET = 18  # what torch's exporter makes by itself, so that nothing has to be converted
ENTRY = "uex"  # of the model's metadata
INPUTS, OUTPUT = ("images", "rows"), "delta"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OPTIONS = {CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}}  # float32 as on the CPU; no search by timing
FATAL = 4  # ONNX Runtime's severity; what goes wrong below it is told by us
CLOSE = 1 / 4 / 255  # a quarter of an 8-bit level
NEEDED = ("onnx", "onnxscript")
INSTALL = "pip install 'uexcli[onnx]'"


def digest(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors, each with its name, type and shape: what a model is told by."""
    total = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        values = weight.detach().cpu().contiguous()
        total.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        total.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def export(
    network: nn.Module, *, channels: int, size: int, path: Path, metadata: Mapping[str, Any], num_rows: int
) -> float:
    """Write a network as an ONNX model, whole or not at all; give `check`'s largest difference.

    Raises:
        UexError: as `convert` does, or the file cannot be written.
    """
    model = convert(network, channels=channels, size=size, metadata=metadata)
    difference = check(Session(model, cuda=False), network, channels=channels, size=size, num_rows=num_rows)
    atomic.write(path, model, private=True)
    return difference


def need() -> None:
    """Refuse to write models where the packages it takes are missing.

    Raises:
        UexError: they are.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UexError(f"ONNX models cannot be written here ({error}).", hint=f"Run: {INSTALL}") from None


def convert(network: nn.Module, *, channels: int, size: int, metadata: Mapping[str, Any]) -> bytes:
    """Make an ONNX model of a network in eval mode on the CPU.

    Its inputs are `images`, float `(batch, C, S, S)` in [0, 1], and `rows`, int64 `(batch,)`, its output is `delta`, of
    the images' shape. One entry of its metadata, JSON, has `metadata`, the digest of the weights and uexcli's version.

    Raises:
        UexError: the packages it takes are missing, or ONNX cannot say what the network does.
    """
    batch = torch.export.Dim("batch")
    example = (torch.rand(2, channels, size, size), torch.zeros(2, dtype=torch.int64))
    model = program(network, example, INPUTS, [OUTPUT], ({0: batch}, {0: batch}))
    model.producer_name, model.producer_version = "uexcli", __version__
    entry = model.metadata_props.add()
    facts = {
        "format": FORMAT,
        "uexcli": __version__,
        "weights": digest(network.state_dict()),
        "opset": OPSET,
        **metadata,
    }
    entry.key, entry.value = ENTRY, json.dumps(facts)
    return bytes(model.SerializeToString())


def program(
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: tuple[dict[int, Any], ...] | None = None,
) -> Any:
    """Make the ONNX model, a ModelProto, of a network in eval mode; `dynamic` names sizes that may change.

    Raises:
        UexError: as `convert` does.
    """
    need()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            made = torch.onnx.export(
                network,
                example,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                dynamo=True,
                verbose=False,
            )
        assert made is not None
        model = made.model_proto
        _strip(model)
        return model
    except ImportError as error:  # an onnxscript that is too old for this torch
        raise UexError(f"ONNX models cannot be written here ({error}).", hint=f"Run: {INSTALL}") from None
    except Exception as error:  # the exporter fails in as many ways as there are networks
        raise UexError(
            f"this network cannot be written as ONNX ({short(error)}).", hint="Run it in torch: `engine=torch`"
        ) from error


def _strip(message: Any) -> None:
    """Take the exporter's notes out of a model: they name files of this machine and quote them."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif hasattr(value, "ListFields"):
            _strip(value)
        elif not isinstance(value, (bytes, str, int, float)):
            for part in value:
                if not hasattr(part, "ListFields"):
                    break
                _strip(part)


class Session:
    """A model in ONNX Runtime, callable as its network is; several threads may call it at once.

    `provider` is what ONNX Runtime really took, `passed_over` what it lists and was asked for, but did not take;
    `facts` is the entry of the model's metadata, empty where there is none.
    """

    provider: str
    passed_over: tuple[str, ...]
    facts: dict[str, Any]

    def __init__(self, model: bytes, *, threads: int = 1, cuda: bool = True) -> None:
        """Load a model; on CUDA where ONNX Runtime lists it, and takes it. `threads` share the work of one call.

        Raises:
            UexError: ONNX Runtime is not usable, or this is no model that `convert` made.
        """
        self._session, self.provider, self.passed_over = opened(model, threads=threads, cuda=cuda)
        self.facts = facts_of(self._session)
        self._inputs = [item.name for item in self._session.get_inputs()]
        outputs = [item.name for item in self._session.get_outputs()]
        if not set(self._inputs) <= set(INPUTS) or outputs != [OUTPUT]:
            raise UexError(f"the model takes {self._inputs} and gives {outputs}: no noise of uex.")

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        """Float images `(B, C, S, S)` in [0, 1] and rows, int64 `(B,)`, to their noise, float `(B, C, S, S)`."""
        given = dict(zip(INPUTS, (images.numpy(force=True), rows.numpy(force=True)), strict=True))
        try:
            made = self._session.run([OUTPUT], {name: given[name] for name in self._inputs})
        except Exception as error:
            raise UexError(f"ONNX Runtime cannot run the model ({short(error)}).", hint="Use `engine=torch`.") from None
        return torch.from_numpy(made[0])


def opened(model: bytes, *, threads: int, cuda: bool) -> tuple[Any, str, tuple[str, ...]]:
    """Open a session; give it, the provider it really took, and those that it was asked for and did not take.

    Raises:
        UexError: ONNX Runtime is not usable, or this is no model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UexError(f"ONNX Runtime is not usable ({error}).", hint="Look at it with: uex doctor") from None
    onnxruntime.set_default_logger_severity(FATAL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    listed = onnxruntime.get_available_providers()
    wanted = [CUDA, CPU] if cuda and CUDA in listed else [CPU]

    def start(providers: Sequence[str]) -> Any:
        asked = [(name, OPTIONS.get(name, {})) for name in providers]
        # Its own fall-back prints on stdout, and changes the provider while it runs.
        return onnxruntime.InferenceSession(model, options, providers=asked, enable_fallback=0)

    try:
        try:
            session = start(wanted)
        except Exception:  # a CUDA that is there and does not work, such as one without free memory
            if wanted == [CPU]:
                raise
            session = start([CPU])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise UexError(f"no ONNX model, or a damaged one ({short(error)}).") from None
    session.disable_fallback()
    taken = session.get_providers()
    return session, taken[0], tuple(name for name in wanted if name not in taken)


def facts_of(session: Any) -> dict[str, Any]:
    """Give uex's entry of a model's metadata, of the kind `documents.MODEL`; empty where there is none.

    Raises:
        UexError: it is damaged.
    """
    text = session.get_modelmeta().custom_metadata_map.get(ENTRY)
    if text is None:
        return {}
    try:
        found: dict[str, Any] = schema.read_json(text, documents.MODEL)
    except schema.Mismatch as error:
        raise UexError(f"a damaged model (of its metadata, {error}).", hint="Export the noise file again.") from None
    return found


def loaded(path: Path, start: Callable[[bytes], S]) -> S:
    """Start a session with the model in a file.

    Raises:
        UsageError: there is no such file.
        UexError: it cannot be read, or is no model that `start` takes.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such ONNX model.", hint="Write one with: uex export NOISE MODEL.onnx")
    try:
        return start(path.read_bytes())
    except OSError as error:
        raise UexError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except UexError as error:
        raise UexError(f"{path}: {error.message}", hint=error.hint) from None


def read(path: Path, network: nn.Module, *, threads: int = 1) -> Session:
    """Load a model that was exported from a network.

    Raises:
        UsageError: there is no such file.
        UexError: it cannot be read, is no model of uex, of another format, or of another network.
    """
    session = loaded(path, lambda model: Session(model, threads=threads))
    if "weights" not in session.facts:
        raise UexError(f"{path}: an ONNX model, but none of uex.", hint="Write one with: uex export NOISE MODEL.onnx")
    if session.facts.get("format") != FORMAT:
        version = session.facts.get("uexcli", "unknown")
        raise UexError(f"{path}: a model written by uexcli {version}.", hint="Export the noise file again.")
    if session.facts["weights"] != digest(network.state_dict()):
        raise UexError(
            f"{path}: exported from another noise file.", hint="Export this one: uex export NOISE MODEL.onnx"
        )
    return session


def check(session: Session, network: nn.Module, *, channels: int, size: int, num_rows: int) -> float:
    """Run a model beside its network on random images and rows; give the largest difference, in 8-bit levels.

    Raises:
        UexError: it is a quarter of a level or more, or the model cannot be run.
    """
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in (1, 3):  # not the batch it was traced with: what depends on that fails here
        images = torch.rand(count, channels, size, size, generator=generator)
        rows = torch.randint(num_rows, (count,), generator=generator)
        with torch.inference_mode():
            wanted = network(images, rows)
        found = session(images, rows)
        difference = float((found - wanted).abs().max()) if found.shape == wanted.shape else float("inf")
        if not difference < CLOSE:  # also where it is no number
            raise UexError(
                f"the ONNX model and its network differ by {255 * difference:.3g} levels of 255.",
                hint="Run it in torch: `engine=torch`",
            )
        largest = max(largest, 255 * difference)
    return largest


def short(error: Exception) -> str:
    """Give what an error says at the bottom of it, in one line; exporters wrap theirs in pages."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(". ")
