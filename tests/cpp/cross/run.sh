#!/usr/bin/env bash
# Runs the tests of the kernels for processors that this machine is not:
#
#   tests/cpp/cross/run.sh avx512   kernels_avx512.cpp over SIMDe, on any x86-64 with AVX2
#   tests/cpp/cross/run.sh neon     kernels_neon.cpp for 64-bit ARM, under qemu
#
# ctest runs both. Exits 77 (skipped, to ctest) when a package is missing. Emulation shows that the results are
# right and that nothing is read beyond its end; it says nothing about speed.
set -euo pipefail

mode=${1:-}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
out=$root/build/cross/$mode
flags=(-std=c++20 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror
  -I"$root/cpp" -I"$root/tests/cpp")
tests=(tests/cpp/main.cpp tests/cpp/hnsw/test_kernels.cpp tests/cpp/hnsw/test_tile.cpp
  tests/cpp/hnsw/test_walk_loop.cpp cpp/hnsw/dispatch.cpp cpp/hnsw/kernels_scalar.cpp)

skip() {
  echo "cross $mode skipped: $1" >&2
  exit 77
}
need() { # program, package
  command -v "$1" >/dev/null || skip "there is no $1; it is in the Debian package $2"
}
fresh() { # whether the program is newer than all that it may have been made from
  [[ -x $out/test && -z $(find "$root/cpp" "$root/tests/cpp" -newer "$out/test" -print -quit) ]]
}
compile() { # source, flags for it alone
  local source=$1
  shift
  fresh || "${CXX[@]}" "${flags[@]}" "$@" -c "$root/$source" -o "$out/$(basename "$source" .cpp).o"
}

case $mode in
  avx512)
    CXX=(${CXX:-g++})
    need "${CXX[0]}" g++
    [[ $(uname -m) == x86_64 ]] || skip "this is $(uname -m), not x86-64"
    grep -qw avx2 /proc/cpuinfo || skip "this processor has no AVX2"
    echo '#include <simde/x86/avx512.h>' | "${CXX[@]}" -E -x c++ - >/dev/null 2>&1 ||
      skip "there is no simde/x86/avx512.h; it is in the Debian package libsimde-dev"
    mkdir -p "$out"
    flags+=(-DEMBEDCORE_X86=1 -DEMBEDCORE_CROSS_AVX512=1)
    compile cpp/hnsw/kernels_avx2.cpp -mavx2 -mfma -mf16c
    # psabi: vectors of 64 bytes are passed differently without AVX-512; they stay within this object.
    # Plain links: without the statement for the compiler that needs a register of 64 bytes.
    compile cpp/hnsw/kernels_avx512.cpp -mavx2 -mfma -mf16c -Wno-psabi -I"$root/tests/cpp/cross/simde" \
      -DEMBEDCORE_PLAIN_LINKS=1
    run=()
    ;;
  neon)
    CXX=(aarch64-linux-gnu-g++)
    need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
    if command -v qemu-aarch64-static >/dev/null; then run=(qemu-aarch64-static); else run=(qemu-aarch64); fi
    need "${run[0]}" qemu-user-static
    mkdir -p "$out"
    flags+=(-DEMBEDCORE_NEON=1 -static)
    compile cpp/hnsw/kernels_neon.cpp
    ;;
  *)
    echo "usage: $0 avx512|neon" >&2
    exit 2
    ;;
esac

for source in "${tests[@]}"; do compile "$source"; done
fresh || "${CXX[@]}" "${flags[@]}" "$out"/*.o -o "$out/test"
# Named, so that the run fails when the set under test is not among those that run.
EMBEDCORE_ISA=$mode "${run[@]}" "$out/test"
