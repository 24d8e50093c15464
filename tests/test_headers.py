"""Headers are checked once, where they are read: whatever one holds, a command says in one line what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran
from safetensors.torch import load_file, save_file

from scripts import fuzz_headers
from uexcli import plugin
from uexcli.builtin.norms.linf import Linf
from uexcli.errors import UexError
from uexcli.io import documents, schema
from uexcli.io.noise import noise_file
from uexcli.io.release import layout, receipt, write_log
from uexcli.registry import load, remake

Uex = Callable[..., Ran]
DIGITS, DEEP = "9" * 5000, "[" * 3000 + "]" * 3000


def refused(ran: Ran, *words: str) -> None:
    """Exit 3, and one line that has the words."""
    assert ran.code == 3, ran.err
    errors = [line for line in ran.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "Traceback" not in ran.err
    assert all(word in errors[0] for word in words), errors


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the header of a noise file; gives it."""
    header = fuzz_headers.header(path)
    change(header)
    text = json.dumps(header)
    for mark, raw in (("<digits>", DIGITS), ("<deep>", DEEP)):
        text = text.replace(json.dumps(mark), raw)
    fuzz_headers.with_header(path, text)
    return text


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "eps-1e300": (lambda header: header.update(eps=1e300), "'eps' is the number 1e+300"),
    "eps-1e-300": (lambda header: header.update(eps=1e-300), "'eps' is the number"),
    "eps-true": (lambda header: header.update(eps=True), "'eps' is true"),
    "eps-digits": (lambda header: header.update(eps="<digits>"), "thousands of digits"),
    "unknown-digits": (lambda header: header.update(new="<digits>"), "thousands of digits"),
    "unknown-deep": (lambda header: header.update(new="<deep>"), "nested too deeply"),
    "unknown-a-little-deep": (lambda header: header.update(new=json.loads("[" * 50 + "]" * 50)), "nested too deeply"),
    "eps-text-escape": (lambda header: header.update(eps_text="\x1b[2J8/255"), "'eps_text'"),
    "eps-text-newline": (lambda header: header.update(eps_text="8/255\nbound kept"), "'eps_text'"),
    "eps-text-empty": (lambda header: header.update(eps_text=""), "'eps_text'"),
    "eps-text-long": (lambda header: header.update(eps_text="8" * 10**6), "1,000,000 characters"),
    "classes-nested": (lambda header: header.update(classes=[["x"]]), "'classes' is a list, not a text"),
    "classes-numbers": (lambda header: header.update(classes=[1, 2]), "'classes' is the number 1"),
    "classes-twice": (lambda header: header.update(classes=["x", "x"]), "'classes' has an entry twice"),
    "classes-null": (lambda header: header.update(classes=None), "'classes' is null"),
    "at-bound": (lambda header: header["measured"].update(at_bound="x"), "'measured.at_bound' is a text"),
    "at-bound-nan": (lambda header: header["measured"].update(at_bound=float("nan")), "'measured.at_bound'"),
    "fingerprint": (lambda header: header["dataset"].update(fingerprint=None), "'dataset.fingerprint' is null"),
    "surrogate": (lambda header: header["recipe"].update(surrogate=5), "'recipe.surrogate' is the number 5"),
    "options": (lambda header: header["recipe"]["method"].update(options=[1]), "'recipe.method.options' is a list"),
    "option": (lambda header: header["recipe"]["norm"].update(options={"x": [[1]]}), "'recipe.norm.options.x'"),
    "size": (lambda header: header["recipe"].update(size=2**40), "'recipe.size'"),
    "channels": (lambda header: header["recipe"].update(channels=True), "'recipe.channels' is true, not 1 or 3"),
    "seed-256-bits": (lambda header: header.update(seed=2**256), "'seed' is the number 2^256"),
    "seed-float": (lambda header: header.update(seed=1.0), "'seed'"),
    "format": (lambda header: header.update(format=[1]), "'format' is a list"),
    "name": (lambda header: header["recipe"]["norm"].update(name="a\x1b[31m"), "'recipe.norm.name'"),
}


@pytest.mark.parametrize(("change", "words"), HEADERS.values(), ids=HEADERS.keys())
def test_a_wrong_header_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], words: str, noise: Path, uex: Uex
) -> None:
    rewrite(noise, change)
    refused(uex("info", noise), noise.name, words)


