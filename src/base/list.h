/* SPDX-License-Identifier: BSD-2-Clause */
/* Intrusive doubly linked list. A head and an unlinked entry point at themselves. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/util.h"

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *e)
{
    e->prev = head->prev;
    e->next = head;
    head->prev->next = e;
    head->prev = e;
}

static inline void list_add_head(struct list *head, struct list *e)
{
    list_add_tail(head->next, e);
}

/* Unlink; harmless on an entry that is not linked. */
static inline void list_del(struct list *e)
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
    list_init(e);
}

#define list_entry(ptr, type, member)  container_of(ptr, type, member)
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))
#define list_for_each(pos, head, member)                                                                     \
    for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head);                   \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))
/* The loop body may unlink or free @pos. */
#define list_for_each_safe(pos, tmp, head, member)                                                           \
    for (pos = list_entry((head)->next, __typeof__(*pos), member),                                           \
        tmp = list_entry(pos->member.next, __typeof__(*pos), member);                                        \
         &pos->member != (head); pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*pos), member))

#endif
