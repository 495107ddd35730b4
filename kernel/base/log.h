/*
 * log - one line per event on standard error, key=value, text from outside escaped.
 *
 * Threads: any.  Blocking: one write(2) per line.
 */
#pragma once

#include <stdbool.h>

#include "kernel/base/attr.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/** Lines above @level are dropped.  The level at start is LOG_WARN. */
void log_set_level(enum log_level level);
enum log_level log_level_get(void);

/** Parses "error", "warn", "info", "debug". */
NODISCARD bool log_level_parse(const char *name, enum log_level *ret_level);

/** @event is a fixed word such as "computer_lost"; @fmt gives "key=value key=value".  Text that
 *  comes from outside goes through %s inside LOG_ESC() or is known to be clean. */
void log_line(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);

/** Writes @text quoted and escaped (JSON string rules) into @buf and returns @buf. */
const char *log_escape(char *buf, unsigned long size, const char *text);

#define LOG_ESC(text) log_escape((char[256]){ 0 }, 256, (text))
