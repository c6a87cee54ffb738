/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of LUKS; see luks_tables.c. */
#ifndef FUZZ_FORMATS_LUKS_H
#define FUZZ_FORMATS_LUKS_H

#include "fuzz/formats/fields.h"

#define LUKS1_SLOTS    8u
#define LUKS1_STRIPES  4000u
#define LUKS1_ENABLED  0x00ac71f3u
#define LUKS1_DISABLED 0x0000deadu

extern const struct layout luks1_header_layout, luks1_slot_layout, luks2_header_layout;

#endif
