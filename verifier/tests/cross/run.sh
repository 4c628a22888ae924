#!/usr/bin/env bash
# Signs random bodies and has the published Standard Webhooks libraries verify them, and the other way round. What it installs is
# in the target folder. Run by hand: it needs the registries.
#
#     verifier/tests/cross/run.sh [seed]
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$(cd ../../.. && pwd)/target}/cross
seed=${1:-$RANDOM$RANDOM}
echo "seed $seed" >&2

mkdir -p "$target/node"
[[ -f $target/node/package.json ]] || echo '{"private":true}' >"$target/node/package.json"
npm install --prefix "$target/node" --no-audit --no-fund --ignore-scripts --no-progress \
    standardwebhooks@1.1.1 svix@1.99.1 >/dev/null
[[ -x $target/python/bin/pip ]] || python3 -m venv "$target/python"
"$target/python/bin/pip" install --quiet --disable-pip-version-check standardwebhooks==1.1.0
CARGO_TARGET_DIR=$target/build cargo build --locked --quiet
cross=$target/build/debug/stormhook-verifier-cross

"$cross" make "$seed" >"$target/ours.json"
for name in standardwebhooks svix; do
    node peer.mjs "$name" "$target/node" <"$target/ours.json" >"$target/theirs.json"
    "$cross" check "npm $name" <"$target/theirs.json"
done
"$target/python/bin/python" peer.py <"$target/ours.json" >"$target/theirs.json"
"$cross" check 'PyPI standardwebhooks' <"$target/theirs.json"
