/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of commands, their arguments and results; see schema.h. */
#include "qmp/commands.h"

#define MEMBERS static const struct qmp_member

/* ---- shared ---- */

#define DEVICE                                                                                               \
    {                                                                                                        \
        "device", &qmp_str, .optional = true, .help = "the disk, by the name that --id gave it"              \
    }
#define NODE                                                                                                 \
    {                                                                                                        \
        "node-name", &qmp_str, .optional = true, .help = "the node, by its name"                             \
    }
#define TARGET DEVICE, NODE

MEMBERS target_args[] = {TARGET, {0}};

MEMBERS operation_members[] = {
    {"operation", &qmp_int, .optional = true, .help = "the number of the first operation for which it holds"},
    {0}};
static const struct qmp_type operation = {"Operation", QMP_OBJECT, .members = operation_members};

/* ---- the monitor ---- */

static const char *const capability_words[] = {"oob", NULL};
static const struct qmp_type capability = {"QMPCapability", QMP_ENUM, .values = capability_words};
MEMBERS capabilities_args[] = {
    {"enable", &capability, .optional = true, .array = true, .help = "what to switch on: oob"}, {0}};

MEMBERS triple_members[] = {{"major", &qmp_int}, {"minor", &qmp_int}, {"micro", &qmp_int}, {0}};
static const struct qmp_type triple = {"VersionTriple", QMP_OBJECT, .members = triple_members};
MEMBERS version_members[] = {{"qemu", &triple, .help = "the version of blkproof; clients of QEMU look here"},
                             {"package", &qmp_str, .help = "the same in words"},
                             {0}};
static const struct qmp_type version = {"VersionInfo", QMP_OBJECT, .members = version_members};

MEMBERS command_info_members[] = {{"name", &qmp_str}, {0}};
static const struct qmp_type command_info = {"CommandInfo", QMP_OBJECT, .members = command_info_members};

static const char *const run_words[] = {"running", "paused", NULL};
static const struct qmp_type run_state = {"RunState", QMP_ENUM, .values = run_words};
MEMBERS status_members[] = {{"running", &qmp_bool, .help = "requests of clients are performed"},
                            {"singlestep", &qmp_bool, .help = "false; clients of QEMU expect it"},
                            {"status", &run_state},
                            {"in-flight", &qmp_int, .help = "requests in the disks now"},
                            {0}};
static const struct qmp_type status = {"StatusInfo", QMP_OBJECT, .members = status_members};

MEMBERS human_args[] = {
    {"command-line", &qmp_str, .help = "qemu-io DISK-OR-NODE \"COMMAND\", as in blkproof-io(1)"},
    {"cpu-index", &qmp_int, .optional = true, .help = "ignored"},
    {0}};

/* ---- nodes ---- */

MEMBERS nodes_args[] = {{"flat", &qmp_bool, .optional = true,
                         .help = "accepted: backing files are nodes of their own in the list"},
                        {0}};
MEMBERS cache_members[] = {{"writeback", &qmp_bool}, {"direct", &qmp_bool}, {"no-flush", &qmp_bool}, {0}};
static const struct qmp_type cache = {"BlockdevCacheInfo", QMP_OBJECT, .members = cache_members};
MEMBERS node_members[] = {
    {"node-name", &qmp_str},
    {"drv", &qmp_str, .help = "driver"},
    {"file", &qmp_str, .help = "file name"},
    {"backing_file", &qmp_str, .optional = true},
    {"backing_file_depth", &qmp_int},
    {"ro", &qmp_bool, .help = "read-only"},
    {"encrypted", &qmp_bool},
    {"detect_zeroes", &qmp_str},
    {"cache", &cache},
    {"image", &qmp_any, .help = "as img info --output=json shows it"},
    {"iops", &qmp_int, .help = "0, as the next six: QEMU's limits, which we do not have"},
    {"iops_rd", &qmp_int},
    {"iops_wr", &qmp_int},
    {"bps", &qmp_int},
    {"bps_rd", &qmp_int},
    {"bps_wr", &qmp_int},
    {"write_threshold", &qmp_int},
    {0}};
