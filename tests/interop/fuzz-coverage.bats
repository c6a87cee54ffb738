# SPDX-License-Identifier: BSD-2-Clause
# Feedback: `blkproof fuzz run --coverage` keeps images that reach new edges and mutates their lists. The target fails
# behind four fields in a row; one hostile field at a time comes to the last only by way of
# images that got to those before it.
load ../lib/common

setup() {
    need sqlite3
    cd "$BATS_TEST_TMPDIR" || return
    lib=$(dirname "$(type -P blkproof)")
    cat >staircase.c <<'C'
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static struct { uint32_t magic, cluster, table, header; uint64_t features, compat, autoclear, l1, size; uint32_t at, len; } h;
int main(int argc, char **argv)
{
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!f || fread(&h, 1, sizeof(h), f) != sizeof(h) || memcmp(&h, "QED", 4)) return 1;
    if (h.compat > 0xffff) {
        puts("one");
        if (h.size > (uint64_t)1 << 40) {
            puts("two");
            if (h.len > 1u << 20) {
                puts("three");
                if (h.at > 1u << 20) abort();
            }
        }
    }
    return 0;
}
C
}

campaign() { # PROGRAM, OPTIONS...
    expect "${want:-1}" blkproof fuzz run --format=qed --recipes=0 --jobs=1 --again=0 --no-gdb --bias=1 --until-finding \
        --config='header.compat_features' --config='header.image_size' --config='header.backing_filename*' \
        --out=c "${@:2}" -- "$PWD/$1" {img}
}

check_found() {
    matches "$out" "[1-9][0-9]* edges, [1-9][0-9]* images kept"
    find c/corpus -name 'test-*.json' | grep -q .
    expect 0 blkproof fuzz replay --out=c c/findings/signal-*
    contains "$out" "seen 1 of 1 times"
    expect 0 blkproof fuzz min --out=c c/findings/signal-*
    matches "$out" "hostile fields: [2-4] of"
}

@test "a target of AFL++: four fields in a row" {
    need afl-clang-fast
    afl-clang-fast staircase.c -o staircase 2>/dev/null
    campaign staircase --coverage --count=1000
    check_found
}

@test "a target of AFL++ under the fork server" {
    need afl-clang-fast
    afl-clang-fast staircase.c -o staircase 2>/dev/null
    campaign staircase --coverage --count=1000 --fork-server
    check_found
}

@test "a target of clang with our runtime" {
    need clang
    clang -fsanitize-coverage=trace-pc-guard staircase.c -o staircase \
        -Wl,--whole-archive "$lib/libblkproof-coverage.a" -Wl,--no-whole-archive
    campaign staircase --coverage --count=1000
    check_found
}

@test "without feedback the same tests find nothing" {
    need afl-clang-fast
    afl-clang-fast staircase.c -o staircase 2>/dev/null
    want=0 campaign staircase --count=1000
}

@test "what was seen outlives the campaign" {
    need afl-clang-fast
    afl-clang-fast staircase.c -o staircase 2>/dev/null
    want=0 campaign staircase --coverage --valid --count=3
    edges=$(grep -oE '[0-9]+ edges' <<<"$out")
    kept=$(find c/corpus -type f | wc -l)
    expect 0 blkproof fuzz run --resume --out=c --count=3
    contains "$out" "$edges, $kept images kept"
    expect 0 blkproof fuzz corpus --out=c --all --max=1G export exported
    equal "$(find exported -name '*.qed' | wc -l)" "$kept"
}

@test "a program that counts nothing is told" {
    cc staircase.c -o staircase
    campaign staircase --coverage --count=10
    contains "$err" "no command counts its edges"
    expect 2 blkproof fuzz run --coverage=ptrace --out=d -- true {img}
    contains "$err" "cannot be watched"
    expect 2 blkproof fuzz run --coverage --images=. --out=d -- true {img}
    contains "$err" "--coverage mutates images that are made here"
}
