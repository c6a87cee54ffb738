# SPDX-License-Identifier: BSD-2-Clause
# The main job stays clean under nbdcopy, in and out, on one connection and on several.
load ../lib/common
load ../lib/main_job

copy_in_and_out() { # CONNECTIONS
    need nbdcopy
    main_job_start 128M
    pattern_file in 100000000 "$1"
    truncate -s 128M in
    expect 0 nbdcopy --connections="$1" --requests=32 in "$(uri proof)"
    expect 0 nbdcopy --connections="$1" --requests=32 "$(uri proof)" out
    expect 0 cmp in out
    main_job_clean
}

@test "nbdcopy in and out, one connection" {
    copy_in_and_out 1
}

@test "nbdcopy in and out, four connections" {
    copy_in_and_out 4
}