static const struct qmp_type node_info = {"BlockDeviceInfo", QMP_OBJECT, .members = node_members};
MEMBERS block_members[] = {{"device", &qmp_str, .help = "name of the disk"},
                           {"locked", &qmp_bool, .help = "false, as removable"},
                           {"removable", &qmp_bool},
                           {"type", &qmp_str},
                           {"inserted", &node_info, .help = "its root node"},
                           {0}};
static const struct qmp_type block_info = {"BlockInfo", QMP_OBJECT, .members = block_members};

MEMBERS del_args[] = {{"node-name", &qmp_str, .help = "of a node that blockdev-add made"}, {0}};
MEMBERS reopen_args[] = {{"options", &qmp_options, .array = true,
                          .help = "of one node each, with node-name: all options it has, changed"},
                         {0}};
MEMBERS resize_args[] = {TARGET, {"size", &qmp_int, .help = "bytes"}, {0}};

/* ---- exports ---- */

static const char *const address_words[] = {"inet", "unix", NULL};
static const struct qmp_type address_kind = {"SocketAddressType", QMP_ENUM, .values = address_words};
MEMBERS address_data_members[] = {
    {"host", &qmp_str, .optional = true, .help = "inet: host name or address"},
    {"port", &qmp_str, .optional = true, .help = "inet: number; 0: any free one"},
    {"path", &qmp_str, .optional = true, .help = "unix: path of the socket"},
    {0}};
static const struct qmp_type address_data = {"SocketAddressData", QMP_OBJECT,
                                             .members = address_data_members};
MEMBERS address_members[] = {{"type", &address_kind}, {"data", &address_data}, {0}};
static const struct qmp_type address = {"SocketAddressLegacy", QMP_OBJECT, .members = address_members};
MEMBERS nbd_start_args[] = {
    {"addr", &address, .help = "where to listen"},
    {"max-connections", &qmp_int, .optional = true, .help = "clients at once; 0: the default"},
    {0}};

static const char *const export_words[] = {"nbd", "fuse", NULL};
static const struct qmp_type export_kind = {"BlockExportType", QMP_ENUM, .values = export_words};
static const char *const other_words[] = {"off", "on", "auto", NULL};
static const struct qmp_type allow_other = {"FuseExportAllowOther", QMP_ENUM, .values = other_words};
MEMBERS export_add_args[] = {
    {"type", &export_kind},
    {"id", &qmp_str, .help = "name for block-export-del"},
    {"node-name", &qmp_str, .help = "what to export"},
    {"writable", &qmp_bool, .optional = true, .help = "clients may write; default false"},
    {"name", &qmp_str, .optional = true, .help = "nbd: what clients ask for; default the node's name"},
    {"description", &qmp_str, .optional = true, .help = "nbd: told to clients"},
    {"mountpoint", &qmp_str, .optional = true,
     .help = "fuse: the regular file to mount it over; must be given"},
    {"growable", &qmp_bool, .optional = true,
     .help = "fuse: writes past the end make it larger; default false"},
    {"allow-other", &allow_other, .optional = true,
     .help = "fuse: other users, too, may open it; auto (default): if the server is root's"},
    {0}};
static const char *const remove_words[] = {"safe", "hard", NULL};
static const struct qmp_type remove_mode = {"BlockExportRemoveMode", QMP_ENUM, .values = remove_words};
MEMBERS export_del_args[] = {{"id", &qmp_str},
                             {"mode", &remove_mode, .optional = true,
                              .help = "safe (default): fail if there are clients; hard: disconnect them"},
                             {0}};
MEMBERS export_members[] = {{"id", &qmp_str},
                            {"type", &export_kind},
                            {"node-name", &qmp_str},
                            {"shutting-down", &qmp_bool},
                            {"name", &qmp_str, .optional = true, .help = "nbd"},
                            {"mountpoint", &qmp_str, .optional = true, .help = "fuse: where it is"},
                            {0}};
static const struct qmp_type export_info = {"BlockExportInfo", QMP_OBJECT, .members = export_members};

/* ---- blkdebug ---- */

