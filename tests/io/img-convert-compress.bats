#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# img convert -c stores compressed clusters, whatever the source looks like, and the target reads the same.

load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
    yes 'all work and no play' | head -c 2M >text.raw # 32 clusters, each smaller than a sector when compressed
}

compressed() { # IMAGE: how many clusters are
    qemu-img check --output=json "$1" | jq '."compressed-clusters"'
}

@test "all of it is compressed; with any number of workers, holes and -S" {
    need qemu-img jq
    local more
    for more in "" "-m 1" "-W" "-S 0" "-m 16 -S 128k"; do
        expect 0 blkproof img convert -c $more -f raw -O qcow2 text.raw c.qcow2
        equal "$(compressed c.qcow2)" 32 "clusters with '$more'"
        expect 0 qemu-img compare -f raw -F qcow2 text.raw c.qcow2
    done
    [ "$(stat -c %s c.qcow2)" -lt 500000 ] || fail "the file is no smaller"
}

@test "sources that do not end with a cluster; extents that do not" {
    need qemu-img jq
    truncate -s 3M holes.raw
    dd if=text.raw of=holes.raw bs=4k count=3 seek=5 conv=notrunc status=none
    dd if=text.raw of=holes.raw bs=4k count=30 seek=100 conv=notrunc status=none
    head -c 100000 text.raw >odd.raw
    truncate -s 100352 odd.raw # whole sectors
    cat odd.raw holes.raw odd.raw text.raw >joined.raw
    expect 0 blkproof img convert -c -f raw -O qcow2 odd.raw holes.raw odd.raw text.raw c.qcow2
    expect 0 qemu-img compare -f raw -F qcow2 joined.raw c.qcow2
    [ "$(compressed c.qcow2)" -ge 30 ] || fail "$(compressed c.qcow2) clusters are compressed"
    expect 0 blkproof img convert -c -f raw -O qcow2 -o cluster_size=2M holes.raw c.qcow2
    expect 0 qemu-img compare -f raw -F qcow2 holes.raw c.qcow2
    equal "$(compressed c.qcow2)" 1 # the first 2 MiB hold all the data
}

@test "a format that cannot" {
    expect 1 blkproof img convert -c -f raw -O raw text.raw c.raw
    equal "$err" "blkproof: Compression not supported for this file format"
    [ ! -e c.raw ]
}
