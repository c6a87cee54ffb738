/* SPDX-License-Identifier: BSD-2-Clause */
/* The formats that images are generated of: a new one is a line here. */
#include "fuzz/formats.h"

const struct fuzz_format *const fuzz_formats[] = {
    /* clang-format off */
    &fuzz_qcow2, &fuzz_raw,
    &fuzz_qed, &fuzz_qcow1, &fuzz_vdi, &fuzz_vpc, &fuzz_parallels, &fuzz_vmdk, &fuzz_vhdx, &fuzz_cow, &fuzz_gpt, &fuzz_luks,
    &fuzz_bochs, &fuzz_cloop, &fuzz_dmg,
    /* clang-format on */
    NULL,
};

const struct fuzz_format *fuzz_format_find(const char *name)
{
    for (int i = 0; fuzz_formats[i]; i++) {
        if (strcmp(fuzz_formats[i]->name, name) == 0) {
            return fuzz_formats[i];
        }
    }
    return NULL;
}
