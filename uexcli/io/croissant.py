"""A release's description in Croissant, the JSON-LD form that dataset search engines and loaders read.

Croissant 1.0 of MLCommons; `usageInfo` says what may not be done with the images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

NO_TRAINING = "Training machine learning models on these images is not permitted."
IMAGES, RECORDS = "images", "records"
MIME = {".png": "image/png", ".tiff": "image/tiff", ".webp": "image/webp", ".jxl": "image/jxl", ".jpg": "image/jpeg"}
_OWN = ("citeAs", "column", "containedIn", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
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
    """Describe a release of this name, whose images have these SHA-256 by path.

    `usage` is a text, or the address of a licence that forbids training.
    """
    images = [path for path in sorted(sums) if PurePosixPath(path).suffix == suffix]
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"image-{number}",
            "name": _shown(path),
            "contentUrl": quote(path.encode("utf-8", "surrogateescape")),
            "encodingFormat": MIME[suffix],
            "sha256": sums[path],
        }
        for number, path in enumerate(images)
    ]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": _shown(name),
        "description": f"{len(images):,} images with bounded noise that keeps nets from learning from them.",
        "usageInfo": usage,
        "distribution": [
            *files,
            {
                "@type": "cr:FileSet",
                "@id": IMAGES,
                "name": IMAGES,
                "encodingFormat": MIME[suffix],
                "includes": f"**/*{suffix}" if any("/" in path for path in images) else f"*{suffix}",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": RECORDS,
                "name": RECORDS,
                "field": [
                    _field("image", "sc:ImageObject", "content"),
                    _field("path", "sc:Text", "fullpath"),
                ],
            }
        ],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _field(name: str, kind: str, what: str) -> dict[str, Any]:
    source = {"fileSet": {"@id": IMAGES}, "extract": {"fileProperty": what}}
    return {"@type": "cr:Field", "@id": f"{RECORDS}/{name}", "name": name, "dataType": kind, "source": source}


def _shown(text: str) -> str:
    """A name as JSON-LD can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
