"""One direction of imports, a light start, and documents that cannot rot."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import uexcli
from uexcli import registry
from uexcli.cli.app import app
from uexcli.errors import Exit
from uexcli.wording import ARGUMENTS, RENAMED, as_flags

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "uexcli"
# What each layer may import of uexcli; errors, wording, messages and plugin are for everyone.
ALLOWED = {
    "plugin": set(),
    "errors": set(),
    "wording": set(),
    "hookspecs": set(),
    "messages": set(),
    "core": {"core"},
    "registry": {"hookspecs", "builtin"},
    "builtin": {"builtin", "core"},
    "runtime": {"runtime"},
    "io": {"io", "registry", "core"},
    "commands": {"commands", "registry", "core", "io", "runtime", "builtin"},
    "cli": {"cli", "commands", "registry"},
    "python": {"python", "commands", "registry", "io", "runtime"},
    "testing": {"core", "registry", "io"},
    "__main__": {"cli"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
HEAVY = ("torch", "torchvision", "numpy", "PIL", "onnxruntime", "safetensors", "sklearn")


def imported(path: Path) -> set[str]:
    """The parts of uexcli that a module imports, anywhere in it, but not only for annotations."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
        if isinstance(node, ast.ImportFrom) and node.module == "uexcli":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("uexcli."):
            found.add(node.module.split(".")[1])
    return found - {"__version__", "errors", "wording", "messages", "plugin"}


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert imported(path) <= ALLOWED[layer]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for annotations: what knows each other belongs into one file."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    graph = {name: {other for other in modules_imported(path) if other in names} for name, path in names.items()}
    try:
        order = [*graphlib.TopologicalSorter(graph).static_order()]
    except graphlib.CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")
    assert len(order) == len(names)


def modules_imported(path: Path) -> set[str]:
    """The modules that one imports, anywhere in it; a folder's `__init__` does not count for what lies in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("uexcli"):
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), alias.name)
                deeper = inner.is_dir() or inner.with_suffix(".py").exists()
                found.add(f"{node.module}.{alias.name}" if deeper else node.module)
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: path.parent.name)
def test_first_party_plugins_know_only_the_plugin_package(path: Path) -> None:
    assert not imported(path)


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not prints or path.is_relative_to(PACKAGE / "cli")


START = (
    "import sys; sys.argv = {words!r}; from uexcli.cli.app import run; code = run(); print('\\n', code, *sys.modules)"
)


@pytest.mark.parametrize(
    "words", [["uex", "--help"], ["uex", "fit", "--help"], ["uex", "plugins"], ["uex", "--version"]]
)
def test_a_light_start_imports_nothing_heavy(words: list[str]) -> None:
    ran = subprocess.run([sys.executable, "-c", START.format(words=words)], capture_output=True, text=True, check=True)
    code, *modules = ran.stdout.splitlines()[-1].split()
    assert code == "0"
    assert not {module.partition(".")[0] for module in modules} & set(HEAVY)
    assert len(modules) < 750


def test_completion_of_a_mode_is_light_and_offers_plugins() -> None:
    environment = {**os.environ, "_UEX_COMPLETE": "complete_bash", "COMP_WORDS": "uex fit --mode ", "COMP_CWORD": "3"}
    code = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules))"
    code += "; from uexcli.cli.app import run; run()"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    *offered, heavy = ran.stdout.split()
    assert {"samplewise", "classwise", "universal", "clusterwise"} <= set(offered)
    assert heavy == "False"


def test_generated_files_are_current() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_the_readme_knows_every_command_built_in_and_exit_code() -> None:
    readme = (ROOT / "README.md").read_text()
    found = registry.load()
    for kind in registry.KINDS:
        for name in found.names(kind):
            assert f"`{name}" in readme, f"the README does not know the {kind} {name}"
    for code in Exit:
        assert re.search(rf"\|\s*`?{int(code)}`?\s*\|", readme), f"the README does not list exit code {int(code)}"
    for command in ("fit", "apply", "eval", "verify", "preview", "export", "info", "plugins", "doctor", "demo"):
        assert f"uex {command}" in readme


def test_the_plugin_guide_knows_every_hook() -> None:
    guide = (ROOT / "docs" / "plugins.md").read_text()
    for plural in registry.PLURALS.values():
        assert f"uex_{plural}" in guide


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_changelog_has_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    groups = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_is_one() -> None:
    assert f"version: {uexcli.__version__}\n" in (ROOT / "CITATION.cff").read_text().replace('"', "")


def test_arguments_that_messages_name_are_options() -> None:
    """What the command line makes of them, and that a name of a file between backticks stays what it is."""
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {option for each in commands for part in each.params for option in part.opts}
    assert {as_flags(f"`{name}`") for name in ARGUMENTS} <= known
    assert {as_flags(f"`{name}`").split()[0] for name in RENAMED} <= known
    assert as_flags("Use `mode=samplewise`, `options[lr]=0.1` or `force=True`.") == (
        "Use --mode samplewise, -O lr=0.1 or --force."
    )
    assert as_flags("it's; `x`: no such file") == "it's; `x`: no such file"
    for path in MODULES:
        if path.is_relative_to(PACKAGE / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                for text in re.findall(r"(?<![\w`-])--[a-z][\w-]+", " ".join(strings(node))):
                    pytest.fail(f"{path.name}: an error names the option {text}, not the argument")


def strings(node: ast.Call) -> list[str]:
    """The words of a message, without commands to paste."""
    parts = [*node.args, *(word.value for word in node.keywords)]
    texts = [each for part in parts for each in ast.walk(part) if isinstance(each, ast.Constant)]
    return [str(text.value) for text in texts if "uex " not in str(text.value)]
