/* SPDX-License-Identifier: BSD-2-Clause */
/* File names as users write them: paths, driver prefixes, json:{...}. Nothing is opened. */
/* fuzz-smoke: 50000 runs */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "block/driver.h"
#include "block/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *name = strndup((const char *)data, size);
    AUTO_JSON json_t *options = NULL;
    struct err err = {0};

    if (name && name_to_options(name, &options, &err) == 0) {
        free(json_text(options));
    }
    free(name);
    return 0;
}
