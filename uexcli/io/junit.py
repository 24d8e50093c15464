"""JUnit reports, which CI systems show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as xml

from uexcli.io import atomic


def write(path: Path, suite: str, cases: Mapping[str, Sequence[str] | None]) -> None:
    """Write one: for each case what is wrong with it, nothing where it passed, None where it was not looked at.

    Raises:
        WriteError: it cannot be written.
    """
    failed = sum(bool(wrong) for wrong in cases.values())
    root = xml.Element("testsuites")
    counts = {"tests": len(cases), "failures": failed, "errors": 0, "skipped": list(cases.values()).count(None)}
    top = xml.SubElement(
        root, "testsuite", {"name": _said(suite), **{key: str(value) for key, value in counts.items()}}
    )
    for name, wrong in cases.items():
        case = xml.SubElement(top, "testcase", classname=_said(suite), name=_said(name))
        if wrong is None:
            xml.SubElement(case, "skipped", message="not looked at")
        elif wrong:
            told = xml.SubElement(case, "failure", message=_said(wrong[0]))
            told.text = "\n".join(map(_said, wrong))
    atomic.write(path, xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _said(text: str) -> str:
    """Text that XML can hold: no control characters, no halves of others."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)
