"""ONNX: a model computes what its network does, says whose it is, and apply says what it ran on."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import SIDE, Ran, opened
from torch import Tensor, nn

from uexcli import __version__, plugin, registry
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.onnx import networks

pytest.importorskip("onnxscript")
Uex = Callable[..., Ran]
ROWS = 5


class Net(nn.Module):
    """Noise from the image, and from the row where it has more than one."""

    def __init__(self, num_rows: int = 1, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.tint = nn.Parameter(torch.rand(num_rows, 3) - 0.5)
        self.register_buffer("count", torch.tensor(num_rows))  # of another type, and without a side

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        made = self.conv(images - 0.5)
        if len(self.tint) > 1:
            made = made + self.tint[rows][:, :, None, None]
        return torch.tanh(4 * made) * 16 / 255


@dataclass(frozen=True)
class Method(plugin.Method):
    """A network that learns nothing: `num_rows` colours and a convolution."""

    name: ClassVar[str] = "tiny"
    summary: ClassVar[str] = "a convolution and a colour for each row"
    needs_surrogate: ClassVar[bool] = False
    gives_network: ClassVar[bool] = True

    def fit(self, problem: plugin.Problem, on_step: plugin.OnStep) -> nn.Module:
        on_step(plugin.Progress(1, 1))
        return Net(problem.num_rows, seed=int(torch.randint(99, (), generator=problem.generator("tiny"))))

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        return Net(num_rows)


@pytest.fixture(scope="module")
def model() -> bytes:
    return networks.convert(frozen(Net(ROWS)), channels=3, size=SIDE, metadata={"method": "tiny"})


@pytest.fixture
def computed(photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A noise file of the method above, class-wise."""
    monkeypatch.setitem(registry.load().entries["method"], "tiny", registry.Entry("method", Method, "tests", "1"))
    ran = uex("fit", photos, "--method", "tiny", "--mode", "classwise", "--seed", 1, "-o", "n")
    assert ran.code == 0, ran.err
    return Path("n")


@pytest.fixture(scope="module")
def kept() -> dict[str, bytes]:
    return {}


@pytest.fixture
def exported(computed: Path, uex: Uex, kept: dict[str, bytes]) -> Path:
    """The model of that noise file, `m.onnx`; an export takes a second, and is the same for every test."""
    path = Path("m.onnx")
    if "model" not in kept:
        assert uex("export", computed, path).code == 0
        kept["model"] = path.read_bytes()
    path.write_bytes(kept["model"])
    return path


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, ran.err
    assert ran.out == ""
    last = ran.err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert all(word in last for word in words), last


@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_model_computes_what_its_network_does(rows: int, tmp_path: Path) -> None:
    network, path = frozen(Net(rows)), tmp_path / "sub" / "m.onnx"
    said = networks.export(network, channels=3, size=SIDE, path=path, metadata={}, num_rows=rows)
    session = networks.Session(path.read_bytes(), cuda=False)
    assert session.provider == networks.CPU
    for count in (1, 2, 7):
        images, wanted = torch.rand(count, 3, SIDE, SIDE), torch.arange(count) % rows
        found = session(images, wanted)
        assert 255 * float((found - network(images, wanted)).abs().max()) < 0.01
        assert float(found.abs().max()) > 4 / 255
    assert 0 <= said < 0.01


def test_a_model_says_whose_it_is_and_nothing_of_this_machine(model: bytes) -> None:
    facts = networks.Session(model, cuda=False).facts
    assert (
        facts["weights"] == networks.digest(Net(ROWS).state_dict()) != networks.digest(Net(ROWS, seed=1).state_dict())
    )
    assert (facts["uexcli"], facts["format"], facts["opset"], facts["method"]) == (__version__, 1, 18, "tiny")
    assert b"forward" not in model and str(Path(__file__).parent).encode() not in model


def test_the_digest_is_of_the_values(tmp_path: Path) -> None:
    network = Net(ROWS)
    assert networks.digest(network.to(memory_format=torch.channels_last).state_dict()) == networks.digest(
        Net(ROWS).state_dict()
    )
    assert networks.digest({"a": torch.zeros(2, 3)}) != networks.digest({"a": torch.zeros(3, 2)})
    networks.digest({"none": torch.zeros(0)})


