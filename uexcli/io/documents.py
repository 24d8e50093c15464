"""What the documents of uex hold, each as a kind (see `schema`): whatever reads one checks it first."""

from __future__ import annotations

from uexcli.io.schema import (
    HUGE,
    anything,
    flag,
    listing,
    maybe,
    number,
    one_of,
    option,
    real,
    record,
    table,
    text,
    whole,
)
from uexcli.plugin.norm import LARGEST_EPS, SMALLEST_EPS

SIDE = 8192  # px; the largest side of a noise
MANY = 2**48
LARGEST = LARGEST_EPS
DIGEST = text(64, "[0-9a-f]{64}")
NAME = text(200, plain=True)  # of a plugin, a version, a device
CLASS = text(2**17)  # as long as a CSV's field; folders may be called what is no UTF-8
PATH = text()
BOUND = number(SMALLEST_EPS, LARGEST)
BOUND_TEXT = text(400, plain=True)
SEED = maybe(whole(-HUGE, HUGE - 1))  # below 0 only where an early version was told so

VERSIONED = record({"format": whole(0, MANY)}, {"uexcli": NAME})
PART = record({"name": NAME}, {"options": table(option), "from": NAME})
RECIPE = record(
    {"method": PART, "norm": PART, "granularity": PART, "size": whole(1, SIDE), "channels": one_of(1, 3)},
    {
        "surrogate": maybe(PART),
        "encoder": maybe(PART),
        "ensemble": listing(PART),
        "photo_side": whole(1, MANY),
        "patch": text(12, r"[1-9]\d{0,4}(:random)?"),
        "limit": maybe(whole(1, MANY)),
        "labels": NAME,
        "precision": NAME,
        "compiled": flag,
    },
)
MEASURED = record({}, {"largest": number(0, LARGEST), "at_bound": number(0, 1), "rms_levels": number(0, 255)})
NOISE = record(
    {
        "classes": listing(CLASS, unique=True),
        "eps": BOUND,
        "eps_text": BOUND_TEXT,
        "recipe": RECIPE,
        "dataset": record({}, {"uri": PATH, "count": whole(0, MANY), "fingerprint": DIGEST}),
        "measured": MEASURED,
    },
    {"seed": SEED, "uexcli": NAME, "torch": NAME, "device": NAME, "encoder_weights": maybe(DIGEST)},
)

STATE = record(
    {
        "job": record({}, {"uexcli": NAME, "recipe": RECIPE, "eps": BOUND, "seed": SEED, "photos": DIGEST}),
        "values": table(option),
    }
)

NORM = record({"name": NAME, "options": table(option)})
NAMED = record({"path": PATH}, {"reason": text(2**20), "change": text()})
_FACTS = {
    "suffix": text(9, r"\.[a-z0-9]{1,8}"),
    "size": whole(1, SIDE),
    "eps": BOUND,
    "eps_text": BOUND_TEXT,
    "rms_levels": number(0, 255),
    "largest_share_of_bound": number(0, 1e12),
    "images": whole(0, MANY),
    "ignored": whole(0, MANY),
    "norm": NORM,
    "method": NAME,
    "granularity": NAME,
    "lossless": flag,
    "skipped": listing(NAMED),
    "mode_changes": listing(NAMED),
}
FACTS = record({}, _FACTS)

WRITTEN = record(
    {
        "key": PATH,
        "name": PATH,
        "source": text(64),
        "protected": text(64),
        "size": number(0, 1e12),  # of photos of any size
        "allowed": number(1e-30, 1e12),
        "rms": number(0, 255),
        "changes": listing(text()),
    },
    {
        "kept": flag,
        "visible": flag,
        "place": maybe(record({"row": whole(0, MANY), "near": maybe(real)})),
    },
)
LEFT_OUT = record({"key": PATH, "reason": text(2**20)}, {"digest": maybe(text(64))})
SHARED = record(
    {
        "job": table(anything),
        "facts": record({name: _FACTS[name] for name in ("suffix", "lossless")}, _FACTS),
        "on_error": one_of("fail", "skip"),
        "images": whole(0, MANY),
    },
    {"usage": maybe(text()), "shards": whole(1, MANY), "receipt": PATH},  # older parts said where their receipt lies
)
ITEM = record({"position": whole(0, MANY)}, {"written": WRITTEN, "skipped": LEFT_OUT, "unwanted": LEFT_OUT})
PIECE = record({"header": SHARED, "items": listing(ITEM)})
RECEIPT = record({"releases": table(table(anything))})  # each is checked as `RELEASED` where it is wanted
RELEASED = record(
    {
        "job": table(anything),
        "files": table(record({"name": PATH, "source": text(64), "protected": text(64)})),
        "skipped": table(text(64)),
    }
)

SHARE = number(0, 1)
SECONDS = number(0, 1e12)
COUNT = whole(0, MANY)
PROBE = record({"net": NAME, "held_out": SHARE, "clean": SHARE, "flagged": flag})
OUTCOME = record(
    {"curve": listing(SHARE, least=1), "train_accuracy": SHARE, "seconds": SECONDS},
    {
        "compile_seconds": SECONDS,
        "early_stop": maybe(SHARE),
        "right": listing(COUNT),
        "confusion": listing(listing(COUNT)),
        "parts": table(SHARE),
        "part_curves": table(listing(SHARE)),
        "right_images": listing(text()),
        "gradient": maybe(SHARE),
        "auc": maybe(SHARE),
        "frozen_auc": maybe(SHARE),
    },
)
CELL = record({"key": DIGEST, "outcome": OUTCOME})
MADE = record({"key": DIGEST, "made": listing(PROBE)})  # what simple nets find is all that is kept besides
FITTED = record({"fit_seconds": SECONDS})
MODEL = record(
    {"format": whole(0, MANY)},
    {"uexcli": NAME, "weights": DIGEST, "bank": DIGEST, "chooses": flag, "rows": whole(1, MANY)},
)
