/* SPDX-License-Identifier: BSD-2-Clause */
/* What commands read and print: numbers, pattern bytes, hex dumps, statistics. */
#include <ctype.h>

#include "base/size.h"
#include "tools/io/io.h"

int io_number(const char *text, uint64_t *ret_value)
{
    bool plus = text[0] == '+' && isdigit((unsigned char)text[1]);
    int r = size_parse(plus ? text + 1 : text, ret_value);

    if (r == -ERANGE) {
        printf("Parsing error: argument too large -- %s\n", text);
    } else if (r < 0) {
        printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", text);
    }
    return r;
}

int io_pattern(const char *text, uint8_t *ret_byte)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 0);

    if (end == text || *end != '\0' || errno != 0 || v < 0 || v > 255) {
        printf("%s is not a valid pattern byte\n", text);
        return -EINVAL;
    }
    *ret_byte = (uint8_t)v;
    return 0;
}

void io_dump(const void *buf, uint64_t offset, uint64_t bytes)
{
    const uint8_t *p = buf;

    for (uint64_t i = 0; i < bytes; i += 16) {
        uint64_t n = MIN(bytes - i, UINT64_C(16));
        printf("%08llx:  ", (unsigned long long)(offset + i));
        for (uint64_t j = 0; j < n; j++) {
            printf("%02x ", p[i + j]);
        }
        putchar(' ');
        for (uint64_t j = 0; j < n; j++) {
            /* Letters and digits of ASCII, whatever the locale. */
            uint8_t c = p[i + j];
            putchar(c < 128 && isalnum(c) ? c : '.');
        }
        putchar('\n');
    }
}

/* As size_text for a rate, which may have a fraction of a byte: "2.500 MiB", "0.411067 bytes". */
static void print_rate(double bytes, char buf[SIZE_TEXT_MAX])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;

    for (; unit < ARRAY_SIZE(units) - 1 && bytes >= 1024; unit++) {
        bytes /= 1024;
    }
    char number[32];
    snprintf(number, sizeof(number), unit == 0 ? "%f" : "%.3f", bytes);
    char *point = strchr(number, '.');
    if (point != NULL && strspn(point + 1, "0") == strlen(point + 1)) {
        *point = '\0';
    }
    snprintf(buf, SIZE_TEXT_MAX, "%s %s", number, units[unit]);
}

#define TIME_TEXT_MAX 32

/* "H:MM:SS.ss", or "SS.ss sec" where that is enough for a person. */
static void print_time(double seconds, bool machine, char buf[TIME_TEXT_MAX])
{
    unsigned hours = (unsigned)(seconds / 3600);
    unsigned minutes = (unsigned)(seconds / 60) % 60;
    double rest = seconds - hours * 3600.0 - minutes * 60.0;

    if (machine || seconds >= 1) {
        snprintf(buf, TIME_TEXT_MAX, "%u:%02u:%05.2f", hours, minutes, rest);
    } else {
        snprintf(buf, TIME_TEXT_MAX, "%05.2f sec", rest);
    }
}

void io_print_report(const struct io_report *r)
{
    double seconds = (double)MAX(r->ns, UINT64_C(1)) / (double)NS_PER_SEC; /* virtual time may stand still */
    double rate = (double)r->done / seconds;
    double ops_rate = (double)r->ops / seconds;
    char time_text[TIME_TEXT_MAX];

    print_time(seconds, r->machine, time_text);
    if (r->machine) {
        printf("%llu,%u,%s,%.3f,%.3f\n", (unsigned long long)r->done, r->ops, time_text, rate, ops_rate);
        return;
    }
    char size[SIZE_TEXT_MAX], rate_text[SIZE_TEXT_MAX];
    print_rate(rate, rate_text);
    printf("%s %llu/%llu bytes at offset %llu\n", r->verb, (unsigned long long)r->done,
           (unsigned long long)r->asked, (unsigned long long)r->offset);
    printf("%s, %u ops; %s (%s/sec and %.4f ops/sec)\n", size_text(r->done, size), r->ops, time_text,
           rate_text, ops_rate);
}
