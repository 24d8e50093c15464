"""UC: noise that sends the images of a cluster to the centre of another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uex_clusters.clusterwise import means
from uexcli.plugin import Method, OnStep, Preset, Problem, Progress, State, UexError, Work, option

if TYPE_CHECKING:
    from torch import Generator as Random
    from torch import Tensor

    from uexcli.plugin import Frozen


@dataclass(frozen=True)
class UnlearnableClusters(Method):
    """One noise a cluster, under which every image looks like another cluster's centre to a pretrained net.

    No classes are needed. For cluster i a generator G_i, of one fixed random image z, is taught on batches of ALL
    images x: with e the features and mu_j the centre of the next cluster, it lowers
    KL(softmax(mu_j) || softmax(e(x + d_i))), where d_i = eps tanh G_i(z). Images of a cluster then share a strong
    feature that is not theirs, whatever labels someone gives them later.
    """

    name: ClassVar[str] = "uc"
    summary: ClassVar[str] = "Unlearnable Clusters: noise by which each looks like another; protects new photos"
    paper: ClassVar[str] = "Zhang et al., Unlearnable Clusters: Towards Label-agnostic Unlearnable Examples, CVPR 2023"
    needs_pretrained: ClassVar[bool] = True
    default_eps: ClassVar[str | None] = "16/255"
    usual_for: ClassVar[dict[str, int]] = {
        "photos without labels": 1,
        "small images without labels": 1,
        "tiny images without labels": 1,
    }
    modes: ClassVar[tuple[str, ...]] = ("clusterwise", "classwise")
    presets: ClassVar[tuple[str, ...]] = ("zhang2023",)
    takes_patches: ClassVar[bool] = False
    test_options: ClassVar[dict[str, Any]] = {"most_steps": 2, "batch": 8, "width": 4, "blocks": 1}

    epochs: int = option(50, "passes over the images for each cluster, unless most_steps ends them before")
    most_steps: int = option(120, "steps for each cluster at the most; 0: no such bound")
    batch: int = option(16, "images in a batch")
    lr: float = option(0.02, "learning rate of the generators (Adam), which falls as a cosine to a hundredth")
    decay: float = option(0.0, "weight decay of the generators; 5e-4 in the paper")
    width: int = option(16, "channels of a generator at full size; 64 in the paper")
    blocks: int = option(2, "residual blocks of a generator; 6 in the paper")
    augment: bool = option(True, "let the surrogate see random crops and flips")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.epochs, self.batch, self.width, self.blocks) < 1 or self.most_steps < 0:
            raise ValueError("epochs, batch, width and blocks must be at least 1, most_steps 0 or more")
        if self.lr <= 0 or self.decay < 0:
            raise ValueError("lr must be above 0, and decay not below")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Give the paper's constants."""
        options = {"epochs": 50, "most_steps": 0, "batch": 256, "lr": 1e-4, "decay": 5e-4, "width": 64, "blocks": 6}
        return Preset(options, surrogate="resnet50", eps="16/255")

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Teach one generator after the other; give what they draw.

        Raises:
            UexError: there is one cluster only.
        """
        if problem.num_rows < 2:
            raise UexError(
                "uc needs two clusters: each is sent to the next.",
                hint="Use more; photos all alike are one.",
            )
        return _Fit(self, problem, on_step).run()

    def steps(self, images: int) -> int:
        """Give how many steps each cluster takes."""
        most = self.epochs * math.ceil(images / self.batch)
        return min(most, self.most_steps or most)

    def largest_batch(self, images: int) -> int:
        """A batch."""
        return min(self.batch, images)

    def work(self, images: int, *, rows: int) -> Work:
        """Steps of every cluster, and a look at every image for the centres."""
        every = rows * self.steps(images) * min(self.batch, images) + 0.4 * images
        return Work(every, every)


class _Fit:
    """A fit under way, at a step of a cluster."""

    def __init__(self, method: UnlearnableClusters, problem: Problem, on_step: OnStep) -> None:
        self._method = method
        self._problem = problem
        self._on_step = on_step
        self._steps = method.steps(len(problem.images))
        self._delta = problem.start(random=False)
        self._frozen: Frozen = problem.freeze(problem.build(), features=True)
        self._centres = centres_of(problem)
        self._note = ""
        self._begin(0)

    def _begin(self, cluster: int) -> None:
        """Get ready for a cluster: a fresh generator, its image, an order of the images."""
        import torch

        from uex_clusters._generator import Generator

        method, problem = self._method, self._problem
        self.cluster, self.step = cluster, 0
        _, channels, side, _ = problem.shape
        secret = problem.secret(f"cluster {cluster}")
        whole = math.ceil(side / 4) * 4
        self._latent = ((secret.uniform(1, channels, whole, whole) + 1) / 2).to(problem.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(secret.integers(2**62)))
            net = Generator(channels=channels, width=method.width, blocks=method.blocks)
        self._generator = net.to(problem.device)
        self._adam = torch.optim.Adam(self._generator.parameters(), lr=method.lr, weight_decay=method.decay)
        self._stream = problem.stream(min(method.batch, len(problem.images)), f"batches {cluster}")
        self._view: Random = problem.generator(f"view {cluster}")

    def run(self) -> Tensor:
        """Go on to the end."""
        problem, rows = self._problem, self._problem.num_rows
        saved = problem.journal.load()
        if saved is not None:
            self._load(saved)
        while True:
            while self.step < self._steps:
                loss = self._one_step()
                self.step += 1
                if self.step < self._steps:
                    problem.journal.save(self._state)
                    self._tell()
            if not math.isfinite(value := float(loss)):
                raise UexError("the fit diverged: the divergence is not finite.", hint="Try a smaller `options[lr]`.")
            self._delta[self.cluster] = self._drawn().detach()[0]
            self._note = f"cluster {self.cluster + 1} of {rows}, divergence {value:.3f}"
            if self.cluster + 1 == rows:
                break
            self._begin(self.cluster + 1)
            problem.journal.save(self._state, milestone=True)
            self._tell()
        self._on_step(Progress(rows, rows, self._note))
        return self._delta

    def _tell(self) -> None:
        rows = self._problem.num_rows
        self._on_step(Progress(self.cluster + self.step / self._steps, rows, self._note))

    def _drawn(self) -> Tensor:
        """The noise of this cluster as it is now, inside the bound: `(1, C, S, S)`, differentiable."""
        problem = self._problem
        side = problem.shape[2]
        noise: Tensor = self._generator(self._latent)[:, :, :side, :side]
        return problem.norm.project(problem.norm.reach(problem.eps) * noise, problem.eps)

    def _one_step(self) -> Tensor:
        from torch.nn import functional

        method, problem = self._method, self._problem
        noise, survival = self._drawn(), problem.survival
        arriving = noise if survival is None else survival @ noise @ survival.T
        seen = (problem.inputs(next(self._stream)) + arriving).clamp(0, 1)
        problem.release()
        if method.augment:
            seen = problem.view(seen, self._view)
        wanted = self._centres[(self.cluster + 1) % problem.num_rows].softmax(0).expand(len(seen), -1)
        loss = functional.kl_div(self._frozen(seen).log_softmax(1), wanted, reduction="batchmean")
        share = (1 + math.cos(math.pi * self.step / self._steps)) / 2
        self._adam.param_groups[0]["lr"] = method.lr * (0.01 + 0.99 * share)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        for weight in self._generator.parameters():
            weight.grad = None if weight.grad is None else problem.reduce(weight.grad)
        self._adam.step()
        return loss.detach()

    def _state(self) -> State:
        """Position, generator, its optimiser, the noises that are done, and what comes next."""
        return {
            "cluster": self.cluster,
            "step": self.step,
            "note": self._note,
            "delta": self._delta,
            "view": self._view.get_state(),
            **{f"generator.{name}": value for name, value in self._generator.state_dict().items()},
            **{
                f"adam.{number}.{name}": value
                for number, each in self._adam.state_dict()["state"].items()
                for name, value in each.items()
            },
            **{f"stream.{name}": value for name, value in self._stream.state().items()},
        }

    def _load(self, state: State) -> None:
        """Go on from a state.

        Raises:
            UexError: it is no state of such a fit.
        """

        def under(prefix: str) -> dict[str, Any]:
            return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

        try:
            self._begin(state["cluster"])
            self.step, self._note = state["step"], state["note"]
            self._problem.copy(state["delta"], into=self._delta)
            self._generator.load_state_dict(under("generator."))
            moments: dict[int, dict[str, Any]] = {}
            for name, value in under("adam.").items():
                number, _, key = name.partition(".")
                moments.setdefault(int(number), {})[key] = value.clone()
            self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})
            self._stream.load(under("stream."))
            self._view.set_state(state["view"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UexError(
                f"the state does not fit ({error}).", hint="Use `force=True`, without `resume=True`."
            ) from None


def centres_of(problem: Problem) -> Tensor:
    """The mean features of the images of each row, as the surrogate sees them: float32 `(R, F)`, on the device."""
    return means(problem.features().double(), problem.rows.cpu()).float().to(problem.device)
