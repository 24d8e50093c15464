"""The network that noise is drawn with: it gives noise a form that resizing keeps, and that nets take to."""

from __future__ import annotations

from torch import Tensor, nn


class Generator(nn.Module):
    """Float `(1, C, S, S)`, S divisible by 4, to `(1, C, S, S)` within [-1, 1].

    Two halvings, residual blocks, two doublings. The published one has 64 channels at full size and 6 blocks. Its batch
    norm sees a batch of one image, and so normalises each channel of it, as instance norm does.
    """

    def __init__(self, *, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        wide = 4 * width
        self.net = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, width, 7, bias=False),
            *_after(width),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            *_after(2 * width),
            nn.Conv2d(2 * width, wide, 3, stride=2, padding=1, bias=False),
            *_after(wide),
            *(Residual(wide) for _ in range(blocks)),
            nn.ConvTranspose2d(wide, 2 * width, 3, stride=2, padding=1, output_padding=1, bias=False),
            *_after(2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=False),
            *_after(width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels, 7),
            nn.Tanh(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Draw."""
        drawn: Tensor = self.net(latent)
        return drawn


class Residual(nn.Module):
    """Two 3x3 convolutions, added to what they were given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            *_after(width),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            nn.InstanceNorm2d(width, affine=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """`(1, width, h, w)` to the same."""
        change: Tensor = self.net(maps)
        return maps + change


def _after(width: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(width, affine=True), nn.ReLU(inplace=True)]
