/* Turns a cursor into the bytes of a JSON array, piece by piece. */
#ifndef OFFERING_STREAM_H
#define OFFERING_STREAM_H

#include "database.h"

#include <stdatomic.h>
#include <sys/types.h>

struct offering_stream;

/* Owns the cursor from here on, whatever it returns. The first row is fetched at once, so that an error that comes
 * before the first byte can still be told with a status; NULL then. `stopping` ends the stream when it becomes true. */
struct offering_stream *stream_open(struct offering_cursor *cursor, const atomic_bool *stopping,
                                    struct database_error *error);

enum { STREAM_END = 0, STREAM_BROKEN = -1 };

/* Fills `bytes` with up to `size` bytes; their number, or STREAM_END, or STREAM_BROKEN (logged here). */
ssize_t stream_read(struct offering_stream *stream, char *bytes, size_t size);

void stream_close(struct offering_stream *stream);

#endif