def test_a_session_serves_several_threads(model: bytes) -> None:
    session, network = networks.Session(model, threads=2, cuda=False), frozen(Net(ROWS))
    images = torch.rand(40, 1, 3, SIDE, SIDE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: session(images[number], torch.tensor([number % ROWS])), range(40)))
    wanted = network(images[:, 0], torch.arange(40) % ROWS)
    torch.testing.assert_close(torch.cat(found), wanted, atol=1e-5, rtol=0)


class Batch(Net):
    """Knows the size of the batch it was traced with only."""

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        shown = images.reshape(1, -1, SIDE, SIDE)
        return nn.functional.conv2d(shown, torch.ones(shown.shape[1], 1, 1, 1), groups=shown.shape[1]).view_as(images)


class Liar(Net):
    """Is traced as another network than it is."""

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        return super().forward(images, rows) + (0 if torch.compiler.is_compiling() else 0.3 / 255)


class Nothing(Net):
    """Gives no numbers."""

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        return super().forward(images, rows) / 0 * 0


@pytest.mark.parametrize(("network", "words"), [(Batch, "cannot be written"), (Liar, "differ"), (Nothing, "differ")])
def test_an_export_that_computes_something_else_is_not_kept(network: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UexError, match=words):
        networks.export(frozen(network()), channels=3, size=SIDE, path=tmp_path / "m.onnx", metadata={}, num_rows=ROWS)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------- providers


class Fake:
    """A session of ONNX Runtime that takes of the asked providers those of `works`, and fails with `broken` ones."""

    works: ClassVar[tuple[str, ...]] = (networks.CPU,)
    broken: ClassVar[tuple[str, ...]] = ()
    asked: ClassVar[list[list[str]]] = []

    def __init__(self, _model: bytes, _options: object, *, providers: list[tuple[str, Any]], **_: object) -> None:
        names = [name for name, _ in providers]
        self.asked.append(names)
        if set(names) & set(self.broken):
            raise RuntimeError("CUDA failure 2: out of memory")
        self._taken = [name for name in names if name in self.works]

    def get_providers(self) -> list[str]:
        return self._taken

    def disable_fallback(self) -> None:
        pass

    def get_modelmeta(self) -> Any:
        return type("Meta", (), {"custom_metadata_map": {}})

    def get_inputs(self) -> list[Any]:
        return [type("Item", (), {"name": name}) for name in networks.INPUTS]

    def get_outputs(self) -> list[Any]:
        return [type("Item", (), {"name": networks.OUTPUT})]


@pytest.mark.parametrize(
    ("listed", "works", "broken", "taken", "passed_over"),
    [
        ((networks.CUDA, networks.CPU), (networks.CUDA, networks.CPU), (), networks.CUDA, ()),
        ((networks.CUDA, networks.CPU), (networks.CPU,), (), networks.CPU, (networks.CUDA,)),
        ((networks.CUDA, networks.CPU), (networks.CPU,), (networks.CUDA,), networks.CPU, (networks.CUDA,)),
        (("TensorrtExecutionProvider", networks.CPU), (networks.CPU,), (), networks.CPU, ()),
    ],
    ids=["taken", "listed only", "broken", "not listed"],
)
def test_the_provider_is_the_one_really_taken(
    listed: tuple[str, ...],
    works: tuple[str, ...],
    broken: tuple[str, ...],
    taken: str,
    passed_over: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = type("Fake", (Fake,), {"works": works, "broken": broken, "asked": []})
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(listed))
    monkeypatch.setattr("onnxruntime.InferenceSession", fake)
    session = networks.Session(b"")
    assert (session.provider, session.passed_over) == (taken, passed_over)
    assert fake.asked[0] == ([networks.CUDA, networks.CPU] if networks.CUDA in listed else [networks.CPU])
    assert (networks.Session(b"", cuda=False).provider, fake.asked[-1]) == (networks.CPU, [networks.CPU])