static const char *const mode_words[] = {"append", "replace", NULL};
static const struct qmp_type set_mode = {"BlkdebugSetMode", QMP_ENUM, .values = mode_words};
MEMBERS blkdebug_set_args[] = {
    TARGET,
    {"rules", &qmp_any, .optional = true, /* said by hand, in the patch's words */
     .help = "an array of objects: event, type (inject-error or set-state), state, errno, sector, once, "
             "immediately, iotype, new_state"},
    {"mode", &set_mode, .optional = true,
     .help = "append (default; the state becomes 1 again, as the patch did it) or replace all rules"},
    {0}};

/* ---- faults ---- */

static const struct qmp_type rule = {"FaultRule", QMP_RULE}, rules = {"FaultRules", QMP_RULES};

MEMBERS fault_add_args[] = {
    TARGET,
    {"rules", &rules, .help = "one rule, or an array of them: see blkproof-fault(7)"},
    {"before", &qmp_str, .optional = true, .help = "the rule to put them in front of; default: at the end"},
    {"replace", &qmp_switch, .optional = true, .help = "instead of all rules that are there"},
    {0}};
MEMBERS preset_apply_args[] = {
    TARGET,
    {"preset", &qmp_str, .help = "its name"},
    {"params", &qmp_any, .optional = true, .help = "an object: its parameters; default: as the preset says"},
    {"rule", &rule, .optional = true,
     .help = "members for all its rules: ranges, or id, with which their ids begin"},
    {"time-scale", &qmp_any, .optional = true, .help = "factor of all times of its rules"},
    {"before", &qmp_str, .optional = true, .help = "the rule to put them in front of; default: at the end"},
    {"replace", &qmp_switch, .optional = true, .help = "instead of all rules that are there"},
    {0}};
MEMBERS preset_params[] = {{"name", &qmp_str}, {"default", &qmp_any}, {"help", &qmp_str}, {0}};
static const struct qmp_type preset_param = {"FaultPresetParam", QMP_OBJECT, .members = preset_params};
MEMBERS preset_members[] = {
    {"name", &qmp_str},
    {"help", &qmp_str},
    {"source", &qmp_str, .help = "who saw such a disk"},
    {"verified", &qmp_bool, .help = "its numbers were looked up in the source"},
    {"params", &preset_param, .array = true},
    {"rules", &qmp_any, .array = true, .help = "as they are added; $NAME stands for a parameter"},
    {0}};
static const struct qmp_type preset = {"FaultPreset", QMP_OBJECT, .members = preset_members};
MEMBERS fault_remove_args[] = {TARGET,
                               {"id", &qmp_str, .optional = true, .help = "of the rule"},
                               {"tag", &qmp_str, .optional = true, .help = "of the rules"},
                               {"all", &qmp_switch, .optional = true, .help = "every rule"},
                               {0}};
MEMBERS fault_set_args[] = {TARGET,
                            {"id", &qmp_str, .help = "of the rule, whose counters stay"},
                            {"set", &rule, .help = "the members that change; null: the default again"},
                            {0}};

MEMBERS dry_run_args[] = {TARGET, {"enable", &qmp_switch}, {0}};

static const char *const change_words[] = {"add", "replace", "set", "remove", "clear", "state", NULL};
static const struct qmp_type change_kind = {"FaultChangeType", QMP_ENUM, .values = change_words};
MEMBERS change_members[] = {{"type", &change_kind},
                            TARGET,
                            {"rules", &rules, .optional = true, .help = "add, replace"},
                            {"before", &qmp_str, .optional = true, .help = "add"},
                            {"id", &qmp_str, .optional = true, .help = "set, remove"},
                            {"set", &rule, .optional = true, .help = "set"},
                            {"state", &qmp_int, .optional = true, .help = "state"},
                            {0}};
static const struct qmp_type change = {"FaultChange", QMP_OBJECT, .members = change_members};
MEMBERS transaction_args[] = {
    {"actions", &change, .array = true, .help = "all happen at one instant, or none"}, {0}};
MEMBERS changed_members[] = {{"node-name", &qmp_str}, {"operation", &qmp_int}, {0}};
static const struct qmp_type changed = {"FaultChanged", QMP_OBJECT, .members = changed_members};