@pytest.mark.parametrize(
    "command", ["apply {} photos -o out", "verify release --source photos --noise {}", "preview {} photos/cat/0.png",
                "export {} out.onnx", "info --json {}"],
)  # fmt: skip
def test_every_command_that_reads_noise_refuses_it(command: str, release: Path, noise: Path, uex: Uex) -> None:
    rewrite(noise, lambda header: header.update(classes=[["x"]]))
    refused(uex(*command.format(noise).split()), "'classes'")


@pytest.mark.parametrize("seed", [0, 2**256 - 1, -5, None, ...])
def test_seeds_of_256_bits_and_none_at_all_are_read(seed: object, noise: Path, photos: Path, uex: Uex) -> None:
    """What was written before, or with a longer secret, or without it, can be applied all the same."""
    rewrite(noise, lambda header: header.pop("seed") if seed is ... else header.update(seed=seed))
    assert uex("info", noise).code == 0
    assert uex("apply", noise, photos, "-o", "out").code == 0
    assert noise_file.read(noise).seed == (0 if seed in (..., None) else seed)


def test_patches_at_random_places_need_the_seed(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "random", "--patch", "4:random", "-o", "n").code == 0
    rewrite(Path("n"), lambda header: header.update(seed=None))
    refused(uex("apply", "n", photos, "-o", "out"), "no seed")


def test_what_a_newer_version_adds_is_let_be(noise: Path, photos: Path, uex: Uex) -> None:
    rewrite(noise, lambda header: header.update(added={"by": ["a", "newer", {"version": 1.5}]}))
    assert uex("info", noise, "--json").json["header"]["added"]["by"][0] == "a"
    assert uex("apply", noise, photos, "-o", "out").code == 0


TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "rows-float": lambda found: found.update(rows=found["rows"].float()),
    "rows-scalar": lambda found: found.update(rows=torch.tensor(1)),
    "keys-16-bits": lambda found: found.update(keys=found["keys"].to(torch.int16)),
    "digests-bfloat16": lambda found: found.update(digests=found["digests"].to(torch.bfloat16)),
    "delta-float8": lambda found: found.update(delta=found["delta"].float().to(torch.float8_e4m3fn)),
    "delta-float64": lambda found: found.update(delta=found["delta"].double()),
    "delta-scalar": lambda found: found.update(delta=torch.tensor(1.0)),
    "delta-bool": lambda found: found.update(delta=found["delta"].bool()),
    "memory-complex": lambda found: found.update({"memory.x": torch.zeros(2, dtype=torch.complex64)}),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_of_other_types_are_refused(
    change: Callable[[dict[str, torch.Tensor]], object], noise: Path, photos: Path, uex: Uex
) -> None:
    tensors, header = load_file(noise), fuzz_headers.header(noise)
    change(tensors)
    save_file(tensors, noise, {"uex": json.dumps(header)})
    refused(uex("apply", noise, photos, "-o", "out"), "damaged noise file")


def test_a_network_is_not_built_larger_than_its_weights(photos: Path, uex: Uex) -> None:
    """Its options are a stranger's: they could ask for any amount of memory."""
    small = ("epochs=1", "rounds=1", "batches=1", "checkpoints=1", "generator_width=8")
    options = [word for option in small for word in ("-O", option)]
    assert uex("fit", photos, "--method", "deepconfuse", *options, "-o", "n").code == 0
    for width in (2**14, 2**40, 2**62):
        rewrite(Path("n"), lambda header, width=width: header["recipe"]["method"]["options"].update(  # type: ignore[misc]
            generator_width=width))  # fmt: skip
        refused(uex("apply", "n", photos, "-o", "out"), "weights in the noise file do not fit")


