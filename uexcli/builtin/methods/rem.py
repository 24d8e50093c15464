"""REM: robust error-minimising noise, for a net that trains adversarially."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Frozen, Method, OnStep, Preset, Problem, Progress, State, Work, hookimpl, option
from uexcli.plugin.resume import Run, take_up, under, within

if TYPE_CHECKING:
    from torch import Generator, Tensor

DECAY = 2 / 5  # of the training, after which the learning rate falls to a tenth: each 2000 of 5000 steps


@dataclass(frozen=True)
class RobustErrorMinimising(Method):
    """Noise d that lowers the loss even where an adversary with radius r changes the image, behind crops and flips.

    min over theta of min over d of max over rho, |rho| <= r, of CE(f(t(x + d) + rho), y). In every step d of the batch
    starts anew (where images share a noise: goes on) and takes `steps` steps down the gradient summed over `draws`
    crops and flips t, each attacked in `attack_steps` steps of rho; then theta learns the attacked images. A last pass
    gives every image its noise.
    """

    name: ClassVar[str] = "rem"
    summary: ClassVar[str] = "error-minimising noise that holds under adversarial training; hours"
    undone_by: ClassVar[tuple[str, ...]] = ("grayscale", "jpeg:10")
    paper: ClassVar[str] = "Fu et al., Robust Unlearnable Examples, ICLR 2022, arXiv 2203.14533"
    presets: ClassVar[tuple[str, ...]] = ("quick", "fu2022-imagenet")
    test_options: ClassVar[dict[str, object]] = {
        "train_steps": 3,
        "steps": 2,
        "draws": 2,
        "attack_steps": 2,
        "batch": 16,
    }
    adversarial_noise: ClassVar[bool] = True  # False: rho is one uniform draw while the noise moves

    train_steps: int = option(5000, "steps of theta")
    batch: int = option(128, "images in a step")
    steps: int = option(10, "steps of the noise in each")
    step: float = option(0.2, "length of a noise step, as a share of eps")
    draws: int = option(5, "crops and flips that a noise step averages over")
    radius: float = option(4.0, "the adversary's radius: no value changes by more, in 8-bit levels")
    attack_steps: int = option(10, "steps of the adversary")
    attack_step: float = option(0.2, "length of a step of the adversary, as a share of its radius")
    lr: float = option(0.1, "learning rate of the surrogate; a tenth of it after each 2/5 of the training")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.train_steps, self.batch, self.steps, self.draws, self.attack_steps) < 1:
            raise ValueError("train_steps, batch, steps, draws and attack_steps must be at least 1")
        if min(self.step, self.attack_step, self.lr) <= 0 or self.radius < 0:
            raise ValueError("step, attack_step and lr must be above 0, and radius not below")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """The paper's constants for ImageNet; or a short training with few draws and a weak adversary."""
        if name == "fu2022-imagenet":
            fixed = {"train_steps": 3000, "steps": 7, "step": 0.25, "draws": 4, "attack_steps": 7, "attack_step": 0.25}
            return Preset(fixed, surrogate="resnet18", eps="8/255")
        return Preset({"train_steps": 300, "batch": 128, "steps": 5, "step": 0.4, "draws": 1, "attack_steps": 3})

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Train and move in turn, then the last pass."""
        run = _Run(self, problem, on_step)
        take_up(run, problem)
        return run.result()

    def largest_batch(self, images: int) -> int:
        """As the option says."""
        return self.batch

    def work(self, images: int, *, rows: int) -> Work:
        """A noise step and its adversary's steps, per draw; a training pass costs one and a half."""
        noise = self.steps * self.draws * (1 + (self.attack_steps if self.adversarial_noise else 0))
        every = self.train_steps * min(self.batch, images) * (noise + self.attack_steps + 1.5) + images * noise
        return Work(every, every)


