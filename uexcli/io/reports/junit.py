"""JUnit reports, which CI systems show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as xml

from uexcli.io import atomic
from uexcli.wording import visible


def write(path: Path, suite: str, cases: Mapping[str, Sequence[str] | None]) -> None:
    """Write one: for each case what is wrong with it, nothing where it passed, None where it was not looked at.

    Raises:
        WriteError: it cannot be written.
    """
    failed = sum(bool(wrong) for wrong in cases.values())
    root = xml.Element("testsuites")
    counts = {"tests": len(cases), "failures": failed, "errors": 0, "skipped": list(cases.values()).count(None)}
    top = xml.SubElement(
        root, "testsuite", {"name": visible(suite), **{key: str(value) for key, value in counts.items()}}
    )
    for name, wrong in cases.items():
        case = xml.SubElement(top, "testcase", classname=visible(suite), name=visible(name))
        if wrong is None:
            xml.SubElement(case, "skipped", message="not looked at")
        elif wrong:
            told = xml.SubElement(case, "failure", message=visible(wrong[0]))
            told.text = "\n".join(map(visible, wrong))
    atomic.write(path, xml.tostring(root, encoding="utf-8", xml_declaration=True))
