#!/bin/sh
# Fuzzes the snapshot loader with libFuzzer, AddressSanitizer and UBSan: tests/fuzz/run.sh [seconds]. Starts from
# the golden files; what it finds interesting is kept in build/fuzz/corpus, what breaks in build/fuzz.
set -eu
cd "$(dirname "$0")/../.."
clang=""
for name in clang++ clang++-21 clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14; do
  if command -v $name > /dev/null; then clang=$name; break; fi
done
if [ -z "$clang" ]; then
  echo "skipped: no clang++ here, and libFuzzer is a part of it (Debian: clang and libclang-rt-dev)"
  exit 0
fi
build=build/fuzz
mkdir -p $build/corpus
for file in tests/data/*.ecx; do
  # The first byte: see fuzz_snapshot.cpp.
  { printf '\000'; cat "$file"; } > "$build/corpus/$(basename "$file")-sealed"
  { printf '\001'; cat "$file"; } > "$build/corpus/$(basename "$file")"
done
flags="-std=c++20 -O1 -g -Icpp -Itests/cpp -Itests/cpp/hnsw -fno-omit-frame-pointer"
# Kernels are not what is fuzzed; they are built as they are shipped, by g++.
units=$(ls cpp/common/*.cpp cpp/hnsw/*.cpp | grep -v kernels_)
case $(uname -m) in
  x86_64)
    defined=-DEMBEDCORE_X86=1
    wide="avx2:-mavx2,-mfma,-mf16c avx512:-mavx2,-mfma,-mf16c,-mavx512f,-mavx512bw,-mavx512vl,-mavx512dq,-mavx512vnni" ;;
  *) defined=-DEMBEDCORE_NEON=1; wide="neon:" ;;
esac
flags="$flags $defined"
objects=""
for unit in $units; do
  object=$build/$(basename "$unit" .cpp).o
  "$clang" $flags -fsanitize=fuzzer-no-link,address,undefined -c "$unit" -o "$object"
  objects="$objects $object"
done
for each in scalar: $wide; do
  object=$build/kernels_${each%%:*}.o
  "${CXX:-g++}" -std=c++20 -O2 -Icpp $defined $(echo "${each#*:}" | tr , ' ') -c "cpp/hnsw/kernels_${each%%:*}.cpp" \
    -o "$object"
  objects="$objects $object"
done
"$clang" $flags -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_snapshot.cpp $objects -o $build/fuzz_snapshot
exec $build/fuzz_snapshot -max_total_time="${1:-60}" -max_len=200000 -artifact_prefix=$build/ $build/corpus
