/* The handlers of all paths. See routes.h. */
#include "routes.h"

#include "architecture.h"
#include "log.h"
#include "stream.h"

#include <jansson.h>
#include <ulfius.h>

#include <sys/utsname.h>

enum { STREAM_BLOCK = 32 * 1024 };

/* Takes the body over. */
static int answer(struct _u_response *response, unsigned int status, json_t *body)
{
    ulfius_set_json_body_response(response, status, body);
    json_decref(body);
    return U_CALLBACK_COMPLETE;
}

static int unavailable(struct _u_response *response, const char *what, const struct database_error *error)
{
    log_line("%s: %s", what, error->text);
    ulfius_add_header_to_response(response, "Retry-After", "5");
    return answer(response, 503, json_pack("{s:s, s:s}", "error", "unavailable", "reason", error->reason));
}

static ssize_t send_piece(void *data, uint64_t offset, char *bytes, size_t size)
{
    (void)offset;
    ssize_t length = stream_read(data, bytes, size);
    if (length == STREAM_END)
        return U_STREAM_END;
    return length == STREAM_BROKEN ? U_STREAM_ERROR : length;
}

/* The HTTP library calls this in every case: at the end, on an error, and when the client has gone away. */
static void end_stream(void *data)
{
    stream_close(data);
}

static int get_offering(const struct _u_request *request, struct _u_response *response, void *data)
{
    (void)request;
    struct service *service = data;
    struct database_error error;
    struct offering_cursor *cursor = offering_open(&service->database, &error);
    struct offering_stream *stream = NULL;
    if (cursor != NULL)
        stream = stream_open(cursor, &service->stopping, &error);
    if (stream == NULL)
        return unavailable(response, "GET /offering", &error);

    ulfius_add_header_to_response(response, "Content-Type", "application/json");
    if (ulfius_set_stream_response(response, 200, send_piece, end_stream, U_STREAM_SIZE_UNKNOWN, STREAM_BLOCK,
                                   stream) != U_OK) {
        stream_close(stream);
        return U_CALLBACK_ERROR;
    }
    return U_CALLBACK_COMPLETE;
}

static int get_healthz(const struct _u_request *request, struct _u_response *response, void *data)
{
    (void)request;
    (void)data;
    return answer(response, 200, json_pack("{s:s}", "status", "ok"));
}

static int get_readyz(const struct _u_request *request, struct _u_response *response, void *data)
{
    (void)request;
    struct service *service = data;
    struct database_error error;
    if (!database_answers(&service->database, &error))
        return unavailable(response, "GET /readyz", &error);
    return answer(response, 200, json_pack("{s:s}", "status", "ok"));
}

static int get_version(const struct _u_request *request, struct _u_response *response, void *data)
{
    (void)request;
    (void)data;
    struct utsname machine;
    const char *architecture = uname(&machine) == 0 ? machine.machine : "unknown";
    return answer(response, 200, json_pack("{s:s, s:s, s:s, s:s}", "service", "offering", "version", OFFERING_VERSION,
                                           "architecture", architecture, "platform", OFFERING_PLATFORM));
}

static int other_method(const struct _u_request *request, struct _u_response *response, void *data)
{
    (void)request;
    (void)data;
    ulfius_add_header_to_response(response, "Allow", "GET");
    return answer(response, 405, json_pack("{s:s}", "error", "method not allowed"));
}

static int unknown_path(const struct _u_request *request, struct _u_response *response, void *data)
{
    (void)request;
    (void)data;
    return answer(response, 404, json_pack("{s:s}", "error", "not found"));
}

bool routes_add(struct _u_instance *instance, struct service *service)
{
    static const struct {
        const char *path;
        int (*handler)(const struct _u_request *, struct _u_response *, void *);
    } routes[] = {
        {"/offering", get_offering}, {"/healthz", get_healthz}, {"/readyz", get_readyz}, {"/version", get_version}};

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        /* Lower numbers come first; a handler that completes keeps the later ones from being called. */
        if (ulfius_add_endpoint_by_val(instance, "GET", routes[i].path, NULL, 0, routes[i].handler, service) != U_OK ||
            ulfius_add_endpoint_by_val(instance, "*", routes[i].path, NULL, 1, other_method, service) != U_OK)
            return false;
    }
    return ulfius_set_default_endpoint(instance, unknown_path, service) == U_OK;
}
