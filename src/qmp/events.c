/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of events; see schema.h. */
#include "qmp/schema.h"

#define MEMBERS static const struct qmp_member
#define LIMIT   static const char *const
#define OPTIONAL(n, t, ...)                                                                                  \
    {                                                                                                        \
        n, t, .optional = true, __VA_ARGS__                                                                  \
    }
#define SUPPRESSED                                                                                           \
    OPTIONAL("suppressed", &qmp_int, .help = "how many more of its kind there were within the last second")
#define WHERE                                                                                                \
    {"node-name", &qmp_str},                                                                                 \
    {                                                                                                        \
        "device", &qmp_str                                                                                   \
    }

LIMIT by_rule[] = {"node-name", "rule", NULL};
LIMIT by_node[] = {"node-name", NULL};
LIMIT by_class[] = {"node-name", "class", NULL}; /* what was injected must not drown what was not */

#define RULE_AND_REQUEST                                                                                     \
    WHERE, OPTIONAL("rule", &qmp_str), OPTIONAL("tag", &qmp_str), OPTIONAL("action", &qmp_str),              \
        OPTIONAL("matched", &qmp_int), OPTIONAL("fired", &qmp_int),                                          \
        OPTIONAL("operation", &qmp_int, .help = "number of the request"), OPTIONAL("op", &qmp_str),          \
        OPTIONAL("offset", &qmp_int), OPTIONAL("bytes", &qmp_int),                                           \
        OPTIONAL("errno", &qmp_any, .help = "name, or number"), SUPPRESSED

MEMBERS injected[] = {RULE_AND_REQUEST, OPTIONAL("delay-ns", &qmp_int), OPTIONAL("dry-run", &qmp_bool), {0}};
MEMBERS exhausted[] = {
    RULE_AND_REQUEST, OPTIONAL("deadman", &qmp_bool, .help = "by the dead-man timer"), {0}};
MEMBERS state_changed[] = {RULE_AND_REQUEST, {"old-state", &qmp_int}, {"new-state", &qmp_int}, {0}};
MEMBERS hang_begin[] = {RULE_AND_REQUEST, {0}};
MEMBERS hang_end[] = {RULE_AND_REQUEST,
                      {"outcome", &qmp_str},
                      {"held-ns", &qmp_int},
                      OPTIONAL("deadman", &qmp_bool, .help = "by the dead-man timer"),
                      {0}};
MEMBERS mismatch[] = {
    WHERE,
    {"mismatch", &qmp_str, .help = "contents or return-value"},
    {"class", &qmp_str,
     .help = "corruption, injected (a fault rule explains it) or legal (after a power cut)"},
    {"node", &qmp_str},
    {"request", &qmp_str},
    {"operation", &qmp_int},
    {"offset", &qmp_int},
    {"bytes", &qmp_int},
    {"on-mismatch", &qmp_str},
    OPTIONAL("history", &qmp_any, .help = "the last operations there"),
    OPTIONAL("what", &qmp_str, .help = "injected or legal: what was done"),
    OPTIONAL("by-node", &qmp_str, .help = "and by which node"),
    OPTIONAL("rule", &qmp_str),
    OPTIONAL("by-operation", &qmp_int, .help = "to which request, or before which the power was cut"),
    OPTIONAL("sectors", &qmp_int),
    OPTIONAL("first-difference", &qmp_int),
    OPTIONAL("sector", &qmp_int),
    OPTIONAL("differing-bytes", &qmp_int),
    OPTIONAL("run-count", &qmp_int),
    OPTIONAL("runs", &qmp_any),
    OPTIONAL("dump-offset", &qmp_int),
    OPTIONAL("expected", &qmp_str),
    OPTIONAL("actual", &qmp_str),
    OPTIONAL("diagnosis", &qmp_str, .help = "the likeliest cause"),
    OPTIONAL("causes", &qmp_any, .help = "all of them, in words"),
    OPTIONAL("second-read", &qmp_str),
    OPTIONAL("test", &qmp_int),
    OPTIONAL("raw", &qmp_int),
    SUPPRESSED,
    {0}};
MEMBERS power_cut[] = {WHERE,
                       {"cut", &qmp_int, .help = "its number"},
                       {"operation", &qmp_int, .help = "the number that the next request would have had"},
                       {"legal-bytes", &qmp_int, .help = "lost, as an honest disk may"},
                       {"illegal-bytes", &qmp_int, .help = "lost, and it must not"},
                       {0}};
MEMBERS power_on[] = {WHERE, {"cut", &qmp_int}, {"operation", &qmp_int}, {0}};
MEMBERS client[] = {{"type", &qmp_str, .help = "nbd"},
                    {"client", &qmp_int, .help = "number of the client"},
                    {"export", &qmp_str},
                    {"address", &qmp_str, .help = "to which it came"},
                    {0}};
MEMBERS corrupted[] = {WHERE,
                       {"msg", &qmp_str},
                       {"fatal", &qmp_bool, .help = "the image takes no more writes"},
                       OPTIONAL("offset", &qmp_int, .help = "of the write that was prevented"),
                       OPTIONAL("size", &qmp_int),
                       {0}};
MEMBERS shutdown_members[] = {{"guest", &qmp_bool, .help = "false"},
                              {"reason", &qmp_str, .help = "host-qmp-quit, host-signal, or host-error"},
                              {0}};
MEMBERS deleted[] = {{"id", &qmp_str}, {0}};
MEMBERS lost[] = {{"count", &qmp_int}, {0}};

const struct qmp_event qmp_events[] = {
    {"FAULT_INJECTED", injected, by_rule, "a rule has acted on a request"},
    {"FAULT_EXHAUSTED", exhausted, by_rule, "a rule's budget is used up"},
    {"STATE_CHANGED", state_changed, by_node, "the state of a fault node is another"},
    {"HANG_BEGIN", hang_begin, by_rule, "a request is held back"},
    {"HANG_END", hang_end, by_rule, "and is let go"},
    {"VERIFY_MISMATCH", mismatch, by_class,
     "a blkverify node has found a mismatch: what its report file gets, with the diagnosis, or who did it"},
    {"POWER_CUT", power_cut, NULL, "the power of a disk was cut, and what that does is done"},
    {"POWER_ON", power_on, NULL, "it has its power again"},
    {"CLIENT_CONNECT", client, NULL, "an NBD client has chosen an export"},
    {"CLIENT_DISCONNECT", client, NULL, "and has left"},
    {"BLOCK_IMAGE_CORRUPTED", corrupted, NULL, "an image was found damaged"},
    {"BLOCK_EXPORT_DELETED", deleted, NULL, "an export is gone, and nothing of it is in use any more"},
    {"STOP", NULL, NULL, "all I/O is held up"},
    {"RESUME", NULL, NULL, "it goes on"},
    {"SHUTDOWN", shutdown_members, NULL, "the server ends"},
    {"EVENTS_LOST", lost, NULL, "events that this client has missed, because it did not read"},
    {0},
};
