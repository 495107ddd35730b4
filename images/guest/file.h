/*
 * file - the requests about files: one-shot ones here, those that go on in files of their own.
 *
 * Every function gets the request's payload and answers on its channel; each path goes through
 * place.h.  Threads: one.
 */
#pragma once

#include <stdint.h>

#include "kernel/computer/wire.h"

struct inside;

void file_stat(struct inside *in, uint32_t channel, struct wire_in *args);
void file_make(struct inside *in, uint32_t channel, struct wire_in *args);
void file_move(struct inside *in, uint32_t channel, struct wire_in *args);
void file_remove(struct inside *in, uint32_t channel, struct wire_in *args); /* file_remove.c */
void file_read(struct inside *in, uint32_t channel, struct wire_in *args);   /* file_read.c */
void file_write(struct inside *in, uint32_t channel, struct wire_in *args);  /* file_write.c */
void file_list(struct inside *in, uint32_t channel, struct wire_in *args);   /* file_list.c */
