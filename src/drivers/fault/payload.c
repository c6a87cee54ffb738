/* SPDX-License-Identifier: BSD-2-Clause */
/* What a write carries: bytes at a place in the request, or at every so many. */
#include "base/iov.h"
#include "drivers/fault/member.h"

#define DATA_BYTES_MAX 512 /* of a pattern */

const char *const fault_data_is[] = {"equals", "differs", NULL};

struct fault_data {
    size_t len;
    uint8_t bytes[DATA_BYTES_MAX];
};

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static int from_hex(const char *hex, struct fault_data *d)
{
    for (; *hex; hex += 2) {
        int high = hex_digit(hex[0]), low = high < 0 ? -1 : hex_digit(hex[1]);
        if (low < 0 || d->len == DATA_BYTES_MAX) {
            return -EINVAL;
        }
        d->bytes[d->len++] = (uint8_t)(high << 4 | low);
    }
    return d->len > 0 ? 0 : -EINVAL;
}

FAULT_PARSE(fault_parse_data)
{
    const char *text = json_string_value(v);
    size_t len = text ? strlen(text) : 0;
    int r = len > 0 ? 0 : -EINVAL;

    rule->data = calloc(1, sizeof(*rule->data));
    if (!rule->data) {
        return err_set(err, -ENOMEM, "no memory for a rule");
    }
    if (r == 0 && strncmp(text, "0x", 2) == 0) {
        r = from_hex(text + 2, rule->data);
    } else if (r == 0 && len <= DATA_BYTES_MAX) {
        memcpy(rule->data->bytes, text, len);
        rule->data->len = len;
    } else {
        r = -EINVAL;
    }
    return r == 0
               ? 0
               : err_set(err, r, "payload: expected a text, or 0x and pairs of hex digits, of up to %d bytes",
                         DATA_BYTES_MAX);
}

static bool is_at(const struct fault_data *d, const struct req *r, uint64_t at)
{
    uint8_t found[DATA_BYTES_MAX];

    iov_to_buf(r->iov, r->niov, at, found, d->len);
    return memcmp(found, d->bytes, d->len) == 0;
}

/* Requests that carry nothing, or end before the place, have no bytes to speak of: they never match. */
FAULT_ASK(fault_data_holds)
{
    const struct fault_data *d = rule->data;
    uint64_t at = rule->data_at;

    if (r->op != REQ_WRITE || r->bytes < d->len || at > r->bytes - d->len) {
        return false;
    }
    bool found = is_at(d, r, at);
    while (!found && rule->data_every > 0 && rule->data_every <= r->bytes - d->len - at) {
        at += rule->data_every;
        found = is_at(d, r, at);
    }
    return found == (rule->data_is == 0);
}
