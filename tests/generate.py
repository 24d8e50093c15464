"""Generate what is generated: completions/ and docs/cli.md. With --check: say what is not current, and exit 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHELLS = {"bash": "uex.bash", "zsh": "_uex", "fish": "uex.fish"}
COMMANDS = ("fit", "apply", "eval", "bench", "verify", "preview", "export", "info", "plugins", "doctor", "demo")


def run(*words: str, **environment: str) -> str:
    """Run `uex` and give what it prints."""
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "UEX_PLUGINS": "uex_clusters", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "uexcli", *words]
    settings = {**os.environ, **plain, **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout


def generated() -> dict[Path, str]:
    """Every generated file and its text."""
    files = {
        ROOT / "completions" / name: run(_UEX_COMPLETE=f"source_{shell}").strip() + "\n"
        for shell, name in SHELLS.items()
    }
    parts = ["# The commands\n\nGenerated from `--help`; do not edit.\n"]
    for words in ((), *((name,) for name in COMMANDS)):
        text = "\n".join(line.rstrip() for line in run(*words, "--help").strip().splitlines())
        parts.append(f"## uex {' '.join(words)}".rstrip() + f"\n\n```text\n{text}\n```\n")
    files[ROOT / "docs" / "cli.md"] = "\n".join(parts)
    return files


def main() -> int:
    """Write the files, or compare them."""
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(path.relative_to(ROOT), "is not current; run: make docs" if "--check" in sys.argv else "written")
    if "--check" not in sys.argv:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(generated()[path])
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
