"""An evaluation as one HTML file: no script, nothing fetched, light and dark, readable on a phone."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from statistics import fmean
from typing import Any

from uexcli.io.reports import confusion, curves
from uexcli.io.reports.html import escape
from uexcli.wording import as_flags, visible

Cell = Mapping[str, Any]
LOOKS = {"clean": "clean", "protected": "protected", "clean_part": "hue-1"}
PARTS = {"protected": "hue-2 dotted", "clean": "hue-1 dotted"}  # of the training images
CURVES = 6  # cells whose curves are drawn, the worst first


def page(result: Mapping[str, Any], *, heading: str, facts: Mapping[str, Any], sheet: bytes | None) -> str:
    """Make the page of what `uex eval --json` gives; `facts` say what was evaluated, `sheet` is a PNG."""
    cells: Sequence[Cell] = result["cells"]
    parts = [
        _head(result, heading),
        _doubts(result["warnings"]),
        _bars(cells),
        _table(result),
        _steps(cells),
        _curves(cells),
        _confusion([cell for cell in cells if (cell.get("at") or "") == result.get("at", "")], result["classes"]),
        _detected(result["detect"]),
        _sheet(sheet),
        _recipe(result, facts),
    ]
    return shell(heading, "\n".join(part for part in parts if part))


def shell(title: str, body: str) -> str:
    """Make a page of a body: styled, in the colours the reader prefers."""
    style = (resources.files("uexcli.io.reports") / "report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _head(result: Mapping[str, Any], heading: str) -> str:
    facts = {
        "training images": f"{result['train_images']:,}",
        "test images": f"{result['test_images']:,} ({result['test_source']})",
        "classes": str(len(result["classes"])),
        "chance": f"{result['chance']:.1%}",
        "targets": ", ".join(result["targets"]),
        "seeds": str(result["seeds"]),
        "shown at": f"{', '.join(_sizes(result))} px, {result['view']}",
        "scenario": result["scenario"] or "all images protected",
    }
    if result["max_learnability"] is not None:
        verdict = "not decided" if result.get("undecided") else "passed" if result["passed"] else "failed"
        facts["gate"] = f"{verdict}: at most {result['max_learnability']:.2f} was allowed"
    lead = "".join(f'<p class="lead">{words}</p>\n' for words in _leads(result["cells"], result.get("attacker")))
    return f"<header>\n<h1>{escape(heading)}</h1>\n{lead}{_list(facts)}\n</header>"


def _sizes(result: Mapping[str, Any]) -> list[str]:
    found = {int(cell.get("size") or result["size"]) for cell in result["cells"]}
    return [str(size) for size in sorted(found)]


def _leads(cells: Sequence[Cell], attacker: str | None) -> list[str]:
    """What the worst cell says: of what a blind attacker tries, and of all that an informed one does."""
    if attacker != "informed":
        return [_lead(cells)]
    blind = [cell for cell in cells if not cell.get("informed")]
    return [
        f"<b>Blind attacker.</b> {_lead(blind)}",
        f"<b>Informed attacker</b>, who knows the method. {_lead(cells)}",
    ]


def _lead(cells: Sequence[Cell]) -> str:
    worst = next((cell for cell in cells if _tells(cell)), cells[0])
    at = f", {escape(worst['at'])}" if worst.get("at") else ""
    return f"{_headline(worst)}: by <b>{escape(worst['target'])}</b> under <b>{escape(_against(worst))}</b>{at}."


def _verdict(cell: Cell) -> str:
    return str(cell.get("verdict", "told"))  # older files have none


def _tells(cell: Cell) -> bool:
    return cell["learnability_peak"] is not None and _verdict(cell) in {"told", "alike"}


def _headline(worst: Cell) -> str:
    """What the worst cell says, and no more than it can."""
    share, verdict = worst["learnability_peak"], _verdict(worst)
    if share is None or verdict == "unclear":
        return "<strong>Nothing can be told</strong>, as the clean images are learnt no better than chance for sure"
    if verdict == "unfit":
        return (
            "<strong>Nothing can be told</strong>, as the net does not fit the images it was trained on, or broke down"
        )
    if verdict == "alike":
        low = max(0.0, min(1.0, (worst.get("learnability_interval_peak") or (1.0, 1.0))[0]))
        some = "<strong>all</strong>" if low >= 1 else f"between {low:.0%} and <strong>all</strong>"
        return f"Not told apart: {some} of what nets learn from the clean images may still be learnt from the protected"
    much = f"up to <strong>{max(0.0, share):.0%}</strong>" if share < 1 else "<strong>all</strong>"
    if share < 1 and (between := worst.get("learnability_interval_peak")):
        low, high = (max(0.0, min(1.0, value)) for value in between)
        much += f" (95 % interval: {low:.0%} to {high:.0%})"
    return f"Of what nets learn from the clean images, {much} is still learnt from the protected ones"


def _list(facts: Mapping[str, str]) -> str:
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _section(title: str, body: str, note: str = "") -> str:
    shown = f'<p class="note">{note}</p>\n' if note else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{shown}{body}\n</section>"


def _doubts(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(as_flags(text))}</li>" for text in warnings)
    return f'<section class="doubts" role="note">\n<h2>Doubts</h2>\n<ul>{items}</ul>\n</section>'


def _against(cell: Cell) -> str:
    return "plain training" if cell["against"] == "none" else str(cell["against"])


def _name(cell: Cell, several: bool) -> str:
    parts = [_against(cell), cell["target"] if several else "", cell.get("at") or ""]
    return " · ".join(part for part in parts if part)


def _bars(cells: Sequence[Cell]) -> str:
    several = len({cell["target"] for cell in cells}) > 1
    rows = []
    for cell in cells:
        peak, last = cell["learnability_peak"], cell["learnability_last"]
        name = escape(_name(cell, several))
        if not _tells(cell):
            rows.append(f'<li><span class="name">{name}</span><span class="value">cannot be told</span></li>')
            continue
        shown = f"{max(0.0, min(1.0, peak)):.4f}"
        tick = "" if last is None else f'<i class="tick" style="left:{_place(last)}"></i>'
        said = f"{last:.2f} / {peak:.2f}" if last is not None else f"{peak:.2f}"
        between = ""
        if cell.get("learnability_interval_peak"):
            low, high = cell["learnability_interval_peak"]
            between = f", 95 % interval {low:.2f} to {high:.2f}"
            tick += f'<i class="whisker" style="left:{_place(low)};right:calc(100% - {_place(high)})"></i>'
        rows.append(
            f'<li><span class="name">{name}</span><span class="track" role="img" '
            f'aria-label="peak learnability {peak:.2f} under {name}{between}">'
            f'<i class="bar" style="--share:{shown}"></i>{tick}</span><span class="value">{said}</span></li>'
        )
    return _section(
        "Learnability",
        f'<ol class="bars">{"".join(rows)}</ol>',
        "0 is chance, 1 what the clean images give. The bar is the best epoch, with its 95 % interval over test images "
        "and seeds; the mark is the last epoch. The worst case comes first, and what cannot be told last.",
    )


def _place(value: float) -> str:
    """Where a learnability lies on its track."""
    return f"{100 * max(0.0, min(1.0, value)):.2f}%"


def _percent(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * fmean(known):.1f}" if known else ""


def _table(result: Mapping[str, Any]) -> str:
    part = any(cell["clean_part"] for cell in result["cells"])
    parts = ["clean part"] if part else []
    heads = ["target", "against", "clean", "protected", *parts, "peak", "early stop", "train"]
    rows = []
    for cell in result["cells"]:
        sides = [("clean", cell["clean"]), ("protected", cell["protected"])]
        if part:
            sides.append(("clean part", cell["clean_part"]))
        last = [
            f"{_percent(run['curve'][-1] for run in side['runs'])} ± {100 * cell['intervals'][name]:.1f}"
            if side
            else ""
            for name, side in sides
        ]
        runs = cell["protected"]["runs"]
        figures = [
            *last,
            _percent(max(run["curve"]) for run in runs),
            _percent(run["early_stop"] for run in runs),
            _percent(run["train_accuracy"] for run in runs),
        ]
        cols = "".join(f"<td>{escape(figure)}</td>" for figure in figures)
        against = _name(cell, False)
        names = "".join(f"<th scope=row>{escape(name)}</th>" for name in (cell["target"], against))
        rows.append(f"<tr>{names}{cols}</tr>")
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return _section(
        "Accuracy on clean test images, percent",
        f'<div class="wide" tabindex="0" role="region" aria-label="table of accuracies">{table}</div>{_groups(result)}',
        "Last epoch, mean over seeds ± half of the 95 % interval. Peak, early stop (at the epoch a clean validation "
        "set chooses) and train (on the training images themselves) are of the protected side.",
    )


def _groups(result: Mapping[str, Any]) -> str:
    lines = []
    for cell in result["cells"]:
        for group, sides in cell["groups"].items():
            shown = ", ".join(f"{name} {value:.1%}" for name, value in sides.items())
            lines.append(f"<li>{escape(_name(cell, True))}: {escape(group)}: {escape(shown)}</li>")
        for name, key in (("after training", "auc"), ("before", "frozen_auc")):
            pair = [[run[key] for run in cell[side]["runs"]] for side in ("clean", "protected")]
            if all(value is not None for values in pair for value in values):
                lines.append(
                    f"<li>{escape(_name(cell, True))}: AUC of pairs {name}: clean {fmean(pair[0]):.4f}, "
                    f"protected {fmean(pair[1]):.4f}</li>"
                )
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _steps(cells: Sequence[Cell]) -> str:
    """Accuracy over the shares, or the numbers of classes, that were asked for."""
    plots = []
    valued = [cell for cell in cells if cell.get("value") is not None]  # groups that a file names have no number
    for target, against in dict.fromkeys((cell["target"], cell["against"]) for cell in valued):
        steps = sorted(
            (cell for cell in valued if (cell["target"], cell["against"]) == (target, against)),
            key=lambda cell: float(cell["value"]),
        )
        shares = all(cell["value"] <= 1 for cell in steps)
        sides = [name for name in ("clean", "protected", "clean_part") if any(cell.get(name) for cell in steps)]
        lines = [
            curves.Line(
                name.replace("_", " "),
                [(cell["value"], _mean_last(cell[name])) for cell in steps if cell.get(name)],
                LOOKS[name],
                dotted=True,
            )
            for name in sides
        ]
        lines.append(curves.Line("chance", [(cell["value"], cell["chance"]) for cell in steps], "chance"))
        ticks = {cell["value"]: f"{cell['value']:.0%}" if shares else f"{cell['value']:g}" for cell in steps}
        across = "share of the images that is protected" if shares else "groups of classes"
        ends = [(ticks[cell["value"]], *(_mean_last(cell[side]) for side in ("clean", "protected"))) for cell in steps]
        said = f"Test accuracy by {across}: " + "; ".join(
            f"{step}: clean {clean:.1%}, protected {protected:.1%}" for step, clean, protected in ends
        )
        picture = curves.plot(lines, said=said, ticks=ticks, across=across, size=(560, 260), named=True)
        name = f"{_against(steps[0])} · {target}"
        plots.append(f"<figure>{picture}<figcaption>{escape(name)}</figcaption></figure>")
    if not plots:
        return ""
    return _section("By scenario", "".join(plots), "Last epoch, mean over seeds, on clean test images.")


def _mean_last(side: Mapping[str, Any]) -> float:
    return fmean(run["curve"][-1] for run in side["runs"])


def _curves(cells: Sequence[Cell]) -> str:
    several = len({cell["target"] for cell in cells}) > 1
    longest = [cell for cell in cells if len(cell["clean"]["runs"][0]["curve"]) > 1][:CURVES]
    if not longest:
        return ""
    plots = "".join(
        f"<figure>{_plot(cell)}<figcaption>{escape(_name(cell, several))}</figcaption></figure>" for cell in longest
    )
    looks = {name: name for name in ("clean", "protected", "chance")}
    if any(_parts(cell) for cell in longest):
        looks |= {f"{name} training images": look for name, look in PARTS.items()}
    names = "".join(f'<span><i class="{look}"></i> {name}</span>' for name, look in looks.items())
    key = f'<p class="key">{names}</p>'
    return _section("Test accuracy by epoch", f'{key}<div class="plots">{plots}</div>', "One line a seed.")


def _parts(cell: Cell) -> list[curves.Line]:
    """How well the protected and the clean part of the training images are fitted, where there are both."""
    return [
        curves.by_epoch("", curve, PARTS[name])
        for run in cell["protected"]["runs"]
        for name, curve in run.get("part_curves", {}).items()
    ]


def _plot(cell: Cell) -> str:
    epochs = max(len(run["curve"]) for side in ("clean", "protected") for run in cell[side]["runs"])
    lines = [curves.by_epoch("", run["curve"], side) for side in ("clean", "protected") for run in cell[side]["runs"]]
    lines += _parts(cell)
    ends = {side: _percent(run["curve"][-1] for run in cell[side]["runs"]) for side in ("clean", "protected")}
    said = (
        f"Test accuracy over {epochs} epochs under {_against(cell)}: clean ends at {ends['clean']} percent, "
        f"protected at {ends['protected']} percent"
    )
    return curves.plot(lines, said=said, ticks=curves.epochs(epochs), chance=cell["chance"])


def _confusion(cells: Sequence[Cell], classes: Sequence[str]) -> str:
    plain = next((cell for cell in cells if cell["against"] == "none"), None)
    table = plain["protected"]["runs"][0]["confusion"] if plain else ()
    if not plain or not table:
        return ""
    note = (
        f"{escape(_name(plain, True))}, first seed, last epoch. A row is what a test image is, a column what the net "
        "takes it for; the numbers are test images, and the diagonal is right."
    )
    picture = confusion.picture(table, [visible(name) for name in classes])
    return _section("What the protected run confuses", picture, note)


def _detected(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(side)}</th><td>{escape(probe['net'])}</td><td>{probe['held_out']:.1%}</td>"
        f"<td>{probe['clean']:.1%}</td><td>{'flagged' if probe['flagged'] else 'not flagged'}</td></tr>"
        for side, probes in found.items()
        for probe in probes
    )
    heads = ("set", "net", "held-out images of the set", "clean test images", "verdict")
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    return _section(
        "Detection",
        f'<div class="wide" tabindex="0" role="region" aria-label="table of detection">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>",
        "A net too simple for images that knows new images of a set far better than clean ones has read noise: "
        "whoever trains can tell that the set is protected.",
    )


def _sheet(sheet: bytes | None) -> str:
    if sheet is None:
        return ""
    data = base64.b64encode(sheet).decode()
    return _section(
        "Images",
        f'<div class="wide"><img src="data:image/png;base64,{data}" '
        'alt="Clean images, their noise amplified, and the protected images, one column each"></div>',
        "Pairs of clean and protected images help to undo the protection: this page is as secret as the noise.",
    )


def _recipe(result: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    shown = {name: str(value) for name, value in {**facts, **result["versions"], "device": result["device"]}.items()}
    whole = {key: value for key, value in result.items() if key != "warnings"}
    text = html.escape(json.dumps(whole, indent=1))
    return _section(
        "Recipe",
        f"{_list(shown)}\n<details><summary>All figures, as JSON</summary><pre>{text}</pre></details>",
        "It holds for these targets and countermeasures only; others may learn more.",
    )
