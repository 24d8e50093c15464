"""A small denoising autoencoder: photos go through a code of half their values, noise should not."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.core.seeding import generator as seeded
from uexcli.core.seeding import global_seed

WIDTH, CODE = 32, 24  # channels of the first layer, and of the code, which has a quarter of the side
BATCH, LR = 64, 3e-3
EPS = 8 / 255  # of the noise it learns to take out

_kept: dict[str, nn.Module] = {}  # the last one: clean and protected images, and all epochs, take the same


class Autoencoder(nn.Module):
    """Float images `(B, C, S, S)` in [0, 1] to the same, any side: two strided convolutions down, two shuffles up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * WIDTH
        self.down = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1), nn.GELU(),
            nn.Conv2d(WIDTH, wide, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(wide, wide, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(wide, CODE, 1),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.Conv2d(CODE, wide, 3, padding=1), nn.GELU(),
            nn.Conv2d(wide, 4 * wide, 1), nn.PixelShuffle(2),
            nn.Conv2d(wide, wide, 3, padding=1), nn.GELU(),
            nn.Conv2d(wide, 4 * WIDTH, 1), nn.PixelShuffle(2), nn.GELU(),
            nn.Conv2d(WIDTH, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Encode and decode; sides that 4 does not divide are padded and cut back."""
        height, width = images.shape[2:]
        padded = functional.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        made: Tensor = self.up(self.down((padded - 0.5) * 4)) / 4 + 0.5
        return made[:, :, :height, :width]


def trained(clean: Tensor, generator: Generator, *, epochs: int) -> nn.Module:
    """Learn to take noise out of clean images, uint8 `(M, C, S, S)`; the same images and generator give the same net.

    The noise is drawn anew: of each image uniform, of full size with random signs, or that in smooth patches.
    """
    seed = int(torch.randint(0, 2**62, (), generator=generator))
    digest = hashlib.sha256(clean.cpu().contiguous().numpy().tobytes())
    digest.update(f"{tuple(clean.shape)} {seed} {epochs} {clean.device}".encode())
    if (known := _kept.get(digest.hexdigest())) is not None:
        return known
    drawn = seeded(seed, "purifier")
    with global_seed(seed, "purifier"):
        net: nn.Module = Autoencoder(clean.shape[1]).to(clean.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=LR)
    steps = epochs * -(-len(clean) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=max(2, steps) + 1)
    for _ in range(epochs):
        for picked in torch.randperm(len(clean), generator=drawn).to(clean.device).split(BATCH):
            images = (clean[picked].float() / 255).contiguous(memory_format=torch.channels_last)
            loss = functional.mse_loss(net((images + _noise(images, drawn)).clamp(0, 1)), images)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
    _kept.clear()
    _kept[digest.hexdigest()] = net.eval().requires_grad_(False)
    return net


def _noise(images: Tensor, generator: Generator) -> Tensor:
    uniform = 2 * torch.rand(images.shape, generator=generator) - 1
    smooth = functional.avg_pool2d(torch.randn(images.shape, generator=generator), 5, stride=1, padding=2)
    kinds = torch.stack([uniform, uniform.sign(), smooth.sign()])
    chosen = torch.randint(0, 3, (len(images),), generator=generator)
    return EPS * kinds[chosen, torch.arange(len(images))].to(images.device)


def purified(net: nn.Module, images: Tensor) -> Tensor:
    """Put images through it: uint8 `(N, C, S, S)` to the same."""

    def through(part: Tensor) -> Tensor:
        shown = (part.float() / 255).contiguous(memory_format=torch.channels_last)
        made: Tensor = net(shown)
        return (made * 255).round().clamp(0, 255).to(part.dtype).contiguous()

    with torch.inference_mode():
        made = torch.cat([through(part) for part in images.split(256)])
    return made.clone()
