/*
 * storage_postgres_libpq - the part of libpq that the PostgreSQL back end uses, as the table that
 * the module "postgres" exports.
 *
 * Only types of libpq's header reach the program; each call goes through the table, so that the
 * library is loaded with the module.
 */
#pragma once

#include <libpq-fe.h>

#include "kernel/plugin.h"

#define POSTGRES_LIBPQ_SYMBOL "aios_postgres_libpq"

struct postgres_libpq {
    struct plugin_head head;
    PGconn *(*connect_start)(const char *);
    PostgresPollingStatusType (*connect_poll)(PGconn *);
    PQconninfoOption *(*conninfo_parse)(const char *, char **);
    void (*conninfo_free)(PQconninfoOption *);
    void (*finish)(PGconn *);
    ConnStatusType (*status)(const PGconn *);
    char *(*error_message)(const PGconn *);
    char *(*host)(const PGconn *);
    char *(*port)(const PGconn *);
    int (*socket)(const PGconn *);
    int (*setnonblocking)(PGconn *, int);
    int (*send_query_params)(PGconn *, const char *, int, const Oid *, const char *const *,
                             const int *, const int *, int);
    int (*send_prepare)(PGconn *, const char *, const char *, int, const Oid *);
    int (*send_query_prepared)(PGconn *, const char *, int, const char *const *, const int *,
                               const int *, int);
    int (*enter_pipeline)(PGconn *);
    int (*pipeline_sync)(PGconn *);
    int (*flush)(PGconn *);
    int (*consume_input)(PGconn *);
    int (*is_busy)(PGconn *);
    PGresult *(*get_result)(PGconn *);
    void (*clear)(PGresult *);
    ExecStatusType (*result_status)(const PGresult *);
    char *(*result_error_field)(const PGresult *, int);
    int (*ntuples)(const PGresult *);
    char *(*getvalue)(const PGresult *, int, int);
    int (*getlength)(const PGresult *, int, int);
    int (*getisnull)(const PGresult *, int, int);
    void (*freemem)(void *);
    PQnoticeReceiver (*set_notice_receiver)(PGconn *, PQnoticeReceiver, void *);
};
