"""Targets: nets of the right shape for any image, and learners that learn."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran, bright
from torch import Tensor, nn

from uexcli import plugin
from uexcli.builtin.targets import _airbench, _finetune, _inception, _simclr
from uexcli.core.eval.trial import MemoryTrial
from uexcli.core.nets import SmallNet, as_input
from uexcli.core.seeding import generator, global_seed
from uexcli.registry import load
from uexcli.testing import pictures

CPU = torch.device("cpu")
NETS = ("resnet18", "resnet34", "resnet50", "vgg11", "densenet121", "efficientnet_b1", "regnet_x_1_6gf", "mobilenet_v2",
        "inception_resnet_v1", "vit", "small", "linear")  # fmt: skip


def target(spec: str) -> Any:
    return load().make(plugin.Target, "target", spec)  # type: ignore[type-abstract]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28), (3, 64), (1, 96), (3, 20)])
def test_nets_take_images_of_any_size(name: str, channels: int, size: int) -> None:
    net = target(name).net(num_classes=7, channels=channels, size=size).eval()
    with torch.inference_mode():
        images = torch.rand(2, channels, size, size, generator=generator(0, "images"))
        logits = net(images)
        assert logits.shape == (2, 7) and bool(logits.isfinite().all())
        if name != "linear":
            assert net.features(images).shape[0] == 2


def test_below_64_px_the_first_layers_do_not_shrink() -> None:
    for name in ("resnet18", "densenet121", "mobilenet_v2", "efficientnet_b1", "regnet_x_1_6gf"):
        net = target(name).net(num_classes=2, channels=3, size=32)
        first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
        assert first.stride == (1, 1), name
        large = target(name).net(num_classes=2, channels=3, size=224)
        assert next(module for module in large.modules() if isinstance(module, nn.Conv2d)).stride == (2, 2), name


def test_inception_resnet_has_the_published_number_of_weights() -> None:
    net = _inception.build(num_classes=8631, channels=3, size=160)
    assert sum(weight.numel() for weight in net.parameters()) == 27_910_327


def halves(count: int = 200, side: int = 16, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Pictures whose class is which half is lighter."""
    images, labels = pictures(count, channels, side).int(), torch.arange(count) % 2
    images[labels == 0, :, : side // 2] += 40
    images[labels == 1, :, side // 2 :] += 40
    return images.clamp(0, 255).to(torch.uint8), labels


def trial(epochs: int | None = None, **changes: Any) -> MemoryTrial:
    images, labels = halves()
    settings: dict[str, Any] = {"seed": 0, "epochs": epochs, "device": CPU, **changes}
    return MemoryTrial(images[:160], labels[:160], images[160:], labels[160:], 2, **settings)


@pytest.mark.parametrize(
    ("spec", "epochs"),
    [("small:width=8,batch=32", 6), ("linear", 20), ("airbench:width=8,batch=32", 6)],
)
def test_learners_learn(spec: str, epochs: int) -> None:
    outcome = target(spec).evaluate(trial(epochs))
    assert outcome.last > 0.9, outcome.curve
    assert outcome.train_accuracy > 0.9
    assert outcome.gradient == 1
    assert len(outcome.confusion) == 2 and sum(map(sum, outcome.confusion)) == 40


def test_airbench_whitens_what_its_first_layer_sees() -> None:
    images = as_input(torch.randint(0, 256, (64, 3, 16, 16), generator=generator(0, "w"), dtype=torch.uint8))
    with global_seed(0, "net"):
        net = _airbench.Net(num_classes=2, channels=3, size=16, width=8)
        net.restart(images)
    with torch.inference_mode():
        made = net.white((images - 0.5) * 4).transpose(0, 1).flatten(1)[:12]
    second = made @ made.T / made.shape[1]
    torch.testing.assert_close(second, torch.eye(12), atol=0.05, rtol=0)
    first = net.body[1].layers[0].weight.detach()
    assert float(first[0, 0, 1, 1]) == 1 and float(first[0].abs().sum()) == 1


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_muon_moves_along_orthogonal_matrices(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=generator(0, "m"))
    values = torch.linalg.svdvals(_airbench.orthogonal(matrix, steps=5))
    assert float(values.min()) > 0.5 and float(values.max()) < 1.3


def test_airbench_learns_from_grey_images_in_colour() -> None:
    """Directions that never vary once made batch norms without variance, and the net nothing but NaN."""
    shade = torch.arange(64).remainder(2).mul(60)
    grey = (pictures(64)[:, :1] // 2 + shade.view(-1, 1, 1, 1).to(torch.uint8)).expand(-1, 3, -1, -1).contiguous()
    labels = torch.arange(64) % 2
    with global_seed(0, "test"):
        net = _airbench.Net(num_classes=2, channels=3, size=16, width=4)
        net.restart(as_input(grey))
    seen = net.white((as_input(grey) - 0.5) * 4).detach()
    assert bool((seen.var((0, 2, 3)) > 1e-3).all())
    made = target("airbench:width=4,epochs=12").evaluate(MemoryTrial(grey, labels, grey, labels, 2, 0, None, CPU))
    assert made.gradient == 1.0 and made.peak > 0.9
    flat = torch.full_like(grey, 128)  # nor does a set without any variance end in an error
    assert target("airbench:width=4,epochs=1").evaluate(MemoryTrial(flat, labels, flat, labels, 2, 0, None, CPU)).curve


def test_a_batch_of_airbench_never_exceeds_the_images() -> None:
    images, labels = halves(6)
    tiny = MemoryTrial(images[:4], labels[:4], images[4:], labels[4:], 2, 0, 1, CPU)
    assert len(target("airbench:width=4").evaluate(tiny).curve) == 1


def test_the_contrastive_loss_knows_the_other_view() -> None:
    one = torch.randn(8, 16, generator=generator(0, "a"))
    other = torch.randn(8, 16, generator=generator(1, "a"))
    same, apart = (float(_simclr.contrast(torch.cat([one, two]), 0.5)) for two in (one, other))
    assert same < apart
    wanted = 0.0
    unit = nn.functional.normalize(torch.cat([one, other]), dim=1)
    for row in range(16):
        alike = [math.exp(float(unit[row] @ unit[column]) / 0.5) for column in range(16) if column != row]
        mine = math.exp(float(unit[row] @ unit[(row + 8) % 16]) / 0.5)
        wanted -= math.log(mine / sum(alike)) / 16
    assert apart == pytest.approx(wanted, rel=1e-5)


def test_views_are_pictures_of_the_same_shape() -> None:
    images = as_input(pictures(32, side=32))
    made = _simclr.views(images, generator(0, "views"))
    assert made.shape == images.shape and float(made.min()) >= 0 and float(made.max()) <= 1
    assert not torch.equal(made, images)
    grey = (made.amax(1) - made.amin(1)).flatten(1).amax(1) < 1e-5
    assert 0 < int(grey.sum()) < 32


def test_simclr_learns_without_labels() -> None:
    outcome = target("simclr:epochs=3,batch=32,width=8").evaluate(trial())
    assert outcome.last > 0.75
    assert not outcome.gradient


def test_a_probe_reads_frozen_features() -> None:
    with global_seed(0, "net"):
        net = SmallNet(num_classes=2, channels=3, size=16, width=16)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    outcome = target("probe").evaluate(trial(make_surrogate=lambda *_: net))
    assert outcome.last > 0.7 and outcome.train_accuracy > 0.8
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())


def test_finetuning_changes_the_backbone_and_keeps_its_statistics() -> None:
    with global_seed(0, "net"):
        net = SmallNet(num_classes=2, channels=3, size=16, width=8)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    outcome = target("finetune:lr=0.05").evaluate(trial(8, make_surrogate=lambda *_: net))
    assert (
        outcome.last > 0.9 and outcome.last > target("probe").evaluate(trial(make_surrogate=lambda *_: net)).last - 0.1
    )
    same = {name for name, tensor in net.state_dict().items() if torch.equal(tensor, before[name])}
    assert same and all(name.split(".")[-1] in {"running_mean", "running_var", "num_batches_tracked"} for name in same)
    assert len(same) == 3 * 4, "four batch norms"


def test_finetuning_starts_where_a_probe_ends() -> None:
    with global_seed(0, "net"):
        net = SmallNet(num_classes=2, channels=3, size=16, width=16)
    images, labels = halves()
    with torch.no_grad():
        _finetune.start(net, net.eval().features(as_input(images)), labels, 2)
        found = (net(as_input(images)).argmax(1) == labels).float().mean()
    probed = target("probe").evaluate(
        MemoryTrial(images, labels, images, labels, 2, 0, None, CPU, make_surrogate=lambda *_: net)
    )
    assert probed.train_accuracy > 0.8 and float(found) == pytest.approx(probed.train_accuracy, abs=0.02)


@pytest.fixture
def split(tmp_path: Path) -> tuple[Path, Path]:
    """Photos by brightness, and a release that inverts them."""
    labels = ("a", "b", "c", "d")
    return bright(tmp_path / "photos", labels, 24), bright(tmp_path / "release", labels, 24, invert=True)


def test_pretrained_nets_by_the_command_line(
    split: tuple[Path, Path], uex: Callable[..., Ran], onnx_encoder: Path
) -> None:
    ran = uex("eval", *split, "--target", "probe", "--target", f"onnx:{onnx_encoder}", "--folds", 1, "--json")
    assert ran.code == 0, ran.err
    assert {cell["target"] for cell in ran.json["cells"]} == {"probe", f"onnx:{onnx_encoder}"}
    best = next(cell for cell in ran.json["cells"] if cell["target"] == "probe")
    assert best["clean"]["runs"][0]["curve"][-1] > 0.8


def test_an_encoder_that_cannot_run_on_a_gpu_is_quiet_about_it(onnx_encoder: Path) -> None:
    """In a process of its own: what ONNX Runtime logs of itself is set for a whole process."""
    code = (
        "import sys; from pathlib import Path; from uex_onnx._session import Model; "
        "Model(Path(sys.argv[1]), size=24, side=24, mean=0.5, std=0.5)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(onnx_encoder)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (("--target", "probe:small"), 2, "is not pretrained"),
        (("--target", "probe:nothing"), 2, "unknown surrogate"),
        (("--target", "onnx"), 2, "needs a model"),
        (("--target", "mobilefacenet"), 3, "needs weights"),
        (("--target", "mobilefacenet:gone.safetensors"), 2, "no such file"),
        (("--target", "probe", "--against", "cutmix"), 2, "trains on none"),
        (("--target", "small:epochs=0"), 2, "1 epoch"),
        (("--target", "small:schedule=steep,width=4"), 2, "schedule"),
        (("--target", "simclr:net=huge"), 2, "net huge"),
    ],
)
def test_what_a_target_cannot_be_is_refused(
    words: tuple[str, ...], code: int, wanted: str, split: tuple[Path, Path], uex: Callable[..., Ran]
) -> None:
    ran = uex("eval", *split, *words)
    assert ran.code == code, ran.err
    assert wanted in ran.err
