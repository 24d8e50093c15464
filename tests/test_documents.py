"""What the guide for plugins says is what there is, and what the package says of its types is true."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from uexcli import plugin, registry
from uexcli.plugin import encoder

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
BASES = {name: getattr(plugin, name) for name in ("Norm", "Granularity", "Method", "Surrogate", "Dataset", "Target")}
BASES |= {"Countermeasure": plugin.Countermeasure}


def documented() -> list[tuple[str, str, str]]:
    """Every signature in a table of the base classes: the heading it stands under, its name, its parameters."""
    found = []
    for section in re.split(r"^### ", GUIDE, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        for line in body.splitlines():
            if line.startswith("| `"):
                cell = line.replace("\\|", "\0").split("|")[1].replace("\0", "|")
                found += [(heading.strip(), *each) for each in re.findall(r"`(\w+)\((.*?)\) ->", cell)]
    return found


def owners(heading: str) -> list[type]:
    tools = {"Method": [plugin.Problem], "Target": [plugin.Trial]}
    return [BASES[heading], *tools.get(heading, [])]


def parameters(of: Any) -> list[tuple[str, Any, Any]]:
    return [(item.name, item.kind, item.default) for item in inspect.signature(of).parameters.values()]


@pytest.mark.parametrize(("heading", "name", "text"), documented())
def test_the_guide_gives_the_signatures_that_there_are(heading: str, name: str, text: str) -> None:
    (owner,) = [cls for cls in owners(heading) if hasattr(cls, name)][:1]
    made = inspect.getattr_static(owner, name)
    function = made.__func__ if isinstance(made, classmethod) else made.fget if isinstance(made, property) else made
    scope: dict[str, Any] = {}
    exec(f"from __future__ import annotations\ndef documented({text}): ...", scope)
    assert parameters(scope["documented"]) == parameters(function)


def test_the_guide_knows_the_signatures_that_matter() -> None:
    names = {(heading, name) for heading, name, _ in documented()}
    assert len(names) > 50
    assert {("Norm", "levels"), ("Method", "move"), ("Target", "supervised"), ("Surrogate", "build")} <= names


def test_calls_in_the_guide_take_the_parameters_that_there_are() -> None:
    known = {"Encoder": encoder.Encoder, "Sample": plugin.Sample, "load_weights": encoder.load_weights}
    known |= {
        "Progress": plugin.Progress,
        "Outcome": plugin.Outcome,
        "UexError": plugin.UexError,
        "UsageError": plugin.UsageError,
    }
    seen = set()
    for name, text in re.findall(r"`(?:\w+\()?(\w+)\(([^()`]*)\)+`", GUIDE):
        if name in known:
            seen.add(name)
            words = [word.strip() for word in re.split(r",\s*", text)]
            takes = inspect.signature(known[name]).parameters
            assert {word.partition("=")[0] for word in words if "=" in word} <= set(takes), (name, text)
            plain = [word for word in words if "=" not in word]
            allowed = [item.name for item in takes.values() if item.kind is not inspect.Parameter.KEYWORD_ONLY]
            assert len(plain) <= len(allowed), (name, text)
    assert {"Encoder", "Sample", "Progress", "Outcome"} <= seen


def test_the_code_in_the_guide_makes_plugins_that_can_be_registered(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert blocks
    fresh = registry.Registry()
    for number, block in enumerate(block for block in blocks if "@hookimpl" in block):
        module = types.ModuleType(f"guide_{number}")
        sys.modules[module.__name__] = module
        exec(compile(block, module.__name__, "exec"), module.__dict__)
        fresh.add(module, module.__name__, "1")
    assert sum(len(entries) for entries in fresh.entries.values()) >= 2


def test_every_package_in_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "Typing :: Typed" in facts["project"]["classifiers"]
    packages = facts["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert all((ROOT / package / "py.typed").is_file() for package in packages)
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {f"{Path(package).name}/py.typed" for package in packages} <= set(archive.namelist())


def test_the_security_page_knows_every_way_to_a_pickle() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "uexcli").rglob("*.py"))
    readers = set(re.findall(r"(?<!safetensors\.)torch\.(?:hub\.)?(load\w*)\(", code))
    assert readers == {"load", "load_state_dict_from_url"}
    assert "two exceptions" in text and "efficientnet_lite0" in text and "weights_only=True" in text
