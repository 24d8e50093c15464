"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6 (Tan and Le, ICML 2019; Google, 2020)."""

from __future__ import annotations

import math

from torch import Tensor, nn

# kernel, stride, expansion, outputs, repeats
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, OUTPUTS = 32, 1280
MULTIPLE = 8  # of which channels are, however wide the net


class Lite(nn.Module):
    """Normalised images `(B, 3, side, side)` to features `(B, 1280)`.

    `width` multiplies the channels of the stages and `depth` the blocks of all but the first and the last; stem and
    features keep their size. Its state has the tensors of the published file in their order. Padding is TensorFlow's:
    the odd pixel comes last.
    """

    def __init__(self, side: int, *, width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, STEM, 3, 2, side))
        side = -(-side // 2)
        blocks: list[nn.Module] = []
        inputs = STEM
        for kernel, first, expansion, narrow, few in STAGES:
            outputs, repeats = _channels(narrow * width), few if few == 1 else math.ceil(few * depth)
            for repeat in range(repeats):
                stride = first if repeat == 0 else 1
                blocks.append(Block(inputs, outputs, kernel, stride, expansion, side))
                inputs, side = outputs, -(-side // stride)
        self.blocks = nn.Sequential(*blocks)
        self.top = nn.Sequential(*_conv(inputs, OUTPUTS, 1, 1, side))

    def forward(self, images: Tensor) -> Tensor:
        """The mean of the last feature maps."""
        maps: Tensor = self.top(self.blocks(self.stem(images)))
        return maps.mean((2, 3))


class Block(nn.Module):
    """An inverted residual: expand, filter each channel, project; added to its input where their shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, side: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = _conv(inputs, inner, 1, 1, side) if expansion > 1 else []
        filters = _conv(inner, inner, kernel, stride, side, groups=inner)
        project = _conv(inner, outputs, 1, 1, side)[:-1]
        self.net = nn.Sequential(*expand, *filters, *project)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """`(B, inputs, h, w)` to `(B, outputs, h / stride, w / stride)`."""
        made: Tensor = self.net(maps)
        return maps + made if self.adds else made


def _channels(wanted: float) -> int:
    """Round to a multiple, but never down by more than a tenth."""
    channels = max(MULTIPLE, int(wanted / MULTIPLE + 0.5) * MULTIPLE)
    return channels if channels >= 0.9 * wanted else channels + MULTIPLE


def _conv(inputs: int, outputs: int, kernel: int, stride: int, side: int, groups: int = 1) -> list[nn.Module]:
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    before, after = total // 2, total - total // 2
    odd = before != after
    conv = nn.Conv2d(inputs, outputs, kernel, stride, 0 if odd else before, groups=groups, bias=False)
    pad: list[nn.Module] = [nn.ZeroPad2d((before, after, before, after))] if odd else []
    return [*pad, conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), nn.ReLU6(inplace=True)]
