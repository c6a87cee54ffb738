# SPDX-License-Identifier: BSD-2-Clause
# serve: memory does not depend on the size of the disk, nor on how long it has been in use.
load ../lib/common

setup() {
    need fio
    ! grep -q __asan_init "$(command -v blkproof)" || skip "the sanitizer keeps freed memory"
    cd "$BATS_TEST_TMPDIR"
}

device() { # SIZE: verified, both sides sparse in memory
    echo "json:{\"driver\":\"blkverify\",\"raw\":{\"driver\":\"mem\",\"size\":\"$1\"},\"test\":{\"driver\":\"mem\",\"size\":\"$1\"}}"
}

# The first 16 MiB, over and over.
work() { # NAME LOOPS
    expect 0 fio --name=f --ioengine=nbd --uri="$(uri "$1")" --size=16M --rw=randrw --bsrange=4k-64k --iodepth=32 \
        --randseed=1 --loops="$2"
}

rss() { # NAME: KiB
    awk '/^VmRSS/ { print $2 }' "/proc/$(pid "$1")/status"
}

@test "a pebibyte takes no more than a gibibyte" {
    serve small "$(device 1G)"
    serve large "$(device 1P)"
    work small 4
    work large 4
    small=$(rss small) large=$(rss large)
    [ $((large - small)) -lt 8192 ] || fail "1 GiB: $small KiB, 1 PiB: $large KiB"
}

@test "after ten times the work it is what it was" {
    serve s "$(device 1G)"
    work s 8 # fills pools and the history of writes as far as 16 MiB can
    before=$(rss s)
    work s 80
    after=$(rss s)
    [ $((after - before)) -lt 32768 ] || fail "$before KiB before, $after KiB after"
    expect 0 stop s
}
