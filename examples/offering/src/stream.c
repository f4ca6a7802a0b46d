/* Renders one row at a time into a buffer that is used again for the next. See stream.h. */
#include "stream.h"

#include "log.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct offering_stream {
    struct offering_cursor *cursor;
    const atomic_bool *stopping;
    char *pending; /* rendered, not yet given away */
    size_t pending_size;
    size_t pending_length;
    size_t pending_start;
    bool first;
    bool ended;
};

static json_t *row_to_json(const struct offering_row *row)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "offering_id", json_integer(row->id));
    for (int i = 0; i < OFFERING_TEXTS; i++) {
        const struct offering_text *text = &row->texts[i];
        json_t *value = text->bytes == NULL ? json_null() : json_stringn(text->bytes, text->length);
        failed |= json_object_set_new(object, offering_text_names[i], value);
    }
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* Puts `before` and the row's JSON into the pending buffer. */
static bool render(struct offering_stream *stream, char before, const struct offering_row *row,
                   struct database_error *error)
{
    json_t *object = row_to_json(row);
    if (object == NULL) {
        error->reason = "a row cannot be written as JSON";
        snprintf(error->text, sizeof error->text, "row %lld cannot be written as JSON (no valid UTF-8?)", row->id);
        return false;
    }
    size_t need = 1 + json_dumpb(object, stream->pending + 1, stream->pending_size - 1, JSON_COMPACT);
    if (need > stream->pending_size) {
        char *grown = realloc(stream->pending, need);
        if (grown != NULL) {
            stream->pending = grown;
            stream->pending_size = need;
            json_dumpb(object, stream->pending + 1, need - 1, JSON_COMPACT);
        }
    }
    json_decref(object);
    if (need == 1 || need > stream->pending_size) {
        error->reason = "out of memory";
        snprintf(error->text, sizeof error->text, "out of memory at row %lld", row->id);
        return false;
    }
    stream->pending[0] = before;
    stream->pending_start = 0;
    stream->pending_length = need;
    return true;
}

static bool advance(struct offering_stream *stream, struct database_error *error)
{
    struct offering_row row;
    switch (offering_next(stream->cursor, &row, error)) {
    case OFFERING_ROW:
        if (!render(stream, stream->first ? '[' : ',', &row, error))
            return false;
        stream->first = false;
        return true;
    case OFFERING_END:
        stream->ended = true;
        stream->pending_start = 0;
        stream->pending_length = stream->first ? 3 : 2;
        memcpy(stream->pending, stream->first ? "[]\n" : "]\n", stream->pending_length);
        return true;
    default:
        return false;
    }
}

struct offering_stream *stream_open(struct offering_cursor *cursor, const atomic_bool *stopping,
                                    struct database_error *error)
{
    enum { FIRST_SIZE = 4096 };
    struct offering_stream *stream = calloc(1, sizeof *stream);
    char *pending = malloc(FIRST_SIZE);
    if (stream == NULL || pending == NULL) {
        error->reason = "out of memory";
        snprintf(error->text, sizeof error->text, "out of memory");
        free(stream);
        free(pending);
        offering_close(cursor);
        return NULL;
    }
    *stream = (struct offering_stream){
        .cursor = cursor, .stopping = stopping, .pending = pending, .pending_size = FIRST_SIZE, .first = true};
    if (!advance(stream, error)) {
        stream_close(stream);
        return NULL;
    }
    return stream;
}

ssize_t stream_read(struct offering_stream *stream, char *bytes, size_t size)
{
    size_t given = 0;
    while (given < size) {
        if (stream->pending_start == stream->pending_length) {
            struct database_error error;
            if (stream->ended)
                break;
            if (atomic_load(stream->stopping)) {
                log_line("a response was broken off: the service is stopping");
                return STREAM_BROKEN;
            }
            if (!advance(stream, &error)) {
                log_line("a response was broken off: %s", error.text);
                return STREAM_BROKEN;
            }
        }
        size_t piece = stream->pending_length - stream->pending_start;
        if (piece > size - given)
            piece = size - given;
        memcpy(bytes + given, stream->pending + stream->pending_start, piece);
        stream->pending_start += piece;
        given += piece;
    }
    return given > 0 ? (ssize_t)given : STREAM_END;
}

void stream_close(struct offering_stream *stream)
{
    offering_close(stream->cursor);
    free(stream->pending);
    free(stream);
}
