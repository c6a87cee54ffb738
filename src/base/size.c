/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers with units; see size.h. */
#include "base/size.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

static int suffix_shift(char c)
{
    static const char suffixes[] = "bkmgtpe";
    const char *s = c ? strchr(suffixes, tolower((unsigned char)c)) : NULL;

    return s ? (int)(s - suffixes) * 10 : -1;
}

static int parse_hex(const char *text, uint64_t *ret)
{
    char *end;

    if (!isxdigit((unsigned char)text[2])) {
        return -EINVAL;
    }
    errno = 0;
    unsigned long long v = strtoull(text, &end, 16);
    if (*end) {
        return -EINVAL;
    }
    if (errno == ERANGE || v > INT64_MAX) {
        return -ERANGE;
    }
    *ret = v;
    return 0;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
    uint64_t whole = 0;
    bool too_large = false;
    const char *p = text;

    while (isspace((unsigned char)*p)) {
        p++;
    }
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        return parse_hex(p, ret_bytes);
    }
    if (!isdigit((unsigned char)*p)) {
        return -EINVAL;
    }
    for (; isdigit((unsigned char)*p); p++) {
        too_large |= __builtin_mul_overflow(whole, 10, &whole) ||
                     __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole);
    }
    double fraction = 0;
    bool has_fraction = *p == '.';
    if (has_fraction) {
        double unit = 0.1;
        for (p++; isdigit((unsigned char)*p); p++, unit /= 10) {
            fraction += unit * (*p - '0');
        }
    }
    int shift = 0;
    if (*p) {
        shift = suffix_shift(*p++);
        if (shift < 0 || *p) {
            return -EINVAL;
        }
    }
    if (has_fraction && shift == 0 && fraction > 0) {
        return -EINVAL; /* a fraction of a byte */
    }
    if (too_large || whole > (uint64_t)INT64_MAX >> shift) {
        return -ERANGE;
    }
    uint64_t bytes = (whole << shift) + (uint64_t)(fraction * (double)(UINT64_C(1) << shift) + 0.5);
    if (bytes > INT64_MAX) {
        return -ERANGE;
    }
    *ret_bytes = bytes;
    return 0;
}

static const char *const unit_names[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

const char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX])
{
    unsigned unit = 0;
    while (unit < 6 && bytes >> (10 * (unit + 1))) {
        unit++;
    }
    if (unit == 0) {
        snprintf(buf, SIZE_TEXT_MAX, "%llu bytes", (unsigned long long)bytes);
        return buf;
    }
    char number[32];
    snprintf(number, sizeof(number), "%.3f", (double)bytes / (double)(UINT64_C(1) << (10 * unit)));
    size_t len = strlen(number);
    if (strcmp(number + len - 4, ".000") == 0) {
        number[len - 4] = '\0';
    }
    snprintf(buf, SIZE_TEXT_MAX, "%s %s", number, unit_names[unit]);
    return buf;
}

const char *size_text_short(uint64_t bytes, char buf[SIZE_TEXT_MAX])
{
    /* The unit grows at 1000, not 1024, so that three digits are enough. */
    double v = (double)bytes;
    unsigned unit = 0;
    while (unit < 6 && v >= 1000) {
        v /= 1024;
        unit++;
    }
    snprintf(buf, SIZE_TEXT_MAX, "%0.3g %s", v, unit == 0 ? "B" : unit_names[unit]);
    return buf;
}

int duration_parse(const char *text, uint64_t *ret_ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1e9}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}};
    char *end;

    if (!isdigit((unsigned char)*text)) {
        return -EINVAL;
    }
    double v = strtod(text, &end);
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (strcmp(end, units[i].name) == 0) {
            double ns = v * units[i].ns;
            if (!(ns < (double)INT64_MAX)) {
                return -ERANGE;
            }
            *ret_ns = (uint64_t)(ns + 0.5);
            return 0;
        }
    }
    return -EINVAL;
}
