/* The module "http": libcurl, initialised once when the module is opened. */
#include "kernel/http_curl.h"

__attribute__((constructor)) static void init(void)
{
    /* Under the loader's lock, so before any thread can use the table.  After a failure each
     * curl_easy_init() fails, which http.c reports. */
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* libcurl's own prototype gained a const meanwhile. */
static CURLUcode url_get(CURLU *url, CURLUPart part, char **ret, unsigned flags)
{
    return curl_url_get(url, part, ret, flags);
}

extern const struct http_curl aios_http_curl;

__attribute__((visibility("default"))) const struct http_curl aios_http_curl = {
    .head = { .abi = PLUGIN_ABI, .size = sizeof(struct http_curl) },
    .easy_init = curl_easy_init,
    .easy_cleanup = curl_easy_cleanup,
    .easy_reset = curl_easy_reset,
    .easy_setopt = curl_easy_setopt,
    .easy_getinfo = curl_easy_getinfo,
    .easy_strerror = curl_easy_strerror,
    .multi_init = curl_multi_init,
    .multi_cleanup = curl_multi_cleanup,
    .multi_setopt = curl_multi_setopt,
    .multi_add_handle = curl_multi_add_handle,
    .multi_remove_handle = curl_multi_remove_handle,
    .multi_perform = curl_multi_perform,
    .multi_poll = curl_multi_poll,
    .multi_wakeup = curl_multi_wakeup,
    .multi_info_read = curl_multi_info_read,
    .multi_strerror = curl_multi_strerror,
    .slist_append = curl_slist_append,
    .slist_free_all = curl_slist_free_all,
    .url = curl_url,
    .url_cleanup = curl_url_cleanup,
    .url_get = url_get,
    .url_set = curl_url_set,
    .free = curl_free,
    .getdate = curl_getdate,
};
