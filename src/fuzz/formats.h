/* SPDX-License-Identifier: BSD-2-Clause */
/* The formats there are; formats.c lists them. */
#ifndef FUZZ_FORMATS_H
#define FUZZ_FORMATS_H

#include "fuzz/format.h"

extern const struct fuzz_format fuzz_qcow2, fuzz_raw;
extern const struct fuzz_format fuzz_qcow1, fuzz_qed, fuzz_vdi, fuzz_vpc, fuzz_parallels, fuzz_vmdk,
    fuzz_vhdx, fuzz_cow, fuzz_gpt, fuzz_luks, fuzz_bochs, fuzz_cloop, fuzz_dmg;

#endif
