"""Features of frozen nets: each image is encoded once, and what was kept is what would be made."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from uexcli import plugin
from uexcli.builtin.surrogates.efficientnet_lite import EfficientnetLite0
from uexcli.core.eval.feature_cache import AT_ONCE_CPU, FeatureCache
from uexcli.core.eval.trial import MemoryTrial
from uexcli.core.nets import SmallNet, as_input
from uexcli.core.seeding import generator, global_seed
from uexcli.registry import load
from uexcli.testing import pictures


class Counting(nn.Module):
    """A small net that counts the images it sees."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seen = 0
        with global_seed(seed, "net"):
            self.net = SmallNet(num_classes=2, channels=3, size=16, width=4)

    def features(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return self.net.features(images)


def test_each_image_is_encoded_once() -> None:
    net, cache, images = Counting(), FeatureCache(), pictures(3 * AT_ONCE_CPU)
    encode = cache.encoder(net, "net")
    whole = encode(images)
    assert net.seen == len(images)
    torch.testing.assert_close(whole, net.net.features(as_input(images)))
    order = torch.randperm(len(images), generator=generator(0, "order"))
    for fold in order.split(5):
        assert torch.equal(encode(images[fold]), whole[fold])
    assert net.seen == len(images), "kept features were made again"
    encode(255 - images[:3])
    assert net.seen == len(images) + AT_ONCE_CPU, "changed images are others"


def test_the_same_image_twice_in_a_row_is_one() -> None:
    net, images = Counting(), pictures(4)
    twice = FeatureCache().encoder(net, "net")(images.repeat(2 * AT_ONCE_CPU, 1, 1, 1))
    assert net.seen == AT_ONCE_CPU
    assert torch.equal(twice[:4], twice[-4:]) and not torch.equal(twice[0], twice[1])


def test_features_do_not_depend_on_what_an_image_is_encoded_with() -> None:
    with global_seed(0, "net"):
        net = EfficientnetLite0(weights="random").build(num_classes=2, channels=3, size=64)
    images = pictures(19, side=64)
    whole = FeatureCache().encoder(net, "net")(images)
    for picked in (torch.tensor([7]), torch.tensor([18, 3, 0]), torch.arange(18, 5, -1)):
        assert torch.equal(FeatureCache().encoder(net, "net")(images[picked]), whole[picked])


def test_nets_are_told_apart_by_their_weights_and_their_names() -> None:
    cache, images = FeatureCache(), pictures(4)
    one, other = Counting(0), Counting(1)
    made = [cache.encoder(net, name)(images) for net, name in ((one, "net"), (other, "net"), (one, "wide"))]
    assert not torch.equal(made[0], made[1]) and (one.seen, other.seen) == (2 * AT_ONCE_CPU, AT_ONCE_CPU)
    same = Counting(0)
    assert torch.equal(cache.encoder(same, "net")(images), made[0]) and same.seen == 0
    with torch.no_grad():
        one.net.body[0].weight.mul_(2)
    assert not torch.equal(cache.encoder(one, "net")(images), made[0])


def test_what_was_not_asked_for_the_longest_goes_where_memory_is_full() -> None:
    net, images = Counting(), pictures(3)
    row = 4 * 16  # bytes: 16 features
    encode = FeatureCache(2 * row).encoder(net, "net")

    def made(place: int) -> bool:
        before = net.seen
        encode(images[place : place + 1])
        return net.seen > before

    assert [made(place) for place in (0, 1, 0, 2, 0, 1)] == [True, True, False, True, False, True]
    nothing = FeatureCache(0).encoder(net, "net")
    before = net.seen
    assert torch.equal(nothing(images), nothing(images)) and net.seen == before + 2 * AT_ONCE_CPU


def test_folds_of_an_evaluation_share_their_features() -> None:
    net, cache, images = Counting(), FeatureCache(), pictures(40)
    labels = torch.arange(40) % 2
    images[labels == 1] //= 2
    made: dict[str, Any] = {"make_surrogate": lambda *_: net, "features": cache}
    order = torch.randperm(40, generator=generator(0, "folds"))
    probe = load().make(plugin.Target, "target", "probe")  # type: ignore[type-abstract]
    outcomes = []
    for test in order.split(8):
        train = torch.tensor([each for each in order.tolist() if each not in test.tolist()])
        trial = MemoryTrial(
            images[train], labels[train], images[test], labels[test], 2, 0, 1, torch.device("cpu"), **made
        )
        outcomes.append(probe.evaluate(trial))
        if test[0] == order[0]:
            alone = probe.evaluate(dataclasses.replace(trial, features=FeatureCache()))
            first = net.seen
    assert net.seen == first == 2 * 40, "a later fold encoded images again"
    assert alone.curve == outcomes[0].curve and min(outcome.last for outcome in outcomes) > 0.6