@pytest.mark.parametrize("eps", ["1e300", "1e-300", "1e12", "0.0000000001"])
def test_bounds_that_no_image_can_change_by_are_refused_where_they_are_typed(eps: str, photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--method", "random", "--norm", "l2", "--eps", eps, "-o", "n")
    assert ran.code == 2 and "no image changes by so" in ran.err
    ran = uex("verify", photos, "--source", photos, "--eps", eps, "--norm", "l2")
    assert ran.code == 2 and "no image changes by so" in ran.err


# ------------------------------------------------------------------------------------------- other documents

FACTS: dict[str, object] = {
    "eps": 1e300, "eps_text": "\x1b[2J", "size": 2**20, "suffix": "../x", "norm": {"name": "linf", "options": [1]},
    "skipped": [{"path": 1}], "mode_changes": {}, "rms_levels": "x", "lossless": 1, "images": -1, "new": DIGITS,
    "unknown": json.loads("[" * 50 + "]" * 50),
}  # fmt: skip


@pytest.mark.parametrize("key", FACTS)
def test_wrong_facts_are_refused(key: str, release: Path, photos: Path, uex: Uex) -> None:
    path = release / "uex-release.json"
    text = json.dumps({**json.loads(path.read_text()), key: FACTS[key]}).replace(f'"{DIGITS}"', DIGITS)
    path.write_text(text)
    refused(uex("verify", release, "--source", photos), "uex-release.json")


def test_a_norm_takes_its_options_of_their_type_only() -> None:
    known = load().find("granularity", "clusterwise").cls
    assert isinstance(remake(Linf, {}), plugin.Norm)
    assert remake(known, {"clusters": 3, "encoder": "pixels"})
    for options in ({"clusters": "3"}, {"clusters": 3.5}, {"clusters": True}, {"clusters": None}, {"x": 1},
                    {"encoder": 1}, {"clusters": 0}):  # fmt: skip
        with pytest.raises(ValueError, match=r"clusterwise takes no|clusters must be"):
            remake(known, options)


def test_a_line_of_a_journal_that_is_none_is_passed_over(tmp_path: Path) -> None:
    line = {"key": "a", "name": "a.png", "source": "0" * 64, "protected": "1" * 64, "size": 0.1, "allowed": 0.2,
            "rms": 1.0, "changes": []}  # fmt: skip
    wrong = [{**line, key: value} for key, value in (("size", "x"), ("rms", -1), ("changes", [1]), ("place", 3))]
    path = tmp_path / "journal"
    path.write_text("\n".join([json.dumps(line), *map(json.dumps, wrong), DIGITS, DEEP, "[1]", json.dumps(line)]))
    assert list(write_log.Journal(path).lines()) == [line, line]


def test_a_damaged_receipt_matches_nothing(release: Path, noise: Path, photos: Path, uex: Uex) -> None:
    path = receipt.path_for(noise)
    whole = json.loads(path.read_text())
    (there,) = whole["releases"].values()
    assert receipt.intact(path, release, there["job"]) is not None
    for key, value in (("files", []), ("files", {"a": 1}), ("skipped", {"a": 1}), ("job", None)):
        path.write_text(json.dumps({"releases": {str(release.resolve()): {**there, key: value}}}))
        assert receipt.intact(path, release, there["job"]) is None
        assert uex("apply", noise, photos, "-o", release).code == 2  # exists, and is not known


@pytest.mark.parametrize(("key", "value"), [("position", DIGITS), ("position", "1.5"), ("header", DEEP),
                                            ("items", "{}"), ("facts", "null"), ("facts", "[1]")])  # fmt: skip
def test_a_damaged_part_is_refused(key: str, value: str, noise: Path, photos: Path, uex: Uex) -> None:
    for shard in ("1/2", "2/2"):
        assert uex("apply", noise, photos, "-o", "whole", "--shard", shard).code == 0
    path = Path("whole.part-1-of-2/uex-part.json")
    document = json.loads(path.read_text())
    holder = {"position": document["items"][0], "facts": document["header"]}.get(key, document)
    holder[key] = "<here>"
    path.write_text(json.dumps(document).replace('"<here>"', value))
    refused(uex("merge", "whole"), "uex-part.json")


@pytest.mark.parametrize(("key", "value"), [("format", '"x"'), ("job", "[1]"), ("values", DEEP), ("seed", DIGITS),
                                            ("seed", "2"), ("epoch", "null")])  # fmt: skip
def test_a_damaged_state_is_refused(key: str, value: str, photos: Path, uex: Uex) -> None:
    words = ("fit", photos, "--method", "pil", "-O", "epochs=1", "-o", "n")
    with fuzz_headers.changed(fuzz_headers.state_file.StateFile, "remove", fuzz_headers.state_file.StateFile._finish):
        assert uex(*words).code == 0
    Path("n").unlink()
    path = Path("n.state")
    document = fuzz_headers.state(path)
    {"seed": document["job"], "epoch": document["values"]}.get(key, document)[key] = "<here>"
    fuzz_headers.with_header(path, json.dumps(document).replace('"<here>"', value), "uex.state")
    refused(uex(*words, "--resume"), "n.state")


@pytest.mark.parametrize("value", [DIGITS, DEEP, '{"format": "x"}', "[1]", "x", '{"format": 1, "weights": 1}'])
def test_a_model_with_wrong_metadata_is_refused(value: str, photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "-o", "n").code == 0
    assert uex("export", "n", "m.onnx").code == 0
    fuzz_headers.with_model(Path("m.onnx"), value)
    refused(uex("apply", "n", photos, "-o", "out", "--engine", "onnx:m.onnx"), "m.onnx", "metadata")


# ------------------------------------------------------------------------------------------- the kinds themselves


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (schema.text(3), ["", "abc"], ["abcd", 1, None, ["a"]]),
        (schema.text(plain=True), ["a b"], ["", "a\n", "\x1b", "\udcff"]),
        (schema.text(9, "a+"), ["aaa"], ["", "ab"]),
        (schema.whole(0, 5), [0, 5], [-1, 6, 1.0, True, "1", None, 10**400]),
        (schema.number(0, 5), [0, 5, 2.5], [-0.1, 5.1, float("nan"), float("inf"), True, "1", 10**400]),
        (schema.real, [1, float("nan"), float("inf")], [True, "1", None, 10**400]),
        (schema.flag, [True, False], [0, 1, None]),
        (schema.one_of(1, "a"), [1, "a"], [True, 1.0, "b"]),
        (schema.maybe(schema.flag), [None, True], [0]),
        (schema.listing(schema.flag, least=1), [[True]], [[], [1], True, {}]),
        (schema.listing(schema.text(), unique=True), [["a", "b"]], [["a", "a"], [["a"]]]),
        (schema.table(schema.flag), [{}, {"a": True}], [{"a": 1}, [], None]),
        (schema.record({"a": schema.flag}), [{"a": True}, {"a": True, "b": [1]}], [{}, {"a": 1}, [], None]),
        (schema.option, [None, True, 1, 1.5, "x", [1, "x"]], [{}, [[1]], 10**400, "x" * 10**6]),
        (schema.anything, [None, [[{}]]], [json.loads("[" * 40 + "]" * 40), [10**400]]),
    ],
)
def test_kinds(kind: schema.Kind, good: list[object], bad: list[object]) -> None:
    for value in good:
        kind(value, "here")
    for value in bad:
        with pytest.raises(schema.Mismatch) as raised:
            kind(value, "here")
        assert len(str(raised.value)) < 300 and str(raised.value).isprintable()


