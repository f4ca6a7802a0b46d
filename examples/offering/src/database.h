/* The only file that speaks SQL: connections (few, each closed in every path), a probe, and the rows one by one. */
#ifndef OFFERING_DATABASE_H
#define OFFERING_DATABASE_H

#include "settings.h"

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>

enum { OFFERING_TEXTS = 3 };

/* The names of the text columns, in the order of `offering_row.texts`. */
extern const char *const offering_text_names[OFFERING_TEXTS];

struct offering_text {
    const char *bytes; /* UTF-8, no zero at the end; NULL is SQL's NULL. Valid until the next row. */
    size_t length;
};

struct offering_row {
    long long id;
    struct offering_text texts[OFFERING_TEXTS];
};

struct database_error {
    const char *reason; /* for clients: names no user, host or secret */
    char text[512];     /* for the log */
};

struct database {
    const struct settings *settings;
    sem_t row_slots;   /* connections that may read rows at one time */
    sem_t probe_slots; /* apart, so that busy readers do not make the service look unready */
};

enum offering_step { OFFERING_ROW, OFFERING_END, OFFERING_FAILED };

struct offering_cursor;

bool database_init(struct database *database, const struct settings *settings);
void database_free(struct database *database);

/* Does the database answer? Takes seconds at most. */
bool database_answers(struct database *database, struct database_error *error);

/* Runs the query; NULL when it fails. The cursor owns its connection. */
struct offering_cursor *offering_open(struct database *database, struct database_error *error);

/* Fetches one row from the network; only that row is in memory. */
enum offering_step offering_next(struct offering_cursor *cursor, struct offering_row *row, struct database_error *error);

/* Ends the query, read to its end or not, and gives the connection's slot back. */
void offering_close(struct offering_cursor *cursor);

#endif
