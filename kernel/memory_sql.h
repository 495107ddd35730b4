/*
 * memory_sql - the tables of the notes and every statement on them.  Internal to memory_db.
 */
#pragma once

#include "kernel/memory_db.h"

extern const char memory_sql_schema[];
extern const char *const memory_sql[MEMORY_STMT_COUNT];
