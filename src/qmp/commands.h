/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions behind the table in commands.c. */
#ifndef QMP_COMMANDS_H
#define QMP_COMMANDS_H

#include "qmp/internal.h"

#define QMP_RUN(f) co_fn json_t *f(struct qmp_call *call)

/* cmd_monitor.c */
QMP_RUN(qmp_capabilities);
QMP_RUN(qmp_query_version);
QMP_RUN(qmp_query_commands);
QMP_RUN(qmp_query_schema);
QMP_RUN(qmp_query_status);
QMP_RUN(qmp_quit);
QMP_RUN(qmp_stop);
QMP_RUN(qmp_cont);
QMP_RUN(qmp_human_command);
/* cmd_query.c */
QMP_RUN(qmp_query_block);
QMP_RUN(qmp_query_nodes);
/* cmd_node.c */
QMP_RUN(qmp_blockdev_add);
QMP_RUN(qmp_blockdev_del);
QMP_RUN(qmp_blockdev_reopen);
QMP_RUN(qmp_block_resize);
/* cmd_export.c */
QMP_RUN(qmp_nbd_start);
QMP_RUN(qmp_nbd_stop);
QMP_RUN(qmp_export_add);
QMP_RUN(qmp_export_del);
QMP_RUN(qmp_query_exports);
/* cmd_blkdebug.c */
QMP_RUN(qmp_blkdebug_set);
QMP_RUN(qmp_blkdebug_clear);
QMP_RUN(qmp_blkdebug_query);
/* cmd_fault.c */
QMP_RUN(qmp_fault_add);
QMP_RUN(qmp_preset_apply);
QMP_RUN(qmp_query_presets);
QMP_RUN(qmp_fault_remove);
QMP_RUN(qmp_fault_set);
QMP_RUN(qmp_fault_dry_run);
QMP_RUN(qmp_fault_transaction);
QMP_RUN(qmp_query_faults);
QMP_RUN(qmp_hang_release);
QMP_RUN(qmp_state_set);
QMP_RUN(qmp_query_states);
QMP_RUN(qmp_wait_for);
/* cmd_power.c */
QMP_RUN(qmp_power_cut);
QMP_RUN(qmp_power_on);
QMP_RUN(qmp_query_power);
QMP_RUN(qmp_fault_group_set);
QMP_RUN(qmp_query_fault_groups);
/* cmd_verify.c */
QMP_RUN(qmp_verify_query);
QMP_RUN(qmp_verify_release);
QMP_RUN(qmp_verify_sector);
QMP_RUN(qmp_scrub);

#endif