MEMBERS held_members[] = {{"rule", &qmp_str},
                          {"tag", &qmp_str},
                          {"hold", &qmp_str, .help = "request or reply"},
                          {"operation", &qmp_int},
                          {"op", &qmp_str},
                          {"offset", &qmp_int, .optional = true},
                          {"bytes", &qmp_int, .optional = true},
                          {"held-ns", &qmp_int},
                          {0}};
static const struct qmp_type held = {"FaultHeld", QMP_OBJECT, .members = held_members};
MEMBERS faults_members[] = {
    {"device", &qmp_str},
    {"node-name", &qmp_str},
    {"state", &qmp_int},
    {"dry-run", &qmp_bool},
    {"rules", &qmp_any, .array = true,
     .help = "as given, with matched, fired, last-matched, last-fired, exhausted, armed, held"},
    {"held", &held, .array = true, .help = "requests held back now"},
    {"waiting", &qmp_int, .help = "requests delayed now"},
    {"breakpoints", &qmp_any, .array = true},
    {"next-operation", &qmp_int, .help = "the number that the next request will have"},
    {"size", &qmp_int, .help = "of the node, in bytes"},
    {"same-offsets", &qmp_bool,
     .help = "offsets in rules are those of the disk's clients: no format is above the node"},
    {0}};
static const struct qmp_type faults = {"FaultInfo", QMP_OBJECT, .members = faults_members};

static const char *const outcome_words[] = {"complete", "error", "drop", NULL};
static const struct qmp_type outcome = {"HangOutcome", QMP_ENUM, .values = outcome_words};
MEMBERS release_args[] = {TARGET,
                          {"tag", &qmp_str, .optional = true, .help = "which; default: all"},
                          {"outcome", &outcome, .optional = true,
                           .help = "complete (default: as if never held), error, or drop (never answered)"},
                          {"errno", &qmp_any, .optional = true,
                           .help = "of the outcome error: EIO (default), another name, or a number"},
                          {0}};
MEMBERS released_members[] = {{"released", &qmp_int, .help = "requests"}, {0}};
static const struct qmp_type released = {"HangReleased", QMP_OBJECT, .members = released_members};

MEMBERS state_args[] = {TARGET, {"state", &qmp_int}, {0}};
MEMBERS state_members[] = {{"device", &qmp_str}, {"node-name", &qmp_str}, {"state", &qmp_int}, {0}};
static const struct qmp_type state = {"FaultState", QMP_OBJECT, .members = state_members};

static const char *const counter_words[] = {"fired", "matched", NULL};
static const struct qmp_type counter = {"FaultCounter", QMP_ENUM, .values = counter_words};
MEMBERS wait_args[] = {
    TARGET,
    {"id", &qmp_str, .help = "of the rule"},
    {"counter", &counter, .optional = true, .help = "fired (default) or matched"},
    {"count", &qmp_int, .optional = true, .help = "wait until the counter is at least this; default 1"},
    {"timeout", &qmp_any, .optional = true, .help = "seconds, or a time like 500ms; default 60s"},
    {0}};
MEMBERS waited_members[] = {{"reached", &qmp_bool, .help = "false: the time was over first"},
                            {"matched", &qmp_int},
                            {"fired", &qmp_int},
                            {"last-matched", &qmp_int, .help = "operation number"},
                            {"last-fired", &qmp_int},
                            {0}};
static const struct qmp_type waited = {"FaultWaited", QMP_OBJECT, .members = waited_members};

/* ---- power ---- */

#define DISKS(default_)                                                                                      \
    {"devices", &qmp_str, .optional = true, .array = true, .help = "disks; default: " default_},             \
    {                                                                                                        \
        "node-names", &qmp_str, .optional = true, .array = true, .help = "nodes"                             \
    }
#define LOSSES_MAX                                                                                           \
    {                                                                                                        \
        "losses-max", &qmp_int, .optional = true, .help = "of each disk; default 1000"                       \
    }

static const char *const survivors_words[] = {"none",  "all",         "prefix", "random",
                                              "older", "erase-block", NULL};
