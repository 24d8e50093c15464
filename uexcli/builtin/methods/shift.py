"""shift: what pretrained nets see in the photos of a class is moved to where they see another class."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin import Method, OnStep, Problem, Progress, UexError, Work, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uexcli.builtin.methods._heads import Head
    from uexcli.plugin import Frozen

NETS = (
    "efficientnet_lite1:side=128, efficientnet_lite0:side=176, efficientnet_lite1, efficientnet_lite0:side=128, "
    "efficientnet_lite1:side=184, efficientnet_lite0:side=272, efficientnet_lite1:side=288"
)
PART = 8  # photos whose maps fit into a CPU's caches: at 224 px a third faster than 32
FEW, REHEARSED = PART, 2  # photos of a rehearsal on a CPU, and lessons
LESSON, LOOKING = 40.0, 0.4  # passes of a photo, there and back, that take as long as a lesson, and as a look
LOOK = 32  # photos a pretrained net looks at together


@dataclass(frozen=True)
class Shift(Method):
    """Moves each photo in the features of pretrained nets towards another class, through codecs and crops.

    Whoever starts from a pretrained net trains little more than what reads classes off its features, so these are
    moved. For each net a linear probe is fitted to the clean photos. The noise lowers the score of the true class
    less that of another, s_y - s_t, where t is drawn for each photo out of those that come next in a secret cycle of
    all classes: what such a probe then learns of class y is what clean photos of several others look like, and no
    renaming of classes sets that right. Steps are sign steps with momentum (Dong et al., CVPR 2018), each on the
    gradient of one of the nets in turn, of photos that were treated in a way drawn for the batch.

    Other nets than these are reached by three things: photos are seen at several sides; what skip connections lead
    around passes less of the gradient (Wu et al., ICLR 2020); and the nets are first taught, on the photos, to bear
    changes of a level, since what fools a net that is a little robust fools others (Springer et al., NeurIPS 2021).
    """

    name: ClassVar[str] = "shift"
    summary: ClassVar[str] = "against pretrained nets: their features of a class are moved to others'"
    paper: ClassVar[str] = "uex's own, after Fowl et al., NeurIPS 2021, and Dong et al., CVPR 2018"
    needs_pretrained: ClassVar[bool] = True
    undone_by: ClassVar[tuple[str, ...]] = ("jpeg:30",)
    usual_for: ClassVar[dict[str, int]] = {"photos": 2}
    usual_modes: ClassVar[tuple[str, ...]] = ("samplewise",)  # rows that photos share do little
    usual_most: ClassVar[int] = 1000  # some 50 minutes of two cores
    photo_side: ClassVar[int] = 224  # noise that is stretched from 128 px to that does next to nothing
    modes: ClassVar[tuple[str, ...]] = ("samplewise", "classwise", "clusterwise")
    test_options: ClassVar[dict[str, Any]] = {"steps": 2, "batch": 8, "nets": "", "lessons": 2}

    nets: str = option(NETS, "further pretrained surrogates beside the one of --surrogate, with commas")
    robust: float = option(1.0, "levels of change that the nets are first taught to bear; 0: they stay as they are")
    lessons: int = option(80, "steps of that teaching, of 16 photos each")
    steps: int = option(80, "steps of each photo's noise, or passes over all photos where they share it")
    step: float = option(1 / 8, "length of a step, as a share of eps")
    momentum: float = option(
        0.9, "share of the direction of a step that the next one keeps, where each has its own noise"
    )
    spread: int = option(
        9, "classes to which the photos of one are moved; 1: farther, but who renames classes reads them"
    )
    jnd: float = option(0.0, "no value changes by more than so many times what is just noticeable there; 0: no limit")
    branches: float = option(0.5, "share of the gradient that passes what skip connections lead around")
    batch: int = option(32, "photos that move together, and are treated alike")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.steps, self.batch, self.lessons, self.spread) < 1 or self.step <= 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                "steps, batch, lessons and spread must be at least 1, step above 0, momentum from 0 to below 1"
            )
        if not 0 <= self.jnd < math.inf:
            raise ValueError("jnd must be at least 0")
        if not 0 < self.branches <= 1 or not 0 <= self.robust <= 255:
            raise ValueError("branches must be above 0, and at most 1, robust between 0 and 255")

    @property
    def spare_nets(self) -> int:
        """The further ones."""
        return len(self.ensemble)

    @property
    def ensemble(self) -> tuple[str, ...]:
        """The further nets; a part with no more than an option belongs to the net before it."""
        found: list[str] = []
        for part in filter(None, (each.strip() for each in self.nets.split(","))):
            if found and "=" in part.partition(":")[0]:
                found[-1] += f",{part}"
            else:
                found.append(part)
        return tuple(found)

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Fit the probes, then move the noise.

        Raises:
            UexError: there is one class only, or a net gives what is no number.
        """
        return _Fit(self, problem, on_step).run()

    def largest_batch(self, images: int) -> int:
        """Those of a lesson, or half of those that move: a frozen net keeps less than half of one that learns."""
        return min(max(16, -(-self.batch // 2)), images)

    def work(self, images: int, *, rows: int) -> Work:
        """The steps, each a pass of one net; `rehearse` times them."""
        return Work(images * self.steps, images * self.steps)

    def rehearse(self, problem: Problem) -> float:
        """A lesson, a look and a step of each net, which differ in size, at a few photos."""
        import torch

        count = len(problem.images)
        some = torch.arange(min(self.batch, count, count if problem.device.type == "cuda" else FEW))
        return _Fit(self, problem, lambda _: None, only=some.to(problem.images.device)).seconds()


class _Fit:
    """A fit under way: `done` photos have their noise; where photos share it, so many passes over them are over.

    Nets are taught anew when it goes on: that takes a minute, and gives the same.
    """

    def __init__(self, method: Shift, problem: Problem, on_step: OnStep, *, only: Tensor | None = None) -> None:
        if problem.num_classes < 2:
            raise UexError(
                "shift needs two classes: each is moved to another.",
                hint="Put photos in class folders; without labels, photos that are all alike are one class.",
            )
        self._delta = problem.start(random=False)
        if method.jnd and not (problem.per_sample and self._delta.shape[2:] == problem.images.shape[2:]):
            raise UexError(
                "shift: jnd needs a noise for each photo, as big as it.", hint="Use `mode=samplewise`, no `patch`."
            )
        self._method, self._problem, self._on_step, self._only = method, problem, on_step, only
        nets = [problem.build(), *problem.ensemble()]
        self._spent = {"lessons": 0.0, "looks": 0.0}
        self._past = 0.0  # in passes of a photo
        self._total = len(problem.images) * (method.steps + LOOKING * len(nets))
        began = time.perf_counter()
        if method.robust:
            self._harden(nets)
        self._nets: list[Frozen] = [problem.freeze(net, features=True, branches=method.branches) for net in nets]
        self._heads = [self._head(net, f"net {number} of {len(nets)}") for number, net in enumerate(self._nets, 1)]
        # what takes as long for many photos as for a few
        self._once = time.perf_counter() - began - sum(self._spent.values())
        self._others = others(problem, method.spread)
        self._done = self._part = 0  # and so many steps of the next batch, or batches of the next pass
        self._speed: Tensor | None = None  # the direction of the last step

    def _harden(self, nets: list[nn.Module]) -> None:
        """Teach each net, or those that differ in the side at which they see photos the same."""
        from uexcli.builtin.methods._hardened import copied, harden, kinds

        problem, method = self._problem, self._method
        found = kinds(nets)
        self._total += len(found) * (method.lessons * LESSON + LOOKING * len(problem.images))
        for number, alike in enumerate(found):
            first = min(alike, key=lambda net: getattr(net, "side", 0))  # the cheapest
            head = self._head(problem.freeze(first, features=True), f"net {number + 1} of {len(found)}")
            lessons = method.lessons if self._only is None else REHEARSED
            draws, bound = problem.generator(f"lessons {number}"), method.robust / 255
            began = time.perf_counter()
            for done, _ in enumerate(harden(first, head, problem, draws, bound=bound, steps=lessons), 1):
                self._tell(LESSON, f"net {number + 1} of {len(found)} is taught: {done} of {lessons} lessons")
            self._spent["lessons"] += time.perf_counter() - began
            for other in alike:
                copied(first, other)

    def _head(self, net: Frozen, which: str) -> Head:
        import torch

        from uexcli.builtin.methods._heads import fitted

        problem = self._problem

        def looks() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in problem.batches(LOOK, only=self._only):
                began = time.perf_counter()
                with torch.inference_mode():
                    features = net(problem.inputs(batch))
                features.sum().item()  # waits for a GPU
                self._spent["looks"] += time.perf_counter() - began
                self._tell(LOOKING * len(batch), f"{which} looks at the photos")
                yield features, problem.labels[batch].to(features.device)

        head = fitted(looks(), problem.num_classes, problem.reduce)
        if not head.weight.isfinite().all():
            raise UexError(
                f"{which} gives what is no number.", hint="Use `precision=float32`, or a smaller `options[robust]`."
            )
        return head

    def seconds(self) -> float:
        """Take a step of each net on the photos it looked at; give the seconds of a whole fit."""
        assert self._only is not None
        view, steps = self._problem.generator("rehearsal"), 0.0
        for number in range(len(self._nets)):
            for _ in range(2):  # the first one also gets things ready
                began = time.perf_counter()
                self._step(self._only, number, 0.0, view, None).sum().item()
                last = time.perf_counter() - began
            steps += last
        each = (self._spent["looks"] + self._method.steps * steps / len(self._nets)) / len(self._only)
        return len(self._problem.images) * each + self._once + self._spent["lessons"] / REHEARSED * self._method.lessons

    def run(self) -> Tensor:
        """Go on to the end."""
        problem, method = self._problem, self._method
        saved = problem.journal.load()
        if saved is not None:
            self._delta = problem.copy(saved["delta"], into=self._delta)
            speed = saved.get("speed")
            self._done, self._part = int(saved["done"]), int(saved["part"])
            self._speed = None if speed is None else speed.clone()
            del saved, speed  # of a file that may be mapped, and is replaced
        if problem.per_sample:
            self._each()
        else:
            self._shared()
        count = len(self._nets)
        self._on_step(Progress(1, 1, f"{method.steps} steps through {count} net{'s' if count > 1 else ''}"))
        return self._delta

    def _each(self) -> None:
        """Take all steps of a batch, then go to the next."""
        problem, method = self._problem, self._method
        self._past += self._done * method.steps
        for batch in problem.batches(method.batch):
            first = int(batch[0])
            if first < self._done:
                continue
            self._past += self._part * len(batch)
            for step in range(self._part, method.steps):
                view = problem.generator(f"view {first} {step}")
                speed = None if self._speed is None else self._speed.to(problem.device)
                self._speed = self._step(batch, step, method.step, view, speed)
                self._part = step + 1
                self._tell(len(batch), "moving the photos")
                self._save()
            self._done, self._part, self._speed = int(batch[-1]) + 1, 0, None
            self._save()

    def _shared(self) -> None:
        """Take one step of every batch, as often as there are steps; the later, the shorter."""
        problem, method = self._problem, self._method
        self._past += self._done * len(problem.images)
        for number in range(self._done, method.steps):
            length = method.step * (1 - number / method.steps)
            for place, batch in enumerate(problem.batches(method.batch, problem.generator(f"batches {number}"))):
                self._tell(len(batch), "moving the noise of all photos")
                if place < self._part:
                    continue
                self._step(batch, number + place, length, problem.generator(f"view {number} {place}"), None)
                self._part = place + 1
                self._save()
            self._done, self._part = number + 1, 0
            self._save()

    def _step(self, batch: Tensor, number: int, length: float, view: Generator, speed: Tensor | None) -> Tensor:
        """Move the rows of a batch once by the gradient of one of the nets; give the direction, for the next step."""
        import torch

        problem, drawn = self._problem, view.get_state()
        parts = []
        for part in batch.split(PART if problem.device.type == "cpu" else len(batch)):
            view.set_state(drawn)  # all parts are treated alike
            parts.append(self._gradient(part, number % len(self._nets), view))
        grad = torch.cat(parts)
        grad = grad / grad.abs().mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(grad.dtype).tiny)
        if speed is not None:
            grad = grad + self._method.momentum * speed
        problem.apply_gradient(self._delta, batch, grad, step=length)
        if self._method.jnd:
            self._limit(batch)
        return grad

    def _limit(self, batch: Tensor) -> None:
        """Keep the noise of photos below what is noticeable on them."""
        from uexcli.builtin.methods._noticeable import Noticeable

        problem, delta = self._problem, self._delta
        limits = Noticeable().to(problem.device).limits(problem.inputs(batch), self._method.jnd).to(delta)
        rows = problem.rows[batch].to(delta.device)
        delta[rows] = delta[rows].clamp(-limits, limits)
        problem.release()

    def _gradient(self, batch: Tensor, which: int, view: Generator) -> Tensor:
        """Give the gradient, `(B, C, S, S)`, of how much more a net takes photos for their own class than the other."""
        import torch

        from uexcli.builtin.methods._shown import shown

        problem = self._problem
        images = problem.published(self._delta, batch).detach().requires_grad_(True)
        scores = self._heads[which](self._nets[which](shown(images, view)))
        labels = problem.labels[batch].to(scores.device)
        others = self._others[batch.to(scores.device)]
        true, other = (scores.gather(1, wanted[:, None]) for wanted in (labels, others))
        (grad,) = torch.autograd.grad((true - other).sum(), images)
        return grad

    def _save(self) -> None:
        speed = {} if self._speed is None else {"speed": self._speed}
        state = {"delta": self._delta, "done": self._done, "part": self._part, **speed}
        self._problem.journal.save(lambda: state)

    def _tell(self, passes: float, note: str) -> None:
        self._past += passes
        self._on_step(Progress(min(self._past, self._total), self._total, note))


def others(problem: Problem, spread: int) -> Tensor:
    """Draw the class to which each photo is moved, int64 `(N,)`, keyed by the seed.

    A cycle of all classes is drawn. A photo is moved to one of the `spread` classes after its own in it; photos that
    share their noise are moved to the same one of them.
    """
    import torch

    classes = problem.num_classes
    cycle = problem.secret("classes").permutation(classes)
    place = torch.empty_like(cycle)
    place[cycle] = torch.arange(classes)
    ahead = 1 + problem.secret("ahead").integers(min(spread, classes - 1), problem.num_rows)
    found = cycle[(place[problem.labels.cpu()] + ahead[problem.rows.cpu()]) % classes]
    return found.to(problem.device)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Shift]
