#!/usr/bin/env bash
# From a folder of photos to a checked archive that can be published: fit, apply, eval, verify, tar.
#
#   release.sh PHOTOS OUT [TEST]
#
#   PHOTOS  the photos, in class folders; they are only read
#   OUT     gets release.tar and release.tar.sha256, and nothing else; once all gates are passed, not before
#   TEST    clean test images for the gate; without them a fifth of PHOTOS is held out
#
# Run it again after an interruption, and it goes on; run it again when all is done, and nothing changes.
# Everything secret (noise, receipt, reports, the release while it is made) lies in PRIVATE, for its owner alone.
# Keep that folder: with it a second run knows what was done, and without it nobody can make this noise again.
#
# Settings, from the environment; where nothing is said, uex chooses:
#
#   PRIVATE           where the secrets lie                               [OUT.private]
#   METHOD            how the noise is found: em, pil, lsp, ...           [em; uc without labels]
#   MODE              samplewise, classwise, ...                          [samplewise; clusterwise without labels]
#   NORM, EPS         the bound; verify then insists on it                [the method's]
#   SIZE              side in pixels that images are fitted and judged at [auto]
#   SEED              of the noise, and as secret                         [drawn]
#   LABELS            CSV with the header path,label                      [class folders]
#   FIT_OPTIONS       more words for uex fit, such as "--preset quick -O rounds=5"
#   FORMAT            png, tiff, webp, jxl                                [png]
#   ON_ERROR          fail, or skip images that cannot be used            [fail]
#   MAX_LEARNABILITY  the gate: the most that may be left to learn, 0 to 1 [0.5]
#   PROTOCOL, TARGET, AGAINST, SEEDS, EPOCHS   how that is measured       [uex eval's]
#   EVAL_OPTIONS      more words for uex eval
#   DEVICE            auto, cpu, cuda, mps                                [auto]
#   JOBS              images at a time                                    [all cores]
#   FORCE             1: start afresh, also with other settings or photos [0]
#   SOURCE_DATE_EPOCH the time of the files in the archive, in seconds    [0]
#   UEX, TAR          the programs                                        [uex; GNU tar, as tar or gtar]
#
# Ends with 0 when the release is published, else with the exit code of the step that failed:
# 1 a gate, 2 usage, 3 could not do it, 130 interrupted, 143 terminated. What was published before stays.
#
# Needs bash 4.4 or later and GNU tar.
set -euo pipefail

help() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p;}' "$0"; }
case ${1:-} in
  -h | --help) help && exit 0 ;;
esac
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  help >&2
  exit 2
fi

photos=$1
out=${2%/}
test_images=${3:-}
private=${PRIVATE:-$out.private}
UEX=${UEX:-uex}
FORCE=${FORCE:-0}
ON_ERROR=${ON_ERROR:-fail}
MAX_LEARNABILITY=${MAX_LEARNABILITY:-0.5}
noise=$private/photos.noise.safetensors
receipt=$private/photos.noise.receipt.json
release=$private/release
part=$out/.release.tar.part

say() { printf '%s\n' "$*" >&2; }
die() {
  say "release.sh: $2"
  exit "$1"
}

# A step runs beside the script, so that a signal that only the script gets is passed on at once.
stop() {
  trap '' INT TERM
  for child in $(jobs -p); do kill -TERM "$child" 2>/dev/null || true; done
  wait
  rm -f -- "$part"
  die "$1" "$2. Nothing was published; the same command goes on from here."
}
trap 'stop 130 Interrupted' INT
trap 'stop 143 Terminated' TERM

step() { # NAME WORDS...: run one command of uex, or stop here and say why
  local name=$1 code=0
  shift
  say "== $name"
  "$UEX" "$name" "$@" &
  wait "$!" || code=$?
  case $code in
    0) return ;;
    1)
      case $name in
        eval) die 1 "GATE FAILED: more than $MAX_LEARNABILITY is left to learn. Nothing was published." ;;
        verify) die 1 "GATE FAILED: the release is not what it should be, see $private/verify.xml. Nothing was published." ;;
        *) die 1 "uex $name broke off, which is a bug. Nothing was published." ;;
      esac
      ;;
    2) die 2 "uex $name was not called rightly, or finds something else in its place: see above. Nothing was published. \
With other settings or photos than before, say FORCE=1, or take another OUT." ;;
    3) die 3 "uex $name could not do it: see above. Nothing was published." ;;
    130) stop 130 Interrupted ;;
    143) stop 143 Terminated ;;
    *) die "$code" "uex $name ended with $code. Nothing was published; the same command goes on from here." ;;
  esac
}

