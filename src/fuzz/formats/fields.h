/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rows of the field tables of formats that have no driver here. A row begins with name, kind, place and
 * width; what follows are members of struct field by name. These macros add the byte order.
 */
#ifndef FUZZ_FORMATS_FIELDS_H
#define FUZZ_FORMATS_FIELDS_H

#include "base/field.h"

#define LE(field_name, field_kind, at, bytes_wide, ...)                                                      \
    {                                                                                                        \
        field_name, field_kind, at, bytes_wide, .order = FIELD_LE, ##__VA_ARGS__                             \
    }
#define BE(field_name, field_kind, at, bytes_wide, ...)                                                      \
    {                                                                                                        \
        field_name, field_kind, at, bytes_wide, .order = FIELD_BE, ##__VA_ARGS__                             \
    }

#endif