class _Run(Run):
    def __init__(self, method: RobustErrorMinimising, problem: Problem, on_step: OnStep) -> None:
        self._method, self._problem, self._on_step = method, problem, on_step
        self._trainer = problem.trainer(problem.build(), lr=method.lr, momentum=0.9, decay=5e-4, clip=5, augment=False)
        self._frozen: Frozen = problem.freeze(self._trainer.model)
        self._stream = problem.stream(method.batch, "theta")
        self._draws: Generator = problem.generator("views and starts")
        self._delta = problem.start(random=False)
        self._radius = method.radius / 255
        self._learnt = 0
        self._moved = 0

    def result(self) -> Tensor:
        """Go on to the end."""
        import torch

        method, problem = self._method, self._problem
        last = self._last()
        while self._learnt < method.train_steps:
            batch = next(self._stream)
            self._frozen.refresh()
            self._move(batch)
            views = problem.view(problem.published(self._delta, batch), self._draws)
            self._trainer.lr = method.lr * 0.1 ** int(self._learnt / (DECAY * method.train_steps))
            loss = self._trainer.learn(self._attacked(views, batch), batch)
            self._learnt += 1
            problem.journal.save(self.state)
            note = f", loss {float(loss):.2f}" if self._learnt % 10 == 0 else ""
            self._tell((1 - last) * self._learnt / method.train_steps, f"step {self._learnt:,}{note}")
        self._frozen.refresh()
        for batch in problem.batches(problem.chunk, only=torch.arange(self._moved, len(problem.images))):
            self._move(batch)
            self._moved += len(batch)
            problem.journal.save(self.state)
            self._tell(1 - last + last * self._moved / len(problem.images), "the last pass")
        error = problem.judge(self._trainer.model, self._delta).error
        self._tell(1, f"{method.train_steps:,} steps, surrogate error {error:.1%}")
        return self._delta

    def _last(self) -> float:
        """The share of the last pass in all work."""
        images = len(self._problem.images)
        return images / (images + self._method.train_steps * min(self._method.batch, images))

    def _move(self, batch: Tensor) -> None:
        """Find the noise of a batch: from a random start where each image has its own."""
        import torch

        problem = self._problem
        if problem.per_sample:
            rows = problem.rows[batch].to(self._delta.device)
            start = problem.secret(f"start of {self._learnt}, {self._moved}").uniform(len(batch), *problem.shape[1:])
            self._delta[rows] = start.to(self._delta) * problem.norm.reach(problem.eps)
            problem.apply_gradient(
                self._delta, batch, torch.zeros_like(problem.inputs(batch)), step=0
            )  # into the ball and box
        for _ in range(self._method.steps):
            problem.apply_gradient(self._delta, batch, self._gradient(batch), step=self._method.step)

    def _gradient(self, batch: Tensor) -> Tensor:
        """Sum the gradients behind the adversary over the draws, `(B, C, S, S)`."""
        import torch
        from torch.nn import functional

        problem = self._problem
        labels = problem.labels[batch].to(problem.device)
        leaf = problem.published(self._delta, batch).requires_grad_(True)
        grad = torch.zeros_like(leaf)
        for _ in range(self._method.draws):
            seen = problem.view(leaf, self._draws)
            if self._method.adversarial_noise:
                rho = self._attacked(seen.detach(), batch) - seen.detach()
            else:
                rho = self._uniform(seen)
            loss = functional.cross_entropy(self._frozen((seen + rho).clamp(0, 1)), labels, reduction="sum")
            grad += torch.autograd.grad(loss, leaf)[0]
        return grad

    def _attacked(self, views: Tensor, batch: Tensor) -> Tensor:
        """Let the adversary raise the loss of views `(B, C, S, S)` from a random start inside its radius."""
        import torch
        from torch.nn import functional

        labels = self._problem.labels[batch].to(views.device)
        shown = (views + self._uniform(views)).clamp(0, 1)
        for _ in range(self._method.attack_steps):
            shown.requires_grad_(True)
            loss = functional.cross_entropy(self._frozen(shown), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, shown)
            moved = shown.detach() + self._method.attack_step * self._radius * grad.sign()
            shown = moved.clamp(views - self._radius, views + self._radius).clamp(0, 1)
        return shown

    def _uniform(self, views: Tensor) -> Tensor:
        import torch

        return (torch.rand(views.shape, generator=self._draws).to(views.device) * 2 - 1) * self._radius

    def _tell(self, share: float, note: str) -> None:
        self._on_step(Progress(min(share, 1), 1, note))

    def state(self) -> State:
        """Position, net, noise, and what is drawn next."""
        return {
            "learnt": self._learnt,
            "moved": self._moved,
            "delta": self._delta,
            "draws": self._draws.get_state(),
            **within("trainer.", self._trainer.state()),
            **within("stream.", self._stream.state()),
        }

    def load(self, state: State) -> None:
        """Go on from it."""
        self._learnt, self._moved = state["learnt"], state["moved"]
        self._problem.copy(state["delta"], into=self._delta)
        self._draws.set_state(state["draws"])
        self._trainer.load(under("trainer.", state))
        self._stream.load(under("stream.", state))


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [RobustErrorMinimising]