# Programs and folders
[ "$((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))" -ge 404 ] || die 2 "bash $BASH_VERSION is too old: 4.4 or later."
command -v "$UEX" >/dev/null || die 2 "$UEX: not found. Install it, or name it: UEX=/path/to/uex"
tar=
for tool in "${TAR:-tar}" gtar; do
  if "$tool" --version 2>/dev/null | grep -q 'GNU tar'; then
    tar=$tool
    break
  fi
done
[ -n "$tar" ] || die 2 "GNU tar is needed for the same bytes each time. Install it, or name it: TAR=/path/to/tar"
if command -v sha256sum >/dev/null; then sha256=(sha256sum); else sha256=(shasum -a 256); fi
case $photos in
  -*) die 2 "$photos: write ./$photos" ;;
esac

umask 077 # what is made from here on is its owner's alone
mkdir -p -- "$private"
chmod 700 -- "$private"
if [ -d "$out" ]; then # else PRIVATE cannot lie in it
  case $(cd -- "$private" && pwd -P)/ in
    "$(cd -- "$out" && pwd -P)"/*)
      rmdir -- "$private" 2>/dev/null || true
      die 2 "PRIVATE=$private lies in $out, which is published."
      ;;
  esac
fi
if command -v flock >/dev/null; then
  exec 9>"$private/.lock"
  flock -n 9 || die 2 "another release.sh works in $private."
fi

# What the settings mean for each command
fit=() apply=() judge=() check=()
give() { # LIST OPTION VALUE: add an option that has a value
  if [ -n "$3" ]; then
    local -n list=$1
    list+=("$2" "$3")
  fi
}
give fit --method "${METHOD:-}"
give fit --mode "${MODE:-}"
give fit --seed "${SEED:-}"
give apply --format "${FORMAT:-}"
give judge --test "$test_images"
give judge --protocol "${PROTOCOL:-}"
give judge --target "${TARGET:-}"
give judge --against "${AGAINST:-}"
give judge --seeds "${SEEDS:-}"
give judge --epochs "${EPOCHS:-}"
for each in fit check; do
  give "$each" --norm "${NORM:-}"
  give "$each" --eps "${EPS:-}"
done
for each in fit judge; do
  give "$each" --size "${SIZE:-}"
  give "$each" --device "${DEVICE:-}"
done
for each in apply check; do give "$each" --jobs "${JOBS:-}"; done
for each in fit apply judge; do
  give "$each" --labels "${LABELS:-}"
  give "$each" --on-error "$ON_ERROR"
done
[ "$ON_ERROR" != skip ] || check+=(--allow-missing)
again=--resume
[ "$FORCE" != 1 ] || again=--force
read -r -a more_fit <<<"${FIT_OPTIONS:-}"
read -r -a more_judge <<<"${EVAL_OPTIONS:-}"

# Each step finds what it did before, and then does nothing
step fit "$photos" --output "$noise" "$again" "${fit[@]}" "${more_fit[@]}"
step apply "$noise" "$photos" --output "$release" "$again" "${apply[@]}"
chmod 600 -- "$noise" "$receipt"
step eval "$photos" "$release" --max-learnability "$MAX_LEARNABILITY" --cells "$private/cells" \
  "${judge[@]}" "${more_judge[@]}"
step verify "$release" --source "$photos" --noise "$noise" --junit "$private/verify.xml" --force "${check[@]}"

# The same release gives the same bytes: names in one order, one time, no owner
say "== tar"
if [ ! -d "$out" ]; then
  mkdir -p -- "$out"
  chmod 755 -- "$out"
fi
LC_ALL=C "$tar" --create --file="$part" --directory="$private" --format=gnu --sort=name \
  --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' release
digest=$("${sha256[@]}" <"$part")
line="${digest%% *}  release.tar"
if cmp -s -- "$part" "$out/release.tar" && [ "$(cat -- "$out/release.tar.sha256" 2>/dev/null)" = "$line" ]; then
  rm -f -- "$part"
  say "$out/release.tar is this release already, and every gate holds: nothing to do."
  exit 0
fi
chmod 644 -- "$part"
mv -f -- "$part" "$out/release.tar"
printf '%s\n' "$line" >"$out/release.tar.sha256"
chmod 644 -- "$out/release.tar.sha256"
say "Published: $out/release.tar, SHA-256 ${digest%% *}. Keep $private, and keep it secret."
