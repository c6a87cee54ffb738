/* SPDX-License-Identifier: BSD-2-Clause */
/* The formats there are; formats.c lists them. */
#ifndef FUZZ_FORMATS_H
#define FUZZ_FORMATS_H

#include "fuzz/format.h"

extern const struct fuzz_format fuzz_qcow2;

#endif