static const struct qmp_type survivors = {"PowerSurvivors", QMP_ENUM, .values = survivors_words};
static const char *const torn_words[] = {"none", "512", "4096", "bytes", NULL};
static const struct qmp_type torn = {"PowerTorn", QMP_ENUM, .values = torn_words};
static const char *const fill_words[] = {"old", "zero", "garbage", NULL};
static const struct qmp_type fill = {"PowerFill", QMP_ENUM, .values = fill_words};
MEMBERS power_cut_args[] = {
    DISKS("all that have a write cache"),
    {"survivors", &survivors, .optional = true, .help = "what of the cache survives; default: none"},
    {"torn", &torn, .optional = true, .help = "writes may survive in part, in such units"},
    {"fill", &fill, .optional = true, .help = "what the lost part of a torn write then holds"},
    {"seed", &qmp_int, .optional = true, .help = "of what is left to chance"},
    {"erase-block", &qmp_any, .optional = true, .help = "of the survivors erase-block: its size"},
    {"off", &qmp_any, .optional = true, .help = "time without power; default 0"},
    {"stay-off", &qmp_bool, .optional = true, .help = "no power until power-on"},
    {"mute", &qmp_bool, .optional = true, .help = "clients that connect meanwhile wait, and are not refused"},
    LOSSES_MAX,
    {0}};
MEMBERS power_members[] = {
    {"device", &qmp_str},
    {"node-name", &qmp_str},
    {"size", &qmp_int, .help = "of the cache, as the other bytes"},
    {"dirty-bytes", &qmp_int, .help = "written, and lost if the power went now"},
    {"promised-bytes", &qmp_int, .help = "of these: the disk lied, they were flushed or FUA"},
    {"used-bytes", &qmp_int, .help = "of the cache"},
    {"oldest-ns", &qmp_int, .help = "age of the oldest dirty write"},
    {"power", &qmp_bool, .help = "false: there is none"},
    {"cuts", &qmp_int, .help = "so far"},
    {"report", &qmp_any, .help = "of the last cut: see blkproof-write-cache(7); null: there was none"},
    {0}};
static const struct qmp_type power = {"PowerInfo", QMP_OBJECT, .members = power_members};
MEMBERS power_cut_members[] = {
    {"cut", &qmp_int, .help = "its number"}, {"disks", &power, .array = true}, {0}};
static const struct qmp_type power_cut = {"PowerCut", QMP_OBJECT, .members = power_cut_members};
MEMBERS power_on_args[] = {DISKS("all that have no power"), {0}};
MEMBERS power_on_members[] = {{"disks", &qmp_int, .help = "that have got their power back"}, {0}};
static const struct qmp_type power_on = {"PowerOn", QMP_OBJECT, .members = power_on_members};
MEMBERS query_power_args[] = {DISKS("all that have a write cache"), LOSSES_MAX, {0}};

MEMBERS group_args[] = {
    {"name", &qmp_str, .help = "of the group"},
    {"faults", &qmp_int, .optional = true, .help = "so many may be damaged at the same place; default 0"},
    {"devices", &qmp_str, .array = true,
     .help = "the disks that are copies of each other; none: the group ends"},
    {0}};
MEMBERS group_disk_members[] = {{"node-name", &qmp_str}, {"damaged-bytes", &qmp_int}, {0}};
static const struct qmp_type group_disk = {"FaultGroupDisk", QMP_OBJECT, .members = group_disk_members};
MEMBERS group_members[] = {{"name", &qmp_str},
                           {"faults", &qmp_int},
                           {"refused", &qmp_int, .help = "damages that did not take place"},
                           {"members", &group_disk, .array = true},
                           {0}};
static const struct qmp_type group = {"FaultGroup", QMP_OBJECT, .members = group_members};

/* ---- verification ---- */

MEMBERS verify_members[] = {
    {"device", &qmp_str},
    {"node-name", &qmp_str},
    {"mismatches", &qmp_int, .help = "nothing explains them"},
    {"injected", &qmp_int, .help = "a fault rule explains them: runs of sectors, and results of requests"},
    {"injected-bytes", &qmp_int, .help = "of those runs"},
    {"legal", &qmp_int, .help = "runs of sectors that an honest device may lose in a power cut"},
    {"legal-bytes", &qmp_int, .help = "of those"},
    {"unverified-bytes", &qmp_int, .help = "believed: the history no longer knew what was there before"},
    {"learned-bytes", &qmp_int, .help = "an oracle's: read for the first time, and never written"},
    {"discarded-bytes", &qmp_int, .help = "believed: they were discarded"},
    {"pinned-bytes", &qmp_int, .help = "indeterminate, then fixed by what the device showed"},
    {"indeterminate-ranges", &qmp_int, .help = "now"},
    {"paused", &qmp_bool, .help = "requests are held after a mismatch (on-mismatch=pause)"},
    {"operation", &qmp_int, .optional = true, .help = "paused: which mismatched"},
    {0}};
