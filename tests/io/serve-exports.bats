# SPDX-License-Identifier: BSD-2-Clause
# serve: several disks under their names, on several addresses.
load ../lib/common

setup() {
    need nbdinfo nbdsh
    cd "$BATS_TEST_TMPDIR"
    truncate -s 1M a.img
    truncate -s 2M b.img
    truncate -s 3M c=c.img
}

sizes() { # URI...
    local u
    for u; do nbdinfo --size "$u" 2>&1 || true; done
}

@test "exports have their names, and the first is the default" {
    serve s -f raw one=a.img two=b.img --export 'th/ree é' ./c=c.img
    equal "$(sizes "$(uri s one)" "$(uri s two)" "$(uri s 'th/ree%20%C3%A9')" "$(uri s)")" "1048576
2097152
3145728
1048576"
    expect 0 nbdinfo --list --json "$(uri s)"
    equal "$(jq -r '.exports[]["export-name"]' <<<"$out")" "one
two
th/ree é"
    expect 1 nbdinfo "$(uri s three)"
    contains "$err" "No such file or directory for export: three"
}

@test "one image needs no name" {
    serve s -f raw a.img
    equal "$(sizes "$(uri s)")" 1048576
    expect 1 nbdinfo "$(uri s name)"
}

@test "every address serves every export" {
    bg s blkproof serve --nbd "unix:$PWD/s1" --nbd "unix:$PWD/s2" --nbd tcp:127.0.0.1:0 --json -f raw one=a.img two=b.img
    wait_for_line s.out ready
    mapfile -t uris < <(jq -r '.exports[].uri[]' s.out)
    equal "${#uris[@]}" 6
    equal "$(sizes "${uris[@]}" | xargs)" "1048576 1048576 1048576 2097152 2097152 2097152"
    equal "$(jq -r '.pid' s.out)" "$(pid s)"
}

@test "an empty host takes IPv4 and IPv6" {
    bg s blkproof serve --nbd tcp::0 --json -f raw a.img
    wait_for_line s.out ready
    uri=$(jq -r '.exports[0].uri[0]' s.out)
    matches "$uri" '^nbd://localhost:[0-9]+/$'
    equal "$(sizes "${uri/localhost/127.0.0.1}")" 1048576
    [ ! -e /proc/net/if_inet6 ] || ! grep -q ' lo$' /proc/net/if_inet6 || equal "$(sizes "${uri/localhost/[::1]}")" 1048576
}

@test "what one client writes the other sees, on all addresses" {
    bg s blkproof serve --nbd "unix:$PWD/s1" --nbd "unix:$PWD/s2" -f raw a.img
    wait_for_line s.out s2
    nbdsh -u "nbd+unix:///?socket=$PWD/s1" -c 'h.pwrite(b"x" * 4096, 8192)'
    equal "$(nbdsh -u "nbd+unix:///?socket=$PWD/s2" -c 'print(h.pread(4097, 8192) == b"x" * 4096 + b"\0")')" True
}

@test "a format may be given for all or for each" {
    qemu-img create -q -f qcow2 q.qcow2 5M
    serve s raw=a.img q=q.qcow2 -f raw
    equal "$(sizes "$(uri s raw)" "$(uri s q)")" "1048576
$(stat -c %s q.qcow2)"
    stop s
}

@test "images may be given as options" {
    serve s --image-opts driver=raw,offset=4096,size=8192,file.driver=file,file.filename=b.img
    equal "$(sizes "$(uri s)")" 8192
}

@test "a description is told to those who ask" {
    serve s --description 'the boot disk' -f raw a.img
    expect 0 nbdinfo --list "$(uri s)"
    contains "$out" "description: the boot disk"
}
