"""shield: band, whose textures are made to be read after JPEG, WebP and the like."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.builtin.methods.band import Band, dealt, textures_of
from uexcli.plugin import Method, OnStep, Problem, Progress, hookimpl, option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from uexcli.builtin.methods._reader import Reader, Treatment
    from uexcli.builtin.methods._textures import Textures

AT_ONCE = 256 * 32**2  # pixels of the photos that move together: one treatment is drawn for all of them
SAMPLE = 2000  # clean photos that tell how loud each texture usually is
SLOWER = 0.8  # of the length of a step, by the last one


@dataclass(frozen=True)
class Shield(Method):
    """Starts as `band`, then moves each photo's noise so that its textures can be read after more is done to the photo.

    What reads them is a closed form: the power of each class's texture in small windows. Each step draws a treatment
    (JPEG, WebP, fewer bits, half the size, noise, on another grid of blocks), applies the real one, and goes down the
    gradient of the cross-entropy as if the treatment had changed nothing. No net is asked, so the noise is nobody's in
    particular; neither are those that will judge it.
    """

    name: ClassVar[str] = "shield"
    summary: ClassVar[str] = "band, made to hold under JPEG, WebP and the like, photo by photo; no surrogate"
    undone_by: ClassVar[tuple[str, ...]] = Band.undone_by
    paper: ClassVar[str] = "uex's own"
    needs_surrogate: ClassVar[bool] = False
    modes: ClassVar[tuple[str, ...]] = ("samplewise",)
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    takes_patches: ClassVar[bool] = False
    usual_for: ClassVar[dict[str, int]] = {"photos": 1, "small images": 1}
    test_options: ClassVar[dict[str, Any]] = {"steps": 2}

    blue: float = option(1.0, "share of blue that carries a texture of its own; the rest goes with red and green")
    against: str = option("", "adversarial: red is the opposite of blue; holds under adversarial:4/255, not under JPEG")
    jnd: float = option(0.0, "no value changes by more than so many times what is just noticeable there; 0: no limit")
    steps: int = option(60, "steps of each photo's noise")
    step: float = option(0.125, "length of the first step, as a share of eps; the last one is a fifth of it")
    momentum: float = option(0.5, "share of the direction of a step that the next one keeps")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.step <= 0 or not 0 <= self.momentum < 1:
            raise ValueError("steps must be at least 1, step above 0, momentum at least 0 and below 1")
        Band(blue=self.blue, against=self.against, jnd=self.jnd)  # refuses what it does not know

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Move the noise, a few photos at a time, or go on with those that are left."""
        import torch

        saved = problem.journal.load() or {}
        delta = problem.copy(saved["delta"]) if "delta" in saved else problem.bank()
        done = int(saved.get("done", 0))
        del saved  # it keeps the file of an old state
        every = -(-len(problem.images) // SAMPLE)
        textures, reader = self._tools(problem, torch.arange(0, len(problem.images), every))
        for batch in problem.batches(at_once(problem)):
            if int(batch[0]) < done:
                continue
            delta[problem.rows[batch].to(delta.device)] = self._moved(problem, batch, textures, reader).to(delta.device)
            done = int(batch[-1]) + 1
            problem.journal.save(lambda done=done: {"delta": delta, "done": done})  # type: ignore[misc]
            on_step(Progress(done, len(problem.images), "moving the textures"))
        return delta

    def _tools(self, problem: Problem, few: Tensor) -> tuple[Textures, Reader]:
        """Make what draws the textures of the classes, and what reads them; `few` images tell how loud they are."""
        import torch

        from uexcli.builtin.methods._reader import Reader, around, heard, wanted

        _, _, side, _ = problem.shape
        textures_of(problem.num_classes, self.name)  # refuses too many by this method's name
        like = Band(blue=self.blue, against=self.against, jnd=self.jnd)
        textures: Any = like.network(channels=problem.shape[1], size=side, num_rows=problem.num_classes)
        dealt(problem, textures)
        places, which = textures.places.flatten(0, 1).unique(dim=0, return_inverse=True)
        windows = wanted(textures.regions, which.view(textures.places.shape[:2])).to(problem.device)
        gains = around(places, side).to(problem.device)
        parts = problem.batches(at_once(problem), only=few)
        usual = torch.cat([heard(problem.inputs(part), gains).mean((2, 3)) for part in parts])
        count = problem.reduce(usual.new_tensor(len(usual)))
        usual = problem.reduce(usual.sum(0)) / count
        return textures.to(problem.device), Reader(gains, windows, usual[:, None, None])

    def _moved(
        self,
        problem: Problem,
        batch: Tensor,
        textures: Textures,
        reader: Reader,
        treatments: Iterable[Treatment] | None = None,
    ) -> Tensor:
        """Give the noise of the images with indices `batch`, float `(B, C, S, S)`: after steps under `treatments`."""
        import torch

        from uexcli.builtin.methods._reader import drawn, treated

        images, labels = problem.inputs(batch), problem.labels[batch].to(problem.device)
        generator = problem.generator(f"treatments {int(batch[0])}")
        noise = textures.luma(images, labels)
        blue = textures.blue(images, labels) if images.shape[1] == 3 else None
        limits, speed = textures.limits(images), torch.zeros_like(noise)
        reach = problem.norm.reach(problem.eps)
        # beyond its limit there is no gradient
        within = noise.new_tensor(reach) if limits is None else limits[:, 0].clamp(max=reach)

        def whole(luma: Tensor) -> Tensor:
            return textures.limited(luma, blue, limits)

        def shown(luma: Tensor) -> Tensor:
            added, matrix = whole(luma), problem.survival
            return (images + (added if matrix is None else matrix @ added @ matrix.T)).clamp(0, 1)

        noise = noise.clamp(-within, within)
        for number, treatment in enumerate(treatments or (drawn(generator) for _ in range(self.steps))):
            noise.requires_grad_(True)
            seen = treated(shown(noise), treatment, generator)
            (grad,) = torch.autograd.grad(reader.loss(seen, labels), noise)
            scale = grad.abs().mean((1, 2), keepdim=True).clamp(min=torch.finfo(grad.dtype).tiny)
            speed = self.momentum * speed + grad / scale
            length = self.step * reach * (1 - SLOWER * number / self.steps)
            noise = (noise.detach() - length * speed.sign()).clamp(-within, within)
        return whole(noise)

    def rehearse(self, problem: Problem) -> float:
        """Time a step of some photos under each treatment, the second time, and weigh it as often as it is drawn."""
        from uexcli.builtin.methods._reader import TREATMENTS

        batch = next(problem.batches(at_once(problem)))
        textures, reader = self._tools(problem, batch)
        mean = 0.0
        for treatment, weight in TREATMENTS:
            for _ in range(2):
                begun = time.perf_counter()
                float(self._moved(problem, batch, textures, reader, [treatment]).sum())  # waits for the device
                spent = time.perf_counter() - begun
            mean += weight * spent / sum(every for _, every in TREATMENTS)
        return mean * self.steps * len(problem.images) / len(batch)


def at_once(problem: Problem) -> int:
    """How many images move together: what reads them keeps a plane for each texture."""
    return max(4, AT_ONCE // problem.shape[2] ** 2)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Shield]