static const struct qmp_type verify = {"VerifyInfo", QMP_OBJECT, .members = verify_members};
MEMBERS sector_args[] = {TARGET, {"offset", &qmp_int, .help = "in bytes, anywhere in the sector"}, {0}};
MEMBERS sector_members[] = {
    {"offset", &qmp_int, .help = "where the sector begins"},
    {"bytes", &qmp_int},
    {"state", &qmp_str, .help = "unknown, durable, volatile, indeterminate, discarded or pending"},
    {"versions", &qmp_any, .help = "what was written there, the newest first"},
    {"explained", &qmp_any, .optional = true,
     .help = "what it shows was done on purpose: class, what, by-node, rule, by-operation"},
    {0}};
static const struct qmp_type sector = {"VerifySector", QMP_OBJECT, .members = sector_members};
MEMBERS scrub_members[] = {{"compared-bytes", &qmp_int},
                           {"skipped-bytes", &qmp_int, .help = "holes of both sides"},
                           {"mismatches", &qmp_int, .help = "found by this scrub, and meanwhile"},
                           {0}};
static const struct qmp_type scrubbed = {"ScrubResult", QMP_OBJECT, .members = scrub_members};

/* ---- the table ---- */

#define C(n, f, a, r, ...)                                                                                   \
    {                                                                                                        \
        .name = n, .run = f, .args = a, .returns = r, __VA_ARGS__                                            \
    }

