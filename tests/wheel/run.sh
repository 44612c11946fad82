#!/usr/bin/env bash
# Tests the wheel as its users have it: builds it, installs it into a new environment, and
# works with it in an empty folder and in one with a `projects` package of its own
# (6 minutes on two cores, 2 GB of disk):
#
#   bash tests/wheel/run.sh
#
# WORK=             output folder (default: work_dirs/wheel); it is emptied.
# PYTHON=           interpreter that creates the environment (default: python3)
# TORCH_INDEX_URL=  package index for torch (default: pip's configured index)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
REPOSITORY="$PWD"
WORK="${WORK:-work_dirs/wheel}"
rm -rf "$WORK"
mkdir -p "$WORK"
WORK="$(cd "$WORK" && pwd)"
unset PYTHONPATH
export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
STARTED=$SECONDS
SERVER=

say() { echo "[$((SECONDS - STARTED)) s] $*"; }

fail() {
  echo "error: $*; see $WORK" >&2
  exit 1
}

# Runs a command, shows its output only if it fails, and prints its time.
check() {
  local title="$1" start=$SECONDS
  shift
  "$@" > "$WORK/last.log" 2>&1 || {
    tail -n 30 "$WORK/last.log" >&2
    fail "$title failed: $*"
  }
  say "$title: $((SECONDS - start)) s"
}

# Runs a command that must end with an error of one line that contains a text.
refuses() {
  local title="$1" text="$2"
  shift 2
  if "$@" > "$WORK/last.log" 2>&1; then fail "$title was accepted: $*"; fi
  grep -qF "$text" "$WORK/last.log" || fail "$title: no \"$text\" in $WORK/last.log"
  ! grep -q Traceback "$WORK/last.log" || fail "$title: a traceback in $WORK/last.log"
  say "$title: $(grep -m 1 -F "$text" "$WORK/last.log")"
}

trap '[[ -z "$SERVER" ]] || kill "$SERVER"' EXIT

build_environment() {
  check 'build the wheel' "${PYTHON:-python3}" -m pip wheel -q --no-deps \
    --wheel-dir "$WORK/dist" "$REPOSITORY"
  check 'create the environment' "${PYTHON:-python3}" -m venv "$WORK/venv"
  check 'install torch' "$WORK/venv/bin/pip" install -q \
    ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch==2.13.0
  check 'install the wheel' "$WORK/venv/bin/pip" install -q torch==2.13.0 \
    "$WORK"/dist/mmsam2-*.whl
  export PATH="$WORK/venv/bin:$PATH"
}

# Weights in the form of the release, served at a local address.
serve_weights() {
  mkdir -p "$WORK/served"
  (cd "$WORK" && check 'write weights' python "$REPOSITORY/tests/wheel/weights.py" served)
  HASH="$(sha256sum "$WORK/served/sam2.1_hiera_tiny.pt" | cut -d ' ' -f 1)"
  python -m http.server --bind 127.0.0.1 --directory "$WORK/served" 0 \
    > "$WORK/server.log" 2>&1 &
  SERVER=$!
  until MIRROR="$(grep -oE 'http://127[^/]+' "$WORK/server.log")"; do sleep 0.1; done
}

# What a user does, in the current folder.
use() {
  local folder="$1" small=(train_cfg.max_epochs=1 train_cfg.val_interval=1)
  check "$folder: names" python "$REPOSITORY/tests/wheel/names.py"
  # These are not the released weights, whose size and hash are known.
  refuses "$folder: other weights" 'it is another file' mmsam2 download sam2.1_hiera_tiny \
    --mirror "$MIRROR" --out checkpoints
  check "$folder: download" mmsam2 download sam2.1_hiera_tiny --mirror "$MIRROR" \
    --out checkpoints --sha256 "$(sha256sum < "$WORK/served/sam2.1_hiera_tiny.pt" | cut -c-64)"
  check "$folder: generate clips" mmsam2 make_synthetic_clips data --workers 2 \
    --num-clips 6 --num-val-clips 1
  cat > config.py << 'END'
_base_ = 'mmsam2::sam2_mini_synthetic.py'

data_root = 'data'
END
  check "$folder: check" mmsam2 check config.py
  check "$folder: train three steps" mmsam2 train config.py --work-dir run \
    --cfg-options "${small[@]}"
  check "$folder: test" mmsam2 test config.py run/epoch_1.pth --work-dir tested
  grep -q 'J&F' "$WORK/last.log" || fail "$folder: test printed no J&F"
  check "$folder: test by name" mmsam2 test sam2_mini_synthetic run/epoch_1.pth \
    --work-dir tested --cfg-options data_root=data
  check "$folder: predict" mmsam2 predict data/JPEGImages/val_00000/00000.jpg \
    sam2.1_hiera_t sam2.1_hiera_tiny.pt --point 64 64 --out-dir predicted
  check "$folder: export" mmsam2 convert run/epoch_1.pth exported.pt --to released \
    --config config.py
  check "$folder: publish" mmsam2 publish run/epoch_1.pth \
    published.pth --config config.py
  check "$folder: report" mmsam2 report run
  check "$folder: new project" mmsam2 new project --from data
  check "$folder: train the project" mmsam2 train project/config.py \
    --cfg-options "${small[@]}"
  check "$folder: two processes" mmsam2 dist_train config.py 2 --work-dir run2 \
    --cfg-options "${small[@]}"
  refuses "$folder: unknown program" 'did you mean train' mmsam2 trai
  refuses "$folder: unknown config" 'did you mean sam2_mini_davis' \
    mmsam2 train sam2_mini_davs
}

cold_start() {
  local start stop
  start=$(date +%s%N)
  "$@" > /dev/null
  stop=$(date +%s%N)
  say "cold start of $*: $(((stop - start) / 1000000)) ms"
}

build_environment
serve_weights
mkdir -p "$WORK/empty" "$WORK/clash/projects"
echo 'OWN = True' > "$WORK/clash/projects/__init__.py"
cd "$WORK/empty"
cold_start mmsam2 --help
cold_start mmsam2 split_clips --help
use empty
cd "$WORK/clash"
use clash

cd "$WORK/empty"
refuses 'wheel and clone in one process' 'is another copy of' \
  env PYTHONPATH="$REPOSITORY" python -c "
import mmsam2
try:
    import projects.sam2
except ImportError as error:
    raise SystemExit(str(error))"

refuses 'demo without its packages' "pip install 'mmsam2[demo]'" mmsam2 demo --no-browser
check 'install the demo' pip install -q torch==2.13.0 \
  "mmsam2[demo] @ file://$(ls "$WORK"/dist/mmsam2-*.whl)"
check 'demo: page, session, frame' python "$REPOSITORY/tests/wheel/demo.py"

# The fork of MMEngine, in front of the original.
check 'install onedl-mmengine' pip install -q --no-deps --target "$WORK/onedl" \
  onedl-mmengine==0.10.12
export PYTHONPATH="$WORK/onedl"
check 'onedl-mmengine: which' python -c "
import mmengine; assert 'onedl' in mmengine.__file__, mmengine.__file__"
check 'onedl-mmengine: train' mmsam2 train config.py --work-dir onedl_run \
  --cfg-options train_cfg.max_epochs=1
check 'onedl-mmengine: test' mmsam2 test config.py onedl_run/epoch_1.pth
check 'onedl-mmengine: no code runs' python "$REPOSITORY/tests/wheel/harmless.py"
say 'wheel: all checks passed'
