#!/usr/bin/env bash
# Shows where the daemon's CPU time goes on the main path, by thread and by part, in microseconds per event:
#
#     benches/profile.sh [single|stream]
#
# Samples a saturated daemon with perf (Debian: linux-perf; needs root or kernel.perf_event_paranoid ≤ 1). Symbols come
# from the `profiling` profile, which is the release build with symbols. The samples stay in the build directory for
# further analysis.
set -euo pipefail
cd "$(dirname "$0")/.."
way=${1:-single}
case $way in single | stream) ;; *)
    echo "profile.sh: expected single or stream, not $way" >&2
    exit 2
    ;;
esac
command -v perf >/dev/null || {
    echo "profile.sh: perf is missing: apt-get install linux-perf" >&2
    exit 1
}
target=${CARGO_TARGET_DIR:-target}
folder=$target/profile
rm -rf "$folder"
mkdir -p "$folder"
folder=$(realpath "$folder")

cargo build --quiet --locked --profile profiling -p stormhook
program=$(realpath "$target/profiling/stormhook")

# Replaces the daemon: samples the process that it becomes, until that ends.
cat >"$folder/daemon" <<END
#!/usr/bin/env bash
perf record --quiet -F 3999 -p \$\$ -o "$folder/\$\$.data" &
exec "$program" "\$@"
END
chmod +x "$folder/daemon"

cargo run --quiet --locked --release -p stormhook-benches -- "$way" --daemon "$folder/daemon" --json "$folder/bench.json" >"$folder/bench.txt"
grep -E 'ceiling|settled|daemon CPU' "$folder/bench.txt"
cpu_us=$(sed -n 's/.*daemon CPU  *\([0-9.]*\) µs.*/\1/p' "$folder/bench.txt" | head -n 1)
# The longest recording.
data=$(find "$folder" -name '*.data' -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
perf report -i "$data" --no-children -g none --sort comm,dso,symbol --stdio 2>/dev/null | grep -v '^#' |
    awk -v cpu_us="$cpu_us" -f benches/profile.awk | sort -t'|' -k2,2 -k4,4nr
