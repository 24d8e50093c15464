"""The judge's arithmetic: intervals, early stopping, ROC, detection; and its trainings, kept, shared out, resumed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import Ran, bright, picture
from PIL import Image
from scipy.fft import dctn
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from uexcli import plugin
from uexcli.builtin.methods.band import TEN, TINTS, Band
from uexcli.commands.evaluate import data as eval_data
from uexcli.commands.evaluate import jobs, scenario
from uexcli.commands.evaluate import protocol as eval_protocol
from uexcli.commands.evaluate.host_set import into
from uexcli.core.eval.detect import detect, textures
from uexcli.core.eval.scores import area, early_stop
from uexcli.core.eval.statistics import interval
from uexcli.core.eval.supervised import reached
from uexcli.core.eval.trial import MemoryTrial
from uexcli.core.nets import SmallNet
from uexcli.core.seeding import generator
from uexcli.errors import UsageError
from uexcli.messages import Listener
from uexcli.registry import load
from uexcli.testing import pictures

Uex = Callable[..., Ran]
TINY = ("--target", "small:width=4,batch=16", "--epochs", 3, "--folds", 1)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    labels = ("a", "b", "c", "d")
    return bright(tmp_path / "photos", labels, 20), bright(tmp_path / "release", labels, 20, invert=True)


def test_the_interval_is_students_and_the_test_images() -> None:
    assert interval([0.5], 100) == pytest.approx(1.96 * 0.05, rel=0.03)
    assert interval([0.4, 0.6], 10**9) == pytest.approx(12.71 * 0.1 * math.sqrt(2) / math.sqrt(2), rel=1e-2)
    assert 0.03 < interval([1.0, 1.0], 50) < 0.08
    assert interval([0.5] * 30, 100) == pytest.approx(1.96 * 0.05, rel=0.03)


def test_early_stopping_does_not_choose_by_what_it_is_judged_on() -> None:
    drawn = torch.rand(40, 2000, generator=generator(0, "chance")) < 0.5
    kept = early_stop(drawn)
    assert kept is not None
    assert abs(kept - 0.5) < 0.02 < float(drawn.float().mean(1).max()) - 0.5
    better = drawn.clone()
    better[17] = torch.rand(2000, generator=generator(1, "chance")) < 0.8
    found = early_stop(better)
    assert found == pytest.approx(float(better[17].float().mean()))
    assert early_stop(drawn[:, :1]) is None


def test_the_area_is_that_of_scikit_learn() -> None:
    drawn = np.random.default_rng(0)
    scores, same = drawn.integers(0, 20, 300) / 7, drawn.integers(0, 2, 300)
    wanted = roc_auc_score(same, scores)
    assert area(torch.tensor(scores), torch.tensor(same, dtype=torch.bool)) == pytest.approx(wanted, abs=1e-12)


def test_simple_nets_flag_noise_and_not_images() -> None:
    labels, test_labels = torch.arange(600) % 4, torch.arange(300) % 4
    whole = pictures(900, seed=5)
    images, test = whole[:600], whole[600:]
    for number in range(4):  # something to learn that both have
        images[labels == number, number % 3] //= 2 + number // 3
        test[test_labels == number, number % 3] //= 2 + number // 3
    clean = detect(images, labels, test, test_labels, 4)
    assert [probe.net for probe in clean] == ["linear", "two-layer", "textures"]
    assert not any(probe.flagged for probe in clean)
    noise = torch.randint(-16, 17, (4, 3, 16, 16), generator=generator(0, "noise"))
    hidden = (images.int() + noise[(labels + 1) % 4] * 3).clamp(0, 255).to(torch.uint8)
    found = detect(hidden, labels, test, test_labels, 4)
    assert all(probe.flagged and probe.held_out > 0.9 for probe in found[:2])
    assert found == detect(hidden, labels, test, test_labels, 4)


def test_a_set_is_not_flagged_for_having_its_classes_in_other_shares_than_the_clean_images() -> None:
    images = torch.randint(0, 256, (800, 3, 8, 8), generator=generator(0, "nothing"), dtype=torch.uint8)
    rare = (torch.arange(400) % 10 == 0).long()
    for test_labels in (torch.arange(400) % 2, torch.full((400,), 1), torch.full((400,), 2)):
        found = detect(images[:400], rare, images[400:], test_labels, 3)
        assert not any(probe.flagged for probe in found)
    two_layer = detect(images[:400], rare, images[400:], torch.arange(400) % 2, 3)[1]
    assert two_layer.held_out > 0.8  # by always saying the common class, which is half of the clean images


def test_textures_of_any_phase_are_flagged_though_a_linear_net_over_pixels_sees_nothing() -> None:
    labels, test_labels = torch.arange(600) % 4, torch.arange(300) % 4
    drawn = generator(0, "pictures")
    coarse = functional.interpolate(torch.randn(900, 3, 4, 4, generator=drawn), size=16, mode="bilinear")
    whole = 127 + 40 * coarse + 20 * torch.randn(900, 3, 16, 16, generator=drawn)
    images, test = whole.clamp(0, 255).to(torch.uint8).split((600, 300))
    network: Any = Band().network(channels=3, size=16, num_rows=4)
    network.places.copy_(torch.tensor(TEN[:4])[:, None] / 16)
    network.tints.copy_(torch.tensor(TINTS[:4])[:, None] / 16)
    network.bound.fill_(8 / 255)
    assert not any(probe.flagged for probe in detect(images, labels, test, test_labels, 4))
    hidden = ((images / 255 + network(images / 255, labels)).clamp(0, 1) * 255).round().to(torch.uint8)
    linear, _, third = detect(hidden, labels, test, test_labels, 4)
    assert third.flagged and third.held_out > 0.6
    assert not linear.flagged


@pytest.mark.parametrize("side", [1, 4, 8, 13])
def test_textures_are_those_of_an_exact_transform(side: int) -> None:
    images = torch.randint(0, 256, (2, 3, side, side), generator=generator(0, "textures"), dtype=torch.uint8)
    found = textures(images).view(2, 3, 63)
    whole = np.pad(images.double().numpy(), [(0, 0)] * 2 + [(0, max(0, 8 - side))] * 2, mode="edge")
    starts = range(0, max(side, 8) - 7, 4)
    blocks = [dctn(whole[:, :, top : top + 8, left : left + 8], axes=(2, 3)) / 4 for top in starts for left in starts]
    wanted = np.log(np.mean([block**2 for block in blocks], axis=0) + 1).reshape(2, 3, 64)[:, :, 1:]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_trainings_are_kept_and_not_done_twice(pair: tuple[Path, Path], uex: Uex) -> None:
    words = ("eval", *pair, *TINY, "--seeds", 2, "--json")
    first, second = uex(*words), uex(*words)
    assert first.code == second.code == 0, first.err
    assert first.json["reused"] == 0 and second.json["reused"] == 4
    assert second.json["cells"] == first.json["cells"]
    assert "4 of 4 trainings were done before" in second.err
    more = uex(*words, "--against", "grayscale")
    assert more.json["reused"] == 4 and len(more.json["cells"]) == 2
    assert uex(*words, "--fresh").json["reused"] == 0
    assert uex(*words[:-1], "--epochs", 2, "--json").json["reused"] == 0


def test_the_clean_side_is_shared_by_releases(pair: tuple[Path, Path], uex: Uex) -> None:
    photos, release = pair
    other = bright(photos.parent / "other", ("a", "b", "c", "d"), 20, invert=True)
    Image.fromarray(picture(77)).save(other / "a" / "0.png")
    assert uex("eval", photos, release, *TINY, "--json").json["reused"] == 0
    assert uex("eval", photos, other, *TINY, "--json").json["reused"] == 1


def test_a_damaged_training_is_done_again(pair: tuple[Path, Path], uex: Uex, tmp_path: Path) -> None:
    words = ("eval", *pair, *TINY, "--cells", tmp_path / "cells", "--json")
    first = uex(*words)
    files = [path for path in sorted((tmp_path / "cells").iterdir()) if '"outcome"' in path.read_text()]
    assert len(files) == 2
    files[0].write_text("{")
    changed = json.loads(files[1].read_text())
    files[1].write_text(json.dumps({**changed, "key": "another"}))
    again = uex(*words)
    assert again.json["reused"] == 0 and again.json["folder"] == str(tmp_path / "cells")
    curves = [[run["curve"] for run in ran.json["cells"][0]["protected"]["runs"]] for ran in (first, again)]
    assert curves[0] == curves[1]


def test_shards_together_give_what_one_run_gives(pair: tuple[Path, Path], uex: Uex, tmp_path: Path) -> None:
    words = ("eval", *pair, *TINY, "--seeds", 2, "--against", "bdr:2", "--json")
    whole = uex(*words, "--cells", tmp_path / "whole")
    parts = [uex(*words, "--cells", tmp_path / "shared", "--shard", f"{number}/3") for number in (1, 2, 3)]
    assert all(part.code == 0 for part in parts), parts[0].err
    done = [part.json["done"] for part in parts[:2]]
    assert parts[0].json["schema"] == "uex.eval.partial/1" and done[0] <= done[1] < 8
    assert parts[2].json["schema"] == "uex.eval/1"
    curves = [
        [run["curve"] for cell in ran.json["cells"] for side in ("clean", "protected") for run in cell[side]["runs"]]
        for ran in (whole, uex(*words, "--cells", tmp_path / "shared"))
    ]
    assert curves[0] == curves[1]


def test_a_stopped_evaluation_goes_on(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, uex: Uex) -> None:
    small = load().find("target", "small").cls
    plain, count = small.evaluate, 0  # type: ignore[attr-defined]

    def evaluate(self: plugin.Target, trial: MemoryTrial) -> plugin.Outcome:
        nonlocal count
        count += 1
        if count == 2 + 3:  # two for the estimate
            raise KeyboardInterrupt
        outcome: plugin.Outcome = plain(self, trial)
        return outcome

    monkeypatch.setattr(small, "evaluate", evaluate)
    words = ("eval", *pair, *TINY, "--seeds", 2, "--json")
    stopped = uex(*words)
    assert stopped.code == 130
    again = uex(*words)
    assert again.code == 0 and again.json["reused"] == 2


def jobs_of(protocol: eval_protocol.Protocol, device: str) -> list[jobs.Job]:
    return jobs.jobs_of(load(), protocol, torch.device(device), 32, strict=False, listener=Listener())


def test_protocols_that_come_with_uex_name_what_there_is() -> None:
    assert set(eval_protocol.names()) == {"quick", "battery", "huang2021", "zhang2023"}
    for name in eval_protocol.names():
        protocol = eval_protocol.read(name)
        assert protocol.summary and protocol.seeds >= 1 and "none" in protocol.against
        assert all(jobs_of(protocol, device) for device in ("cpu", "cuda"))
    measures = [jobs.against_of(load(), spec) for spec in eval_protocol.read("battery").against]
    wanted = set(load().names("countermeasure")) - {"purify"}  # which needs clean images of yours
    assert {part.name for against in measures for part in against.parts} == wanted
    made = jobs_of(eval_protocol.read("huang2021"), "cpu")
    dense: Any = next(job.target for job in made if job.name == "densenet121")
    assert (dense.batch, dense.clip, dense.schedule) == (96, 5.0, "cosine")


def test_a_protocol_can_be_copied_and_changed(pair: tuple[Path, Path], uex: Uex) -> None:
    printed = uex("eval", "--print-protocol", "quick")
    assert printed.code == 0 and 'against = ["none", "grayscale"' in printed.out
    text = printed.out.replace('"auto"', '"small:batch=16"').replace('"jpeg:10", ', "")
    text = text.replace('pretrained = ["probe", "finetune"]\n', "")
    Path("mine.toml").write_text(text + "epochs = 2\n[options.small]\nwidth = 4\nbatch = 64\n")
    ran = uex("eval", *pair, "--protocol", "mine.toml", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["protocol"] == "mine.toml"
    assert {cell["against"] for cell in ran.json["cells"]} == {"none", "grayscale", "bdr:2"}
    kept = [json.loads(path.read_text()) for path in Path(ran.json["folder"]).iterdir()]
    facts = [one["facts"] for one in kept if "facts" in one]
    assert {(fact["target"]["options"]["width"], fact["target"]["options"]["batch"]) for fact in facts} == {(4, 16)}
    fewer = uex("eval", *pair, "--protocol", "mine.toml", "--against", "bdr:2", "--seeds", 2, "--json")
    assert {cell["against"] for cell in fewer.json["cells"]} == {"none", "bdr:2"} and fewer.json["seeds"] == 2


@pytest.mark.parametrize(
    ("text", "code", "wanted"),
    [
        ("targets = [", 3, "no TOML"),
        ("tragets = ['small']", 2, "Did you mean 'targets'"),
        ("targets = 'small'", 2, "targets"),
        ("against = [1]", 2, "not a text"),
        ("seeds = true", 2, "seeds"),
        ("seeds = 0", 2, "at least 1"),
        ("targets = ['small']\n[options.small]\nwidht = 3", 2, "no option 'widht'"),
        ("options = { small = 3 }", 2, "not a table"),
        ("view = 'sideways'", 2, "unknown view"),
        ("against = []", 2, "at least 1"),
        (f"seeds = {'9' * 5000}", 3, "thousands of digits"),
        (f"size = {'9' * 500}", 2, "not a whole number"),
        (f"targets = {'[' * 3000}{']' * 3000}", 3, "deeply"),
        ("options = { small = { width = [[1]] } }", 2, "not a number or a text"),
    ],
)
def test_a_protocol_that_cannot_be_meant_is_refused(
    text: str, code: int, wanted: str, pair: tuple[Path, Path], uex: Uex
) -> None:
    Path("bad.toml").write_text(text)
    ran = uex("eval", *pair, "--protocol", "bad.toml")
    assert ran.code == code and wanted in ran.err, ran.err


def test_unknown_protocols_are_refused(uex: Uex, pair: tuple[Path, Path]) -> None:
    assert "Did you mean 'battery'" in uex("eval", *pair, "--protocol", "batery").err
    assert uex("eval", *pair, "--protocol", "gone.toml").code == 2
    assert uex("eval", "--print-protocol", "gone").code == 2


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_a_share_is_protected_in_each_class(share: float, pair: tuple[Path, Path], uex: Uex) -> None:
    ran = uex("eval", *pair, *TINY, "--share", share, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["share"] == share
    (cell,) = ran.json["cells"]
    assert len(cell["clean_part"]["runs"][0]["curve"]) == 3
    parts = cell["protected"]["runs"][0]["parts"]
    assert set(parts) == {"protected", "clean"}
    own = cell["protected"]["runs"][0]["train_accuracy"]
    assert share * parts["protected"] + (1 - share) * parts["clean"] == pytest.approx(own)
    assert cell["clean"]["runs"][0]["parts"] == {}
    shown = uex("eval", *pair, *TINY, "--share", share).out
    assert "clean part" in shown and f"Scenario: {share:.0%} of the images protected" in shown


def test_smaller_shares_lie_inside_larger_ones(pair: tuple[Path, Path]) -> None:
    sources = eval_data.Sources(str(pair[0]), str(pair[1]), None, None, 16, "fail")
    (data,) = eval_data.read(sources, torch.device("cpu"), Listener())
    masks = [scenario.stage(data, scenario.Wanted(share)).sides["protected"].parts for share in (0.3, 0.6)]
    assert masks[0] is not None and masks[1] is not None
    assert bool((masks[0] <= masks[1]).all()) and int(masks[0].sum()) < int(masks[1].sum())
    mixed = scenario.stage(data, scenario.Wanted(0.6)).sides["protected"].images
    assert torch.equal(mixed[masks[1]], data.protected[masks[1]])
    assert torch.equal(mixed[~masks[1]], data.clean[~masks[1]])


def test_one_protected_class_is_scored_by_itself(pair: tuple[Path, Path], uex: Uex) -> None:
    ran = uex("eval", *pair, *TINY, "--protect-class", "b", "--json")
    assert ran.code == 0, ran.err
    (cell,) = ran.json["cells"]
    assert ran.json["scenario"] == "protected classes: b" and ran.json["share"] == 0.25
    confusion = cell["protected"]["runs"][0]["confusion"]
    assert cell["groups"]["protected classes"]["protected"] == confusion[1][1] / sum(confusion[1])
    assert set(cell["groups"]["other classes"]) == {"clean", "protected"} and cell["clean_part"] is None
    half = uex("eval", *pair, *TINY, "--protect-class", "50%", "--json")
    assert half.json["share"] == 0.5
    assert uex("eval", *pair, *TINY, "--protect-class", "[ab]", "--json").json["share"] == 0.5


def test_classes_are_merged(pair: tuple[Path, Path], uex: Uex) -> None:
    longer = ("--target", "small:width=8,batch=16", "--epochs", 10)
    ran = uex("eval", *pair, *longer, "--merge", 2, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["classes"] == ["a+c", "b+d"] and ran.json["chance"] == 0.5
    Path("groups.csv").write_text("class,group\na,x\nb,x\nc,y\nd,y\n")
    assert uex("eval", *pair, *longer, "--merge", "groups.csv", "--json").json["classes"] == ["x", "y"]


def test_protected_classes_inside_another_set(pair: tuple[Path, Path], uex: Uex, tmp_path: Path) -> None:
    host = bright(tmp_path / "host", ("b", "x", "y"), 10, first=500)
    ran = uex("eval", *pair, *TINY, "--into", host, "--protect-class", "d", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["classes"] == ["b", "x", "y", "a", "c", "d"]
    assert ran.json["train_images"] == 24 + 4 * 8
    assert ran.json["share"] == pytest.approx(8 / 56)
    assert "protected classes: d" in ran.json["scenario"]
    half = uex("eval", *pair, *TINY, "--into", host, "--protect-class", "b", "--share", 0.5, "--json")
    assert half.json["share"] == pytest.approx(4 / 56)  # of our own eight, although the host has a class b too
    test = bright(tmp_path / "test", ("b", "x", "y"), 4, first=900)
    other = uex("eval", *pair, *TINY, "--into", host, "--into-test", test, "--json")
    assert other.json["train_images"] == 30 + 4 * 10 and other.json["test_images"] == 12 + 16


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (("--share", 0), 2, "--share"),
        (("--share", 1.5), 2, "--share"),
        (("--share", 0.001), 3, "no training image would be protected"),
        (("--protect-class", "z"), 2, "no such class"),
        (("--protect-class", "1%"), 2, "0 of 4 classes"),
        (("--merge", 1), 2, "two classes or more"),
        (("--merge", 4), 2, "only 4 classes"),
        (("--merge", "gone.csv"), 2, "neither a number nor a file"),
        (("--merge", "bad.csv"), 3, "class,group"),
        (("--merge", "few.csv"), 3, "no group for class b"),
        (("--into-test", "photos"), 2, "no --into"),
        (("--into", "gone"), 2, "gone"),
        (("--into", "photos", "--view", "crop"), 2, "squashed"),
        (("--shard", "3/2"), 2, "i/n"),
        (("--shard", "one"), 2, "i/n"),
        (("--pairs", "gone.csv"), 2, "no such file"),
        (("--pairs", "bad.csv"), 3, "a,b,same"),
        (("--pairs-middle", 0), 2, "--pairs-middle"),
        (("--target", "nobody"), 2, "unknown target"),
        (("--against", "jpeg:10+"), 2, "unknown countermeasure"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    words: tuple[Any, ...], code: int, wanted: str, pair: tuple[Path, Path], uex: Uex
) -> None:
    Path("bad.csv").write_text("x,y\n1,2\n")
    Path("few.csv").write_text("class,group\na,x\n")
    ran = uex("eval", *pair, *TINY, *words)
    assert ran.code == code, ran.err
    assert wanted in ran.err


def test_pairs_of_faces_are_verified(pair: tuple[Path, Path], uex: Uex, tmp_path: Path) -> None:
    photos, release = pair
    lines = ["a,b,same"]
    for index in range(0, 18, 2):
        lines.append(f"a/{index}.png,a/{index + 1}.png,1")
        lines.append(f"a/{index}.png,d/{index}.png,0")
    (photos / "pairs.csv").write_text("\n".join(lines))
    common = ("eval", photos, release, "--pairs", photos / "pairs.csv", "--epochs", 2)
    ran = uex(*common, "--target", "small:width=8,batch=16", "--json")
    assert ran.code == 0, ran.err
    run = ran.json["cells"][0]["clean"]["runs"][0]
    assert run["auc"] > 0.8 and run["frozen_auc"] is None
    shown = uex(*common, "--target", "small:width=8,batch=16", "--pairs-middle", 0.9)
    assert "AUC of pairs: clean" in shown.out
    (photos / "pairs.csv").write_text("a,b,same\na/0.png,gone.png,1\na/0.png,a/2.png,0\n")
    missing = uex(*common, "--target", "small")
    assert missing.code == 3 and "there is no gone.png" in missing.err
    (photos / "pairs.csv").write_text("a,b,same\na/0.png,a/1.png,1\n")
    assert "both needed" in uex(*common, "--target", "small").err


def test_mobilefacenet_knows_faces(real_data: Path, tmp_path: Path) -> None:
    import zipfile

    from uexcli.builtin.surrogates._mobilefacenet import MobileFaceNet
    from uexcli.commands.evaluate.data import read_pairs
    from uexcli.core import nets

    with zipfile.ZipFile(real_data / "lfw_pairs_gray250.zip") as archive:
        archive.extractall(tmp_path)
    pairs = read_pairs(tmp_path / "pairs.csv", 112, 1, 0.5, torch.device("cpu"))
    few = slice(None, None, 4)
    net = MobileFaceNet(num_classes=2, size=112, weights=str(real_data / "weights" / "mobilefacenet.safetensors"))
    left, right = (nets.embed(net, side[few]) for side in (pairs.left, pairs.right))
    assert area(torch.nn.functional.cosine_similarity(left, right), pairs.same[few]) > 0.97


def test_options_may_be_named_in_a_spec() -> None:
    made: Any = load().make(plugin.Target, "target", "small:7,width=9,lr=0.5")  # type: ignore[type-abstract]
    assert (made.epochs, made.width, made.lr) == (7, 9, 0.5)
    with pytest.raises(UsageError, match="no int"):
        load().make(plugin.Target, "target", "small:width=x")  # type: ignore[type-abstract]
    with pytest.raises(UsageError, match="no int"):
        load().make(plugin.Target, "target", "small:widht=3")  # type: ignore[type-abstract]


def test_the_host_may_have_test_classes_of_its_own(pair: tuple[Path, Path], uex: Uex, tmp_path: Path) -> None:
    host = bright(tmp_path / "host", ("u", "x", "y"), 10, first=500)
    test = bright(tmp_path / "test", ("x", "y"), 4, first=900)
    sources = eval_data.Sources(str(pair[0]), str(pair[1]), None, None, 16, "fail")
    (data,) = eval_data.read(sources, torch.device("cpu"), Listener())
    made = into(data, str(host), str(test), sources, Listener())
    assert made.classes[:3] == ("u", "x", "y")
    assert made.test_labels[:8].tolist() == [1] * 4 + [2] * 4
    (test / "x").rename(test / "q")
    assert "not those of" in uex("eval", *pair, *TINY, "--into", host, "--into-test", test).err


def test_copies_of_the_photos_are_taken_out_of_the_host(pair: tuple[Path, Path], uex: Uex, tmp_path: Path) -> None:
    host = bright(tmp_path / "host", ("x", "y"), 10, first=500)
    shutil.copy(pair[0] / "a" / "0.png", host / "x" / "copy.png")
    ran = uex("eval", *pair, *TINY, "--into", host, "--json")
    assert ran.code == 0 and "1 images of the host are among the photos" in ran.err


def test_small_classes_do_not_turn_a_share_into_classes(tmp_path: Path) -> None:
    labels = torch.tensor([0] * 40 + [1] * 4)
    images = pictures(44)
    keys = tuple(map(str, range(44)))
    data = eval_data.Data(images, 255 - images, labels, images, labels, ("a", "b"), "held out", keys=keys)
    few = scenario.stage(data, scenario.Wanted(0.1))
    assert few.protected_classes == () and "clean part" in few.sides
    most = scenario.stage(data, scenario.Wanted(0.9))
    assert int(most.sides["protected"].parts[40:].sum()) == 4 and "clean part" not in most.sides  # type: ignore[index]


def test_a_training_knows_the_files_it_was_given(pair: tuple[Path, Path], uex: Uex, onnx_encoder: Path) -> None:
    shutil.copy(onnx_encoder, "enc.onnx")
    words = ("eval", *pair, "--target", "onnx:enc.onnx", "--folds", 1, "--json")
    assert uex(*words).json["reused"] == 0
    assert uex(*words).json["reused"] == 2
    model = onnx.load("enc.onnx")
    model.doc_string = "another"
    onnx.save(model, "enc.onnx")
    assert uex(*words).json["reused"] == 0


def test_the_same_target_by_two_names_is_trained_once(pair: tuple[Path, Path], uex: Uex) -> None:
    ran = uex("eval", *pair, *TINY[2:], "--target", "airbench:width=16", "--target", "auto", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["cells"]) == 1
    same = uex("eval", *pair, *TINY, "--against", "jpeg", "--against", "jpeg:10", "--fresh", "--json")
    assert same.code == 0 and len(same.json["cells"]) == 3


@pytest.mark.parametrize(
    ("device", "size", "wanted"),
    [
        ("cpu", 32, "airbench:width=16"),
        ("cpu", 97, "small"),
        ("cuda", 96, "airbench"),
        ("cuda", 97, "resnet18"),
        ("mps", 32, "resnet18"),
    ],
)
def test_the_default_target_goes_by_device_and_size(device: str, size: int, wanted: str) -> None:
    protocol = eval_protocol.Protocol()
    made = jobs.jobs_of(load(), protocol, torch.device(device), size, strict=True, listener=Listener())
    assert [job.name for job in made] == [wanted]


def test_a_net_that_broke_down_has_no_gradient() -> None:
    net = SmallNet(num_classes=2, channels=3, size=16, width=4)
    images, labels = pictures(8), torch.arange(8) % 2
    assert reached(net, images, labels) == 1
    torch.nn.init.constant_(net.head.weight, float("nan"))
    assert reached(net, images, labels) == 0


def test_groups_are_known_whatever_the_number_of_classes() -> None:
    count = 250
    labels = torch.arange(count)
    images = pictures(count)
    trial = MemoryTrial(images, labels, images, labels, count, 0, 1, torch.device("cpu"))
    book = trial.scores()
    book.epoch(lambda shown: labels)
    made = book.outcome(lambda shown: labels, seconds=1.0)
    assert made.confusion == () and made.right == (1,) * count


def test_values_do_not_follow_options_by_name() -> None:
    with pytest.raises(UsageError, match="comes after"):
        load().make(plugin.Target, "target", "resnet18:schedule=75,90,100")  # type: ignore[type-abstract]
    with pytest.raises(UsageError, match="twice"):
        load().make(plugin.Target, "target", "small:3,epochs=4")  # type: ignore[type-abstract]


def test_crops_are_only_for_targets_that_see_them(pair: tuple[Path, Path], uex: Uex) -> None:
    ran = uex("eval", *pair, "--target", "airbench:width=4", "--epochs", 3, "--view", "crop")
    assert "sees the middles of the photos" in ran.err
