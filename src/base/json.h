/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON glue over jansson: bounded parsing, dotted names, cleanup. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>

#include "base/err.h"

#define JSON_TEXT_MAX  (1 * MiB) /* of a json:{...} name: far beyond any real one */
#define JSON_DEPTH_MAX 128       /* nesting; jansson alone would go to 2048 */

static inline void cleanup_json(json_t **j)
{
    json_decref(*j);
}
#define AUTO_JSON CLEANUP(cleanup_json)

/* Parse one JSON object; as in QEMU, strings may stand in single quotes. -EINVAL, with the place of the error
 * in the sentence. */
int json_parse_object(const char *given, json_t **ret_object, struct err *err);

/* "a=1,b.c=2,b.d=x" to {"a":"1","b.c":"2","b.d":"x"}: values are strings, ",," is a comma.
 * @implied: key of a first element without "=" (NULL: an error). */
int json_from_keyvals(const char *text, const char *implied, json_t **ret_object, struct err *err);

/* {"b.c":2,"b":{"d":1}} to {"b":{"c":2,"d":1}}; objects whose keys are 0..n-1 become arrays.
 * -EINVAL when a key is both a value and a parent. */
int json_nest(json_t *object, json_t **ret_nested, struct err *err);

/* Compact text, malloc'ed, keys in insertion order. */
char *json_text(const json_t *j);

#endif
