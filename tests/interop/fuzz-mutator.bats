# SPDX-License-Identifier: BSD-2-Clause
# The mutator as a library: libFuzzer and AFL++ get images that stay images. The target fails on an L1 table that lies
# within a cluster, and believes nothing without magic, version and cluster size: random bytes do not get there.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    lib=$(dirname "$(type -P blkproof)")
    [ -e "$lib/libblkproof-mutator.so" ] || skip "the mutator is not built beside $(type -P blkproof)"
    ! grep -q __asan_init "$lib/libblkproof-mutator.so" || skip "built with sanitizers, which would have to come first"
    cat >target.c <<'C'
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static uint64_t be(const uint8_t *p, int n) { uint64_t v = 0; while (n--) v = v << 8 | *p++; return v; }
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 72 || be(p, 4) != 0x514649fb || be(p + 4, 4) < 2 || be(p + 4, 4) > 3) return 0;
    uint64_t bits = be(p + 20, 4), l1 = be(p + 40, 8);
    if (bits < 9 || bits > 21 || l1 == 0 || l1 > n) return 0;
    if (l1 % (1 << bits)) abort();
    return 0;
}
#ifdef AFL
int main(int argc, char **argv)
{
    static uint8_t buf[1 << 20];
    FILE *f = fopen(argv[1], "rb");
    return f ? LLVMFuzzerTestOneInput(buf, fread(buf, 1, sizeof(buf), f)) : 1;
}
#endif
C
    mkdir seeds
    blkproof fuzz gen --format=qcow2 --valid --config=cluster_bits=9 --config=backing=0 --count=4 --out=seeds --no-records
    rm -f seeds/*-* # what stands beside
}

@test "a libFuzzer target finds what lies behind the header" {
    need clang
    clang -g -fsanitize=fuzzer target.c -o target -L"$lib" -Wl,--no-as-needed -lblkproof-mutator -Wl,-rpath,"$lib"
    expect 77 ./target -seed=1 -runs=20000 -max_len=1000000 seeds
    contains "$output" "deadly signal"
}

@test "AFL++ finds it, too" {
    need afl-fuzz afl-clang-fast
    afl-clang-fast -DAFL target.c -o target 2>/dev/null
    export AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1
    export AFL_BENCH_UNTIL_CRASH=1 AFL_CUSTOM_MUTATOR_ONLY=1 AFL_CUSTOM_MUTATOR_LIBRARY=$lib/libblkproof-mutator.so
    BLKPROOF_FUZZ_CONFIG='header.*' expect 0 afl-fuzz -s 1 -V 60 -i seeds -o out -- ./target @@
    [ "$(find out/default/crashes -name 'id*' | wc -l)" -ge 1 ] || fail "no crash: $output"
    kept=$(find out/default/queue -name 'id*' | wc -l)
    images=$(grep -la '^QFI' out/default/queue/id* | wc -l)
    [ $((images * 2)) -gt "$kept" ] || fail "only $images of $kept inputs that are kept are images"
}

@test "a wrong configuration is told" {
    need clang
    clang -g -fsanitize=fuzzer target.c -o target -L"$lib" -Wl,--no-as-needed -lblkproof-mutator -Wl,-rpath,"$lib"
    BLKPROOF_FUZZ_FORMAT=floppy expect 77 ./target -seed=1 -runs=100 seeds
    contains "$output" "unknown format 'floppy'"
}

@test "a format without a parser: five fields in a row, by way of what was kept" {
    need clang
    cat >qed.c <<'C'
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static volatile int way;
    uint64_t compat, autoclear;
    uint32_t table, at, len;
    if (n < 64 || memcmp(p, "QED", 4)) return 0;
    memcpy(&table, p + 8, 4);
    memcpy(&compat, p + 24, 8);
    memcpy(&autoclear, p + 32, 8);
    memcpy(&at, p + 56, 4);
    memcpy(&len, p + 60, 4);
    if (table <= 16) return 0;
    way = 1;
    if (autoclear <= 0xffffff) return 0;
    way = 2;
    if (compat <= 0xffffff) return 0;
    way = 3;
    if (at <= 1u << 20) return 0;
    way = 4;
    if (len > 1u << 20) abort();
    return 0;
}
C
    clang -g -fsanitize=fuzzer qed.c -o target -L"$lib" -Wl,--no-as-needed -lblkproof-mutator -Wl,-rpath,"$lib"
    export BLKPROOF_FUZZ_FORMAT=qed
    export BLKPROOF_FUZZ_CONFIG='header.table_size header.*_features header.backing_filename_offset header.backing_filename_size'
    mkdir empty
    expect 77 ./target -seed=1 -runs=20000 -max_len=10000000 empty
    contains "$output" "deadly signal"
}
