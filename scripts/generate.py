"""Generate what is generated: completions/, docs/cli.md, docs/holds.md and man/.

With --check: say what is not current, and exit 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import manual

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import holds  # noqa: E402

SHELLS = {"bash": "uex.bash", "zsh": "_uex", "fish": "uex.fish"}


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
    for words in ((), *((name,) for name in manual.commands())):
        text = "\n".join(line.rstrip() for line in run(*words, "--help").strip().splitlines())
        parts.append(f"## uex {' '.join(words)}".rstrip() + f"\n\n```text\n{text}\n```\n")
    files[ROOT / "docs" / "cli.md"] = "\n".join(parts)
    files[holds.PAGE] = holds.page()
    pages = {ROOT / "man" / name: text for name, text in manual.pages().items()}
    return {**files, **pages}


def main() -> int:
    """Write the files, or compare them; a page of a command that is gone goes too."""
    files = generated()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    stale += [path for path in (ROOT / "man").glob("*") if path not in files]
    for path in stale:
        print(path.relative_to(ROOT), "is not current; run: make docs" if "--check" in sys.argv else "written")
        if "--check" in sys.argv:
            continue
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], "utf-8")
        else:
            path.unlink()
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