def test_a_strangers_key_is_shown_short_and_plain() -> None:
    with pytest.raises(schema.Mismatch) as raised:
        schema.table(schema.flag)({"\x1b[2J" + "x" * 10**6: 1}, "here")
    assert len(str(raised.value)) < 300 and str(raised.value).isprintable()


@pytest.mark.parametrize(
    "case", ["noise-own", "noise-class", "facts", "receipt", "part", "job", "journal", "state-pil"]
)
def test_whatever_a_field_holds_a_command_ends_as_it_should(case: str, uex: Uex) -> None:
    """A few of the wrong values; `python scripts/fuzz_headers.py` tries them all."""
    fuzz_headers.prepare(Path.cwd(), [case])
    assert sum(fuzz_headers.run(case, 0).values()) >= fuzz_headers.FEW


def test_wrong_values_in_every_field_are_read_or_refused(tmp_path: Path, uex: Uex) -> None:
    """All of them, by the readers alone."""
    fuzz_headers.prepare(tmp_path, [])
    header = fuzz_headers.header(Path("own.noise.safetensors"))
    known: list[tuple[object, schema.Kind]] = [
        (header, documents.NOISE),
        (json.loads(Path("release/uex-release.json").read_text()), documents.FACTS),
        (json.loads(Path("parts.part-1-of-2/uex-part.json").read_text()), documents.PIECE),
    ]
    for document, kind in known:
        kind(document, "")
        ends = {"read": 0, "refused": 0}
        for _, text in fuzz_headers.spoilt(document):
            try:
                schema.read_json(text, kind)
                ends["read"] += 1
            except schema.Mismatch as error:
                assert len(str(error)) < 400 and str(error).isprintable()
                ends["refused"] += 1
        assert ends["read"] > 50 and ends["refused"] > 500
    assert layout.read_facts(Path("release")) is not None
    assert issubclass(schema.Mismatch, ValueError) and not issubclass(schema.Mismatch, UexError)
