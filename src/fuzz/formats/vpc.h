/* SPDX-License-Identifier: BSD-2-Clause */
/* The structures of VHD; see vpc_tables.c. */
#ifndef FUZZ_FORMATS_VPC_H
#define FUZZ_FORMATS_VPC_H

#include "fuzz/formats/fields.h"

#define VPC_VERSION 0x00010000u

extern const struct layout vpc_footer_layout, vpc_header_layout, vpc_locator_layout, vpc_bat_layout;

#endif
