"""Convert: a dataset in another form, its images' bytes as they are."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uexcli import __version__, plugin
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, unread
from uexcli.io.claims import claim
from uexcli.io.pool import parallel
from uexcli.io.release import croissant, layout, staging
from uexcli.io.sources import Source, source_of
from uexcli.messages import Listener, tell_notes
from uexcli.registry import Registry, load
from uexcli.wording import pasted

SPLITS = ("train", "test")
LABELS = "labels.csv"
FILES = (".tar", ".parquet")


@dataclass(frozen=True)
class Request:
    """What to copy, and the URI of what it becomes."""

    source: str
    target: str
    split: str = "train"
    labels: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class Result:
    """What was written."""

    output: Path
    form: str  # the dataset's name
    images: int
    classes: int
    files: int  # but for SHA256SUMS
    bytes: int  # of them
    facts: bool  # whether uex-release.json came along
    labels: Path | None  # a CSV of classes, where the form itself cannot tell them


@dataclass(frozen=True)
class _Job:
    """A request whose ends were found and looked at."""

    dataset: plugin.Dataset
    output: Path
    source: Path
    samples: Sequence[plugin.Sample]
    facts: bool


@dataclass(frozen=True)
class _Watched(plugin.Sample):
    """A sample that tells when it is read."""

    tell: Callable[[], None] = lambda: None

    def encoded(self) -> bytes:
        """Tell, and give the bytes."""
        self.tell()
        return super().encoded()


def run(request: Request, listener: Listener | None = None) -> Result:
    """Copy it, with SHA256SUMS, and look whether names and classes can be read again.

    Raises:
        UsageError: the target exists, lies in or around the source, or is of no form that can be written.
        UexError: the source is damaged, or the target cannot hold its names.
    """
    registry = load()
    target = source_of(registry, request.target)
    with claim(target.root):
        return _run(request, registry, target, listener or Listener())


def _run(request: Request, registry: Registry, target: Source, listener: Listener) -> Result:
    staging.recover(target.root, resume=False)
    job = _plan(request, registry, target, listener)
    mark = {staging.COPYING: __version__}  # what a killed run left is made anew
    with staging.growing(job.output, mark, resume=False, force=request.force) as folder:
        try:
            with atomic.told(job.output):
                result = _write(job, folder, listener)
            staging.finish(folder, job.output, force=request.force)
        except BaseException:  # there is nothing to go on with
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return result


def _plan(request: Request, registry: Registry, target: Source, listener: Listener) -> _Job:
    if request.split not in SPLITS:
        raise UsageError(f"`split={request.split}`: unknown.", hint=f"Known: {', '.join(SPLITS)}.")
    dataset, output = target.dataset, target.root
    if not dataset.can_write:
        every = {name: registry.find("dataset", name).cls for name in registry.names("dataset")}
        forms = [name for name, cls in every.items() if issubclass(cls, plugin.Dataset) and cls.can_write]
        raise UsageError(f"a {dataset.name} dataset cannot be written.", hint=f"These can: {', '.join(forms)}.")
    missing = dataset.missing_requirement()
    if missing is not None:
        raise missing
    origin = source_of(registry, request.source)
    source = origin.root
    found = _listed(request, origin, listener)
    with atomic.told(output):
        _check_output(output, source, force=request.force)
    facts = source.is_dir() and layout.read_facts(source) is not None
    if facts or (source / layout.COPIED).is_file():
        _check_source(source, listener)
    return _Job(dataset, output, source, found, facts)


def _listed(request: Request, origin: Source, listener: Listener) -> Sequence[plugin.Sample]:
    """The samples, each key once, with the classes they have or those of the CSV."""
    if origin.dataset.name == "folder" and request.split != "train":
        raise UsageError(
            f"`split={request.split}`: a folder has no splits.", hint=f"Give the folder itself: {request.source}/test"
        )
    if request.labels is not None:
        listed = origin.samples(split=request.split, labels=request.labels)
        found = listed.samples
        tell_notes(listed.notes, listener)
    else:
        found = tuple(origin.read(request.split))
        tell_notes(unread.words(origin.unread(request.split)), listener)
        taken = unread.splits(found)
        if taken:
            listener.warn(f"taken for classes, though called as splits are: {unread.listed(taken)}")
    twice = [key for key, count in Counter(sample.key for sample in found).items() if count > 1]
    if twice:
        raise UexError(f"{request.source}: holds {twice[0]} twice.")
    return found


def _check_output(output: Path, source: Path, *, force: bool) -> None:
    """Refuse a target that is there and is not a copy that may be replaced, or that touches the source."""
    target, origin = output.resolve(), source.resolve()
    if target == origin or target in origin.parents or origin in target.parents:
        raise UsageError(f"{output} lies in or around {source}.", hint="Write the copy beside it.")
    if output.suffix.lower() in FILES and not output.is_dir():
        raise UsageError(f"{output} is called like a file.", hint="Give a folder; the files in it are named by uex.")
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir():
        raise UsageError(f"{output} is a file.", hint="Give a folder.")
    if staging.is_free(output):
        return
    if not force:
        raise UsageError(f"{output} exists.", hint="Use another folder, or `force=True` to replace a copy.")
    if not (output / layout.COPIED).is_file():
        raise UsageError(
            f"{output} was not written by uex convert; `force=True` would delete it.", hint="Use another one."
        )
    staging.check_replaceable(output)


def _check_source(source: Path, listener: Listener) -> None:
    """Compare a release, or a copy, with its checksums: the new ones must not vouch for what was damaged."""
    path = source / layout.SUMS
    if not path.is_file():
        raise UexError(f"{source}: its {layout.SUMS} is missing.", hint=layout.RESTORE)
    sums = sorted(layout.read_sums(path).items())
    names = [name for name, _ in sums]
    digests = parallel(lambda name: layout.digest_file(source / name), names)
    for done, ((name, wanted), digest) in enumerate(zip(sums, digests, strict=True), 1):
        listener.step(plugin.Progress(done, len(sums), stage="check"))
        if digest != wanted:
            raise UexError(f"{source / name} is not what {layout.SUMS} says.", hint="See uex verify.")


def _write(job: _Job, folder: Path, listener: Listener) -> Result:
    """Fill the folder: the images, what a release says of itself, and the checksums last."""
    uri = f"{job.dataset.name}:{folder}"
    job.dataset.write(uri, _watched(job.samples, listener))
    again = {sample.key: sample.label for sample in job.dataset.read(uri)}
    wanted = {sample.key: sample.label or None for sample in job.samples}
    lost = sorted(set(wanted) ^ set(again))
    if lost:
        raise UexError(f"{lost[0]}: a {job.dataset.name} dataset cannot hold an image of this name.", hint="Rename it.")
    table = _label(job, folder, wanted, listener) if again != wanted else None
    if job.facts:
        shutil.copyfile(job.source / layout.FACTS, folder / layout.FACTS)
    mark = {"schema": "uex.copy/1", "uexcli": __version__, "form": job.dataset.name}
    atomic.write(folder / layout.COPIED, (json.dumps(mark) + "\n").encode())
    names = layout.files(folder) + ([layout.FACTS] if job.facts else [])
    digests = parallel(lambda name: layout.digest_file(folder / name), names)
    sums = {}
    for done, (name, digest) in enumerate(zip(names, digests, strict=True), 1):
        listener.step(plugin.Progress(done, len(names), stage="checksums"))
        sums[name] = digest
    usage = _usage(job, listener)
    if usage is not None:
        suffix = str((layout.read_facts(folder) or {}).get("suffix", ".png"))
        made = croissant.encode(job.output.resolve().name, sums, suffix, usage)
        atomic.write(folder / layout.CROISSANT, made)
        sums[layout.CROISSANT] = hashlib.sha256(made).hexdigest()
    atomic.write(folder / layout.SUMS, layout.sums_text(sums).encode("utf-8", "surrogateescape"))
    return Result(
        output=job.output,
        form=job.dataset.name,
        images=len(job.samples),
        classes=len({label for label in wanted.values() if label}),
        files=len(sums),
        bytes=sum((folder / name).stat().st_size for name in sums),
        facts=job.facts,
        labels=job.output / table if table else None,
    )


def _watched(found: Sequence[plugin.Sample], listener: Listener) -> list[plugin.Sample]:
    """The same samples, which tell the listener when they are read: the writer reads each once."""
    read = 0

    def tell() -> None:
        nonlocal read
        read += 1
        listener.step(plugin.Progress(min(read, len(found)), len(found), stage="copy"))

    return [_Watched(item.key, item.label, item.path, item.array, item.data, tell) for item in found]


def _label(job: _Job, folder: Path, wanted: Mapping[str, str | None], listener: Listener) -> str | None:
    """Write the classes to a CSV, where the names of folders do not tell them; a release has no place for it."""
    if job.facts or not all(wanted.values()):
        listener.warn(f"a {job.dataset.name} dataset takes its classes from elsewhere: those of the source are lost")
        return None
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([("path", "label"), *wanted.items()])
    atomic.write(folder / LABELS, text.getvalue().encode("utf-8", "surrogateescape"))
    labels = pasted("--labels", job.output / LABELS)
    listener.warn(f"the folders are not the classes; give {labels} with the copy")
    return LABELS


def _usage(job: _Job, listener: Listener) -> str | None:
    """What a release's croissant.json says of the use of its images; None where it has none."""
    sums = layout.read_sums(job.source / layout.SUMS) if job.facts else {}
    if layout.CROISSANT not in sums:  # which were compared with the files
        return None
    usage = croissant.usage_of(job.source / layout.CROISSANT)
    if usage is None:
        listener.warn(f"{layout.CROISSANT} says nothing in words of how the images may be used, and is left out")
    return usage
