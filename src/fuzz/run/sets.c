/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Built-in sets. What writes comes with {off} and {len}, random multiples of 512 within the image as it was
 * laid out. A read of everything is a comparison of the image with itself: it needs no room, however large
 * the image says it is.
 */
#include "fuzz/run/sets.h"

#include "base/util.h"

const struct run_set run_sets[] = {
    {"qemu", "ro,open,closed: qemu-img info -f {fmt} {img}\n"
             "ro,check: qemu-img check -f {fmt} {img}\n"
             "ro: qemu-img map -f {fmt} --output=json {img}\n"
             "ro: qemu-img snapshot -l {img}\n"
             "ro: qemu-io -r -f {fmt} -c 'read {off} {len}' {img}\n"
             "ro: qemu-io -r -f {fmt} -c 'aio_read {off} {len}' {img}\n"
             "rw: qemu-io -f {fmt} -c 'write {off} {len}' {img}\n"
             "rw: qemu-io -f {fmt} -c 'aio_write {off} {len}' {img}\n"
             "rw: qemu-io -f {fmt} -c flush {img}\n"
             "rw: qemu-io -f {fmt} -c 'discard {off} {len}' {img}\n"
             "rw: qemu-io -f {fmt} -c 'truncate {off}' {img}\n"
             "ro,read: qemu-img compare -f {fmt} -F {fmt} {img} {img}\n"
             "ro,bytes: qemu-img convert -f {fmt} -O raw {img} {out}\n"
             "ro: qemu-img convert -f {fmt} -O qcow2 {img} {out}\n"
             "rw: qemu-img snapshot -c new {img}\n"
             "rw,repair,rewrites: qemu-img check -r all -f {fmt} {img}\n"},
    {"qemu-original", "qemu-img check -f {fmt} {img}\n"
                      "open: qemu-img info -f {fmt} {img}\n"
                      "qemu-io -c 'read {off} {len}' {img}\n"
                      "qemu-io -c 'write {off} {len}' {img}\n"
                      "qemu-io -c 'aio_read {off} {len}' {img}\n"
                      "qemu-io -c 'aio_write {off} {len}' {img}\n"
                      "qemu-io -c flush {img}\n"
                      "qemu-io -c 'discard {off} {len}' {img}\n"
                      "qemu-io -c 'truncate {off}' {img}\n"
                      "qemu-img convert -f {fmt} -O raw {img} {out}\n"
                      "qemu-img convert -f {fmt} -O vmdk {img} {out}\n"
                      "qemu-img convert -f {fmt} -O vdi {img} {out}\n"
                      "qemu-img convert -f {fmt} -O qcow2 {img} {out}\n"
                      "qemu-img convert -f {fmt} -O file {img} {out}\n"
                      "qemu-img convert -f {fmt} -O qed {img} {out}\n"
                      "qemu-img convert -f {fmt} -O vpc {img} {out}\n"},
    {"blkproof", "ro,open,closed: blkproof img info -f {fmt} {img}\n"
                 "ro,check: blkproof img check -f {fmt} {img}\n"
                 "ro: blkproof img map -f {fmt} --output=json {img}\n"
                 "ro: blkproof img snapshot -l {img}\n"
                 "ro,closed: blkproof img dump -f {fmt} {img}\n"
                 "ro: blkproof io -r -f {fmt} -c 'read {off} {len}' {img}\n"
                 "rw: blkproof io -f {fmt} -c 'write {off} {len}' {img}\n"
                 "rw: blkproof io -f {fmt} -c 'aio_write {off} {len}' {img}\n"
                 "rw: blkproof io -f {fmt} -c flush {img}\n"
                 "rw: blkproof io -f {fmt} -c 'discard {off} {len}' {img}\n"
                 "rw: blkproof io -f {fmt} -c 'truncate {off}' {img}\n"
                 "ro,read: blkproof img compare -f {fmt} -F {fmt} {img} {img}\n"
                 "ro,bytes: blkproof img convert -f {fmt} -O raw {img} {out}\n"
                 "rw: blkproof img snapshot -c new {img}\n"
                 "rw,repair: blkproof img check -r all -f {fmt} {img}\n"},
    {"differential",
     "ro,open,bytes,@qemu: qemu-img convert -f {fmt} -O raw {img} {out}\n"
     "ro,open,bytes,@blkproof: blkproof --trust-image-names img convert -f {fmt} -O raw {img} {out}\n"},
    {"7z", "ro,open,closed: 7z l -t{fmt} {img}\n"
           "ro,closed: 7z t -t{fmt} {img}\n"
           "ro,closed,bytes,stdout: 7z x -so -t{fmt} {img}\n"},
    {"libyal-qcow", "ro,open,closed: qcowinfo {img}\n"},
    {"libyal-vmdk", "ro,open,closed: vmdkinfo {img}\n"},
    {"libyal-vhdi", "ro,open,closed: vhdiinfo {img}\n"},
};
const size_t run_nsets = ARRAY_SIZE(run_sets);