def test_apply_says_which_provider_was_taken(
    computed: Path, photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession

    def without_cuda(*words: Any, providers: Any, **options: Any) -> Any:
        return real(*words, providers=providers[-1:], **options)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [networks.CUDA, networks.CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", without_cuda)
    ran = uex("apply", computed, photos, "-o", "r", "--engine", "onnx", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["engine"] == "onnx (CPUExecutionProvider)"
    assert "CPUExecutionProvider (CUDAExecutionProvider is listed, but could not be used)" in ran.err
    assert capfd.readouterr().out == ""  # what ONNX Runtime itself would print


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")
def test_on_a_gpu_a_session_agrees_with_the_cpu_whatever_it_took(model: bytes) -> None:
    session = networks.Session(model)
    assert (session.provider == networks.CUDA) == (not session.passed_over)
    assert networks.check(session, frozen(Net(ROWS)), channels=3, size=SIDE, num_rows=ROWS) < 0.05


# ------------------------------------------------------------------------------------------- apply


def test_apply_with_either_engine_gives_the_same_pixels_within_a_level(
    computed: Path, photos: Path, uex: Uex, tmp_path: Path
) -> None:
    ran = uex("export", computed, "m.onnx", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["schema"] == "uex.export/1"
    assert (ran.json["channels"], ran.json["size"], ran.json["opset"]) == (3, SIDE, 18)
    assert ran.json["bytes"] == Path("m.onnx").stat().st_size
    assert 0 <= ran.json["difference"] < 0.25
    for engine in ("torch", "onnx", "onnx:m.onnx"):
        output = engine.replace(":", "-")
        ran = uex("apply", computed, photos, "-o", output, "--engine", engine, "--json")
        assert ran.code == 0, ran.err
        takes = ["torch"] if engine == "torch" else [f"onnx ({networks.CPU})", f"onnx ({networks.CUDA})"]
        assert ran.json["engine"] in takes
        assert ("ONNX Runtime" in ran.err) == (engine != "torch")
        assert uex("verify", output, "--source", photos).code == 0
        assert "onnx" not in (Path(output) / "uex-release.json").read_text()
    for path in photos.rglob("*.png"):
        name = path.relative_to(photos)
        wanted, *others = (np.asarray(opened(Path(to) / name)).astype(int) for to in ("torch", "onnx", "onnx-m.onnx"))
        assert np.abs(wanted - np.asarray(opened(path))).max() > 2
        assert all(np.abs(other - wanted).max() <= 1 for other in others)
    assert not [path for path in tmp_path.rglob("*.onnx") if path.name != "m.onnx" and path.is_file()]


def test_the_engine_is_no_part_of_the_job(computed: Path, exported: Path, photos: Path, uex: Uex) -> None:
    assert uex("apply", computed, photos, "-o", "r", "--engine", f"onnx:{exported}").code == 0
    ran = uex("apply", computed, photos, "-o", "r", "--json")
    assert ran.json["already"]
    assert ran.json["engine"] is None


def test_an_interrupted_release_is_resumed_with_another_engine(
    computed: Path, exported: Path, photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = photo_files.encode, []

    def pressed(*words: Any, **options: Any) -> bytes:
        calls.append(words)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return real(*words, **options)

    apply = ("apply", computed, photos, "-o", "r", "--jobs", 1, "--json")
    with monkeypatch.context() as patch:
        patch.setattr(photo_files, "encode", pressed)
        assert uex(*apply).code == 130
    ran = uex(*apply, "--engine", f"onnx:{exported}", "--resume")
    assert ran.code == 0, ran.err
    assert ran.json["kept"] + ran.json["written"] == 16
    assert uex("verify", "r", "--source", photos).code == 0


def test_apply_refuses_a_model_of_another_network(
    computed: Path, exported: Path, photos: Path, uex: Uex, model: bytes
) -> None:
    assert uex("fit", photos, "--method", "tiny", "--mode", "classwise", "--seed", 2, "-o", "other").code == 0
    apply = ("apply", "other", photos, "-o", "r", "--engine")
    refused(uex(*apply, "onnx:m.onnx"), 3, "m.onnx: exported from another noise file")
    Path("m.onnx").write_bytes(model[:200])
    refused(uex(*apply, "onnx:m.onnx"), 3, "m.onnx: no ONNX model, or a damaged one")
    Path("m.onnx").write_bytes(relabelled(model, None))
    refused(uex(*apply, "onnx:m.onnx"), 3, "none of uex")
    Path("m.onnx").write_bytes(relabelled(model, {"format": 2, "uexcli": "9.0", "weights": "0" * 64}))
    refused(uex(*apply, "onnx:m.onnx"), 3, "written by uexcli 9.0")
    refused(uex(*apply, "onnx:gone.onnx"), 2, "no such ONNX model")
    refused(uex(*apply, "onnx:"), 2, "no such ONNX model")
    refused(uex(*apply, "tensorflow"), 2, "unknown engine 'tensorflow'", "onnx:MODEL.onnx")
    assert not Path("r").exists()


def test_a_model_that_claims_to_be_of_this_network_is_compared_with_it(
    computed: Path, photos: Path, uex: Uex, model: bytes
) -> None:
    """The hash alone is only what a model says of itself."""
    network = Net(2)
    network.load_state_dict(noise_file.read(computed).network)
    facts = {"format": 1, "weights": networks.digest(network.state_dict())}
    Path("m.onnx").write_bytes(relabelled(model, facts))
    refused(uex("apply", computed, photos, "-o", "r", "--engine", "onnx:m.onnx"), 3, "differ by")


def relabelled(model: bytes, facts: dict[str, Any] | None) -> bytes:
    import onnx as package

    changed = package.load_from_string(model)
    del changed.metadata_props[:]
    if facts is not None:
        changed.metadata_props.add(key=networks.ENTRY, value=json.dumps(facts))
    return changed.SerializeToString()


# ------------------------------------------------------------------------------------------ export


def test_export_says_what_is_secret_and_replaces_only_what_it_may(computed: Path, uex: Uex) -> None:
    Path("m.onnx").write_text("mine")
    refused(uex("export", computed, "m.onnx"), 2, "m.onnx exists", "--force")
    assert Path("m.onnx").read_text() == "mine"
    before = computed.read_bytes()
    refused(uex("export", computed, computed, "--force"), 2, "is the noise file itself")
    assert computed.read_bytes() == before
    refused(uex("export", computed, ".", "--force"), 2, "is a folder")
    refused(uex("export", "gone", "m2.onnx"), 2, "no such noise file")
    ran = uex("export", computed, "m.onnx", "--force")
    assert ran.code == 0, ran.err
    assert "keep it as secret as the noise file" in ran.out
    assert networks.Session(Path("m.onnx").read_bytes(), cuda=False).facts["norm"]["name"] == "linf"


@pytest.mark.parametrize("package", networks.NEEDED)
def test_without_the_packages_the_hint_says_how_to_get_them(
    package: str, computed: Path, exported: Path, photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    refused(uex("export", computed, "m2.onnx"), 3, package, "pip install 'uexcli[onnx]'")
    refused(uex("apply", computed, photos, "-o", "r", "--engine", "onnx"), 3, "pip install 'uexcli[onnx]'")
    assert not Path("m2.onnx").exists() and not Path("r").exists()
    ran = uex(
        "apply", computed, photos, "-o", "r", "--engine", f"onnx:{exported}"
    )  # a model that is there needs neither
    assert ran.code == 0, ran.err


def test_without_onnx_runtime_the_hint_is_doctor(
    computed: Path, exported: Path, photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert uex("apply", computed, photos, "-o", "plain").code == 0
    refused(
        uex("apply", computed, photos, "-o", "r", "--engine", f"onnx:{exported}"),
        3,
        "ONNX Runtime is not usable",
        "uex doctor",
    )


@pytest.mark.parametrize("missing", [None, *networks.NEEDED])
def test_doctor_says_whether_networks_can_be_exported(
    missing: str | None, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package == missing:
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    ran = uex("doctor", "--json")
    assert ran.code == 0, ran.err
    check = next(check for check in ran.json["checks"] if check["name"] == "uex export")
    assert check["state"] == ("ok" if missing is None else "warn")
    assert missing is None or "pip install 'uexcli[onnx]'" in check["text"]
