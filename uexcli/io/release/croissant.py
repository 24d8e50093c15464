"""A release's description in Croissant, the JSON-LD form that dataset search engines and loaders read.

Croissant 1.0 of MLCommons; `usageInfo` says what may not be done with the images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

NO_TRAINING = "Training machine learning models on these images is not permitted."
IMAGES, RECORDS = "images", "records"
MIME = {".png": "image/png", ".tiff": "image/tiff", ".webp": "image/webp", ".jxl": "image/jxl", ".jpg": "image/jpeg"}
ANY = "application/octet-stream"
PACKED = {".tar": "application/x-tar", ".parquet": "application/x-parquet"}  # files that hold many images
_OWN = ("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
        "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
        "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform")  # fmt: skip
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "equivalentProperty": "cr:equivalentProperty",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _OWN},
}


def encode(name: str, sums: Mapping[str, str], suffix: str, usage: str) -> bytes:
    """Describe a release of this name by the SHA-256 of its files, by path: single images, tar shards or parquet files.

    `suffix` is the images'; `usage` is a text, or the address of a licence that forbids training.
    """
    kinds = {kind: [path for path in sorted(sums) if PurePosixPath(path).suffix == kind] for kind in (suffix, *PACKED)}
    kind = next((kind for kind in PACKED if kinds[kind] and not kinds[suffix]), suffix)
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"file-{number}",
            "name": _shown(path),
            "contentUrl": quote(path.encode("utf-8", "surrogateescape")),
            "encodingFormat": PACKED.get(kind) or MIME.get(suffix, ANY),
            "sha256": sums[path],
        }
        for number, path in enumerate(kinds[kind])
    ]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": _shown(name),
        "description": "Images with bounded noise that keeps nets from learning from them.",
        "usageInfo": usage,
        "distribution": [*files, _set_of(kind, suffix, [file["@id"] for file in files])],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": RECORDS,
                "name": RECORDS,
                "field": [_field("image", "sc:ImageObject", kind), _field("path", "sc:Text", kind)],
            }
        ],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def usage_of(path: Path) -> str | None:
    """Give what a description says may not be done; None where it says nothing, or cannot be read."""
    try:
        usage = json.loads(path.read_bytes())["usageInfo"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return usage if isinstance(usage, str) else None


def _set_of(kind: str, suffix: str, ids: Sequence[str]) -> dict[str, Any]:
    """The images, or the parquet files that hold them: all of the folder, or what is within the shards."""
    wanted = ".parquet" if kind == ".parquet" else suffix
    return {
        "@type": "cr:FileSet",
        "@id": IMAGES,
        "name": IMAGES,
        **({"containedIn": [{"@id": one} for one in ids]} if kind == ".tar" else {}),
        "encodingFormat": PACKED[kind] if kind == ".parquet" else MIME.get(suffix, ANY),
        "includes": [f"*{wanted}", f"**/*{wanted}"],  # for some readers the second wants a folder
    }


def _field(name: str, type_: str, kind: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": IMAGES}}
    if kind == ".parquet":
        source |= {"extract": {"column": "image"}, "transform": {"jsonPath": "bytes" if name == "image" else "path"}}
    else:
        source |= {"extract": {"fileProperty": "content" if name == "image" else "fullpath"}}
    return {"@type": "cr:Field", "@id": f"{RECORDS}/{name}", "name": name, "dataType": type_, "source": source}


def _shown(text: str) -> str:
    """A name as JSON-LD can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