const struct qmp_command qmp_commands[] = {
    C("qmp_capabilities", qmp_capabilities, capabilities_args, &qmp_empty,
      .help = "ends the negotiation; every client's first command"),
    C("query-version", qmp_query_version, NULL, &version, .help = "who is speaking"),
    C("query-commands", qmp_query_commands, NULL, &command_info, .returns_array = true,
      .help = "the names of all commands"),
    C("query-qmp-schema", qmp_query_schema, NULL, &qmp_any, .returns_array = true,
      .help = "commands, events and types in QEMU's form (SchemaInfo)"),
    C("query-status", qmp_query_status, NULL, &status, .help = "running or paused"),
    C("quit", qmp_quit, NULL, &qmp_empty, .help = "ends the server as SIGTERM does"),
    C("stop", qmp_stop, NULL, &qmp_empty,
      .help = "holds up all requests of clients, and waits up to a second for those under way"),
    C("cont", qmp_cont, NULL, &qmp_empty, .flags = QMP_OOB, .help = "lets them go on"),
    C("human-monitor-command", qmp_human_command, human_args, &qmp_str,
      .help = "runs a command of blkproof io on a disk or node, and gives what it printed"),
    C("query-block", qmp_query_block, NULL, &block_info, .returns_array = true, .help = "the disks"),
    C("query-named-block-nodes", qmp_query_nodes, nodes_args, &node_info, .returns_array = true,
      .help = "all nodes"),
    C("blockdev-add", qmp_blockdev_add, NULL, &qmp_empty, .flags = QMP_TAKES_OPTIONS,
      .help = "opens a node; arguments: driver, node-name, and the driver's options"),
    C("blockdev-del", qmp_blockdev_del, del_args, &qmp_empty,
      .help = "closes a node that blockdev-add opened"),
    C("blockdev-reopen", qmp_blockdev_reopen, reopen_args, &qmp_empty,
      .help = "changes what can be changed of open nodes, and replaces children by other nodes"),
    C("block_resize", qmp_block_resize, resize_args, &qmp_empty,
      .help = "changes the size; NBD clients see it when they connect again"),
    C("nbd-server-start", qmp_nbd_start, nbd_start_args, &qmp_empty, .help = "listens for NBD clients"),
    C("nbd-server-stop", qmp_nbd_stop, NULL, &qmp_empty,
      .help = "no NBD server any more, nor its exports; requests under way are answered first"),
    C("block-export-add", qmp_export_add, export_add_args, &qmp_empty, .help = "exports a node"),
    C("block-export-del", qmp_export_del, export_del_args, &qmp_empty,
      .help = "takes an export away; BLOCK_EXPORT_DELETED tells when it is gone"),
    C("query-block-exports", qmp_query_exports, NULL, &export_info, .returns_array = true,
      .help = "the exports"),
    C("blkdebug-set-rules", qmp_blkdebug_set, blkdebug_set_args, &operation,
      .help = "gives rules in blkdebug's words to the fault node under a disk (the patch of 2014); "
              "the result is empty where the patch could have been asked: device, without mode and iotype, "
              "at most one "
              "rule of each type"),
    C("blkdebug-clear-rules", qmp_blkdebug_clear, target_args, &operation, .help = "removes all rules"),
    C("blkdebug-query-rules", qmp_blkdebug_query, target_args, &faults,
      .help = "the rules, as query-faults shows them"),
    C("fault-add", qmp_fault_add, fault_add_args, &operation, .help = "adds rules, all or none"),
    C("fault-preset-apply", qmp_preset_apply, preset_apply_args, &operation,
      .help = "adds the rules of a preset, all or none"),
    C("query-fault-presets", qmp_query_presets, NULL, &preset, .returns_array = true, .flags = QMP_OOB,
      .help = "the presets: disks that failed, as rules"),
    C("fault-remove", qmp_fault_remove, fault_remove_args, &operation, .flags = QMP_OOB,
      .help = "removes rules; what they held back completes"),
    C("fault-set", qmp_fault_set, fault_set_args, &operation, .help = "changes a rule"),
    C("fault-dry-run", qmp_fault_dry_run, dry_run_args, &operation,
      .help = "rules only count what they would do, or act"),
    C("fault-transaction", qmp_fault_transaction, transaction_args, &changed, .returns_array = true,
      .help = "many changes, of many disks, at one instant; one element for each action"),
    C("query-faults", qmp_query_faults, target_args, &faults, .returns_array = true, .flags = QMP_OOB,
      .help = "fault nodes (default: all), their rules and what they hold"),
    C("hang-release", qmp_hang_release, release_args, &released, .flags = QMP_OOB,
      .help = "lets go of requests that rules with the action hang hold (default: in all disks)"),
    C("state-set", qmp_state_set, state_args, &operation, .flags = QMP_OOB,
      .help = "sets the state that rules may depend on"),
    C("query-states", qmp_query_states, NULL, &state, .returns_array = true, .flags = QMP_OOB,
      .help = "the state of every fault node"),
    C("wait-for", qmp_wait_for, wait_args, &waited, .help = "waits until a rule has fired so many times"),
    C("power-cut", qmp_power_cut, power_cut_args, &power_cut,
      .help = "cuts the power of disks with a write cache, all at one instant, and reports what was lost"),
    C("power-on", qmp_power_on, power_on_args, &power_on, .help = "gives disks their power back"),
    C("query-power", qmp_query_power, query_power_args, &power, .returns_array = true,
      .help = "disks with a write cache: what it holds, and the report of the last power cut"),
    C("fault-group-set", qmp_fault_group_set, group_args, &qmp_empty,
      .help =
          "disks are copies of each other: faults and power cuts never damage too many at the same place"),
    C("query-fault-groups", qmp_query_fault_groups, NULL, &group, .returns_array = true, .flags = QMP_OOB,
      .help = "these groups"),
    C("verify-query", qmp_verify_query, target_args, &verify, .returns_array = true, .flags = QMP_OOB,
      .help = "what the blkverify nodes (default: all) have found"),
    C("verify-release", qmp_verify_release, target_args, &qmp_empty, .flags = QMP_OOB,
      .help = "lets go of what a blkverify node with on-mismatch=pause holds"),
    C("verify-sector", qmp_verify_sector, sector_args, &sector,
      .help = "what a verifier knows of one sector: which write should be there, and who did what is there"),
    C("scrub", qmp_scrub, target_args, &scrubbed,
      .help = "compares the whole of a blkverify disk with its reference, beside its clients"),
    {0},
};
