# SPDX-License-Identifier: BSD-2-Clause
# blkproof fuzz gen and show: images and records on disk, the same ones again, what is hostile.
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR" || return
}

gen() { # OPTIONS...: quietly
    expect 0 blkproof fuzz gen --format=qcow2 "$@"
    equal "$output" ""
}

@test "as many images as asked for, each with its record" {
    gen --count=7 --out=a
    equal "$(cd a && echo 0000?.qcow2)" "00001.qcow2 00002.qcow2 00003.qcow2 00004.qcow2 00005.qcow2 00006.qcow2 00007.qcow2"
    equal "$(cd a && echo 0000?.json | wc -w)" 7
}

@test "the same seeds make the same files, however many processes share the work" {
    gen --count=30 --seed=100 --out=a --jobs=1
    gen --count=30 --seed=100 --out=b --jobs=4
    expect 0 diff -r a b
    gen --count=1 --seed=117 --out=c
    expect 0 cmp a/00018.qcow2 c/00001.qcow2
}

@test "another seed makes another image" {
    gen --seed=1 --out=a
    gen --seed=2 --out=b
    expect 1 cmp a/00001.qcow2 b/00001.qcow2
}

@test "files have holes, and stay below the limit" {
    gen --count=20 --out=a --no-records
    for f in a/*; do
        [ "$(stat -c %s "$f")" -le $((10 << 20)) ] || fail "$f is too large"
    done
    [ "$(du -s -B1 a | cut -f1)" -lt "$(du -s -B1 --apparent-size a | cut -f1)" ]
}

@test "a field that is the only one allowed is the one that is hostile" {
    gen --seed=3 --out=a --valid
    gen --seed=3 --out=b --config=header.l1_size --bias=1
    equal "$(cmp -l a/00001.qcow2 b/00001.qcow2 | awk '$1 < 37 || $1 > 40')" "" # bytes 36 to 39 of the header
    expect 1 cmp -s a/00001.qcow2 b/00001.qcow2
    expect 0 blkproof fuzz show b/00001.qcow2
    matches "$output" 'hostile: header\.l1_size = 0x[0-9a-f]+ \(was 0x[0-9a-f]+; [a-z-]+\)$'
}

@test "show says the same of an image with its record, of the record, and of the seed" {
    gen --seed=11 --out=a
    expect 0 blkproof fuzz show a/00001.qcow2
    image=$output
    expect 0 blkproof fuzz show a/00001.json
    equal "$output" "$image"
    expect 0 blkproof fuzz show --format=qcow2 11
    equal "$output" "$image"
}

@test "show finds its way through an image that qemu-img made" {
    need qemu-img
    qemu-img create -q -f qcow2 -o cluster_size=4k foreign.qcow2 1M
    qemu-io -f qcow2 -c 'write -P 1 0 64k' foreign.qcow2 >/dev/null
    qemu-img snapshot -c first foreign.qcow2
    expect 0 blkproof fuzz show foreign.qcow2
    for part in header l1 'l2\[0\]' refcount_table 'refcount_block\[0\]' 'snapshot\[0\]' 'snapshot\[0\].extra' 'extension\[0\]'; do
        matches "$output" "  $part( |$|"$'\n'")"
    done
    matches "$output" 'cluster_bits +0xc '
    expect 0 blkproof fuzz show --json foreign.qcow2
    matches "$output" '"path": "l1"'
}

@test "show bears files that are no images" {
    : >empty
    printf 'QFI\xfb\0\0\0\3' >short
    printf 'QFI\xfb\0\0\0\3%0600d' 0 >digits
    for f in empty short digits /etc/hostname; do
        expect 0 blkproof fuzz show "$f"
    done
    expect 1 blkproof fuzz show .
    contains "$output" "not a plain file"
    expect 1 blkproof fuzz show nothing.qcow2
    printf '{"blkproof-fuzz": 1}' >bad.json
    expect 1 blkproof fuzz show bad.json
    contains "$output" "not the record of an image"
}

@test "a record of another day is told apart, and one with the bytes in it stands for itself" {
    gen --seed=5 --out=thin
    gen --seed=5 --out=whole --whole
    sed -i 's/"seed":"5"/"seed":"6"/' thin/00001.json whole/00001.json # as if the generator had changed
    expect 1 blkproof fuzz show thin/00001.json
    contains "$output" "another image"
    expect 0 blkproof fuzz show whole/00001.json
    contains "$output" "header"
}

@test "a recipe is in every image when it is asked for" {
    expect 0 blkproof fuzz gen --format=qcow2 --recipe=help
    contains "$out" CVE-2014-0144-l1
    gen --count=5 --recipe=CVE-2014-0144-l1 --out=a
    equal "$(grep -l '"recipe":"CVE-2014-0144-l1"' a/*.json | wc -l)" 5
    expect 1 blkproof fuzz gen --format=qcow2 --recipe=CVE-1 --out=a
    contains "$output" "no recipe 'CVE-1'"
}

@test "names inside images lead to the decoy" {
    gen --recipe=CVE-2015-5163-backing --decoy=/nowhere/decoy --out=a --no-records
    expect 0 grep -c /nowhere/decoy a/00001.qcow2
}

@test "--describe tells what is where" {
    expect 0 blkproof fuzz gen --format=qcow2 --seed=9 --describe --dry-run
    contains "$output" "00001.qcow2: qcow2, seed 9"
    contains "$output" "  header"
    [ ! -e 00001.qcow2 ]
}

@test "QEMU's configuration is understood" {
    gen --seed=4 --out=a --config='[]' --config=luks=0
    expect 0 grep -c '"mutations":\[\]' a/00001.json
    gen --count=10 --seed=4 --out=b --config='[["header", "refcount_order"], ["l1_table"]]' --config=v2=0
    equal "$(grep -h '"path"' b/*.json | grep -vE '"path":"(header.refcount_order|l1.entry)' || true)" ""
}

@test "wrong usage is one sentence and exit status 2" {
    for words in "" "--format=qcow9" "--format=qcow2 --count=0" "--format=qcow2 --count=x" "--format=qcow2 --bias=0" \
        "--format=qcow2 --bias=200%" "--format=qcow2 --config=[" "--format=qcow2 --limit=1M" "--format=qcow2 extra" \
        "--format=qcow2 --jobs=0" "--format=qcow2 --recipes=101" "--format=qcow2 --nothing"; do
        # shellcheck disable=SC2086 # words are options
        expect 2 blkproof fuzz gen $words
        matches "$err" '^(blkproof|gen): '
    done
    expect 2 blkproof fuzz show
    expect 2 blkproof fuzz explode
    contains "$err" "unknown command 'explode'"
    expect 2 blkproof fuzz
}

@test "a folder that cannot be written to is an error" {
    : >file
    expect 1 blkproof fuzz gen --format=qcow2 --out=file
    expect 1 blkproof fuzz gen --format=qcow2 --out=no/such/folder
    contains "$err" "no/such/folder"
}

@test "the options of gen and show are in the manual page" {
    for command in gen show; do
        blkproof fuzz "$command" --help | grep -oE -- '--[a-z][a-z-]+' | sort -u >options
        while read -r option; do
            sed 's/\\//g' "$TOP/docs/blkproof-fuzz.1.scd" | grep -qF -- "*$option*" || fail "$option of $command is missing"
        done < <(grep -vx -e --help -e --format options)
    done
}
