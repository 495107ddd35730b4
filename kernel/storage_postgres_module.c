/* The module "postgres": libpq. */
#include "kernel/storage_postgres_libpq.h"

extern const struct postgres_libpq aios_postgres_libpq;

__attribute__((visibility("default"))) const struct postgres_libpq aios_postgres_libpq = {
    .head = { .abi = PLUGIN_ABI, .size = sizeof(struct postgres_libpq) },
    .connect_start = PQconnectStart,
    .connect_poll = PQconnectPoll,
    .conninfo_parse = PQconninfoParse,
    .conninfo_free = PQconninfoFree,
    .finish = PQfinish,
    .status = PQstatus,
    .error_message = PQerrorMessage,
    .host = PQhost,
    .port = PQport,
    .socket = PQsocket,
    .setnonblocking = PQsetnonblocking,
    .send_query_params = PQsendQueryParams,
    .send_prepare = PQsendPrepare,
    .send_query_prepared = PQsendQueryPrepared,
    .enter_pipeline = PQenterPipelineMode,
    .pipeline_sync = PQpipelineSync,
    .flush = PQflush,
    .consume_input = PQconsumeInput,
    .is_busy = PQisBusy,
    .get_result = PQgetResult,
    .clear = PQclear,
    .result_status = PQresultStatus,
    .result_error_field = PQresultErrorField,
    .ntuples = PQntuples,
    .getvalue = PQgetvalue,
    .getlength = PQgetlength,
    .getisnull = PQgetisnull,
    .freemem = PQfreemem,
    .set_notice_receiver = PQsetNoticeReceiver,
};
